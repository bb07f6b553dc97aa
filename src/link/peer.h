/* peer.h - one connected node, inside the server; the public part is in server.h.
 *
 * Purpose:  what server.c (listeners, the table of peers) and peer.c (one peer's
 *           conversation) know of each other. Internal to link/.
 * Threads:  the loop's. */
#pragma once
#include "base/arena.h"
#include "base/map.h"
#include "link/channels.h"
#include "link/server.h"
#include "link/stream.h"

enum peer_phase {
    PEER_SHAKING, /* TLS under way, or hello awaited. */
    PEER_ASKED,   /* hello or enroll was handed up; the owner will answer. */
    PEER_UP,      /* Welcomed. */
    PEER_CLOSING,
};

struct peer_call; /* A question that the node has not answered yet. */

struct link_peer {
    struct link_server *server;
    struct stream *stream;
    uint64_t id;
    uint64_t since_ms; /* When it connected. */
    enum peer_phase phase;
    bool told;      /* 'lost' is owed. */
    bool enrolling; /* It asked to join. */
    struct link_identity who;
    char *cert_node_id;
    char serial[40], address[64];
    char *node_id; /* Of welcome. */
    void *user;
    struct channels channels;
    struct peer_call *calls;
    int64_t next_call;
    VEC(int64_t) unacked; /* Sequences of reports handed up, rising. */
    size_t acked;         /* Of 'unacked', from its front. */
};

struct peer_slot {
    struct link_peer *peer; /* NULL: free. */
    uint32_t turn;          /* Rises with each use: the upper half of a peer's id. */
};

struct link_server {
    uv_loop_t *loop;
    const struct clock *clock;
    const struct rng *rng;
    struct link_server_ops ops;
    void *ctx;
    char *ca_pem;
    char *unix_path;
    struct tls_context *tls;
    struct pki_verifier *verifier;
    uint64_t queue_max_bytes;
    uint32_t peers_max;
    uv_pipe_t unix_listener;
    uv_tcp_t tcp_listener;
    uv_timer_t tick;
    bool has_unix, has_tcp, destroyed;
    int handles_open;
    VEC(struct peer_slot) slots;
    VEC(uint32_t) free_slots;
    size_t peer_count;
    struct arena *arena; /* Of the frame being read. */
    char scratch[STREAM_SCRATCH];
};

/* A peer whose stream is not started; NULL when there are too many. */
struct link_peer *peer_create(struct link_server *server, bool local);
void peer_start(struct link_peer *peer);
/* Closes those that took too long to say hello. */
void peer_check_patience(struct link_peer *peer, uint64_t now_ms);
/* The server is going: ends it now, calling 'lost'. */
void peer_end(struct link_peer *peer, const char *why);

bool server_slot_take(struct link_server *server, struct link_peer *peer);
void server_slot_drop(struct link_server *server, struct link_peer *peer);
