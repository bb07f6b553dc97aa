/* nodes_relay.c - control processes as peers of one another: see relay.h.
 *
 * A process that comes as a peer has a certificate "control-..." of the cloud's CA, which
 * nodes never get, and a row among the members. It may open channels to nodes whose
 * streams are here: "call" asks a node and sends its answer back, "tunnel" and "console" are
 * joined to one of the node's through a pair of sockets. What it asks was admitted, audited
 * and ticketed where the client came in. */
#include "control/nodes_impl.h"

#include "base/log.h"
#include "control/members.h"

#include <sys/mman.h>
#include <sys/socket.h>

#define CALL_LIMIT_MS 60000

/* ---- where a node is ------------------------------------------------------------- */

struct elsewhere {
    const char *node_id, *run, *link;
};

static bool
elsewhere_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct elsewhere *e = ctx;
    struct row_list all;
    struct row_query query = {0};
    const struct row_node_stream *stream;
    struct row_node_stream key = {.id = e->node_id};
    e->link = NULL;
    if (!row_get(txn, &row_node_stream_type, &key, (const void **)&stream, err) ||
        !row_list(txn, &row_control_type, &query, &all, err)) {
        return false;
    }
    for (size_t i = 0; stream && i < all.count; i++) {
        const struct row_control *row = all.rows[i];
        if (str_eq(row->run, stream->run) && !str_eq(row->run, e->run) &&
            !str_empty(row->link)) {
            e->link = row->link;
        }
    }
    return true;
}

const char *
nodes_elsewhere(struct nodes *nodes, const char *node_id, struct arena *arena)
{
    struct elsewhere e = {.node_id = node_id,
                          .run = members_run(nodes->config.members)};
    struct err err = {0};
    if (nodes->config.alone) {
        return NULL;
    }
    if (!store_read(nodes->config.store, arena, elsewhere_txn, &e, &err)) {
        log_warn("control: where node %s is: %s", node_id, err.msg);
        return NULL;
    }
    return e.link;
}

/* ---- another process comes ------------------------------------------------------- */

bool
nodes_is_control(const struct link_identity *who)
{
    return !who->local && str_starts(who->node_id, "control-");
}

static bool
member_txn(struct txn *txn, void *ctx, struct err *err)
{
    const void **row = ctx;
    struct row_control key = {.id = *row};
    return row_get(txn, &row_control_type, &key, row, err);
}

void
nodes_control_hello(struct nodes *nodes, struct link_peer *peer,
                    const struct link_identity *who)
{
    AUTO(arena) struct arena *arena = arena_create();
    const void *row = who->node_id;
    struct err err = {0};
    if (!store_read(nodes->config.store, arena, member_txn, &row, &err)) {
        link_peer_close(peer, err.msg);
        return;
    }
    if (!row) {
        link_peer_refuse(peer, "unknown", "this cloud has no such control process");
        return;
    }
    struct peer_state *state = xcalloc(1, sizeof *state);
    snprintf(state->node_id, sizeof state->node_id, "%s", who->node_id);
    state->control = true;
    link_peer_set_user(peer, state);
    log_info("control: process %s is here, for nodes of ours", who->node_id);
    link_peer_welcome(peer, &(struct link_welcome){.node_id = who->node_id,
                                                   .cloud_id = nodes->cloud_id});
}

/* ---- what it asks ---------------------------------------------------------------- */

struct question {
    struct nodes *nodes;
    struct link_channel *channel;
    bool any; /* That it answers at all is the answer. */
};

static void
on_sent(void *ctx UNUSED, struct link_channel *channel UNUSED,
        enum link_channel_state state UNUSED, uint64_t received UNUSED,
        const char *why UNUSED)
{
}

static void
send_answer(struct link_channel *channel, struct blob body)
{
    AUTO(fd) int fd = memfd_create("answer", MFD_CLOEXEC);
    ssize_t n =
        fd < 0 ? -1 : pwrite(fd, body.data ? body.data : (const void *)"", body.len, 0);
    if (n < 0 || (size_t)n != body.len) {
        link_channel_refuse(channel, "no room for the answer");
        return;
    }
    struct link_channel_bind bind = {
        .fd = take_fd(&fd), .no_write = true, .fn = on_sent};
    link_channel_accept(channel, &bind);
}

static void
on_reply(void *ctx, const struct link_reply *reply)
{
    struct question *q = ctx;
    if (reply && (reply->ok || q->any)) {
        send_answer(q->channel, reply->body);
    } else {
        link_channel_refuse(q->channel, reply && reply->message
                                            ? reply->message
                                            : "the node did not answer in time");
    }
    nodes_errand_home(q->nodes);
    free(q);
}

/* The two channels are joined by a pair of sockets: each end's end ends the other's. */
static void
join(struct link_peer *node, struct link_channel *channel,
     const struct link_channel_open *open)
{
    int ends[2];
    struct link_channel_open onward = *open;
    onward.node = NULL;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        link_channel_refuse(channel, "no more sockets");
        return;
    }
    struct link_channel_bind to_node = {.fd = ends[0], .fn = on_sent};
    if (!link_peer_open_channel(node, &onward, &to_node)) {
        close(ends[1]);
        link_channel_refuse(channel, "the node has too many streams");
        return;
    }
    struct link_channel_bind back = {.fd = ends[1], .fn = on_sent};
    link_channel_accept(channel, &back);
}

void
nodes_control_channel(struct nodes *nodes, struct link_channel *channel,
                      const struct link_channel_open *open)
{
    struct link_peer *node =
        str_empty(open->node) ? NULL : nodes_peer(nodes, open->node);
    if (!node) {
        link_channel_refuse(channel, "the node is not connected here");
    } else if (str_eq(open->what, "call") && !str_empty(open->ask)) {
        struct question *q = xcalloc(1, sizeof *q);
        *q = (struct question){nodes, channel, str_eq(open->ask, "alive")};
        nodes->errands++;
        int64_t limit_ms = MIN(MAX(open->size, 1), CALL_LIMIT_MS);
        link_peer_call(node, open->ask, open->object ? open->object : "",
                       limit_ms * NS_PER_MS, on_reply, q);
    } else if (str_eq(open->what, "tunnel") || str_eq(open->what, "console")) {
        join(node, channel, open);
    } else {
        link_channel_refuse(channel, "not known here");
    }
}
