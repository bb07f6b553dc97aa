/* nodes.h - the control plane's dealings with its nodes.
 *
 * Purpose:  answers the link: who may join or come back, what is wanted of them, what
 *           their reports change; pushes new wants as they are committed; serves blobs;
 *           opens streams to guests.
 * Place:    control/; owns the link server. A node may report only what is wanted of
 *           it.
 * Threads:  the loop's, but for nodes_changed (any) and nodes_call (any).
 * Failure:  a peer that cannot be served is refused or closed with the reason; what was
 *           wanted of it stays in rows and is sent when it is back. */
#pragma once
#include "control/instance_loop.h"
#include "link/server.h"
#include "store/blobs.h"

struct nodes;
struct members;

struct nodes_config {
    uv_loop_t *loop;
    struct store *store;
    struct blob_store *blobs;
    const struct clock *clock;
    const struct rng *rng;
    const struct cloud_config *cloud;
    struct pool *pool;     /* NULL: placement reads all nodes. */
    const char *unix_path; /* STATE/link.sock */
    const char *tcp_host;  /* NULL: no TCP. */
    int tcp_port;
    const char *region, *zone; /* Of the local node. */
    /* Of this process among those that share the store; see members.h. */
    const char *control_id;
    const char *link_host; /* Where others reach what tcp_host listens on. */
    int link_port;         /* 0: as nodes_port. */
    bool alone;
    /* How many they are now, this one included; on the loop, once at the start too. */
    void (*sharing)(void *ctx, size_t processes);
    void *sharing_ctx;
    /* Takes a connection to the API that came through an endpoint, also on failure: on the
     * loop. NULL: none is served. */
    bool (*caller)(void *ctx, int fd, const char *address, int port, struct err *err);
    void *caller_ctx;
    struct members *members; /* Set by control_create. */
};

/* Loads the cloud's CA and listens. */
MUST_CHECK struct nodes *nodes_create(const struct nodes_config *config,
                                      struct err *err);
/* Closes every stream. The loop must run on until it is empty. */
void nodes_close(struct nodes *nodes);
int nodes_port(const struct nodes *nodes); /* TCP, or 0. */

/* Rows of a node changed: its wants are pushed, its revocation obeyed. */
void nodes_changed(struct nodes *nodes, const char *node_id);
/* Control processes came or went: the nodes' streams are shared out anew. */
void nodes_members_changed(struct nodes *nodes);

/* Asks a node something live; waits, so not on the loop. '*out' is malloc'ed.
 * ERR_TIMEOUT after 'limit_ns', ERR_GONE when the node is not connected. */
MUST_CHECK bool nodes_call(struct nodes *nodes, const char *node_id, const char *what,
                           const char *object, int64_t limit_ns, char **out,
                           size_t *out_len, struct err *err);

/* Joins 'fd' (taken) to an instance: "tunnel" to its address, or "console". Any thread;
 * returns once the request is on its way. */
struct nodes_stream {
    const char *ticket; /* Id of its row_tunnel_ticket. */
    const char *node_id, *what, *instance_id, *address, *port_id;
    int port;
};
void nodes_stream(struct nodes *nodes, const struct nodes_stream *stream, int fd);
