/* net_policy.c - a large VPC's rules programmed from nothing, and one interface that joins a
 * group of many, beside the bare kernel's part of each.
 *
 * Usage: bench-net-policy [PORTS [GROUPS]], as root; 10,000 and 500. Bare: as many elements
 * put into a set of their own by libnftnl alone. Everything is removed again. */
#include "link/link.h"
#include "node/net/elems.h"
#include "node/net/net.h"
#include "node/net/netns.h"
#include "node/net/rules.h"
#include <linux/netfilter.h>

#define JOINS 100

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

static double
resident_mib(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    long pages = 0, resident = 0;
    if (f) {
        (void)!fscanf(f, "%ld %ld", &pages, &resident);
        (void)fclose(f);
    }
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / (double)MIB;
}

static void
want_groups(struct net *net, int groups, struct err *err)
{
    for (int i = 0; i < groups; i++) {
        char id[32], other[32];
        (void)snprintf(id, sizeof id, "sg-%d", i);
        (void)snprintf(other, sizeof other, "sg-%d", (i + 1) % groups);
        struct link_group_rule rules[] = {
            {.protocol = -1, .cidr = "0.0.0.0/0", .egress = true},
            {.protocol = 6, .from_port = 22, .to_port = 22, .cidr = "10.0.0.0/8"},
            {.protocol = 6, .from_port = 443, .to_port = 443, .group_id = other},
            {.protocol = -1, .group_id = id},
        };
        struct link_group group = {
            .id = id, .network_id = "vpc-1", .rules = {rules, ARRAY_LEN(rules)}};
        must(net_want(net, LINK_GROUP, &group, err), err);
    }
}

static void
want_member(struct net *net, int group, int n, const char *address, struct err *err)
{
    char id[64], group_id[32];
    (void)snprintf(id, sizeof id, "sg-%d.eni-%d", group, n);
    (void)snprintf(group_id, sizeof group_id, "sg-%d", group);
    struct link_group_member m = {.id = id,
                                  .network_id = "vpc-1",
                                  .group_id = group_id,
                                  .addresses = {&address, 1}};
    must(net_want(net, LINK_GROUP_MEMBER, &m, err), err);
}

static void
want_port(struct net *net, int n, int groups, struct err *err)
{
    char id[32], mac[32], ip[32], group[32], all[] = "sg-0";
    const char *ids[] = {all, group};
    (void)snprintf(id, sizeof id, "eni-%d", n);
    (void)snprintf(group, sizeof group, "sg-%d", n % groups);
    (void)snprintf(mac, sizeof mac, "02:00:00:00:%02x:%02x", n >> 8, n & 255);
    (void)snprintf(ip, sizeof ip, "10.0.%d.%d", (n + 16) >> 8, (n + 16) & 255);
    struct link_port port = {.id = id,
                             .subnet_id = "subnet-1",
                             .mac = mac,
                             .ipv4 = ip,
                             .check_source = true,
                             .group_ids = {ids, n % groups == 0 ? 1 : 2}};
    must(net_want_port(net, &port, err), err);
    want_member(net, 0, n, ip, err); /* One group has them all. */
    if (n % groups != 0) {
        want_member(net, n % groups, n, ip, err);
    }
}

static bool
bare_here(void *ctx, struct err *err)
{
    int count = *(int *)ctx;
    if (!rules_run("add table inet moln\nadd set inet moln bare { type ipv4_addr; }\n",
                   err)) {
        return false;
    }
    AUTO(elems) struct elems *elems = elems_open(err);
    AUTO(free) struct elem *list = xcalloc((size_t)count, sizeof *list);
    for (int i = 0; i < count; i++) {
        list[i] = elem_in(NFPROTO_INET, "bare");
        elem_key_ipv4(&list[i], 0x0a000000u + (uint32_t)i);
    }
    int64_t start = now();
    bool ok = elems && elems_add(elems, list, (size_t)count, err);
    (void)printf("  bare kernel: %d elements into one set       %8.1f ms\n", count,
                 (double)(now() - start) / 1e6);
    struct elem one = elem_in(NFPROTO_INET, "bare");
    elem_key_ipv4(&one, 0x0b000000u);
    start = now();
    for (int i = 0; ok && i < JOINS; i++) {
        ok = elems_add(elems, &one, 1, err) && elems_del(elems, &one, 1, err);
    }
    (void)printf("  bare kernel: one element, in and out         %8.3f ms\n",
                 (double)(now() - start) / 1e6 / JOINS);
    return ok;
}

static void
bare(int elements, struct err *err)
{
    AUTO(fd) int fd = -1;
    char name[32];
    (void)snprintf(name, sizeof name, "molnbench-%d", (int)getpid());
    must(netns_make(name, &fd, err) && netns_run(fd, bare_here, &elements, err), err);
    must(netns_remove(name, err), err);
}

static void
joins(struct net *net, int ports, struct err *err)
{
    int64_t worst = 0, sum = 0;
    for (int i = 0; i < JOINS; i++) {
        char ip[32];
        (void)snprintf(ip, sizeof ip, "10.1.0.%d", i);
        int64_t start = now();
        want_member(net, 0, ports + i, ip, err);
        int64_t took = now() - start;
        sum += took;
        worst = MAX(worst, took);
    }
    (void)printf("  join to a group of %d: mean %.3f ms, worst    %8.3f ms\n", ports,
                 (double)sum / 1e6 / JOINS, (double)worst / 1e6);
}

int
main(int argc, char **argv)
{
    int ports = argc > 1 ? atoi(argv[1]) : 10000,
        groups = argc > 2 ? atoi(argv[2]) : 500;
    uv_loop_t loop;
    struct err err = {0};
    char cloud[32];
    (void)snprintf(cloud, sizeof cloud, "bench%d", (int)getpid());
    if (uv_loop_init(&loop) != 0 || ports < 1 || ports > 60000 || groups < 1) {
        return 2;
    }
    struct net_config config = {
        .loop = &loop, .cloud_id = cloud, .clock = &clock_system, .rng = &rng_system};
    struct net *net = net_open(&config, &err);
    must(net != NULL, &err);
    struct link_network network = {.id = "vpc-1"};
    struct link_subnet subnet = {.id = "subnet-1",
                                 .network_id = "vpc-1",
                                 .cidr = "10.0.0.0/16",
                                 .acl_off = true};
    must(net_want_network(net, &network, &err) && net_want_subnet(net, &subnet, &err),
         &err);
    (void)printf("%d interfaces, %d groups\n", ports, groups);
    bare(ports * 8, &err);
    int64_t start = now();
    net_hold(net);
    want_groups(net, groups, &err);
    for (int i = 0; i < ports; i++) {
        want_port(net, i, groups, &err);
    }
    int64_t noted = now();
    must(net_release(net, &err), &err);
    (void)printf("  noted, with neighbours and DHCP's files      %8.1f ms\n",
                 (double)(noted - start) / 1e6);
    (void)printf("  all rules and elements into the kernel       %8.1f ms\n",
                 (double)(now() - noted) / 1e6);
    (void)printf("  resident memory                              %8.1f MiB\n",
                 resident_mib());
    joins(net, ports, &err);
    size_t drift = 0;
    start = now();
    must(net_check(net, &drift, &err) && net_check(net, &drift, &err), &err);
    (void)printf("  read back and compared, drift %zu              %8.1f ms\n", drift,
                 (double)(now() - start) / 2e6);
    must(net_sweep(net, &err), &err);
    net_close(net);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    return 0;
}
