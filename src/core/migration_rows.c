/* migration_rows.c - see migration_rows.h. */
#include "core/migration_rows.h"

#include "core/baseline.h"
#include "core/id.h"
#include "core/instance_rows.h"
#include "core/lifecycle.h"
#include "core/migration_cold.h"
#include "core/uplink_rows.h"

size_t
migrations_at_once(const struct cloud_config *config)
{
    return config->drain_at_once > 0 ? (size_t)config->drain_at_once
                                     : MIGRATIONS_AT_ONCE;
}

bool
migration_is_open(const struct row_migration *m)
{
    return !str_eq(m->state, "done") && !str_eq(m->state, "failed");
}

bool
migration_has_switched(const struct row_migration *m)
{
    return str_eq(m->state, "switching") || str_eq(m->state, "settling") ||
           str_eq(m->state, "done");
}

bool
migration_uses(struct txn *txn, const char *vpc_id, const char *node_id, bool *out,
               struct err *err)
{
    static const char *const states[] = {"preparing", "copying", "switching",
                                         "settling", "undoing"};
    for (size_t s = 0; s < ARRAY_LEN(states); s++) {
        const struct row_migration prefix = {.state = states[s]};
        const struct row_query query = {
            .index = "by_state", .prefix = &prefix, .prefix_fields = 1};
        struct row_list list;
        if (!row_list(txn, &row_migration_type, &query, &list, err)) {
            return false;
        }
        for (size_t i = 0; i < list.count; i++) {
            const struct row_migration *m = list.rows[i];
            bool there = str_eq(m->from_node, node_id) || str_eq(m->to_node, node_id);
            *out = *out || (there && (!vpc_id || str_eq(m->vpc_id, vpc_id)));
        }
    }
    return true;
}

bool
migration_get(struct txn *txn, const char *id, const struct row_migration **out,
              struct err *err)
{
    const struct row_migration key = {.id = id};
    if (str_empty(id)) {
        *out = NULL;
        return true;
    }
    return row_get(txn, &row_migration_type, &key, (const void **)out, err);
}

static bool
hold(struct txn *txn, const struct row_migration *m, int64_t sign, struct err *err)
{
    const struct claim claim = {.vcpus = sign * m->held_vcpus,
                                .memory_bytes = sign * m->held_memory_bytes,
                                .disk_bytes = sign * m->held_disk_bytes,
                                .machines = m->held_vcpus > 0 ? sign : 0};
    return str_empty(m->held_node) || node_claim_add(txn, m->held_node, &claim, err);
}

static bool
machine_seen(struct txn *txn, const char *id, const struct row_machine_seen **out,
             struct err *err)
{
    const struct row_machine_seen key = {.id = id};
    return row_get(txn, &row_machine_seen_type, &key, (const void **)out, err);
}

bool
migration_may_begin(struct txn *txn, const struct row_instance *inst, struct err *err)
{
    const struct row_machine_seen *seen;
    if (!machine_seen(txn, inst->id, &seen, err)) {
        return false;
    }
    if (!str_empty(inst->migration_id)) {
        return err_set(err, ERR_RESOURCE_IN_USE, "%s is on its way already: %s",
                       inst->id, inst->migration_id);
    }
    if (str_eq(inst->want_state, "stopped")) {
        return migration_cold_may_begin(txn, inst, seen, err);
    }
    if (!str_eq(inst->want_state, "running") || !str_empty(inst->held_by) ||
        !str_empty(inst->root_task_id) || !seen || !str_eq(seen->state, "running") ||
        seen->host_fault) {
        return err_set(err, ERR_RESOURCE_IN_USE,
                       "%s is neither running nor stopped: it is moved once it is",
                       inst->id);
    }
    if (seen->reboot_count < inst->reboot_count) {
        return err_set(err, ERR_RESOURCE_IN_USE, "%s is being rebooted", inst->id);
    }
    return true;
}

bool
migration_waits(const struct err *err)
{
    switch (err->code) {
    case ERR_RESOURCE_IN_USE:
    case ERR_UNSUPPORTED:
    case ERR_NOT_FOUND:
    case ERR_INSTANCE_CAPACITY:
    case ERR_INSTANCE_LIMIT:
    case ERR_HOST_CONFIGURATION:
    case ERR_PLACEMENT_GROUP_IN_USE:
        return true;
    default:
        return false;
    }
}

static bool
node_rows(struct txn *txn, const char *id, struct placement_rows *out, struct err *err)
{
    return pool_rows(txn, id, out, err) &&
           (out->node || err_set(err, ERR_NOT_FOUND, "There is no node %s", id));
}

/* Whether guests can be moved from it or to it at all: the two ends of a migration know
 * each other by certificate and meet at their underlay addresses. */
static bool
may_travel(const struct row_node *node, struct err *err)
{
    if (node->local) {
        return err_set(
            err, ERR_RESOURCE_IN_USE,
            "%s came by its control plane's unix socket: it has no certificate "
            "by which another host could know it, so nothing is moved from or "
            "to it while it runs. Let it join with a token (moln node token)",
            node->id);
    }
    return !str_empty(node->underlay) ||
           err_set(err, ERR_RESOURCE_IN_USE,
                   "%s has no underlay address, at which the other host would meet it: "
                   "start its moln-node with --underlay",
                   node->id);
}

/* A guest has seen its processor: where guests run on the host's own, another model would
 * fail it. Emulated ones are the emulator's. */
static bool
same_processor(const struct row_node_seen *a, const struct row_node_seen *b)
{
    return str_eq(a->accel, b->accel) &&
           (!str_eq(a->accel, "kvm") || str_eq(a->cpu_model, b->cpu_model));
}

static bool
is_stopped(const struct row_machine_seen *guest)
{
    return guest && (str_eq(guest->state, "stopped") || str_eq(guest->state, "absent"));
}

/* Whether 'to' can go on with the guest as it was started: with a named processor and
 * machine type that it offers, or else as its host made it. */
static bool
takes_build(const struct row_machine_seen *guest, const struct row_node_seen *from,
            const struct row_node_seen *to)
{
    if (is_stopped(guest)) {
        return str_eq(from->accel, to->accel); /* It starts as any does there. */
    }
    bool named = guest && !str_empty(guest->cpu_model);
    return named ? str_eq(from->accel, to->accel) &&
                       baseline_offers(to, guest->cpu_model, guest->machine_type)
                 : same_processor(from, to);
}

/* The shared pool that volumes of its lie in, which the receiver must have too; NULL:
 * none does. */
static bool
pool_of(struct txn *txn, const struct row_instance *inst, const char **out,
        struct err *err)
{
    struct row_list volumes;
    *out = NULL;
    if (!instance_volumes(txn, inst->account, inst->id, &volumes, err)) {
        return false;
    }
    for (size_t i = 0; i < volumes.count; i++) {
        const struct row_volume *v = volumes.rows[i];
        *out = str_empty(v->pool) ? *out : v->pool;
    }
    return true;
}

/* Where somebody wants it. */
struct choice {
    const char *to_node;     /* NULL: anywhere. */
    const char *shared_pool; /* That it must have; NULL: none. */
    bool follows;            /* Its emulators take in memory that follows. */
};

static bool
suits(const struct choice *c, const struct placement_rows *rows)
{
    return !rows->node->local && !str_empty(rows->node->underlay) &&
           (!c->to_node || str_eq(rows->node->id, c->to_node)) &&
           (!c->shared_pool || str_eq(rows->seen->shared_pool, c->shared_pool)) &&
           (!c->follows || rows->seen->post_copy);
}

/* The nodes that could run what 'from' runs, as it runs it. */
static bool
alike(struct txn *txn, const struct row_instance *inst, const struct choice *choice,
      const struct placement_rows *from, struct placement_words *out, struct err *err)
{
    const struct row_node prefix = {.region = inst->region, .zone = inst->zone};
    const struct row_query query = {
        .index = "by_zone", .prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    if (!row_list(txn, &row_node_type, &query, &list, err)) {
        return false;
    }
    const struct row_machine_seen *guest;
    if (!machine_seen(txn, inst->id, &guest, err)) {
        return false;
    }
    const char **ids = ARENA_ARRAY(txn_arena(txn), list.count, const char *);
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_node *node = list.rows[i];
        struct placement_rows rows;
        if (str_eq(node->id, inst->node_id)) {
            continue;
        }
        if (!node_rows(txn, node->id, &rows, err)) {
            return false;
        }
        if (rows.seen && takes_build(guest, from->seen, rows.seen) &&
            suits(choice, &rows)) {
            ids[count++] = node->id;
        }
    }
    *out = (struct placement_words){ids, count};
    return true;
}

/* The best of 'among', as its placement group, tenancy and type allow; '*out' NULL: none.
 * What its group has against a move now is a reason not to. */
static bool
choose_among(struct txn *txn, struct pool *pool, const struct cloud_config *config,
             const struct row_instance *inst, struct placement_words among,
             const char **out, struct err *err)
{
    struct place_terms terms;
    struct places_found found;
    struct place_want want = {
        .account = inst->account,
        .region = inst->region,
        .zone = inst->zone,
        .terms = &terms,
        .type = config_type(config, inst->type),
        .vcpus = inst->vcpus,
        /* With its emulator: it runs elsewhere as it does here. */
        .memory_bytes =
            inst->claim_memory_bytes ? inst->claim_memory_bytes : inst->memory_bytes,
        .instance_id = inst->id,
        .among = among,
        .not_node = inst->node_id,
        .count = 1,
    };
    *out = NULL;
    if (among.count == 0) {
        return true;
    }
    if (!place_terms_of(txn, inst, &terms, err) ||
        !places_find(pool, txn, config, &want, &found, err)) {
        return false;
    }
    if (found.count == 0 && str_eq(inst->want_state, "stopped")) {
        want.vcpus = want.memory_bytes = 0; /* It can lie there, at least. */
        if (!places_find(pool, txn, config, &want, &found, err)) {
            return false;
        }
    }
    *out = found.count > 0 ? found.picks[0].node_id : NULL;
    return true;
}

/* Why no node, or not the one that was named, takes it. */
static bool
err_nobody(struct txn *txn, const struct row_instance *inst, const char *to_node,
           const struct row_node_seen *from, const char *shared_pool, struct err *err)
{
    const struct row_machine_seen *guest;
    if (!machine_seen(txn, inst->id, &guest, err)) {
        return false;
    }
    struct arena *arena = txn_arena(txn);
    const char *build =
        guest && !is_stopped(guest) && !str_empty(guest->cpu_model)
            ? arena_printf(arena, ", offer the processor %s and the machine type %s",
                           guest->cpu_model, guest->machine_type)
            : "";
    const char *disk =
        shared_pool ? arena_printf(arena, ", have its disk's pool, %s", shared_pool)
                    : "";
    return err_set(
        err, ERR_RESOURCE_IN_USE,
        "%s%s take%s %s: it must be in %s, run guests by %s%s%s, have an underlay "
        "address, be connected and not cordoned, have room, and be allowed by "
        "its placement group and tenancy",
        to_node ? to_node : "No other node", to_node ? " does not" : "",
        to_node ? "" : "s", inst->id, inst->zone, from->accel, build, disk);
}

static bool
choose(struct txn *txn, struct pool *pool, const struct cloud_config *config,
       const struct row_instance *inst, const struct choice *choice, const char **out,
       struct err *err)
{
    struct placement_rows from;
    struct placement_words among;
    return node_rows(txn, inst->node_id, &from, err) &&
           alike(txn, inst, choice, &from, &among, err) &&
           choose_among(txn, pool, config, inst, among, out, err);
}

bool
migration_choose(struct txn *txn, struct pool *pool, const struct cloud_config *config,
                 const struct row_instance *inst, const char *to_node, const char **out,
                 struct err *err)
{
    struct placement_rows from, to;
    struct choice choice = {.to_node = to_node};
    if (str_eq(inst->node_id, to_node)) {
        return err_set(err, ERR_RESOURCE_IN_USE, "%s is on %s already", inst->id,
                       to_node);
    }
    if (!node_rows(txn, inst->node_id, &from, err) ||
        (to_node && !node_rows(txn, to_node, &to, err))) {
        return false;
    }
    if (!may_travel(from.node, err) || (to_node && !may_travel(to.node, err))) {
        return false;
    }
    if (!from.seen || !from.seen->connected) {
        return err_set(err, ERR_RESOURCE_IN_USE, "%s is on %s, which is away", inst->id,
                       inst->node_id);
    }
    if (!pool_of(txn, inst, &choice.shared_pool, err) ||
        !choose(txn, pool, config, inst, &choice, out, err)) {
        return false;
    }
    return *out || err_nobody(txn, inst, to_node, from.seen, choice.shared_pool, err);
}

bool
migration_choose_for(struct txn *txn, struct pool *pool,
                     const struct cloud_config *config, const struct row_instance *inst,
                     struct migration_ask *ask, struct err *err)
{
    struct choice choice = {.follows = true};
    struct migration_way way;
    const char *able;
    if (!migration_choose(txn, pool, config, inst, NULL, &ask->to_node, err) ||
        !migration_way_of(txn, inst, ask, &way, err)) {
        return false;
    }
    bool ends = way.refusal.code == ERR_NONE || way.forecast.end != FORECAST_NEVER;
    if (ends || !ask->may_follow) {
        return true;
    }
    if (!pool_of(txn, inst, &choice.shared_pool, err) ||
        !choose(txn, pool, config, inst, &choice, &able, err)) {
        return false;
    }
    ask->to_node = able ? able : ask->to_node;
    return true;
}

/* All of them go along; what lies in a shared pool is where the receiver sees it. */
static void
name_disks(struct txn *txn, const struct row_list *volumes, struct row_migration *m)
{
    const char **disks = ARENA_ARRAY(txn_arena(txn), volumes->count, const char *);
    const char **shared = ARENA_ARRAY(txn_arena(txn), volumes->count, const char *);
    for (size_t i = 0; i < volumes->count; i++) {
        const struct row_volume *v = volumes->rows[i];
        m->held_disk_bytes += v->size_gib * (int64_t)GIB;
        disks[i] = v->id;
        if (!str_empty(v->pool)) {
            shared[m->shared_ids.count++] = v->id;
        }
    }
    m->disk_ids.items = disks;
    m->disk_ids.count = volumes->count;
    m->shared_ids.items = shared;
}

/* A card on the host's own interface is part of that host. */
static bool
check_cards(struct txn *txn, const struct row_instance *inst, struct err *err)
{
    const struct row_eni *card;
    int64_t count;
    if (!lni_cards(txn, inst, &card, &count, err)) {
        return false;
    }
    return !card ||
           err_set(err, ERR_UNSUPPORTED,
                   "%s has a local network interface, %s, on its host's own: it "
                   "is not moved while it runs; detach that first, or stop it",
                   inst->id, card->id);
}

bool
migration_begin(struct txn *txn, const struct row_instance *inst,
                const struct migration_ask *ask, const struct rng *rng, int64_t now_ns,
                const struct row_migration **out, struct err *err)
{
    struct row_list volumes;
    struct migration_way way;
    bool cold = str_eq(inst->want_state, "stopped");
    if (cold && ask->post_copy) {
        return err_set(err, ERR_RESOURCE_IN_USE,
                       "%s is stopped: it has no memory that could follow it",
                       inst->id);
    }
    if (!migration_may_begin(txn, inst, err) ||
        !migration_way_of(txn, inst, ask, &way, err)) {
        return false;
    }
    if (way.refusal.code != ERR_NONE) {
        *err = way.refusal;
        return false;
    }
    if (!instance_volumes(txn, inst->account, inst->id, &volumes, err)) {
        return false;
    }
    struct row_migration m = {
        .id = id_new(txn_arena(txn), rng, "migration"),
        .account = inst->account,
        .region = inst->region,
        .instance_id = inst->id,
        .vpc_id = inst->vpc_id,
        .from_node = inst->node_id,
        .to_node = ask->to_node,
        .state = "preparing",
        .order = "wait",
        .reason = ask->reason,
        .created_at = now_ns,
        .generation = 1,
        .bandwidth_bps = ask->bandwidth_bps,
        .downtime_limit_ms = ask->downtime_limit_ms,
        .post_copy = way.post_copy,
        .at_once = ask->at_once,
        .cold = cold,
        .starts = cold && ask->starts,
        .reboot_count = inst->reboot_count,
        .forecast_ms = way.forecast.total_ms,
        .forecast_downtime_ms = way.forecast.downtime_ms,
        .held_node = ask->to_node,
        .held_vcpus = inst->vcpus,
        .held_memory_bytes =
            inst->claim_memory_bytes ? inst->claim_memory_bytes : inst->memory_bytes,
    };
    if (cold) {
        migration_cold_hold(inst, &m);
    } else if (!check_cards(txn, inst, err)) {
        return false;
    }
    name_disks(txn, &volumes, &m);
    m.eni_ids.items = inst->eni_ids.items;
    m.eni_ids.count = inst->eni_ids.count;
    struct row_instance next = *inst;
    next.migration_id = m.id;
    bool alone = m.held_vcpus > 0 && str_eq(inst->tenancy, "dedicated");
    if (!row_insert(txn, &row_migration_type, &m, err) || !hold(txn, &m, 1, err) ||
        !migration_cold_begun(txn, &m, err) ||
        (alone && !node_claim_own(txn, m.to_node, inst->account, NULL, err)) ||
        !row_put(txn, &row_instance_type, &next, err)) {
        return false;
    }
    *out = arena_memdup(txn_arena(txn), &m, sizeof m);
    return true;
}

/* Both nodes are promised alike: the two promises change their names only. But an instance
 * that was stopped meanwhile has given its own back: then what is held goes over. */
static bool
swap_promises(struct txn *txn, const struct row_instance *inst,
              const struct row_migration *m, const char *node_id, const char *other,
              struct err *err)
{
    struct claim there = {
        .vcpus = m->held_vcpus, .memory_bytes = m->held_memory_bytes, .machines = 1};
    if (inst->claimed || !str_eq(m->held_node, node_id)) {
        return true;
    }
    struct claim here = {.vcpus = -there.vcpus,
                         .memory_bytes = -there.memory_bytes,
                         .machines = -there.machines};
    return node_claim_add(txn, other, &there, err) &&
           node_claim_add(txn, node_id, &here, err);
}

bool
migration_own(struct txn *txn, struct row_migration *m, const char *node_id,
              bool *out_done, struct err *err)
{
    const char *other = str_eq(node_id, m->to_node) ? m->from_node : m->to_node;
    const struct row_instance key = {.account = m->account, .id = m->instance_id};
    const struct row_instance *inst;
    struct row_list volumes;
    if (!row_get(txn, &row_instance_type, &key, (const void **)&inst, err) ||
        !instance_volumes(txn, m->account, m->instance_id, &volumes, err)) {
        return false;
    }
    *out_done = inst && str_eq(inst->migration_id, m->id) &&
                str_eq(inst->node_id, other) && !str_eq(inst->want_state, "terminated");
    if (!*out_done) {
        return true;
    }
    for (size_t i = 0; i < volumes.count; i++) {
        struct row_volume v = *(const struct row_volume *)volumes.rows[i];
        v.node_id = str_eq(v.node_id, other) ? node_id : v.node_id;
        if (!row_put(txn, &row_volume_type, &v, err)) {
            return false;
        }
    }
    struct row_instance next = *inst;
    next.node_id = node_id;
    next.brought_as = NULL; /* They come with it. */
    if (!swap_promises(txn, inst, m, node_id, other, err)) {
        return false;
    }
    m->held_node = other;
    return host_of_node(txn, &next, err) &&
           row_put(txn, &row_instance_type, &next, err) &&
           row_put(txn, &row_migration_type, m, err);
}

bool
migration_end(struct txn *txn, struct row_migration *m, const char *state,
              int64_t now_ns, struct err *err)
{
    const struct row_instance key = {.account = m->account, .id = m->instance_id};
    const struct row_instance *inst;
    if (!hold(txn, m, -1, err) || !migration_cold_end(txn, m, err) ||
        !row_get(txn, &row_instance_type, &key, (const void **)&inst, err)) {
        return false;
    }
    m->held_node = NULL;
    m->state = state;
    m->ended_at = now_ns;
    if (inst && str_eq(inst->migration_id, m->id)) {
        struct row_instance next = *inst;
        next.migration_id = NULL;
        if (!row_put(txn, &row_instance_type, &next, err)) {
            return false;
        }
    }
    return row_put(txn, &row_migration_type, m, err);
}

/* ---- those that have ended -------------------------------------------------------------- */

static int
newest_first(const void *a, const void *b)
{
    const struct row_migration *x = *(const struct row_migration *const *)a;
    const struct row_migration *y = *(const struct row_migration *const *)b;
    return x->ended_at > y->ended_at   ? -1
           : x->ended_at < y->ended_at ? 1
                                       : strcmp(x->id, y->id);
}

/* All that have ended, the newest first. */
static bool
ended(struct txn *txn, const struct row_migration ***out, size_t *out_count,
      struct err *err)
{
    static const char *const states[] = {"done", "failed"};
    struct row_list lists[ARRAY_LEN(states)];
    size_t total = 0, count = 0;
    for (size_t s = 0; s < ARRAY_LEN(states); s++) {
        const struct row_migration prefix = {.state = states[s]};
        const struct row_query query = {
            .index = "by_state", .prefix = &prefix, .prefix_fields = 1};
        if (!row_list(txn, &row_migration_type, &query, &lists[s], err)) {
            return false;
        }
        total += lists[s].count;
    }
    const struct row_migration **all =
        ARENA_ARRAY(txn_arena(txn), total + 1, const struct row_migration *);
    for (size_t s = 0; s < ARRAY_LEN(states); s++) {
        for (size_t i = 0; i < lists[s].count; i++) {
            all[count++] = lists[s].rows[i];
        }
    }
    qsort(all, count, sizeof *all, newest_first);
    *out = all;
    *out_count = count;
    return true;
}

bool
migrations_prune(struct txn *txn, int64_t now_ns, size_t most, struct err *err)
{
    const struct row_migration **list;
    size_t count;
    if (!ended(txn, &list, &count, err)) {
        return false;
    }
    for (; most > 0 && count > 0; most--) {
        const struct row_migration *oldest = list[--count];
        if (count < MIGRATIONS_KEPT && now_ns < oldest->ended_at + MIGRATION_KEPT_NS) {
            return true;
        }
        if (!row_delete(txn, &row_migration_type, oldest, err)) {
            return false;
        }
    }
    return true;
}
