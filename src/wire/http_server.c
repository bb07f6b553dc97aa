/* http_server.c - starting, stopping and looking after the server; see http.h. */
#include "wire/http_server.h"
#include "base/file.h"
#include <errno.h>
#include <netdb.h>
#include <sys/socket.h>
#include <time.h>

#define DRAIN_LIMIT_S 10 /* How long http_stop waits for what is under way. */

static bool open_listener(const char *listen_at, int *out_fd, uint16_t *out_port,
                          struct err *err);
static bool start_daemon(struct http_server *server, int fd, struct err *err);
static void *upkeep_run(void *ctx);
static void link_changed(void *ctx, struct MHD_Connection *connection, void **state,
                         enum MHD_ConnectionNotificationCode what);

struct http_server *
http_start(const struct http_config *config, struct err *err)
{
    struct http_server *server = xcalloc(1, sizeof *server);
    server->config = *config;
    struct http_config *c = &server->config;
    c->threads = c->threads ? c->threads : 1;
    c->workers = c->workers ? c->workers : 32;
    c->long_workers = c->long_workers ? c->long_workers : 2;
    c->connections_max = c->connections_max ? c->connections_max : 4096;
    c->connections_per_ip = c->connections_per_ip ? c->connections_per_ip : 1024;
    c->idle_s = c->idle_s ? c->idle_s : 60;
    c->body_max = c->body_max ? c->body_max : 10 * MIB;
    pthread_mutex_init(&server->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    crew_init(&server->workers, server);
    crew_init(&server->long_workers, server);

    AUTO(fd) int fd = -1;
    if (!open_listener(c->listen, &fd, &server->port, err) ||
        !crew_start(&server->workers, c->workers, err) ||
        !crew_start(&server->long_workers, c->long_workers, err) ||
        !start_daemon(server, fd, err)) {
        http_stop(server);
        return NULL;
    }
    (void)take_fd(&fd); /* The daemon closes it. */
    server->upkeep_runs =
        pthread_create(&server->upkeep, NULL, upkeep_run, server) == 0;
    return server;
}

uint16_t
http_port(const struct http_server *server)
{
    return server->port;
}

bool
http_take(struct http_server *server, int fd, const char *address, int port,
          struct err *err)
{
    AUTO(fd) int taken = fd;
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, address, &from.sin_addr) != 1) {
        return err_set(err, ERR_INVALID, "'%s' is no client's address", address);
    }
    /* libmicrohttpd closes it, whatever comes of it. */
    if (MHD_add_connection(server->daemon, take_fd(&taken),
                           (const struct sockaddr *)&from, sizeof from) != MHD_YES) {
        return err_set(err, ERR_UNAVAILABLE, "too many connections");
    }
    return true;
}

/* Waits until nothing is under way, at most 'limit_s'. The lock is held. */
static void
wait_until_idle(struct http_server *server, int limit_s)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += limit_s;
    while (server->active && pthread_cond_timedwait(&server->changed, &server->lock,
                                                    &until) != ETIMEDOUT) {
    }
}

void
http_stop(struct http_server *server)
{
    if (!server) {
        return;
    }
    int fd = server->daemon ? MHD_quiesce_daemon(server->daemon) : -1;
    if (fd >= 0) {
        close(fd);
    }
    pthread_mutex_lock(&server->lock);
    wait_until_idle(server, DRAIN_LIMIT_S);
    server->stopping = true;
    crew_call(&server->workers);
    crew_call(&server->long_workers);
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
    /* What they have begun they finish; then nothing is suspended. */
    crew_stop(&server->workers);
    crew_stop(&server->long_workers);
    if (server->upkeep_runs) {
        pthread_join(server->upkeep, NULL);
    }
    if (server->daemon) {
        MHD_stop_daemon(server->daemon);
    }
    while (server->spare) {
        struct exchange *ex = server->spare;
        server->spare = ex->next;
        exchange_destroy(ex);
    }
    pthread_cond_destroy(&server->changed);
    crew_fini(&server->workers);
    crew_fini(&server->long_workers);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

/* ---- listening ------------------------------------------------------------------- */

/* "127.0.0.1:80", "[::1]:80", ":80" into host and port, both in 'room'. */
static bool
split_address(const char *text, char room[256], const char **host, const char **port)
{
    if (strlen(text) >= 256) {
        return false;
    }
    strcpy(room, text);
    char *colon = strrchr(room, ':');
    if (!colon) {
        return false;
    }
    *colon = '\0';
    *port = colon + 1;
    *host = room;
    if (*room == '[' && colon > room && colon[-1] == ']') {
        colon[-1] = '\0';
        *host = room + 1;
    }
    return **port != '\0';
}

static uint16_t
port_of(int fd)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    if (getsockname(fd, (struct sockaddr *)&at, &len) != 0) {
        return 0;
    }
    return ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                          : ((struct sockaddr_in *)&at)->sin_port);
}

static bool
open_listener(const char *listen_at, int *out_fd, uint16_t *out_port, struct err *err)
{
    char room[256];
    const char *host, *port;
    if (!split_address(listen_at, room, &host, &port)) {
        return err_set(err, ERR_INVALID, "'%s' is not ADDRESS:PORT", listen_at);
    }
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(*host ? host : NULL, port, &hints, &found);
    if (rc != 0) {
        return err_set(err, ERR_INVALID, "listen at '%s': %s", listen_at,
                       gai_strerror(rc));
    }
    AUTO(fd)
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    bool ok = fd >= 0 &&
              setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
              bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, 1024) == 0;
    int sys = errno;
    freeaddrinfo(found);
    if (!ok) {
        return err_sys(err, sys, "listen at '%s'", listen_at);
    }
    *out_port = port_of(fd);
    *out_fd = take_fd(&fd);
    return true;
}

/* Paths and queries stay as they were sent: signatures are made of that. */
static size_t
unescape_nothing(void *ctx UNUSED, struct MHD_Connection *connection UNUSED, char *s)
{
    return strlen(s);
}

static void
say_nothing(void *ctx UNUSED, const char *fmt UNUSED, va_list args UNUSED)
{
}

static bool
start_daemon(struct http_server *server, int fd, struct err *err)
{
    const struct http_config *c = &server->config;
    AUTO(free) char *cert = NULL;
    AUTO(free) char *key = NULL;
    if (c->cert_file && (!file_read(c->cert_file, MIB, &cert, NULL, err) ||
                         !file_read(c->key_file, MIB, &key, NULL, err))) {
        return false;
    }
    struct MHD_OptionItem options[] = {
        {MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)say_nothing, NULL},
        {MHD_OPTION_LISTEN_SOCKET, fd, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, (intptr_t)HTTP_HEAD_BYTES_MAX, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t)c->connections_max, NULL},
        {MHD_OPTION_PER_IP_CONNECTION_LIMIT, (intptr_t)c->connections_per_ip, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, (intptr_t)c->idle_s, NULL},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)exchange_begin, server},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)exchange_end, server},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)link_changed, server},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)unescape_nothing, NULL},
        {c->threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END,
         (intptr_t)c->threads, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    struct MHD_OptionItem tls[] = {
        {cert ? MHD_OPTION_HTTPS_MEM_CERT : MHD_OPTION_END, 0, cert},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, key},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"},
        {MHD_OPTION_END, 0, NULL},
    };
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_USE_ERROR_LOG |
                     MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE;
    server->daemon = MHD_start_daemon(cert ? flags | MHD_USE_TLS : flags, 0, NULL, NULL,
                                      exchange_go_on, server, MHD_OPTION_ARRAY, options,
                                      MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    if (key) {
        explicit_bzero(key, strlen(key));
    }
    if (!server->daemon) {
        return err_set(err, ERR_SYSTEM, "the HTTP server does not start%s",
                       cert ? ": look at its certificate and key" : "");
    }
    return true;
}

/* ---- connections ----------------------------------------------------------------- */

static void
link_changed(void *ctx, struct MHD_Connection *connection, void **state,
             enum MHD_ConnectionNotificationCode what)
{
    struct http_server *server = ctx;
    struct link_to_client *link = *state;
    pthread_mutex_lock(&server->lock);
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        link = xcalloc(1, sizeof *link);
        link->fd =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)
                ->connect_fd;
        link->idle_since_ns = clock_mono(server->config.clock);
        link->next = server->links;
        if (link->next) {
            link->next->prev = link;
        }
        server->links = link;
        *state = link;
    } else if (link) {
        *(link->prev ? &link->prev->next : &server->links) = link->next;
        if (link->next) {
            link->next->prev = link->prev;
        }
        free(link);
        *state = NULL;
    }
    pthread_mutex_unlock(&server->lock);
}

/* Cuts those who drip their head, a byte at a time, for ever. */
static void
cut_slow(struct http_server *server)
{
    int64_t now_ns = clock_mono(server->config.clock);
    for (struct link_to_client *link = server->links; link; link = link->next) {
        if (!link->busy &&
            now_ns - link->idle_since_ns > HTTP_HEAD_LIMIT_S * NS_PER_S) {
            (void)shutdown(link->fd, SHUT_RDWR);
        }
    }
}

static void *
upkeep_run(void *ctx)
{
    struct http_server *server = ctx;
    pthread_mutex_lock(&server->lock);
    while (!server->stopping) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += 10;
        if (pthread_cond_timedwait(&server->changed, &server->lock, &until) ==
            ETIMEDOUT) {
            cut_slow(server);
        }
    }
    pthread_mutex_unlock(&server->lock);
    return NULL;
}
