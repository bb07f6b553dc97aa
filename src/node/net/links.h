/* links.h - links, addresses and neighbours in one namespace, over libnl-route.
 *
 * Purpose:  the few changes that a VPC needs, each idempotent.
 * Owner:    'struct links' holds one netlink socket, opened in the namespace of the thread
 *           that called links_open, or in one that is named; used from any one thread
 *           afterwards.
 * Failure:  err carries the kernel's reason. */
#pragma once
#include "base/base.h"
#include <netinet/in.h>

struct links;

MUST_CHECK struct links *links_open(struct err *err);
/* In that namespace, whichever the thread's is. */
MUST_CHECK struct links *links_open_in(int ns_fd, struct err *err);
void links_close(struct links *links);
AUTO_DEFINE(links, struct links *, links_close)

/* '*out_index' 0: there is none. */
MUST_CHECK bool links_find(struct links *links, const char *name, int *out_index,
                           struct err *err);
/* What an interface is; 'index' 0: there is none. */
struct links_view {
    int index, master; /* 'master' 0: part of no other. */
    int lower;         /* What it stands on; a pair: its other end, in its namespace. */
    char type[16];     /* "veth", "macvlan", ...; empty: a device. */
    uint8_t mac[6];
    bool up, loopback;
};
MUST_CHECK bool links_look(struct links *links, const char *name,
                           struct links_view *out, struct err *err);
/* A bridge with this MAC, up; its index. */
MUST_CHECK bool links_bridge(struct links *links, const char *name,
                             const uint8_t mac[6], int *out_index, struct err *err);
MUST_CHECK bool links_up(struct links *links, int index, struct err *err);
/* Up, with this MTU; and down. */
MUST_CHECK bool links_start(struct links *links, int index, int mtu, struct err *err);
MUST_CHECK bool links_stop(struct links *links, int index, struct err *err);
/* Makes an existing link a port of a bridge and sets it up, in one change. */
MUST_CHECK bool links_enslave(struct links *links, int index, int bridge, int mtu,
                              struct err *err);
MUST_CHECK bool links_address(struct links *links, int index, uint32_t ipv4, int prefix,
                              struct err *err);
MUST_CHECK bool links_drop_address(struct links *links, int index, uint32_t ipv4,
                                   int prefix, struct err *err);
/* Removes each IPv4 address of the link that has a prefix of 32 and for which 'unwanted' is
 * true. */
typedef bool links_address_fn(void *ctx, uint32_t ipv4);
MUST_CHECK bool links_drop_address_where(struct links *links, int index,
                                         links_address_fn *unwanted, void *ctx,
                                         struct err *err);
/* A permanent neighbour: the router never asks for it. */
MUST_CHECK bool links_neighbour(struct links *links, int index, uint32_t ipv4,
                                const uint8_t mac[6], struct err *err);
MUST_CHECK bool links_drop_neighbour(struct links *links, int index, uint32_t ipv4,
                                     struct err *err);
/* Usable at once, also on a link without carrier: nobody is asked whether he has it. */
MUST_CHECK bool links_address6(struct links *links, int index,
                               const struct in6_addr *ipv6, int prefix,
                               struct err *err);
MUST_CHECK bool links_neighbour6(struct links *links, int index,
                                 const struct in6_addr *ipv6, const uint8_t mac[6],
                                 struct err *err);
MUST_CHECK bool links_drop_neighbour6(struct links *links, int index,
                                      const struct in6_addr *ipv6, struct err *err);
/* Which port of its bridge a MAC is behind, so that it need not be learned. */
MUST_CHECK bool links_forward(struct links *links, int index, const uint8_t mac[6],
                              struct err *err);
MUST_CHECK bool links_drop_forward(struct links *links, int index, const uint8_t mac[6],
                                   struct err *err);
/* A bridge's port that learns nothing: its entries are the agent's. */
MUST_CHECK bool links_trust(struct links *links, int index, struct err *err);
/* The same for a port of one MAC: no frame for another, or for one that the bridge does not
 * know, comes to it. */
MUST_CHECK bool links_bind(struct links *links, int index, struct err *err);
/* A pair of links: 'name' with 'mac' (NULL: any) here, and 'peer' with 'peer_mac' in
 * another namespace. There already: success. */
MUST_CHECK bool links_veth(struct links *links, const char *name, const uint8_t *mac,
                           const char *peer, int peer_ns_fd, const uint8_t *peer_mac,
                           struct err *err);
/* A macvlan on 'lower', in another namespace; those of one interface see each other. There
 * already: success. */
MUST_CHECK bool links_macvlan(struct links *links, int lower, const char *name,
                              int ns_fd, const uint8_t mac[6], struct err *err);
/* The same as a macvtap: its frames are those of a character device (tap.h). */
MUST_CHECK bool links_macvtap(struct links *links, int lower, const char *name,
                              int ns_fd, const uint8_t mac[6], struct err *err);
/* None: success. */
MUST_CHECK bool links_drop(struct links *links, const char *name, struct err *err);
/* Removes each link for which 'unwanted' is true; never lo. */
typedef bool links_pick_fn(void *ctx, const char *name);
MUST_CHECK bool links_drop_where(struct links *links, links_pick_fn *unwanted,
                                 void *ctx, struct err *err);
/* Makes each bridge's port for which 'pick' is true so, where it is not; adds how many were
 * not to '*out_drift'. */
MUST_CHECK bool links_bind_where(struct links *links, links_pick_fn *pick, void *ctx,
                                 size_t *out_drift, struct err *err);
/* Sets each such link down, in place of removing it. */
MUST_CHECK bool links_down_where(struct links *links, links_pick_fn *unwanted,
                                 void *ctx, struct err *err);
MUST_CHECK bool links_up_where(struct links *links, links_pick_fn *pick, void *ctx,
                               struct err *err);
