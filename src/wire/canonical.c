#include "wire/canonical.h"
#include "wire/protocol.h"
#include <nettle/sha2.h>
#include <strings.h>

static void add_path(struct sha256_ctx *sha, const char *path, bool plain,
                     struct arena *arena);
static bool add_query(struct sha256_ctx *sha, const char *query, bool drop_signature,
                      struct arena *arena, struct err *err);
static void add_header(struct sha256_ctx *sha, const struct http_request *request,
                       const char *name, size_t len);

static void
add(struct sha256_ctx *sha, const void *p, size_t len)
{
    sha256_update(sha, len, p);
}

static void
add_text(struct sha256_ctx *sha, const char *s)
{
    add(sha, s, strlen(s));
}

bool
canonical_digest(const struct canonical *what, struct arena *arena,
                 uint8_t out[SHA256_LEN], struct err *err)
{
    struct sha256_ctx sha;
    sha256_init(&sha);
    add_text(&sha, what->request->method);
    add_text(&sha, "\n");
    add_path(&sha, what->request->path, what->plain_path, arena);
    add_text(&sha, "\n");
    if (!add_query(&sha, what->request->query, what->drop_signature, arena, err)) {
        return false;
    }
    add_text(&sha, "\n");
    for (const char *name = what->signed_headers; *name;) {
        size_t len = strcspn(name, ";");
        add_header(&sha, what->request, name, len);
        name += len + (name[len] == ';');
    }
    add_text(&sha, "\n");
    add_text(&sha, what->signed_headers);
    add_text(&sha, "\n");
    add_text(&sha, what->payload);
    sha256_digest(&sha, SHA256_LEN, out);
    return true;
}

/* ---- path ------------------------------------------------------------------------ */

static bool
unreserved(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           c == '-' || c == '_' || c == '.' || c == '~';
}

static void
add_encoded(struct sha256_ctx *sha, const char *s, size_t len, const char *also)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t plain = 0;
    for (size_t i = 0; i < len; i++) {
        if (unreserved(s[i]) || (s[i] && strchr(also, s[i]))) {
            continue;
        }
        add(sha, s + plain, i - plain);
        char escape[3] = {'%', digits[(uint8_t)s[i] >> 4], digits[(uint8_t)s[i] & 15]};
        add(sha, escape, sizeof escape);
        plain = i + 1;
    }
    add(sha, s + plain, len - plain);
}

/* Without '.', '..' and empty segments, encoded once more on top of what was sent. */
static void
add_path(struct sha256_ctx *sha, const char *path, bool plain, struct arena *arena)
{
    if (plain || (path[0] == '/' && !path[1])) {
        add_text(sha, *path ? path : "/");
        return;
    }
    size_t len = strlen(path), out = 0;
    char *tidy = arena_alloc(arena, len + 2);
    for (const char *segment = path; *segment;) {
        size_t n = strcspn(segment, "/");
        if (n == 2 && memcmp(segment, "..", 2) == 0) {
            while (out && tidy[--out] != '/') {
            }
        } else if (n && !(n == 1 && *segment == '.')) {
            tidy[out++] = '/';
            memcpy(tidy + out, segment, n);
            out += n;
        }
        segment += n + (segment[n] == '/');
    }
    if (!out || path[len - 1] == '/') {
        tidy[out++] = '/';
    }
    add_encoded(sha, tidy, out, "/");
}

/* ---- query ----------------------------------------------------------------------- */

/* A decoded pair is put back in AWS's encoding, so that what is signed is what is read.
 */
static int
compare_encoded(const char *a, size_t a_len, const char *b, size_t b_len)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t n = MIN(a_len, b_len);
    for (size_t i = 0; i < n; i++) {
        if (a[i] == b[i]) {
            continue;
        }
        /* '%' sorts before every unreserved character; escapes sort by their digits. */
        bool plain_a = unreserved(a[i]), plain_b = unreserved(b[i]);
        if (plain_a != plain_b) {
            return plain_a ? 1 : -1;
        }
        if (plain_a) {
            return (uint8_t)a[i] - (uint8_t)b[i];
        }
        int high = digits[(uint8_t)a[i] >> 4] - digits[(uint8_t)b[i] >> 4];
        return high ? high : digits[(uint8_t)a[i] & 15] - digits[(uint8_t)b[i] & 15];
    }
    return a_len < b_len ? -1 : a_len > b_len;
}

static int
compare_param(const void *left, const void *right)
{
    const struct param *a = left, *b = right;
    int order = compare_encoded(a->name, a->name_len, b->name, b->name_len);
    return order ? order
                 : compare_encoded(a->value, a->value_len, b->value, b->value_len);
}

static bool
add_query(struct sha256_ctx *sha, const char *query, bool drop_signature,
          struct arena *arena, struct err *err)
{
    if (!*query) {
        return true;
    }
    struct params params = {0};
    if (!params_parse(&params, query, strlen(query), arena, err)) {
        return false;
    }
    qsort(params.items, params.count, sizeof *params.items, compare_param);
    bool first = true;
    for (size_t i = 0; i < params.count; i++) {
        const struct param *p = &params.items[i];
        if (drop_signature && strcmp(p->name, "X-Amz-Signature") == 0) {
            continue;
        }
        add(sha, "&", first ? 0 : 1);
        add_encoded(sha, p->name, p->name_len, "");
        add(sha, "=", 1);
        add_encoded(sha, p->value, p->value_len, "");
        first = false;
    }
    return true;
}

/* ---- headers --------------------------------------------------------------------- */

static bool
is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The value without blanks around it, each run of blanks inside as one. */
static void
add_value(struct sha256_ctx *sha, const char *value)
{
    bool any = false;
    while (*value) {
        while (is_space(*value)) {
            value++;
        }
        size_t len = 0;
        while (value[len] && !is_space(value[len])) {
            len++;
        }
        if (len) {
            add(sha, " ", any ? 1 : 0);
            add(sha, value, len);
            any = true;
        }
        value += len;
    }
}

static void
add_header(struct sha256_ctx *sha, const struct http_request *request, const char *name,
           size_t len)
{
    add(sha, name, len);
    add(sha, ":", 1);
    bool first = true;
    for (size_t i = 0; i < request->header_count; i++) {
        const struct http_header *h = &request->headers[i];
        if (strncasecmp(h->name, name, len) == 0 && !h->name[len]) {
            add(sha, ",", first ? 0 : 1);
            add_value(sha, h->value);
            first = false;
        }
    }
    add(sha, "\n", 1);
}

static bool
list_has(const char *list, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = list; *at;) {
        size_t n = strcspn(at, ";");
        if (n == len && strncasecmp(at, name, n) == 0) {
            return true;
        }
        at += n + (at[n] == ';');
    }
    return false;
}

/* Lower case, sorted, none twice, each one there. */
static bool
list_well_formed(const struct http_request *request, const char *list, struct err *err)
{
    const char *before = NULL;
    size_t before_len = 0;
    for (const char *at = list; *at;) {
        size_t n = strcspn(at, ";");
        for (size_t i = 0; i < n; i++) {
            if (at[i] >= 'A' && at[i] <= 'Z') {
                n = 0;
            }
        }
        int order = 1;
        if (n && before) {
            order = memcmp(at, before, MIN(n, before_len));
            order = order ? order : (n > before_len ? 1 : -1);
        }
        char name[128];
        if (!n || n >= sizeof name || order <= 0 || (at[n] == ';' && !at[n + 1])) {
            return err_set(err, ERR_SIGNATURE_DOES_NOT_MATCH,
                           "'SignedHeaders' must be lower case, sorted, and name each "
                           "header once.");
        }
        memcpy(name, at, n);
        name[n] = '\0';
        if (!http_header(request, name)) {
            return err_set(err, ERR_SIGNATURE_DOES_NOT_MATCH,
                           "The signed header '%s' is not in the request.", name);
        }
        before = at;
        before_len = n;
        at += n + (at[n] == ';');
    }
    return true;
}

bool
canonical_check_signed(const struct http_request *request, const char *signed_headers,
                       struct err *err)
{
    if (!list_well_formed(request, signed_headers, err)) {
        return false;
    }
    if (!list_has(signed_headers, "host")) {
        return err_set(err, ERR_SIGNATURE_DOES_NOT_MATCH,
                       "'Host' or ':authority' must be a 'SignedHeader' in the AWS "
                       "Authorization.");
    }
    for (size_t i = 0; i < request->header_count; i++) {
        const char *name = request->headers[i].name;
        if (strncasecmp(name, "x-amz-", 6) == 0 && !list_has(signed_headers, name)) {
            return err_set(err, ERR_SIGNATURE_DOES_NOT_MATCH,
                           "'%.64s' must be a 'SignedHeader' in the AWS Authorization.",
                           name);
        }
    }
    return true;
}
