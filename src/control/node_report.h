/* node_report.h - what a node says of itself, brought into rows.
 *
 * Purpose:  its row of the moment (node_seen), what it is made of (node_hardware), and the
 *           judgement whether it still is the host that was accepted: another one in its
 *           place, or one that grew or shrank, is quarantined until an operator accepts
 *           it. What it reports beyond the operator's ceiling is noted and not used.
 * Place:    control/, inside a caller's transaction.
 * Input:    a stranger's word: numbers are bounded, texts checked.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"
#include "link/link.h"

MUST_CHECK bool node_report(const struct pass *pass, const char *node_id,
                            const struct link_node_seen *r, struct err *err);
