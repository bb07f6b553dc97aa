/* relay.c - see relay.h. */
#include "control/relay.h"

#include "base/log.h"
#include "base/map.h"

#include <fcntl.h>
#include <sys/mman.h>

#define ANSWER_MAX (4u << 20)
#define STREAM_WAIT_MS 10000

struct relay {
    struct relay_config config;
    struct map *conns; /* By link: struct conn. */
    bool closing;
};

/* One process, while it can be reached. */
struct conn {
    struct relay *relay;
    char *link;
    struct link_client *client;
    VEC(struct op *) waiting; /* For the welcome. */
};

/* A question, or a stream. */
struct op {
    struct conn *conn; /* NULL once it is open. */
    struct arena *arena;
    struct link_channel_open open;
    struct link_channel *channel;
    int fd;             /* Of a question: where its answer goes. */
    relay_reply_fn *fn; /* NULL: a stream. */
    void *ctx;
    uv_timer_t timer;
};

/* ---- one question or stream ------------------------------------------------------ */

static void
on_timer_closed(uv_handle_t *handle)
{
    struct op *op = handle->data;
    auto_fd(&op->fd);
    arena_destroy(op->arena);
}

static void
op_end(struct op *op, const struct blob *body, const char *why)
{
    if (op->fn) {
        op->fn(op->ctx, body, why);
    } else if (why) {
        log_info("control: a stream to %s by another control process: %s",
                 op->open.object, why);
    }
    uv_close((uv_handle_t *)&op->timer, on_timer_closed);
}

static void
op_answered(struct op *op, uint64_t len)
{
    struct blob body = {arena_alloc(op->arena, (size_t)len + 1), (size_t)len};
    ssize_t n = pread(op->fd, (void *)(uintptr_t)body.data, body.len, 0);
    if (n < 0 || (size_t)n != body.len) {
        op_end(op, NULL, "its answer cannot be read");
    } else {
        op_end(op, &body, NULL);
    }
}

static void
on_channel(void *ctx, struct link_channel *channel UNUSED,
           enum link_channel_state state, uint64_t received, const char *why)
{
    struct op *op = ctx;
    if (state == LINK_CHANNEL_OPEN) {
        if (!op->fn) {
            uv_timer_stop(&op->timer);
        }
    } else if (why || !op->fn) {
        op_end(op, NULL, why);
    } else {
        op_answered(op, received);
    }
}

static void
op_open(struct op *op, struct link_client *client)
{
    int fd = op->fn ? fcntl(op->fd, F_DUPFD_CLOEXEC, 0) : take_fd(&op->fd);
    struct link_channel_bind bind = {.fd = fd, .fn = on_channel, .ctx = op};
    if (op->fn) {
        bind.no_read = true;
        bind.limit_bytes = ANSWER_MAX;
    }
    op->conn = NULL;
    op->channel = fd < 0 ? NULL : link_client_open_channel(client, &op->open, &bind);
    if (!op->channel) {
        op_end(op, NULL, "too many streams to another control process");
    }
}

static void
on_timer(uv_timer_t *timer)
{
    struct op *op = timer->data;
    struct conn *conn = op->conn;
    if (!conn) {
        link_channel_close(op->channel, "no answer in time"); /* Ends it. */
        return;
    }
    for (size_t i = 0; i < conn->waiting.count; i++) {
        if (conn->waiting.items[i] == op) {
            conn->waiting.items[i] = conn->waiting.items[--conn->waiting.count];
            break;
        }
    }
    op_end(op, NULL, "the control process that has the node does not answer");
}

/* ---- one process ----------------------------------------------------------------- */

static void
conn_free(void *ctx)
{
    struct conn *conn = ctx;
    link_client_destroy(conn->client);
    VEC_FREE(&conn->waiting);
    free(conn->link);
    free(conn);
}

/* What waits for it fails; the connection itself goes when its callback has returned. */
static void
conn_fail(struct conn *conn, const char *why)
{
    (void)map_steal(conn->relay->conns, conn->link);
    for (size_t i = 0; i < conn->waiting.count; i++) {
        op_end(conn->waiting.items[i], NULL, why);
    }
    conn->waiting.count = 0;
}

static void
on_welcome(void *ctx, const struct link_welcome *welcome UNUSED)
{
    struct conn *conn = ctx;
    VEC(struct op *) ops = {0};
    for (size_t i = 0; i < conn->waiting.count; i++) {
        VEC_PUSH(&ops, conn->waiting.items[i]);
    }
    conn->waiting.count = 0;
    for (size_t i = 0; i < ops.count; i++) {
        op_open(ops.items[i], conn->client);
    }
    VEC_FREE(&ops);
}

static void
on_down(void *ctx, const char *code UNUSED, const char *why)
{
    struct conn *conn = ctx;
    AUTO(free)
    char *text = xasprintf("control process at %s: %s", conn->link, why ? why : "gone");
    conn_fail(conn, text);
    mailbox_post(conn->relay->config.mailbox, conn_free, conn);
}

/* Of a node's end of a link this end needs nothing else. */
static void
on_want(void *ctx UNUSED, enum link_kind kind UNUSED, const char *id UNUSED,
        int64_t revision UNUSED, bool deleted UNUSED, const void *record UNUSED,
        struct blob body UNUSED)
{
}

static void
on_snapshot_end(void *ctx UNUSED, int64_t revision UNUSED, int64_t count UNUSED)
{
}

static void
on_call(void *ctx, int64_t call_id, const char *what UNUSED, const char *object UNUSED)
{
    struct conn *conn = ctx;
    struct blob none = {0};
    link_client_reply(conn->client, call_id, false, none, "this is no node");
}

static void
on_offer(void *ctx UNUSED, struct link_channel *channel,
         const struct link_channel_open *open UNUSED)
{
    link_channel_refuse(channel, "this is no node");
}

static int64_t
on_have_revision(void *ctx UNUSED)
{
    return 0;
}

/* A certificate for this connection: they are cheap, and never need renewal so. */
static struct link_client *
conn_open(struct conn *conn, struct err *err)
{
    const struct relay_config *c = &conn->relay->config;
    AUTO(arena) struct arena *arena = arena_create();
    const char *key, *csr, *cert;
    struct pki_cert made;
    if (!pki_key_make(arena, &key, err) ||
        !pki_csr_make(arena, key, c->id, &csr, err) ||
        !pki_sign_node(c->ca, arena, c->rng, clock_real(c->clock), csr, c->id, &cert,
                       &made, err)) {
        return NULL;
    }
    struct link_client_config config = {
        .loop = c->loop,
        .clock = c->clock,
        .rng = c->rng,
        .ops = {.welcome = on_welcome,
                .want = on_want,
                .snapshot_end = on_snapshot_end,
                .call = on_call,
                .channel = on_offer,
                .down = on_down,
                .have_revision = on_have_revision},
        .ctx = conn,
        .places = conn->link,
        .node_id = c->id,
        .cloud_id = c->cloud_id,
        .agent_version = MOLN_VERSION,
        .ca_pem = pki_ca_pem(c->ca),
        .cert_pem = cert,
        .key_pem = key,
    };
    return link_client_create(&config, err);
}

static struct conn *
conn_to(struct relay *relay, const char *link, struct err *err)
{
    struct conn *conn = map_get(relay->conns, link);
    if (conn) {
        return conn;
    }
    conn = xcalloc(1, sizeof *conn);
    conn->relay = relay;
    conn->link = xstrdup(link);
    conn->client = conn_open(conn, err);
    if (!conn->client) {
        conn_free(conn);
        return NULL;
    }
    map_put(relay->conns, link, conn);
    return conn;
}

/* ---- from outside ---------------------------------------------------------------- */

static struct op *
op_create(struct relay *relay, const char *node_id,
          const struct link_channel_open *open, uint64_t limit_ms)
{
    struct arena *arena = arena_create();
    struct op *op = ARENA_NEW(arena, struct op);
    *op = (struct op){
        .arena = arena,
        .open = *(const struct link_channel_open *)desc_copy(&link_channel_open_desc,
                                                             open, arena),
        .fd = -1,
    };
    op->open.node = arena_strdup(arena, node_id);
    uv_timer_init(relay->config.loop, &op->timer);
    op->timer.data = op;
    uv_timer_start(&op->timer, on_timer, limit_ms, 0);
    return op;
}

static void
op_start(struct relay *relay, const char *link, struct op *op)
{
    struct err err = {0};
    struct conn *conn = relay->closing ? NULL : conn_to(relay, link, &err);
    if (!conn) {
        op_end(op, NULL, relay->closing ? "this control process ends" : err.msg);
    } else if (link_client_is_up(conn->client)) {
        op_open(op, conn->client);
    } else {
        op->conn = conn;
        VEC_PUSH(&conn->waiting, op);
    }
}

void
relay_call(struct relay *relay, const char *link, const char *node_id, const char *what,
           const char *object, int64_t limit_ns, relay_reply_fn *fn, void *ctx)
{
    int64_t limit_ms = MAX(limit_ns / NS_PER_MS, 1);
    struct link_channel_open open = {
        .what = "call", .ask = what, .object = object, .size = limit_ms};
    struct op *op = op_create(relay, node_id, &open, (uint64_t)limit_ms);
    op->fn = fn;
    op->ctx = ctx;
    op->fd = memfd_create("answer", MFD_CLOEXEC);
    if (op->fd < 0) {
        op_end(op, NULL, "no room for its answer");
    } else {
        op_start(relay, link, op);
    }
}

void
relay_stream(struct relay *relay, const char *link, const char *node_id,
             const struct link_channel_open *open, int fd)
{
    struct op *op = op_create(relay, node_id, open, STREAM_WAIT_MS);
    op->fd = fd;
    op_start(relay, link, op);
}

struct relay *
relay_create(const struct relay_config *config)
{
    struct relay *relay = xcalloc(1, sizeof *relay);
    relay->config = *config;
    relay->conns = map_create(NULL);
    return relay;
}

void
relay_destroy(struct relay *relay)
{
    const char *link;
    void *value;
    if (!relay) {
        return;
    }
    relay->closing = true;
    for (size_t it = 0; map_next(relay->conns, &it, &link, &value);) {
        struct conn *conn = value;
        conn_fail(conn, "this control process ends");
        conn_free(conn);
    }
    map_destroy(relay->conns);
    free(relay);
}
