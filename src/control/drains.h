/* drains.h - moves what is on a node away from it, a few at a time.
 *
 * Purpose:  a node that drains takes no new machines, and each instance there gets a migration
 *           to the best other node, as long as one takes it: what runs first, then what is
 *           stopped. What failed is tried
 *           again after a pause. A drained node stays so until it is uncordoned.
 * Place:    control/, inside the caller's transaction; above migrations.h.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"

/* One look at a node; one that does not drain is success. */
MUST_CHECK bool drain_pass(const struct pass *pass, const char *account, const char *id,
                           struct err *err);
/* Keeps true what the instance's owner is told: that it will be moved, while it runs on a
 * node that drains. It may have begun to run there since, or have left in another way. */
MUST_CHECK bool drain_tell(const struct pass *pass, const struct row_instance *inst,
                           struct err *err);
/* drain_pass of all that drain: time has passed. */
MUST_CHECK bool drains_look(const struct pass *pass, const char *account,
                            const char *id, struct err *err);
