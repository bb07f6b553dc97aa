/* console_output.c - GetConsoleOutput: the one thing that is read live from a node. */
#include "base/crypto.h"
#include "service/ec2/common.h"

static void
console_finish(struct arena *arena, void *out, const void *data, size_t len)
{
    struct ec2_get_console_output_result *result = out;
    if (data && len > 0) {
        result->output = base64_encode(arena, data, len);
    }
}

bool
ec2_get_console_output(struct call *call,
                       const struct ec2_get_console_output_request *in,
                       struct ec2_get_console_output_result *out, struct err *err)
{
    const struct row_instance *inst;
    if (!instance_find(call, in->instance_id, &inst, err) ||
        !dry_run_check(in->has_dry_run && in->dry_run, err)) {
        return false;
    }
    out->instance_id = inst->id;
    out->timestamp = call->now_ns;
    out->has_timestamp = true;
    if (str_empty(inst->node_id) || inst->terminated_at) {
        return true; /* Nobody has its console any more. */
    }
    call->live = ARENA_NEW(call->arena, struct live_ask);
    *call->live = (struct live_ask){.node_id = inst->node_id,
                                    .what = "console",
                                    .object = inst->id,
                                    .finish = console_finish};
    return true;
}
