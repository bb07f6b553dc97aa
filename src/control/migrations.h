/* migrations.h - follows a migration from its first want to its end.
 *
 * Purpose:  prepares the receiver, tells the giver where to go, makes the receiver the owner
 *           when the giver's guest stands still, and cleans up behind: on the giver when the
 *           guest runs at the receiver, on the receiver when it never came.
 * Rule:     a guest has one owner, the instance's node_id. It changes hands by one compare
 *           and set, before the giver may let go (order "switch"); back only on the word of
 *           both that the guest never ran at the receiver.
 * Place:    control/, inside the caller's transaction. The instance's own pass wants its
 *           machine, disks and ports on both nodes (instance_loop.h).
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"
#include "link/link.h"

/* One look at it; there being none is success. */
MUST_CHECK bool migration_pass(const struct pass *pass, const char *account,
                               const char *id, struct err *err);
/* The same of all that are open: time has passed. */
MUST_CHECK bool migrations_look(const struct pass *pass, const char *account,
                                const char *id, struct err *err);
/* What a node said of its side. */
MUST_CHECK bool migration_report(const struct pass *pass,
                                 const struct row_node_want *want,
                                 const struct link_migration_seen *seen,
                                 struct err *err);
/* Something that was being taken down on a node is gone: who waits for that has a look. */
MUST_CHECK bool migrations_of_node(const struct pass *pass, const char *node_id,
                                   struct err *err);
