/* nodes_endpoint.c - guests that call the API through an endpoint of their VPC.
 *
 * A node opens a channel for each connection that one of its endpoints takes. It may do so for
 * endpoints that are wanted of it; who calls, and whether he may, is the gateway's affair, as of
 * any client. */
#include "control/nodes_impl.h"

#include "base/log.h"
#include "control/wants.h"

#include <sys/socket.h>

struct caller {
    struct nodes *nodes;
    struct link_channel *channel;
    char *node_id, *endpoint_id, *address;
    int port;
    bool allowed;
    uv_work_t work;
    struct err err;
};

static void
caller_destroy(struct caller *c)
{
    struct nodes *nodes = c->nodes;
    free(c->node_id);
    free(c->endpoint_id);
    free(c->address);
    free(c);
    nodes_errand_home(nodes);
}

static bool
check_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct caller *c = ctx;
    const struct row_node_want *want;
    if (!want_get(txn, c->node_id, LINK_ENDPOINT, c->endpoint_id, &want, err)) {
        return false;
    }
    c->allowed = want && !want->deleted;
    return true;
}

static void
on_check(uv_work_t *work)
{
    struct caller *c = work->data;
    AUTO(arena) struct arena *arena = arena_create();
    (void)!store_read(c->nodes->config.store, arena, check_txn, c, &c->err);
}

static void
on_done(void *ctx UNUSED, struct link_channel *channel UNUSED,
        enum link_channel_state state UNUSED, uint64_t received UNUSED,
        const char *why UNUSED)
{
}

/* The channel and the gateway are joined by a pair of sockets: each end's end ends the
 * other's. */
static bool
join(struct caller *c, struct err *err)
{
    const struct nodes_config *config = &c->nodes->config;
    int ends[2];
    if (!c->allowed || !config->caller || c->nodes->closing) {
        return err_set(err, ERR_DENIED, "endpoint %s is not this node's to serve",
                       c->endpoint_id);
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
        return err_sys(err, errno, "a pair of sockets");
    }
    if (!config->caller(config->caller_ctx, ends[0], c->address, c->port, err)) {
        close(ends[1]);
        return false;
    }
    struct link_channel_bind bind = {.fd = ends[1], .fn = on_done};
    link_channel_accept(c->channel, &bind);
    return true;
}

static void
on_checked(uv_work_t *work, int status UNUSED)
{
    struct caller *c = work->data;
    if (c->err.code != ERR_NONE || !join(c, &c->err)) {
        log_warn("control: node %s: %s", c->node_id, c->err.msg);
        link_channel_refuse(c->channel, c->err.msg);
    }
    caller_destroy(c);
}

void
nodes_endpoint_channel(struct nodes *nodes, struct link_peer *peer,
                       struct link_channel *channel,
                       const struct link_channel_open *open)
{
    if (str_empty(open->object) || str_empty(open->address) || open->port < 0 ||
        open->port > UINT16_MAX) {
        link_channel_refuse(channel, "an endpoint's channel names it and its caller");
        return;
    }
    struct caller *c = xcalloc(1, sizeof *c);
    *c = (struct caller){
        .nodes = nodes,
        .channel = channel,
        .node_id = xstrdup(link_peer_node_id(peer)),
        .endpoint_id = xstrdup(open->object),
        .address = xstrdup(open->address),
        .port = (int)open->port,
    };
    c->work.data = c;
    nodes->errands++;
    uv_queue_work(nodes->config.loop, &c->work, on_check, on_checked);
}
