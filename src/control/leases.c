/* leases.c - see leases.h. */
#include "control/leases.h"

#include "base/log.h"
#include "base/map.h"
#include "control/nat_loop.h"
#include "control/reports.h"
#include "core/instance_rows.h"

#define LOOKS_A_LEASE 20
#define LOOK_MIN_MS 100

/* ---- rows ------------------------------------------------------------------------ */

static bool
lease_get(const struct pass *pass, const char *node_id,
          const struct row_node_lease **out, struct err *err)
{
    const struct row_node_lease key = {.id = node_id};
    return row_get(pass->txn, &row_node_lease_type, &key, (const void **)out, err);
}

static bool
lease_put(const struct pass *pass, const char *node_id,
          const struct row_node_lease *old, struct err *err)
{
    const struct row_node_lease row = {
        .id = node_id,
        .serial = old ? old->serial + 1 : 1,
        .duration_ns = pass->config->lease_ns,
        .renewed_at = pass->now_ns,
    };
    return row_put(pass->txn, &row_node_lease_type, &row, err);
}

static bool
tell(const struct pass *pass, const char *node_id, const char *word,
     const char *message, struct err *err)
{
    const struct link_event event = {
        .kind = "lease", .object = node_id, .level = "error", .message = message};
    return event_hourly(pass, node_id, &event, word, err);
}

static bool
refuse(struct link_lease *out, const char *code, const char *message)
{
    out->code = code;
    out->message = message;
    return true;
}

bool
lease_grant(const struct pass *pass, const char *node_id,
            const struct link_lease_ask *ask, struct link_lease *out, struct err *err)
{
    const struct row_node key = {.id = node_id};
    const struct row_node *node;
    const struct row_node_lease *lease;
    *out = (struct link_lease){.serial = ask->serial};
    if (!row_get(pass->txn, &row_node_type, &key, (const void **)&node, err) ||
        !lease_get(pass, node_id, &lease, err)) {
        return false;
    }
    if (!node || !str_eq(node->state, "active")) {
        return refuse(out, "revoked", "this node was revoked") &&
               tell(pass, node_id, "lease-revoked",
                    "a revoked node asked for its lease, and was refused", err);
    }
    if (lease && lease->lost && !ask->empty) {
        return refuse(out, "lost",
                      "the lease was lost: what was leased may run elsewhere by now");
    }
    out->duration_ms = pass->config->lease_ns / NS_PER_MS;
    out->renew_ms = out->duration_ms / 4;
    return lease_put(pass, node_id, lease, err);
}

bool
lease_expect(const struct pass *pass, const char *node_id, struct err *err)
{
    const struct row_node_lease *lease;
    return lease_get(pass, node_id, &lease, err) &&
           ((lease && !lease->lost) || lease_put(pass, node_id, lease, err));
}

static bool
leased_on(const struct pass *pass, const char *node_id, size_t *out_count,
          struct err *err)
{
    struct row_list list;
    if (!instances_on(pass->txn, node_id, &list, err)) {
        return false;
    }
    *out_count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_instance *inst = list.rows[i];
        *out_count += inst->leased && !inst->terminated_at;
    }
    return true;
}

bool
lease_lose(const struct pass *pass, const char *node_id, int64_t serial,
           struct err *err)
{
    const struct row_node_lease *lease;
    size_t leased, nats;
    if (!lease_get(pass, node_id, &lease, err)) {
        return false;
    }
    if (!lease || lease->lost || lease->serial != serial) {
        return true;
    }
    if (!leased_on(pass, node_id, &leased, err) ||
        !nats_leased_on(pass, node_id, &nats, err)) {
        return false;
    }
    if (leased == 0 && nats == 0) {
        return row_delete(pass->txn, &row_node_lease_type, lease, err);
    }
    struct row_node_lease row = *lease;
    row.serial++;
    row.lost = true;
    row.lost_at = pass->now_ns;
    log_warn(
        "control: node %s: its lease is lost; %zu instances are to be started, and "
        "NAT gateways of %zu networks done, elsewhere",
        node_id, leased, nats);
    return row_put(pass->txn, &row_node_lease_type, &row, err) &&
           nats_lost(pass, node_id, err) &&
           tell(pass, node_id,
                arena_printf(txn_arena(pass->txn), "lease-lost-%" PRId64, row.serial),
                arena_printf(
                    txn_arena(pass->txn),
                    "the node did not renew its lease: %zu instances that asked "
                    "for recovery are started elsewhere, and NAT gateways of %zu "
                    "networks are done elsewhere",
                    leased, nats),
                err);
}

/* ---- watching -------------------------------------------------------------------- */

/* A lease as we saw it: since when, on our clock, it has had this number. */
struct sight {
    int64_t serial, since_ns;
    uint64_t round;
};

struct leases {
    struct leases_config config;
    uv_timer_t timer;
    struct map *sights; /* By node id. */
    uint64_t round;
};

struct loss {
    struct leases *leases;
    const struct nodes_config *config;
    struct arena *arena;
    char node_id[48];
    int64_t serial;
};

static bool
loss_txn(struct txn *txn, void *ctx, struct err *err)
{
    const struct loss *loss = ctx;
    const struct pass pass = {
        .txn = txn,
        .config = loss->config->cloud,
        .rng = loss->config->rng,
        .blobs = loss->config->blobs,
        .now_ns = clock_real(loss->config->clock),
    };
    return lease_lose(&pass, loss->node_id, loss->serial, err);
}

/* On the writer's thread. What went wrong is tried again at the next look. */
static void
loss_done(void *ctx, const struct err *err)
{
    struct loss *loss = ctx;
    if (err->code != ERR_NONE) {
        log_warn("control: lease of %s: %s", loss->node_id, err->msg);
    }
    arena_destroy(loss->arena);
}

static void
lose(struct leases *leases, const struct row_node_lease *row)
{
    struct arena *arena = arena_create();
    struct loss *loss = ARENA_NEW(arena, struct loss);
    *loss = (struct loss){
        .config = leases->config.config, .arena = arena, .serial = row->serial};
    snprintf(loss->node_id, sizeof loss->node_id, "%s", row->id);
    store_write_async(loss->config->store, arena, loss_txn, loss_done, loss);
}

static void
look_at(struct leases *leases, const struct row_node_lease *row, int64_t now)
{
    const struct cloud_config *cloud = leases->config.config->cloud;
    struct sight *sight = map_get(leases->sights, row->id);
    if (!sight) {
        sight = xcalloc(1, sizeof *sight);
        map_put(leases->sights, row->id, sight);
    }
    if (sight->serial != row->serial) {
        sight->serial = row->serial;
        sight->since_ns = now;
    }
    sight->round = leases->round;
    int64_t patience = row->duration_ns + cloud->lease_stop_ns + cloud->lease_margin_ns;
    if (!row->lost && now - sight->since_ns >= patience) {
        sight->since_ns = now; /* Should it fail, it is declared again later. */
        lose(leases, row);
    }
}

struct look {
    struct leases *leases;
    struct row_list rows;
};

/* Instances that are still where they were lost, for want of room until now, or that were
 * to stop there. */
static bool
wake_lost(struct txn *txn, struct leases *leases, const char *node_id, struct err *err)
{
    struct row_list list;
    if (!instances_on(txn, node_id, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_instance *inst = list.rows[i];
        bool waits = str_eq(inst->want_state, "running") ||
                     !str_eq(inst->observed_state, inst->want_state);
        if (inst->leased && waits) {
            leases->config.wake(leases->config.ctx, inst->account, inst->id);
        }
    }
    return true;
}

static bool
wake_home(void *ctx, const struct pass *pass UNUSED, const struct row_vpc_node *place,
          struct err *err UNUSED)
{
    struct leases *leases = ctx;
    leases->config.wake_place(leases->config.ctx, place->vpc_id, place->node_id);
    return true;
}

static bool
look_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct look *look = ctx;
    const struct row_query query = {0};
    if (!row_list(txn, &row_node_lease_type, &query, &look->rows, err)) {
        return false;
    }
    for (size_t i = 0; i < look->rows.count; i++) {
        const struct row_node_lease *row = look->rows.rows[i];
        const struct pass pass = {.txn = txn};
        if (row->lost &&
            (!wake_lost(txn, look->leases, row->id, err) ||
             !nat_each_home(&pass, row->id, wake_home, look->leases, err))) {
            return false;
        }
    }
    return true;
}

static void
forget_gone(struct leases *leases)
{
    const char *key;
    void *value;
    VEC(const char *) gone = {0};
    for (size_t it = 0; map_next(leases->sights, &it, &key, &value);) {
        if (((const struct sight *)value)->round != leases->round) {
            VEC_PUSH(&gone, key);
        }
    }
    for (size_t i = 0; i < gone.count; i++) {
        map_del(leases->sights, gone.items[i]);
    }
    VEC_FREE(&gone);
}

static void
on_timer(uv_timer_t *timer)
{
    struct leases *leases = timer->data;
    AUTO(arena) struct arena *arena = arena_create();
    struct look look = {.leases = leases};
    struct err err = {0};
    if (!store_read(leases->config.config->store, arena, look_txn, &look, &err)) {
        log_warn("control: leases: %s", err.msg);
        return;
    }
    int64_t now = clock_mono(leases->config.config->clock);
    leases->round++;
    for (size_t i = 0; i < look.rows.count; i++) {
        look_at(leases, look.rows.rows[i], now);
    }
    forget_gone(leases);
}

static void
free_sight(void *value)
{
    free(value);
}

struct leases *
leases_create(const struct leases_config *config)
{
    struct leases *leases = xcalloc(1, sizeof *leases);
    uint64_t every_ms =
        (uint64_t)(config->config->cloud->lease_ns / LOOKS_A_LEASE / NS_PER_MS);
    leases->config = *config;
    leases->sights = map_create(free_sight);
    (void)uv_timer_init(config->config->loop, &leases->timer);
    leases->timer.data = leases;
    every_ms = MAX(every_ms, LOOK_MIN_MS);
    (void)uv_timer_start(&leases->timer, on_timer, every_ms, every_ms);
    return leases;
}

static void
on_closed(uv_handle_t *handle)
{
    struct leases *leases = handle->data;
    map_destroy(leases->sights);
    free(leases);
}

void
leases_close(struct leases *leases)
{
    if (leases) {
        uv_close((uv_handle_t *)&leases->timer, on_closed);
    }
}
