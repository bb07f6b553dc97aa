/* net_path.c - what a packet pays for the whole rule set: UDP echo and TCP throughput between
 * two namespaces through a VPC, beside the same through a bare bridge.
 *
 * Usage: bench-net-path [ROUNDS], as root. The two alternate in blocks, so that a noisy
 * machine disturbs both alike; medians. Goals: at most 1.3 times the latency, at least 0.8
 * of the throughput. Nothing leaves the namespaces that it makes; they are removed again. */
#include "base/map.h"
#include "link/link.h"
#include "node/net/links.h"
#include "node/net/net.h"
#include "node/net/netns.h"
#include <arpa/inet.h>
#include <pthread.h>

#define BLOCKS 20
#define STREAM_NS (300 * NS_PER_MS)
#define IP(n) (0x0a000100u + (uint32_t)(n))

struct side {
    char name[48];
    int ns_fd;
    int fd;
    uint32_t ip;
    int type;
    bool listens;
};

struct pair {
    const char *what;
    struct side a, b;
    VEC(int64_t) trips;
    double mbit;
};

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
address_here(void *ctx, struct err *err)
{
    struct side *s = ctx;
    int index;
    AUTO(links) struct links *links = links_open(err);
    return links && links_find(links, "eth0", &index, err) &&
           links_up(links, index, err) && links_address(links, index, s->ip, 24, err);
}

static bool
socket_here(void *ctx, struct err *err)
{
    struct side *s = ctx;
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(s->type == SOCK_DGRAM ? 7 : 9),
                             .sin_addr.s_addr = htonl(s->ip)};
    s->fd = socket(AF_INET, s->type | SOCK_CLOEXEC, 0);
    if (s->fd < 0 ||
        (s->listens && bind(s->fd, (struct sockaddr *)&at, sizeof at) < 0) ||
        (s->listens && s->type == SOCK_STREAM && listen(s->fd, 1) < 0)) {
        return err_sys(err, errno, "make a socket");
    }
    return true;
}

static void
reach(struct pair *p, int type, struct err *err)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(type == SOCK_DGRAM ? 7 : 9),
                             .sin_addr.s_addr = htonl(p->b.ip)};
    p->a.type = p->b.type = type;
    p->b.listens = true;
    must(netns_run(p->b.ns_fd, socket_here, &p->b, err) &&
             netns_run(p->a.ns_fd, socket_here, &p->a, err),
         err);
    for (int i = 0; connect(p->a.fd, (struct sockaddr *)&to, sizeof to) < 0; i++) {
        must(i < 20, &(struct err){.msg = "cannot connect"});
        (void)usleep(100000);
    }
}

static void *
echo(void *ctx)
{
    int fd = *(int *)ctx;
    char in[64];
    struct sockaddr_in from;
    for (;;) {
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(fd, in, sizeof in, 0, (struct sockaddr *)&from, &len);
        if (n <= 0) {
            return NULL; /* An empty datagram ends it. */
        }
        (void)!sendto(fd, in, (size_t)n, 0, (struct sockaddr *)&from, len);
    }
}

static void
trips(struct pair *p, int count)
{
    char data[32] = "round";
    for (int i = 0; i < count; i++) {
        int64_t start = now();
        if (send(p->a.fd, data, sizeof data, 0) > 0 &&
            recv(p->a.fd, data, sizeof data, 0) > 0) {
            int64_t took = now() - start;
            VEC_PUSH(&p->trips, took);
        }
    }
}

static void *
drain(void *ctx)
{
    int fd = accept(*(int *)ctx, NULL, NULL);
    AUTO(free) char *in = xmalloc(256 * KIB);
    while (read(fd, in, 256 * KIB) > 0) {
    }
    close(fd);
    return NULL;
}

static void
stream(struct pair *p, struct err *err)
{
    pthread_t thread;
    AUTO(free) char *out = xcalloc(1, 128 * KIB);
    reach(p, SOCK_STREAM, err);
    (void)pthread_create(&thread, NULL, drain, &p->b.fd);
    int64_t start = now(), bytes = 0;
    while (now() - start < STREAM_NS) {
        bytes += MAX(write(p->a.fd, out, 128 * KIB), 0);
    }
    close(p->a.fd);
    (void)pthread_join(thread, NULL);
    close(p->b.fd);
    p->mbit = MAX(p->mbit, (double)bytes * 8e3 / (double)(now() - start));
}

static int
by_size(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static double
median_us(struct pair *p)
{
    qsort(p->trips.items, p->trips.count, sizeof *p->trips.items, by_size);
    return p->trips.count ? (double)p->trips.items[p->trips.count / 2] / 1e3 : 0;
}

static void
side_make(struct side *s, const char *what, int n, struct err *err)
{
    (void)snprintf(s->name, sizeof s->name, "molnbench-%s%d-%d", what, n,
                   (int)getpid());
    s->ip = IP(10 + n);
    s->ns_fd = -1;
    must(netns_make(s->name, &s->ns_fd, err), err);
}

static void
through_vpc(struct net *net, struct pair *p, struct err *err)
{
    struct link_group_rule rules[] = {
        {.protocol = -1, .group_id = "sg-1"},
        {.protocol = -1, .cidr = "0.0.0.0/0", .egress = true}};
    struct link_network network = {.id = "vpc-1"};
    struct link_subnet subnet = {.id = "subnet-1",
                                 .network_id = "vpc-1",
                                 .cidr = "10.0.1.0/24",
                                 .acl_off = true};
    struct link_group group = {
        .id = "sg-1", .network_id = "vpc-1", .rules = {rules, 2}};
    must(net_want_network(net, &network, err) && net_want_subnet(net, &subnet, err) &&
             net_want(net, LINK_GROUP, &group, err),
         err);
    struct side *sides[] = {&p->a, &p->b};
    for (int i = 0; i < 2; i++) {
        char id[16], mac[32], ip[32], member[32];
        const char *groups[] = {"sg-1"}, *addresses[] = {ip};
        (void)snprintf(id, sizeof id, "eni-%d", i);
        (void)snprintf(member, sizeof member, "sg-1.eni-%d", i);
        (void)snprintf(mac, sizeof mac, "02:00:00:00:00:0%d", i + 1);
        (void)snprintf(ip, sizeof ip, "10.0.1.%d", 10 + i);
        struct link_port port = {.id = id,
                                 .subnet_id = "subnet-1",
                                 .mac = mac,
                                 .ipv4 = ip,
                                 .check_source = true,
                                 .group_ids = {groups, 1}};
        struct link_group_member m = {.id = member,
                                      .network_id = "vpc-1",
                                      .group_id = "sg-1",
                                      .addresses = {addresses, 1}};
        must(net_want(net, LINK_GROUP_MEMBER, &m, err) &&
                 net_want_port(net, &port, err) &&
                 net_veth_open(net, id, sides[i]->ns_fd, "eth0", err) &&
                 netns_run(sides[i]->ns_fd, address_here, sides[i], err),
             err);
    }
}

static bool
bridge_here(void *ctx, struct err *err)
{
    static const uint8_t mac[6] = {0x0e, 0, 0, 0, 0, 1};
    struct pair *p = ctx;
    struct side *sides[] = {&p->a, &p->b};
    int bridge, index;
    AUTO(links) struct links *links = links_open(err);
    if (!links || !links_bridge(links, "br0", mac, &bridge, err)) {
        return false;
    }
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "v1" : "v0";
        if (!links_veth(links, name, NULL, "eth0", sides[i]->ns_fd, NULL, err) ||
            !links_find(links, name, &index, err) ||
            !links_enslave(links, index, bridge, 1500, err)) {
            return false;
        }
    }
    return true;
}

static void
measure(struct pair *pairs, int rounds, struct err *err)
{
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        reach(&pairs[i], SOCK_DGRAM, err);
        (void)pthread_create(&threads[i], NULL, echo, &pairs[i].b.fd);
        trips(&pairs[i], 200);
        VEC_FREE(&pairs[i].trips);
    }
    for (int block = 0; block < BLOCKS; block++) {
        for (int i = 0; i < 2; i++) {
            trips(&pairs[i], rounds / BLOCKS);
        }
    }
    for (int i = 0; i < 2; i++) {
        (void)send(pairs[i].a.fd, "", 0, 0);
        (void)pthread_join(threads[i], NULL);
        close(pairs[i].a.fd);
        close(pairs[i].b.fd);
    }
    for (int block = 0; block < 6; block++) {
        stream(&pairs[block % 2], err);
    }
}

int
main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 20000;
    uv_loop_t loop;
    struct err err = {0};
    char cloud[32], bare[48];
    int bare_fd = -1;
    (void)snprintf(cloud, sizeof cloud, "bench%d", (int)getpid());
    (void)snprintf(bare, sizeof bare, "molnbench-bare-%d", (int)getpid());
    if (uv_loop_init(&loop) != 0 || rounds < BLOCKS) {
        return 2;
    }
    struct net_config config = {
        .loop = &loop, .cloud_id = cloud, .clock = &clock_system, .rng = &rng_system};
    struct net *net = net_open(&config, &err);
    must(net != NULL, &err);
    struct pair pairs[2] = {{.what = "through the VPC's rules"},
                            {.what = "bare bridge"}};
    for (int i = 0; i < 2; i++) {
        side_make(&pairs[i].a, i ? "b" : "v", 0, &err);
        side_make(&pairs[i].b, i ? "b" : "v", 1, &err);
    }
    through_vpc(net, &pairs[0], &err);
    must(netns_make(bare, &bare_fd, &err) &&
             netns_run(bare_fd, bridge_here, &pairs[1], &err) &&
             netns_run(pairs[1].a.ns_fd, address_here, &pairs[1].a, &err) &&
             netns_run(pairs[1].b.ns_fd, address_here, &pairs[1].b, &err),
         &err);
    (void)sleep(2); /* Bridges find that their links are up. */
    measure(pairs, rounds, &err);
    double ours = median_us(&pairs[0]), theirs = median_us(&pairs[1]);
    for (int i = 0; i < 2; i++) {
        (void)printf("  %-26s UDP echo %7.1f us   TCP %8.0f Mbit/s\n", pairs[i].what,
                     i ? theirs : ours, pairs[i].mbit);
    }
    (void)printf("  ratio: latency %.2f (goal 1.30), throughput %.2f (goal 0.80)\n",
                 ours / theirs, pairs[0].mbit / pairs[1].mbit);
    for (int i = 0; i < 2; i++) {
        must(netns_remove(pairs[i].a.name, &err) && netns_remove(pairs[i].b.name, &err),
             &err);
        VEC_FREE(&pairs[i].trips);
    }
    must(netns_remove(bare, &err) && net_sweep(net, &err), &err);
    net_close(net);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    return 0;
}
