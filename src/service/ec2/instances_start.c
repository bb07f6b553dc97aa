/* instances_start.c - where a stopped instance starts.
 *
 * On the node where its root volume lies, if that can have it. Else on another node: at once
 * when the volume lies in a shared pool, since nothing of it runs on the old one, which said
 * that it was stopped and was told so for good; as soon as a migration has brought it, where
 * it lies on the old one's own disk and that one is there; and with a volume made anew from
 * its image, where its owner allowed that and there is no other way. */
#include "core/elsewhere.h"
#include "core/migration_cold.h"
#include "core/network_rows.h"
#include "service/ec2/instances.h"
#include "service/ec2/placement_load.h"

struct start {
    struct call *call;
    const struct row_instance *inst;
    enum elsewhere how;
    const struct row_volume *root;
};

static bool
check_quota(struct call *call, const struct row_instance *inst, struct err *err)
{
    struct quotas quotas;
    struct usage usage;
    if (!quotas_load(call, &quotas, err) ||
        !account_usage_get(call->txn, call->account, call->region, &usage, err)) {
        return false;
    }
    return usage.vcpus + inst->vcpus <= quotas.vcpus ||
           err_vcpu_limit(err, quotas.vcpus);
}

/* ---- where ------------------------------------------------------------------------- */

/* On that node, and nowhere else. */
static bool
find_on(const struct start *s, const char *node_id, struct places_found *out,
        struct err *err)
{
    struct call *call = s->call;
    const struct row_instance *inst = s->inst;
    struct place_terms terms;
    if (!place_terms_of(call->txn, inst, &terms, err)) {
        return false;
    }
    struct place_want want = {
        .terms = &terms,
        .type = config_type(call->config, inst->type),
        .zone = inst->zone,
        .vcpus = inst->vcpus,
        .memory_bytes = inst->memory_bytes,
        .instance_id = inst->id,
        .among = {&node_id, str_empty(node_id) ? 0 : 1},
        .count = 1,
    };
    place_want_fill(call, &want);
    return places_find(call->pool, call->txn, call->config, &want, out, err);
}

static bool
find_elsewhere(const struct start *s, struct places_found *out, struct err *err)
{
    struct call *call = s->call;
    struct place_terms terms;
    struct place_want want;
    if (!elsewhere_want(call->txn, call->config, s->inst, s->root, &terms, &want,
                        err)) {
        return false;
    }
    place_want_fill(call, &want);
    return places_find(call->pool, call->txn, call->config, &want, out, err);
}

/* An image that is being made of its disk, where that lies, or a migration that has not
 * ended ties it to its node. */
static bool
is_in_use(const struct start *s, bool *out, struct err *err)
{
    bool copied;
    if (!instance_is_copied(s->call->txn, s->inst, &copied, err)) {
        return false;
    }
    *out = copied || !str_empty(s->inst->migration_id) || !str_empty(s->inst->held_by);
    return true;
}

/* ---- why not ----------------------------------------------------------------------- */

/* Why its node does not have it, as far as that is a tenant's affair: not whose machines
 * take the room. */
static bool
node_trouble(const struct start *s, const char **out, struct err *err)
{
    struct placement_rows rows;
    if (!pool_rows(s->call->txn, s->inst->node_id, &rows, err)) {
        return false;
    }
    bool gone = !rows.node || !str_eq(rows.node->state, "active");
    *out = gone                                  ? "which has left the cloud"
           : !rows.seen || !rows.seen->connected ? "which cannot be reached"
                                                 : "which has no room for it now";
    return true;
}

static bool
err_no_place(const struct start *s, const struct places_found *found, struct err *err)
{
    const struct row_instance *inst = s->inst;
    const char *trouble;
    (void)err_capacity(s->call, &found->ask, inst->type, inst->zone, err);
    if (err->code != ERR_INSTANCE_CAPACITY || str_empty(inst->node_id) || !s->root) {
        return false;
    }
    struct err why = {0};
    if (!node_trouble(s, &trouble, &why)) {
        *err = why;
        return false;
    }
    if (s->how != ELSEWHERE_NOT) {
        return err_set(err, ERR_INSTANCE_CAPACITY,
                       "Instance %s cannot start: its root volume %s was last on host "
                       "%s, %s, and no other host in %s that can have it has room. Try "
                       "again later, or change it to a smaller type.",
                       inst->id, s->root->id, inst->node_id, trouble, inst->zone);
    }
    return err_set(err, ERR_INSTANCE_CAPACITY,
                   "Instance %s cannot start: its root volume %s lies on host %s, %s, "
                   "and cannot be brought to another one now. "
                   "Try again when the host has it; or, if the volume's content may be "
                   "lost, tag the instance " RECOVERY_TAG "=" RECOVERY_REBUILD
                   " and start it: another host makes the volume anew from its image.",
                   inst->id, s->root->id, inst->node_id, trouble);
}

/* ---- the start --------------------------------------------------------------------- */

static bool
begin(const struct start *s, const struct places_found *found, bool elsewhere,
      struct err *err)
{
    struct call *call = s->call;
    const struct instance_want want = {.state = "running"};
    const struct row_instance *now = s->inst;
    if (elsewhere && !elsewhere_move(call->txn, s->inst, s->root, &found->picks[0],
                                     call->rng, call->now_ns, &now, err)) {
        return false;
    }
    struct row_instance next = *now;
    next.node_id = found->picks[0].node_id;
    next.claim_memory_bytes = found->picks[0].memory_bytes;
    next.partition = found->partitions[0];
    if (!host_of_node(call->txn, &next, err)) {
        return false;
    }
    return instance_claim(call->txn, &next, &now, err) &&
           instance_want(call->txn, now, &want, call->now_ns, &now, err) &&
           enis_public(call->txn, now, true, call->now_ns, err);
}

/* ---- on the way -------------------------------------------------------------------- */

/* Wanted running, and pending until it is there: its vCPUs are promised and counted by the
 * migration until then. */
static bool
want_there(const struct start *s, const struct places_found *found, struct err *err)
{
    struct call *call = s->call;
    const struct instance_want want = {.state = "running"};
    const struct row_instance key = {.account = s->inst->account, .id = s->inst->id};
    const struct row_instance *now;
    if (!row_get(call->txn, &row_instance_type, &key, (const void **)&now, err)) {
        return false;
    }
    struct row_instance next = *now;
    next.partition = found->partitions[0];
    return row_put(call->txn, &row_instance_type, &next, err) &&
           instance_want(call->txn, &next, &want, call->now_ns, &now, err) &&
           enis_public(call->txn, now, true, call->now_ns, err);
}

/* It is being moved already, as by a drain: it starts where it goes. '*out' false: it is not,
 * or there is no room for it there. */
static bool
join(const struct start *s, bool *out, struct err *err)
{
    struct call *call = s->call;
    const struct row_migration *m;
    struct places_found there;
    *out = false;
    if (!migration_get(call->txn, s->inst->migration_id, &m, err)) {
        return false;
    }
    if (!m || !migration_is_held(m) || m->starts || m->cancelled) {
        return true;
    }
    if (!find_on(s, m->to_node, &there, err) || there.count == 0) {
        return err->code == ERR_NONE;
    }
    struct row_migration next = *m;
    *out = true;
    return migration_cold_join(call->txn, &next, s->inst, there.picks[0].memory_bytes,
                               err) &&
           want_there(s, &there, err);
}

/* Begins to move its disks to where it can start. '*out' false: nobody takes it, or its node
 * is not there to give it. */
static bool
carry(const struct start *s, bool *out, struct err *err)
{
    struct call *call = s->call;
    struct migration_ask ask = {.reason = "start",
                                .bandwidth_bps = call->config->migration_bps,
                                .starts = true};
    struct row_instance asks = *s->inst;
    const struct row_migration *m;
    struct places_found there;
    struct err why = {0};
    *out = false;
    if (!migration_may_begin(call->txn, s->inst, &why) ||
        !migration_choose(call->txn, call->pool, call->config, s->inst, NULL,
                          &ask.to_node, &why)) {
        return migration_waits(&why) || (*err = why, false);
    }
    if (!find_on(s, ask.to_node, &there, err) || there.count == 0) {
        return err->code == ERR_NONE;
    }
    asks.claim_memory_bytes = there.picks[0].memory_bytes;
    *out = true;
    return migration_begin(call->txn, &asks, &ask, call->rng, call->now_ns, &m, err) &&
           want_there(s, &there, err);
}

/* ---- the start, wherever ------------------------------------------------------------ */

bool
instance_start(struct call *call, const struct row_instance *inst, struct err *err)
{
    struct start s = {.call = call, .inst = inst};
    struct places_found home, other;
    bool in_use, begun;
    if (!check_quota(call, inst, err) || !find_on(&s, inst->node_id, &home, err)) {
        return false;
    }
    if (home.count > 0) {
        return begin(&s, &home, false, err);
    }
    if (!join(&s, &begun, err) || begun) {
        return err->code == ERR_NONE;
    }
    if (!elsewhere_how(call->txn, inst, &s.how, &s.root, err) ||
        !is_in_use(&s, &in_use, err)) {
        return false;
    }
    bool may_carry =
        s.root && s.how != ELSEWHERE_SHARED && !in_use && !str_empty(inst->node_id);
    if (may_carry && (!carry(&s, &begun, err) || begun)) {
        return err->code == ERR_NONE;
    }
    if (s.how == ELSEWHERE_NOT || in_use || str_empty(inst->node_id)) {
        return err_no_place(&s, &home, err);
    }
    if (!find_elsewhere(&s, &other, err)) {
        return false;
    }
    return other.count > 0 ? begin(&s, &other, true, err)
                           : err_no_place(&s, &other, err);
}
