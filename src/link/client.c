/* client.c - a node's end of the link: connecting, and again. See client.h; what is
 * said is in client_talk.c. */
#include "link/client_state.h"

#include <netdb.h>

#include "base/unix_path.h"

#define ATTEMPT_MS 15000 /* From the first try to connect to the welcome. */
#define PAUSE_FIRST_MS 100
#define PAUSE_MAX_MS 15000
#define RENEW_LOOK_MS 60000

AUTO_DEFINE(link_client, struct link_client *, link_client_destroy)

static char *
dup_or_null(const char *s)
{
    return s ? xstrdup(s) : NULL;
}

void
client_replace(char **at, const char *s)
{
    if (s) {
        char *copy = xstrdup(s);
        free(*at);
        *at = copy;
    }
}

/* ---- making ---------------------------------------------------------------------- */

bool
client_use_cert(struct link_client *client, const char *cert_pem, struct err *err)
{
    struct pki_cert cert = {0};
    if (cert_pem) {
        AUTO(arena) struct arena *arena = arena_create();
        if (!pki_cert_read(arena, cert_pem, &cert, err)) {
            return false;
        }
    }
    struct tls_context *tls = tls_context_create(false, cert_pem, client->key_pem, err);
    if (!tls) {
        return false;
    }
    tls_context_destroy(client->tls);
    client->tls = tls;
    client->cert_from_ns = cert.not_before_ns;
    client->cert_until_ns = cert.not_after_ns;
    buf_fini(&client->ticket); /* It speaks of the old certificate. */
    client_replace(&client->cert_pem, cert_pem);
    return true;
}

bool
client_use_ca(struct link_client *client, const char *ca_pem, struct err *err)
{
    struct pki_verifier *verifier = pki_verifier_create(ca_pem, err);
    if (!verifier) {
        return false;
    }
    pki_verifier_destroy(client->verifier);
    client->verifier = verifier;
    client_replace(&client->ca_pem, ca_pem);
    return true;
}

static bool
client_set_up_tls(struct link_client *client, const struct link_client_config *config,
                  struct err *err)
{
    if (config->cert_pem && (!config->key_pem || !config->ca_pem)) {
        return err_set(err, ERR_INVALID, "a certificate without its key or CA");
    }
    if (!config->cert_pem && !config->token) {
        return err_set(err, ERR_INVALID,
                       "neither a certificate nor a token to join with");
    }
    if (!config->cert_pem) {
        client->has_token = token_parse(config->token, &client->token, err);
        if (!client->has_token) {
            return false;
        }
    } else if (!client_use_ca(client, config->ca_pem, err)) {
        return false;
    }
    return client_use_cert(client, config->cert_pem, err);
}

static void
client_on_channel(void *ctx, struct link_channel *channel,
                  const struct link_channel_open *open)
{
    struct link_client *client = ctx;
    client->ops.channel(client->ctx, channel, open);
}

struct link_client *
link_client_create(const struct link_client_config *config, struct err *err)
{
    AUTO(link_client) struct link_client *client = xcalloc(1, sizeof *client);
    client->loop = config->loop;
    client->clock = config->clock;
    client->rng = config->rng;
    client->ops = config->ops;
    client->ctx = config->ctx;
    client->unix_path = dup_or_null(config->unix_path);
    client->node_id = dup_or_null(config->node_id);
    client->cloud_id = dup_or_null(config->cloud_id);
    client->boot_id = dup_or_null(config->boot_id);
    client->hostname = dup_or_null(config->hostname);
    client->agent_version = dup_or_null(config->agent_version);
    client->key_pem = dup_or_null(config->key_pem);
    client->reports = reports_create();
    client->arena = arena_create();
    client->own_scratch = config->scratch ? NULL : xmalloc(STREAM_SCRATCH);
    client->scratch = config->scratch ? config->scratch : client->own_scratch;
    channels_init(&client->channels, config->loop, false, client_on_channel, client);
    (void)uv_timer_init(config->loop, &client->timer);
    (void)uv_timer_init(config->loop, &client->renew_timer);
    client->timer.data = client->renew_timer.data = client;
    client->handles_open = 2;
    if (!client->unix_path && (!link_client_set_places(client, config->places, err) ||
                               !client_set_up_tls(client, config, err))) {
        return NULL;
    }
    (void)uv_timer_start(&client->timer, client_try, 0, 0);
    (void)uv_timer_start(&client->renew_timer, client_look_at_renewal, RENEW_LOOK_MS,
                         RENEW_LOOK_MS);
    return take_link_client(&client);
}

bool
link_client_set_places(struct link_client *client, const char *places, struct err *err)
{
    return places_read(places ? places : "", client->places, &client->place_count, err);
}

static void
client_free(struct link_client *client)
{
    tls_context_destroy(client->tls);
    pki_verifier_destroy(client->verifier);
    reports_destroy(client->reports);
    arena_destroy(client->arena);
    free(client->own_scratch);
    buf_fini(&client->ticket);
    if (client->key_pem) {
        explicit_bzero(client->key_pem, strlen(client->key_pem));
    }
    char *texts[] = {client->unix_path,     client->node_id,  client->cloud_id,
                     client->boot_id,       client->hostname, client->ca_pem,
                     client->agent_version, client->cert_pem, client->key_pem};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        free(texts[i]);
    }
    free(client);
}

static void
client_handle_closed(uv_handle_t *handle)
{
    struct link_client *client = handle->data;
    if (--client->handles_open == 0) {
        client_free(client);
    }
}

void
client_drop_stream(struct link_client *client, const char *why)
{
    if (client->attempt) {
        client->attempt->client = NULL;
        client->attempt = NULL;
    }
    stream_destroy(client->stream);
    client->stream = NULL;
    client->phase = CLIENT_WAITING;
    reports_rewind(client->reports);
    channels_stop(&client->channels, why);
}

void
link_client_destroy(struct link_client *client)
{
    if (client && !client->destroyed) {
        client->destroyed = true;
        client_drop_stream(client, "the agent stops");
        uv_close((uv_handle_t *)&client->timer, client_handle_closed);
        uv_close((uv_handle_t *)&client->renew_timer, client_handle_closed);
    }
}

bool
link_client_is_up(const struct link_client *client)
{
    return client->phase == CLIENT_UP;
}

/* ---- connecting ------------------------------------------------------------------ */

/* Doubling, at most 15 s, and each node draws its own: a region's nodes do not come
 * back in one moment. */
static uint64_t
client_pause_ms(struct link_client *client)
{
    uint64_t pause = PAUSE_FIRST_MS;
    for (unsigned i = 1; i < client->tries && pause < PAUSE_MAX_MS; i++) {
        pause *= 2;
    }
    pause = MIN(pause, (uint64_t)PAUSE_MAX_MS);
    return pause / 2 + rng_below(client->rng, pause / 2 + 1);
}

void
client_fail(struct link_client *client, const char *code, const char *why)
{
    bool was_up = client->phase == CLIENT_UP;
    if (!was_up) {
        buf_fini(&client->ticket); /* It may be what did not please. */
    }
    client_drop_stream(client, why);
    client->tries += !was_up; /* After a welcome the first place is the first to try. */
    (void)uv_timer_start(&client->timer, client_try, client_pause_ms(client), 0);
    client->ops.down(client->ctx, code, why);
}

static void
client_out_of_patience(uv_timer_t *timer)
{
    client_fail(timer->data, NULL, "no answer in time");
}

static void
client_connected(uv_connect_t *req, int status)
{
    struct attempt *attempt = req->data;
    struct link_client *client = attempt->client;
    free(attempt);
    if (!client) {
        return;
    }
    client->attempt = NULL;
    if (status < 0) {
        client_fail(client, NULL, uv_strerror(status));
    } else {
        stream_start(client->stream);
    }
}

static struct stream *
client_new_stream(struct link_client *client, struct err *err)
{
    struct stream_config config = {
        .loop = client->loop,
        .ops = &client_stream_ops,
        .ctx = client,
        .pings = true,
        .scratch = client->scratch,
    };
    if (!client->unix_path) {
        struct blob ticket = {(uint8_t *)client->ticket.data, client->ticket.len};
        config.tls = tls_create(client->tls, ticket, err);
        if (!config.tls) {
            return NULL;
        }
    }
    return stream_create(&config, client->unix_path != NULL);
}

static void
client_connect_tcp(struct link_client *client, const struct sockaddr *at)
{
    struct err err = {0};
    client->stream = client_new_stream(client, &err);
    if (!client->stream) {
        client_fail(client, NULL, err.msg);
        return;
    }
    uv_tcp_t *tcp = (uv_tcp_t *)stream_handle(client->stream);
    int rc = uv_tcp_connect(&client->attempt->connect, tcp, at, client_connected);
    if (rc < 0) {
        free(client->attempt);
        client->attempt = NULL;
        client_fail(client, NULL, uv_strerror(rc));
    }
}

static void
client_connect_unix(struct link_client *client)
{
    struct err err = {0};
    char path[UNIX_PATH_MAX];
    AUTO(fd) int dir = -1;
    client->stream = client_new_stream(client, &err);
    if (!client->stream || !unix_path_short(client->unix_path, path, &dir, &err)) {
        free(client->attempt);
        client->attempt = NULL;
        client_fail(client, NULL, err.msg);
        return;
    }
    uv_pipe_connect(&client->attempt->connect,
                    (uv_pipe_t *)stream_handle(client->stream), path, client_connected);
}

static void
client_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct attempt *attempt = req->data;
    struct link_client *client = attempt->client;
    if (!client) {
        free(attempt);
    } else if (status < 0 || !list) {
        free(attempt);
        client->attempt = NULL;
        client_fail(client, NULL, uv_strerror(status < 0 ? status : UV_EAI_NODATA));
    } else {
        unsigned count = 0;
        for (struct addrinfo *a = list; a; a = a->ai_next) {
            count++;
        }
        struct addrinfo *pick = list; /* Another one at each try. */
        for (size_t i = client->tries / client->place_count % count; i; i--) {
            pick = pick->ai_next;
        }
        client_connect_tcp(client, pick->ai_addr);
    }
    uv_freeaddrinfo(list);
}

static void
client_resolve(struct link_client *client)
{
    struct sockaddr_storage at;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    char port[16];
    /* After a welcome the first one first: where the welcome said that we belong. */
    const struct place *place = &client->places[client->tries % client->place_count];
    if (uv_ip4_addr(place->host, place->port, (struct sockaddr_in *)&at) == 0 ||
        uv_ip6_addr(place->host, place->port, (struct sockaddr_in6 *)&at) == 0) {
        client_connect_tcp(client, (struct sockaddr *)&at);
        return;
    }
    snprintf(port, sizeof port, "%d", place->port);
    int rc = uv_getaddrinfo(client->loop, &client->attempt->resolve, client_resolved,
                            place->host, port, &hints);
    if (rc < 0) {
        free(client->attempt);
        client->attempt = NULL;
        client_fail(client, NULL, uv_strerror(rc));
    }
}

void
client_try(uv_timer_t *timer)
{
    struct link_client *client = timer->data;
    client->phase = CLIENT_REACHING;
    client->epoch++;
    client->attempt = xcalloc(1, sizeof *client->attempt);
    client->attempt->client = client;
    client->attempt->resolve.data = client->attempt->connect.data = client->attempt;
    (void)uv_timer_start(&client->timer, client_out_of_patience, ATTEMPT_MS, 0);
    if (client->unix_path) {
        client_connect_unix(client);
    } else {
        client_resolve(client);
    }
}
