/* test_net_live.c - real namespaces, taps and dnsmasq, with guests made of frames.
 * Needs root; nothing leaves the namespaces that the test makes. */
#include "net_guest.h"
#include "net_lab.h"
#include "node/net/addr.h"
#include <dirent.h>
#include <signal.h>
#include <time.h>

#define SOON_MS 20000 /* What comes comes within a moment, but on a busy host. */

static struct guest
plug(struct lab *lab, const char *port_id)
{
    struct guest g = {.fd = -1};
    const struct net_port_info *info = net_port_get(lab->net, port_id);
    CHECK(info != NULL);
    CHECK_OK(net_tap_open(lab->net, port_id, &g.fd, &lab->err), &lab->err);
    CHECK(addr_parse_mac(info->mac, g.mac));
    CHECK(addr_parse_ipv4(info->ipv4, &g.ipv4));
    return g;
}

/* Whether the router answers the guest's question for 'ip', asked with this sender. */
static bool
arp_answered(struct lab *lab, const struct guest *g, const uint8_t mac[6], uint32_t src,
             uint32_t ip)
{
    struct frame f;
    frame_arp(&f, mac, src, ip);
    guest_send(g, &f);
    while (guest_wait(g, &lab->loop, 150, frame_is_arp_reply, &f)) {
        /* A late answer to an earlier question is none to this one. */
        if (memcmp(f.data + 32, mac, 6) == 0 && frame_u32(&f, 38) == src &&
            frame_u32(&f, 28) == ip) {
            return true;
        }
    }
    return false;
}

/* The kernel may take a second before it lets a new link send. */
static bool
arp_comes_up(struct lab *lab, const struct guest *g)
{
    for (int i = 0; i < SOON_MS / 150; i++) {
        if (arp_answered(lab, g, g->mac, g->ipv4, (g->ipv4 & 0xffffff00) + 1)) {
            return true;
        }
    }
    return false;
}

/* Asks once for an address for 'mac'; whether it is given one within 'ms'. */
static bool
dhcp_asked(struct lab *lab, const struct guest *g, const uint8_t mac[6], int ms,
           struct frame *out)
{
    frame_dhcp(out, mac, 1, 0);
    guest_send(g, out);
    while (guest_wait(g, &lab->loop, ms, frame_is_dhcp_reply, out)) {
        if (memcmp(out->data + 70, mac, 6) == 0) {
            return true;
        }
    }
    return false;
}

static bool
dhcp_answered(struct lab *lab, const struct guest *g, struct frame *out)
{
    for (int i = 0; i < SOON_MS / 100; i++) { /* dnsmasq may still be starting. */
        if (dhcp_asked(lab, g, g->mac, 100, out)) {
            return true;
        }
    }
    return false;
}

TEST(net_makes_a_network_quickly_and_again)
{
    if (!lab_can_run()) {
        return;
    }
    struct lab lab;
    lab_init(&lab);
    struct timespec a, b;
    (void)clock_gettime(CLOCK_MONOTONIC, &a);
    lab_network(&lab, "vpc-1", "subnet-1", "10.0.0.0/24");
    (void)clock_gettime(CLOCK_MONOTONIC, &b);
    print_message("network and subnet: %.2f ms\n",
                  (double)(b.tv_sec - a.tv_sec) * 1e3 +
                      (double)(b.tv_nsec - a.tv_nsec) / 1e6);
    lab_network(&lab, "vpc-1", "subnet-1", "10.0.0.0/24");
    lab_port(&lab, "eni-1", "subnet-1", "02:00:00:00:00:05", "10.0.0.5");
    lab_port(&lab, "eni-1", "subnet-1", "02:00:00:00:00:05", "10.0.0.5");
    CHECK_STR(net_port_caller(lab.net, "vpc-1", "10.0.0.5"), "eni-1");
    CHECK_NULL(net_port_caller(lab.net, "vpc-1", "10.0.0.6"));
    CHECK(!net_drop_network(lab.net, "vpc-1", &lab.err));
    CHECK_EQ(lab.err.code, ERR_BUSY);
    CHECK_OK(net_drop_port(lab.net, "eni-1", &lab.err), &lab.err);
    CHECK_OK(net_drop_port(lab.net, "eni-1", &lab.err), &lab.err);
    CHECK_OK(net_drop_network(lab.net, "vpc-1", &lab.err), &lab.err);
    CHECK_OK(net_drop_network(lab.net, "vpc-1", &lab.err), &lab.err);
    lab_fini(&lab);
}

TEST(net_answers_dhcp_of_known_macs_only)
{
    if (!lab_can_run()) {
        return;
    }
    struct lab lab;
    lab_init(&lab);
    lab_network(&lab, "vpc-1", "subnet-1", "10.0.0.0/24");
    lab_port(&lab, "eni-1", "subnet-1", "02:00:00:00:00:05", "10.0.0.5");
    struct guest g = plug(&lab, "eni-1");
    struct frame f;
    CHECK(dhcp_answered(&lab, &g, &f));
    CHECK_EQ(frame_u32(&f, 14 + 28 + 16), IP4(10, 0, 0, 5));
    size_t len;
    const uint8_t *name = frame_dhcp_option(&f, 12, &len);
    CHECK(name && len == 11 && memcmp(name, "ip-10-0-0-5", 11) == 0);
    const uint8_t *router = frame_dhcp_option(&f, 3, &len);
    CHECK(router && router[3] == 1);
    const uint8_t *dns = frame_dhcp_option(&f, 6, &len);
    CHECK(dns && dns[3] == 2);
    const uint8_t stranger[6] = {2, 0, 0, 0, 0, 6};
    CHECK(!dhcp_asked(&lab, &g, stranger, 300, &f));
    close(g.fd);
    lab_fini(&lab);
}

TEST(net_drops_what_a_guest_forges)
{
    if (!lab_can_run()) {
        return;
    }
    struct lab lab;
    lab_init(&lab);
    lab_network(&lab, "vpc-1", "subnet-1", "10.0.0.0/24");
    lab_port(&lab, "eni-1", "subnet-1", "02:00:00:00:00:05", "10.0.0.5");
    lab_port(&lab, "eni-2", "subnet-1", "02:00:00:00:00:06", "10.0.0.6");
    struct guest a = plug(&lab, "eni-1"), b = plug(&lab, "eni-2");
    const uint32_t router = IP4(10, 0, 0, 1);
    struct frame f;
    CHECK(arp_comes_up(&lab, &a));
    CHECK(arp_comes_up(&lab, &b));
    CHECK(!arp_answered(&lab, &a, a.mac, b.ipv4, router));
    CHECK(!arp_answered(&lab, &a, b.mac, a.ipv4, router));
    CHECK(!arp_answered(&lab, &a, b.mac, b.ipv4, router));
    /* Honest datagrams pass between guests; forged ones and DHCP's do not. */
    frame_udp(&f, a.mac, b.mac, a.ipv4, b.ipv4, 1000, 2000, "hej", 3);
    guest_send(&a, &f);
    CHECK(guest_wait(&b, &lab.loop, SOON_MS, frame_is_udp, &f));
    frame_udp(&f, a.mac, b.mac, IP4(10, 0, 0, 9), b.ipv4, 1000, 2000, "hej", 3);
    guest_send(&a, &f);
    frame_udp(&f, b.mac, b.mac, b.ipv4, b.ipv4, 1000, 2000, "hej", 3);
    guest_send(&a, &f);
    frame_udp(&f, a.mac, b.mac, a.ipv4, b.ipv4, 67, 68, "hej", 3);
    guest_send(&a, &f);
    CHECK(!guest_wait(&b, &lab.loop, 200, frame_is_udp, &f));
    frame_dhcp(&f, a.mac, 1, 0); /* The router hears it, the neighbour does not. */
    guest_send(&a, &f);
    CHECK(!guest_wait(&b, &lab.loop, 200, frame_is_dhcp_request, &f));
    /* A dropped port is mute at once. */
    CHECK_OK(net_drop_port(lab.net, "eni-1", &lab.err), &lab.err);
    frame_udp(&f, a.mac, b.mac, a.ipv4, b.ipv4, 1000, 2000, "hej", 3);
    (void)!write(a.fd, &f, 64);
    CHECK(!guest_wait(&b, &lab.loop, 100, frame_is_udp, &f));
    close(a.fd);
    close(b.fd);
    lab_fini(&lab);
}

/* '*out_flags' is 0xffff when there is no answer within 'ms'. */
static void
ask_dns(struct lab *lab, const struct guest *g, uint32_t server, int ms,
        uint16_t *out_flags, uint32_t *out_address)
{
    static const uint8_t question[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
                                      "\x0bip-10-0-0-5\x04test\x08internal\x00\x00\x01"
                                      "\x00\x01";
    struct frame f;
    frame_arp(&f, g->mac, g->ipv4, server);
    guest_send(g, &f);
    *out_flags = 0xffff;
    do {
        CHECK(guest_wait(g, &lab->loop, SOON_MS, frame_is_arp_reply, &f));
    } while (frame_u32(&f, 28) != server);
    uint8_t router[6];
    memcpy(router, f.data + 6, 6);
    frame_udp(&f, g->mac, router, g->ipv4, server, 3333, 53, question,
              sizeof question - 1);
    guest_send(g, &f);
    if (guest_wait(g, &lab->loop, ms, frame_is_dns_answer, &f)) {
        *out_flags = (uint16_t)(f.data[44] << 8 | f.data[45]);
        *out_address = frame_u32(&f, f.len - 4);
    }
}

TEST(net_resolves_private_names_at_three_addresses)
{
    if (!lab_can_run()) {
        return;
    }
    struct lab lab;
    lab_init(&lab);
    lab_network(&lab, "vpc-1", "subnet-1", "10.0.0.0/24");
    lab_port(&lab, "eni-1", "subnet-1", "02:00:00:00:00:05", "10.0.0.5");
    struct guest g = plug(&lab, "eni-1");
    struct frame f;
    CHECK(dhcp_answered(&lab, &g, &f)); /* dnsmasq is up. */
    uint16_t flags;
    uint32_t address = 0;
    ask_dns(&lab, &g, IP4(10, 0, 0, 2), SOON_MS, &flags, &address);
    CHECK_EQ(flags & 15, 0);
    CHECK_EQ(address, IP4(10, 0, 0, 5));
    address = 0;
    ask_dns(&lab, &g, IP4(169, 254, 169, 253), SOON_MS, &flags, &address);
    CHECK_EQ(address, IP4(10, 0, 0, 5));
    /* Not the router's service. */
    ask_dns(&lab, &g, IP4(10, 0, 0, 1), 300, &flags, &address);
    CHECK_EQ(flags, 0xffff);
    close(g.fd);
    lab_fini(&lab);
}

TEST(net_limits_what_a_port_asks_of_services)
{
    if (!lab_can_run()) {
        return;
    }
    struct lab lab;
    lab_init(&lab);
    lab_network(&lab, "vpc-1", "subnet-1", "10.0.0.0/24");
    lab_port(&lab, "eni-1", "subnet-1", "02:00:00:00:00:05", "10.0.0.5");
    struct guest g = plug(&lab, "eni-1");
    struct frame f, question;
    CHECK(dhcp_answered(&lab, &g, &f));
    CHECK(arp_comes_up(&lab, &g));
    frame_arp(&f, g.mac, g.ipv4, IP4(169, 254, 169, 253));
    guest_send(&g, &f);
    do {
        CHECK(guest_wait(&g, &lab.loop, SOON_MS, frame_is_arp_reply, &f));
    } while (frame_u32(&f, 28) != IP4(169, 254, 169, 253));
    static const uint8_t root[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
                                  "\x01x\x00\x00\x01\x00\x01";
    frame_udp(&question, g.mac, f.data + 6, g.ipv4, IP4(169, 254, 169, 253), 3333, 53,
              root, sizeof root - 1);
    int answers = 0;
    int64_t start = clock_mono(&clock_system);
    for (int i = 0; i < 900; i++) { /* Asked one by one: each is answered. */
        guest_send(&g, &question);
        CHECK(guest_wait(&g, &lab.loop, SOON_MS, frame_is_dns_answer, &f));
        answers++;
    }
    for (int i = 0; i < 6000; i++) { /* Slowly enough for dnsmasq to answer all. */
        guest_send(&g, &question);
        (void)usleep(50);
        uint8_t in[2048];
        for (ssize_t n; (n = read(g.fd, in, sizeof in)) > 0;) {
            answers += n > 50 && in[10 + 12] == 8 && in[10 + 13] == 0;
        }
    }
    while (guest_wait(&g, &lab.loop, 200, frame_is_dns_answer, &f)) {
        answers++;
    }
    double took_s = (double)(clock_mono(&clock_system) - start) / 1e9;
    print_message("%d answers in %.1f s\n", answers, took_s);
    CHECK(answers < 1100 + 1024 * took_s);
    close(g.fd);
    lab_fini(&lab);
}

static pid_t
dnsmasq_of(struct lab *lab)
{
    char name[64], want[128], line[256] = {0};
    (void)snprintf(want, sizeof want, "--conf-file=/run/moln-%s/", lab->cloud);
    DIR *proc = opendir("/proc");
    pid_t pid = 0;
    for (struct dirent *e; (e = readdir(proc)) != NULL && pid == 0;) {
        (void)snprintf(name, sizeof name, "/proc/%.20s/cmdline", e->d_name);
        FILE *f = fopen(name, "re");
        size_t n = f ? fread(line, 1, sizeof line - 1, f) : 0;
        if (f) {
            (void)fclose(f);
        }
        if (n > 0 && memmem(line, n, want, strlen(want))) {
            pid = (pid_t)atoi(e->d_name);
        }
    }
    (void)closedir(proc);
    return pid;
}

TEST(net_adopts_what_runs_without_cutting_traffic)
{
    if (!lab_can_run()) {
        return;
    }
    struct lab lab;
    lab_init(&lab);
    lab_network(&lab, "vpc-1", "subnet-1", "10.0.0.0/24");
    lab_network(&lab, "vpc-2", "subnet-2", "10.0.0.0/24");
    lab_port(&lab, "eni-1", "subnet-1", "02:00:00:00:00:05", "10.0.0.5");
    lab_port(&lab, "eni-2", "subnet-1", "02:00:00:00:00:06", "10.0.0.6");
    struct guest a = plug(&lab, "eni-1"), b = plug(&lab, "eni-2");
    struct frame f;
    CHECK(dhcp_answered(&lab, &a, &f));
    pid_t before = dnsmasq_of(&lab);
    CHECK(before > 0);

    lab_reopen(&lab); /* The agent is another one now. */
    CHECK(arp_comes_up(&lab, &a));
    lab_network(&lab, "vpc-1", "subnet-1", "10.0.0.0/24");
    lab_port(&lab, "eni-1", "subnet-1", "02:00:00:00:00:05", "10.0.0.5");
    CHECK(!net_tap_open(lab.net, "eni-1", &a.fd, &lab.err)); /* The guest holds it. */
    CHECK_EQ(lab.err.code, ERR_BUSY);
    frame_udp(&f, b.mac, a.mac, b.ipv4, a.ipv4, 1000, 2000, "hej", 3);
    guest_send(&b, &f);
    CHECK(guest_wait(&a, &lab.loop, SOON_MS, frame_is_udp, &f));
    loop_turn(&lab.loop, 700);
    CHECK_EQ(dnsmasq_of(&lab), before);

    CHECK_OK(net_prune(lab.net, &lab.err),
             &lab.err); /* vpc-2 and eni-2 are not wanted. */
    char prefix[64];
    (void)snprintf(prefix, sizeof prefix, "moln-%s", lab.cloud);
    CHECK_EQ(lab_count("/run/netns", prefix), 1);
    CHECK(arp_comes_up(&lab, &a));
    close(a.fd);
    close(b.fd);
    lab_fini(&lab);
}

TEST(net_starts_dnsmasq_again_when_it_dies)
{
    if (!lab_can_run()) {
        return;
    }
    struct lab lab;
    lab_init(&lab);
    lab_network(&lab, "vpc-1", "subnet-1", "10.0.0.0/24");
    lab_port(&lab, "eni-1", "subnet-1", "02:00:00:00:00:05", "10.0.0.5");
    struct guest g = plug(&lab, "eni-1");
    struct frame f;
    CHECK(dhcp_answered(&lab, &g, &f));
    pid_t first = dnsmasq_of(&lab);
    CHECK(first > 0);
    CHECK_EQ(kill(first, SIGKILL), 0);
    pid_t second;
    do {
        loop_turn(&lab.loop, 20);
        second = dnsmasq_of(&lab);
    } while (second == 0 || second == first);
    CHECK(dhcp_answered(&lab, &g, &f));
    close(g.fd);
    lab_fini(&lab);
}
