/* flowlog.h - what passes the interfaces of a network, and what is refused, counted.
 *
 * Purpose:  flow logs. The kernel counts packets and bytes by interface, direction, verdict,
 *           protocol, addresses and ports, in sets of a bounded size, so that no packet and
 *           no connection costs the agent anything; each minute it reads them, and says what
 *           was new as batches of records.
 * Where:    what a guest sends, behind the rules that let it out; what it gets, behind those
 *           that let it in; what security groups and network ACLs refuse, where they do.
 *           Packets to and from the router (DHCP, DNS, metadata, time) are not counted, nor
 *           what anti-spoofing drops. Addresses are those that the guest sees.
 * Bounds:   what finds no place in the sets is counted as lost, and said so.
 * Place:    part of net.h. Costs nothing in a network without a log.
 * Threads:  as net.h. */
#pragma once
#include "base/buf.h"
#include "node/net/net_parts.h"

struct flowlog;

void flowlog_close(struct flowlog *log); /* NULL is a no-op. */
MUST_CHECK bool flowlog_want(struct net *net, const void *record, struct err *err);
MUST_CHECK bool flowlog_drop(struct net *net, int kind, const char *id,
                             struct err *err);
/* The port has come or changed; 'gone': it goes. */
MUST_CHECK bool flowlog_port(struct net *net, const struct port *port, bool gone,
                             struct err *err);
/* What stands in the kernel is not it... */
void flowlog_distrust(struct network *network);
/* ...and has to be written, after all else was. */
MUST_CHECK bool flowlog_apply(struct net *net, struct network *network,
                              struct err *err);
/* Which interfaces are counted, for elems_sync. */
void flowlog_each_elem(const struct net *net, const struct network *network,
                       policy_elem_fn *fn, void *ctx);

/* ---- flowlog_text.c: the sets and chains ---------------------------------------------- */

enum flow_way {
    FLOW_OUT,
    FLOW_IN,
    FLOW_OUT_REFUSED,
    FLOW_IN_REFUSED,
    FLOW_ACL,
    FLOW_WAYS
};

#define FLOW_LOGGED "logged"   /* The set of counted interfaces. */
#define FLOW_LOST "flows_lost" /* The counter of packets that found no place. */

/* Each way has these sets. Ports are told apart where there are any; nftables takes five parts
 * in a key at most, so that the protocol is the set's. */
#define FLOW_SETS 6
struct flow_set {
    bool is6;
    uint8_t protocol; /* 0: the others, as part of the key and without ports. */
    const char *name; /* "4_tcp" */
};
extern const struct flow_set flow_sets[FLOW_SETS];

void flow_set_name(enum flow_way way, const struct flow_set *set,
                   char out[ELEM_SET_MAX]);
/* All of it, on top of rules_text; and away with it. */
void flow_rules_text(struct buf *out);
void flow_no_rules_text(struct buf *out);

/* One element, taken apart. */
struct flow_key {
    uint32_t mark;
    uint8_t protocol;
    bool is6;
    struct in6_addr from, to; /* IPv4 in the first four bytes. */
    uint16_t from_port, to_port;
};

MUST_CHECK bool flow_key_read(const struct elem *e, const struct flow_set *set,
                              struct flow_key *out);
