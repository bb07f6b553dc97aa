/* machine_cards.c - network cards plugged into a running guest and pulled out of it. See
 * machine.h.
 *
 * A card sits in the slot of its port's device index, the same when the machine starts with
 * it and when it comes later, so that a guest finds it there again. What QEMU has is
 * known from the start, or asked for when the machine was adopted. A guest is asked to give a
 * card up; one that does not answer in time loses the card's other end, and with it its
 * port: the card itself stays in the guest, dead, until the guest lets go of it. */
#include "base/log.h"
#include "node/machine/machine_impl.h"

#define COMMAND_NS ((uint64_t)(10 * NS_PER_S))
#define ASK_AGAIN_NS (2 * NS_PER_S) /* A guest that boots misses the first. */
#define FORCE_NS (20 * NS_PER_S)
#define PLUG_AGAIN_NS (5 * NS_PER_S)
#define BUSY_AGAIN_NS (NS_PER_S / 2)

static struct machine_card *
card_of(const struct machine *m, const char *port_id)
{
    for (size_t i = 0; i < m->card_count; i++) {
        if (str_eq(m->cards[i].port_id, port_id)) {
            return (struct machine_card *)(uintptr_t)&m->cards[i];
        }
    }
    return NULL;
}

static struct machine_card *
card_add(struct machine *m, const char *port_id, unsigned slot)
{
    if (m->card_count == ARRAY_LEN(m->cards)) {
        return NULL;
    }
    struct machine_card *card = &m->cards[m->card_count++];
    *card = (struct machine_card){.slot = slot};
    (void)snprintf(card->port_id, sizeof card->port_id, "%s", port_id);
    return card;
}

static void
card_forget(struct machine *m, struct machine_card *card)
{
    *card = m->cards[--m->card_count];
    machine_changed(m);
}

static bool
is_wanted(const struct machine *m, const char *port_id)
{
    for (size_t i = 0; i < m->want->port_ids.count; i++) {
        if (str_eq(m->want->port_ids.items[i], port_id)) {
            return true;
        }
    }
    return false;
}

/* That of the device index, or another that is free; -1: there is none. */
static int
free_slot(const struct machine *m, int64_t device_index)
{
    uint32_t taken = 0;
    for (size_t i = 0; i < m->card_count; i++) {
        taken |= 1u << m->cards[i].slot;
    }
    if (device_index >= 0 && device_index < QEMU_NICS_MAX &&
        !(taken & 1u << device_index)) {
        return (int)device_index;
    }
    for (int slot = QEMU_NICS_MAX - 1; slot > 0; slot--) {
        if (!(taken & 1u << slot)) {
            return slot;
        }
    }
    return -1;
}

int
machine_cards_place(struct machine *m, const char *port_id, int64_t device_index)
{
    int slot = free_slot(m, device_index);
    return slot >= 0 && card_add(m, port_id, (unsigned)slot) ? slot : -1;
}

void
machine_cards_reset(struct machine *m)
{
    m->card_count = 0;
    m->cards_known = false;
    m->cards_asked = false;
}

bool
machine_cards_use(const struct machine *m, const char *port_id)
{
    const struct machine_card *card = card_of(m, port_id);
    return card && !card->cut_off;
}

/* ---- what QEMU has --------------------------------------------------------------------
 */

static void
on_listed(void *ctx, json_t *result, const struct err *err)
{
    struct machine *m = ctx;
    size_t i;
    json_t *item;
    m->cards_asked = false;
    if (err) {
        return; /* Asked again by the next pass. */
    }
    m->card_count = 0;
    json_array_foreach(result, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        char port_id[48];
        unsigned slot;
        if (name && qemu_card_parse(name, &slot, port_id)) {
            (void)card_add(m, port_id, slot);
        }
    }
    m->cards_known = true;
    machine_changed(m);
}

static void
ask_for_cards(struct machine *m)
{
    struct err err = {0};
    json_t *args = json_pack("{s:s}", "path", "/machine/peripheral");
    m->cards_asked =
        qmp_send(m->qmp, "qom-list", args, -1, COMMAND_NS, on_listed, m, &err);
    if (!m->cards_asked) {
        log_warn("machine %s: %s", m->id, err.msg);
    }
}

/* ---- in -------------------------------------------------------------------------------
 */

/* One card on its way into QEMU, or its other end out of it. */
struct errand {
    struct machine *machine;
    char port_id[48];
};

static struct errand *
errand_for(struct machine *m, const char *port_id)
{
    struct errand *e = xcalloc(1, sizeof *e);
    e->machine = m;
    (void)snprintf(e->port_id, sizeof e->port_id, "%s", port_id);
    return e;
}

static void
on_step(void *ctx, json_t *result UNUSED, const struct err *err)
{
    struct machine *m = ctx;
    if (err && err->code != ERR_GONE) {
        log_warn("machine %s: %s", m->id, err->msg);
    }
}

static void
remove_backend(struct machine *m, const struct machine_card *card, qmp_reply_fn *done,
               void *ctx)
{
    char device[QEMU_CARD_NAME], netdev[QEMU_CARD_NAME];
    struct err err = {0};
    qemu_card_name(card->slot, card->port_id, device, netdev);
    if (!qmp_send(m->qmp, "netdev_del", json_pack("{s:s}", "id", netdev), -1,
                  COMMAND_NS, done, ctx, &err)) {
        log_warn("machine %s: %s", m->id, err.msg);
        if (done != on_step) {
            free(ctx);
        }
    }
}

static void
on_plugged(void *ctx, json_t *result UNUSED, const struct err *err)
{
    struct errand *e = ctx;
    struct machine *m = e->machine;
    struct machine_card *card = card_of(m, e->port_id);
    if (!err && card) {
        log_info("machine %s: card of %s plugged in", m->id, e->port_id);
        card->coming = false;
        machine_changed(m); /* The next one. */
    } else if (err->code != ERR_GONE && card) {
        log_warn("machine %s: card of %s: %s", m->id, e->port_id, err->msg);
        remove_backend(m, card, on_step, m);
        card_forget(m, card);
        m->plug_again_ns = machine_now(m) + PLUG_AGAIN_NS;
    }
    free(e);
}

static json_t *
card_options(const struct qemu_nic *n)
{
    char device[QEMU_CARD_NAME], netdev[QEMU_CARD_NAME], bus[16];
    qemu_card_name(n->slot, n->id, device, netdev);
    (void)snprintf(bus, sizeof bus, "nicport%u", n->slot);
    json_t *args =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "driver", "virtio-net-pci", "id",
                  device, "netdev", netdev, "mac", n->mac, "romfile", "", "bus", bus);
    if (args && n->mtu > 0) {
        (void)json_object_set_new(args, "host_mtu", json_integer(n->mtu));
    }
    return args;
}

/* Three commands, in order; that one failed the last one tells. */
static bool
plug(struct machine *m, const struct qemu_nic *n, struct err *err)
{
    char device[QEMU_CARD_NAME], netdev[QEMU_CARD_NAME];
    qemu_card_name(n->slot, n->id, device, netdev);
    struct errand *e = errand_for(m, n->id);
    json_t *backend = json_pack("{s:s, s:s, s:s, s:b}", "type", "tap", "id", netdev,
                                "fd", netdev, "vhost", 0);
    if (qmp_send(m->qmp, "getfd", json_pack("{s:s}", "fdname", netdev), n->fd,
                 COMMAND_NS, on_step, m, err) &&
        qmp_send(m->qmp, "netdev_add", json_incref(backend), -1, COMMAND_NS, on_step, m,
                 err) &&
        qmp_send(m->qmp, "device_add", card_options(n), -1, COMMAND_NS, on_plugged, e,
                 err)) {
        json_decref(backend);
        return true;
    }
    json_decref(backend);
    free(e);
    return false;
}

static bool
plug_port(struct machine *m, const char *port_id, struct err *err)
{
    const struct machine_host *host = &m->set->config.host;
    AUTO(arena) struct arena *arena = arena_create();
    struct machine_port_tap tap;
    if (!host->port_open(host->ctx, port_id, arena, &tap, err)) {
        return false;
    }
    if (tap.pci) {
        return err_set(err, ERR_UNSUPPORTED,
                       "a device of the host's comes with the machine's next start");
    }
    AUTO(fd) int fd = tap.fd; /* QEMU gets a copy. */
    int slot = machine_cards_place(m, port_id, tap.device_index);
    struct qemu_nic nic = {.id = port_id,
                           .mac = tap.mac,
                           .fd = fd,
                           .mtu = tap.mtu,
                           .slot = (unsigned)slot};
    if (slot < 1) {
        return err_set(err, ERR_RANGE, "there is no free slot for a network card");
    }
    if (!qemu_nic_ok(&nic, err) || !plug(m, &nic, err)) {
        card_forget(m, card_of(m, port_id));
        return false;
    }
    card_of(m, port_id)->coming = true;
    return true;
}

/* ---- out ------------------------------------------------------------------------------
 */

static void
on_backend_gone(void *ctx, json_t *result UNUSED, const struct err *err)
{
    struct errand *e = ctx;
    struct machine *m = e->machine;
    struct machine_card *card = card_of(m, e->port_id);
    if (err && err->code == ERR_GONE) {
        free(e);
        return;
    }
    if (card && card->released) {
        log_info("machine %s: card of %s pulled out", m->id, e->port_id);
        card_forget(m, card);
    } else if (card) {
        log_warn("machine %s: the guest does not give up the card of %s: cut off",
                 m->id, e->port_id);
        card->cut_off = true;
        machine_changed(m);
    }
    free(e);
}

static void
card_released(struct machine *m, struct machine_card *card)
{
    card->released = true;
    if (card->cut_off) {
        card_forget(m, card);
        return;
    }
    remove_backend(m, card, on_backend_gone, errand_for(m, card->port_id));
}

void
machine_cards_event(struct machine *m, const char *device)
{
    unsigned slot;
    char port_id[48];
    struct machine_card *card =
        device && qemu_card_parse(device, &slot, port_id) ? card_of(m, port_id) : NULL;
    if (card && !card->released) {
        card_released(m, card);
    }
}

static void
on_asked(void *ctx, json_t *result UNUSED, const struct err *err)
{
    struct errand *e = ctx;
    struct machine *m = e->machine;
    struct machine_card *card = card_of(m, e->port_id);
    /* An earlier request may still wait for the guest: that is no failure. */
    if (err && err->code == ERR_NOT_FOUND && card && !card->released) {
        card_released(m, card); /* Its event came while nobody listened. */
    }
    free(e);
}

/* Asks the guest, again and again; then takes the other end away. */
static void
pull(struct machine *m, struct machine_card *card, int64_t now, int64_t *wake)
{
    char device[QEMU_CARD_NAME], netdev[QEMU_CARD_NAME];
    struct err err = {0};
    if (card->released) {
        return;
    }
    if (card->pull_began_ns == 0) {
        card->pull_began_ns = now;
    }
    if (now >= card->pull_began_ns + FORCE_NS && !card->forced) {
        card->forced = true;
        remove_backend(m, card, on_backend_gone, errand_for(m, card->port_id));
    }
    if (card->asked_ns == 0 || now >= card->asked_ns + ASK_AGAIN_NS) {
        struct errand *e = errand_for(m, card->port_id);
        card->asked_ns = now;
        qemu_card_name(card->slot, card->port_id, device, netdev);
        if (!qmp_send(m->qmp, "device_del", json_pack("{s:s}", "id", device), -1,
                      COMMAND_NS, on_asked, e, &err)) {
            log_warn("machine %s: %s", m->id, err.msg);
            free(e);
        }
    }
    *wake = MIN(*wake, now + ASK_AGAIN_NS);
}

/* ---- a pass ---------------------------------------------------------------------------
 */

/* A wanted port without a card, whose turn it is; NULL: none. */
static const char *
missing_port(const struct machine *m)
{
    const struct machine_host *host = &m->set->config.host;
    for (size_t i = 0; i < m->card_count; i++) {
        if (m->cards[i].coming) {
            return NULL; /* One at a time: its descriptor travels alone. */
        }
    }
    for (size_t i = 0; i < m->want->port_ids.count; i++) {
        const char *port_id = m->want->port_ids.items[i];
        if (!card_of(m, port_id) && host->port_ready(host->ctx, port_id)) {
            return port_id;
        }
    }
    return NULL;
}

static void
plug_missing(struct machine *m, int64_t now, int64_t *wake)
{
    const char *port_id = missing_port(m);
    struct err err = {0};
    if (port_id && now >= m->plug_again_ns && !plug_port(m, port_id, &err)) {
        bool busy = err.code == ERR_BUSY;
        m->plug_again_ns = now + (busy ? BUSY_AGAIN_NS : PLUG_AGAIN_NS);
        if (!busy) {
            log_warn("machine %s: card of %s: %s", m->id, port_id, err.msg);
        }
    }
    if (port_id && now < m->plug_again_ns) {
        *wake = MIN(*wake, m->plug_again_ns);
    }
}

void
machine_cards_pass(struct machine *m, int64_t now, int64_t *wake)
{
    if (m->process != PROCESS_UP || !m->qmp_up || !m->want || m->deleted ||
        qmp_is_deaf(m->qmp)) {
        return;
    }
    if (!m->cards_known) {
        if (!m->cards_asked) {
            ask_for_cards(m);
        }
        return;
    }
    for (size_t i = m->card_count; i-- > 0;) {
        struct machine_card *card = &m->cards[i];
        if (!is_wanted(m, card->port_id)) {
            pull(m, card, now, wake);
        }
    }
    plug_missing(m, now, wake);
}
