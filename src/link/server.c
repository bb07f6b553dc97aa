/* server.c - listeners and the table of peers; a peer's conversation is in peer.c. */
#include "link/server.h"

#include "link/peer.h"
#include "link/pki.h"
#include "base/unix_path.h"

#define BACKLOG 4096 /* Every node of a region may come back at once. */
#define TICK_MS 1000
#define PEERS_DEFAULT 100000u

AUTO_DEFINE(link_server, struct link_server *, link_server_destroy)

static char *
dup_or_null(const char *s)
{
    return s ? xstrdup(s) : NULL;
}

static void
server_free(struct link_server *server)
{
    tls_context_destroy(server->tls);
    pki_verifier_destroy(server->verifier);
    arena_destroy(server->arena);
    VEC_FREE(&server->slots);
    VEC_FREE(&server->free_slots);
    free(server->ca_pem);
    free(server->unix_path);
    free(server);
}

/* ---- accepting ------------------------------------------------------------------- */

static void
server_accept(struct link_server *server, uv_stream_t *listener, bool local)
{
    struct link_peer *peer = peer_create(server, local);
    if (!peer) {
        return;
    }
    int rc = uv_accept(listener, (uv_stream_t *)stream_handle(peer->stream));
    if (rc < 0) {
        peer_end(peer, uv_strerror(rc));
        return;
    }
    peer_start(peer);
}

static void
server_on_unix(uv_stream_t *listener, int status)
{
    if (status >= 0) {
        server_accept(listener->data, listener, true);
    }
}

static void
server_on_tcp(uv_stream_t *listener, int status)
{
    if (status >= 0) {
        server_accept(listener->data, listener, false);
    }
}

static void
server_tick(uv_timer_t *timer)
{
    struct link_server *server = timer->data;
    uint64_t now = uv_now(server->loop);
    for (size_t i = 0; i < server->slots.count; i++) {
        if (server->slots.items[i].peer) {
            peer_check_patience(server->slots.items[i].peer, now);
        }
    }
}

/* ---- the table ------------------------------------------------------------------- */

bool
server_slot_take(struct link_server *server, struct link_peer *peer)
{
    if (server->peer_count >= server->peers_max) {
        return false;
    }
    uint32_t index;
    if (server->free_slots.count) {
        index = server->free_slots.items[--server->free_slots.count];
    } else {
        index = (uint32_t)server->slots.count;
        VEC_PUSH(&server->slots, ((struct peer_slot){.turn = 0}));
    }
    struct peer_slot *slot = &server->slots.items[index];
    slot->peer = peer;
    slot->turn++;
    peer->id = (uint64_t)slot->turn << 32 | index;
    server->peer_count++;
    return true;
}

void
server_slot_drop(struct link_server *server, struct link_peer *peer)
{
    uint32_t index = (uint32_t)peer->id;
    server->slots.items[index].peer = NULL;
    VEC_PUSH(&server->free_slots, index);
    server->peer_count--;
}

struct link_peer *
link_server_peer(struct link_server *server, uint64_t id)
{
    uint32_t index = (uint32_t)id;
    if (index >= server->slots.count || server->slots.items[index].turn != id >> 32) {
        return NULL;
    }
    return server->slots.items[index].peer;
}

size_t
link_server_peer_count(const struct link_server *server)
{
    return server->peer_count;
}

/* ---- making and ending ----------------------------------------------------------- */

static bool
server_listen_unix(struct link_server *server, struct err *err)
{
    AUTO(fd) int fd = -1;
    if (!unix_path_bind(server->unix_path, &fd, err)) {
        return false;
    }
    (void)uv_pipe_init(server->loop, &server->unix_listener, 0);
    server->unix_listener.data = server;
    server->has_unix = true;
    server->handles_open++;
    int rc = uv_pipe_open(&server->unix_listener, fd);
    if (rc >= 0) {
        (void)take_fd(&fd);
        rc = uv_listen((uv_stream_t *)&server->unix_listener, 128, server_on_unix);
    }
    return rc < 0 ? err_sys(err, -rc, "listen at '%s'", server->unix_path) : true;
}

static bool
server_listen_tcp(struct link_server *server, const char *host, int port,
                  struct err *err)
{
    struct sockaddr_storage at;
    int rc = uv_ip4_addr(host, port, (struct sockaddr_in *)&at);
    if (rc < 0) {
        rc = uv_ip6_addr(host, port, (struct sockaddr_in6 *)&at);
    }
    if (rc < 0 || port < 0 || port > 65535) {
        return err_set(err, ERR_INVALID, "link address '%s' port %d is none", host,
                       port);
    }
    (void)uv_tcp_init(server->loop, &server->tcp_listener);
    server->tcp_listener.data = server;
    server->has_tcp = true;
    server->handles_open++;
    rc = uv_tcp_bind(&server->tcp_listener, (struct sockaddr *)&at, 0);
    if (rc >= 0) {
        rc = uv_listen((uv_stream_t *)&server->tcp_listener, BACKLOG, server_on_tcp);
    }
    return rc < 0 ? err_sys(err, -rc, "listen at %s port %d", host, port) : true;
}

struct link_server *
link_server_create(const struct link_server_config *config, struct err *err)
{
    AUTO(link_server) struct link_server *server = xcalloc(1, sizeof *server);
    server->loop = config->loop;
    server->clock = config->clock;
    server->rng = config->rng;
    server->ops = config->ops;
    server->ctx = config->ctx;
    server->queue_max_bytes = config->queue_max_bytes;
    server->peers_max = config->peers_max ? config->peers_max : PEERS_DEFAULT;
    server->ca_pem = dup_or_null(config->ca_pem);
    server->unix_path = dup_or_null(config->unix_path);
    server->arena = arena_create();
    (void)uv_timer_init(server->loop, &server->tick);
    server->tick.data = server;
    server->handles_open = 1;
    (void)uv_timer_start(&server->tick, server_tick, TICK_MS, TICK_MS);

    if (config->unix_path && !server_listen_unix(server, err)) {
        return NULL;
    }
    if (config->tcp_host) {
        server->tls = tls_context_create(true, config->cert_pem, config->key_pem, err);
        server->verifier =
            server->tls ? pki_verifier_create(config->ca_pem, err) : NULL;
        if (!server->verifier ||
            !server_listen_tcp(server, config->tcp_host, config->tcp_port, err)) {
            return NULL;
        }
    }
    return take_link_server(&server);
}

int
link_server_port(const struct link_server *server)
{
    struct sockaddr_storage at;
    int len = sizeof at;
    if (!server->has_tcp ||
        uv_tcp_getsockname(&server->tcp_listener, (struct sockaddr *)&at, &len) < 0) {
        return 0;
    }
    return ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                          : ((struct sockaddr_in *)&at)->sin_port);
}

static void
server_handle_closed(uv_handle_t *handle)
{
    struct link_server *server = handle->data;
    if (--server->handles_open == 0) {
        server_free(server);
    }
}

void
link_server_destroy(struct link_server *server)
{
    if (!server || server->destroyed) {
        return;
    }
    server->destroyed = true;
    for (size_t i = 0; i < server->slots.count; i++) {
        if (server->slots.items[i].peer) {
            peer_end(server->slots.items[i].peer, "the control plane stops");
        }
    }
    if (server->has_unix) {
        (void)unlink(server->unix_path);
        uv_close((uv_handle_t *)&server->unix_listener, server_handle_closed);
    }
    if (server->has_tcp) {
        uv_close((uv_handle_t *)&server->tcp_listener, server_handle_closed);
    }
    uv_close((uv_handle_t *)&server->tick, server_handle_closed);
}
