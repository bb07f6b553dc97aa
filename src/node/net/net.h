/* net.h - the networks of one cloud on this host.
 *
 * Purpose:  a VPC is a network namespace `moln-CLOUDID-HASH`; a subnet is a bridge in it
 *           that holds the router's address; a port is the right of one tap to speak with
 *           one MAC and its addresses. dnsmasq serves DHCP and DNS in each VPC.
 * Place:    part of the node; above base/ and link/records.h. Knows netlink, nftables and
 *           dnsmasq, nothing of machines, metadata or AWS.
 * Input:    records come from a stranger: ids, addresses and names are checked before they
 *           reach the kernel or a file.
 * Owner:    the agent holds one. Kernel objects outlive it: net_close leaves them, and a
 *           later net_open adopts what is wanted again, without cutting traffic.
 * Threads:  every call on the thread that runs 'loop'. A call may wait a few milliseconds
 *           for netlink; work inside a namespace is done by a short-lived thread, so the
 *           loop's thread never leaves its own.
 * Failure:  every call is idempotent: after an error, the same call may be made again. A
 *           port whose rules could not be put in place has no tap (fail closed).
 * Order:    network, subnet, port, tap. A call whose base is missing gives ERR_NOT_FOUND;
 *           make it again later. Dropping in any order, and what never was, succeeds; but
 *           a network or subnet that still has ports is ERR_BUSY. */
#pragma once
#include "base/base.h"
#include "base/world.h"
#include <sys/socket.h>
#include <uv.h>

struct net;
struct link_network;
struct link_subnet;
struct link_port;

struct net_config {
    uv_loop_t *loop;
    const char
        *cloud_id; /* In every kernel object's name: letters, digits, '-'; <= 64. */
    /* Where dnsmasq's files lie, readable by its user; NULL: /run/moln-CLOUDID. */
    const char *run_dir;
    const char *dnsmasq_path; /* NULL: /usr/sbin/dnsmasq. */
    const char *dnsmasq_user; /* NULL: dnsmasq if there is such a user, else nobody. */
    const struct clock *clock;
    const struct rng *rng;
    /* Something worth telling people; NULL: nobody is told. */
    void (*event)(void *ctx, const char *kind, const char *object, const char *level,
                  const char *message);
    void *event_ctx;
};

/* What a port is, for those who serve it. Strings are borrowed until the port changes.
 */
struct net_port_info {
    const char *id, *network_id, *subnet_id, *machine_id, *mac;
    const char *ipv4;        /* Primary. */
    const char *const *more; /* Secondary IPv4 addresses, NULL-terminated. */
    int mtu;
};

/* Told when something becomes usable or goes. 'port_up' comes again after a change. A
 * network is up when its namespace and service addresses are there. */
struct net_watcher {
    void (*network_up)(void *ctx, const char *network_id);
    void (*network_down)(void *ctx, const char *network_id);
    void (*port_up)(void *ctx, const struct net_port_info *port);
    void (*port_down)(void *ctx, const char *port_id);
    void *ctx;
};

MUST_CHECK struct net *net_open(const struct net_config *config, struct err *err);
/* Stops watching and forgets; namespaces, taps and dnsmasq go on. NULL is a no-op. The
 * loop must run once more afterwards (closing handles). */
void net_close(struct net *net);
/* One watcher (the metadata service); is told at once of what is already there. NULL:
 * none. */
void net_watch(struct net *net, const struct net_watcher *watcher);

MUST_CHECK bool net_want_network(struct net *net, const struct link_network *want,
                                 struct err *err);
MUST_CHECK bool net_want_subnet(struct net *net, const struct link_subnet *want,
                                struct err *err);
MUST_CHECK bool net_want_port(struct net *net, const struct link_port *want,
                              struct err *err);
/* A name is in dnsmasq's hands within some milliseconds. An endpoint (LINK_ENDPOINT) is an
 * address of this node in the subnet: a socket of net_listen's at its ports 80 and 443 hears
 * from those whom the groups let come. */
/* The other kinds of a VPC: LINK_GROUP, LINK_GROUP_MEMBER, LINK_PREFIX_LIST, LINK_ACL,
 * and so on; 'record' is what link_want_desc(kind) describes. A group that grows rules, or
 * an interface that joins one, changes that alone. */
MUST_CHECK bool net_want(struct net *net, int kind, const void *record,
                         struct err *err);
MUST_CHECK bool net_drop(struct net *net, int kind, const char *id, struct err *err);
/* Ends the tracked connections of addresses that have gone since the last time, in one look
 * for all of them. After wants and drops, before anybody is told that they are done; again
 * after a failure. */
MUST_CHECK bool net_settle(struct net *net, struct err *err);
/* Many wants at once: between the two, rules and elements are only noted, and written in
 * few transactions at the end. After a failure all of it is still noted: release again.
 * Meanwhile no tap is opened. */
void net_hold(struct net *net);
MUST_CHECK bool net_release(struct net *net, struct err *err);
/* A network that still has ports is ERR_BUSY; so is a subnet. */
MUST_CHECK bool net_drop_network(struct net *net, const char *id, struct err *err);
MUST_CHECK bool net_drop_subnet(struct net *net, const char *id, struct err *err);
/* Removes the right first, then the tap, even where a guest still holds it. */
MUST_CHECK bool net_drop_port(struct net *net, const char *id, struct err *err);

/* The port's tap, new, up, on its bridge; single queue, with virtio headers
 * (IFF_VNET_HDR). It lives as long as somebody holds the descriptor: pass it to QEMU
 * and close this one. ERR_BUSY while another holds it. Its rules were in place before
 * it. */
MUST_CHECK bool net_tap_open(struct net *net, const char *port_id, int *out_fd,
                             struct err *err);

/* How many virtual functions the interface of an uplink that is lent as vfio has; 0: it is
 * not. */
int64_t net_uplink_functions(const struct net *net, const char *uplink_id);
/* A port of mode vfio has no tap but a virtual function of its uplink's interface: given its
 * MAC, which the interface then enforces, and to vfio-pci. The same one, however often. */
struct vfio_function;
MUST_CHECK bool net_function_open(struct net *net, const char *port_id,
                                  struct vfio_function *out, struct err *err);

/* The same as a pair of links, for what lives in a network namespace of its own: the other
 * end is 'guest_name' in 'guest_ns_fd', down, with the port's MAC. */
MUST_CHECK bool net_veth_open(struct net *net, const char *port_id, int guest_ns_fd,
                              const char *guest_name, struct err *err);

/* Which port owns 'ipv4' ("10.0.0.5") in a network, as guaranteed by anti-spoofing;
 * NULL: none. Borrowed until the port is dropped. */
const char *net_port_caller(const struct net *net, const char *network_id,
                            const char *ipv4);
/* NULL: there is none. Borrowed like its strings. */
const struct net_port_info *net_port_get(const struct net *net, const char *port_id);

/* A socket made inside the network's namespace and bound to ipv4:port; 'type'
 * SOCK_STREAM (then it listens) or SOCK_DGRAM. Non-blocking, close-on-exec. */
MUST_CHECK bool net_listen(struct net *net, const char *network_id, const char *ipv4,
                           int port, int type, int *out_fd, struct err *err);

/* A TCP connection made inside the port's network, from its subnet's router address to
 * 'ipv4', which must be the port's own (NULL: its primary): nothing else can be
 * reached. 'done' is called once, from the loop: with a connected non-blocking descriptor
 * that becomes its own, or -1 and why; the loop must run until then. */
typedef void net_connect_fn(void *ctx, int fd, const struct err *err);
MUST_CHECK bool net_connect(struct net *net, const char *port_id, const char *ipv4,
                            int tcp_port, uint64_t timeout_ns, net_connect_fn *done,
                            void *ctx, struct err *err);

/* What flow logs have counted since the last time, if a minute of the real time 'now_ns' has
 * begun since; 'batch' is borrowed for the call. Gives how long until the next; INT64_MAX:
 * nothing is logged. */
struct link_flow_batch;
typedef void net_flows_fn(void *ctx, const struct link_flow_batch *batch);
int64_t net_flows(struct net *net, int64_t now_ns, net_flows_fn *fn, void *ctx);

/* Until when, on clock_mono, this node has its lease. NAT gateways that another node does when
 * that is lost begin to speak with it here, and say so to an uplink's network again at each
 * call; they go on without it until another does, or a record says so. */
MUST_CHECK bool net_lease(struct net *net, int64_t until_ns, struct err *err);
/* How many such gateways are at home here. */
size_t net_leased(const struct net *net);

/* Compares the kernel with what is wanted: the settings that filtering depends on, rules and
 * elements. What differs is put right and counted in '*out_drift'; where something cannot be,
 * the network's interfaces are set down until a later check finds all in order. For a
 * timer. */
MUST_CHECK bool net_check(struct net *net, size_t *out_drift, struct err *err);

/* Removes what lies on this host for the cloud but is not wanted in 'net': call it once
 * after a restart, when every wanted record has been given. */
MUST_CHECK bool net_prune(struct net *net, struct err *err);
/* Removes every namespace, tap, dnsmasq and file of this cloud, wanted or not, and
 * forgets them: for power-off and purge. Guests should be gone. */
MUST_CHECK bool net_sweep(struct net *net, struct err *err);
