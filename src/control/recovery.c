/* recovery.c - see recovery.h. */
#include "control/recovery.h"

#include "base/log.h"
#include "control/leases.h"
#include "control/network_interface.h"
#include "control/network_places.h"
#include "control/reports.h"
#include "control/wants.h"
#include "core/elsewhere.h"
#include "core/migration_rows.h"
#include "link/overhead.h"

#define GET(pass, type, out, err, ...) \
    row_get((pass)->txn, &row_##type##_type, &(struct row_##type){__VA_ARGS__}, \
            (const void **)(out), err)

/* ---- who is leased --------------------------------------------------------------- */

/* From now on its node is to renew its lease, however that was lost before; while it moves,
 * both are. */
static bool
expect_leases(const struct pass *pass, const struct row_instance *i, struct err *err)
{
    const struct row_migration *m = NULL;
    if (!str_empty(i->migration_id) &&
        !migration_get(pass->txn, i->migration_id, &m, err)) {
        return false;
    }
    return lease_expect(pass, i->node_id, err) &&
           (!m || (lease_expect(pass, m->from_node, err) &&
                   lease_expect(pass, m->to_node, err)));
}

bool
recovery_settle(const struct pass *pass, const struct row_instance **inst,
                struct err *err)
{
    const struct row_instance *i = *inst;
    const struct row_node_want *machine;
    enum elsewhere how = ELSEWHERE_NOT;
    if (i->recover && !elsewhere_how(pass->txn, i, &how, NULL, err)) {
        return false;
    }
    bool leased = i->recover && how != ELSEWHERE_NOT;
    if (i->leased == leased || str_empty(i->node_id)) {
        return true;
    }
    if (leased && !expect_leases(pass, i, err)) {
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

/* Whether nothing of it runs on its node, which has lost its lease. */
static bool
is_lost(const struct pass *pass, const struct row_instance *i, bool *out,
        struct err *err)
{
    const struct row_node_lease *lease;
    *out = false;
    if (!i->leased || str_empty(i->node_id) ||
        !str_empty(i->migration_id)) { /* Which ends first: it is given up then. */
        return true;
    }
    if (!GET(pass, node_lease, &lease, err, .id = i->node_id)) {
        return false;
    }
    return !lease || !lease->lost || ended_with_lease(pass, i, out, err);
}

/* ---- where to -------------------------------------------------------------------- */

/* As its placement group, tenancy and type allow; '*out_found' false: nowhere, for now. */
static bool
choose_node(const struct pass *pass, const struct row_instance *i,
            const struct row_volume *root, struct pool_pick *out, bool *out_found,
            struct err *err)
{
    struct place_terms terms;
    struct places_found found;
    struct place_want want;
    if (!elsewhere_want(pass->txn, pass->config, i, root, &terms, &want, err)) {
        return false;
    }
    overhead_by_kind(pass->config->emulator_overhead_bytes, i->memory_bytes, i->vcpus,
                     want.overhead_bytes);
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

/* Its interfaces, and that they have been there. */
static bool
leave_ports(const struct pass *pass, const struct row_instance *i, struct err *err)
{
    for (size_t n = 0; n < i->eni_ids.count; n++) {
        const char *eni_id = i->eni_ids.items[n];
        if (!want_take_down(pass->txn, i->left_node, LINK_METADATA, eni_id, err) ||
            !want_take_down(pass->txn, i->left_node, LINK_PORT, eni_id, err) ||
            !interface_tell(pass, i->account, eni_id, err)) {
            return false;
        }
    }
    return true;
}

bool
recovery_leave(const struct pass *pass, const struct row_instance **inst,
               struct err *err)
{
    const struct row_instance *i = *inst;
    const struct row_machine_seen *seen;
    const struct row_vpc *vpc;
    struct txn *txn = pass->txn;
    if (str_empty(i->left_node)) {
        return true;
    }
    if (!want_take_down(txn, i->left_node, LINK_MACHINE, i->id, err) ||
        !want_take_down(txn, i->left_node, LINK_DISK, i->root_volume_id, err) ||
        !leave_ports(pass, i, err) ||
        !GET(pass, machine_seen, &seen, err, .id = i->id) ||
        !GET(pass, vpc, &vpc, err, .account = i->account, .id = i->vpc_id)) {
        return false;
    }
    if (seen && str_eq(seen->node_id, i->left_node) &&
        !row_delete(txn, &row_machine_seen_type, seen, err)) {
        return false;
    }
    struct row_instance *next = arena_memdup(txn_arena(txn), i, sizeof *i);
    next->left_node = NULL;
    *inst = next;
    return (!vpc || network_release(pass, i->left_node, vpc, err)) &&
           (!i->leased || lease_expect(pass, i->node_id, err)) &&
           row_put(txn, &row_instance_type, next, err);
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
    const struct row_instance *i = *inst;
    if (!elsewhere_move(pass->txn, i, root, to, pass->rng, pass->now_ns, inst, err) ||
        !tell(pass, i, to->node_id, !str_empty(root->pool), err)) {
        return false;
    }
    log_warn("control: instance %s: from lost node %s to %s", i->id, i->node_id,
             to->node_id);
    return true;
}

bool
recovery_stop(const struct pass *pass, const struct row_instance **inst,
              struct err *err)
{
    const struct row_instance *i = *inst;
    bool lost;
    if (!str_eq(i->want_state, "stopped") || str_eq(i->observed_state, "stopped")) {
        return true;
    }
    return is_lost(pass, i, &lost, err) &&
           (!lost || instance_mark_stopped(pass->txn, i, inst, err));
}

bool
recovery_move(const struct pass *pass, const struct row_instance **inst,
              struct err *err)
{
    const struct row_instance *i = *inst;
    const struct row_volume *root;
    struct pool_pick to;
    bool lost, found;
    if (!str_eq(i->want_state, "running")) {
        return true;
    }
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
