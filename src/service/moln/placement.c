/* placement.c - ExplainPlacement: where a machine would go, or why nowhere. */
#include "core/placement_index.h"
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

/* What there is to say of a host, as it is now. */
static bool
tell_choice(struct call *call, const char *node_id, const struct placement_ask *ask,
            const char **out, struct err *err)
{
    const struct placement_rules rules = placement_rules_of(call->config);
    struct placement_rows rows;
    AUTO(buf) struct buf text = {0};
    if (!pool_rows(call->txn, node_id, &rows, err)) {
        return false;
    }
    if (rows.node) {
        const struct placement_host host = placement_host_of(&rows, &rules);
        placement_host_text(&host, ask, &text);
    }
    *out = arena_strdup(call->arena, buf_str(&text));
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
    const char **choices = ARENA_ARRAY(call->arena, want, const char *);
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
        if (!tell_choice(call, nodes[i], &ask, &choices[i], err)) {
            return false;
        }
    }
    *out = (struct moln_explain_placement_response){
        HAS(placed, (int64_t)placed),
        .node_ids = {nodes, placed},
        .choices = {choices, placed},
        .reasons = arena_strdup(call->arena, buf_str(&reasons)),
    };
    return true;
}
