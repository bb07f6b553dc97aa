/* instance_placement.c - ModifyInstancePlacement: where a stopped instance starts next.
 *
 * What is asked for is noted, and holds when the instance starts. Its disk is where it is:
 * a start that the new terms do not allow there is refused for lack of capacity. */
#include "core/lifecycle.h"
#include "service/ec2/network.h"
#include "service/ec2/placement_load.h"

static bool
check_stopped(struct call *call, const struct row_instance *inst, struct err *err)
{
    int state;
    if (!instance_state_load(call, inst, &state, err)) {
        return false;
    }
    return state == INSTANCE_STOPPED ||
           err_set(err, ERR_INSTANCE_STATE,
                   "The instance '%s' is not in the 'stopped' state.", inst->id);
}

/* Between dedicated and host only, as on AWS. */
static bool
check_tenancy(const struct row_instance *inst, const char *wanted, struct err *err)
{
    bool shared = str_empty(inst->tenancy) || str_eq(inst->tenancy, "default");
    if (str_empty(wanted) || str_eq(wanted, inst->tenancy)) {
        return true;
    }
    return !shared || err_set(err, ERR_TENANCY,
                              "The tenancy of instance '%s' is default, and may not be "
                              "changed.",
                              inst->id);
}

/* The request over what the instance has; an empty group name takes it out of its group. */
static struct ec2_placement
merged(const struct row_instance *inst,
       const struct ec2_modify_instance_placement_request *in)
{
    struct ec2_placement out = {
        .group_name = in->group_name,
        .group_id = in->group_id,
        .tenancy = str_empty(in->tenancy) ? inst->tenancy : in->tenancy,
        .host_id = str_empty(in->host_id) ? inst->host_id : in->host_id,
        .affinity = str_empty(in->affinity) ? inst->affinity : in->affinity,
        .host_resource_group_arn = in->host_resource_group_arn,
    };
    bool kept = !in->group_name && str_empty(in->group_id);
    if (kept) {
        out.group_id = inst->placement_group_id;
    }
    out.has_partition_number =
        in->has_partition_number || (kept && inst->partition > 0);
    out.partition_number =
        in->has_partition_number ? in->partition_number : inst->partition;
    if (!str_eq(out.tenancy, "host")) {
        out.host_id = out.affinity = NULL;
    }
    return out;
}

static bool
regroup(struct call *call, const struct row_instance *old,
        const struct row_instance *next, struct err *err)
{
    const struct row_placement_member before = {.account = old->account,
                                                .group_id = old->placement_group_id,
                                                .instance_id = old->id};
    const struct row_placement_member after = {.account = next->account,
                                               .group_id = next->placement_group_id,
                                               .instance_id = next->id};
    if (str_eq(before.group_id, after.group_id)) {
        return true;
    }
    return (str_empty(before.group_id) ||
            row_delete(call->txn, &row_placement_member_type, &before, err)) &&
           (str_empty(after.group_id) ||
            row_put(call->txn, &row_placement_member_type, &after, err));
}

bool
ec2_modify_instance_placement(struct call *call,
                              const struct ec2_modify_instance_placement_request *in,
                              struct ec2_modify_instance_placement_result *out,
                              struct err *err)
{
    const struct row_instance *inst;
    struct place_terms terms;
    if (!instance_find(call, in->instance_id, &inst, err) ||
        !check_tenancy(inst, in->tenancy, err)) {
        return false;
    }
    const struct ec2_placement wanted = merged(inst, in);
    if (!place_terms_read(call, &wanted, inst->vpc_id, &terms, err) ||
        !check_stopped(call, inst, err)) {
        return false;
    }
    struct row_instance next = *inst;
    next.placement_group_id = terms.group ? terms.group->id : NULL;
    next.placement_group = terms.group ? terms.group->name : NULL;
    next.partition = terms.partition;
    next.tenancy = terms.tenancy;
    next.host_id = terms.host_id;
    next.affinity = terms.affinity;
    out->return_ = true;
    out->has_return_ = true;
    return regroup(call, inst, &next, err) &&
           row_put(call->txn, &row_instance_type, &next, err);
}
