/* http.c - the parser: see http.h. */
#include "node/metadata/http.h"
#include <strings.h>

struct text {
    const char *at;
    size_t len;
};

struct head {
    struct http_request *out;
    size_t body_len;
    bool has_length, bad;
};

static bool
text_is(struct text t, const char *word)
{
    return t.len == strlen(word) && strncasecmp(t.at, word, t.len) == 0;
}

static bool
is_token_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static int
hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Digits only, at most nine of them; -1: no number. */
static int64_t
number(struct text t)
{
    int64_t n = t.len == 0 || t.len > 9 ? -1 : 0;
    for (size_t i = 0; n >= 0 && i < t.len; i++) {
        n = t.at[i] >= '0' && t.at[i] <= '9' ? n * 10 + (t.at[i] - '0') : -1;
    }
    return n;
}

static bool
put_path(struct text t, char out[HTTP_PATH_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < t.len && t.at[i] != '?' && t.at[i] != '#'; i++) {
        char c = t.at[i];
        if (c == '%') {
            int high = i + 2 < t.len ? hex_value(t.at[i + 1]) : -1;
            int low = high >= 0 ? hex_value(t.at[i + 2]) : -1;
            if (low < 0) {
                return false;
            }
            c = (char)(high << 4 | low);
            i += 2;
        }
        if ((unsigned char)c < 0x20 || c == 0x7f) {
            return false;
        }
        if (c == '/' && (n == 0 || out[n - 1] == '/')) {
            continue;
        }
        if (n + 1 >= HTTP_PATH_MAX) {
            return false;
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return true;
}

/* The target's path: origin form, or absolute form as proxies are asked. */
static bool
put_target(struct text t, char out[HTTP_PATH_MAX])
{
    static const char scheme[] = "http://";
    if (t.len >= sizeof scheme - 1 &&
        strncasecmp(t.at, scheme, sizeof scheme - 1) == 0) {
        const char *slash =
            memchr(t.at + sizeof scheme - 1, '/', t.len - sizeof scheme + 1);
        size_t skip = slash ? (size_t)(slash - t.at) : t.len;
        t.at += skip;
        t.len -= skip;
        return put_path(t, out);
    }
    return t.len > 0 && t.at[0] == '/' && put_path(t, out);
}

static enum http_method
method_of(struct text t)
{
    static const char *const names[] = {[HTTP_GET] = "GET",
                                        [HTTP_HEAD] = "HEAD",
                                        [HTTP_PUT] = "PUT",
                                        [HTTP_OPTIONS] = "OPTIONS"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (t.len == strlen(names[i]) && memcmp(t.at, names[i], t.len) == 0) {
            return (enum http_method)i;
        }
    }
    return HTTP_OTHER;
}

static bool
request_line(struct text line, struct http_request *out)
{
    const char *end = line.at + line.len;
    const char *sp1 = memchr(line.at, ' ', line.len);
    const char *sp2 = sp1 ? memchr(sp1 + 1, ' ', (size_t)(end - sp1 - 1)) : NULL;
    if (!sp2 || sp1 == line.at || end - sp2 != 9 ||
        memcmp(sp2 + 1, "HTTP/1.", 7) != 0 || (end[-1] != '0' && end[-1] != '1')) {
        return false;
    }
    struct text method = {line.at, (size_t)(sp1 - line.at)};
    struct text target = {sp1 + 1, (size_t)(sp2 - sp1 - 1)};
    for (size_t i = 0; i < method.len; i++) {
        if (!is_token_char(method.at[i])) {
            return false;
        }
    }
    out->method = method_of(method);
    out->keep_alive = end[-1] == '1';
    return put_target(target, out->path);
}

static void
note_connection(struct text value, struct http_request *out)
{
    if (text_is(value, "close")) {
        out->keep_alive = false;
    } else if (text_is(value, "keep-alive")) {
        out->keep_alive = true;
    }
}

static void
note_length(struct text value, struct head *head)
{
    int64_t n = number(value);
    if (n < 0 || (head->has_length && head->body_len != (size_t)n)) {
        head->bad = true;
    } else {
        head->has_length = true;
        head->body_len = (size_t)n;
    }
}

static void
note_header(struct text name, struct text value, struct head *head)
{
    struct http_request *out = head->out;
    if (text_is(name, "content-length")) {
        note_length(value, head);
    } else if (text_is(name, "transfer-encoding")) {
        head->bad =
            true; /* No client of this service needs it; two lengths are an attack. */
    } else if (text_is(name, "connection")) {
        note_connection(value, out);
    } else if (text_is(name, "x-forwarded-for")) {
        out->forwarded = true;
    } else if (text_is(name, "x-aws-ec2-metadata-token-ttl-seconds")) {
        out->has_ttl = true;
        out->ttl_s = number(value);
    } else if (text_is(name, "x-aws-ec2-metadata-token")) {
        size_t len = MIN(value.len, sizeof out->token - 1);
        out->has_token = true;
        memcpy(out->token, value.at, len);
        out->token[len] = '\0';
    }
}

static bool
header_line(struct text line, struct head *head)
{
    const char *colon = memchr(line.at, ':', line.len);
    if (!colon || colon == line.at) {
        return false;
    }
    struct text name = {line.at, (size_t)(colon - line.at)};
    struct text value = {colon + 1, line.len - name.len - 1};
    for (size_t i = 0; i < name.len; i++) {
        if (!is_token_char(name.at[i])) {
            return false; /* Also a folded line, which begins with a space. */
        }
    }
    while (value.len > 0 && (value.at[0] == ' ' || value.at[0] == '\t')) {
        value.at++;
        value.len--;
    }
    while (value.len > 0 &&
           (value.at[value.len - 1] == ' ' || value.at[value.len - 1] == '\t')) {
        value.len--;
    }
    if (memchr(value.at, '\0', value.len) || memchr(value.at, '\r', value.len) ||
        memchr(value.at, '\n', value.len)) {
        return false;
    }
    note_header(name, value, head);
    return !head->bad;
}

/* The next line without its CRLF; false: there is none left. */
static bool
next_line(struct text *rest, struct text *out)
{
    const char *end = memmem(rest->at, rest->len, "\r\n", 2);
    if (!end) {
        return false;
    }
    *out = (struct text){rest->at, (size_t)(end - rest->at)};
    rest->len -= out->len + 2;
    rest->at = end + 2;
    return true;
}

enum http_result
http_parse(const char *data, size_t len, struct http_request *out, size_t *out_used)
{
    const char *end = memmem(data, MIN(len, HTTP_HEAD_MAX), "\r\n\r\n", 4);
    if (!end) {
        return len >= HTTP_HEAD_MAX ? HTTP_LARGE : HTTP_MORE;
    }
    struct http_request request = {.ttl_s = -1};
    struct head head = {.out = &request};
    struct text rest = {data, (size_t)(end - data) + 2}, line;
    if (!next_line(&rest, &line) || !request_line(line, &request)) {
        return HTTP_BAD;
    }
    while (next_line(&rest, &line)) {
        if (!header_line(line, &head)) {
            return HTTP_BAD;
        }
    }
    if (head.body_len > HTTP_BODY_MAX) {
        return HTTP_LARGE;
    }
    size_t used = (size_t)(end - data) + 4 + head.body_len;
    if (len < used) {
        return HTTP_MORE;
    }
    *out = request;
    *out_used = used;
    return HTTP_DONE;
}
