/* test_link.c - a node and its control plane over the unix socket and over TLS. */
#include "loopback.h"

#include <sys/stat.h>

static void
send_want(struct loopback *lo, const char *id, int64_t revision)
{
    AUTO(buf) struct buf body = {0};
    struct link_machine machine = {.id = id, .vcpus = 2, .memory_bytes = 1 << 30};
    tlv_encode(&link_machine_desc, &machine, &body);
    link_peer_want(lo->peer, LINK_MACHINE, id, revision, false,
                   (struct blob){(uint8_t *)body.data, body.len});
}

static void
report(struct loopback *lo, const char *id, const char *state)
{
    struct link_machine_seen seen = {.id = id, .state = state};
    CHECK(link_client_report(lo->client, LINK_MACHINE, 5, &seen));
}

TEST(link_unix_carries_snapshot_wants_and_acks)
{
    struct loopback lo;
    loopback_init(&lo, false);
    struct stat st;
    CHECK_EQ(stat(lo.unix_path, &st), 0);
    CHECK_EQ(st.st_mode & 0777, 0600);

    loopback_connect(&lo);
    loopback_until(&lo, &lo.welcomes, 1);
    CHECK(lo.snapshot);
    CHECK_STR(link_peer_node_id(lo.peer), "node-local");
    CHECK(link_peer_identity(lo.peer)->local);
    CHECK(link_server_peer(lo.server, link_peer_id(lo.peer)) == lo.peer);

    send_want(&lo, "i-1", 4);
    send_want(&lo, "i-2", 9);
    link_peer_snapshot_end(lo.peer, 9, 2);
    loopback_until(&lo, &lo.snapshots, 1);
    CHECK_STR(lo.last_want, "1 i-2");

    link_client_ack(lo.client, 9);
    link_peer_want(lo.peer, LINK_MACHINE, "i-1", 10, true, (struct blob){0});
    loopback_until(&lo, &lo.wants, 3);
    CHECK_STR(lo.last_want, "1 i-1 deleted");
    LOOPBACK_UNTIL(&lo, lo.acked == 9);
    loopback_fini(&lo);
}

TEST(link_reports_are_coalesced_and_sent_until_acked)
{
    struct loopback lo;
    loopback_init(&lo, false);
    loopback_connect(&lo);
    report(&lo, "i-1", "preparing"); /* Not connected yet: only the last word counts. */
    report(&lo, "i-1", "starting");
    report(&lo, "i-1", "running");
    CHECK_EQ(link_client_reports_waiting(lo.client), 1);
    lo.hold_acks = true;
    loopback_until(&lo, &lo.reports, 1);
    CHECK_STR(lo.last_report, "i-1 running");
    CHECK_EQ(lo.last_revision, 5);
    CHECK_EQ(link_client_reports_waiting(lo.client), 1);

    /* Not acknowledged: it comes again on the next stream. */
    lo.hold_acks = false;
    link_peer_close(lo.peer, "test");
    loopback_until(&lo, &lo.reports, 2);
    LOOPBACK_UNTIL(&lo, link_client_reports_waiting(lo.client) == 0);
    CHECK_EQ(lo.reports, 2);
    CHECK_EQ(lo.losts, 1);
    CHECK_STR(lo.lost_why, "test");
    loopback_fini(&lo);
}

struct replies {
    int count, silent;
    char last[32];
};

static void
on_reply(void *ctx, const struct link_reply *reply)
{
    struct replies *replies = ctx;
    replies->count++;
    if (reply) {
        snprintf(replies->last, sizeof replies->last, "%.*s", (int)reply->body.len,
                 (const char *)reply->body.data);
    } else {
        replies->silent++;
    }
}

TEST(link_calls_are_answered_time_out_or_end_with_the_peer)
{
    struct loopback lo;
    struct replies replies = {0};
    loopback_init(&lo, false);
    loopback_connect(&lo);
    loopback_until(&lo, &lo.welcomes, 1);
    link_peer_call(lo.peer, "console", "i-7", 60 * NS_PER_S, on_reply, &replies);
    loopback_until(&lo, &replies.count, 1);
    CHECK_STR(replies.last, "i-7");

    link_peer_call(lo.peer, "silence", "i-7", 30 * NS_PER_MS, on_reply, &replies);
    loopback_until(&lo, &replies.count, 2);
    CHECK_EQ(replies.silent, 1);

    link_peer_call(lo.peer, "silence", "i-7", 60 * NS_PER_S, on_reply, &replies);
    link_peer_close(lo.peer, "test");
    loopback_until(&lo, &replies.count, 3);
    CHECK_EQ(replies.silent, 2);
    loopback_fini(&lo);
}

TEST(link_client_comes_back_after_the_server_with_growing_jittered_pauses)
{
    struct loopback lo;
    loopback_init(&lo, false);
    link_server_destroy(lo.server);
    lo.server = NULL;
    loopback_connect(&lo);
    for (int i = 0; i < 5; i++) { /* 50-100, 100-200, 200-400, 400-800, 800-1600 ms. */
        loopback_until(&lo, &lo.downs, i + 1);
        CHECK(lo.next_try_ms >= 50u << i && lo.next_try_ms <= 100u << i);
    }
    loopback_fini(&lo);
}

TEST(link_tls_needs_certificate_and_resumes_its_session)
{
    struct loopback lo;
    loopback_init(&lo, true);
    loopback_certify(&lo, NULL, lo.control_ns);
    loopback_connect(&lo);
    loopback_until(&lo, &lo.welcomes, 1);
    CHECK_STR(link_peer_node_id(lo.peer), "node-1");
    CHECK(!link_peer_resumed(lo.peer));
    char serial[40];
    snprintf(serial, sizeof serial, "%s", lo.serial);
    CHECK_EQ(strlen(serial), 32);

    link_peer_close(lo.peer, "test");
    loopback_until(&lo, &lo.welcomes, 2);
    CHECK(link_peer_resumed(lo.peer));
    CHECK_STR(lo.serial, serial); /* The certificate is known all the same. */
    send_want(&lo, "i-1", 1);
    loopback_until(&lo, &lo.wants, 1);
    loopback_fini(&lo);
}

static void
expect_refused(struct loopback *lo, const char *code)
{
    loopback_connect(lo);
    loopback_until(lo, &lo->downs, 1);
    CHECK_STR(lo->down_code, code);
    CHECK_EQ(lo->hellos, 0);
    loopback_fini(lo);
}

TEST(link_tls_refuses_a_certificate_of_another_ca)
{
    struct loopback lo;
    struct err err = {0};
    struct pki_pair pair;
    loopback_init(&lo, true);
    CHECK_OK(pki_ca_make(lo.arena, &lo.rng, lo.control_ns, "c1000000", &pair, &err),
             &err);
    struct pki_ca *other = pki_ca_load(pair.cert_pem, pair.key_pem, &err);
    CHECK_OK(other, &err);
    loopback_certify(&lo, other, lo.control_ns);
    pki_ca_destroy(other);
    expect_refused(&lo, "certificate");
}

TEST(link_tls_refuses_an_expired_certificate)
{
    struct loopback lo;
    loopback_init(&lo, true);
    loopback_certify(&lo, NULL, lo.control_ns - 91 * 86400 * NS_PER_S);
    expect_refused(&lo, "certificate");
}

TEST(link_node_refuses_a_control_plane_of_another_ca)
{
    struct loopback lo;
    struct err err = {0};
    struct pki_pair pair;
    loopback_init(&lo, true);
    loopback_certify(&lo, NULL, lo.control_ns);
    CHECK_OK(pki_ca_make(lo.arena, &lo.rng, lo.control_ns, "c1000000", &pair, &err),
             &err);
    lo.config.ca_pem = pair.cert_pem;
    loopback_connect(&lo);
    loopback_until(&lo, &lo.downs, 1);
    CHECK(strstr(lo.down_why, "CA"));
    CHECK_EQ(lo.hellos, 0);
    loopback_fini(&lo);
}

TEST(link_clock_off_by_more_than_half_a_minute_is_refused)
{
    struct loopback lo;
    loopback_init(&lo, true);
    loopback_certify(&lo, NULL, lo.control_ns);
    lo.node_ns += 31 * NS_PER_S;
    expect_refused(&lo, "clock");

    loopback_init(&lo, false);
    lo.node_ns -= 31 * NS_PER_S;
    expect_refused(&lo, "clock");

    loopback_init(&lo, false);
    lo.node_ns -= 29 * NS_PER_S;
    loopback_connect(&lo);
    loopback_until(&lo, &lo.welcomes, 1);
    loopback_fini(&lo);
}

TEST(link_revoked_node_is_closed_and_refused)
{
    struct loopback lo;
    loopback_init(&lo, true);
    loopback_certify(&lo, NULL, lo.control_ns);
    loopback_connect(&lo);
    loopback_until(&lo, &lo.welcomes, 1);
    lo.refuse_code = "revoked";
    link_peer_close(lo.peer, "revoked");
    loopback_until(&lo, &lo.downs, 2);
    CHECK_STR(lo.down_code, "revoked");
    CHECK_EQ(lo.welcomes, 1);
    loopback_fini(&lo);
}

static void
use_token(struct loopback *lo, const char *ca_sha256)
{
    struct join_token token;
    char *text = arena_alloc(lo->arena, TOKEN_TEXT_LEN);
    token_make(&lo->rng, ca_sha256, &token);
    token_format(&token, text);
    lo->config.token = text;
    lo->config.ca_pem = NULL;
}

TEST(link_node_joins_with_a_token_and_comes_back_with_its_certificate)
{
    struct loopback lo;
    loopback_init(&lo, true);
    use_token(&lo, pki_ca_sha256(lo.ca));
    loopback_connect(&lo);
    loopback_until(&lo, &lo.welcomes, 1);
    CHECK_EQ(lo.enrolls, 1);
    CHECK_EQ(lo.hellos, 1);
    CHECK_STR(link_peer_node_id(lo.peer), "node-1");
    CHECK_STR(lo.ca_pem, lo.ca_pair.cert_pem);
    loopback_fini(&lo);
}

TEST(link_node_with_a_foreign_token_says_nothing)
{
    struct loopback lo;
    loopback_init(&lo, true);
    use_token(&lo, "00000000000000000000000000000000"
                   "00000000000000000000000000000000");
    loopback_connect(&lo);
    loopback_until(&lo, &lo.downs, 1);
    CHECK_EQ(lo.enrolls, 0);
    CHECK_NULL(lo.key_pem);
    CHECK(strstr(lo.down_why, "token"));
    loopback_fini(&lo);
}

TEST(link_used_token_is_refused_with_its_reason)
{
    struct loopback lo;
    loopback_init(&lo, true);
    use_token(&lo, pki_ca_sha256(lo.ca));
    lo.refuse_code = "token";
    loopback_connect(&lo);
    loopback_until(&lo, &lo.downs, 1);
    CHECK_STR(lo.down_code, "token");
    CHECK_STR(lo.down_why, "as the test wants");
    CHECK_NULL(lo.cert_pem);
    loopback_fini(&lo);
}

TEST(link_certificate_is_renewed_after_two_thirds_of_its_life)
{
    struct loopback lo;
    loopback_init(&lo, true);
    loopback_certify(&lo, NULL, lo.control_ns - 61 * 86400 * NS_PER_S);
    loopback_connect(&lo);
    loopback_until(&lo, &lo.renews, 1);
    LOOPBACK_UNTIL(&lo, lo.cert_pem);
    char old[40];
    snprintf(old, sizeof old, "%s", lo.serial);
    link_peer_close(lo.peer, "test");
    loopback_until(&lo, &lo.welcomes, 2);
    CHECK(strcmp(old, lo.serial) != 0);
    CHECK_EQ(lo.renews, 1);
    loopback_fini(&lo);
}

TEST(link_late_answer_to_a_lost_peer_finds_nobody)
{
    struct loopback lo;
    loopback_init(&lo, false);
    lo.hold = true;
    loopback_connect(&lo);
    loopback_until(&lo, &lo.hellos, 1);
    uint64_t id = link_peer_id(lo.peer);
    link_client_destroy(lo.client);
    lo.client = NULL;
    loopback_until(&lo, &lo.losts, 1);
    CHECK_NULL(link_server_peer(lo.server, id));
    CHECK_EQ(link_server_peer_count(lo.server), 0);
    loopback_fini(&lo);
}
