/* outside.h - nodes that are each other's outside: which public addresses are on which.
 *
 * Purpose:  the nodes of a region that have an uplink of mode overlay are told of one another's
 *           own addresses, and of each interface and NAT gateway with public addresses that is
 *           at home on another of them.
 * Cost:     one record for each of those on each such node: for clouds without a provider's
 *           network, of some hundreds of hosts. On others, a look at the uplinks.
 * Place:    control/, inside a caller's transaction; uplinks.h decides who has such an uplink.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"

/* All of it, for every node. */
MUST_CHECK bool outside_pass(const struct pass *pass, struct err *err);
/* One interface came, moved, changed or went. */
MUST_CHECK bool outside_tell(const struct pass *pass, const char *account,
                             const char *eni_id, struct err *err);
