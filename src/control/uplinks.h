/* uplinks.h - which uplinks a node is to have.
 *
 * Purpose:  turns the operators' uplinks into records of nodes. A node's own comes before its
 *           zone's. What nodes say of them is kept, and a refusal told as an event.
 * Place:    control/, inside a caller's transaction.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"
#include "link/link.h"

/* 'id': a node; NULL, empty or "-": every one. */
MUST_CHECK bool uplinks_pass(const struct pass *pass, const char *account,
                             const char *id, struct err *err);
/* 'want' is the record that the node answers. */
MUST_CHECK bool uplink_report(const struct pass *pass, const struct row_node_want *want,
                              const struct link_network_seen *seen,
                              const char *event_id, struct err *err);
