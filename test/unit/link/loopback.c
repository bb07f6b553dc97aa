/* loopback.c - see loopback.h. */
#include "loopback.h"

#include <sys/stat.h>

#define START_NS (INT64_C(1790000000) * NS_PER_S)
#define LIMIT_MS 100000

/* ---- the control plane ----------------------------------------------------------- */

static void
on_hello(void *ctx, struct link_peer *peer, const struct link_identity *who,
         const struct link_hello *hello)
{
    struct loopback *lo = ctx;
    lo->hellos++;
    lo->peer = peer;
    lo->have_revision = hello->have_revision;
    snprintf(lo->serial, sizeof lo->serial, "%s", who->serial ? who->serial : "");
    if (lo->hold) {
        return;
    }
    if (lo->refuse_code) {
        link_peer_refuse(peer, lo->refuse_code, "as the test wants");
        return;
    }
    struct link_welcome welcome = {.node_id =
                                       who->node_id ? who->node_id : "node-local",
                                   .cloud_id = "c1000000",
                                   .zone = "us-east-1a",
                                   .region = "us-east-1",
                                   .snapshot = hello->have_revision == 0};
    link_peer_welcome(peer, &welcome);
}

static void
sign_for(struct loopback *lo, struct link_peer *peer, const char *csr_pem)
{
    struct err err = {0};
    struct pki_cert cert;
    struct link_enrolled enrolled = {.node_id = "node-1", .cloud_id = "c1000000"};
    CHECK_OK(pki_sign_node(lo->ca, lo->arena, &lo->rng, lo->control_ns, csr_pem,
                           "node-1", &enrolled.cert_pem, &cert, &err),
             &err);
    link_peer_enrolled(peer, &enrolled);
}

static void
on_enroll(void *ctx, struct link_peer *peer, const struct link_identity *who,
          const struct link_enroll *enroll)
{
    struct loopback *lo = ctx;
    lo->enrolls++;
    lo->peer = peer;
    if (lo->refuse_code) {
        link_peer_refuse(peer, lo->refuse_code, "as the test wants");
    } else {
        sign_for(lo, peer, enroll->csr_pem);
    }
}

static void
on_renew(void *ctx, struct link_peer *peer, const struct link_renew *renew)
{
    struct loopback *lo = ctx;
    sign_for(lo, peer, renew->csr_pem);
    lo->renews++;
}

static void
on_report(void *ctx, struct link_peer *peer, enum link_kind kind, const void *record,
          struct blob body, int64_t revision, int64_t sequence)
{
    struct loopback *lo = ctx;
    lo->reports++;
    lo->last_revision = revision;
    if (kind == LINK_MACHINE) {
        const struct link_machine_seen *seen = record;
        snprintf(lo->last_report, sizeof lo->last_report, "%s %s", seen->id,
                 seen->state);
    }
    if (!lo->hold_acks) {
        link_peer_ack_report(peer, sequence);
    }
}

static void
on_ack(void *ctx, struct link_peer *peer, int64_t revision)
{
    ((struct loopback *)ctx)->acked = revision;
}

static void
on_peer_channel(void *ctx, struct link_peer *peer, struct link_channel *channel,
                const struct link_channel_open *open)
{
    struct loopback *lo = ctx;
    lo->on_peer_channel(lo, channel, open);
}

static void
on_lost(void *ctx, struct link_peer *peer, const char *why)
{
    struct loopback *lo = ctx;
    lo->losts++;
    snprintf(lo->lost_why, sizeof lo->lost_why, "%s", why);
    if (lo->peer == peer) {
        lo->peer = NULL;
    }
}

/* ---- the node -------------------------------------------------------------------- */

static void
on_welcome(void *ctx, const struct link_welcome *welcome)
{
    struct loopback *lo = ctx;
    lo->welcomes++;
    lo->snapshot = welcome->snapshot;
}

static void
on_want(void *ctx, enum link_kind kind, const char *id, int64_t revision, bool deleted,
        const void *record, struct blob body)
{
    struct loopback *lo = ctx;
    CHECK(revision > lo->revision);
    lo->revision = revision;
    lo->wants++;
    snprintf(lo->last_want, sizeof lo->last_want, "%d %s%s", (int)kind, id,
             deleted ? " deleted" : "");
}

static void
on_snapshot_end(void *ctx, int64_t revision, int64_t count)
{
    struct loopback *lo = ctx;
    lo->snapshots++;
    CHECK_EQ(count, lo->wants);
}

static void
on_call(void *ctx, int64_t call_id, const char *what, const char *object)
{
    struct loopback *lo = ctx;
    lo->calls++;
    if (!str_eq(what, "silence")) {
        struct blob body = {(const uint8_t *)object, strlen(object)};
        link_client_reply(lo->client, call_id, true, body, NULL);
    }
}

static void
on_node_channel(void *ctx, struct link_channel *channel,
                const struct link_channel_open *open)
{
    struct loopback *lo = ctx;
    lo->on_node_channel(lo, channel, open);
}

static void
look_at_timer(uv_handle_t *handle, void *ctx)
{
    uint64_t *soonest_ms = ctx;
    if (handle->type == UV_TIMER && uv_is_active(handle)) {
        uint64_t due_ms = uv_timer_get_due_in((uv_timer_t *)handle);
        *soonest_ms = MIN(*soonest_ms, due_ms);
    }
}

static void
on_down(void *ctx, const char *code, const char *why)
{
    struct loopback *lo = ctx;
    lo->downs++;
    lo->next_try_ms = UINT64_MAX;
    uv_walk(&lo->loop, look_at_timer, &lo->next_try_ms);
    snprintf(lo->down_code, sizeof lo->down_code, "%s", code ? code : "");
    snprintf(lo->down_why, sizeof lo->down_why, "%s", why);
}

static bool
on_key_made(void *ctx, const char *key_pem, struct err *err)
{
    struct loopback *lo = ctx;
    lo->key_pem = arena_strdup(lo->arena, key_pem);
    return true;
}

static bool
on_enrolled(void *ctx, const struct link_enrolled *enrolled, struct err *err)
{
    struct loopback *lo = ctx;
    CHECK(lo->key_pem);
    lo->cert_pem = arena_strdup(lo->arena, enrolled->cert_pem);
    lo->ca_pem = arena_strdup(lo->arena, enrolled->ca_pem);
    return true;
}

static int64_t
on_have_revision(void *ctx)
{
    return ((struct loopback *)ctx)->revision;
}

/* ---- making ---------------------------------------------------------------------- */

static void
loopback_make_pki(struct loopback *lo)
{
    struct err err = {0};
    CHECK_OK(pki_ca_make(lo->arena, &lo->rng, lo->control_ns, "c1000000", &lo->ca_pair,
                         &err),
             &err);
    lo->ca = pki_ca_load(lo->ca_pair.cert_pem, lo->ca_pair.key_pem, &err);
    CHECK_OK(lo->ca, &err);
    CHECK_OK(pki_server_make(lo->ca, lo->arena, &lo->rng, lo->control_ns,
                             &lo->server_pair, &err),
             &err);
}

static void
loopback_listen(struct loopback *lo, bool tls)
{
    struct err err = {0};
    struct link_server_config config = {
        .loop = &lo->loop,
        .clock = &lo->control_clock,
        .rng = &lo->rng,
        .ctx = lo,
        .ops = {on_hello, on_enroll, on_renew, on_report, on_ack, on_peer_channel,
                on_lost},
        .unix_path = tls ? NULL : lo->unix_path,
        .tcp_host = tls ? "127.0.0.1" : NULL,
        .ca_pem = lo->ca_pair.cert_pem,
        .cert_pem = lo->server_pair.cert_pem,
        .key_pem = lo->server_pair.key_pem,
    };
    lo->server = link_server_create(&config, &err);
    CHECK_OK(lo->server, &err);
}

void
loopback_init(struct loopback *lo, bool tls)
{
    *lo = (struct loopback){.control_ns = START_NS, .node_ns = START_NS, .seed = 7};
    lo->control_clock = clock_manual(&lo->control_ns);
    lo->node_clock = clock_manual(&lo->node_ns);
    lo->rng = rng_seeded(&lo->seed);
    lo->arena = arena_create();
    snprintf(lo->dir, sizeof lo->dir, "/tmp/moln-link-XXXXXX");
    CHECK(mkdtemp(lo->dir));
    snprintf(lo->unix_path, sizeof lo->unix_path, "%s/link.sock", lo->dir);
    CHECK_EQ(uv_loop_init(&lo->loop), 0);
    if (tls) {
        loopback_make_pki(lo);
    }
    loopback_listen(lo, tls);
    snprintf(lo->place, sizeof lo->place, "127.0.0.1:%d", link_server_port(lo->server));
    lo->config = (struct link_client_config){
        .loop = &lo->loop,
        .clock = &lo->node_clock,
        .rng = &lo->rng,
        .ctx = lo,
        .ops = {on_welcome, on_want, on_snapshot_end, on_call, on_node_channel, on_down,
                on_key_made, on_enrolled, on_have_revision},
        .unix_path = tls ? NULL : lo->unix_path,
        .places = lo->place,
        .boot_id = "boot-1",
        .hostname = "host-1",
        .agent_version = "test",
        .ca_pem = lo->ca_pair.cert_pem,
    };
}

void
loopback_fini(struct loopback *lo)
{
    link_client_destroy(lo->client);
    link_server_destroy(lo->server);
    CHECK_EQ(uv_run(&lo->loop, UV_RUN_DEFAULT), 0);
    CHECK_EQ(uv_loop_close(&lo->loop), 0); /* Nothing is left behind. */
    pki_ca_destroy(lo->ca);
    arena_destroy(lo->arena);
    CHECK_EQ(rmdir(lo->dir), 0);
}

void
loopback_certify(struct loopback *lo, const struct pki_ca *ca, int64_t now_ns)
{
    struct err err = {0};
    struct pki_cert cert;
    const char *key, *csr, *pem;
    CHECK_OK(pki_key_make(lo->arena, &key, &err), &err);
    CHECK_OK(pki_csr_make(lo->arena, key, "host-1", &csr, &err), &err);
    CHECK_OK(pki_sign_node(ca ? ca : lo->ca, lo->arena, &lo->rng, now_ns, csr, "node-1",
                           &pem, &cert, &err),
             &err);
    lo->config.key_pem = lo->key_pem = arena_strdup(lo->arena, key);
    lo->config.cert_pem = pem;
}

void
loopback_connect(struct loopback *lo)
{
    struct err err = {0};
    lo->client = link_client_create(&lo->config, &err);
    CHECK_OK(lo->client, &err);
}

static void
timer_out(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

static void
run(struct loopback *lo, const int *count, int at_least, unsigned ms)
{
    bool out = false;
    uv_timer_t timer;
    CHECK_EQ(uv_timer_init(&lo->loop, &timer), 0);
    timer.data = &out;
    uv_update_time(&lo->loop);
    CHECK_EQ(uv_timer_start(&timer, timer_out, ms, 0), 0);
    while (!out && !(count && *count >= at_least)) {
        (void)uv_run(&lo->loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&timer, NULL);
    (void)uv_run(&lo->loop, UV_RUN_NOWAIT);
}

void
loopback_until(struct loopback *lo, const int *count, int at_least)
{
    run(lo, count, at_least, LIMIT_MS);
    if (*count < at_least) {
        fail_msg("%d of %d after %d ms; last down: %s %s; last lost: %s", *count,
                 at_least, LIMIT_MS, lo->down_code, lo->down_why, lo->lost_why);
    }
}

void
loopback_run_ms(struct loopback *lo, unsigned ms)
{
    run(lo, NULL, 0, ms);
}
