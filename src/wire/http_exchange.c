/* http_exchange.c - one request and its answer, as libmicrohttpd's callbacks bring
 * them. */
#include "wire/http_server.h"
#include <errno.h>
#include <strings.h>
#include <sys/socket.h>

#define DRAIN_BYTES_MAX \
    (64 * MIB) /* Of a refused body; beyond, the connection is cut. */

static struct exchange *
exchange_create(struct http_server *server)
{
    struct exchange *ex = xcalloc(1, sizeof *ex);
    ex->server = server;
    ex->request.arena = arena_create();
    return ex;
}

void
exchange_destroy(struct exchange *ex)
{
    arena_destroy(ex->request.arena);
    buf_fini(&ex->body);
    buf_fini(&ex->target);
    buf_fini(&ex->answer.body);
    free(ex);
}

static struct exchange *
exchange_get(struct http_server *server)
{
    pthread_mutex_lock(&server->lock);
    struct exchange *ex = server->spare;
    if (ex) {
        server->spare = ex->next;
        server->spare_count--;
    }
    server->active++;
    pthread_mutex_unlock(&server->lock);
    return ex ? ex : exchange_create(server);
}

static void
buf_recycle(struct buf *b)
{
    if (b->cap > KEPT_BUFFER_BYTES) {
        buf_fini(b);
    } else {
        buf_clear(b);
    }
}

/* Makes the exchange as new, but for its memory. */
static void
exchange_wipe(struct exchange *ex)
{
    struct arena *arena = ex->request.arena;
    arena_reset(arena);
    buf_recycle(&ex->body);
    buf_recycle(&ex->target);
    buf_recycle(&ex->answer.body);
    struct buf body = ex->answer.body;
    ex->request = (struct http_request){.arena = arena};
    ex->answer = (struct http_answer){.body = body};
    ex->phase = PHASE_HEAD;
    ex->drained_bytes = 0;
    ex->body_since_ns = 0;
    ex->link = NULL;
}

/* libmicrohttpd would make a list of the query's arguments, which nobody here reads, and with
 * a thousand of them its pool is full and it never answers (seen with 0.9.75). It calls us
 * before it does, with the text in its own buffer: what it finds there is an empty query. */
static void
hide_query(const char *uri)
{
    char *mark = strchr(uri, '?');
    if (mark && mark[1]) {
        mark[1] = '\0';
    }
}

void *
exchange_begin(void *ctx, const char *uri, struct MHD_Connection *connection)
{
    struct http_server *server = ctx;
    struct exchange *ex = exchange_get(server);
    ex->connection = connection;
    buf_puts(&ex->target, uri);
    hide_query(uri);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    ex->link = info ? info->socket_context : NULL;
    if (ex->link) {
        pthread_mutex_lock(&server->lock);
        ex->link->busy = true;
        pthread_mutex_unlock(&server->lock);
    }
    return ex;
}

void
exchange_end(void *ctx, struct MHD_Connection *connection UNUSED, void **state,
             enum MHD_RequestTerminationCode how UNUSED)
{
    struct http_server *server = ctx;
    struct exchange *ex = *state;
    if (!ex) {
        return;
    }
    *state = NULL;
    server->config.ops->end(server->config.ctx, &ex->request);
    struct link_to_client *link = ex->link;
    bool upgraded = ex->answer.upgraded != NULL;
    exchange_wipe(ex);
    pthread_mutex_lock(&server->lock);
    if (link && !upgraded) {
        link->busy = false;
        link->idle_since_ns = clock_mono(server->config.clock);
    }
    bool keep = server->spare_count < SPARE_EXCHANGES;
    if (keep) {
        ex->next = server->spare;
        server->spare = ex;
        server->spare_count++;
    }
    if (--server->active == 0) {
        pthread_cond_broadcast(&server->changed);
    }
    pthread_mutex_unlock(&server->lock);
    if (!keep) {
        exchange_destroy(ex);
    }
}

/* ---- the head -------------------------------------------------------------------- */

static enum MHD_Result
add_header(void *ctx, enum MHD_ValueKind kind UNUSED, const char *name,
           const char *value)
{
    struct exchange *ex = ctx;
    if (ex->request.header_count == HTTP_HEADERS_MAX) {
        return MHD_NO;
    }
    ex->headers[ex->request.header_count++] =
        (struct http_header){name, value ? value : ""};
    return MHD_YES;
}

static void
find_source(struct exchange *ex)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(ex->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *at = info ? info->client_addr : NULL;
    ex->source_ip[0] = '\0';
    if (at && at->sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &((const struct sockaddr_in *)at)->sin_addr,
                        ex->source_ip, sizeof ex->source_ip);
    } else if (at && at->sa_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)at)->sin6_addr,
                        ex->source_ip, sizeof ex->source_ip);
    }
    ex->request.source_ip = ex->source_ip;
}

static void
read_head(struct exchange *ex, const char *method)
{
    struct http_request *r = &ex->request;
    r->method = method;
    r->headers = ex->headers;
    r->body = "";
    r->tls = ex->server->config.cert_file != NULL;
    char *target = ex->target.data ? ex->target.data : (char *)"";
    char *mark = strchr(target, '?');
    r->path = target;
    r->query = "";
    if (mark) {
        *mark = '\0';
        r->query = mark + 1;
    }
    find_source(ex);
    MHD_get_connection_values(ex->connection, MHD_HEADER_KIND, add_header, ex);
}

/* ---- the answer ------------------------------------------------------------------ */

static enum MHD_Result
send_answer(struct exchange *ex)
{
    struct http_answer *a = &ex->answer;
    struct MHD_Response *response =
        a->upgraded ? upgrade_response(ex)
                    : MHD_create_response_from_buffer(a->body.len, a->body.data,
                                                      MHD_RESPMEM_PERSISTENT);
    if (!response) {
        return MHD_NO;
    }
    if (a->content_type) {
        MHD_add_response_header(response, "Content-Type", a->content_type);
    }
    for (size_t i = 0; i < a->header_count; i++) {
        MHD_add_response_header(response, a->headers[i].name, a->headers[i].value);
    }
    if (a->close) {
        MHD_add_response_header(response, "Connection", "close");
    }
    enum MHD_Result rc = MHD_queue_response(
        ex->connection, (unsigned)(a->status ? a->status : 500), response);
    MHD_destroy_response(response);
    return rc;
}

static void
refuse(struct exchange *ex, int status)
{
    const struct http_config *c = &ex->server->config;
    ex->answer.close = true;
    c->ops->refuse(c->ctx, &ex->request, status, &ex->answer);
}

/* ---- the body -------------------------------------------------------------------- */

/* Whether the head says once, if at all, how long the body is. Two lengths are two
 * readings of where the next request begins. */
static bool
length_is_clear(const struct http_request *request)
{
    size_t count = 0;
    for (size_t i = 0; i < request->header_count; i++) {
        const char *name = request->headers[i].name;
        count += strcasecmp(name, "content-length") == 0 ||
                 strcasecmp(name, "transfer-encoding") == 0;
    }
    return count <= 1;
}

/* The head is here: how shall the rest be taken? */
static enum MHD_Result
begin(struct exchange *ex, const char *method)
{
    const struct http_config *c = &ex->server->config;
    read_head(ex, method);
    if (ex->request.header_count == HTTP_HEADERS_MAX ||
        !length_is_clear(&ex->request)) {
        refuse(ex, 400);
        return send_answer(ex);
    }
    const char *length = http_header(&ex->request, "content-length");
    ex->body_since_ns = clock_mono(c->clock);
    switch (c->ops->begin(c->ctx, &ex->request, &ex->answer)) {
    case HTTP_STREAM:
        ex->phase = PHASE_STREAM;
        return MHD_YES;
    case HTTP_ANSWER:
        /* Answered before the body came; it is read all the same, or a client that is
         * still sending would see a broken connection in place of the answer. */
        ex->phase = PHASE_DRAIN;
        if (http_header(&ex->request, "expect")) { /* It waits to be told to send. */
            ex->answer.close = true;
            return send_answer(ex);
        }
        return MHD_YES;
    default:
        break;
    }
    ex->body.limit = c->body_max;
    ex->phase = PHASE_WHOLE;
    if (length && strtoull(length, NULL, 10) > c->body_max) {
        refuse(ex, 413);
        ex->phase = PHASE_DRAIN;
    }
    return MHD_YES;
}

static enum MHD_Result
take_piece(struct exchange *ex, const char *data, size_t len)
{
    const struct http_config *c = &ex->server->config;
    if (ex->phase == PHASE_STREAM) {
        if (!c->ops->chunk(c->ctx, &ex->request, data, len)) {
            (void)c->ops->handle(c->ctx, &ex->request, &ex->answer);
            ex->answer.close = true;
            ex->phase = PHASE_DRAIN;
        }
        return MHD_YES;
    }
    if (clock_mono(c->clock) - ex->body_since_ns > HTTP_BODY_LIMIT_S * NS_PER_S) {
        return MHD_NO;
    }
    if (ex->phase == PHASE_WHOLE) {
        buf_put(&ex->body, data, len);
        if (ex->body.full) {
            refuse(ex, 413);
            ex->phase = PHASE_DRAIN;
        }
    }
    if (ex->phase == PHASE_DRAIN) {
        ex->drained_bytes += len;
        return ex->drained_bytes > DRAIN_BYTES_MAX ? MHD_NO : MHD_YES;
    }
    return MHD_YES;
}

/* The whole request is here. */
static enum MHD_Result
serve(struct exchange *ex)
{
    const struct http_config *c = &ex->server->config;
    ex->request.body = buf_str(&ex->body);
    ex->request.body_len = ex->body.len;
    enum http_next next = c->ops->handle(c->ctx, &ex->request, &ex->answer);
    if (next != HTTP_WORK && next != HTTP_LONG) {
        ex->phase = PHASE_READY;
        return send_answer(ex);
    }
    ex->phase = PHASE_WORKING;
    MHD_suspend_connection(ex->connection);
    crew_push(next == HTTP_LONG ? &ex->server->long_workers : &ex->server->workers, ex);
    return MHD_YES;
}

enum MHD_Result
exchange_go_on(void *ctx UNUSED, struct MHD_Connection *connection UNUSED,
               const char *url UNUSED, const char *method, const char *version UNUSED,
               const char *data, size_t *size, void **state)
{
    struct exchange *ex = *state;
    if (ex->phase == PHASE_HEAD) {
        return begin(ex, method);
    }
    if (*size) {
        enum MHD_Result rc = take_piece(ex, data, *size);
        *size = 0;
        return rc;
    }
    switch (ex->phase) {
    case PHASE_WHOLE:
    case PHASE_STREAM:
        return serve(ex);
    case PHASE_WORKING:
        return MHD_YES;
    default:
        return send_answer(ex);
    }
}
