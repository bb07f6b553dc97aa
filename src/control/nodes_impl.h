/* nodes_impl.h - what the files of nodes share: the struct, and one errand at a time.
 *
 * An errand is a transaction on behalf of a peer: asked on the loop, run on the store's
 * writer thread, answered on the loop; the peer may be gone by then. */
#pragma once
#include "base/map.h"
#include "control/mailbox.h"
#include "control/nodes.h"
#include "link/pki.h"
#include <pthread.h>

struct nodes {
    struct nodes_config config;
    struct link_server *server;
    struct mailbox *mailbox;
    struct pki_ca *ca;
    char cloud_id[32];
    struct map *by_node;      /* node id -> struct link_peer, welcomed. */
    pthread_mutex_t lock;     /* Guards the next. */
    struct map *changed;      /* Ids of nodes whose change is on its way to the loop. */
    _Atomic unsigned errands; /* Under way; created on any thread. */
    struct map *tellers;   /* Node id -> how many events it told (nodes_reports.c). */
    struct relay *relay;   /* To other control processes. */
    struct spread *spread; /* NULL: there are none. */
    bool closing;
    unsigned commits;                   /* Blobs being finished... */
    VEC(struct errand *) after_commits; /* ...and reports that wait for them. */
};

/* What hangs on a peer (link_peer_user). */
struct peer_state {
    char node_id[32];
    int64_t sent_revision; /* Wants up to here are on their way. */
    bool control;          /* It is another control process, not a node. */
};

struct errand;
/* In the transaction; may run again. Results go into the errand's arena. */
typedef bool errand_txn_fn(struct errand *errand, struct txn *txn, struct err *err);
/* On the loop. 'peer' is NULL when it was lost meanwhile. */
typedef void errand_done_fn(struct errand *errand, struct link_peer *peer,
                            const struct err *err);

struct errand {
    struct nodes *nodes;
    uint64_t peer_id;
    struct arena *arena;
    struct pass pass; /* txn is set while it runs. */
    errand_txn_fn *txn;
    errand_done_fn *done;
    struct err err;
    char node_id[32];
    void *in;  /* The request, copied into 'arena'. */
    void *out; /* The transaction's result, in 'arena'. */
};

/* 'peer' may be NULL (nobody waits). The caller fills 'in' before errand_run. */
struct errand *errand_create(struct nodes *nodes, struct link_peer *peer,
                             errand_txn_fn *txn, errand_done_fn *done);
void errand_run(struct errand *errand); /* Takes it. */
/* One of 'errands' is done; the last one of closed nodes ends them. */
void nodes_errand_home(struct nodes *nodes);

/* nodes_join.c: callbacks of the link server. */
void nodes_on_enroll(void *ctx, struct link_peer *peer, const struct link_identity *who,
                     const struct link_enroll *enroll);
void nodes_on_renew(void *ctx, struct link_peer *peer, const struct link_renew *renew);
void nodes_on_hello(void *ctx, struct link_peer *peer, const struct link_identity *who,
                    const struct link_hello *hello);
/* nodes_blobs.c */
void nodes_on_channel(void *ctx, struct link_peer *peer, struct link_channel *channel,
                      const struct link_channel_open *open);
/* nodes_endpoint.c */
void nodes_endpoint_channel(struct nodes *nodes, struct link_peer *peer,
                            struct link_channel *channel,
                            const struct link_channel_open *open);
/* nodes_relay.c: control processes as peers. nodes_elsewhere gives the link of the other
 * process that has the node's stream, in 'arena', or NULL. */
bool nodes_is_control(const struct link_identity *who);
void nodes_control_hello(struct nodes *nodes, struct link_peer *peer,
                         const struct link_identity *who);
void nodes_control_channel(struct nodes *nodes, struct link_channel *channel,
                           const struct link_channel_open *open);
const char *nodes_elsewhere(struct nodes *nodes, const char *node_id,
                            struct arena *arena);
/* nodes_reports.c: a callback of the link server; and whether this process has the node's
 * stream, by the transaction's rows. */
void nodes_on_report(void *ctx, struct link_peer *peer, enum link_kind kind,
                     const void *record, struct blob body, int64_t revision,
                     int64_t sequence);
MUST_CHECK bool stream_is_ours(struct errand *e, struct txn *txn, bool *out,
                               struct err *err);
/* nodes.c: sends what the peer has not got yet; 'first', after a hello, says when that
 * was all. */
void nodes_push(struct nodes *nodes, struct link_peer *peer, bool first);
/* nodes.c: the peer that serves a node, or NULL. */
struct link_peer *nodes_peer(struct nodes *nodes, const char *node_id);
