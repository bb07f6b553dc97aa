/* instance_events.h - scheduled events: what an operator's work will do to an instance.
 *
 * Purpose:  the rows behind DescribeInstanceStatus' events. Whoever plans work on a host
 *           (a drain, a retirement) puts one on each instance there, and ends it when the
 *           work is done or called off.
 * Place:    core/, over the caller's transaction; all calls are idempotent.
 * Threads:  the transaction's. */
#pragma once
#include "base/world.h"
#include "store/rows.h"
#include "store/store.h"

#define INSTANCE_EVENT_VISIBLE_NS (7 * 86400 * NS_PER_S)

/* AWS's words for what will happen. */
#define INSTANCE_EVENT_MAINTENANCE "system-maintenance"
#define INSTANCE_EVENT_RETIREMENT "instance-retirement"

struct instance_event {
    const char *code;              /* One of those above. */
    const char *description;       /* "The instance is moved to another host." */
    int64_t not_before, not_after; /* 'not_after' 0: unsaid. */
    int64_t not_before_deadline;   /* Its owner may put it off till then; 0: not. */
};

/* Schedules the event; one of the same code that stands already is changed to it. */
MUST_CHECK bool instance_event_put(struct txn *txn, const struct rng *rng,
                                   const struct row_instance *inst,
                                   const struct instance_event *event, struct err *err);
/* What the drain of 'node' does to each running instance there, and when. */
struct instance_event instance_event_of_drain(const struct row_node *node,
                                              int64_t now_ns);
/* Schedules that, unless it stands already: its owner may have put it off since. */
MUST_CHECK bool instance_event_drain(struct txn *txn, const struct rng *rng,
                                     const struct row_instance *inst,
                                     const struct row_node *node, int64_t now_ns,
                                     struct err *err);
/* The event of 'code' that stands; '*out' NULL: none does. */
MUST_CHECK bool instance_event_standing(struct txn *txn,
                                        const struct row_instance *inst,
                                        const char *code,
                                        const struct row_instance_event **out,
                                        struct err *err);
/* Ends what stands of that code, done or 'canceled'; there being none is success. */
MUST_CHECK bool instance_event_end(struct txn *txn, const char *account,
                                   const char *instance_id, const char *code,
                                   bool canceled, int64_t now_ns, struct err *err);
/* All of an instance; rows of struct row_instance_event. */
MUST_CHECK bool instance_events_of(struct txn *txn, const char *account,
                                   const char *instance_id, struct row_list *out,
                                   struct err *err);
bool instance_event_visible(const struct row_instance_event *event, int64_t now_ns);
/* Removes them all: the instance is gone. */
MUST_CHECK bool instance_events_drop(struct txn *txn, const char *account,
                                     const char *instance_id, struct err *err);
