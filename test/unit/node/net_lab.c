/* net_lab.c - see net_lab.h. */
#include "net_lab.h"
#include "link/link.h"
#include "net_guest.h"
#include <dirent.h>

bool
lab_can_run(void)
{
    if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) < 0) {
        print_message("skipped: needs root and /dev/net/tun\n");
        return false;
    }
    return true;
}

void
lab_reopen(struct lab *lab)
{
    net_close(lab->net);
    loop_turn(&lab->loop, 5);
    struct net_config config = {.loop = &lab->loop,
                                .cloud_id = lab->cloud,
                                .clock = &clock_system,
                                .rng = &rng_system};
    lab->net = net_open(&config, &lab->err);
    CHECK_OK(lab->net != NULL, &lab->err);
}

/* Of one length: no process's name begins with another's. */
static void
name_cloud(struct lab *lab)
{
    (void)snprintf(lab->cloud, sizeof lab->cloud, "test%07d", (int)getpid());
}

/* Whatever a failed test left behind goes with the process. */
static void
sweep_at_exit(void)
{
    static struct lab lab;
    name_cloud(&lab);
    if (uv_loop_init(&lab.loop) == 0) {
        lab_reopen(&lab);
        (void)!net_sweep(lab.net, &lab.err);
        net_close(lab.net);
        loop_turn(&lab.loop, 5);
        (void)uv_loop_close(&lab.loop);
    }
}

void
lab_init(struct lab *lab)
{
    static bool once;
    if (!once) {
        once = true;
        (void)atexit(sweep_at_exit);
    }
    memset(lab, 0, sizeof *lab);
    CHECK_EQ(uv_loop_init(&lab->loop), 0);
    name_cloud(lab);
    lab_reopen(lab);
    CHECK_OK(net_sweep(lab->net, &lab->err), &lab->err);
    lab_reopen(lab);
}

int
lab_count(const char *folder, const char *prefix)
{
    DIR *dir = opendir(folder);
    int n = 0;
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        n += str_starts(e->d_name, prefix);
    }
    if (dir) {
        (void)closedir(dir);
    }
    return n;
}

void
lab_fini(struct lab *lab)
{
    CHECK_OK(net_sweep(lab->net, &lab->err), &lab->err);
    net_close(lab->net);
    loop_turn(&lab->loop, 5);
    (void)uv_run(&lab->loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&lab->loop), 0);
    char prefix[64];
    (void)snprintf(prefix, sizeof prefix, "moln-%s", lab->cloud);
    CHECK_EQ(lab_count("/run/netns", prefix), 0);
    CHECK_EQ(lab_count("/run", prefix), 0);
}

void
lab_network(struct lab *lab, const char *id, const char *subnet_id, const char *cidr)
{
    struct link_network network = {.id = id, .domain = "test.internal"};
    struct link_subnet subnet = {
        .id = subnet_id, .network_id = id, .cidr = cidr, .acl_off = true};
    struct link_group_rule rules[] = {
        {.protocol = -1, .cidr = "0.0.0.0/0"},
        {.protocol = -1, .cidr = "0.0.0.0/0", .egress = true}};
    struct link_group open = {
        .id = "sg-open", .network_id = id, .rules = {.items = rules, .count = 2}};
    CHECK_OK(net_want_network(lab->net, &network, &lab->err), &lab->err);
    CHECK_OK(net_want_subnet(lab->net, &subnet, &lab->err), &lab->err);
    CHECK_OK(net_want(lab->net, LINK_GROUP, &open, &lab->err), &lab->err);
}

void
lab_port(struct lab *lab, const char *id, const char *subnet_id, const char *mac,
         const char *ip)
{
    const char *groups[] = {"sg-open"};
    struct link_port port = {.id = id,
                             .subnet_id = subnet_id,
                             .mac = mac,
                             .ipv4 = ip,
                             .check_source = true,
                             .group_ids = {.items = groups, .count = 1}};
    CHECK_OK(net_want_port(lab->net, &port, &lab->err), &lab->err);
}
