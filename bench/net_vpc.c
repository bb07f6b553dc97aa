/* net_vpc.c - a VPC made ready on this host, beside the bare kernel's part of it.
 *
 * Usage: bench-net-vpc [RUNS], as root. Ours: namespace, settings, packet rules, service
 * addresses, one subnet's bridge. Bare: a namespace, a bridge and its address over
 * libnl-route alone. The two alternate, so that a noisy machine disturbs both alike;
 * medians. Then ports: the rights of 1,000 of them, one after the other. All of it is
 * removed again. */
#include "link/records.h"
#include "node/net/links.h"
#include "node/net/net.h"
#include "node/net/netns.h"

#define RUNS_MAX 1000
#define PORTS 1000

static int64_t
now(void)
{
    return clock_mono(&clock_system);
}

static void
must(bool ok, const struct err *err)
{
    if (!ok) {
        (void)fprintf(stderr, "%s\n", err->msg);
        exit(1);
    }
}

static bool
bare_here(void *ctx, struct err *err)
{
    static const uint8_t mac[6] = {0x0e, 0, 0, 0, 0, 1};
    int bridge;
    AUTO(links) struct links *links = links_open(err);
    return links && links_bridge(links, "mb0", mac, &bridge, err) &&
           links_address(links, bridge, 0x0a000001, 24, err);
}

static int64_t
bare(struct err *err)
{
    int64_t start = now();
    AUTO(fd) int fd = -1;
    char name[32];
    (void)snprintf(name, sizeof name, "molnbench-%d", (int)getpid());
    must(netns_make(name, &fd, err) && netns_run(fd, bare_here, NULL, err), err);
    int64_t took = now() - start;
    must(netns_remove(name, err), err);
    return took;
}

static int64_t
ours(struct net *net, struct err *err)
{
    struct link_network network = {.id = "vpc-1", .domain = "ec2.internal"};
    struct link_subnet subnet = {
        .id = "subnet-1", .network_id = "vpc-1", .cidr = "10.0.0.0/16"};
    int64_t start = now();
    must(net_want_network(net, &network, err) && net_want_subnet(net, &subnet, err),
         err);
    return now() - start;
}

static int64_t
add_ports(struct net *net, struct err *err)
{
    int64_t start = now();
    for (int i = 0; i < PORTS; i++) {
        char id[32], mac[24], ip[24];
        int n = i + 1000;
        (void)snprintf(id, sizeof id, "eni-%d", i);
        (void)snprintf(mac, sizeof mac, "02:00:00:00:%02x:%02x", n >> 8 & 255, n & 255);
        (void)snprintf(ip, sizeof ip, "10.0.%d.%d", n >> 8 & 255, n & 255);
        struct link_port port = {.id = id,
                                 .subnet_id = "subnet-1",
                                 .mac = mac,
                                 .ipv4 = ip,
                                 .check_source = true};
        must(net_want_port(net, &port, err), err);
    }
    return now() - start;
}

static int
by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double
median_ms(int64_t *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return (double)values[count / 2] / 1e6;
}

int
main(int argc, char **argv)
{
    int runs = MIN(MAX(argc > 1 ? atoi(argv[1]) : 20, 1), RUNS_MAX);
    static int64_t our_ns[RUNS_MAX], bare_ns[RUNS_MAX];
    struct err err = {0};
    uv_loop_t loop;
    char cloud[32];
    (void)uv_loop_init(&loop);
    (void)snprintf(cloud, sizeof cloud, "bench%d", (int)getpid());
    struct net_config config = {
        .loop = &loop, .cloud_id = cloud, .clock = &clock_system, .rng = &rng_system};
    struct net *net = net_open(&config, &err);
    must(net != NULL, &err);
    for (int i = 0; i < runs; i++) {
        bare_ns[i] = bare(&err);
        our_ns[i] = ours(net, &err);
        must(net_drop_network(net, "vpc-1", &err), &err);
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
    double our_ms = median_ms(our_ns, runs), bare_ms = median_ms(bare_ns, runs);
    printf("VPC ready, ours    %8.2f ms (median of %d; goal: 10)\n", our_ms, runs);
    printf("VPC ready, bare    %8.2f ms; ours is %.1f times it\n", bare_ms,
           our_ms / bare_ms);
    (void)ours(net, &err);
    printf("port's rights      %8.3f ms each, of %d\n",
           (double)add_ports(net, &err) / 1e6 / PORTS, PORTS);
    must(net_sweep(net, &err), &err);
    net_close(net);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop) == 0 ? 0 : 1;
}
