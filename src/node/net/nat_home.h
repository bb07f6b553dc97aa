/* nat_home.h - a NAT gateway is at home on one node; others send to it there.
 *
 * Purpose:  its public address is one host's to answer for. Each of the other nodes has a
 *           VXLAN device of the gateway's own number in the VPC's namespace, and routes to the
 *           gateway through it; at home, what comes by that device is routed out as what comes
 *           from here. Answers go from home to the guest's node in the guest's subnet.
 * Place:    part of net/; gateway.c decides when.
 * Lease:    where another node takes a lost one's place, the home begins to speak when this node
 *           has its lease, and says so on an uplink's network as long as that lives; it ends
 *           when it is told to, or hears another say so there. The rules' set 'homes' is the
 *           memory of it: it outlives the agent, and not the host.
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
    bool leased;
    bool speaks, looked; /* As the rules have it, since that was looked at. */
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
/* Lets it speak where it is at home and may, and nowhere else. */
MUST_CHECK bool nat_home_speak(struct net *net, struct network *network,
                               struct nat_home *home, uint32_t hop, struct err *err);
/* Lets it speak no more. */
MUST_CHECK bool nat_home_silence(struct network *network, struct nat_home *home,
                                 uint32_t hop, struct err *err);
/* On the network of an uplink of mode bridge: who speaks with a lease says so, and yields to
 * another who does. */
MUST_CHECK bool nat_home_answer(struct net *net, struct err *err);
MUST_CHECK bool nat_home_drop(struct network *network, const struct nat_home *home,
                              struct err *err);
