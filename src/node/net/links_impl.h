/* links_impl.h - what the files over libnl-route share: links.c, routes.c, overlay.c,
 * shape.c. Not for others: they include those files' headers. */
#pragma once
#include "node/net/links.h"
#include <netlink/addr.h>
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/neighbour.h>

struct links {
    struct nl_sock *sock;
};

AUTO_DEFINE(rtlink, struct rtnl_link *, rtnl_link_put)
AUTO_DEFINE(rtaddr, struct rtnl_addr *, rtnl_addr_put)
AUTO_DEFINE(rtneigh, struct rtnl_neigh *, rtnl_neigh_put)
AUTO_DEFINE(nladdr, struct nl_addr *, nl_addr_put)
AUTO_DEFINE(nlcache, struct nl_cache *, nl_cache_put)

/* Says what failed, and why; false. */
bool links_fail(struct err *err, int rc, const char *what);
/* NULL: out of memory. */
struct nl_addr *links_addr4(uint32_t ipv4, int prefix);
struct nl_addr *links_addr6(const struct in6_addr *ipv6, int prefix);
/* Its IPv4 address; 0: it has another family's. */
uint32_t links_neighbour4(struct rtnl_neigh *neigh);
