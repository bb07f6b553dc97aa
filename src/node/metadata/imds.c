/* imds.c - requests answered: see imds.h. */
#include "node/metadata/imds.h"
#include "base/timefmt.h"

static const struct status {
    int code;
    const char *text;
} statuses[] = {{200, "OK"},
                {400, "Bad Request"},
                {401, "Unauthorized"},
                {403, "Forbidden"},
                {404, "Not Found"},
                {405, "Method Not Allowed"},
                {413, "Payload Too Large"}};

struct answer {
    int status;
    const char *type;
    const char *allow;    /* Of a 405. */
    int64_t token_left_s; /* 0: no token was used. */
    const char *body;
    size_t body_len;
};

static const char *
status_text(int code)
{
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        if (statuses[i].code == code) {
            return statuses[i].text;
        }
    }
    return "Error";
}

static void
put_answer(const struct imds_world *world, const struct answer *a, bool keep_alive,
           bool with_body, struct buf *out)
{
    AUTO(buf) struct buf page = {0};
    const char *body = a->body, *type = a->type;
    size_t len = a->body_len;
    if (a->status != 200) {
        const char *text = status_text(a->status);
        buf_printf(&page,
                   "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<html>\n <head>\n"
                   "  <title>%d - %s</title>\n </head>\n <body>\n  <h1>%d - %s</h1>\n"
                   " </body>\n</html>\n",
                   a->status, text, a->status, text);
        body = buf_str(&page);
        len = page.len;
        type = "text/html";
    }
    char date[TIME_TEXT_LEN];
    time_http(world->real_ns, date);
    buf_printf(out,
               "HTTP/1.1 %d %s\r\nServer: EC2ws\r\nDate: %s\r\nContent-Type: %s\r\n"
               "Content-Length: %zu\r\nConnection: %s\r\n",
               a->status, status_text(a->status), date, type, len,
               keep_alive ? "keep-alive" : "close");
    if (a->allow) {
        buf_printf(out, "Allow: %s\r\n", a->allow);
    }
    if (a->token_left_s > 0) {
        buf_printf(out, "X-Aws-Ec2-Metadata-Token-Ttl-Seconds: %" PRId64 "\r\n",
                   a->token_left_s);
    }
    buf_puts(out, "\r\n");
    if (with_body) {
        buf_put(out, body, len);
    }
}

/* A PUT that is well formed gets a token, in 'text'. */
static void
answer_put(const struct imds_world *world, const struct imds_port *port,
           const struct http_request *request, char text[TOKEN_TEXT_LEN],
           struct answer *a)
{
    if (request->forwarded) {
        a->status =
            403; /* Came through a proxy that a tenant did not mean to be one. */
    } else if (!request->has_ttl || request->ttl_s < 1 ||
               request->ttl_s > TOKEN_TTL_MAX_S) {
        a->status = 400;
    } else {
        int64_t end_s = world->mono_ns / NS_PER_S + request->ttl_s;
        session_make(world->key, port->name, end_s, world->rng, text);
        a->token_left_s = request->ttl_s;
        a->body = text;
        a->body_len = strlen(text);
    }
}

static void
answer_get(const struct imds_world *world, const struct imds_port *port,
           const struct http_request *request, struct buf *body, struct answer *a)
{
    if (request->has_token) {
        a->token_left_s = session_check(world->key, port->name, request->token,
                                      world->mono_ns / NS_PER_S);
    }
    if (a->token_left_s == 0 && (request->has_token || port->token_required)) {
        a->status = 401;
    } else if (!tree_find(port->tree, request->path, body, &a->type)) {
        a->status = 404;
    } else {
        a->body = buf_str(body);
        a->body_len = body->len;
    }
}

static bool
is_token_path(const char *path)
{
    return str_eq(path, "latest/api/token") || str_eq(path, "latest/api/token/");
}

int
imds_answer(const struct imds_world *world, const struct imds_port *port,
            const struct http_request *request, struct buf *out)
{
    AUTO(buf) struct buf body = {0};
    char token[TOKEN_TEXT_LEN];
    struct answer a = {.status = 200, .type = "text/plain"};
    bool token_path = is_token_path(request->path);
    bool get = request->method == HTTP_GET || request->method == HTTP_HEAD;
    if (!port || !port->tree) {
        a.status = 404;
    } else if (!port->enabled) {
        a.status = 403;
    } else if (token_path && request->method == HTTP_PUT) {
        answer_put(world, port, request, token, &a);
    } else if (!token_path && get) {
        answer_get(world, port, request, &body, &a);
    } else {
        a.status = 405;
        a.allow = token_path ? "OPTIONS, PUT" : "GET, HEAD";
    }
    put_answer(world, &a, request->keep_alive, request->method != HTTP_HEAD, out);
    bool issued = request->method == HTTP_PUT && a.status == 200;
    return issued ? port->hop_limit : 0;
}

void
imds_refuse(const struct imds_world *world, int status, struct buf *out)
{
    struct answer a = {.status = status};
    put_answer(world, &a, false, true, out);
}
