/* recovery.h - instances that asked for recovery, when their node is lost.
 *
 * Purpose:  says which instances are leased (MaintenanceOptions.AutoRecovery, and a disk
 *           that can be had elsewhere), and starts a leased one elsewhere once its node's
 *           lease is declared lost (leases.h). Which can be had elsewhere, and how:
 *           core/elsewhere.h.
 * Place:    control/, inside the caller's transaction; parts of instance_pass.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"

/* Brings 'leased' in line with what is asked for; '*inst' becomes the changed row. Of a
 * machine that runs already, its node says when its process ends with the lease. */
MUST_CHECK bool recovery_settle(const struct pass *pass,
                                const struct row_instance **inst, struct err *err);
/* An instance that is to stop has stopped, though its node cannot say so, if that was lost
 * and nothing of it can run there; '*inst' becomes the changed row. */
MUST_CHECK bool recovery_stop(const struct pass *pass, const struct row_instance **inst,
                              struct err *err);
/* Moves the instance to another node if its own is lost and nothing of it can run there;
 * '*inst' becomes the changed row. No room elsewhere is success: it is tried again. */
MUST_CHECK bool recovery_move(const struct pass *pass, const struct row_instance **inst,
                              struct err *err);
/* Takes down, at once, what was wanted of the instance on the node that it was on before:
 * nothing of it runs there, and nothing will. The other nodes hear where its interfaces
 * are now. '*inst' becomes the changed row. */
MUST_CHECK bool recovery_leave(const struct pass *pass,
                               const struct row_instance **inst, struct err *err);
