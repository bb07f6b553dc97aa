#include "service/ec2/placement_load.h"

#include "core/config.h"
#include "link/overhead.h"
#include "store/rows.h"

static bool
node_fill(struct call *call, const struct row_node *node, struct placement_node *out,
          struct err *err)
{
    const struct row_node_seen seen_key = {.id = node->id};
    const struct row_node_claim claim_key = {.id = node->id};
    const void *seen, *claim;
    if (!row_get(call->txn, &row_node_seen_type, &seen_key, &seen, err) ||
        !row_get(call->txn, &row_node_claim_type, &claim_key, &claim, err)) {
        return false;
    }
    *out = (struct placement_node){.node = node, .seen = seen};
    if (claim) {
        const struct row_node_claim *c = claim;
        out->claimed = (struct claim){.vcpus = c->vcpus,
                                      .memory_bytes = c->memory_bytes,
                                      .disk_bytes = c->disk_bytes,
                                      .machines = c->machines};
    }
    return true;
}

bool
placement_nodes_load(struct call *call, const char *region, const char *only_node,
                     struct placement_nodes *out, struct err *err)
{
    const struct row_node prefix = {.region = region, .id = only_node};
    const struct row_query query = {
        .index = "by_zone", .prefix = &prefix, .prefix_fields = 1};
    struct row_list list = {0};
    const void *one = NULL;
    if (only_node) {
        if (!row_get(call->txn, &row_node_type, &prefix, &one, err)) {
            return false;
        }
        list = (struct row_list){&one, one ? 1 : 0};
    } else if (!row_list(call->txn, &row_node_type, &query, &list, err)) {
        return false;
    }
    *out = (struct placement_nodes){
        .items = ARENA_ARRAY(call->arena, list.count, struct placement_node),
        .count = list.count,
        .rules = {.cpu_overcommit = call->config->cpu_overcommit,
                  .memory_overcommit = call->config->memory_overcommit},
    };
    for (size_t i = 0; i < list.count; i++) {
        if (!node_fill(call, list.rows[i], &out->items[i], err)) {
            return false;
        }
    }
    return true;
}

void
placement_ask_machine(struct call *call, int64_t vcpus, int64_t memory_bytes,
                      struct placement_ask *ask)
{
    int64_t set = call->config->emulator_overhead_bytes;
    ask->claim.vcpus = vcpus;
    ask->claim.memory_bytes = memory_bytes;
    ask->claim.machines = 1;
    ask->overhead_kvm_bytes = set ? set : overhead_bytes(true, memory_bytes, vcpus);
    ask->overhead_emulated_bytes =
        set ? set : overhead_bytes(false, memory_bytes, vcpus);
}

bool
err_capacity(struct err *err, const char *type, const char *zone)
{
    if (!zone) {
        return err_set(
            err, ERR_INSTANCE_CAPACITY,
            "We currently do not have sufficient %s capacity in the Region. "
            "Try again later, ask for fewer instances, or for a smaller type.",
            type);
    }
    return err_set(
        err, ERR_INSTANCE_CAPACITY,
        "We currently do not have sufficient %s capacity in the Availability "
        "Zone you requested (%s). Try again later, ask for fewer instances, or "
        "for a smaller type.",
        type, zone);
}
