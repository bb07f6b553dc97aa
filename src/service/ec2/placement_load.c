#include "service/ec2/placement_load.h"

#include "link/overhead.h"

void
place_want_fill(struct call *call, struct place_want *want)
{
    want->account = call->account;
    want->region = call->region;
    overhead_by_kind(call->config->emulator_overhead_bytes, want->memory_bytes,
                     want->vcpus, want->overhead_bytes);
}

void
placement_ask_machine(struct call *call, int64_t vcpus, int64_t memory_bytes,
                      struct placement_ask *ask)
{
    ask->claim.vcpus = vcpus;
    ask->claim.memory_bytes = memory_bytes;
    ask->claim.machines = 1;
    overhead_by_kind(call->config->emulator_overhead_bytes, memory_bytes, vcpus,
                     ask->overhead_bytes);
}

/* For operators; a reason that cannot be found out is no reason to answer otherwise. */
static void
explain(struct call *call, const struct placement_ask *ask, const char *type)
{
    AUTO(buf) struct buf text = {0};
    struct err ignored;
    err_clear(&ignored);
    buf_printf(&text, "%s: ", type);
    if (pool_may_explain(call->pool, call->now_ns) &&
        pool_explain(call->pool, call->txn, call->config, ask, 0, &text, &ignored)) {
        call->detail = arena_strdup(call->arena, buf_str(&text));
    }
}

bool
err_capacity(struct call *call, const struct placement_ask *ask, const char *type,
             const char *zone, struct err *err)
{
    explain(call, ask, type);
    if (ask->tenancy == PLACEMENT_HOST) {
        return err_set(
            err, ERR_HOST_FULL,
            "There is not enough capacity on the Dedicated Host%s%s to launch "
            "or start the instance.",
            ask->host_id ? " " : "", ask->host_id ? ask->host_id : "");
    }
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
