#include "core/instance_rows.h"

#include "core/address.h"

#include "base/timefmt.h"
#include "core/instance_events.h"
#include "core/network_rows.h"

static int64_t
floor_zero(int64_t n)
{
    return MAX(n, 0);
}

static bool
claim_row(struct txn *txn, const char *node_id, struct row_node_claim *out,
          struct err *err)
{
    const struct row_node_claim key = {.id = node_id};
    const void *old;
    if (!row_get(txn, &row_node_claim_type, &key, &old, err)) {
        return false;
    }
    *out = old ? *(const struct row_node_claim *)old : key;
    return true;
}

bool
node_claim_add(struct txn *txn, const char *node_id, const struct claim *claim,
               struct err *err)
{
    struct row_node_claim next;
    if (str_empty(node_id)) {
        return true;
    }
    if (!claim_row(txn, node_id, &next, err)) {
        return false;
    }
    next.vcpus = floor_zero(next.vcpus + claim->vcpus);
    next.memory_bytes = floor_zero(next.memory_bytes + claim->memory_bytes);
    next.disk_bytes = floor_zero(next.disk_bytes + claim->disk_bytes);
    next.machines = floor_zero(next.machines + claim->machines);
    if (next.machines == 0 && str_empty(next.host_id)) {
        next.owner = NULL;
    }
    return row_put(txn, &row_node_claim_type, &next, err);
}

bool
node_claim_own(struct txn *txn, const char *node_id, const char *owner,
               const char *host_id, struct err *err)
{
    struct row_node_claim next;
    if (!claim_row(txn, node_id, &next, err)) {
        return false;
    }
    next.owner = owner;
    next.host_id = host_id;
    return row_put(txn, &row_node_claim_type, &next, err);
}

static bool
usage_row(struct txn *txn, const char *account, const char *region,
          struct row_account_usage *out, struct err *err)
{
    const struct row_account_usage key = {.account = account, .region = region};
    const void *old;
    if (!row_get(txn, &row_account_usage_type, &key, &old, err)) {
        return false;
    }
    *out = old ? *(const struct row_account_usage *)old : key;
    return true;
}

bool
account_usage_add(struct txn *txn, const char *account, const char *region,
                  const struct usage *add, struct err *err)
{
    struct row_account_usage row;
    if (!usage_row(txn, account, region, &row, err)) {
        return false;
    }
    row.vcpus = floor_zero(row.vcpus + add->vcpus);
    row.instances = floor_zero(row.instances + add->instances);
    row.disk_gib = floor_zero(row.disk_gib + add->disk_gib);
    return row_put(txn, &row_account_usage_type, &row, err);
}

bool
account_blob_bytes(struct txn *txn, const char *account, uint64_t *out, struct err *err)
{
    const struct row_blob prefix = {.account = account};
    const struct row_query query = {
        .index = "by_account", .prefix = &prefix, .prefix_fields = 1};
    struct row_list list;
    if (!row_list(txn, &row_blob_type, &query, &list, err)) {
        return false;
    }
    *out = 0;
    for (size_t i = 0; i < list.count; i++) {
        *out += (uint64_t)((const struct row_blob *)list.rows[i])->size_bytes;
    }
    return true;
}

bool
account_usage_get(struct txn *txn, const char *account, const char *region,
                  struct usage *out, struct err *err)
{
    struct row_account_usage row;
    if (!usage_row(txn, account, region, &row, err)) {
        return false;
    }
    *out = (struct usage){row.vcpus, row.instances, row.disk_gib};
    return true;
}

bool
instances_on(struct txn *txn, const char *node_id, struct row_list *out,
             struct err *err)
{
    const struct row_instance prefix = {.node_id = node_id};
    const struct row_query query = {
        .index = "by_node", .prefix = &prefix, .prefix_fields = 1};
    return row_list(txn, &row_instance_type, &query, out, err);
}

bool
instance_add(struct txn *txn, const struct row_instance *inst,
             const struct row_instance **out, struct err *err)
{
    const struct usage one = {.instances = 1};
    return row_insert(txn, &row_instance_type, inst, err) &&
           account_usage_add(txn, inst->account, inst->region, &one, err) &&
           instance_claim(txn, inst, out, err);
}

bool
volume_add(struct txn *txn, const struct row_volume *volume, struct err *err)
{
    const struct usage usage = {.disk_gib = volume->size_gib};
    const struct claim claim = {.disk_bytes = volume->size_gib * (int64_t)GIB};
    return row_insert(txn, &row_volume_type, volume, err) &&
           account_usage_add(txn, volume->account, volume->region, &usage, err) &&
           node_claim_add(txn, volume->node_id, &claim, err);
}

/* Puts a changed copy, and hands back one that lives in the txn's arena. */
static bool
put_instance(struct txn *txn, const struct row_instance *next,
             const struct row_instance **out, struct err *err)
{
    if (!row_put(txn, &row_instance_type, next, err)) {
        return false;
    }
    if (out) {
        *out = arena_memdup(txn_arena(txn), next, sizeof *next);
    }
    return true;
}

static bool
same(const struct row_instance *inst, const struct row_instance **out)
{
    if (out) {
        *out = inst;
    }
    return true;
}

/* Adds (sign 1) or takes (sign -1) the instance's share of its node and its quota. */
static bool
count_instance(struct txn *txn, const struct row_instance *inst, int64_t sign,
               struct err *err)
{
    const struct claim claim = {
        .vcpus = sign * inst->vcpus,
        .memory_bytes = sign * (inst->claim_memory_bytes ? inst->claim_memory_bytes
                                                         : inst->memory_bytes),
        .machines = sign,
    };
    const struct usage usage = {.vcpus = sign * inst->vcpus};
    bool alone = sign > 0 && str_eq(inst->tenancy, "dedicated");
    return node_claim_add(txn, inst->node_id, &claim, err) &&
           (!alone || node_claim_own(txn, inst->node_id, inst->account, NULL, err)) &&
           account_usage_add(txn, inst->account, inst->region, &usage, err);
}

bool
instance_claim(struct txn *txn, const struct row_instance *inst,
               const struct row_instance **out, struct err *err)
{
    if (inst->claimed) {
        return same(inst, out);
    }
    struct row_instance next = *inst;
    next.claimed = true;
    return count_instance(txn, inst, 1, err) && put_instance(txn, &next, out, err);
}

bool
instance_unclaim(struct txn *txn, const struct row_instance *inst,
                 const struct row_instance **out, struct err *err)
{
    if (!inst->claimed) {
        return same(inst, out);
    }
    struct row_instance next = *inst;
    next.claimed = false;
    return count_instance(txn, inst, -1, err) && put_instance(txn, &next, out, err);
}

bool
instance_want(struct txn *txn, const struct row_instance *inst,
              const struct instance_want *want, int64_t now_ns,
              const struct row_instance **out, struct err *err)
{
    bool harder = want->hard && !inst->stop_hard && str_eq(want->state, "stopped");
    bool already = str_eq(inst->want_state, want->state) && !harder;
    if (already || str_eq(inst->want_state, "terminated")) {
        return same(inst, out);
    }
    struct row_instance next = *inst;
    next.generation++;
    next.stop_hard = want->hard;
    if (!str_eq(inst->want_state, want->state)) {
        next.want_state = want->state;
        next.want_since = now_ns;
        next.want_generation = next.generation;
        next.observed_state = NULL;
        next.reason_code = want->reason_code;
        next.reason_text = want->reason_text;
        next.transition_reason = want->transition_reason;
        if (str_eq(want->state, "running")) {
            next.launched_at = now_ns;
        }
    }
    return put_instance(txn, &next, out, err);
}

bool
instance_mark_running(struct txn *txn, const struct row_instance *inst,
                      const struct row_instance **out, struct err *err)
{
    if (!str_eq(inst->want_state, "running") ||
        str_eq(inst->observed_state, "running")) {
        return same(inst, out);
    }
    struct row_instance next = *inst;
    next.observed_state = "running";
    return put_instance(txn, &next, out, err);
}

bool
instance_mark_guest_shutdown(struct txn *txn, const struct row_instance *inst,
                             int64_t now_ns, const struct row_instance **out,
                             struct err *err)
{
    if (!str_eq(inst->want_state, "running")) {
        return same(inst, out);
    }
    bool terminate = str_eq(inst->shutdown_behavior, "terminate");
    const struct instance_want want = {
        .state = terminate ? "terminated" : "stopped",
        .reason_code = "Client.InstanceInitiatedShutdown",
        .reason_text = "Client.InstanceInitiatedShutdown: Instance initiated shutdown",
    };
    return instance_want(txn, inst, &want, now_ns, out, err);
}

bool
instance_mark_stopped(struct txn *txn, const struct row_instance *inst,
                      const struct row_instance **out, struct err *err)
{
    if (!str_eq(inst->want_state, "stopped")) {
        return same(inst, out);
    }
    const struct row_instance *now = inst;
    if (!instance_unclaim(txn, inst, &now, err) ||
        !enis_public(txn, inst, false, 0, err)) {
        return false;
    }
    if (str_eq(now->observed_state, "stopped")) {
        return same(now, out);
    }
    struct row_instance next = *now;
    next.observed_state = "stopped";
    return put_instance(txn, &next, out, err);
}

/* Deletes the interface with all that hangs off it, or detaches it. */
static bool
release_eni(struct txn *txn, const struct row_eni *eni, struct err *err)
{
    return eni->delete_on_termination ? eni_remove(txn, eni, err)
                                      : eni_detach(txn, eni, err);
}

static bool
release_enis(struct txn *txn, const struct row_instance *inst, struct err *err)
{
    const struct row_eni prefix = {.account = inst->account, .instance_id = inst->id};
    const struct row_query query = {
        .index = "by_instance", .prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    if (!row_list(txn, &row_eni_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (!release_eni(txn, list.rows[i], err)) {
            return false;
        }
    }
    return true;
}

/* Sorts after every account and id. */
#define LAST "~"

bool
vpc_machine(struct txn *txn, const struct vpc_machine_ask *ask,
            const struct row_instance **out, struct err *err)
{
    const struct row_instance prefix = {.vpc_id = ask->vpc_id, .node_id = ask->node_id};
    struct row_instance start = {
        .vpc_id = ask->vpc_id, .node_id = ask->after, .account = LAST, .id = LAST};
    struct row_query query = {.index = "by_place",
                              .prefix = &prefix,
                              .prefix_fields = ask->node_id ? 2 : 1,
                              .after = ask->after ? &start : NULL,
                              .limit = 1};
    *out = NULL;
    for (;;) {
        struct row_list list;
        if (!row_list(txn, &row_instance_type, &query, &list, err)) {
            return false;
        }
        if (list.count == 0) {
            return true;
        }
        const struct row_instance *found = list.rows[0];
        if (!found->terminated_at && !str_empty(found->node_id) &&
            !str_eq(found->id, ask->but)) {
            *out = found;
            return true;
        }
        start = *found; /* Visible for a while, but not there any more. */
        query.after = &start;
    }
}

bool
instance_volumes(struct txn *txn, const char *account, const char *instance_id,
                 struct row_list *out, struct err *err)
{
    const struct row_volume prefix = {.account = account, .instance_id = instance_id};
    const struct row_query query = {
        .index = "by_instance", .prefix = &prefix, .prefix_fields = 2};
    return row_list(txn, &row_volume_type, &query, out, err);
}

static bool
release_volumes(struct txn *txn, const struct row_instance *inst, struct err *err)
{
    struct row_list list;
    if (!instance_volumes(txn, inst->account, inst->id, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        struct row_volume next = *(const struct row_volume *)list.rows[i];
        if (next.want_deleted) {
            continue;
        }
        next.generation++;
        next.want_deleted = next.delete_on_termination;
        if (!next.want_deleted) {
            next.instance_id = next.device = NULL;
            next.attached_at = 0;
        }
        if (!row_put(txn, &row_volume_type, &next, err)) {
            return false;
        }
    }
    return true;
}

bool
instance_mark_terminated(struct txn *txn, const struct row_instance *inst,
                         int64_t now_ns, const struct row_instance **out,
                         struct err *err)
{
    if (!str_eq(inst->want_state, "terminated") || inst->terminated_at) {
        return same(inst, out);
    }
    const struct row_instance *now = inst;
    if (!instance_unclaim(txn, inst, &now, err) || !release_enis(txn, now, err) ||
        !release_volumes(txn, now, err)) {
        return false;
    }
    const struct row_placement_member member = {.account = now->account,
                                                .group_id = now->placement_group_id,
                                                .instance_id = now->id};
    if (!str_empty(now->placement_group_id) &&
        !row_delete(txn, &row_placement_member_type, &member, err)) {
        return false;
    }
    const struct usage one_less = {.instances = -1};
    if (!account_usage_add(txn, now->account, now->region, &one_less, err)) {
        return false;
    }
    struct row_instance next = *now;
    next.terminated_at = now_ns;
    next.observed_state = "terminated";
    return put_instance(txn, &next, out, err);
}

bool
volume_mark_deleted(struct txn *txn, const struct row_volume *volume, struct err *err)
{
    const struct claim claim = {.disk_bytes = -volume->size_gib * (int64_t)GIB};
    const struct usage usage = {.disk_gib = -volume->size_gib};
    return node_claim_add(txn, volume->node_id, &claim, err) &&
           account_usage_add(txn, volume->account, volume->region, &usage, err) &&
           resource_tags_drop(txn, volume->account, volume->region, volume->id, err) &&
           row_delete(txn, &row_volume_type, volume, err);
}

bool
instance_hide(struct txn *txn, const struct row_instance *inst, struct err *err)
{
    const struct row_machine_seen seen = {.id = inst->id};
    return resource_tags_drop(txn, inst->account, inst->region, inst->id, err) &&
           instance_events_drop(txn, inst->account, inst->id, err) &&
           row_delete(txn, &row_machine_seen_type, &seen, err) &&
           row_delete(txn, &row_instance_type, inst, err);
}

bool
instance_is_copied(struct txn *txn, const struct row_instance *inst, bool *out,
                   struct err *err)
{
    const struct row_image prefix = {.account = inst->account};
    const struct row_query query = {
        .index = "by_account", .prefix = &prefix, .prefix_fields = 1};
    struct row_list list;
    *out = false;
    if (!row_list(txn, &row_image_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_image *image = list.rows[i];
        *out |=
            str_eq(image->source_instance, inst->id) && str_eq(image->state, "pending");
    }
    return true;
}

/* ---- names ---- */

const char *
instance_hostname(struct arena *arena, const struct row_instance *inst)
{
    char host[HOSTNAME_LEN] = "";
    uint32_t ip;
    if (str_eq(inst->hostname_type, "resource-name")) {
        return inst->id;
    }
    if (ipv4_parse(inst->private_ip, &ip)) {
        hostname_of(ip, host);
    }
    return arena_strdup(arena, host);
}

const char *
instance_private_name(struct arena *arena, const struct row_instance *inst)
{
    char domain[96];
    private_domain(inst->region, domain, sizeof domain);
    return arena_printf(arena, "%s.%s", instance_hostname(arena, inst), domain);
}
