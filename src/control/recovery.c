/* recovery.c - see recovery.h. */
#include "control/recovery.h"

#include "base/log.h"
#include "control/leases.h"
#include "control/network_interface.h"
#include "control/network_places.h"
#include "control/reports.h"
#include "control/wants.h"
#include "core/id.h"
#include "core/instance_rows.h"
#include "core/places.h"
#include "core/root_volume.h"
#include "link/overhead.h"

#define GET(pass, type, out, err, ...) \
    row_get((pass)->txn, &row_##type##_type, &(struct row_##type){__VA_ARGS__}, \
            (const void **)(out), err)

/* ---- who is leased --------------------------------------------------------------- */

/* Whether its root volume may be made anew from the image. */
static bool
may_rebuild(const struct pass *pass, const struct row_instance *i, bool *out,
            struct err *err)
{
    const struct row_tag *tag;
    if (!GET(pass, tag, &tag, err, .account = i->account, .region = i->region,
             .resource_id = i->id, .tag_key = RECOVERY_TAG)) {
        return false;
    }
    *out = tag && str_eq(tag->value, RECOVERY_REBUILD);
    return true;
}

/* Its root volume lies where other nodes see it too. */
static bool
is_shared(const struct pass *pass, const struct row_instance *i, bool *out,
          struct err *err)
{
    const struct row_volume *root;
    if (!GET(pass, volume, &root, err, .account = i->account,
             .id = i->root_volume_id)) {
        return false;
    }
    *out = root && !str_empty(root->pool);
    return true;
}

bool
recovery_settle(const struct pass *pass, const struct row_instance **inst,
                struct err *err)
{
    const struct row_instance *i = *inst;
    const struct row_node_want *machine;
    bool rebuild = false, shared = false;
    if (i->recover &&
        (!may_rebuild(pass, i, &rebuild, err) || !is_shared(pass, i, &shared, err))) {
        return false;
    }
    bool leased = i->recover && (rebuild || shared);
    if (i->leased == leased || str_empty(i->node_id)) {
        return true;
    }
    if (leased && !lease_expect(pass, i->node_id, err)) {
        return false;
    }
    if (!want_get(pass->txn, i->node_id, LINK_MACHINE, i->id, &machine, err)) {
        return false;
    }
    struct row_instance *next = arena_memdup(txn_arena(pass->txn), i, sizeof *i);
    next->leased = leased;
    if (machine) { /* Its node has heard of it otherwise. */
        next->generation++;
        next->leased_generation = next->generation;
    }
    *inst = next;
    return row_put(pass->txn, &row_instance_type, next, err);
}

/* ---- whether it is safe ---------------------------------------------------------- */

/* Whether nothing of the machine can run on its node but what ends with the lease: it
 * was leased from the first, or the node's last word was about its being leased and not
 * about a process that was started before. */
static bool
ended_with_lease(const struct pass *pass, const struct row_instance *i, bool *out,
                 struct err *err)
{
    const struct row_machine_seen *seen;
    if (!GET(pass, machine_seen, &seen, err, .id = i->id)) {
        return false;
    }
    bool told = seen && str_eq(seen->node_id, i->node_id) &&
                seen->generation >= i->leased_generation;
    *out =
        i->leased_generation == 0 ||
        (told && (seen->leased || str_eq(seen->state, "stopped") ||
                  str_eq(seen->state, "absent") || str_eq(seen->state, "preparing")));
    return true;
}

static bool
is_lost(const struct pass *pass, const struct row_instance *i, bool *out,
        struct err *err)
{
    const struct row_node_lease *lease;
    *out = false;
    if (!i->leased || !str_eq(i->want_state, "running") || str_empty(i->node_id) ||
        !str_empty(i->migration_id)) { /* Which ends first: it is given up then. */
        return true;
    }
    if (!GET(pass, node_lease, &lease, err, .id = i->node_id)) {
        return false;
    }
    return !lease || !lease->lost || ended_with_lease(pass, i, out, err);
}

/* ---- where to -------------------------------------------------------------------- */

/* The nodes that see the pool; not one of them: a word that no node has. */
static bool
nodes_of_pool(const struct pass *pass, const char *pool, struct placement_words *out,
              struct err *err)
{
    const struct row_query query = {0};
    struct row_list list;
    if (!row_list(pass->txn, &row_node_seen_type, &query, &list, err)) {
        return false;
    }
    const char **ids = ARENA_ARRAY(txn_arena(pass->txn), list.count + 1, const char *);
    size_t count = 0;
    for (size_t n = 0; n < list.count; n++) {
        const struct row_node_seen *seen = list.rows[n];
        if (str_eq(seen->shared_pool, pool)) {
            ids[count++] = seen->id;
        }
    }
    if (count == 0) {
        ids[count++] = "none";
    }
    *out = (struct placement_words){ids, count};
    return true;
}

/* As its placement group, tenancy and type allow; '*out_found' false: nowhere, for now. */
static bool
choose_node(const struct pass *pass, const struct row_instance *i,
            const struct row_volume *root, struct pool_pick *out, bool *out_found,
            struct err *err)
{
    struct place_terms terms;
    struct places_found found;
    struct place_want want = {
        .account = i->account,
        .region = i->region,
        .zone = i->zone,
        .terms = &terms,
        .type = config_type(pass->config, i->type),
        .vcpus = i->vcpus,
        .memory_bytes = i->memory_bytes,
        .disk_bytes = root->size_gib * (int64_t)GIB,
        .instance_id = i->id,
        .not_node = i->node_id,
        .count = 1,
    };
    overhead_by_kind(pass->config->emulator_overhead_bytes, i->memory_bytes, i->vcpus,
                     want.overhead_bytes);
    if (!place_terms_of(pass->txn, i, &terms, err) ||
        (!str_empty(root->pool) &&
         !nodes_of_pool(pass, root->pool, &want.among, err))) {
        return false;
    }
    if (!places_find(pass->pool, pass->txn, pass->config, &want, &found, err)) {
        /* What its group or host says today is a reason to wait, not to fail. */
        bool waits = err->code == ERR_PLACEMENT_GROUP_IN_USE ||
                     err->code == ERR_HOST_CONFIGURATION ||
                     err->code == ERR_INSTANCE_LIMIT;
        if (waits) {
            err_clear(err);
            *out_found = false;
        }
        return waits;
    }
    *out_found = found.count > 0;
    if (found.count > 0) {
        *out = found.picks[0];
    }
    return true;
}

/* ---- the move -------------------------------------------------------------------- */

/* All that was wanted for it on its old node is to go, at once: nothing of it runs there,
 * and nothing will; the other nodes hear where its interfaces are now. */
static bool
leave(const struct pass *pass, const struct row_instance *i, struct err *err)
{
    const struct row_vpc *vpc;
    struct txn *txn = pass->txn;
    if (!want_take_down(txn, i->node_id, LINK_MACHINE, i->id, err) ||
        !GET(pass, vpc, &vpc, err, .account = i->account, .id = i->vpc_id)) {
        return false;
    }
    for (size_t n = 0; n < i->eni_ids.count; n++) {
        const char *eni_id = i->eni_ids.items[n];
        if (!want_take_down(txn, i->node_id, LINK_METADATA, eni_id, err) ||
            !want_take_down(txn, i->node_id, LINK_PORT, eni_id, err) ||
            !interface_tell(pass, i->account, eni_id, err)) {
            return false;
        }
    }
    const struct row_machine_seen seen = {.id = i->id};
    return row_delete(txn, &row_machine_seen_type, &seen, err) &&
           (!vpc || network_release(pass, i->node_id, vpc, err));
}

/* A root volume from the same image in place of the old one, which is deleted as soon as
 * its node is back. */
static bool
rebuild_root(const struct pass *pass, const struct row_volume *old, const char *node_id,
             const char **out_id, struct err *err)
{
    const struct root_change change = {
        .volume_id = id_new(txn_arena(pass->txn), pass->rng, "vol"),
        .node_id = node_id,
        .base_blob = old->base_blob,
        .image_id = old->image_id,
        .snapshot_id = old->snapshot_id,
        .delete_old = true,
    };
    *out_id = change.volume_id;
    return root_volume_replace(pass->txn, old, &change, pass->now_ns, err);
}

/* The same volume, on another node: its file stays where both see it. */
static bool
carry_root(const struct pass *pass, const struct row_volume *root, const char *node_id,
           struct err *err)
{
    struct row_volume next = *root;
    const int64_t bytes = root->size_gib * (int64_t)GIB;
    const struct claim less = {.disk_bytes = -bytes}, more = {.disk_bytes = bytes};
    const struct row_disk_seen seen = {.id = root->id};
    next.node_id = node_id;
    next.generation++;
    next.made = true;
    return node_claim_add(pass->txn, root->node_id, &less, err) &&
           node_claim_add(pass->txn, node_id, &more, err) &&
           want_take_down(pass->txn, root->node_id, LINK_DISK, root->id, err) &&
           row_delete(pass->txn, &row_disk_seen_type, &seen, err) &&
           row_put(pass->txn, &row_volume_type, &next, err);
}

static bool
tell(const struct pass *pass, const struct row_instance *i, const char *node_id,
     bool shared, struct err *err)
{
    const struct link_event event = {
        .kind = "recovery",
        .object = i->id,
        .level = "warn",
        .message = arena_printf(txn_arena(pass->txn),
                                "%s was lost; the instance is started on %s, its root "
                                "volume %s",
                                i->node_id, node_id,
                                shared ? "as it was, in the shared pool"
                                       : "made anew from its image"),
    };
    return report_apply(pass, node_id, LINK_EVENT, &event, 0,
                        arena_printf(txn_arena(pass->txn), "%016" PRIx64 "%s",
                                     (uint64_t)pass->now_ns, i->id),
                        err);
}

static bool
move_to(const struct pass *pass, const struct row_instance **inst,
        const struct row_volume *root, const struct pool_pick *to, struct err *err)
{
    const struct row_instance *i = *inst, *unclaimed;
    const char *node_id = to->node_id, *root_id = root->id;
    bool shared = !str_empty(root->pool);
    if (!instance_unclaim(pass->txn, i, &unclaimed, err) ||
        !(shared ? carry_root(pass, root, node_id, err)
                 : rebuild_root(pass, root, node_id, &root_id, err))) {
        return false;
    }
    struct row_instance next = *unclaimed;
    next.node_id = node_id;
    next.claim_memory_bytes = to->memory_bytes;
    next.root_volume_id = root_id;
    next.generation++;
    next.want_generation = next.generation; /* Pending, until seen running there. */
    next.observed_state = NULL;
    next.leased_generation = 0; /* As every want of it there will say. */
    if (!instance_claim(pass->txn, &next, inst, err) || !leave(pass, i, err) ||
        !lease_expect(pass, node_id, err) || !tell(pass, i, node_id, shared, err)) {
        return false;
    }
    log_warn("control: instance %s: from lost node %s to %s", i->id, i->node_id,
             node_id);
    return true;
}

bool
recovery_move(const struct pass *pass, const struct row_instance **inst,
              struct err *err)
{
    const struct row_instance *i = *inst;
    const struct row_volume *root;
    struct pool_pick to;
    bool lost, found;
    if (!is_lost(pass, i, &lost, err) || !lost) {
        return err->code == ERR_NONE;
    }
    if (!GET(pass, volume, &root, err, .account = i->account,
             .id = i->root_volume_id)) {
        return false;
    }
    if (!root) {
        return err_set(err, ERR_CORRUPT, "instance %s has lost its root volume", i->id);
    }
    if (!choose_node(pass, i, root, &to, &found, err)) {
        return false;
    }
    if (!found) {
        log_warn("control: instance %s: no node has room for it", i->id);
        return true;
    }
    return move_to(pass, inst, root, &to, err);
}
