/* client.c - signed calls over one kept connection; see client.h. */
#include "wire/client.h"
#include "base/arena.h"
#include "wire/client_parts.h"
#include <errno.h>
#include <sys/stat.h>

#define REPLY_MAX (256 * MIB)

struct client *
client_create(const struct client_config *config, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, client_init_curl);
    const char *host = strstr(config->endpoint, "://");
    if (!host || (!str_starts(config->endpoint, "http://") &&
                  !str_starts(config->endpoint, "https://"))) {
        (void)err_set(err, ERR_INVALID, "'%s' is not a URL of http or https",
                      config->endpoint);
        return NULL;
    }
    struct client *client = xcalloc(1, sizeof *client);
    client->endpoint = xstrdup(config->endpoint);
    for (size_t n = strlen(client->endpoint); n && client->endpoint[n - 1] == '/';) {
        client->endpoint[--n] = '\0';
    }
    client->host = strstr(client->endpoint, "://") + 3;
    client->key_id = xstrdup(config->key_id);
    client->secret = xstrdup(config->secret);
    client->region = xstrdup(config->region);
    client->ca_file = config->ca_file ? xstrdup(config->ca_file) : NULL;
    client->clock = config->clock;
    client->timeout_s = config->timeout_s ? config->timeout_s : 60;
    client->curl = curl_easy_init();
    if (!client->curl) {
        client_destroy(client);
        (void)err_set(err, ERR_SYSTEM, "libcurl does not start");
        return NULL;
    }
    return client;
}

void
client_destroy(struct client *client)
{
    if (client) {
        curl_easy_cleanup(client->curl);
        explicit_bzero(client->secret, strlen(client->secret));
        free(client->endpoint);
        free(client->key_id);
        free(client->secret);
        free(client->region);
        free(client->ca_file);
        free(client);
    }
}

void
client_init_curl(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

void
client_reply_fini(struct client_reply *reply)
{
    buf_fini(&reply->body);
}

/* ---- signing --------------------------------------------------------------------- */

void
client_sign(struct client *client, const char *service, struct http_request *request,
            bool unsigned_payload, struct arena *arena)
{
    size_t count = request->header_count;
    struct http_header *all =
        ARENA_ARRAY(arena, count + 1 + SIGV4_SIGN_HEADERS, struct http_header);
    all[0] = (struct http_header){"Host", client->host};
    if (count) {
        memcpy(all + 1, request->headers, count * sizeof *all);
    }
    request->headers = all;
    request->header_count = count + 1;
    const struct sigv4_signer signer = {
        .key_id = client->key_id,
        .secret = client->secret,
        .region = client->region,
        .service = service,
        .now_ns = clock_real(client->clock),
        .unsigned_payload = unsigned_payload,
    };
    sigv4_sign(request, &signer, arena, all + request->header_count);
    request->header_count += SIGV4_SIGN_HEADERS;
}

/* "/a/b?x=1" into path and query. */
void
client_split(const char *target, struct arena *arena, struct http_request *out)
{
    char *path = arena_strdup(arena, target);
    char *mark = strchr(path, '?');
    out->path = path;
    out->query = "";
    if (mark) {
        *mark = '\0';
        out->query = mark + 1;
    }
}

/* ---- one exchange ---------------------------------------------------------------- */

static size_t
collect(char *data, size_t size, size_t count, void *ctx)
{
    struct buf *body = ctx;
    buf_put(body, data, size * count);
    return body->full ? 0 : size * count;
}

static struct curl_slist *
header_list(const struct http_request *request)
{
    struct curl_slist *list = NULL;
    for (size_t i = 0; i < request->header_count; i++) {
        AUTO(free)
        char *line =
            xasprintf("%s: %s", request->headers[i].name, request->headers[i].value);
        list = curl_slist_append(list, line);
    }
    return list;
}

void
client_set_up(struct client *client, const char *target, struct arena *arena)
{
    CURL *curl = client->curl;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL,
                     arena_printf(arena, "%s%s", client->endpoint, target));
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, client->error);
    client->error[0] = '\0';
    if (client->ca_file) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, client->ca_file);
    }
}

bool
client_no_answer(struct client *client, CURLcode code, struct err *err)
{
    enum err_code what = code == CURLE_OPERATION_TIMEDOUT ? ERR_TIMEOUT : ERR_GONE;
    return err_set(err, what, "%s: %s", client->endpoint,
                   *client->error ? client->error : curl_easy_strerror(code));
}

/* Performs what has been set up, with 'request's headers. */
static bool
perform(struct client *client, const struct http_request *request,
        struct client_reply *reply, struct err *err)
{
    struct curl_slist *headers = header_list(request);
    buf_clear(&reply->body);
    reply->body.limit = REPLY_MAX;
    reply->status = 0;
    reply->error_code[0] = '\0';
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, collect);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, &reply->body);
    CURLcode code = curl_easy_perform(client->curl);
    curl_slist_free_all(headers);
    if (code != CURLE_OK) {
        return client_no_answer(client, code, err);
    }
    long status = 0;
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    reply->status = (int)status;
    if (status >= 400) {
        struct err ignored = {0};
        client_read_error(&reply->body, reply->status, reply->error_code, &ignored);
    }
    return true;
}

bool
client_call(struct client *client, const char *service, const char *method,
            const char *target, const struct http_header *headers, size_t header_count,
            const void *body, size_t len, struct client_reply *reply, struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct http_request request = {.method = method,
                                   .headers = headers,
                                   .header_count = header_count,
                                   .body = body ? body : "",
                                   .body_len = len};
    client_split(target, arena, &request);
    client_sign(client, service, &request, false, arena);
    client_set_up(client, target, arena);
    CURL *curl = client->curl;
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)client->timeout_s);
    if (len || strcmp(method, "GET") != 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body);
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    return perform(client, &request, reply, err);
}

/* ---- uploads --------------------------------------------------------------------- */

struct upload_ctx {
    client_progress_fn *progress;
    void *ctx;
    uint64_t total;
};

static int
on_progress(void *ctx, curl_off_t down_total UNUSED, curl_off_t down UNUSED,
            curl_off_t up_total UNUSED, curl_off_t up)
{
    struct upload_ctx *upload = ctx;
    return upload->progress &&
           !upload->progress(upload->ctx, (uint64_t)up, upload->total);
}

bool
client_upload(struct client *client, const char *service, const char *target,
              const char *file, client_progress_fn *progress, void *ctx,
              struct client_reply *reply, struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    AUTO(file) FILE *in = fopen(file, "rbe");
    struct stat st;
    if (!in || fstat(fileno(in), &st) != 0) {
        return err_sys(err, errno, "open '%s'", file);
    }
    if (!S_ISREG(st.st_mode)) {
        return err_set(err, ERR_INVALID, "'%s' is not a file", file);
    }
    struct http_request request = {.method = "PUT", .body = ""};
    client_split(target, arena, &request);
    client_sign(client, service, &request, true, arena);
    client_set_up(client, target, arena);
    struct upload_ctx upload = {progress, ctx, (uint64_t)st.st_size};
    CURL *curl = client->curl;
    curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(curl, CURLOPT_READDATA, in);
    curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)st.st_size);
    curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, 512L * 1024);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &upload);
    return perform(client, &request, reply, err);
}
