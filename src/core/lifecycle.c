#include "core/lifecycle.h"

bool
instance_state_needs_seen(const struct row_instance *inst)
{
    return !str_eq(inst->want_state, "terminated") &&
           !str_eq(inst->observed_state, inst->want_state);
}

/* Whether the node's word is about what is wanted now, not about what was before. */
static bool
answers(const struct row_machine_seen *seen, const struct row_instance *inst)
{
    return seen && seen->generation >= inst->want_generation;
}

enum instance_state
instance_state_of(const struct row_instance *inst, const struct row_machine_seen *seen)
{
    if (str_eq(inst->want_state, "terminated")) {
        return inst->terminated_at ? INSTANCE_TERMINATED : INSTANCE_SHUTTING_DOWN;
    }
    bool observed = str_eq(inst->observed_state, inst->want_state);
    if (str_eq(inst->want_state, "stopped")) {
        bool down = answers(seen, inst) &&
                    (str_eq(seen->state, "stopped") || str_eq(seen->state, "absent"));
        return observed || down ? INSTANCE_STOPPED : INSTANCE_STOPPING;
    }
    bool up = answers(seen, inst) && str_eq(seen->state, "running");
    return observed || up ? INSTANCE_RUNNING : INSTANCE_PENDING;
}

const char *
instance_state_name(enum instance_state state)
{
    switch (state) {
    case INSTANCE_PENDING:
        return "pending";
    case INSTANCE_RUNNING:
        return "running";
    case INSTANCE_SHUTTING_DOWN:
        return "shutting-down";
    case INSTANCE_TERMINATED:
        return "terminated";
    case INSTANCE_STOPPING:
        return "stopping";
    case INSTANCE_STOPPED:
        return "stopped";
    }
    return "pending";
}

/* One row a state: start, stop, reboot, terminate, modify. */
enum action_verdict
instance_may(enum instance_state state, enum instance_action action)
{
    enum { DO = VERDICT_DO, NO = VERDICT_NOTHING, BAD = VERDICT_REFUSE };
    static const uint8_t table[][5] = {
        [INSTANCE_PENDING >> 4] = {NO, BAD, DO, DO, BAD},
        [INSTANCE_RUNNING >> 4] = {NO, DO, DO, DO, BAD},
        [INSTANCE_SHUTTING_DOWN >> 4] = {BAD, BAD, BAD, NO, BAD},
        [INSTANCE_TERMINATED >> 4] = {BAD, BAD, BAD, NO, BAD},
        [INSTANCE_STOPPING >> 4] = {BAD, NO, BAD, DO, BAD},
        [INSTANCE_STOPPED >> 4] = {DO, NO, BAD, DO, DO},
    };
    return (enum action_verdict)table[(unsigned)state >> 4][action];
}

bool
instance_visible(const struct row_instance *inst, int64_t now_ns)
{
    return !inst->hidden && (inst->terminated_at == 0 ||
                             now_ns - inst->terminated_at < INSTANCE_VISIBLE_NS);
}
