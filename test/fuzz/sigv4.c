/* sigv4.c - signatures of strangers: path, query and headers are lines of the input.
 * Nothing may be believed, since no secret is known; a request that we sign must be. */
#include "wire/sigv4.h"

#define LINES 16

/* Splits at newlines; at most LINES. */
static size_t
split(char *text, char *lines[LINES])
{
    size_t count = 0;
    for (char *at = text; at && count < LINES;) {
        lines[count++] = at;
        at = strchr(at, '\n');
        if (at) {
            *at++ = '\0';
        }
    }
    return count;
}

static void
try_stranger(const struct http_request *request)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct err err = {0};
    struct sigv4_claim claim;
    static const uint8_t key[SIGV4_KEY_LEN] = {1, 2, 3};
    if (!sigv4_read(request, arena, &claim, &err)) {
        return;
    }
    (void)!sigv4_check_time(&claim, claim.at_ns, &err);
    if (sigv4_verify(request, &claim, key, true, arena, &err)) {
        abort();
    }
}

static void
try_own(struct http_request request)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct err err = {0};
    struct http_header headers[1 + SIGV4_SIGN_HEADERS] = {{"Host", "h"}};
    struct sigv4_claim claim;
    uint8_t key[SIGV4_KEY_LEN];
    const struct sigv4_signer signer = {
        .key_id = "K", .secret = "S", .region = "r", .service = "ec2"};
    request.headers = headers;
    request.header_count = 1;
    sigv4_sign(&request, &signer, arena, headers + 1);
    request.header_count = ARRAY_LEN(headers);
    if (strchr(request.query, '%') || strstr(request.query, "X-Amz-") ||
        !sigv4_read(&request, arena, &claim, &err)) {
        return;
    }
    sigv4_signing_key("S", claim.date, "r", "ec2", key);
    if (!sigv4_verify(&request, &claim, key, false, arena, &err)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(free) char *text = xmalloc(len + 1);
    char *lines[LINES];
    struct http_header headers[LINES];
    memcpy(text, data, len);
    text[len] = '\0';
    size_t count = split(text, lines);
    struct http_request request = {.method = "POST",
                                   .path = lines[0],
                                   .query = count > 1 ? lines[1] : "",
                                   .body = count > 2 ? lines[2] : "",
                                   .headers = headers};
    request.body_len = strlen(request.body);
    static const char *const names[] = {
        "Authorization", "X-Amz-Date",           "Host",
        "Date",          "X-Amz-Content-Sha256", "X-Amz-Target"};
    for (size_t i = 3; i < count; i++) {
        headers[request.header_count++] =
            (struct http_header){names[(i - 3) % ARRAY_LEN(names)], lines[i]};
    }
    try_stranger(&request);
    try_own(request);
    return 0;
}
