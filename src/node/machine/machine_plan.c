#include "node/machine/machine_plan.h"

bool
machine_is_rebooting(const struct machine_facts *f)
{
    return f->running && !f->deleted && !f->orphan && f->reboot_count > f->reboots_done;
}

static bool
wants_up(const struct machine_facts *f)
{
    return f->running && !f->deleted && !f->orphan &&
           f->halted_generation != f->generation;
}

/* QEMU was told to end, or is told now; it gets a moment, then it is killed. */
static enum machine_step
plan_quit(const struct machine_facts *f, int64_t now_ns, int64_t *out_wake_ns)
{
    if (f->quit_ns == 0) {
        return f->qmp_up ? MACHINE_QUIT : MACHINE_KILL;
    }
    if (now_ns >= f->quit_ns + MACHINE_QUIT_NS) {
        return MACHINE_KILL;
    }
    *out_wake_ns = f->quit_ns + MACHINE_QUIT_NS;
    return MACHINE_NOTHING;
}

static enum machine_step
plan_stop(const struct machine_facts *f, int64_t now_ns, int64_t *out_wake_ns)
{
    int64_t grace = f->grace_ns > 0 ? f->grace_ns : MACHINE_GRACE_NS;
    if (f->stop_hard || f->quit_ns != 0 ||
        (f->stop_began_ns != 0 && now_ns >= f->stop_began_ns + grace)) {
        return plan_quit(f, now_ns, out_wake_ns);
    }
    if (f->stop_began_ns == 0 ||
        (f->qmp_up && now_ns >= f->asked_ns + MACHINE_ASK_AGAIN_NS)) {
        return MACHINE_ASK;
    }
    *out_wake_ns = f->stop_began_ns + grace;
    if (f->qmp_up) {
        *out_wake_ns = MIN(*out_wake_ns, f->asked_ns + MACHINE_ASK_AGAIN_NS);
    }
    return MACHINE_NOTHING;
}

enum machine_step
machine_plan(const struct machine_facts *f, int64_t now_ns, int64_t *out_wake_ns)
{
    *out_wake_ns = INT64_MAX;
    switch (f->process) {
    case PROCESS_STARTING:
        return MACHINE_NOTHING;
    case PROCESS_HALTED:
    case PROCESS_PANICKED:
        return f->deleted ? MACHINE_KILL : plan_quit(f, now_ns, out_wake_ns);
    case PROCESS_UP:
        if (f->deleted) {
            return MACHINE_KILL;
        }
        if (f->arriving || f->given) { /* No guest that could be asked. */
            return f->power_off ? MACHINE_KILL : MACHINE_NOTHING;
        }
        /* A stop once begun is carried through: the guest has been told. */
        if (!wants_up(f) || machine_is_rebooting(f) || f->stop_began_ns != 0) {
            return plan_stop(f, now_ns, out_wake_ns);
        }
        return MACHINE_NOTHING;
    case PROCESS_NONE:
        break;
    }
    if (f->deleted || f->orphan) {
        return f->traces ? MACHINE_REMOVE : MACHINE_NOTHING;
    }
    if (!wants_up(f) || !f->inputs_ready || f->leaving || f->given ||
        (f->arriving && f->tried)) {
        return MACHINE_NOTHING;
    }
    if (now_ns < f->retry_at_ns) {
        *out_wake_ns = f->retry_at_ns;
        return MACHINE_NOTHING;
    }
    return MACHINE_START;
}

int64_t
machine_backoff_ns(int64_t failures)
{
    int64_t pause = NS_PER_S;
    for (int64_t i = 1; i < failures && pause < 60 * NS_PER_S; i++) {
        pause *= 2;
    }
    return failures == 0 ? 0 : MIN(pause, 60 * NS_PER_S);
}
