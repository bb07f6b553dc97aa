/* endpoints.c - see endpoints.h. */
#include "node/endpoints.h"
#include "base/log.h"
#include "base/map.h"
#include "node/net/net.h"
#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>

static const int ports[] = {80, 443};

#define DOORS ARRAY_LEN(ports)
#define ACCEPT_AT_ONCE 16 /* Before others of the loop have their turn. */

struct endpoint;

struct door {
    uv_poll_t poll;
    int fd;
    struct endpoint *endpoint;
};

struct call {
    struct endpoint *endpoint;
    struct link_channel *channel;
    uint32_t caller;
    struct call *next, **link;
};

struct endpoint {
    struct endpoints *all;
    char *id, *network_id, *ipv4;
    struct door doors[DOORS];
    struct call *calls;
    size_t count;
    size_t doors_open;
    int refs; /* The map's, and each door's until it has closed. */
};

struct endpoints {
    struct endpoints_config config;
    struct map *by_id;
    size_t count; /* Connections. */
};

static void on_caller(uv_poll_t *poll, int status, int events);

struct endpoints *
endpoints_create(const struct endpoints_config *config)
{
    struct endpoints *all = xcalloc(1, sizeof *all);
    all->config = *config;
    all->by_id = map_create(NULL);
    return all;
}

/* ---- who is connected ------------------------------------------------------------------- */

/* Whether anybody may come in. */
static void
open_doors(const struct endpoints *all, bool open)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(all->by_id, &it, &id, &value);) {
        struct endpoint *e = value;
        for (size_t i = 0; i < DOORS; i++) {
            (void)(open ? uv_poll_start(&e->doors[i].poll, UV_READABLE, on_caller)
                        : uv_poll_stop(&e->doors[i].poll));
        }
    }
}

static void
call_end(struct call *c)
{
    struct endpoints *all = c->endpoint->all;
    *c->link = c->next;
    if (c->next) {
        c->next->link = c->link;
    }
    c->endpoint->count--;
    if (all->count-- == ENDPOINTS_CONNECTIONS_MAX) {
        open_doors(all, true);
    }
    free(c);
}

static void
on_channel(void *ctx, struct link_channel *channel UNUSED,
           enum link_channel_state state, uint64_t received UNUSED,
           const char *why UNUSED)
{
    if (state == LINK_CHANNEL_DONE) {
        call_end(ctx);
    }
}

static size_t
calls_of(const struct endpoint *e, uint32_t caller)
{
    size_t n = 0;
    for (const struct call *c = e->calls; c; c = c->next) {
        n += c->caller == caller;
    }
    return n;
}

/* Takes 'fd'. */
static void
call_begin(struct endpoint *e, int fd, const struct sockaddr_in *from)
{
    uint32_t caller = ntohl(from->sin_addr.s_addr);
    char address[INET_ADDRSTRLEN];
    if (e->count >= ENDPOINT_CONNECTIONS_MAX ||
        calls_of(e, caller) >= ENDPOINT_CALLER_MAX) {
        close(fd);
        return;
    }
    struct call *c = xcalloc(1, sizeof *c);
    *c = (struct call){
        .endpoint = e, .caller = caller, .next = e->calls, .link = &e->calls};
    if (c->next) {
        c->next->link = &c->next;
    }
    e->calls = c;
    e->count++;
    (void)inet_ntop(AF_INET, &from->sin_addr, address, sizeof address);
    struct link_channel_open open = {.what = "endpoint",
                                     .object = e->id,
                                     .address = address,
                                     .port = ntohs(from->sin_port)};
    struct link_channel_bind bind = {.fd = fd, .fn = on_channel, .ctx = c};
    if (++e->all->count == ENDPOINTS_CONNECTIONS_MAX) {
        open_doors(e->all, false);
    }
    c->channel = e->all->config.open(e->all->config.ctx, &open, &bind);
    if (!c->channel) {
        call_end(c);
    }
}

static void
on_caller(uv_poll_t *poll, int status, int events UNUSED)
{
    struct door *door = poll->data;
    struct endpoints *all = door->endpoint->all;
    for (int i = 0; status == 0 && i < ACCEPT_AT_ONCE; i++) {
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        if (all->count >= ENDPOINTS_CONNECTIONS_MAX) {
            return;
        }
        int fd = accept4(door->fd, (struct sockaddr *)&from, &len,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        call_begin(door->endpoint, fd, &from);
    }
}

/* ---- endpoints ---------------------------------------------------------------------------- */

static void
endpoint_unref(struct endpoint *e)
{
    if (--e->refs == 0) {
        free(e->id);
        free(e->network_id);
        free(e->ipv4);
        free(e);
    }
}

static void
on_closed(uv_handle_t *handle)
{
    struct door *door = handle->data;
    close(door->fd);
    endpoint_unref(door->endpoint);
}

/* Its memory goes when its handles have closed. */
static void
endpoint_close(struct endpoint *e)
{
    while (e->calls) {
        link_channel_close(e->calls->channel, "the endpoint is gone");
    }
    for (size_t i = 0; i < e->doors_open; i++) {
        uv_close((uv_handle_t *)&e->doors[i].poll, on_closed);
    }
    endpoint_unref(e);
}

static bool
door_open(struct endpoint *e, int port, struct err *err)
{
    struct endpoints *all = e->all;
    struct door *door = &e->doors[e->doors_open];
    AUTO(fd) int fd = -1;
    if (!net_listen(all->config.net, e->network_id, e->ipv4, port, SOCK_STREAM, &fd,
                    err)) {
        return false;
    }
    int rc = uv_poll_init(all->config.loop, &door->poll, fd);
    if (rc < 0) {
        return err_sys(err, -rc, "watch the endpoint's port %d", port);
    }
    door->fd = take_fd(&fd);
    door->endpoint = e;
    door->poll.data = door;
    e->doors_open++;
    e->refs++;
    if (all->count < ENDPOINTS_CONNECTIONS_MAX) {
        (void)uv_poll_start(&door->poll, UV_READABLE, on_caller);
    }
    return true;
}

bool
endpoints_want(struct endpoints *all, const struct link_endpoint *want, struct err *err)
{
    const struct endpoint *old = map_get(all->by_id, want->id);
    if (old && str_eq(old->ipv4, want->ipv4) &&
        str_eq(old->network_id, want->network_id)) {
        return true;
    }
    endpoints_drop(all, want->id);
    struct endpoint *e = xcalloc(1, sizeof *e);
    e->all = all;
    e->refs = 1;
    e->id = xstrdup(want->id);
    e->network_id = xstrdup(want->network_id);
    e->ipv4 = xstrdup(want->ipv4);
    for (size_t i = 0; i < DOORS; i++) {
        if (!door_open(e, ports[i], err)) {
            endpoint_close(e);
            return err_wrap(err, "endpoint %s", want->id);
        }
    }
    map_put(all->by_id, e->id, e);
    return true;
}

void
endpoints_drop(struct endpoints *all, const char *id)
{
    struct endpoint *e = map_steal(all->by_id, id);
    if (e) {
        endpoint_close(e);
    }
}

void
endpoints_destroy(struct endpoints *all)
{
    if (!all) {
        return;
    }
    const char *id;
    void *value;
    for (size_t it = 0; map_next(all->by_id, &it, &id, &value);) {
        map_del(all->by_id, id);
        endpoint_close(value);
    }
    map_destroy(all->by_id);
    free(all);
}
