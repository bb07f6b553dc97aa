/* net_kernel_guest.c - see net_kernel_guest.h. */
#include "net_kernel_guest.h"
#include "base/buf.h"
#include "node/net/addr.h"
#include "node/net/links.h"
#include "node/net/netns.h"
#include "node/net/tap.h"
#include <arpa/inet.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <poll.h>
#include <sys/ioctl.h>

static void *
pump(void *arg)
{
    struct kernel_guest *g = arg;
    uint8_t data[4096];
    struct pollfd p[] = {
        {g->inner_fd, POLLIN, 0}, {g->outer_fd, POLLIN, 0}, {g->stop[0], POLLIN, 0}};
    while (poll(p, 3, -1) >= 0 && !p[2].revents) {
        for (int i = 0; i < 2; i++) {
            ssize_t n = p[i].revents ? read(p[i].fd, data, sizeof data) : 0;
            if (n > 0) {
                (void)!write(p[1 - i].fd, data, (size_t)n);
            }
        }
    }
    return NULL;
}

static bool
set_up(void *ctx, struct err *err)
{
    const struct net_port_info *info = ctx;
    AUTO(fd) int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq req = {.ifr_name = "eth0", .ifr_hwaddr.sa_family = ARPHRD_ETHER};
    uint32_t ip;
    int eth0, lo;
    struct links *links = links_open(err);
    CHECK(links && addr_parse_mac(info->mac, (uint8_t *)req.ifr_hwaddr.sa_data));
    CHECK_EQ(ioctl(sock, SIOCSIFHWADDR, &req), 0);
    CHECK(addr_parse_ipv4(info->ipv4, &ip));
    CHECK_OK(links_find(links, "eth0", &eth0, err) &&
                 links_find(links, "lo", &lo, err) && links_up(links, lo, err) &&
                 links_address(links, eth0, ip, 24, err) && links_up(links, eth0, err),
             err);
    links_close(links);
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
    struct sockaddr_in any = {.sin_family = AF_INET}, gateway = any;
    gateway.sin_addr.s_addr = htonl((ip & 0xffffff00) + 1);
    memcpy(&route.rt_dst, &any, sizeof any);
    memcpy(&route.rt_genmask, &any, sizeof any);
    memcpy(&route.rt_gateway, &gateway, sizeof gateway);
    CHECK_EQ(ioctl(sock, SIOCADDRT, &route), 0);
    return true;
}

void
kernel_guest_start(struct kernel_guest *g, struct lab *lab, const char *port_id)
{
    static int count;
    memset(g, 0, sizeof *g);
    (void)snprintf(g->name, sizeof g->name, "moln-%s-g%d", lab->cloud, count++);
    CHECK_OK(netns_make(g->name, &g->ns_fd, &lab->err), &lab->err);
    CHECK_OK(tap_open(g->ns_fd, "eth0", &g->inner_fd, &lab->err), &lab->err);
    CHECK_OK(net_tap_open(lab->net, port_id, &g->outer_fd, &lab->err), &lab->err);
    const struct net_port_info *info = net_port_get(lab->net, port_id);
    CHECK_OK(netns_run(g->ns_fd, set_up, (void *)(uintptr_t)info, &lab->err),
             &lab->err);
    CHECK_EQ(pipe(g->stop), 0);
    CHECK_EQ(pthread_create(&g->pump, NULL, pump, g), 0);
}

void
kernel_guest_stop(struct kernel_guest *g)
{
    struct err err;
    (void)!write(g->stop[1], "x", 1);
    (void)pthread_join(g->pump, NULL);
    int fds[] = {g->stop[0], g->stop[1], g->inner_fd, g->outer_fd, g->ns_fd};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
    CHECK_OK(netns_remove(g->name, &err), &err);
}

struct open_socket {
    int type, fd;
};

static bool
open_here(void *ctx, struct err *err)
{
    struct open_socket *o = ctx;
    o->fd = socket(AF_INET, o->type | SOCK_CLOEXEC, 0);
    return o->fd >= 0;
}

int
kernel_guest_socket(struct kernel_guest *g, int type, int listen_port)
{
    struct open_socket o = {.type = type, .fd = -1};
    struct err err;
    CHECK(netns_run(g->ns_fd, open_here, &o, &err));
    struct timeval limit = {.tv_sec = 2};
    CHECK_EQ(setsockopt(o.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    CHECK_EQ(setsockopt(o.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), 0);
    if (listen_port) {
        struct sockaddr_in at = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)listen_port)};
        CHECK_EQ(bind(o.fd, (struct sockaddr *)&at, sizeof at), 0);
        CHECK_EQ(listen(o.fd, 8), 0);
    }
    return o.fd;
}

int
kernel_guest_connect(struct kernel_guest *g, const char *ip, int port)
{
    int fd = kernel_guest_socket(g, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    CHECK_EQ(inet_pton(AF_INET, ip, &to.sin_addr), 1);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

char *
kernel_guest_http(struct kernel_guest *g, const char *request)
{
    AUTO(fd) int fd = kernel_guest_connect(g, "169.254.169.254", 80);
    struct buf answer = {0};
    char in[4096];
    if (fd < 0 || write(fd, request, strlen(request)) < 0) {
        return NULL;
    }
    for (ssize_t n; (n = read(fd, in, sizeof in)) > 0;) {
        buf_put(&answer, in, (size_t)n);
    }
    return answer.len ? buf_take(&answer) : NULL;
}
