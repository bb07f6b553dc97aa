/* instances_state.c - Start-, Stop-, Reboot- and TerminateInstances; how one starts is in
 * instances_start.c.
 *
 * Each checks every named instance before it changes one, and changes only what is
 * wanted: nodes and controllers do the rest. */
#include <time.h>

#include "core/instance_rows.h"
#include "service/ec2/instances.h"

/* One of the calls: what it does to an instance, when it may. */
struct state_change {
    enum instance_action action;
    bool force; /* StopInstances */
};

/* "User initiated (2026-01-31 10:11:12 GMT)", AWS's form. */
static const char *
by_user(struct call *call)
{
    time_t s = (time_t)(call->now_ns / NS_PER_S);
    struct tm tm;
    char text[32];
    gmtime_r(&s, &tm);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
    return arena_printf(call->arena, "User initiated (%s GMT)", text);
}

static bool
err_state(struct err *err, const struct row_instance *inst, enum instance_state state,
          enum instance_action action)
{
    if (action == ACTION_START) {
        return err_set(
            err, ERR_INSTANCE_STATE,
            "The instance '%s' is not in a state from which it can be started.",
            inst->id);
    }
    if (action == ACTION_STOP && state == INSTANCE_PENDING) {
        return err_set(err, ERR_INSTANCE_STATE,
                       "Instance '%s' cannot be stopped as it has never reached the "
                       "'running' state.",
                       inst->id);
    }
    return err_set(err, ERR_INSTANCE_STATE,
                   "This instance '%s' is not in a state from which it can be %s.",
                   inst->id, action == ACTION_STOP ? "stopped" : "rebooted");
}

static bool
check_protection(const struct row_instance *inst, enum instance_action action,
                 struct err *err)
{
    if (action == ACTION_TERMINATE && inst->disable_api_termination) {
        return err_set(err, ERR_OPERATION_NOT_PERMITTED,
                       "The instance '%s' may not be terminated. Modify its "
                       "'disableApiTermination' instance attribute and try again.",
                       inst->id);
    }
    if (action == ACTION_STOP && inst->disable_api_stop) {
        return err_set(err, ERR_OPERATION_NOT_PERMITTED,
                       "The instance '%s' may not be stopped. Modify its "
                       "'disableApiStop' instance attribute and try again.",
                       inst->id);
    }
    return true;
}

static bool
change_one(struct call *call, const struct row_instance *inst,
           const struct state_change *change, struct err *err)
{
    struct instance_want want = {
        .state = change->action == ACTION_STOP ? "stopped" : "terminated",
        .hard = change->force,
        .reason_code = "Client.UserInitiatedShutdown",
        .reason_text = "Client.UserInitiatedShutdown: User initiated shutdown",
        .transition_reason = by_user(call),
    };
    if (change->action == ACTION_START) {
        return instance_start(call, inst, err);
    }
    if (change->action == ACTION_REBOOT) {
        struct row_instance next = *inst;
        next.reboot_count++;
        next.generation++;
        next.stop_hard = false; /* The guest is asked. */
        return row_put(call->txn, &row_instance_type, &next, err);
    }
    return instance_want(call->txn, inst, &want, call->now_ns, NULL, err);
}

/* What the instance's state is as soon as it is wanted so. */
static enum instance_state
state_after(enum instance_action action, enum action_verdict verdict,
            enum instance_state before)
{
    if (verdict == VERDICT_NOTHING || action == ACTION_REBOOT) {
        return before;
    }
    return action == ACTION_START  ? INSTANCE_PENDING
           : action == ACTION_STOP ? INSTANCE_STOPPING
                                   : INSTANCE_SHUTTING_DOWN;
}

/* All of them or none: a failure rolls the transaction back. Fills 'out' (NULL: not
 * asked for) with one entry an instance. */
static bool
change_all(struct call *call, const char *const *ids, size_t count, bool dry_run,
           const struct state_change *change, struct ec2_instance_state_change **out,
           size_t *out_count, struct err *err)
{
    struct instance_views views;
    if (!instance_views_load(call, ids, count, 0, &views, err)) {
        return false;
    }
    for (size_t i = 0; i < views.count; i++) {
        const struct instance_view *v = &views.items[i];
        if (instance_may(v->state, change->action) == VERDICT_REFUSE) {
            return err_state(err, v->inst, v->state, change->action);
        }
        if (!check_protection(v->inst, change->action, err)) {
            return false;
        }
    }
    if (!dry_run_check(dry_run, err)) {
        return false;
    }
    struct ec2_instance_state_change *items =
        ARENA_ARRAY(call->arena, views.count, struct ec2_instance_state_change);
    for (size_t i = 0; i < views.count; i++) {
        const struct instance_view *v = &views.items[i];
        enum action_verdict verdict = instance_may(v->state, change->action);
        /* Forcing an instance that is stopping already makes its stop a hard one. */
        bool act =
            verdict == VERDICT_DO || (change->force && v->state == INSTANCE_STOPPING);
        if (act && !change_one(call, v->inst, change, err)) {
            return false;
        }
        items[i].instance_id = v->inst->id;
        items[i].previous_state = instance_state_out(call, v->state);
        items[i].current_state =
            instance_state_out(call, state_after(change->action, verdict, v->state));
    }
    if (out) {
        *out = items;
        *out_count = views.count;
    }
    return true;
}

bool
ec2_start_instances(struct call *call, const struct ec2_start_instances_request *in,
                    struct ec2_start_instances_result *out, struct err *err)
{
    const struct state_change change = {.action = ACTION_START};
    return change_all(call, in->instance_ids.items, in->instance_ids.count,
                      in->has_dry_run && in->dry_run, &change,
                      &out->starting_instances.items, &out->starting_instances.count,
                      err);
}

bool
ec2_stop_instances(struct call *call, const struct ec2_stop_instances_request *in,
                   struct ec2_stop_instances_result *out, struct err *err)
{
    const struct state_change change = {.action = ACTION_STOP,
                                        .force = in->has_force && in->force};
    if (in->has_hibernate && in->hibernate && in->instance_ids.count) {
        return err_set(err, ERR_HIBERNATION,
                       "The instance '%s' is not configured for hibernation.",
                       in->instance_ids.items[0]);
    }
    return change_all(call, in->instance_ids.items, in->instance_ids.count,
                      in->has_dry_run && in->dry_run, &change,
                      &out->stopping_instances.items, &out->stopping_instances.count,
                      err);
}

bool
ec2_reboot_instances(struct call *call, const struct ec2_reboot_instances_request *in,
                     struct err *err)
{
    const struct state_change change = {.action = ACTION_REBOOT};
    return change_all(call, in->instance_ids.items, in->instance_ids.count,
                      in->has_dry_run && in->dry_run, &change, NULL, NULL, err);
}

bool
ec2_terminate_instances(struct call *call,
                        const struct ec2_terminate_instances_request *in,
                        struct ec2_terminate_instances_result *out, struct err *err)
{
    const struct state_change change = {.action = ACTION_TERMINATE};
    return change_all(call, in->instance_ids.items, in->instance_ids.count,
                      in->has_dry_run && in->dry_run, &change,
                      &out->terminating_instances.items,
                      &out->terminating_instances.count, err);
}
