/* lifecycle.h - EC2's state of an instance, derived from what is wanted and what was
 * seen.
 *
 * Purpose:  the one place that says which state an instance is in and what may be asked
 *           of it there. The state itself is never stored.
 * Place:    core/; pure, over rows.
 * Rule:     want running: pending until seen running for this want, then running, until
 *           the want changes (a reboot or a restarted crash stays running); want
 *           stopped: stopping until seen stopped or absent for this want; want
 *           terminated: shutting-down until terminated_at is set. "For this want": the
 *           node's report names at least row_instance.want_generation, or the
 *           controllers noted it in observed_state.
 * Threads:  any. */
#pragma once
#include "base/base.h"
#include "store/rows.h"

/* AWS's own numbers. */
enum instance_state {
    INSTANCE_PENDING = 0,
    INSTANCE_RUNNING = 16,
    INSTANCE_SHUTTING_DOWN = 32,
    INSTANCE_TERMINATED = 48,
    INSTANCE_STOPPING = 64,
    INSTANCE_STOPPED = 80,
};

enum instance_action {
    ACTION_START,
    ACTION_STOP,
    ACTION_REBOOT,
    ACTION_TERMINATE,
    ACTION_MODIFY, /* What AWS allows on stopped instances only. */
};

enum action_verdict {
    VERDICT_DO,
    VERDICT_NOTHING, /* Already so: answer success and change nothing. */
    VERDICT_REFUSE,  /* IncorrectInstanceState. */
};

/* How long what has ended stays visible: an instance, a dedicated host, a peering that was
 * deleted or rejected, and one that nobody accepted in time. */
#define INSTANCE_VISIBLE_NS (3600 * NS_PER_S)
#define HOST_VISIBLE_NS (3600 * NS_PER_S)
#define PEERING_VISIBLE_NS (2 * 3600 * NS_PER_S)
#define PEERING_EXPIRED_VISIBLE_NS (48 * 3600 * NS_PER_S)

/* 'seen' may be NULL: no node has spoken of it. */
enum instance_state instance_state_of(const struct row_instance *inst,
                                      const struct row_machine_seen *seen);
/* Whether instance_state_of() needs 'seen' to answer: a reader may spare the lookup. */
bool instance_state_needs_seen(const struct row_instance *inst);
const char *instance_state_name(enum instance_state state); /* "shutting-down" */
enum action_verdict instance_may(enum instance_state state,
                                 enum instance_action action);
/* Whether the Describe calls still show it. */
bool instance_visible(const struct row_instance *inst, int64_t now_ns);
