/* hosts.h - dedicated hosts, as the handlers of their file's two halves share them.
 *
 * Place:    service/ec2. A dedicated host is a node that one account has alone, from
 *           AllocateHosts to ReleaseHosts; node_claim says so to placement.
 * Memory:   the call's arena. */
#pragma once
#include "service/ec2/network.h"

/* The account's instances that run on a host, or will on no other. */
MUST_CHECK bool host_instances(struct call *call, const struct row_dedicated_host *host,
                               struct row_list *out, struct err *err);
