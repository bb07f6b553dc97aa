/* gateway.h - the one door: every request of every service comes in here.
 *
 * Purpose:  verifies the signature, finds account, region, service and operation,
 *           throttles, decodes, runs the handler in a transaction, encodes, and records
 *           the call. Besides the services: uploads, tunnels and consoles (scope
 *           moln-data).
 * Place:    service/, above store/ and wire/. Handlers are below it and know nothing of
 *           it.
 * Owner:    main/; everything in the config is borrowed and outlives the gateway.
 * Threads:  requests run on the threads and workers of its own server.
 *
 * A call is recorded in row_audit: a writing one in its own transaction, so that it can
 * not be lost; others a moment later, many together. */
#pragma once
#include "base/world.h"
#include "service/call.h"
#include "wire/http.h"

struct blob_store;
struct cloud_config;
struct pool;
struct gateway;

/* What main needs to know to connect a client's socket with an instance. */
struct stream_request {
    const char *what;    /* "tunnel" or "console" */
    const char *ticket;  /* Id of the row_tunnel_ticket: good once, for 30 s. */
    const char *account; /* Whose instance. */
    const char *instance_id, *node_id;
    const char *address; /* Tunnel: the instance's private address... */
    const char *eni_id;  /* ...on this interface. */
    int port;            /* Tunnel: TCP port. */
};

/* Doors to what lives outside the services; main/ fills them in. */
struct gateway_ops {
    /* Asks a node; '*out' (arena) is NULL when it did not answer within 'timeout_ns'.
     * May block; runs on a worker. */
    void (*live)(void *ctx, const struct live_ask *ask, int64_t timeout_ns,
                 struct arena *arena, const void **out, size_t *out_len);
    /* Takes the socket over in any case: on failure it closes it. 'request' is borrowed
     * for the call. Runs on a connection thread: must not block. */
    bool (*open_stream)(void *ctx, const struct stream_request *request, int fd,
                        struct err *err);
    void *ctx;
};

struct gateway_rates {    /* Token buckets, per account and class; 0: the default. */
    unsigned read_rate;   /* Refilled per second: 20 000. */
    unsigned read_burst;  /* Two seconds' worth. */
    unsigned write_rate;  /* 1 000 */
    unsigned write_burst; /* Two seconds' worth. */
};

struct gateway_config {
    struct store *store;
    const struct clock *clock;
    const struct rng *rng;
    const struct cloud_config *cloud;
    struct pool *pool;        /* NULL: placement reads all nodes. */
    struct blob_store *blobs; /* NULL: uploads are refused. */
    struct gateway_ops ops;
    struct gateway_rates rates;
};

MUST_CHECK struct gateway *gateway_create(const struct gateway_config *config,
                                          struct err *err);
/* Stops listening first; what is still to be recorded is written. NULL is a no-op. */
void gateway_destroy(struct gateway *gateway);
AUTO_DEFINE(gateway, struct gateway *, gateway_destroy)

struct gateway_listen {
    const char *address;              /* "127.0.0.1:6656"; port 0 picks one. */
    const char *cert_file, *key_file; /* NULL: no TLS. */
    unsigned threads, workers;        /* 0: as http.h says. */
};
MUST_CHECK bool gateway_listen(struct gateway *gateway,
                               const struct gateway_listen *how, uint16_t *out_port,
                               struct err *err);
/* Serves a client that a node carried here: see http_take. On the thread of gateway_listen and
 * gateway_stop; refused before the one and after the other. */
MUST_CHECK bool gateway_take(struct gateway *gateway, int fd, const char *address,
                             int port, struct err *err);
/* Takes no new requests and finishes those under way. */
void gateway_stop(struct gateway *gateway);
/* So many processes, this one included, serve each account: its rates are divided among
 * them. Any thread. */
void gateway_share(struct gateway *gateway, size_t processes);
/* Forgets what is cached of keys and accounts: after an operator changed them. Any
 * thread; main/ calls it from the store's watch for row_access_key and row_account. */
void gateway_forget(struct gateway *gateway);
