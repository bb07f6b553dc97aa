/* connect.c - sockets inside a VPC's namespace: see net.h. */
#include "node/net/net_parts.h"
#include "node/net/netns.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

struct make {
    int type, fd;
    bool listen;
    struct sockaddr_in local;
};

struct connecting {
    uv_poll_t poll;
    uv_timer_t timer;
    int handles, fd;
    net_connect_fn *done;
    void *ctx;
};

static struct sockaddr_in
address_of(uint32_t ipv4, int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(ipv4)};
}

static bool
make_here(void *ctx, struct err *err)
{
    struct make *m = ctx;
    AUTO(fd) int fd = socket(AF_INET, m->type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return err_sys(err, errno, "make a socket");
    }
    int on = 1;
    if (m->listen && /* A predecessor may be about to leave the same address. */
        (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
         setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0)) {
        return err_sys(err, errno, "share a socket's address");
    }
    if (bind(fd, (struct sockaddr *)&m->local, sizeof m->local) < 0) {
        return err_sys(err, errno, "bind a socket");
    }
    if (m->listen && m->type == SOCK_STREAM && listen(fd, 256) < 0) {
        return err_sys(err, errno, "listen");
    }
    m->fd = take_fd(&fd);
    return true;
}

bool
net_listen(struct net *net, const char *network_id, const char *ipv4, int port,
           int type, int *out_fd, struct err *err)
{
    struct network *network = map_get(net->networks, network_id);
    uint32_t ip;
    if (!network) {
        return err_set(err, ERR_NOT_FOUND, "network %s is not here", network_id);
    }
    if (!addr_parse_ipv4(ipv4, &ip) || port < 1 || port > 65535) {
        return err_set(err, ERR_INVALID, "listen on %s:%d", ipv4, port);
    }
    struct make m = {
        .type = type, .fd = -1, .listen = true, .local = address_of(ip, port)};
    if (!netns_run(network->ns_fd, make_here, &m, err)) {
        return err_wrap(err, "%s:%d in network %s", ipv4, port, network_id);
    }
    *out_fd = m.fd;
    return true;
}

static void
on_closed(uv_handle_t *handle)
{
    struct connecting *c = handle->data;
    if (--c->handles == 0) {
        if (c->fd >= 0) {
            close(c->fd);
        }
        free(c);
    }
}

/* Tells, once, and takes itself down. The descriptor goes to the callee first: libuv
 * has stopped looking at it. */
static void
finish(struct connecting *c, int sys)
{
    int fd = -1;
    struct err err = {0};
    (void)uv_poll_stop(&c->poll);
    uv_close((uv_handle_t *)&c->poll, on_closed);
    uv_close((uv_handle_t *)&c->timer, on_closed);
    if (sys == 0) {
        fd = take_fd(&c->fd);
    } else {
        (void)err_sys(&err, sys, "connect to the guest");
    }
    c->done(c->ctx, fd, &err);
}

static void
on_writable(uv_poll_t *poll, int status, int events)
{
    struct connecting *c = poll->data;
    /* The socket knows why; libuv calls every failed connection EBADF. */
    int sys = 0;
    socklen_t len = sizeof sys;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &sys, &len) < 0) {
        sys = errno;
    }
    finish(c, sys == 0 && status < 0 ? -status : sys);
}

static void
on_timeout(uv_timer_t *timer)
{
    finish(timer->data, ETIMEDOUT);
}

/* The address wanted, if it is the port's; false: it is not. */
static bool
own_address(const struct port *port, const char *ipv4, uint32_t *out)
{
    uint32_t ip = port->addresses[0];
    if (ipv4 && !addr_parse_ipv4(ipv4, &ip)) {
        return false;
    }
    for (size_t i = 0; i < port->address_count; i++) {
        if (port->addresses[i] == ip) {
            *out = ip;
            return true;
        }
    }
    return false;
}

/* Takes 'fd', if it can. */
static bool
watch(struct net *net, int *fd, uint64_t timeout_ns, net_connect_fn *done, void *ctx,
      struct err *err)
{
    struct connecting *c = xcalloc(1, sizeof *c);
    int rc = uv_poll_init(net->config.loop, &c->poll, *fd);
    if (rc < 0) {
        free(c);
        return err_sys(err, -rc, "watch a connection");
    }
    (void)uv_timer_init(net->config.loop, &c->timer);
    c->poll.data = c->timer.data = c;
    c->handles = 2;
    c->fd = take_fd(fd);
    c->done = done;
    c->ctx = ctx;
    (void)uv_poll_start(&c->poll, UV_WRITABLE, on_writable);
    (void)uv_timer_start(&c->timer, on_timeout, timeout_ns / NS_PER_MS, 0);
    return true;
}

/* No waiting for more to send; and a guest that died without a word is missed within
 * half a minute, when it has not come back, and a quarter when it has: nobody who waits
 * for it to speak would ever know. */
static void
quicken(int fd)
{
    static const struct {
        int level, option, value;
    } set[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},   {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 10}, {IPPROTO_TCP, TCP_KEEPINTVL, 5},
        {IPPROTO_TCP, TCP_KEEPCNT, 4},
    };
    for (size_t i = 0; i < ARRAY_LEN(set); i++) {
        (void)setsockopt(fd, set[i].level, set[i].option, &set[i].value,
                         sizeof set[i].value);
    }
}

bool
net_connect(struct net *net, const char *port_id, const char *ipv4, int tcp_port,
            uint64_t timeout_ns, net_connect_fn *done, void *ctx, struct err *err)
{
    const struct port *port = port_id ? map_get(net->ports, port_id) : NULL;
    uint32_t ip;
    if (!port) {
        return err_set(err, ERR_NOT_FOUND, "port %s is not here",
                       port_id ? port_id : "");
    }
    if (!own_address(port, ipv4, &ip) || tcp_port < 1 || tcp_port > 65535) {
        return err_set(err, ERR_INVALID, "port %s: not its address, or no TCP port",
                       port_id);
    }
    struct make m = {.type = SOCK_STREAM,
                     .fd = -1,
                     .local = address_of(dnsmasq_router(&port->subnet->cidr), 0)};
    if (!netns_run(port->subnet->network->ns_fd, make_here, &m, err)) {
        return false;
    }
    AUTO(fd) int fd = m.fd;
    quicken(fd);
    struct sockaddr_in to = address_of(ip, tcp_port);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) {
        return err_sys(err, errno, "connect to the guest");
    }
    return watch(net, &fd, timeout_ns, done, ctx, err);
}
