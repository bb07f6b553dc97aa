/* peer.c - one node's conversation with the control plane. See server.h and peer.h. */
#include "link/peer.h"

#include "base/tlv.h"
#include "link/pki.h"
#include "base/unix_path.h"

#define HELLO_PATIENCE_MS 10000
#define REPORTS_UNACKED_MAX 1024 /* A node waits long before (client's window). */
#define CHAIN_MAX 4

struct peer_call {
    struct peer_call *next;
    uv_timer_t timer;
    int64_t id;
    link_reply_fn *fn;
    void *ctx;
    struct link_peer *peer;
};

static const struct stream_ops peer_stream_ops;

/* ---- life ------------------------------------------------------------------------ */

static void
peer_on_channel(void *ctx, struct link_channel *channel,
                const struct link_channel_open *open)
{
    struct link_peer *peer = ctx;
    peer->server->ops.channel(peer->server->ctx, peer, channel, open);
}

struct link_peer *
peer_create(struct link_server *server, bool local)
{
    struct err err = {0};
    struct link_peer *peer = xcalloc(1, sizeof *peer);
    struct stream_config config = {
        .loop = server->loop,
        .ops = &peer_stream_ops,
        .ctx = peer,
        .queue_max_bytes = server->queue_max_bytes,
        .scratch = server->scratch,
    };
    if (!local) {
        config.tls = tls_create(server->tls, (struct blob){0}, &err);
    }
    peer->server = server;
    peer->who.local = local;
    peer->since_ms = uv_now(server->loop);
    peer->next_call = 1;
    peer->stream = stream_create(&config, local);
    channels_init(&peer->channels, server->loop, true, peer_on_channel, peer);
    /* A connection that cannot be served is accepted all the same, to be closed. */
    if ((!local && !config.tls) || !server_slot_take(server, peer)) {
        peer->id = UINT64_MAX;
    }
    return peer;
}

static void
peer_free(struct link_peer *peer)
{
    if (peer->id != UINT64_MAX) {
        server_slot_drop(peer->server, peer);
    }
    VEC_FREE(&peer->unacked);
    free(peer->cert_node_id);
    free(peer->node_id);
    free(peer);
}

static void
call_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

/* Takes the call out of its peer and answers whoever asked. */
static void
call_end(struct peer_call *call, const struct link_reply *reply)
{
    struct peer_call **at = &call->peer->calls;
    while (*at != call) {
        at = &(*at)->next;
    }
    *at = call->next;
    uv_close((uv_handle_t *)&call->timer, call_timer_closed);
    call->fn(call->ctx, reply);
}

/* Ends everything that hangs on the stream, tells the owner, and frees. */
static void
peer_gone(struct link_peer *peer, const char *why)
{
    peer->phase = PEER_CLOSING;
    channels_stop(&peer->channels, why);
    while (peer->calls) {
        call_end(peer->calls, NULL);
    }
    if (peer->told) {
        peer->server->ops.lost(peer->server->ctx, peer, why);
    }
    peer_free(peer);
}

static void
peer_on_closed(void *ctx, const char *why)
{
    peer_gone(ctx, why);
}

void
peer_end(struct link_peer *peer, const char *why)
{
    stream_destroy(peer->stream);
    peer_gone(peer, why);
}

static void
peer_break(struct link_peer *peer, const char *why)
{
    peer->phase = PEER_CLOSING;
    stream_close(peer->stream, why, false);
}

void
peer_check_patience(struct link_peer *peer, uint64_t now_ms)
{
    if (peer->phase == PEER_SHAKING && now_ms - peer->since_ms > HELLO_PATIENCE_MS) {
        peer_break(peer, "did not say hello in time");
    }
}

/* ---- who it is ------------------------------------------------------------------- */

static void
peer_note_address(struct link_peer *peer)
{
    struct sockaddr_storage at;
    int len = sizeof at;
    char ip[INET6_ADDRSTRLEN] = "?";
    int port = 0;
    if (uv_tcp_getpeername((uv_tcp_t *)stream_handle(peer->stream),
                           (struct sockaddr *)&at, &len) == 0) {
        (void)uv_ip_name((struct sockaddr *)&at, ip, sizeof ip);
        port = ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                              : ((struct sockaddr_in *)&at)->sin_port);
    }
    snprintf(peer->address, sizeof peer->address, "%s:%d", ip, port);
}

static bool
peer_check_local(struct link_peer *peer, struct err *err)
{
    uv_os_fd_t fd;
    int rc = uv_fileno(stream_handle(peer->stream), &fd);
    return rc < 0 ? err_sys(err, -rc, "unix socket") : unix_peer_is_trusted(fd, err);
}

void
peer_start(struct link_peer *peer)
{
    struct err err = {0};
    if (peer->id == UINT64_MAX) {
        peer_end(peer, "too many peers");
        return;
    }
    if (peer->who.local) {
        snprintf(peer->address, sizeof peer->address, "local");
        if (!peer_check_local(peer, &err)) {
            peer_end(peer, err.msg);
            return;
        }
    } else {
        peer_note_address(peer);
    }
    peer->who.address = peer->address;
    stream_start(peer->stream);
}

/* TLS is done: reads the certificate, if any; without one it may only enroll. */
static void
peer_on_up(void *ctx)
{
    struct link_peer *peer = ctx;
    struct link_server *server = peer->server;
    struct blob chain[CHAIN_MAX];
    struct pki_cert cert;
    struct err err = {0};
    const struct tls *tls = stream_tls(peer->stream);
    size_t count = tls ? tls_peer_chain(tls, chain, CHAIN_MAX) : 0;
    if (!count) {
        return;
    }
    arena_reset(server->arena);
    if (!pki_verify(server->verifier, chain, count, PKI_NODE, clock_real(server->clock),
                    server->arena, &cert, &err)) {
        link_peer_refuse(peer, "certificate", err.msg);
        return;
    }
    peer->cert_node_id = xstrdup(cert.node_id);
    snprintf(peer->serial, sizeof peer->serial, "%s", cert.serial);
    peer->who.node_id = peer->cert_node_id;
    peer->who.serial = peer->serial;
}

/* ---- hello and enroll ------------------------------------------------------------ */

/* Refuses a stranger whose clock or protocol is not ours. */
static bool
peer_check_times(struct link_peer *peer, int64_t protocol, int64_t clock_ns)
{
    char message[160];
    int64_t now = clock_real(peer->server->clock);
    int64_t off;
    if (protocol < 1) {
        snprintf(message, sizeof message, "protocol %" PRId64 " is not spoken here",
                 protocol);
        link_peer_refuse(peer, "protocol", message);
        return false;
    }
    if (__builtin_sub_overflow(clock_ns, now, &off) || off > LINK_CLOCK_SKEW_NS ||
        off < -LINK_CLOCK_SKEW_NS) {
        snprintf(message, sizeof message,
                 "the node's clock is %.0f s off the control plane's; 30 s are allowed",
                 (double)clock_ns / 1e9 - (double)now / 1e9);
        link_peer_refuse(peer, "clock", message);
        return false;
    }
    return true;
}

static bool
peer_take_hello(struct link_peer *peer, const void *record)
{
    const struct link_hello *hello = record;
    struct link_server *server = peer->server;
    if (!peer_check_times(peer, hello->protocol, hello->clock_ns)) {
        return true;
    }
    if (!peer->who.local && !peer->who.node_id) {
        link_peer_refuse(peer, "certificate", "hello without a certificate");
        return true;
    }
    if (!peer->who.local && !str_empty(hello->node_id) &&
        !str_eq(hello->node_id, peer->who.node_id)) {
        link_peer_refuse(peer, "certificate", "the certificate is another node's");
        return true;
    }
    peer->phase = PEER_ASKED;
    peer->told = true;
    server->ops.hello(server->ctx, peer, &peer->who, hello);
    return true;
}

static bool
peer_take_enroll(struct link_peer *peer, const void *record)
{
    const struct link_enroll *enroll = record;
    struct link_server *server = peer->server;
    if (!peer_check_times(peer, enroll->protocol, enroll->clock_ns)) {
        return true;
    }
    if (peer->who.local || peer->who.node_id || !enroll->token_id ||
        !enroll->token_secret || !enroll->csr_pem) {
        link_peer_refuse(peer, "token", "this is no request to join");
        return true;
    }
    peer->phase = PEER_ASKED;
    peer->told = peer->enrolling = true;
    server->ops.enroll(server->ctx, peer, &peer->who, enroll);
    return true;
}

/* ---- after the welcome ----------------------------------------------------------- */

static bool
peer_take_report(struct link_peer *peer, const void *record)
{
    const struct link_reported *report = record;
    struct link_server *server = peer->server;
    struct err err = {0};
    size_t n = peer->unacked.count;
    if (n && report->sequence <= peer->unacked.items[n - 1]) {
        peer_break(peer, "reports out of order");
        return false;
    }
    if (n - peer->acked >= REPORTS_UNACKED_MAX) {
        peer_break(peer, "too many reports at once");
        return false;
    }
    VEC_PUSH(&peer->unacked, report->sequence);
    const struct desc *desc = link_seen_desc((enum link_kind)report->kind);
    if (!desc) {
        /* A newer node's: not for us. It is acknowledged with the next that is. */
        if (n == peer->acked) {
            link_peer_ack_report(peer, report->sequence);
        }
        return true;
    }
    void *seen = arena_alloc(server->arena, desc->size);
    if (!tlv_decode(desc, report->body.data, report->body.len, server->arena, seen,
                    &err)) {
        peer_break(peer, err.msg);
        return false;
    }
    server->ops.report(server->ctx, peer, (enum link_kind)report->kind, seen,
                       report->body, report->revision, report->sequence);
    return true;
}

static bool
peer_take_ack(struct link_peer *peer, const void *record)
{
    const struct link_ack *ack = record;
    peer->server->ops.ack(peer->server->ctx, peer, ack->revision);
    return true;
}

static bool
peer_take_reply(struct link_peer *peer, const void *record)
{
    const struct link_reply *reply = record;
    for (struct peer_call *call = peer->calls; call; call = call->next) {
        if (call->id == reply->id) {
            call_end(call, reply);
            return true;
        }
    }
    return true; /* It came too late. */
}

static bool
peer_take_renew(struct link_peer *peer, const void *record)
{
    if (!peer->who.local) {
        peer->server->ops.renew(peer->server->ctx, peer, record);
    }
    return true;
}

static bool
peer_take_lease_ask(struct link_peer *peer, const void *record)
{
    if (peer->server->ops.lease_ask) {
        peer->server->ops.lease_ask(peer->server->ctx, peer, record);
    }
    return true;
}

static const struct peer_frame {
    const struct desc *desc;
    bool (*take)(struct link_peer *peer, const void *record);
    enum peer_phase phase; /* When it may come. */
} peer_frames[] = {
    [FRAME_HELLO] = {&link_hello_desc, peer_take_hello, PEER_SHAKING},
    [FRAME_ENROLL] = {&link_enroll_desc, peer_take_enroll, PEER_SHAKING},
    [FRAME_REPORT] = {&link_reported_desc, peer_take_report, PEER_UP},
    [FRAME_ACK] = {&link_ack_desc, peer_take_ack, PEER_UP},
    [FRAME_REPLY] = {&link_reply_desc, peer_take_reply, PEER_UP},
    [FRAME_RENEW] = {&link_renew_desc, peer_take_renew, PEER_UP},
    [FRAME_LEASE_ASK] = {&link_lease_ask_desc, peer_take_lease_ask, PEER_UP},
};

static bool
peer_take_channel(struct link_peer *peer, const struct frame *frame)
{
    struct err err = {0};
    if (!channels_frame(&peer->channels, frame, peer->server->arena, &err)) {
        peer_break(peer, err.msg);
        return false;
    }
    return true;
}

static bool
peer_on_frame(void *ctx, const struct frame *frame)
{
    struct link_peer *peer = ctx;
    struct arena *arena = peer->server->arena;
    struct err err = {0};
    if (peer->phase == PEER_CLOSING) {
        return false;
    }
    arena_reset(arena);
    if (frame->type >= FRAME_CHANNEL_OPEN && frame->type <= FRAME_CHANNEL_DATA) {
        return peer_take_channel(peer, frame);
    }
    const struct peer_frame *known =
        frame->type < ARRAY_LEN(peer_frames) ? &peer_frames[frame->type] : NULL;
    if (!known || !known->take) {
        return true; /* A newer node's word. */
    }
    if (known->phase != peer->phase) {
        peer_break(peer, "a frame out of turn");
        return false;
    }
    void *record = arena_alloc(arena, known->desc->size);
    if (!tlv_decode(known->desc, frame->data, frame->len, arena, record, &err)) {
        peer_break(peer, err.msg);
        return false;
    }
    return known->take(peer, record) && peer->phase != PEER_CLOSING;
}

static void
peer_on_drained(void *ctx)
{
    struct link_peer *peer = ctx;
    channels_drained(&peer->channels);
}

static const struct stream_ops peer_stream_ops = {
    .up = peer_on_up,
    .frame = peer_on_frame,
    .drained = peer_on_drained,
    .closed = peer_on_closed,
};

/* ---- what the owner says --------------------------------------------------------- */

uint64_t
link_peer_id(const struct link_peer *peer)
{
    return peer->id;
}

void
link_peer_set_user(struct link_peer *peer, void *user)
{
    peer->user = user;
}

void *
link_peer_user(const struct link_peer *peer)
{
    return peer->user;
}

const struct link_identity *
link_peer_identity(const struct link_peer *peer)
{
    return &peer->who;
}

const char *
link_peer_node_id(const struct link_peer *peer)
{
    return peer->node_id;
}

bool
link_peer_resumed(const struct link_peer *peer)
{
    const struct tls *tls = stream_tls(peer->stream);
    return tls && tls_resumed(tls);
}

void
link_peer_welcome(struct link_peer *peer, const struct link_welcome *welcome)
{
    if (peer->phase != PEER_ASKED || peer->enrolling) {
        return;
    }
    struct link_welcome w = *welcome;
    w.protocol = LINK_PROTOCOL;
    w.clock_ns = clock_real(peer->server->clock);
    peer->node_id = xstrdup(w.node_id);
    peer->phase = PEER_UP;
    stream_send_record(peer->stream, FRAME_WELCOME, &link_welcome_desc, &w);
    channels_start(&peer->channels, peer->stream);
}

void
link_peer_refuse(struct link_peer *peer, const char *code, const char *message)
{
    if (peer->phase == PEER_CLOSING) {
        return;
    }
    char why[200];
    struct link_refuse refuse = {.code = code, .message = message};
    stream_send_record(peer->stream, FRAME_REFUSE, &link_refuse_desc, &refuse);
    snprintf(why, sizeof why, "refused (%s): %s", code, message ? message : "");
    peer->phase = PEER_CLOSING;
    stream_close(peer->stream, why, true);
}

void
link_peer_enrolled(struct link_peer *peer, const struct link_enrolled *enrolled)
{
    bool joining = peer->phase == PEER_ASKED && peer->enrolling;
    if (!joining && peer->phase != PEER_UP) {
        return;
    }
    struct link_enrolled e = *enrolled;
    e.ca_pem = peer->server->ca_pem;
    stream_send_record(peer->stream, FRAME_ENROLLED, &link_enrolled_desc, &e);
    if (joining) {
        peer->phase = PEER_CLOSING;
        stream_close(peer->stream, "joined; comes back with its certificate", true);
    }
}

void
link_peer_close(struct link_peer *peer, const char *why)
{
    peer_break(peer, why);
}

bool
link_peer_carries(const struct link_peer *peer)
{
    return peer->channels.count > 0;
}

void
link_peer_want(struct link_peer *peer, enum link_kind kind, const char *id,
               int64_t revision, bool deleted, struct blob body)
{
    struct link_wanted want = {
        .kind = kind, .id = id, .revision = revision, .deleted = deleted, .body = body};
    if (peer->phase == PEER_UP) {
        stream_send_record(peer->stream, FRAME_WANT, &link_wanted_desc, &want);
    }
}

void
link_peer_snapshot_end(struct link_peer *peer, int64_t revision, int64_t count)
{
    struct link_snapshot_end end = {.revision = revision, .count = count};
    if (peer->phase == PEER_UP) {
        stream_send_record(peer->stream, FRAME_SNAPSHOT_END, &link_snapshot_end_desc,
                           &end);
    }
}

void
link_peer_ack_report(struct link_peer *peer, int64_t sequence)
{
    struct link_ack ack = {.sequence = sequence};
    if (peer->phase != PEER_UP) {
        return;
    }
    size_t n = peer->unacked.count;
    while (peer->acked < n && peer->unacked.items[peer->acked] <= sequence) {
        peer->acked++;
    }
    if (n && peer->acked == n) { /* The last stays, to tell the order of the next. */
        peer->unacked.items[0] = peer->unacked.items[n - 1];
        peer->unacked.count = peer->acked = 1;
    }
    stream_send_record(peer->stream, FRAME_ACK, &link_ack_desc, &ack);
}

void
link_peer_lease(struct link_peer *peer, const struct link_lease *lease)
{
    if (peer->phase == PEER_UP) {
        stream_send_record(peer->stream, FRAME_LEASE, &link_lease_desc, lease);
    }
}

static void
call_timed_out(uv_timer_t *timer)
{
    call_end(timer->data, NULL);
}

void
link_peer_call(struct link_peer *peer, const char *what, const char *object,
               int64_t timeout_ns, link_reply_fn *fn, void *ctx)
{
    struct peer_call *call = xcalloc(1, sizeof *call);
    call->id = peer->next_call++;
    call->fn = fn;
    call->ctx = ctx;
    call->peer = peer;
    call->next = peer->calls;
    peer->calls = call;
    (void)uv_timer_init(peer->server->loop, &call->timer);
    call->timer.data = call;
    /* A peer that is not up answers never; the timer says so from the loop. */
    uint64_t ms = peer->phase == PEER_UP ? (uint64_t)(timeout_ns / NS_PER_MS) : 0;
    (void)uv_timer_start(&call->timer, call_timed_out, ms, 0);

    struct link_call asked = {.id = call->id, .what = what, .object = object};
    stream_send_record(peer->stream, FRAME_CALL, &link_call_desc, &asked);
}

struct link_channel *
link_peer_open_channel(struct link_peer *peer, const struct link_channel_open *open,
                       const struct link_channel_bind *bind)
{
    return channels_open(&peer->channels, open, bind);
}
