/* hostnet.h - this host's own IPv4 addresses: which interface has one, and what that means.
 *
 * Purpose:  an operator names the address at which hosts reach one another; a mistake there
 *           carries guests' traffic over a network that others see.
 * Place:    base/. Looks at the network namespace that it is called in.
 * Threads:  any; reads small files of the kernel. */
#pragma once
#include "base/base.h"
#include "base/err.h"

struct hostnet {
    char link[32];   /* The interface that has the address. */
    int mtu;         /* Bytes; 0: not known. */
    bool is_private; /* RFC 1918 or 6598: not routed between strangers. */
    bool is_way_out; /* A default route leaves by the interface. */
};

/* ERR_INVALID when it is no IPv4 address, ERR_NOT_FOUND when no interface has it. */
MUST_CHECK bool hostnet_find(const char *address, struct hostnet *out, struct err *err);
/* What speaks against hosts meeting at such an address, or NULL: a sentence for people. */
const char *hostnet_doubt(const struct hostnet *found);
