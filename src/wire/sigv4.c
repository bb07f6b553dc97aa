#include "wire/sigv4.h"
#include "base/crypto.h"
#include "base/timefmt.h"
#include "wire/canonical.h"
#include "wire/protocol.h"
#include <strings.h>

#define ALGORITHM "AWS4-HMAC-SHA256"
#define TERMINATOR "aws4_request"
#define MISMATCH \
    "The request signature we calculated does not match the signature you provided. " \
    "Check your AWS Secret Access Key and signing method. Consult the service " \
    "documentation for details."

static bool read_header(const struct http_request *request, const char *authorization,
                        struct arena *arena, struct sigv4_claim *out, struct err *err);
static bool read_presigned(const struct params *query, struct arena *arena,
                           struct sigv4_claim *out, struct err *err);
static bool payload_of(const struct http_request *request, bool allow_unsigned,
                       char out[SHA256_HEX_LEN], struct err *err);
static void signature_of(const char *amz_date, const char *scope,
                         const uint8_t digest[SHA256_LEN],
                         const uint8_t key[SIGV4_KEY_LEN], char out[SHA256_HEX_LEN]);

/* Headers that decide whose request it is: two of one kind are two readings of it. */
static bool
check_once(const struct http_request *request, struct err *err)
{
    static const char *const single[] = {"authorization", "host", "x-amz-date",
                                         "x-amz-content-sha256"};
    for (size_t i = 0; i < ARRAY_LEN(single); i++) {
        size_t count = 0;
        for (size_t h = 0; h < request->header_count; h++) {
            count += strcasecmp(request->headers[h].name, single[i]) == 0;
        }
        if (count > 1) {
            return err_set(err, ERR_INCOMPLETE_SIGNATURE,
                           "The request has more than one '%s' header.", single[i]);
        }
    }
    return true;
}

bool
sigv4_read(const struct http_request *request, struct arena *arena,
           struct sigv4_claim *out, struct err *err)
{
    *out = (struct sigv4_claim){0};
    if (!check_once(request, err)) {
        return false;
    }
    const char *authorization = http_header(request, "authorization");
    bool presigned = strstr(request->query, "X-Amz-Signature") ||
                     strstr(request->query, "X-Amz-Algorithm");
    if (authorization && presigned) {
        return err_set(
            err, ERR_INCOMPLETE_SIGNATURE,
            "The request is signed twice: in its Authorization header and in "
            "its query string.");
    }
    if (authorization) {
        return read_header(request, authorization, arena, out, err);
    }
    if (!presigned) {
        return err_set(err, ERR_MISSING_AUTHENTICATION_TOKEN,
                       "Request is missing Authentication Token");
    }
    struct params query = {0};
    return params_parse(&query, request->query, strlen(request->query), arena, err) &&
           read_presigned(&query, arena, out, err);
}

bool
sigv4_check_time(const struct sigv4_claim *claim, int64_t now_ns, struct err *err)
{
    int64_t valid_ns = SIGV4_SKEW_NS;
    if (claim->presigned) {
        valid_ns = claim->expires_s * NS_PER_S;
    }
    char now[TIME_TEXT_LEN], edge[TIME_TEXT_LEN];
    time_basic(now_ns, now);
    if (now_ns - claim->at_ns > valid_ns) {
        time_basic(now_ns - valid_ns, edge);
        return err_set(err, ERR_REQUEST_EXPIRED,
                       "Signature expired: %s is now earlier than %s (%s - %" PRId64
                       " min.)",
                       claim->amz_date, edge, now, valid_ns / (60 * NS_PER_S));
    }
    if (claim->at_ns - now_ns > SIGV4_SKEW_NS) {
        time_basic(now_ns + SIGV4_SKEW_NS, edge);
        return err_set(err, ERR_REQUEST_EXPIRED,
                       "Signature not yet current: %s is still later than %s (%s + 15 "
                       "min.)",
                       claim->amz_date, edge, now);
    }
    return true;
}

void
sigv4_signing_key(const char *secret, const char *date, const char *region,
                  const char *service, uint8_t out[SIGV4_KEY_LEN])
{
    char first[4 + 256];
    int len = snprintf(first, sizeof first, "AWS4%.250s", secret);
    uint8_t key[SHA256_LEN];
    hmac_sha256(first, (size_t)len, date, strlen(date), key);
    hmac_sha256(key, sizeof key, region, strlen(region), key);
    hmac_sha256(key, sizeof key, service, strlen(service), key);
    hmac_sha256(key, sizeof key, TERMINATOR, strlen(TERMINATOR), out);
    explicit_bzero(first, sizeof first);
    explicit_bzero(key, sizeof key);
}

bool
sigv4_verify(const struct http_request *request, const struct sigv4_claim *claim,
             const uint8_t key[SIGV4_KEY_LEN], bool allow_unsigned, struct arena *arena,
             struct err *err)
{
    char payload[SHA256_HEX_LEN];
    if (!payload_of(request, allow_unsigned, payload, err) ||
        !canonical_check_signed(request, claim->signed_headers, err)) {
        return false;
    }
    uint8_t digest[SHA256_LEN];
    const struct canonical what = {
        .request = request,
        .signed_headers = claim->signed_headers,
        .payload = payload,
        .plain_path = strcmp(claim->service, "s3") == 0,
        .drop_signature = claim->presigned,
    };
    if (!canonical_digest(&what, arena, digest, err)) {
        return false;
    }
    char scope[256];
    (void)snprintf(scope, sizeof scope, "%s/%s/%s/" TERMINATOR, claim->date,
                   claim->region, claim->service);
    char want[SHA256_HEX_LEN];
    signature_of(claim->amz_date, scope, digest, key, want);
    if (!secret_eq(want, claim->signature, SHA256_HEX_LEN - 1)) {
        return err_set(err, ERR_SIGNATURE_DOES_NOT_MATCH, MISMATCH);
    }
    return true;
}

/* The digest that stands in the canonical request, compared with the body that came. */
static bool
payload_of(const struct http_request *request, bool allow_unsigned,
           char out[SHA256_HEX_LEN], struct err *err)
{
    const char *said = http_header(request, "x-amz-content-sha256");
    if (said && strcmp(said, SIGV4_UNSIGNED) == 0) {
        if (!allow_unsigned) {
            return err_set(err, ERR_SIGNATURE_DOES_NOT_MATCH,
                           "An unsigned payload is accepted over TLS only.");
        }
        memcpy(out, SIGV4_UNSIGNED, sizeof SIGV4_UNSIGNED);
        return true;
    }
    sha256_hex(request->body, request->body_len, out);
    if (said && strcasecmp(said, out) != 0) {
        return err_set(err, ERR_SIGNATURE_DOES_NOT_MATCH,
                       "The provided 'x-amz-content-sha256' header does not match what "
                       "was computed.");
    }
    return true;
}

static void
signature_of(const char *amz_date, const char *scope, const uint8_t digest[SHA256_LEN],
             const uint8_t key[SIGV4_KEY_LEN], char out[SHA256_HEX_LEN])
{
    char hex[SHA256_HEX_LEN], to_sign[512];
    hex_encode(digest, SHA256_LEN, hex);
    int len = snprintf(to_sign, sizeof to_sign, ALGORITHM "\n%s\n%s\n%s", amz_date,
                       scope, hex);
    uint8_t mac[SHA256_LEN];
    hmac_sha256(key, SIGV4_KEY_LEN, to_sign, MIN((size_t)len, sizeof to_sign - 1), mac);
    hex_encode(mac, sizeof mac, out);
}

/* ---- reading a claim ------------------------------------------------------------- */

static bool
is_hex64(const char *s)
{
    return s && strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

/* "AKIA.../20260131/us-east-1/ec2/aws4_request" */
static bool
read_credential(const char *text, struct arena *arena, struct sigv4_claim *out,
                struct err *err)
{
    if (strlen(text) < 200) {
        char *save = NULL, *copy = arena_strdup(arena, text);
        out->key_id = strtok_r(copy, "/", &save);
        out->date = strtok_r(NULL, "/", &save);
        out->region = strtok_r(NULL, "/", &save);
        out->service = strtok_r(NULL, "/", &save);
        const char *end = strtok_r(NULL, "", &save);
        if (end && strcmp(end, TERMINATOR) == 0 && strlen(out->date) == 8 &&
            strspn(out->date, "0123456789") == 8 && *text != '/' &&
            !strstr(text, "//")) {
            return true;
        }
    }
    return err_set(err, ERR_INCOMPLETE_SIGNATURE,
                   "Credential must have exactly 5 slash-delimited elements, e.g. "
                   "keyid/date/region/service/term, got '%.200s'",
                   text);
}

/* Finishes a claim whose texts have been found. */
static bool
finish_claim(const char *amz_date, struct arena *arena, struct sigv4_claim *out,
             struct err *err)
{
    if (!is_hex64(out->signature)) {
        return err_set(err, ERR_INCOMPLETE_SIGNATURE,
                       "Signature must be 64 hexadecimal digits.");
    }
    if (strlen(amz_date) != 16 || !time_parse(amz_date, &out->at_ns)) {
        return err_set(err, ERR_INCOMPLETE_SIGNATURE,
                       "Date must be in ISO-8601 'basic format'. Got '%.64s'. See "
                       "http://en.wikipedia.org/wiki/ISO_8601",
                       amz_date);
    }
    if (strncmp(amz_date, out->date, 8) != 0) {
        return err_set(err, ERR_SIGNATURE_DOES_NOT_MATCH,
                       "Date in Credential scope does not match YYYYMMDD from ISO-8601 "
                       "version of date from HTTP: '%s' != '%.8s', from '%s'.",
                       out->date, amz_date, amz_date);
    }
    out->amz_date = arena_strdup(arena, amz_date);
    return true;
}

/* The request's own time: x-amz-date, or Date in either of its forms; NULL: none. */
static const char *
date_of(const struct http_request *request, struct arena *arena)
{
    const char *date = http_header(request, "x-amz-date");
    if (date) {
        return date;
    }
    date = http_header(request, "date");
    int64_t at_ns;
    if (date && time_parse_http(date, &at_ns)) {
        char *basic = arena_alloc(arena, TIME_TEXT_LEN);
        time_basic(at_ns, basic);
        return basic;
    }
    return date;
}

static bool
read_header(const struct http_request *request, const char *authorization,
            struct arena *arena, struct sigv4_claim *out, struct err *err)
{
    if (!str_starts(authorization, ALGORITHM) || strlen(authorization) > 4096) {
        return err_set(err, ERR_INCOMPLETE_SIGNATURE,
                       "Unsupported Authorization header: want " ALGORITHM ".");
    }
    const char *credential = NULL;
    char *save = NULL;
    char *copy = arena_strdup(arena, authorization + strlen(ALGORITHM));
    for (char *part = strtok_r(copy, ", \t", &save); part;
         part = strtok_r(NULL, ", \t", &save)) {
        const char **slot = NULL;
        if (str_starts(part, "Credential=")) {
            slot = &credential;
        } else if (str_starts(part, "SignedHeaders=")) {
            slot = &out->signed_headers;
        } else if (str_starts(part, "Signature=")) {
            slot = &out->signature;
        }
        if (!slot || *slot) {
            return err_set(err, ERR_INCOMPLETE_SIGNATURE,
                           "Authorization header has a part that is foreign or comes "
                           "twice: '%.64s'",
                           part);
        }
        *slot = strchr(part, '=') + 1;
    }
    const char *date = date_of(request, arena);
    if (!credential || !out->signature || !out->signed_headers || !date) {
        return err_set(err, ERR_INCOMPLETE_SIGNATURE, "%s%s%s%s",
                       credential ? ""
                                  : "Authorization header requires 'Credential' "
                                    "parameter. ",
                       out->signature ? ""
                                      : "Authorization header requires 'Signature' "
                                        "parameter. ",
                       out->signed_headers ? ""
                                           : "Authorization header requires "
                                             "'SignedHeaders' parameter. ",
                       date ? ""
                            : "Authorization header requires existence of either a "
                              "'X-Amz-Date' or a 'Date' header. ");
    }
    return read_credential(credential, arena, out, err) &&
           finish_claim(date, arena, out, err);
}

/* The value of the one parameter called 'name'; two of them, or none, is an error. */
static bool
one_param(const struct params *query, const char *name, const char **out,
          struct err *err)
{
    *out = NULL;
    for (size_t i = 0; i < query->count; i++) {
        if (strcmp(query->items[i].name, name) != 0) {
            continue;
        }
        if (*out) {
            return err_set(err, ERR_INCOMPLETE_SIGNATURE,
                           "Query-string authentication has two '%s' parameters.",
                           name);
        }
        *out = query->items[i].value;
    }
    if (!*out) {
        return err_set(err, ERR_INCOMPLETE_SIGNATURE,
                       "AWS query-string parameters must include '%s'.", name);
    }
    return true;
}

static bool
read_presigned(const struct params *query, struct arena *arena, struct sigv4_claim *out,
               struct err *err)
{
    const char *algorithm, *credential, *date, *expires;
    if (!one_param(query, "X-Amz-Algorithm", &algorithm, err) ||
        !one_param(query, "X-Amz-Credential", &credential, err) ||
        !one_param(query, "X-Amz-Date", &date, err) ||
        !one_param(query, "X-Amz-SignedHeaders", &out->signed_headers, err) ||
        !one_param(query, "X-Amz-Signature", &out->signature, err) ||
        !one_param(query, "X-Amz-Expires", &expires, err)) {
        return false;
    }
    if (strcmp(algorithm, ALGORITHM) != 0) {
        return err_set(err, ERR_INCOMPLETE_SIGNATURE,
                       "X-Amz-Algorithm only supports \"" ALGORITHM "\"");
    }
    size_t digits = strspn(expires, "0123456789");
    out->expires_s = digits && digits <= 6 && !expires[digits] ? atoll(expires) : -1;
    if (out->expires_s < 1 || out->expires_s > SIGV4_EXPIRES_MAX_S) {
        return err_set(err, ERR_INCOMPLETE_SIGNATURE,
                       "X-Amz-Expires must be a number of seconds from 1 to 604800.");
    }
    out->presigned = true;
    return read_credential(credential, arena, out, err) &&
           finish_claim(date, arena, out, err);
}

/* ---- signing --------------------------------------------------------------------- */

static int
compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* "accept;host;x-amz-date": every header of the request, once. */
static const char *
list_signed(const struct http_request *request, struct arena *arena)
{
    const char **names = ARENA_ARRAY(arena, request->header_count + 1, const char *);
    size_t bytes = 1;
    for (size_t i = 0; i < request->header_count; i++) {
        char *name = arena_strdup(arena, request->headers[i].name);
        for (char *c = name; *c; c++) {
            *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
        }
        names[i] = name;
        bytes += strlen(name) + 1;
    }
    qsort(names, request->header_count, sizeof *names, compare_text);
    char *out = arena_alloc(arena, bytes), *end = out;
    for (size_t i = 0; i < request->header_count; i++) {
        if (i && strcmp(names[i], names[i - 1]) == 0) {
            continue;
        }
        end = stpcpy(end == out ? end : stpcpy(end, ";"), names[i]);
    }
    return out;
}

void
sigv4_sign(const struct http_request *request, const struct sigv4_signer *signer,
           struct arena *arena, struct http_header out[SIGV4_SIGN_HEADERS])
{
    char *date = arena_alloc(arena, TIME_TEXT_LEN);
    time_basic(signer->now_ns, date);
    char *payload = arena_alloc(arena, SHA256_HEX_LEN);
    if (signer->unsigned_payload) {
        memcpy(payload, SIGV4_UNSIGNED, sizeof SIGV4_UNSIGNED);
    } else {
        sha256_hex(request->body, request->body_len, payload);
    }
    out[0] = (struct http_header){"x-amz-date", date};
    out[1] = (struct http_header){"x-amz-content-sha256", payload};

    struct http_request whole = *request;
    struct http_header *headers =
        ARENA_ARRAY(arena, request->header_count + 2, struct http_header);
    if (request->header_count) {
        memcpy(headers, request->headers, request->header_count * sizeof *headers);
    }
    memcpy(headers + request->header_count, out, 2 * sizeof *headers);
    whole.headers = headers;
    whole.header_count = request->header_count + 2;

    const struct canonical what = {
        .request = &whole,
        .signed_headers = list_signed(&whole, arena),
        .payload = payload,
        .plain_path = strcmp(signer->service, "s3") == 0,
    };
    uint8_t digest[SHA256_LEN] = {0}, key[SIGV4_KEY_LEN];
    struct err none = {0};
    (void)!canonical_digest(&what, arena, digest, &none);

    char *scope = arena_printf(arena, "%.8s/%s/%s/" TERMINATOR, date, signer->region,
                               signer->service);
    char signature[SHA256_HEX_LEN];
    sigv4_signing_key(signer->secret, arena_strndup(arena, date, 8), signer->region,
                      signer->service, key);
    signature_of(date, scope, digest, key, signature);
    explicit_bzero(key, sizeof key);
    out[2].name = "authorization";
    out[2].value = arena_printf(arena,
                                ALGORITHM " Credential=%s/%s, SignedHeaders=%s, "
                                          "Signature=%s",
                                signer->key_id, scope, what.signed_headers, signature);
}
