/* http.h - an HTTP server behind one header (libmicrohttpd underneath).
 *
 * Purpose:  whole requests in, whole answers out; besides them, uploads taken chunk by
 *           chunk and connections handed over after an upgrade.
 * Place:    wire/; knows neither AWS nor accounts.
 * Owner:    whoever created it; http_stop waits for what is under way.
 * Threads:  'begin', 'chunk' and 'handle' run on a connection thread and must be quick;
 *           'work' runs on a worker, while its connection sleeps: on one of many for what
 *           waits, on one of few for what computes. One request is in one of them at a
 *           time. Limits: body, head, connections in all and per address, idle time; a
 *           connection that brings no whole head for HTTP_HEAD_LIMIT_S is cut. */
#pragma once
#include "base/buf.h"
#include "base/world.h"

#define HTTP_HEADERS_MAX 128
#define HTTP_HEAD_BYTES_MAX (48 * KIB) /* Request line and headers together. */
#define HTTP_HEAD_LIMIT_S 90
#define HTTP_BODY_LIMIT_S 60 /* For a whole body to come, where it is not streamed. */

struct arena;

struct http_header {
    const char *name, *value;
};

struct http_request {
    const char *method;
    const char *path;  /* As sent, up to '?': not decoded. */
    const char *query; /* As sent, after '?'; "" when there is none. */
    const struct http_header *headers;
    size_t header_count;
    const char *body; /* "" when there is none. */
    size_t body_len;
    const char *source_ip;
    bool tls;
    struct arena *arena; /* Lives as long as the request. */
    void *state;         /* Of the one who serves it. */
};

/* The value of the first header called 'name' in any case; NULL: there is none. */
const char *http_header(const struct http_request *request, const char *name);

/* The raw socket of an upgraded connection; 'fd' is the callee's. */
typedef void http_upgraded_fn(void *ctx, int fd);

struct http_answer {
    int status;
    const char *content_type; /* NULL: none. */
    struct buf body;          /* The server's, reused from request to request. */
    struct http_header headers[8];
    size_t header_count;
    http_upgraded_fn *upgraded; /* With status 101: who gets the socket. */
    void *upgraded_ctx;
    bool close; /* End the connection after this answer. */
};

void http_answer_header(struct http_answer *answer, const char *name,
                        const char *value);

enum http_next {
    HTTP_WHOLE,  /* begin: collect the body, then 'handle'. */
    HTTP_STREAM, /* begin: each piece to 'chunk', then 'handle'. */
    HTTP_ANSWER, /* The answer is ready. */
    HTTP_WORK,   /* handle: go on in 'work', on a worker. */
    HTTP_LONG, /* The same, where what takes long is done: others wait for it there. */
};

struct http_ops {
    /* The head has come. */
    enum http_next (*begin)(void *ctx, struct http_request *request,
                            struct http_answer *answer);
    /* A piece of a streamed body; false: enough, 'handle' says why. */
    bool (*chunk)(void *ctx, struct http_request *request, const void *data,
                  size_t len);
    enum http_next (*handle)(void *ctx, struct http_request *request,
                             struct http_answer *answer);
    void (*work)(void *ctx, struct http_request *request, struct http_answer *answer);
    /* A request that cannot be served as it is (413: its body is too large; 400): fills
     * the answer. */
    void (*refuse)(void *ctx, struct http_request *request, int status,
                   struct http_answer *answer);
    /* It is over, answered or cut off: frees request->state. */
    void (*end)(void *ctx, struct http_request *request);
};

struct http_config {
    const char *listen;               /* "127.0.0.1:6656", "[::1]:0": 0 picks a port. */
    const char *cert_file, *key_file; /* PEM; NULL: no TLS. */
    unsigned threads;                 /* Of connections; 0: one. */
    unsigned workers;                 /* 0: 32: each waits for one commit. */
    unsigned long_workers;            /* 0: 2: each keeps a processor busy. */
    unsigned connections_max;         /* 0: 4096. */
    unsigned connections_per_ip;      /* 0: 1024. */
    unsigned idle_s;                  /* 0: 60. */
    size_t body_max;                  /* Of collected bodies; 0: 10 MiB. */
    const struct clock *clock;
    const struct http_ops *ops;
    void *ctx;
};

struct http_server;

MUST_CHECK struct http_server *http_start(const struct http_config *config,
                                          struct err *err);
/* The real one, also when 0 was asked for. */
uint16_t http_port(const struct http_server *server);
/* Serves a connection that came by another way than the listener: one end of a stream socket,
 * taken also on failure. 'address' and 'port' are the client's. Any thread. */
MUST_CHECK bool http_take(struct http_server *server, int fd, const char *address,
                          int port, struct err *err);
/* Takes no new connections, answers what is under way, then frees. NULL is a no-op. */
void http_stop(struct http_server *server);
