/* use_report.h - what a node's machines used, brought into rows.
 *
 * Purpose:  the last minute's word of a node (node_use), whether it is fit to take
 *           machines (node_seen.unfit, which placement heeds), and, where it is crowded,
 *           the migration of one guest away.
 * Place:    control/, inside a caller's transaction.
 * Input:    a stranger's word: machines that are not wanted of the node are left out,
 *           numbers bounded.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"
#include "link/link.h"

MUST_CHECK bool use_report(const struct pass *pass, const char *node_id,
                           const struct link_meter *r, struct err *err);
