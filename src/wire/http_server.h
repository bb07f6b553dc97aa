/* http_server.h - what the files of the HTTP server share; private to wire/http_*.c.
 *
 * An exchange is one request and its answer. It is made when the request line has come
 * and goes back to the server's spare ones when libmicrohttpd says that it is over; its
 * arena and buffers are kept, so that a busy server allocates nothing. */
#pragma once
#include "base/arena.h"
#include "wire/http.h"
#include <arpa/inet.h>
#include <microhttpd.h>
#include <pthread.h>

#define SPARE_EXCHANGES 64
#define KEPT_BUFFER_BYTES (256 * KIB) /* Larger ones are freed after their request. */

enum phase {
    PHASE_HEAD,    /* The request line is known. */
    PHASE_WHOLE,   /* A body is being collected. */
    PHASE_STREAM,  /* A body goes piece by piece to ops->chunk. */
    PHASE_DRAIN,   /* A body that nobody wants is being read to its end. */
    PHASE_WORKING, /* On a worker; the connection sleeps. */
    PHASE_READY,   /* The answer is to be sent. */
};

/* A connection, as the upkeep thread sees it. */
struct link_to_client {
    struct link_to_client *prev, *next;
    int fd;
    bool busy; /* A whole request line came, its answer is not through. */
    int64_t idle_since_ns;
};

struct exchange {
    struct http_server *server;
    struct MHD_Connection *connection;
    struct link_to_client *link;
    struct http_request request;
    struct http_answer answer;
    struct http_header headers[HTTP_HEADERS_MAX];
    struct buf body, target;
    char source_ip[INET6_ADDRSTRLEN];
    enum phase phase;
    uint64_t drained_bytes;
    int64_t body_since_ns;
    struct exchange *next; /* Among the spare ones, or in a crew's line. */
};

/* Threads that serve what waits in one line; under the server's lock. */
struct crew {
    struct http_server *server;
    struct exchange *first, **last;
    pthread_cond_t work;
    pthread_t *threads;
    unsigned count;
};

struct http_server {
    struct http_config config;
    struct MHD_Daemon *daemon;
    uint16_t port;

    pthread_mutex_t lock; /* Guards all below. */
    pthread_cond_t changed;
    struct exchange *spare;
    unsigned spare_count;
    unsigned active; /* Exchanges under way. */
    struct link_to_client *links;

    struct crew workers, long_workers;
    pthread_t upkeep;
    bool upkeep_runs, stopping;
};

/* http_exchange.c: libmicrohttpd's callbacks. */
void *exchange_begin(void *ctx, const char *uri, struct MHD_Connection *connection);
enum MHD_Result exchange_go_on(void *ctx, struct MHD_Connection *connection,
                               const char *url, const char *method, const char *version,
                               const char *data, size_t *size, void **state);
void exchange_end(void *ctx, struct MHD_Connection *connection, void **state,
                  enum MHD_RequestTerminationCode how);
void exchange_destroy(struct exchange *ex);

/* http_workers.c */
void crew_init(struct crew *crew, struct http_server *server);
void crew_fini(struct crew *crew);
MUST_CHECK bool crew_start(struct crew *crew, unsigned count, struct err *err);
void crew_push(struct crew *crew, struct exchange *ex);
void crew_call(struct crew *crew); /* They look whether the server stops. */
void
crew_stop(struct crew *crew); /* After the server's 'stopping' is set and called. */

/* http_upgrade.c: an answer that hands its connection over. */
struct MHD_Response *upgrade_response(struct exchange *ex);
