/* maintenance.c - ModifyInstanceMaintenanceOptions: recovery when the host is lost.
 *
 * AWS recovers unless told not to; here an instance is recovered only when somebody asked
 * for it, since its disk lies on the host: control/recovery.h says what can be. */
#include "service/ec2/instances.h"

const char *
auto_recovery_out(const struct row_instance *inst)
{
    return inst->recover ? "default" : "disabled";
}

bool
ec2_modify_instance_maintenance_options(
    struct call *call, const struct ec2_modify_instance_maintenance_options_request *in,
    struct ec2_modify_instance_maintenance_options_result *out, struct err *err)
{
    const struct row_instance *inst;
    enum instance_state state;
    if (!instance_find_changeable(call, in->instance_id, &inst, &state, err) ||
        !dry_run_check(in->has_dry_run && in->dry_run, err)) {
        return false;
    }
    struct row_instance next = *inst;
    if (in->auto_recovery) {
        next.recover = str_eq(in->auto_recovery, "default");
    }
    out->instance_id = inst->id;
    out->auto_recovery = auto_recovery_out(&next);
    return row_put(call->txn, &row_instance_type, &next, err);
}
