/* shape.h - a port's bandwidth, both ways.
 *
 * Purpose:  to the guest, a token bucket on the tap; from the guest, what comes in by the tap
 *           is moved to an ifb of the port's own, which has a token bucket.
 * Threads:  those of 'struct links'. Each call is idempotent. */
#pragma once
#include "node/net/links.h"

/* Bits a second; 0: not shaped. 'ifb' is the name of the port's ifb. */
MUST_CHECK bool shape_port(struct links *links, int index, const char *ifb,
                           uint64_t to_guest_bps, uint64_t from_guest_bps,
                           struct err *err);
