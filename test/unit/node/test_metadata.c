/* test_metadata.c - parser, tree, tokens, rules and time, without sockets. */
#include "link/records.h"
#include "node/metadata/imds.h"
#include "node/metadata/sntp.h"
#include "test.h"

static enum http_result
parse(const char *text, struct http_request *out)
{
    size_t used = 0;
    enum http_result r = http_parse(text, strlen(text), out, &used);
    if (r == HTTP_DONE) {
        CHECK_EQ(used, strlen(text));
    }
    return r;
}

TEST(http_parse_reads_a_whole_request)
{
    struct http_request r;
    CHECK_EQ(parse("GET /latest//meta-data/?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", &r),
             HTTP_DONE);
    CHECK_STR(r.path, "latest/meta-data/");
    CHECK(r.keep_alive && r.method == HTTP_GET && !r.has_token);
    CHECK_EQ(parse("PUT /latest/api/token HTTP/1.0\r\n"
                   "x-aws-EC2-metadata-token-ttl-seconds:  21600 \r\n"
                   "X-Forwarded-For: 1.2.3.4\r\nContent-Length: 3\r\n\r\nabc",
                   &r),
             HTTP_DONE);
    CHECK(r.method == HTTP_PUT && r.ttl_s == 21600 && r.forwarded && !r.keep_alive);
    CHECK_EQ(parse("GET http://169.254.169.254/a%20b HTTP/1.1\r\n\r\n", &r), HTTP_DONE);
    CHECK_STR(r.path, "a b");
}

TEST(http_parse_waits_for_the_rest_at_every_byte)
{
    static const char text[] = "PUT /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi";
    struct http_request r;
    size_t used;
    for (size_t i = 0; i < sizeof text - 1; i++) {
        CHECK_EQ(http_parse(text, i, &r, &used), HTTP_MORE);
    }
    CHECK_EQ(http_parse(text, sizeof text - 1, &r, &used), HTTP_DONE);
}

TEST(http_parse_refuses_what_is_malformed_or_too_large)
{
    static const char *const bad[] = {
        "GET /\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "G@T / HTTP/1.1\r\n\r\n",
        "GET latest HTTP/1.1\r\n\r\n",
        "GET /%0 HTTP/1.1\r\n\r\n",
        "GET /%00 HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost\r\n\r\n",
        "GET / HTTP/1.1\r\nHo st: a\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    };
    struct http_request r;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (parse(bad[i], &r) != HTTP_BAD) {
            fail_msg("taken: %s", bad[i]);
        }
    }
    char *large = xmalloc(HTTP_HEAD_MAX + 1);
    memset(large, 'a', HTTP_HEAD_MAX);
    size_t used;
    CHECK_EQ(http_parse(large, HTTP_HEAD_MAX, &r, &used), HTTP_LARGE);
    free(large);
    CHECK_EQ(parse("GET / HTTP/1.1\r\nContent-Length: 999999\r\n\r\n", &r), HTTP_LARGE);
}

#define LEAF(p, v) \
    { \
        .path = (p), .value = {(const uint8_t *)(v), sizeof(v) - 1 } \
    }

static struct link_metadata_leaf leaves[] = {
    LEAF("latest/user-data", "#!/bin/sh\n"),
    LEAF("latest/meta-data/public-keys/", "0=my-key"),
    LEAF("latest/meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA"),
    LEAF("latest/meta-data/instance-id", "i-1"),
    LEAF("latest/meta-data/placement/region", "us-east-1"),
    LEAF("latest/meta-data/placement/availability-zone", "us-east-1a"),
    LEAF("latest/dynamic/instance-identity/document", "{}"),
};
static const char *versions[] = {"2021-03-23", "1.0"};

static struct tree *
make_tree(struct arena *arena)
{
    static struct link_metadata want;
    struct err err;
    want = (struct link_metadata){.id = "eni-1",
                                  .leaves = {leaves, ARRAY_LEN(leaves)},
                                  .versions = {versions, ARRAY_LEN(versions)}};
    struct tree *tree = tree_create(arena, &want, &err);
    CHECK_OK(tree != NULL, &err);
    return tree;
}

static void
check_path(const struct tree *tree, const char *path, const char *want)
{
    AUTO(buf) struct buf out = {0};
    const char *type;
    bool found = tree_find(tree, path, &out, &type);
    if (found != (want != NULL) || (want && !str_eq(want, buf_str(&out)))) {
        fail_msg("/%s: '%s'", path, found ? buf_str(&out) : "(none)");
    }
}

TEST(tree_find_lists_folders_as_aws_does)
{
    AUTO(arena) struct arena *arena = arena_create();
    const struct tree *tree = make_tree(arena);
    check_path(tree, "", "1.0\n2021-03-23\nlatest");
    check_path(tree, "latest", "dynamic\nmeta-data\nuser-data");
    check_path(tree, "2021-03-23/", "dynamic\nmeta-data\nuser-data");
    check_path(tree, "latest/meta-data/", "instance-id\nplacement/\npublic-keys/");
    check_path(tree, "latest/meta-data", "instance-id\nplacement/\npublic-keys/");
    check_path(tree, "1.0/meta-data/placement/", "availability-zone\nregion");
    check_path(tree, "latest/meta-data/public-keys/", "0=my-key");
    check_path(tree, "latest/meta-data/public-keys", "0=my-key");
    check_path(tree, "latest/meta-data/public-keys/0/", "openssh-key");
    check_path(tree, "latest/meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA");
    check_path(tree, "latest/meta-data/instance-id", "i-1");
}

TEST(tree_find_has_nothing_for_unknown_paths)
{
    AUTO(arena) struct arena *arena = arena_create();
    const struct tree *tree = make_tree(arena);
    check_path(tree, "latest/meta-data/instance", NULL);
    check_path(tree, "latest/meta-data/instance-id/", NULL);
    check_path(tree, "latest/dynamic/fws/", NULL);
    check_path(tree, "1999-01-01/meta-data/", NULL);
    check_path(tree, "late", NULL);
    check_path(tree, "latest/../x", NULL);
}

struct ask {
    struct imds_world world;
    struct imds_port port;
    uint64_t seed;
    struct rng rng;
    uint8_t key[TOKEN_KEY_LEN];
    struct arena *arena;
    struct buf out;
    int ttl;
};

static void
ask_init(struct ask *a)
{
    memset(a, 0, sizeof *a);
    a->arena = arena_create();
    a->rng = rng_seeded(&a->seed);
    a->world =
        (struct imds_world){.key = a->key, .rng = &a->rng, .mono_ns = 50 * NS_PER_S};
    a->port = (struct imds_port){.name = "vpc-1/eni-1",
                                 .tree = make_tree(a->arena),
                                 .enabled = true,
                                 .token_required = true,
                                 .hop_limit = 2};
}

static void
ask_fini(struct ask *a)
{
    buf_fini(&a->out);
    arena_destroy(a->arena);
}

/* Sends text; returns the answer's status. */
static int
ask(struct ask *a, const char *text)
{
    struct http_request r;
    CHECK_EQ(parse(text, &r), HTTP_DONE);
    buf_clear(&a->out);
    a->ttl = imds_answer(&a->world, &a->port, &r, &a->out);
    return atoi(buf_str(&a->out) + strlen("HTTP/1.1 "));
}

#define TTL_IS(n) \
    "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: " n \
    "\r\n\r\n"
#define GET_ID "GET /latest/meta-data/instance-id HTTP/1.1\r\n"

TEST(imds_issues_tokens_by_the_rules)
{
    struct ask a;
    ask_init(&a);
    CHECK_EQ(ask(&a, TTL_IS("21600")), 200);
    CHECK_EQ(a.ttl, 2);
    CHECK(strstr(buf_str(&a.out), "X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21600\r\n"));
    CHECK_EQ(ask(&a, TTL_IS("0")), 400);
    CHECK_EQ(ask(&a, TTL_IS("21601")), 400);
    CHECK_EQ(ask(&a, TTL_IS("x")), 400);
    CHECK_EQ(ask(&a, "PUT /latest/api/token HTTP/1.1\r\n\r\n"), 400);
    CHECK_EQ(ask(&a, "PUT /latest/api/token HTTP/1.1\r\nX-Forwarded-For: 1.2.3.4\r\n"
                     "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n"),
             403);
    CHECK_EQ(ask(&a, "GET /latest/api/token HTTP/1.1\r\n\r\n"), 405);
    CHECK_EQ(ask(&a, "PUT /latest/user-data HTTP/1.1\r\n\r\n"), 405);
    CHECK_EQ(ask(&a, "DELETE / HTTP/1.1\r\n\r\n"), 405);
    CHECK_EQ(a.ttl, 0);
    ask_fini(&a);
}

TEST(imds_asks_for_a_token_where_one_is_required)
{
    struct ask a;
    ask_init(&a);
    CHECK_EQ(ask(&a, GET_ID "\r\n"), 401);
    CHECK_EQ(ask(&a, TTL_IS("60")), 200);
    AUTO(free)
    char *get = xasprintf(GET_ID "X-aws-ec2-metadata-token: %s\r\n\r\n",
                          strstr(buf_str(&a.out), "\r\n\r\n") + 4);
    CHECK_EQ(ask(&a, get), 200);
    CHECK_STR(strstr(buf_str(&a.out), "\r\n\r\n") + 4, "i-1");
    a.port.name = "vpc-1/eni-2";
    CHECK_EQ(ask(&a, get), 401);
    a.port.name = "vpc-1/eni-1";
    a.world.mono_ns += 60 * NS_PER_S;
    CHECK_EQ(ask(&a, get), 401);
    a.port.token_required = false;
    CHECK_EQ(ask(&a, get), 401); /* A wrong token is never ignored. */
    CHECK_EQ(ask(&a, GET_ID "\r\n"), 200);
    CHECK_EQ(ask(&a, "GET /latest/nothing HTTP/1.1\r\n\r\n"), 404);
    CHECK_EQ(ask(&a, "HEAD /latest/user-data HTTP/1.1\r\n\r\n"), 200);
    CHECK_STR(strstr(buf_str(&a.out), "\r\n\r\n") + 4, "");
    a.port.enabled = false;
    CHECK_EQ(ask(&a, GET_ID "\r\n"), 403);
    ask_fini(&a);
}

TEST(token_check_refuses_each_changed_character)
{
    uint64_t seed = 7;
    struct rng rng = rng_seeded(&seed);
    uint8_t key[TOKEN_KEY_LEN] = {1};
    char token[TOKEN_TEXT_LEN];
    session_make(key, "p", 100, &rng, token);
    CHECK_EQ(strlen(token), TOKEN_TEXT_LEN - 1);
    CHECK_EQ(session_check(key, "p", token, 40), 60);
    for (size_t i = 0; i < strlen(token); i++) {
        char was = token[i];
        token[i] = was == 'A' ? 'B' : 'A';
        CHECK_EQ(session_check(key, "p", token, 40), 0);
        token[i] = was;
    }
    CHECK_EQ(session_check(key, "p", "", 40), 0);
    CHECK_EQ(session_check(key, "p", token + 1, 40), 0);
}

TEST(sntp_answers_clients_and_nobody_else)
{
    uint8_t question[48] = {0x23}, out[SNTP_LEN];
    struct sntp_host host = {.synchronized = true, .leap = 1, .error_us = 500000};
    memset(question + 40, 0xab, 8);
    CHECK(sntp_answer(question, 48, &host, 3 * NS_PER_S, 3 * NS_PER_S + NS_PER_S / 2,
                      out));
    CHECK_EQ(out[0], 1 << 6 | 4 << 3 | 4);
    CHECK_EQ(out[1], 3);
    CHECK_EQ(out[9], 0);
    CHECK_EQ(out[10], 0x80); /* Half a second of dispersion. */
    CHECK_EQ(out[24], 0xab);
    CHECK_EQ(out[44], 0x80); /* Half a second of fraction. */
    CHECK(!sntp_answer(question, 47, &host, 0, 0, out));
    question[0] = 0x24; /* A server's. */
    CHECK(!sntp_answer(question, 48, &host, 0, 0, out));
    question[0] = 0x3b; /* Version 7. */
    CHECK(!sntp_answer(question, 48, &host, 0, 0, out));
}
