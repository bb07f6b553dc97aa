/* nat_home.h - a NAT gateway is at home on one node; others send to it there.
 *
 * Purpose:  its public address is one host's to answer for. Each of the other nodes has a
 *           VXLAN device of the gateway's own number in the VPC's namespace, and routes to the
 *           gateway through it; at home, what comes by that device is routed out as what comes
 *           from here. Answers go from home to the guest's node in the guest's subnet.
 * Place:    part of net/; gateway.c decides when.
 * Fallback: without a number, a home or an underlay here, each node does it by itself, which is
 *           as good where addresses behind the gateway are the node's own.
 * Threads:  those of 'struct links'. Each call is idempotent. */
#pragma once
#include "link/link.h"
#include "node/net/net_parts.h"

struct nat_home {
    uint32_t node; /* Underlay address; 0: every node's own affair. */
    uint32_t vni;
    uint32_t table;      /* Of routes, for what comes by the device. */
    char link[IFNAMSIZ]; /* "mn" and 12 hex digits. */
    uint8_t mac[6];      /* Of the device at home. */
    int index;           /* 0: no device here. */
};

MUST_CHECK bool nat_home_read(const struct net *net,
                              const struct link_nat_gateway *want, struct nat_home *out,
                              struct err *err);
bool nat_home_is_elsewhere(const struct net *net, const struct nat_home *home);
/* The device, and what belongs to it here. 'hop' is the gateway's next hop, and 'way' the
 * link to the outside. */
MUST_CHECK bool nat_home_make(struct net *net, struct network *network,
                              struct nat_home *home, uint32_t hop, int way,
                              struct err *err);
MUST_CHECK bool nat_home_drop(struct network *network, const struct nat_home *home,
                              struct err *err);
