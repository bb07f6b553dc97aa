/* net_path.c - what a packet pays for the whole rule set: UDP echo and TCP throughput between
 * two namespaces through a VPC, beside the same through a bare bridge; and between two
 * hosts, through a VPC over VXLAN, beside bare VXLAN.
 *
 * Usage: bench-net-path [ROUNDS], as root; 24,000. Goals: at most 1.3 times the latency, at least
 * 0.8 of the throughput. Hosts are namespaces joined by a pair of links with an MTU of 1,600.
 * Nothing leaves the namespaces that it makes; they are removed again. */
#include "link/link.h"
#include "net_pair.h"
#include "node/net/links.h"
#include "node/net/net.h"
#include "node/net/netns.h"
#include "node/net/overlay.h"
#include <errno.h>
#include <net/if.h>
#include <sys/ioctl.h>

#define VNI 4001
#define UNDER_MTU 1600

enum { VPC, BRIDGE, VPC_VXLAN, BARE_VXLAN, PAIRS };

/* A host of a pair: its own namespace with one end of the underlay. */
struct host {
    char name[48];
    int ns_fd;
    uint32_t ip;
    struct net *net; /* Of VPC_VXLAN. */
    struct side *side;
    struct pair *pair;
    int n;
    uv_loop_t *loop;
};

/* ---- records of a VPC -----------------------------------------------------------------
 */

static void
mac_of(int n, char out[18])
{
    (void)snprintf(out, 18, "02:00:00:00:00:%02x", (n + 1) & 255);
}

static bool
want_network(struct net *net, int64_t vni, struct err *err)
{
    struct link_group_rule rules[] = {
        {.protocol = -1, .group_id = "sg-1"},
        {.protocol = -1, .cidr = "0.0.0.0/0", .egress = true}};
    struct link_network network = {.id = "vpc-1"};
    struct link_subnet subnet = {.id = "subnet-1",
                                 .network_id = "vpc-1",
                                 .cidr = "10.0.1.0/24",
                                 .acl_off = true,
                                 .vni = vni};
    struct link_group group = {
        .id = "sg-1", .network_id = "vpc-1", .rules = {rules, 2}};
    return net_want_network(net, &network, err) && net_want_subnet(net, &subnet, err) &&
           net_want(net, LINK_GROUP, &group, err);
}

static bool
want_member(struct net *net, int n, struct err *err)
{
    char member[32], ip[32];
    const char *addresses[] = {ip};
    (void)snprintf(member, sizeof member, "sg-1.eni-%d", n);
    (void)snprintf(ip, sizeof ip, "10.0.1.%d", 10 + n);
    struct link_group_member m = {.id = member,
                                  .network_id = "vpc-1",
                                  .group_id = "sg-1",
                                  .addresses = {addresses, 1}};
    return net_want(net, LINK_GROUP_MEMBER, &m, err);
}

static bool
want_port(struct net *net, int n, const struct side *side, struct err *err)
{
    char id[16], mac[18], ip[32];
    const char *groups[] = {"sg-1"};
    (void)snprintf(id, sizeof id, "eni-%d", n);
    (void)snprintf(ip, sizeof ip, "10.0.1.%d", 10 + n);
    mac_of(n, mac);
    struct link_port port = {.id = id,
                             .subnet_id = "subnet-1",
                             .mac = mac,
                             .ipv4 = ip,
                             .check_source = true,
                             .group_ids = {groups, 1}};
    return net_want_port(net, &port, err) &&
           net_veth_open(net, id, side->ns_fd, "eth0", err);
}

static struct net *
net_make(uv_loop_t *loop, const char *name, struct err *err)
{
    char cloud[32];
    (void)snprintf(cloud, sizeof cloud, "bench%s%d", name, (int)getpid());
    struct net_config config = {
        .loop = loop, .cloud_id = cloud, .clock = &clock_system, .rng = &rng_system};
    struct net *net = net_open(&config, err);
    must(net != NULL, err);
    return net;
}

/* ---- on one host ----------------------------------------------------------------------
 */

static void
through_vpc(struct net *net, struct pair *p, struct err *err)
{
    must(want_network(net, 0, err), err);
    struct side *sides[] = {&p->a, &p->b};
    for (int n = 0; n < 2; n++) {
        must(want_member(net, n, err) && want_port(net, n, sides[n], err), err);
        side_up(sides[n], err);
    }
}

static bool
plug_bare(struct links *links, const char *name, const struct side *side, int bridge,
          const uint8_t *mac, struct err *err)
{
    int index;
    return links_veth(links, name, NULL, "eth0", side->ns_fd, mac, err) &&
           links_find(links, name, &index, err) &&
           links_enslave(links, index, bridge, PAIR_MTU, err);
}

static bool
bridge_here(void *ctx, struct err *err)
{
    static const uint8_t mac[6] = {0x0e, 0, 0, 0, 0, 1};
    struct pair *p = ctx;
    int bridge;
    AUTO(links) struct links *links = links_open(err);
    return links && links_bridge(links, "br0", mac, &bridge, err) &&
           plug_bare(links, "v0", &p->a, bridge, NULL, err) &&
           plug_bare(links, "v1", &p->b, bridge, NULL, err);
}

/* ---- on two hosts ---------------------------------------------------------------------
 */

static bool
lo_up_here(void *ctx UNUSED, struct err *err)
{
    int lo;
    AUTO(links) struct links *links = links_open(err);
    return links && links_find(links, "lo", &lo, err) && links_up(links, lo, err);
}

static bool
set_mtu(const char *name, int mtu, struct err *err)
{
    struct ifreq req = {.ifr_mtu = mtu};
    AUTO(fd) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    (void)snprintf(req.ifr_name, sizeof req.ifr_name, "%s", name);
    return (fd >= 0 && ioctl(fd, SIOCSIFMTU, &req) == 0) ||
           err_sys(err, errno, "MTU of %s", name);
}

static bool
under_here(void *ctx, struct err *err)
{
    struct host *h = ctx;
    int index;
    AUTO(links) struct links *links = links_open(err);
    return links &&
           (h->n > 0 ||
            links_veth(links, "under", NULL, "under", h[1].ns_fd, NULL, err)) &&
           links_find(links, "under", &index, err) &&
           set_mtu("under", UNDER_MTU, err) && links_up(links, index, err) &&
           links_address(links, index, h->ip, 24, err);
}

static void
hosts_make(struct host hosts[2], struct pair *pair, const char *name, uv_loop_t *loop,
           struct err *err)
{
    for (int n = 0; n < 2; n++) {
        struct host *h = &hosts[n];
        *h = (struct host){.ns_fd = -1,
                           .ip = 0xc0a84d01u + (uint32_t)n,
                           .side = n ? &pair->b : &pair->a,
                           .pair = pair,
                           .n = n,
                           .loop = loop};
        (void)snprintf(h->name, sizeof h->name, "molnbench-%s-h%d-%d", name, n,
                       (int)getpid());
        must(netns_make(h->name, &h->ns_fd, err) &&
                 netns_run(h->ns_fd, lo_up_here, NULL, err),
             err);
    }
    for (int n = 0; n < 2; n++) {
        must(netns_run(hosts[n].ns_fd, under_here, &hosts[n], err), err);
    }
}

/* The VPC's part on one of its hosts: its own port, and the other's as a neighbour. */
static bool
vpc_host_here(void *ctx, struct err *err)
{
    struct host *h = ctx;
    char mac[18], id[16], ip[32], nodes[2][32];
    const char *peers[] = {nodes[1 - h->n]}, *addresses[] = {ip};
    for (int n = 0; n < 2; n++) {
        (void)snprintf(nodes[n], sizeof nodes[n], "192.168.77.%d", 1 + n);
    }
    struct link_underlay underlay = {
        .id = "underlay", .address = nodes[h->n], .peers = {peers, 1}};
    (void)snprintf(id, sizeof id, "eni-%d", 1 - h->n);
    (void)snprintf(ip, sizeof ip, "10.0.1.%d", 10 + 1 - h->n);
    mac_of(1 - h->n, mac);
    struct link_neighbour other = {.id = id,
                                   .subnet_id = "subnet-1",
                                   .mac = mac,
                                   .addresses = {addresses, 1},
                                   .node_address = nodes[1 - h->n]};
    h->net = net_make(h->loop, h->n ? "y" : "x", err);
    return net_want(h->net, LINK_UNDERLAY, &underlay, err) &&
           want_network(h->net, VNI, err) && want_member(h->net, 0, err) &&
           want_member(h->net, 1, err) && want_port(h->net, h->n, h->side, err) &&
           net_want(h->net, LINK_NEIGHBOUR, &other, err);
}

static bool
sweep_here(void *ctx, struct err *err)
{
    return net_sweep(((struct host *)ctx)->net, err);
}

/* Bare VXLAN, told as ours where the other end is. */
static bool
bare_host_here(void *ctx, struct err *err)
{
    static const uint8_t mac[6] = {0x0e, 0, 0, 0, 0, 1};
    static const uint8_t ends[2][6] = {{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}};
    struct host *h = ctx;
    const struct overlay overlay = {.local = h->ip, .udp_port = 4789, .mtu = PAIR_MTU};
    const struct overlay_link device = {.name = "vx0", .vni = VNI};
    const struct side *other = h->n ? &h->pair->a : &h->pair->b;
    int bridge, index;
    AUTO(links) struct links *links = links_open(err);
    return links && links_bridge(links, "br0", mac, &bridge, err) &&
           overlay_device(links, h->ns_fd, &device, &overlay, err) &&
           links_find(links, "vx0", &index, err) &&
           links_enslave(links, index, bridge, PAIR_MTU, err) &&
           overlay_forward(links, index, ends[1 - h->n],
                           0xc0a84d01u + (uint32_t)(1 - h->n), err) &&
           links_neighbour(links, index, other->ip, ends[1 - h->n], err) &&
           plug_bare(links, "v0", h->side, bridge, ends[h->n], err);
}

/* ---- the program ----------------------------------------------------------------------
 */

static void
report(const struct pair *ours, const struct pair *bare)
{
    const struct pair *both[] = {ours, bare};
    for (int i = 0; i < 2; i++) {
        (void)printf("  %-26s UDP echo %7.1f us   TCP %8.0f Mbit/s\n", both[i]->what,
                     pair_echo_us(both[i]), pair_mbit(both[i]));
    }
    (void)printf("  ratio: latency %.2f (goal 1.30), throughput %.2f (goal 0.80)\n",
                 pair_latency_ratio(ours, bare), pair_throughput_ratio(ours, bare));
}

static void
remove_all(struct net *net, struct pair *pairs, struct host hosts[2][2],
           const char *bare, uv_loop_t *loop, struct err *err)
{
    must(net_sweep(net, err), err);
    net_close(net);
    for (int n = 0; n < 2; n++) {
        must(netns_run(hosts[0][n].ns_fd, sweep_here, &hosts[0][n], err), err);
        net_close(hosts[0][n].net);
        for (int i = 0; i < 2; i++) {
            must(netns_remove(hosts[i][n].name, err), err);
        }
    }
    for (size_t i = 0; i < PAIRS; i++) {
        pair_remove(&pairs[i], err);
    }
    must(netns_remove(bare, err), err);
    (void)uv_run(loop, UV_RUN_DEFAULT);
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *what, *name;
    } names[PAIRS] = {[VPC] = {"through the VPC's rules", "v"},
                      [BRIDGE] = {"bare bridge", "b"},
                      [VPC_VXLAN] = {"VPC across two hosts", "w"},
                      [BARE_VXLAN] = {"bare VXLAN", "c"}};
    int rounds = argc > 1 ? atoi(argv[1]) : 24000, bare_fd = -1;
    uv_loop_t loop;
    struct err err = {0};
    struct pair pairs[PAIRS] = {0};
    struct host hosts[2][2];
    char bare[48];
    if (uv_loop_init(&loop) != 0 || rounds < 600) {
        return 2;
    }
    for (size_t i = 0; i < PAIRS; i++) {
        pair_make(&pairs[i], names[i].what, names[i].name, &err);
    }
    struct net *net = net_make(&loop, "", &err);
    through_vpc(net, &pairs[VPC], &err);
    (void)snprintf(bare, sizeof bare, "molnbench-bare-%d", (int)getpid());
    must(netns_make(bare, &bare_fd, &err) &&
             netns_run(bare_fd, bridge_here, &pairs[BRIDGE], &err),
         &err);
    hosts_make(hosts[0], &pairs[VPC_VXLAN], "w", &loop, &err);
    hosts_make(hosts[1], &pairs[BARE_VXLAN], "c", &loop, &err);
    for (int n = 0; n < 2; n++) {
        must(netns_run(hosts[0][n].ns_fd, vpc_host_here, &hosts[0][n], &err) &&
                 netns_run(hosts[1][n].ns_fd, bare_host_here, &hosts[1][n], &err),
             &err);
    }
    for (size_t i = BRIDGE; i < PAIRS; i++) {
        side_up(&pairs[i].a, &err);
        side_up(&pairs[i].b, &err);
    }
    (void)sleep(2); /* Bridges find that their links are up. */
    pairs_measure(pairs, PAIRS, rounds, &err);
    report(&pairs[VPC], &pairs[BRIDGE]);
    report(&pairs[VPC_VXLAN], &pairs[BARE_VXLAN]);
    remove_all(net, pairs, hosts, bare, &loop, &err);
    return 0;
}
