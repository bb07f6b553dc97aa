/* uplink.h - the interfaces of this host that lead to the world, as the operator named them.
 *
 * Purpose:  without one, nothing leaves the host. One uplink at a time carries what internet
 *           gateways and NAT gateways send: all of it goes through the namespace
 *           moln-CLOUDID-external, which gets one more link, and rules that pass nothing but
 *           the cloud's public addresses.
 *             nat     a pair of links to the agent's own namespace, where the interface's
 *                     address stands for all of them. Nobody outside can begin.
 *             bridge  a macvlan on the interface: public addresses are the provider's
 *                     network's, answered for there while a port or NAT gateway has them.
 *             overlay a VXLAN device between the external namespaces of the nodes that have
 *                     it: their public addresses meet, and nothing else is reached.
 *             none    nothing; an operator says so for one node of a zone.
 *           Besides, any number of mode passthrough: interfaces on which ports have cards of
 *           their own (passthrough.h); no gateway leads there.
 * Place:    part of net.h; in the agent's own namespace it touches nothing but what it made,
 *           and the forwarding setting of the named interface.
 * Refused:  an interface that is not there, is down, is loopback, a part of something else,
 *           one of ours, or the underlay's; without consent, the default route's.
 * Threads:  as net.h. Each call is idempotent. */
#pragma once
#include "base/buf.h"
#include "node/net/net_parts.h"

enum uplink_mode {
    UPLINK_NONE,
    UPLINK_NAT,
    UPLINK_BRIDGE,
    UPLINK_OVERLAY,
    UPLINK_PASSTHROUGH
};

struct uplink {
    char id[48];
    enum uplink_mode mode;
    char link[IFNAMSIZ];
    int index;        /* Of 'link'. */
    uint32_t vni;     /* overlay. */
    uint32_t address; /* bridge, overlay: the external namespace's own... */
    int prefix;
    uint32_t router;                   /* ...and the provider's router. */
    struct in6_addr address6, router6; /* bridge, as above... */
    int prefix6;                       /* ...0: without IPv6. */
    bool default_too;
    bool vfio;       /* passthrough: its cards are virtual functions. */
    bool unfiltered; /* passthrough: cards are bound to their MAC, and no more. */
};

#define UPLINK_LEG \
    "me" /* Names of the link in the external namespace begin with it... */
#define UPLINK_HOST "mh" /* ...and those of its other end, in the agent's. */

void uplink_open(struct net *net);
void uplink_close(struct net *net); /* Touches nothing in the kernel. */
MUST_CHECK bool uplink_want(struct net *net, const void *record, struct err *err);
MUST_CHECK bool uplink_drop(struct net *net, int kind, const char *id, struct err *err);
/* The one that internet gateways use; NULL: none. */
struct uplink *uplink_current(const struct net *net);
/* The public addresses have changed: rules, and who answers for them, follow. */
MUST_CHECK bool uplink_refresh(struct net *net, struct err *err);
/* Puts right what somebody changed; counts it. */
MUST_CHECK bool uplink_check(struct net *net, size_t *drift, struct err *err);
/* Whether the interface with this address is an uplink. */
bool uplink_is_at(const struct net *net, uint32_t ipv4, struct err *err);
/* Takes down whatever an uplink of this cloud left, known or not. */
MUST_CHECK bool uplink_sweep(struct net *net, struct err *err);

/* Each first takes away a link of that name which is another uplink's, of a former time.
 * uplink_nat.c: both ends, and the agent's namespace's rules. */
MUST_CHECK bool uplink_nat_make(struct net *net, const struct uplink *u,
                                struct err *err);
char *uplink_nat_rules(const struct net *net); /* As they stand; NULL: none. */
MUST_CHECK bool uplink_nat_drop(struct net *net, const char *link, struct err *err);
/* uplink_bridge.c: the macvlan. */
MUST_CHECK bool uplink_bridge_make(struct net *net, const struct uplink *u,
                                   struct err *err);
void uplink_bridge_mac(const struct net *net, const struct uplink *u, uint8_t out[6]);
/* uplink_overlay.c: the VXLAN device, and LINK_PUBLIC records. */
MUST_CHECK bool uplink_overlay_make(struct net *net, const struct uplink *u,
                                    struct err *err);
MUST_CHECK bool uplink_want_public(struct net *net, const void *record,
                                   struct err *err);
MUST_CHECK bool uplink_drop_public(struct net *net, int kind, const char *id,
                                   struct err *err);
/* uplink_rules.c: single addresses, and the external namespace's rules for them. */
struct uplink_publics {
    VEC(struct addr_block) list;
};
void uplink_publics_of(const struct net *net, const struct uplink *u,
                       struct uplink_publics *out);
void uplink_rules(const struct net *net, const struct uplink *u,
                  const struct uplink_publics *p, struct buf *out);
/* uplink_answer.c: by ARP and neighbour discovery for these, and no others; and says so of
 * those that are new. */
MUST_CHECK bool uplink_answer(struct net *net, const struct uplink *u,
                              const struct uplink_publics *p, struct err *err);
/* Says so again, of these. */
MUST_CHECK bool uplink_tell(struct net *net, const struct uplink *u,
                            const struct uplink_publics *p, struct err *err);
/* The link's name in the external namespace, and of the other end. */
void uplink_leg_name(const struct net *net, char out[IFNAMSIZ]);
void uplink_host_name(const struct net *net, char out[IFNAMSIZ]);
