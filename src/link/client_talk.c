/* client_talk.c - what a node and its control plane say to each other. See client.h. */
#include "base/tlv.h"
#include "link/client_state.h"

#define CHAIN_MAX 4
#define RENEW_AGAIN_NS \
    (3600 * NS_PER_S) /* An answer that did not come is asked again. */

/* ---- the first words ------------------------------------------------------------- */

static void
client_send_hello(struct link_client *client)
{
    struct link_hello hello = {
        .protocol = LINK_PROTOCOL,
        .node_id = client->node_id,
        .boot_id = client->boot_id,
        .clock_ns = clock_real(client->clock),
        .agent_version = client->agent_version,
        .have_revision = client->ops.have_revision(client->ctx),
        .cloud_id = client->cloud_id,
    };
    client->phase = CLIENT_ASKING;
    stream_send_record(client->stream, FRAME_HELLO, &link_hello_desc, &hello);
}

/* Makes the node's key at its first attempt to join; it is stored before it is used. */
static bool
client_need_key(struct link_client *client, struct err *err)
{
    if (client->key_pem) {
        return true;
    }
    const char *key_pem;
    if (!pki_key_make(client->arena, &key_pem, err) ||
        (client->ops.key_made && !client->ops.key_made(client->ctx, key_pem, err))) {
        return false;
    }
    client->key_pem = xstrdup(key_pem);
    return true;
}

static void
client_send_enroll(struct link_client *client)
{
    struct err err = {0};
    struct link_enroll enroll = {
        .token_id = client->token.id,
        .token_secret = client->token.secret,
        .hostname = client->hostname,
        .clock_ns = clock_real(client->clock),
        .protocol = LINK_PROTOCOL,
        .agent_version = client->agent_version,
    };
    if (!client_need_key(client, &err) ||
        !pki_csr_make(client->arena, client->key_pem,
                      client->hostname ? client->hostname : "node", &enroll.csr_pem,
                      &err)) {
        client_fail(client, NULL, err.msg);
        return;
    }
    client->phase = CLIENT_ASKING;
    stream_send_record(client->stream, FRAME_ENROLL, &link_enroll_desc, &enroll);
}

/* Believes the control plane, or not, before a word is said to it. */
static bool
client_check_server(struct link_client *client, struct err *err)
{
    struct blob chain[CHAIN_MAX];
    size_t count = tls_peer_chain(stream_tls(client->stream), chain, CHAIN_MAX);
    const char *ca_pem;
    if (!client->verifier && (!pki_chain_find(chain, count, client->token.ca_sha256,
                                              client->arena, &ca_pem, err) ||
                              !client_use_ca(client, ca_pem, err))) {
        return false;
    }
    return pki_verify(client->verifier, chain, count, PKI_SERVER,
                      clock_real(client->clock), client->arena, NULL, err);
}

static void
client_on_up(void *ctx)
{
    struct link_client *client = ctx;
    struct err err = {0};
    arena_reset(client->arena);
    if (client->unix_path) {
        client_send_hello(client);
    } else if (!client_check_server(client, &err)) {
        client_fail(client, NULL, err.msg);
    } else if (client->cert_pem) {
        client_send_hello(client);
    } else {
        client_send_enroll(client);
    }
}

/* ---- what control says ----------------------------------------------------------- */

static void
client_send_reports(struct link_client *client)
{
    struct report_item item;
    while (client->phase == CLIENT_UP && !stream_busy(client->stream) &&
           reports_next(client->reports, &item)) {
        struct link_reported reported = {
            .kind = item.kind,
            .body = item.body,
            .sequence = item.sequence,
            .revision = item.revision,
        };
        stream_send_record(client->stream, FRAME_REPORT, &link_reported_desc,
                           &reported);
    }
}

static void
client_take_welcome(struct link_client *client, const void *record)
{
    const struct link_welcome *welcome = record;
    int64_t off;
    if (__builtin_sub_overflow(welcome->clock_ns, clock_real(client->clock), &off) ||
        off > LINK_CLOCK_SKEW_NS || off < -LINK_CLOCK_SKEW_NS) {
        client_fail(client, "clock",
                    "our clock and the control plane's are more than 30 s apart");
        return;
    }
    (void)uv_timer_stop(&client->timer);
    client->phase = CLIENT_UP;
    client->tries = 0;
    client_replace(&client->node_id, welcome->node_id);
    client_replace(&client->cloud_id, welcome->cloud_id);
    if (!client->unix_path) {
        buf_clear(&client->ticket);
        (void)tls_ticket(stream_tls(client->stream), &client->ticket);
    }
    channels_start(&client->channels, client->stream);
    client->ops.welcome(client->ctx, welcome);
    if (client->phase == CLIENT_UP) {
        client_send_reports(client);
        client_look_at_renewal(&client->renew_timer);
    }
}

static void
client_take_refuse(struct link_client *client, const void *record)
{
    const struct link_refuse *refuse = record;
    client_fail(client, refuse->code ? refuse->code : "unknown",
                refuse->message ? refuse->message : "refused");
}

static void
client_take_want(struct link_client *client, const void *record)
{
    const struct link_wanted *w = record;
    struct err err = {0};
    const struct desc *desc = link_want_desc((enum link_kind)w->kind);
    if (!desc || !w->id) {
        return; /* A newer control plane's: not for us. */
    }
    void *wanted = NULL;
    if (w->body.len || !w->deleted) {
        wanted = arena_alloc(client->arena, desc->size);
        if (!tlv_decode(desc, w->body.data, w->body.len, client->arena, wanted, &err)) {
            client_fail(client, NULL, err.msg);
            return;
        }
    }
    client->ops.want(client->ctx, (enum link_kind)w->kind, w->id, w->revision,
                     w->deleted, wanted, w->body);
}

static void
client_take_snapshot_end(struct link_client *client, const void *record)
{
    const struct link_snapshot_end *end = record;
    client->ops.snapshot_end(client->ctx, end->revision, end->count);
}

static void
client_take_ack(struct link_client *client, const void *record)
{
    const struct link_ack *ack = record;
    reports_ack(client->reports, ack->sequence);
    client_send_reports(client);
}

/* A call's id here: its own, and the stream that it came by. */
static void
client_take_call(struct link_client *client, const void *record)
{
    const struct link_call *call = record;
    if (call->id > 0 && call->id <= UINT32_MAX) {
        client->ops.call(
            client->ctx, (int64_t)(client->epoch & INT32_MAX) << 32 | call->id,
            call->what ? call->what : "", call->object ? call->object : "");
    }
}

static void
client_take_lease(struct link_client *client, const void *record)
{
    if (client->ops.lease) {
        client->ops.lease(client->ctx, record);
    }
}

static bool
client_keep_enrolled(struct link_client *client, const struct link_enrolled *e,
                     bool joining, struct err *err)
{
    if (!e->cert_pem || !e->ca_pem || (joining && !e->node_id)) {
        return err_set(err, ERR_CORRUPT, "the certificate did not come");
    }
    /* The CA is the one that TLS was checked against, whatever the record says. */
    struct link_enrolled kept = *e;
    kept.ca_pem = client->ca_pem;
    if (!client_use_cert(client, e->cert_pem, err) ||
        (client->ops.enrolled && !client->ops.enrolled(client->ctx, &kept, err))) {
        return false;
    }
    client_replace(&client->node_id, e->node_id);
    client_replace(&client->cloud_id, e->cloud_id);
    return true;
}

static void
client_take_enrolled(struct link_client *client, const void *record)
{
    struct err err = {0};
    bool joining = client->phase == CLIENT_ASKING && !client->cert_pem;
    if (!joining && client->phase != CLIENT_UP) {
        return;
    }
    if (!client_keep_enrolled(client, record, joining, &err)) {
        client_fail(client, NULL, err.msg);
    } else if (joining) {
        client_drop_stream(client, "joined");
        (void)uv_timer_start(&client->timer, client_try, 0, 0);
    }
}

static const struct client_frame {
    const struct desc *desc;
    void (*take)(struct link_client *client, const void *record);
    bool early; /* May come before the welcome. */
} client_frames[] = {
    [FRAME_WELCOME] = {&link_welcome_desc, client_take_welcome, true},
    [FRAME_REFUSE] = {&link_refuse_desc, client_take_refuse, true},
    [FRAME_WANT] = {&link_wanted_desc, client_take_want, false},
    [FRAME_SNAPSHOT_END] = {&link_snapshot_end_desc, client_take_snapshot_end, false},
    [FRAME_ACK] = {&link_ack_desc, client_take_ack, false},
    [FRAME_CALL] = {&link_call_desc, client_take_call, false},
    [FRAME_ENROLLED] = {&link_enrolled_desc, client_take_enrolled, true},
    [FRAME_LEASE] = {&link_lease_desc, client_take_lease, false},
};

static void
client_take_known(struct link_client *client, const struct client_frame *known,
                  const struct frame *frame)
{
    struct err err = {0};
    bool again = frame->type == FRAME_WELCOME && client->phase == CLIENT_UP;
    if (again || (!known->early && client->phase != CLIENT_UP)) {
        client_fail(client, NULL, "a frame out of turn");
        return;
    }
    void *record = arena_alloc(client->arena, known->desc->size);
    if (!tlv_decode(known->desc, frame->data, frame->len, client->arena, record,
                    &err)) {
        client_fail(client, NULL, err.msg);
        return;
    }
    known->take(client, record);
}

/* The stream may be gone, and even the client's user, after any of these. */
static bool
client_on_frame(void *ctx, const struct frame *frame)
{
    struct link_client *client = ctx;
    struct stream *stream = client->stream;
    struct err err = {0};
    arena_reset(client->arena);
    if (frame->type >= FRAME_CHANNEL_OPEN && frame->type <= FRAME_CHANNEL_DATA) {
        if (!channels_frame(&client->channels, frame, client->arena, &err)) {
            client_fail(client, NULL, err.msg);
        }
    } else if (frame->type < ARRAY_LEN(client_frames) &&
               client_frames[frame->type].take) {
        client_take_known(client, &client_frames[frame->type], frame);
    }
    return client->stream == stream;
}

static void
client_on_drained(void *ctx)
{
    struct link_client *client = ctx;
    client_send_reports(client);
    channels_drained(&client->channels);
}

static void
client_on_closed(void *ctx, const char *why)
{
    struct link_client *client = ctx;
    client->stream = NULL; /* It frees itself. */
    client_fail(client, NULL, why);
}

const struct stream_ops client_stream_ops = {
    .up = client_on_up,
    .frame = client_on_frame,
    .drained = client_on_drained,
    .closed = client_on_closed,
};

/* ---- renewal --------------------------------------------------------------------- */

void
client_look_at_renewal(uv_timer_t *timer)
{
    struct link_client *client = timer->data;
    struct err err = {0};
    struct link_renew renew = {0};
    int64_t now = clock_real(client->clock);
    int64_t life = client->cert_until_ns - client->cert_from_ns;
    bool due = client->cert_until_ns && now >= client->cert_from_ns + life / 3 * 2 &&
               now - client->renew_asked_ns >= RENEW_AGAIN_NS;
    if (!due || client->phase != CLIENT_UP) {
        return;
    }
    AUTO(arena) struct arena *arena = arena_create();
    if (pki_csr_make(arena, client->key_pem, client->node_id ? client->node_id : "node",
                     &renew.csr_pem, &err)) {
        client->renew_asked_ns = now;
        stream_send_record(client->stream, FRAME_RENEW, &link_renew_desc, &renew);
    }
}

/* ---- what the node says ---------------------------------------------------------- */

bool
link_client_report(struct link_client *client, enum link_kind kind, int64_t revision,
                   const void *record)
{
    const struct desc *desc = link_seen_desc(kind);
    AUTO(buf) struct buf body = {0};
    if (!desc) {
        return false;
    }
    const struct desc_field *f = desc_find(desc, "id");
    const char *id = f ? *(const char **)desc_at(f, record) : NULL;
    const char *key = kind == LINK_EVENT ? NULL : id ? id : "";
    tlv_encode(desc, record, &body);
    if (!reports_put(client->reports, kind, key, revision, body.data, body.len)) {
        return false;
    }
    client_send_reports(client);
    return true;
}

size_t
link_client_reports_waiting(const struct link_client *client)
{
    return reports_count(client->reports);
}

void
link_client_ack(struct link_client *client, int64_t revision)
{
    struct link_ack ack = {.revision = revision};
    if (client->phase == CLIENT_UP) {
        stream_send_record(client->stream, FRAME_ACK, &link_ack_desc, &ack);
    }
}

bool
link_client_ask_lease(struct link_client *client, const struct link_lease_ask *ask)
{
    if (client->phase != CLIENT_UP) {
        return false;
    }
    stream_send_record(client->stream, FRAME_LEASE_ASK, &link_lease_ask_desc, ask);
    return true;
}

void
link_client_reply(struct link_client *client, int64_t call_id, bool ok,
                  struct blob body, const char *message)
{
    struct link_reply reply = {
        .id = call_id & UINT32_MAX, .ok = ok, .body = body, .message = message};
    if (client->phase == CLIENT_UP && call_id >> 32 == (client->epoch & INT32_MAX)) {
        stream_send_record(client->stream, FRAME_REPLY, &link_reply_desc, &reply);
    }
}

struct link_channel *
link_client_open_channel(struct link_client *client,
                         const struct link_channel_open *open,
                         const struct link_channel_bind *bind)
{
    return channels_open(&client->channels, open, bind);
}
