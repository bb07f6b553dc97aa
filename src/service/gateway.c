/* gateway.c - the gateway's life, and a request's way through it; see gateway.h. */
#include "base/log.h"
#include "base/timefmt.h"
#include "service/gateway_parts.h"

struct gateway *
gateway_create(const struct gateway_config *config, struct err *err)
{
    if (!config->store || !config->clock || !config->rng || !config->cloud) {
        (void)err_set(err, ERR_INVALID,
                      "a gateway needs a store, a clock, chance and a configuration");
        return NULL;
    }
    struct gateway *gateway = xcalloc(1, sizeof *gateway);
    gateway->config = *config;
    gateway->keys = keys_create();
    gateway->throttle = throttle_create(&config->rates);
    gateway->audit = audit_create(config->store);
    gateway->fragments = fragments_create(FRAGMENTS_BYTES);
    return gateway;
}

void
gateway_destroy(struct gateway *gateway)
{
    if (gateway) {
        gateway_stop(gateway);
        audit_destroy(gateway->audit);
        throttle_destroy(gateway->throttle);
        keys_destroy(gateway->keys);
        fragments_destroy(gateway->fragments);
        free(gateway);
    }
}

void
gateway_forget(struct gateway *gateway)
{
    keys_forget(gateway->keys);
}

/* ---- one visit ------------------------------------------------------------------- */

static void
make_request_id(const struct rng *rng, char out[REQUEST_ID_LEN])
{
    uint8_t r[16];
    static const char digits[] = "0123456789abcdef";
    rng->fill(rng->ctx, r, sizeof r);
    r[6] = (uint8_t)((r[6] & 0x0f) | 0x40);
    r[8] = (uint8_t)((r[8] & 0x3f) | 0x80);
    char *at = out;
    for (size_t i = 0; i < sizeof r; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *at++ = '-';
        }
        *at++ = digits[r[i] >> 4];
        *at++ = digits[r[i] & 15];
    }
    *at = '\0';
}

static struct visit *
visit_begin(struct gateway *gateway, struct http_request *request)
{
    struct visit *visit = ARENA_NEW(request->arena, struct visit);
    visit->gateway = gateway;
    visit->request = request;
    visit->now_ns = clock_real(gateway->config.clock);
    visit->operation_name = "";
    visit->special = special_of(request->path);
    make_request_id(gateway->config.rng, visit->request_id);
    request->state = visit;
    return visit;
}

/* Answers, and sees to it that the call is recorded. */
static enum http_next
visit_end(struct visit *visit, struct http_answer *answer)
{
    visit_answer(visit, answer);
    const struct err_info *info = err_info(visit->err.code);
    if (info->http >= 500) {
        log_error("request %s, %s: %s: %s", visit->request_id, visit->operation_name,
                  info->name, visit->err.msg);
    }
    if (!visit->recorded) {
        audit_note(visit->gateway->audit, visit);
    }
    return HTTP_ANSWER;
}

static bool
unsigned_allowed(const struct visit *visit)
{
    return visit->request->tls || visit->special == SPECIAL_UPLOAD;
}

static bool
visit_admit(struct visit *visit)
{
    if (!visit_authenticate(visit, unsigned_allowed(visit))) {
        return false;
    }
    if (visit->special) {
        visit->operation_name = visit->special == SPECIAL_UPLOAD   ? "Upload"
                                : visit->special == SPECIAL_TUNNEL ? "OpenTunnel"
                                                                   : "OpenConsole";
        return visit_throttle(visit, true);
    }
    return visit_route(visit) && visit_throttle(visit, visit->operation->writes) &&
           visit_decode(visit);
}

/* What of it may be done at once; HTTP_WORK when the rest must wait for the disk, HTTP_LONG
 * when it reads more than others on this connection's thread should wait for. */
static enum http_next
visit_first(struct visit *visit, struct http_answer *answer)
{
    if (visit->special == SPECIAL_UPLOAD) {
        return visit->err.code ? visit_end(visit, answer) : HTTP_WORK;
    }
    if (!visit_admit(visit)) {
        return visit_end(visit, answer);
    }
    if (visit->special || visit->operation->writes) {
        return HTTP_WORK;
    }
    if (visit_run(visit, true) && visit->call.live) {
        visit->asks = true;
        return HTTP_WORK;
    }
    if (visit->large) {
        err_clear(&visit->err);
        return HTTP_LONG;
    }
    return visit_end(visit, answer);
}

static void
visit_second(struct visit *visit, struct http_answer *answer)
{
    bool ok;
    switch (visit->special) {
    case SPECIAL_UPLOAD:
        ok = upload_finish(visit, answer);
        break;
    case SPECIAL_TUNNEL:
    case SPECIAL_CONSOLE:
        ok = stream_begin(visit, answer);
        break;
    default:
        ok = visit->asks || visit_run(visit, false);
        if (ok && visit->call.live) {
            visit_ask_live(visit);
        }
        ok = false; /* Its answer is not made yet. */
    }
    if (!ok) {
        (void)visit_end(visit, answer);
    }
}

/* ---- the server's side ----------------------------------------------------------- */

static enum http_next
on_begin(void *ctx, struct http_request *request, struct http_answer *answer)
{
    struct visit *visit = visit_begin(ctx, request);
    if (visit->special != SPECIAL_UPLOAD) {
        return HTTP_WHOLE;
    }
    if (!visit_admit(visit) || !upload_begin(visit)) {
        return visit_end(visit, answer);
    }
    return HTTP_STREAM;
}

static bool
on_chunk(void *ctx UNUSED, struct http_request *request, const void *data, size_t len)
{
    return upload_chunk(request->state, data, len);
}

static enum http_next
on_handle(void *ctx UNUSED, struct http_request *request, struct http_answer *answer)
{
    return visit_first(request->state, answer);
}

static void
on_work(void *ctx UNUSED, struct http_request *request, struct http_answer *answer)
{
    visit_second(request->state, answer);
}

static void
on_refuse(void *ctx, struct http_request *request, int status,
          struct http_answer *answer)
{
    struct visit *visit = request->state ? request->state : visit_begin(ctx, request);
    if (status == 413) {
        (void)err_set(&visit->err, ERR_TOO_LARGE,
                      "The request is larger than the 10 MiB that are accepted.");
    } else {
        (void)err_set(&visit->err, ERR_MALFORMED_REQUEST,
                      "The request has too many headers, or says more than once how "
                      "long its body is.");
    }
    (void)visit_end(visit, answer);
}

static void
on_end(void *ctx UNUSED, struct http_request *request)
{
    if (request->state) {
        upload_abandon(request->state);
    }
}

static const struct http_ops gateway_http = {
    .begin = on_begin,
    .chunk = on_chunk,
    .handle = on_handle,
    .work = on_work,
    .refuse = on_refuse,
    .end = on_end,
};

bool
gateway_listen(struct gateway *gateway, const struct gateway_listen *how,
               uint16_t *out_port, struct err *err)
{
    const struct http_config config = {
        .listen = how->address,
        .cert_file = how->cert_file,
        .key_file = how->key_file,
        .threads = how->threads,
        .workers = how->workers,
        .clock = gateway->config.clock,
        .ops = &gateway_http,
        .ctx = gateway,
    };
    gateway->http = http_start(&config, err);
    if (!gateway->http) {
        return false;
    }
    *out_port = http_port(gateway->http);
    return true;
}

bool
gateway_take(struct gateway *gateway, int fd, const char *address, int port,
             struct err *err)
{
    if (!gateway->http) {
        close(fd);
        return err_set(err, ERR_UNAVAILABLE, "the API is not served now");
    }
    return http_take(gateway->http, fd, address, port, err);
}

void
gateway_stop(struct gateway *gateway)
{
    http_stop(gateway->http);
    gateway->http = NULL;
}
