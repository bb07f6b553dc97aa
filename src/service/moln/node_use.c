/* node_use.c - what a node's machines used in the last minute, and what it suffered. */
#include "service/moln/operators.h"

static struct moln_machine_use
machine_out(const struct row_machine_use *m)
{
    return (struct moln_machine_use){
        .instance_id = m->id,
        HAS(busy_milli, m->busy_milli),
        HAS(ready_permille, m->ready_permille),
        HAS(memory_bytes, m->memory_bytes),
        HAS(balloon_bytes, m->balloon_bytes),
        HAS(credit_balance_milli, m->credits_milli),
        HAS(credit_usage_milli, m->used_milli),
        HAS(surplus_credit_balance_milli, m->surplus_milli),
        HAS(surplus_credits_charged_milli, m->charged_milli),
        HAS(held, m->held),
    };
}

bool
moln_describe_node_use(struct call *call,
                       const struct moln_describe_node_use_request *in,
                       struct moln_describe_node_use_response *out, struct err *err)
{
    const struct row_node node = {.id = in->node_id};
    const struct row_node_use key = {.id = in->node_id};
    const void *there;
    const struct row_node_use *use;
    if (!row_get(call->txn, &row_node_type, &node, &there, err) ||
        !row_get(call->txn, &row_node_use_type, &key, (const void **)&use, err)) {
        return false;
    }
    if (!there) {
        return err_no(err, "node", in->node_id);
    }
    out->node_id = in->node_id;
    if (!use) {
        return true;
    }
    struct moln_machine_use *items =
        ARENA_ARRAY(call->arena, use->machines.count, struct moln_machine_use);
    for (size_t i = 0; i < use->machines.count; i++) {
        items[i] = machine_out(&use->machines.items[i]);
    }
    *out = (struct moln_describe_node_use_response){
        .node_id = in->node_id,
        HAS_TIME(at, use->at),
        HAS(busy_milli, use->busy_milli),
        HAS(promised_vcpus, use->promised_vcpus),
        HAS(ready_permille, use->ready_permille),
        HAS(memory_some_bp, use->memory_some_bp),
        HAS(memory_full_bp, use->memory_full_bp),
        .relief = use->relief,
        HAS(crowded, use->crowded),
        .machines = {items, use->machines.count},
    };
    return true;
}
