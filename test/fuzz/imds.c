/* imds.c - fuzzes what a guest can send to the metadata service: the HTTP parser, the tree
 * and the rules, and the time server. */
#include "node/metadata/imds.h"
#include "link/records.h"
#include "node/metadata/sntp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const uint8_t value[] = "i-0123456789abcdef0";
static struct link_metadata_leaf leaves[] = {
    {.path = "latest/meta-data/instance-id", .value = {value, sizeof value - 1}},
    {.path = "latest/meta-data/public-keys/", .value = {value, sizeof value - 1}},
    {.path = "latest/meta-data/public-keys/0/openssh-key", .value = {value, 4}},
    {.path = "latest/user-data", .value = {value, 0}},
};
static const char *versions[] = {"2021-03-23"};

static void
check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void
answer_all(const struct imds_port *port, const char *text, size_t len)
{
    static const uint8_t key[TOKEN_KEY_LEN] = {1};
    uint64_t seed = 1;
    struct rng rng = rng_seeded(&seed);
    struct imds_world world = {.key = key, .rng = &rng};
    for (struct http_request request; len > 0;) {
        size_t used = 0;
        if (http_parse(text, len, &request, &used) != HTTP_DONE) {
            return;
        }
        check(used > 0 && used <= len && strlen(request.path) < HTTP_PATH_MAX);
        AUTO(buf) struct buf out = {0};
        int ttl = imds_answer(&world, port, &request, &out);
        check(ttl >= 0 && ttl <= 64 && out.len > 0 && !out.full);
        text += used;
        len -= used;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct link_metadata want = {.leaves = {leaves, ARRAY_LEN(leaves)},
                                 .versions = {versions, ARRAY_LEN(versions)}};
    struct err err;
    struct imds_port port = {.name = "vpc/eni",
                             .tree = tree_create(arena, &want, &err),
                             .enabled = true,
                             .token_required = len & 1,
                             .hop_limit = 1};
    check(port.tree != NULL);
    answer_all(&port, (const char *)data, len);
    uint8_t out[SNTP_LEN];
    struct sntp_host host = {.error_us = (int64_t)len};
    (void)sntp_answer(data, len, &host, 0, 1, out);
    return 0;
}
