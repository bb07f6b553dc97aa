/* flows.h - connections as the kernel tracks them in one namespace.
 *
 * Purpose:  read them, and put one there as if it had begun here.
 * Place:    above base/; knows netlink and libnetfilter_conntrack, nothing of ports.
 * Protocols: ICMP, ICMPv6, TCP, UDP and SCTP; others begin anew.
 * Owner:    plain data. Threads: any; a call enters the namespace on a thread of its own, and
 *           the caller waits.
 * Failure:  err carries the kernel's reason. */
#pragma once
#include "base/map.h"
#include <netinet/in.h>

/* One end. IPv4 is written as IPv6 does (::ffff:10.0.0.5), so that ends compare by bytes. */
struct flow_end {
    struct in6_addr ip;
    uint16_t port; /* ICMP: 0. */
};

/* Of the two directions, the first is that of who began. */
struct flow {
    struct flow_end from, to;           /* As it was begun... */
    struct flow_end back_from, back_to; /* ...and as answers come: differs by NAT. */
    uint32_t id;                        /* The kernel's own, in its byte order. */
    uint32_t timeout_s;
    uint32_t sctp_tags[2];
    uint16_t icmp_id;
    uint8_t protocol, icmp_type, icmp_code;
    uint8_t state; /* TCP's or SCTP's, as the kernel numbers them. */
    uint8_t tcp_flags[2], tcp_scales[2];
    bool answered, assured;
    bool is6;
};

#define FLOWS_TCP_STATES 10 /* Below it. */
#define FLOWS_SCTP_STATES 9

struct in6_addr flow_ipv4(uint32_t ipv4); /* Host byte order. */
bool flow_is_ipv4(const struct in6_addr *ip, uint32_t *out_ipv4);
bool flow_protocol_ok(uint8_t protocol, bool is6);
/* Whether answers are addressed otherwise than the call: its sender, its target. */
bool flow_source_changed(const struct flow *flow);
bool flow_target_changed(const struct flow *flow);
/* Maps by address. */
void flow_ip_put(struct map *map, const struct in6_addr *ip, void *value);
void *flow_ip_get(const struct map *map, const struct in6_addr *ip);

/* Calls 'fn' with each connection that is tracked in the namespace, of the protocols above. */
typedef void flows_fn(void *ctx, const struct flow *flow);
MUST_CHECK bool flows_each(int ns_fd, flows_fn *fn, void *ctx, struct err *err);

/* Puts each of them there, in the place of one with the same ends. What cannot be, since
 * others' ends are in its way or the kernel refuses it, is left out and counted in '*out_left'.
 * False: the kernel could not be asked; some may be there. */
MUST_CHECK bool flows_put(int ns_fd, const struct flow *list, size_t count,
                          size_t *out_left, struct err *err);

/* Forgets each connection for which 'pick' is true, whatever its protocol; of one without ports
 * they are 0. What has gone by itself meanwhile is no failure. Looks at all that the host
 * tracks, milliseconds, unless the namespace tracks nothing. */
typedef bool flows_pick_fn(void *ctx, const struct flow *flow);
MUST_CHECK bool flows_forget(int ns_fd, flows_pick_fn *pick, void *ctx,
                             struct err *err);
