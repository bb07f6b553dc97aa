/* net_parts.h - the insides of 'struct net', shared by net.c, port.c, connect.c,
 * sweep.c. Not for others: they include net.h. */
#pragma once
#include "base/crypto.h"
#include "base/map.h"
#include "node/net/addr.h"
#include "node/net/dnsmasq.h"
#include "node/net/elems.h"
#include "node/net/links.h"
#include "node/net/net.h"
#include "node/net/overlay.h"
#include "node/net/policy.h"

#define PORT_ADDRESSES_MAX \
    50 /* As many as AWS's largest types have, on one interface. */

#define NETWORK_CIDRS_MAX 32

struct nat_pair {
    uint32_t private, public;
};

struct network {
    char *id, *domain, *public_domain;
    char own_domains[DNSMASQ_DOMAINS_MAX][192];
    size_t own_domain_count;
    char options_id[48]; /* Its set of DHCP options; empty: none. */
    bool dns_off, names_off;
    char ns_name[ADDR_NS_LEN];
    int ns_fd;
    struct links *links;
    struct elems *elems;
    bool elems_held; /* Until net_release. */
    bool checked;    /* Once, and found in order. */
    bool cut_off;    /* The last check could not put it in order. */
    struct dnsmasq *dns;
    struct policy *policy;
    uint8_t listed[SHA256_LEN]; /* How its rules read, when... */
    uint64_t listed_revision;   /* ...the policy was at this. 0: never read. */
    struct addr_block cidrs[NETWORK_CIDRS_MAX];
    size_t cidr_count;
    struct flowlog *flowlog; /* NULL: nothing is logged. */
    uint64_t nat_refused;    /* Packets, as counted last... */
    bool nat_counted;        /* ...if they have been. */
    struct cuts *cuts;       /* untracked.c's; NULL: nothing has changed. */
    struct map *gone;    /* forget.c's: addresses, as flows.h keys them; NULL: none. */
    bool routes_dirty;   /* gateway_flush has something to do. */
    struct map *numbers; /* Of ports, as text: whose marks are taken. */
};

struct subnet {
    char *id;
    struct network *network;
    struct cidr4 cidr;
    struct addr_block cidr6; /* Prefix 0: none. */
    uint32_t vni;            /* 0: on this node only. */
    bool open6;              /* The outside reaches its IPv6 addresses unasked. */
    char vxlan[IFNAMSIZ];
    int vxlan_index;                    /* 0: no device yet. */
    char route_table[48];               /* Its id; empty: none. */
    char acl_chains[2][ELEM_CHAIN_MAX]; /* In, out. */
    char bridge[IFNAMSIZ];
    int bridge_index;
};

struct port {
    struct net_port_info
        info; /* Its strings are the port's own, but the network's id. */
    struct subnet *subnet;
    char tap[IFNAMSIZ];
    uint8_t mac[6];
    char *hostname;
    bool borrow;  /* May send from foreign addresses. */
    bool standby; /* Its addresses are on another node: nothing leads to it here. */
    uint32_t addresses[PORT_ADDRESSES_MAX];
    size_t address_count; /* The primary first. */
    struct in6_addr addresses6[PORT_ADDRESSES_MAX];
    size_t address6_count;
    uint32_t number; /* Its mark. */
    char *group_ids[POLICY_GROUPS_MAX];
    size_t group_count;
    char chains[2][ELEM_CHAIN_MAX]; /* In, out: of its groups. */
    struct nat_pair publics[PORT_ADDRESSES_MAX];
    size_t public_count;
    uint64_t up_bps, down_bps;
    char uplink_id[48]; /* Its card is on that one's interface; empty: on its bridge. */
    bool vfio;          /* A virtual function of it, not a macvtap. */
    char *card_rules;   /* passthrough.c's: how they read when they were written... */
    uint64_t card_changes; /* ...and of which policy. 0: never. */
};

struct net {
    struct net_config config;
    char *cloud_id, *run_dir, *dnsmasq_path, *dnsmasq_user;
    struct map *networks, *subnets, *ports; /* By id. */
    struct map *tables, *nats, *peerings;   /* gateway.c's, by id. */
    int64_t lease_until_ns; /* nat_home.c's: on clock_mono; 0: not told. */
    bool answers_leased;    /* Some of what is answered for outside is leased. */
    struct map *options;    /* serve.c's, by id. */
    struct map *remotes;    /* remote.c's, by id. */
    struct map *endpoints;  /* endpoint.c's, by id. */
    struct map *peers;      /* Other nodes' addresses, as text: struct peer. */
    bool peers_dirty;       /* The guard does not know them all yet. */
    struct overlay overlay; /* local 0: no underlay. */
    struct links *underlay; /* In the agent's own namespace. */
    int outside_fd;         /* The operator's namespace; -1: not made. */
    struct links *outside;
    struct map *uplinks; /* uplink.c's, by id. */
    struct map *far;     /* uplink_overlay.c's, by id. */
    struct links *host;  /* In the agent's own namespace; NULL: not needed yet. */
    int aside_fd;        /* passthrough.c's namespace; -1: not made. */
    struct links *aside;
    bool publics_dirty;  /* uplink_refresh has something to do... */
    char *publics_text;  /* ...or this, what it wrote last, has changed. */
    struct map *callers; /* "NETWORK/ADDRESS": the port. */
    struct net_watcher watcher;
    struct dnsmasq_found *found; /* What ran before this agent. */
    size_t found_count;
    bool held;
    uint64_t drift; /* Put right since the start. */
};

/* Forgets, and closes descriptors; touches nothing in the kernel. */
void network_free(struct network *network);
void subnet_free(struct subnet *subnet);
void port_free(struct port *port);
/* Whether the element is one of the port's rights. */
bool port_may(const struct port *port, const struct elem *elem);
/* All of them; at most PORT_ELEMS_MAX. */
#define PORT_ELEMS_MAX (13 * PORT_ADDRESSES_MAX + 12)
size_t port_elems(const struct port *port, struct elem *out);
/* The same, malloc'ed. */
struct elem *port_elems_all(const struct port *port, size_t *out_count);
#define SUBNET_ELEMS 4
void subnet_elems(const struct subnet *subnet, struct elem out[SUBNET_ELEMS]);
/* A number for what has the id, that no mark in the network is yet; the same in the next agent
 * as in this one. It is taken by noting its owner, and free again with NULL. */
uint32_t port_free_number(const struct network *network, const char *id);
void port_note_number(struct network *network, uint32_t number, void *owner);
/* Tells dnsmasq of the port. */
void port_announce(const struct port *port);
/* Removes a namespace of the cloud with everything in it. */
MUST_CHECK bool sweep_namespace(struct net *net, const char *ns_name, struct err *err);
/* The folder of a network's files, from its namespace's name; malloc'ed. */
char *network_dir(const struct net *net, const char *ns_name);
/* serve.c: tells dnsmasq which subnets there are, and what their guests are told. */
void network_serve(struct net *net, struct network *network);
MUST_CHECK bool serve_want_options(struct net *net, const void *record,
                                   struct err *err);
MUST_CHECK bool serve_drop_options(struct net *net, int kind, const char *id,
                                   struct err *err);
/* names.c */
MUST_CHECK bool names_want(struct net *net, const void *record, struct err *err);
MUST_CHECK bool names_drop(struct net *net, int kind, const char *id, struct err *err);
/* endpoint.c */
void endpoint_open(struct net *net);
void endpoint_close(struct net *net);
MUST_CHECK bool endpoint_want(struct net *net, const void *record, struct err *err);
MUST_CHECK bool endpoint_drop(struct net *net, int kind, const char *id,
                              struct err *err);
bool endpoint_has(const struct net *net, const struct network *network, uint32_t ipv4);
/* What endpoints answer goes by their subnets' route tables. */
MUST_CHECK bool endpoint_routes(const struct net *net, const struct network *network,
                                struct err *err);
/* The subnet's ACL is another: it is asked about its endpoints too. */
MUST_CHECK bool endpoint_acls(const struct net *net, const struct subnet *s,
                              struct err *err);
/* Notes the network's endpoints' addresses, each with a value that is not NULL. */
void endpoint_note(const struct net *net, const struct network *network,
                   struct map *ips);
void endpoint_each_elem(const struct net *net, const struct network *network,
                        policy_elem_fn *fn, void *ctx);
/* Its policy and routes into the kernel, unless that is held back. */
MUST_CHECK bool network_flush(struct net *net, struct network *network,
                              struct err *err);
/* remote.c: other nodes. */
MUST_CHECK bool remote_subnet(struct net *net, struct subnet *subnet, struct err *err);
MUST_CHECK bool remote_want_underlay(struct net *net, const void *record,
                                     struct err *err);
MUST_CHECK bool remote_want(struct net *net, const void *record, struct err *err);
MUST_CHECK bool remote_drop(struct net *net, int kind, const char *id, struct err *err);
void remote_open(struct net *net);
void remote_close(struct net *net);
/* One thing more (1), or less (-1), that is at home on the node at this address. */
void remote_peer(struct net *net, uint32_t address, int change);
/* Lets VXLAN in from the nodes that are known by now. */
MUST_CHECK bool remote_flush(struct net *net, struct err *err);
/* An interface that is here, and has its addresses, hides what a neighbour record says of
 * it; on standby, or gone, that shows again. */
MUST_CHECK bool remote_hide(struct net *net, const char *id, struct err *err);
MUST_CHECK bool remote_show(struct net *net, const char *id, struct err *err);
/* Whether another node has the interface, as far as this one was told. */
bool remote_has(const struct net *net, const char *id);
/* Notes the addresses of a network's interfaces elsewhere, each with a value that is not NULL. */
void remote_note(const struct net *net, const struct network *network, struct map *ips);
void remote_each_elem(const struct net *net, const struct network *network,
                      policy_elem_fn *fn, void *ctx);
/* forget.c: who gets an address next shall inherit no connection of who had it. In the network,
 * and in those peered with it, what is tracked of an address goes with its owner; but an
 * interface that has only moved to another node leaves what the other ends here need. What goes
 * is noted, and forgotten by net_settle. */
/* What 'old' had and 'now' (NULL: it goes) has not. */
MUST_CHECK bool forget_port(struct net *net, const struct port *old,
                            const struct port *now, struct err *err);
/* All of a port whose guest is about to begin; at once. */
MUST_CHECK bool forget_before(struct net *net, const struct port *port,
                              struct err *err);
/* Addresses that an interface on another node had, or a NAT gateway. */
MUST_CHECK bool forget_remote(struct net *net, struct network *network,
                              const struct in6_addr *list, size_t count,
                              struct err *err);
/* What is of addresses in the network's subnets that nobody has: after a restart. */
MUST_CHECK bool forget_strays(struct net *net, struct network *network,
                              struct err *err);
/* untracked.c: what groups have let in and do not go on with when their rules, or a port's
 * groups, change. The first is called before the change; untracked_flush, once the kernel has
 * the new rules, forgets the connections. */
void untracked_group(struct network *network, const struct link_group *want);
void untracked_port(const struct port *old, const struct port *now);
MUST_CHECK bool untracked_flush(struct net *net, struct network *network,
                                struct err *err);
void untracked_free(struct cuts *cuts); /* NULL is a no-op. */
/* Its addresses, into a map of flows.h's. */
void port_note_ips(const struct port *port, struct map *ips, void *value);
/* gateway.c: routes, and the ways out of a network. A route table, or a NAT gateway, has a
 * table of the kernel's. */
#define GATEWAY_TABLE_FIRST 1000u
#define GATEWAY_TABLE(id) \
    (GATEWAY_TABLE_FIRST + addr_number(id) % (UINT32_MAX - GATEWAY_TABLE_FIRST))
/* The underlay came or went: ways that lead over it are made anew. */
MUST_CHECK bool gateway_redo(struct net *net, struct err *err);
void gateway_name(const struct net *net, char out[ADDR_NS_LEN]);
void gateway_open(struct net *net);
void gateway_close(struct net *net);
MUST_CHECK bool gateway_flush(struct net *net, struct network *network,
                              struct err *err);
MUST_CHECK bool gateway_want_table(struct net *net, const void *record,
                                   struct err *err);
MUST_CHECK bool gateway_want_nat(struct net *net, const void *record, struct err *err);
MUST_CHECK bool gateway_want_peering(struct net *net, const void *record,
                                     struct err *err);
MUST_CHECK bool gateway_drop(struct net *net, int kind, const char *id,
                             struct err *err);
/* The networks that are peered with one and here. */
typedef bool gateway_peer_fn(void *ctx, struct network *peer, struct err *err);
MUST_CHECK bool gateway_each_peer(const struct net *net, const struct network *network,
                                  gateway_peer_fn *fn, void *ctx, struct err *err);
/* Whether a link in the network is one of its wanted ways out. */
bool gateway_keeps(const struct net *net, const struct network *network,
                   const char *link);
/* The operator's namespace, made when first needed. */
MUST_CHECK bool gateway_outside(struct net *net, struct err *err);
/* Whether a NAT gateway of the network is at home here. */
bool gateway_has_nat(const struct net *net, const struct network *network);
/* NAT gateways, here and elsewhere; 'network' NULL: it is not here. */
struct nat_home;
typedef void gateway_nat_fn(void *ctx, struct network *network,
                            const struct nat_pair *pair, struct nat_home *home);
void gateway_each_nat(const struct net *net, gateway_nat_fn *fn, void *ctx);
/* The addresses by which NAT gateways speak outside. */
void gateway_each_public(const struct net *net, void (*fn)(void *ctx, uint32_t ipv4),
                         void *ctx);
/* Whether one of the network's NAT gateways that are at home here has this address outside. */
bool gateway_speaks_as(const struct net *net, const struct network *network,
                       uint32_t public);
/* Notes the addresses by which the network's NAT gateways speak, each with a value that is not
 * NULL. */
void gateway_note(const struct net *net, const struct network *network,
                  struct map *ips);
/* The NAT gateways' elements. */
void gateway_each_elem(const struct net *net, const struct network *network,
                       policy_elem_fn *fn, void *ctx);
/* NULL: it was not told of. */
const struct link_route_table *gateway_table(const struct net *net, const char *id);
/* gateway6.c: IPv6 on those ways. The gateway's address outside. */
#define GATEWAY6 "fd64:64::1"
/* Whether the table has an IPv6 route to a gateway: an internet or an egress-only one. */
bool gateway6_leads_out(const struct link_route_table *table);
/* The next hop that stands for a route's target. */
bool gateway6_hop(const char *target, struct in6_addr *out);
/* A link out of a network, or of the outside to it, speaks IPv6 with its far end. */
MUST_CHECK bool gateway6_link(int ns_fd, struct links *links, const char *name,
                              int index, const uint8_t far_mac[6], struct err *err);
/* From the outside, the network's blocks lead into it. */
MUST_CHECK bool gateway6_lead_in(struct net *net, const struct network *network,
                                 int outer_index, struct err *err);
MUST_CHECK bool gateway6_outside(struct net *net, int lo, struct err *err);
/* Which of its subnets the outside may reach unasked. */
MUST_CHECK bool gateway6_open(struct net *net, struct network *network,
                              struct err *err);
MUST_CHECK bool gateway6_drop_subnet(const struct subnet *s, struct err *err);
void gateway6_each_elem(const struct net *net, const struct network *network,
                        policy_elem_fn *fn, void *ctx);
bool network_has_ports(const struct net *net, const struct network *network);
