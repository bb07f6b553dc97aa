/* nodes_stream.c - live questions to nodes, and streams to their guests. */
#include "control/nodes_impl.h"

#include "base/log.h"
#include "base/map.h"
#include "control/relay.h"

#include <pthread.h>

/* ---- questions ------------------------------------------------------------------- */

/* Shared by the thread that waits and the loop: the last one to let go frees it. */
struct question {
    struct nodes *nodes;
    char *node_id, *what, *object;
    int64_t limit_ns;
    pthread_mutex_t lock;
    pthread_cond_t answered;
    unsigned holders;
    bool done, ok;
    struct buf body;
    struct err err;
};

static void
question_drop(struct question *q)
{
    pthread_mutex_lock(&q->lock);
    bool last = --q->holders == 0;
    pthread_mutex_unlock(&q->lock);
    if (!last) {
        return;
    }
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->answered);
    buf_fini(&q->body);
    free(q->node_id);
    free(q->what);
    free(q->object);
    free(q);
}

static void
question_end(struct question *q, bool ok)
{
    pthread_mutex_lock(&q->lock);
    q->done = true;
    q->ok = ok;
    pthread_cond_signal(&q->answered);
    pthread_mutex_unlock(&q->lock);
    question_drop(q);
}

static void
on_reply(void *ctx, const struct link_reply *reply)
{
    struct question *q = ctx;
    bool ok = reply && reply->ok;
    if (ok) {
        buf_put(&q->body, reply->body.data, reply->body.len);
    } else if (reply) {
        err_set(&q->err, ERR_UNAVAILABLE, "node %s: %s", q->node_id,
                reply->message ? reply->message : "no answer");
    } else {
        err_set(&q->err, ERR_TIMEOUT, "node %s did not answer in time", q->node_id);
    }
    question_end(q, ok);
}

static void
on_relayed(void *ctx, const struct blob *body, const char *why)
{
    struct question *q = ctx;
    if (body) {
        buf_put(&q->body, body->data, body->len);
    } else {
        err_set(&q->err, ERR_UNAVAILABLE, "node %s: %s", q->node_id, why);
    }
    question_end(q, body != NULL);
}

static void
question_ask(void *ctx)
{
    struct question *q = ctx;
    AUTO(arena) struct arena *arena = arena_create();
    bool closing = q->nodes->closing;
    struct link_peer *peer = closing ? NULL : nodes_peer(q->nodes, q->node_id);
    const char *link =
        closing || peer ? NULL : nodes_elsewhere(q->nodes, q->node_id, arena);
    if (peer) {
        link_peer_call(peer, q->what, q->object, q->limit_ns, on_reply, q);
    } else if (link) {
        relay_call(q->nodes->relay, link, q->node_id, q->what, q->object, q->limit_ns,
                   on_relayed, q);
    } else {
        err_set(&q->err, ERR_GONE, "node %s is not connected", q->node_id);
        question_end(q, false);
    }
}

bool
nodes_call(struct nodes *nodes, const char *node_id, const char *what,
           const char *object, int64_t limit_ns, char **out, size_t *out_len,
           struct err *err)
{
    struct question *q = xcalloc(1, sizeof *q);
    q->nodes = nodes;
    q->node_id = xstrdup(node_id);
    q->what = xstrdup(what);
    q->object = xstrdup(object);
    q->limit_ns = limit_ns;
    q->holders = 2;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->answered, NULL);
    mailbox_post(nodes->mailbox, question_ask, q);

    pthread_mutex_lock(&q->lock);
    while (!q->done) { /* on_reply comes at the latest after 'limit_ns'. */
        pthread_cond_wait(&q->answered, &q->lock);
    }
    bool ok = q->ok;
    if (ok) {
        *out_len = q->body.len;
        *out = q->body.len ? buf_take(&q->body) : xcalloc(1, 1);
    } else {
        *err = q->err;
    }
    pthread_mutex_unlock(&q->lock);
    question_drop(q);
    return ok;
}

/* ---- streams --------------------------------------------------------------------- */

struct opening {
    const char *ticket, *node_id;
    struct link_channel_open open;
    int fd;
    bool good; /* The ticket was; set by the transaction. */
};

static void
on_stream(void *ctx UNUSED, struct link_channel *channel UNUSED,
          enum link_channel_state state, uint64_t received, const char *why)
{
    if (state == LINK_CHANNEL_DONE && why) {
        log_info("control: a stream ended after %" PRIu64 " bytes: %s", received, why);
    }
}

/* A ticket opens one stream, to the instance and node that it names, in its time. */
static bool
ticket_txn(struct errand *e, struct txn *txn, struct err *err)
{
    struct opening *o = e->in;
    const struct row_tunnel_ticket *ticket;
    struct row_tunnel_ticket key = {.id = o->ticket};
    if (!row_get(txn, &row_tunnel_ticket_type, &key, (const void **)&ticket, err)) {
        return false;
    }
    o->good = ticket && !ticket->used && ticket->expires_at > e->pass.now_ns &&
              str_eq(ticket->instance_id, o->open.object) &&
              str_eq(ticket->node_id, o->node_id);
    if (!o->good) {
        return true;
    }
    struct row_tunnel_ticket used = *ticket;
    used.used = true;
    return row_put(txn, &row_tunnel_ticket_type, &used, err);
}

static void
ticket_done(struct errand *e, struct link_peer *none UNUSED, const struct err *err)
{
    struct opening *o = e->in;
    struct nodes *nodes = e->nodes;
    struct link_peer *peer = nodes->closing ? NULL : nodes_peer(nodes, o->node_id);
    const char *link = nodes->closing || peer || !o->good
                           ? NULL
                           : nodes_elsewhere(nodes, o->node_id, e->arena);
    if (link) {
        relay_stream(nodes->relay, link, o->node_id, &o->open, o->fd);
        return;
    }
    if (err->code != ERR_NONE || !o->good || !peer) {
        log_warn("control: no %s to %s: %s", o->open.what, o->open.object,
                 err->code != ERR_NONE ? err->msg
                 : !o->good            ? "its ticket is not good"
                                       : "its node is not connected");
        close(o->fd);
        return;
    }
    struct link_channel_bind bind = {.fd = o->fd, .fn = on_stream};
    if (!link_peer_open_channel(peer, &o->open, &bind)) {
        log_warn("control: node %s has too many streams", o->node_id);
    }
}

static void
stream_open(void *ctx)
{
    errand_run(ctx);
}

void
nodes_stream(struct nodes *nodes, const struct nodes_stream *stream, int fd)
{
    struct errand *e = errand_create(nodes, NULL, ticket_txn, ticket_done);
    struct opening *o = ARENA_NEW(e->arena, struct opening);
    *o = (struct opening){
        .ticket = arena_strdup(e->arena, stream->ticket ? stream->ticket : ""),
        .node_id = arena_strdup(e->arena, stream->node_id),
        .open = {.what = arena_strdup(e->arena, stream->what),
                 .object = arena_strdup(e->arena, stream->instance_id),
                 .address = arena_strdup(e->arena, stream->address),
                 .port = stream->port,
                 .port_id = arena_strdup(e->arena, stream->port_id)},
        .fd = fd,
    };
    e->in = o;
    mailbox_post(nodes->mailbox, stream_open, e);
}
