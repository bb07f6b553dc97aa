/* placement.c - ExplainPlacement: where a machine would go, or why nowhere. */
#include "core/pool.h"
#include "service/ec2/placement_load.h"
#include "service/moln/operators.h"

static bool
read_ask(struct call *call, const struct moln_explain_placement_request *in,
         struct placement_ask *out, struct err *err)
{
    const struct instance_type *type = config_type(call->config, in->instance_type);
    if (!type) {
        return err_no(err, "instance type", in->instance_type);
    }
    if (in->zone && !config_zone(call->config, in->zone)) {
        return err_no(err, "zone", in->zone);
    }
    *out = (struct placement_ask){
        .region = call->region,
        .zone = in->zone,
        .account = in->account_id,
        .tenancy =
            str_eq(in->tenancy, "dedicated") ? PLACEMENT_DEDICATED : PLACEMENT_DEFAULT,
    };
    places_ask_type(call->config, type, out);
    placement_ask_machine(call, type->vcpus, type->memory_bytes, out);
    return true;
}

bool
moln_explain_placement(struct call *call,
                       const struct moln_explain_placement_request *in,
                       struct moln_explain_placement_response *out, struct err *err)
{
    struct placement_ask ask;
    size_t want = in->has_count ? (size_t)in->count : 1;
    struct pool_pick *picks = ARENA_ARRAY(call->arena, want, struct pool_pick);
    const char **nodes = ARENA_ARRAY(call->arena, want, const char *);
    size_t placed;
    AUTO(buf) struct buf reasons = {0};
    if (!read_ask(call, in, &ask, err) ||
        !pool_place(call->pool, call->txn, call->config, &ask, false, want, picks,
                    &placed, err) ||
        !pool_explain(call->pool, call->txn, call->config, &ask,
                      placed < want ? placed : 0, &reasons, err)) {
        return false;
    }
    for (size_t i = 0; i < placed; i++) {
        nodes[i] = picks[i].node_id;
    }
    *out = (struct moln_explain_placement_response){
        HAS(placed, (int64_t)placed),
        .node_ids = {nodes, placed},
        .reasons = arena_strdup(call->arena, buf_str(&reasons)),
    };
    return true;
}
