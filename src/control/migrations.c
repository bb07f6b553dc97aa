/* migrations.c - see migrations.h. */
#include "control/migrations.h"

#include "base/log.h"
#include "control/leases.h"
#include "control/network_interface.h"
#include "control/network_places.h"
#include "control/wants.h"
#include "core/instance_events.h"
#include "core/migration_cold.h"

#define DOOR_PORT_MIN 1024
#define PREPARE_NS (900 * NS_PER_S) /* To fetch an image and start an emulator. */

/* One look: the row as it is and will be, and what it speaks of. */
struct look {
    const struct pass *pass;
    const struct row_migration *old;
    struct row_migration next;
    const struct row_instance *instance; /* NULL when its row is gone. */
    /* Revoked, so that it will never speak again; or its lease is, and the guest's with it. */
    bool from_lost, to_lost;
};

#define GET(look, type, out, err, ...) \
    row_get((look)->pass->txn, &row_##type##_type, &(struct row_##type){__VA_ARGS__}, \
            (const void **)(out), err)

static bool
is_lost(const struct look *l, const char *node_id, bool *out, struct err *err)
{
    const struct row_node *node;
    if (!GET(l, node, &node, err, .id = node_id)) {
        return false;
    }
    const struct row_node_lease *lease = NULL;
    if (l->instance && l->instance->leased && !l->old->cold &&
        !GET(l, node_lease, &lease, err, .id = node_id)) {
        return false;
    }
    *out = !node || !str_eq(node->state, "active") || (lease && lease->lost);
    return true;
}

static bool
load(struct look *l, const struct row_migration *row, struct err *err)
{
    l->old = row;
    l->next = *row;
    return GET(l, instance, &l->instance, err, .account = row->account,
               .id = row->instance_id) &&
           is_lost(l, row->from_node, &l->from_lost, err) &&
           is_lost(l, row->to_node, &l->to_lost, err);
}

static bool
gives(const struct look *l, const char *state)
{
    return str_eq(l->old->give_state, state);
}

static bool
takes(const struct look *l, const char *state)
{
    return str_eq(l->old->take_state, state);
}

/* The guest has; its memory may be there still, unless "gone". */
static bool
has_left(const struct look *l)
{
    return gives(l, "left") || gives(l, "gone");
}

static bool
wants_running(const struct look *l)
{
    return l->instance && str_eq(l->instance->want_state, "running") &&
           str_empty(l->instance->held_by);
}

static bool
is_ended(const struct look *l)
{
    return !l->instance || l->instance->terminated_at;
}

/* ---- wants of the two sides -------------------------------------------------------------- */

static void
copied_disks(const struct look *l, struct link_migration *record)
{
    const struct row_migration *m = &l->next;
    const char **ids =
        ARENA_ARRAY(txn_arena(l->pass->txn), m->disk_ids.count, const char *);
    for (size_t i = 0; i < m->disk_ids.count; i++) {
        bool shared = false;
        for (size_t k = 0; k < m->shared_ids.count; k++) {
            shared = shared || str_eq(m->shared_ids.items[k], m->disk_ids.items[i]);
        }
        if (!shared) {
            ids[record->copy_disks.count++] = m->disk_ids.items[i];
        }
    }
    record->copy_disks.items = ids;
}

static bool
want_sides(const struct look *l, struct err *err)
{
    const struct row_migration *m = &l->next;
    struct link_migration record = {
        .id = m->id,
        .machine_id = m->instance_id,
        .generation = m->generation,
        .bandwidth_bps = m->bandwidth_bps,
        .downtime_ms = m->downtime_limit_ms,
        .post_copy = m->post_copy,
        .cold = m->cold,
        .incoming = true,
        .peer_node_id = m->from_node,
        .order = has_left(l) || (l->from_lost && str_eq(m->state, "switching"))
                     ? "run"
                     : "receive",
    };
    copied_disks(l, &record);
    if (!want_put(l->pass->txn, m->to_node, LINK_MIGRATION, m->id, m->account, &record,
                  err)) {
        return false;
    }
    record.incoming = false;
    record.peer_node_id = m->to_node;
    record.peer_address = m->address;
    record.peer_port = m->port;
    record.order = m->order;
    return want_put(l->pass->txn, m->from_node, LINK_MIGRATION, m->id, m->account,
                    &record, err);
}

/* ---- taking one side down ------------------------------------------------------------------ */

struct thing {
    enum link_kind kind;
    const char *id;
};

static bool
take_down(const struct look *l, const char *node_id, struct thing thing, bool *gone,
          struct err *err)
{
    const struct row_node_want *want;
    if (!want_take_down(l->pass->txn, node_id, thing.kind, thing.id, err) ||
        !want_get(l->pass->txn, node_id, thing.kind, thing.id, &want, err)) {
        return false;
    }
    *gone = *gone && !want;
    return true;
}

static bool
take_down_card(const struct look *l, const char *node_id, const char *eni, bool *gone,
               struct err *err)
{
    return take_down(l, node_id, (struct thing){LINK_METADATA, eni}, gone, err) &&
           take_down(l, node_id, (struct thing){LINK_PORT, eni}, gone, err);
}

/* What the instance was given since the migration began: cards, another root volume. */
static bool
clear_later(const struct look *l, const char *node_id, bool *gone, struct err *err)
{
    const struct row_node_want prefix = {.node_id = node_id,
                                         .scope = l->old->instance_id};
    const struct row_query query = {
        .index = "by_scope", .prefix = &prefix, .prefix_fields = 2};
    struct row_list ports;
    if (l->instance && !str_empty(l->instance->root_volume_id) &&
        !take_down(l, node_id, (struct thing){LINK_DISK, l->instance->root_volume_id},
                   gone, err)) {
        return false;
    }
    if (!row_list(l->pass->txn, &row_node_want_type, &query, &ports, err)) {
        return false;
    }
    for (size_t i = 0; i < ports.count; i++) {
        const struct row_node_want *port = ports.rows[i];
        if (!take_down_card(l, node_id, port->id, gone, err)) {
            return false;
        }
    }
    return true;
}

/* All of the instance on a node; '*gone' once the node has reported all of it absent. */
static bool
clear_node(const struct look *l, const char *node_id, bool *gone, struct err *err)
{
    const struct row_migration *m = l->old;
    *gone = true;
    if (!take_down(l, node_id, (struct thing){LINK_MACHINE, m->instance_id}, gone,
                   err)) {
        return false;
    }
    for (size_t i = 0; i < m->disk_ids.count; i++) {
        if (!take_down(l, node_id, (struct thing){LINK_DISK, m->disk_ids.items[i]},
                       gone, err)) {
            return false;
        }
    }
    for (size_t i = 0; i < m->eni_ids.count; i++) {
        if (!take_down_card(l, node_id, m->eni_ids.items[i], gone, err)) {
            return false;
        }
    }
    return clear_later(l, node_id, gone, err);
}

/* Both sides' own records. */
static bool
clear_sides(const struct look *l, bool *gone, struct err *err)
{
    const struct row_migration *m = l->old;
    struct thing side = {LINK_MIGRATION, m->id};
    bool from = true, to = true;
    if (!take_down(l, m->from_node, side, &from, err) ||
        !take_down(l, m->to_node, side, &to, err)) {
        return false;
    }
    *gone = *gone && (from || l->from_lost) && (to || l->to_lost);
    return true;
}

/* ---- its end --------------------------------------------------------------------------------- */

static bool
tell(const struct look *l, const char *level, const char *text, struct err *err)
{
    const struct row_migration *m = &l->next;
    struct arena *arena = txn_arena(l->pass->txn);
    struct row_node_event row = {
        .node_id = m->to_node,
        .id = arena_printf(arena, "%016" PRIx64 "%04" PRIx64, (uint64_t)l->pass->now_ns,
                           rng_below(l->pass->rng, 65536)),
        .at = l->pass->now_ns,
        .kind = "migration",
        .object = m->instance_id,
        .message = arena_printf(arena, "%s: %s", m->id, text),
        .level = level,
    };
    log_info("migration %s: %s", m->id, text);
    return row_put(l->pass->txn, &row_node_event_type, &row, err);
}

/* Why it was begun, for people: ", since its host drains". */
static const char *
because(const struct row_migration *m)
{
    static const struct {
        const char *reason, *text;
    } texts[] = {
        {"drain", ", since its host drains"},
        {"pressure", ", since its host is short of memory, or of processors"},
        {"rebalance", ", to balance the zone"},
        {"start", ", to start there"},
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (str_eq(texts[i].reason, m->reason)) {
            return texts[i].text;
        }
    }
    return "";
}

/* What was to start elsewhere, and could not be brought there, is stopped again. */
static bool
stop_again(const struct look *l, const char *why, struct err *err)
{
    struct arena *arena = txn_arena(l->pass->txn);
    const struct row_instance *inst;
    const struct instance_want want = {
        .state = "stopped",
        .reason_code = "Server.InternalError",
        .reason_text = arena_printf(arena, "Server.InternalError: %s", why),
        .transition_reason = "Server.InternalError",
    };
    return GET(l, instance, &inst, err, .account = l->old->account,
               .id = l->old->instance_id) &&
           (!inst || !str_eq(inst->want_state, "running") || inst->claimed ||
            instance_want(l->pass->txn, inst, &want, l->pass->now_ns, NULL, err));
}

static bool
end(struct look *l, const char *state, const char *lost_node, struct err *err)
{
    struct row_migration *m = &l->next;
    const struct row_vpc *vpc = NULL;
    bool done = str_eq(state, "done");
    const char *text =
        done && m->cold
            ? arena_printf(txn_arena(l->pass->txn),
                           "moved from %s to %s in %" PRId64
                           " ms, while it did not run%s",
                           m->from_node, m->to_node, m->elapsed_ms, because(m))
        : done ? arena_printf(txn_arena(l->pass->txn),
                              "moved from %s to %s in %" PRId64
                              " ms; it stood still for %" PRId64 " ms%s",
                              m->from_node, m->to_node, m->elapsed_ms, m->downtime_ms,
                              because(m))
               : arena_printf(txn_arena(l->pass->txn), "not moved from %s to %s%s: %s",
                              m->from_node, m->to_node, because(m),
                              str_empty(m->message) ? "given up" : m->message);
    if (!tell(l, done ? "info" : "warn", text, err) ||
        !migration_end(l->pass->txn, m, state, l->pass->now_ns, err) ||
        (l->instance &&
         !GET(l, vpc, &vpc, err, .account = m->account, .id = l->instance->vpc_id))) {
        return false;
    }
    /* What was scheduled for the instance's old host has been done. */
    return (!done || instance_event_end(l->pass->txn, m->account, m->instance_id,
                                        INSTANCE_EVENT_MAINTENANCE, false,
                                        l->pass->now_ns, err)) &&
           (done || !m->starts || stop_again(l, text, err)) &&
           (!vpc || network_release(l->pass, lost_node, vpc, err)) &&
           instance_sides(l->pass, m->account, m->instance_id, err);
}

/* ---- states ------------------------------------------------------------------------------------ */

static bool
save(struct look *l, struct err *err)
{
    return desc_equal(row_migration_type.desc, l->old, &l->next) ||
           row_put(l->pass->txn, &row_migration_type, &l->next, err);
}

static bool
go_on(struct look *l, const char *state, const char *order, struct err *err)
{
    l->next.state = state;
    l->next.order = order;
    l->next.generation++;
    log_debug("migration %s: %s, the giver to %s", l->next.id, state, order);
    return save(l, err) && want_sides(l, err) &&
           instance_sides(l->pass, l->next.account, l->next.instance_id, err);
}

/* The owner has changed: every node of the VPC hears where its addresses are now. */
static bool
tell_all(const struct look *l, struct err *err)
{
    for (size_t i = 0; i < l->old->eni_ids.count; i++) {
        if (!interface_tell(l->pass, l->old->account, l->old->eni_ids.items[i], err)) {
            return false;
        }
    }
    return true;
}

static bool
undo(struct look *l, const char *why, const char *order, struct err *err)
{
    if (str_empty(l->next.message)) {
        l->next.message = why;
    }
    return go_on(l, "undoing", order, err);
}

/* What its owner has done to the instance since the migration began, that the emulator
 * which waits for it was not made for; NULL: nothing. */
static const char *
changed(const struct look *l)
{
    const struct row_migration *m = l->old;
    const struct row_instance *i = l->instance;
    bool cards = i->eni_ids.count == m->eni_ids.count;
    for (size_t n = 0; cards && n < m->eni_ids.count; n++) {
        cards = str_eq(i->eni_ids.items[n], m->eni_ids.items[n]);
    }
    return !str_empty(i->root_task_id)          ? "its root volume is replaced"
           : i->reboot_count != m->reboot_count ? "it is rebooted"
           : !cards ? "a network interface was attached or detached"
                    : NULL;
}

/* The same of one that is moved while it is stopped: what its owner does to it then does not
 * matter to a copy of its disks, unless that is to start it here, or to end it. */
static const char *
changed_cold(const struct look *l)
{
    const struct row_instance *i = l->instance;
    return is_ended(l) || str_eq(i->want_state, "terminated") ? "the instance ends"
           : str_eq(i->want_state, "running") != l->old->starts
               ? "the instance was started or stopped meanwhile"
               : NULL;
}

/* Why it must be given up before the switch; NULL: it need not. */
static const char *
trouble(const struct look *l)
{
    const struct row_migration *m = l->old;
    return m->cancelled                 ? "cancelled"
           : m->cold && changed_cold(l) ? changed_cold(l)
           : !m->cold && !wants_running(l)
               ? "the instance is not wanted running any more"
           : !m->cold && changed(l) ? changed(l)
           : l->from_lost           ? "the giver was lost"
           : l->to_lost             ? "the receiver was lost"
           : takes(l, "failed")     ? "the receiver failed"
           : gives(l, "kept")       ? "the giver kept it"
           : takes(l, "absent")     ? "the receiver knows nothing of it"
                                    : NULL;
}

static bool
preparing(struct look *l, struct err *err)
{
    const char *why = trouble(l);
    if (!why && l->pass->now_ns > l->old->created_at + PREPARE_NS) {
        why = "the receiver was not ready in time";
    }
    if (why) {
        return undo(l, why, "stay", err);
    }
    if (l->instance->leased && !lease_expect(l->pass, l->old->to_node, err)) {
        return false;
    }
    return takes(l, "listening") || takes(l, "here") ? go_on(l, "copying", "copy", err)
                                                     : want_sides(l, err);
}

/* All of it is at the receiver, and its machine has stayed off all the while. */
static bool
switch_cold(struct look *l, struct err *err)
{
    bool switched;
    if (!migration_cold_own(l->pass->txn, &l->next, &switched, err)) {
        return false;
    }
    if (!switched) {
        return undo(l, "the instance changed meanwhile", "stay", err);
    }
    l->next.switched_at = l->pass->now_ns;
    return go_on(l, "settling", "copy", err) && tell_all(l, err);
}

static bool
copying(struct look *l, struct err *err)
{
    const char *why = trouble(l);
    bool switched = false;
    if (why) {
        return undo(l, why, "stay", err);
    }
    if (l->old->cold) {
        return takes(l, "here") ? switch_cold(l, err) : want_sides(l, err);
    }
    if (!gives(l, "paused")) {
        return want_sides(l, err);
    }
    if (!migration_own(l->pass->txn, &l->next, l->next.to_node, &switched, err)) {
        return false;
    }
    if (!switched) {
        return undo(l, "the instance changed meanwhile", "stay", err);
    }
    l->next.switched_at = l->pass->now_ns;
    return go_on(l, "switching", "switch", err) && tell_all(l, err);
}

/* The giver is asked for its word on the machine: what was heard last is the receiver's, and a
 * node says nothing twice. */
static bool
ask_anew(const struct look *l, struct err *err)
{
    const struct row_instance *inst;
    if (!GET(l, instance, &inst, err, .account = l->old->account,
             .id = l->old->instance_id)) {
        return false;
    }
    if (!inst) {
        return true;
    }
    struct row_instance next = *inst;
    next.generation++;
    return row_put(l->pass->txn, &row_instance_type, &next, err);
}

/* The giver has it again: the owner is set back. */
static bool
take_back(struct look *l, const char *why, const char *order, struct err *err)
{
    bool done;
    return migration_own(l->pass->txn, &l->next, l->next.from_node, &done, err) &&
           ask_anew(l, err) && undo(l, why, order, err) && tell_all(l, err);
}

/* It runs there while memory is still at the giver: what is lost on either side now ends it,
 * and it starts anew where it is. Who still hears of memory may have all of it by now. */
static bool
is_torn(const struct look *l)
{
    bool waits = takes(l, "interrupted");
    return ((takes(l, "following") || waits) && (l->from_lost || l->to_lost)) ||
           (waits && gives(l, "gone"));
}

static bool
settle_torn(struct look *l, struct err *err)
{
    static const char text[] = "the rest of its memory is lost with where it was: it "
                               "starts anew from its disk";
    return (l->to_lost || tell(l, "warn", text, err)) &&
           go_on(l, "settling", l->next.order, err);
}

/* It runs on neither side, and the giver will not say that it kept it. Its disks were
 * whole at the receiver before the owner changed: it starts anew there. */
static bool
is_stranded(const struct look *l)
{
    return l->from_lost && (takes(l, "failed") || l->to_lost);
}

static bool
switching(struct look *l, struct err *err)
{
    if (is_torn(l)) {
        return settle_torn(l, err);
    }
    if (takes(l, "running") || is_stranded(l) || is_ended(l) ||
        str_eq(l->instance->want_state, "terminated")) {
        return go_on(l, "settling", l->next.order, err);
    }
    if (gives(l, "kept")) {
        return take_back(l, "the giver kept it", "stay", err);
    }
    if (takes(l, "failed") || l->to_lost) {
        if (has_left(l)) {
            return take_back(l, "it never ran at the receiver", "return", err);
        }
        return str_eq(l->old->order, "stay") ? want_sides(l, err)
                                             : go_on(l, "switching", "stay", err);
    }
    return want_sides(l, err);
}

static bool
settling(struct look *l, struct err *err)
{
    bool gone, sides = true;
    return save(l, err) && clear_node(l, l->old->from_node, &gone, err) &&
           clear_sides(l, &sides, err) &&
           (!(gone || l->from_lost) || !sides ||
            end(l, "done", l->old->from_node, err));
}

static bool
undoing(struct look *l, struct err *err)
{
    bool gone, sides = true;
    bool kept = l->old->cold || gives(l, "kept") || l->from_lost || is_ended(l);
    if (!save(l, err) || !clear_node(l, l->old->to_node, &gone, err)) {
        return false;
    }
    if (!kept) {
        return true;
    }
    return clear_sides(l, &sides, err) &&
           (!(gone || l->to_lost) || !sides || end(l, "failed", l->old->to_node, err));
}

bool
migration_pass(const struct pass *pass, const char *account UNUSED, const char *id,
               struct err *err)
{
    static const struct {
        const char *state;
        bool (*look)(struct look *l, struct err *err);
    } states[] = {{"preparing", preparing},
                  {"copying", copying},
                  {"switching", switching},
                  {"settling", settling},
                  {"undoing", undoing}};
    struct look l = {.pass = pass};
    const struct row_migration *row;
    if (!migration_get(pass->txn, id, &row, err)) {
        return false;
    }
    for (size_t i = 0; row && i < ARRAY_LEN(states); i++) {
        if (str_eq(states[i].state, row->state)) {
            return load(&l, row, err) && states[i].look(&l, err);
        }
    }
    return true;
}

/* ---- what nodes say --------------------------------------------------------------------------- */

/* That it kept the guest is its last word: what it says after that, until its record is gone,
 * is an agent's that was started anew, or late. */
static void
note_giver(struct row_migration *m, const struct link_migration_seen *seen)
{
    m->give_state = str_eq(m->give_state, "kept") ? "kept" : seen->state;
    m->disk_bytes = seen->disk_bytes;
    m->disk_done_bytes = seen->disk_done_bytes;
    m->memory_bytes = seen->memory_bytes;
    m->memory_left_bytes = seen->memory_left_bytes;
    m->memory_sent_bytes = seen->memory_sent_bytes;
    m->dirty_bps = seen->dirty_bps;
    m->copy_bps = seen->copy_bps;
    m->passes = seen->passes;
    m->downtime_ms = seen->downtime_ms;
    m->elapsed_ms = seen->elapsed_ms;
}

/* The giver is sent to the underlay address that the control plane knows the receiver by, and
 * to no port that a host's own services have: a node's word alone makes no other node
 * connect to anything. */
static bool
note_receiver(const struct pass *pass, struct row_migration *m,
              const struct link_migration_seen *seen, struct err *err)
{
    const struct row_node *node;
    const struct row_node key = {.id = m->to_node};
    m->take_state = seen->state;
    if (m->cold && str_eq(seen->state, "here")) {
        m->disk_bytes = m->disk_done_bytes = seen->disk_bytes;
        m->elapsed_ms = seen->elapsed_ms;
    }
    if (str_empty(seen->address)) {
        return true;
    }
    if (!row_get(pass->txn, &row_node_type, &key, (const void **)&node, err)) {
        return false;
    }
    if (node && str_eq(seen->address, node->underlay) && seen->port >= DOOR_PORT_MIN &&
        seen->port <= UINT16_MAX) {
        m->address = seen->address;
        m->port = seen->port;
    } else if (str_eq(m->state, "preparing")) {
        m->take_state = "failed";
        m->message =
            arena_printf(txn_arena(pass->txn),
                         "%s says that it listens at %.40s, port %" PRId64
                         ", which is not its underlay address, or no port for that",
                         m->to_node, seen->address, seen->port);
        log_warn("migration %s: %s", m->id, m->message);
    }
    return true;
}

bool
migration_report(const struct pass *pass, const struct row_node_want *want,
                 const struct link_migration_seen *seen, struct err *err)
{
    const struct row_migration *row;
    bool gone = want->deleted && str_eq(seen->state, "absent");
    if (!migration_get(pass->txn, want->id, &row, err) ||
        (gone &&
         !want_forget(pass->txn, want->node_id, LINK_MIGRATION, want->id, err))) {
        return false;
    }
    if (!row || !migration_is_open(row)) {
        return true;
    }
    struct row_migration next = *row;
    /* Of disks that are the receiver's own by now: the giver's word is of before, and the
     * receiver's no longer of what came. */
    bool late = row->cold && migration_has_switched(row);
    if (gone && str_eq(want->node_id, row->from_node) && seen->downtime_ms > 0) {
        next.downtime_ms = seen->downtime_ms; /* It may have heard only now. */
    } else if (!gone && !late && str_eq(want->node_id, row->from_node)) {
        note_giver(&next, seen);
    } else if (!gone && !late && str_eq(want->node_id, row->to_node)) {
        if (!note_receiver(pass, &next, seen, err)) {
            return false;
        }
    }
    if (!late && str_empty(next.message) && !str_empty(seen->message)) {
        next.message = seen->message;
    }
    return (desc_equal(row_migration_type.desc, row, &next) ||
            row_put(pass->txn, &row_migration_type, &next, err)) &&
           migration_pass(pass, row->account, row->id, err);
}

/* Looks at the open ones that 'node_id' (NULL: any) takes part in. */
static bool
look_at(const struct pass *pass, const char *const *states, size_t count,
        const char *node_id, struct err *err)
{
    for (size_t s = 0; s < count; s++) {
        const struct row_migration prefix = {.state = states[s]};
        const struct row_query query = {
            .index = "by_state", .prefix = &prefix, .prefix_fields = 1};
        struct row_list list;
        if (!row_list(pass->txn, &row_migration_type, &query, &list, err)) {
            return false;
        }
        for (size_t i = 0; i < list.count; i++) {
            const struct row_migration *m = list.rows[i];
            bool has = !node_id || str_eq(m->from_node, node_id) ||
                       str_eq(m->to_node, node_id);
            if (has && !migration_pass(pass, m->account, m->id, err)) {
                return false;
            }
        }
    }
    return true;
}

bool
migrations_of_node(const struct pass *pass, const char *node_id, struct err *err)
{
    static const char *const states[] = {"settling", "undoing"};
    return look_at(pass, states, ARRAY_LEN(states), node_id, err);
}

bool
migrations_look(const struct pass *pass, const char *account UNUSED,
                const char *id UNUSED, struct err *err)
{
    static const char *const states[] = {"preparing", "copying", "switching",
                                         "settling", "undoing"};
    return look_at(pass, states, ARRAY_LEN(states), NULL, err);
}
