/* server.h - the control plane's end of the links: listens, speaks with each node.
 *
 * Purpose:  accepts nodes on a unix socket (the one local node: peer root or our own
 *           user) and on TCP (mutual TLS 1.3), checks certificate and clock, and turns
 *           frames into callbacks. Who may join, what is wanted and what reports mean
 *           is the owner's.
 * Place:    above base/, below control/, which owns one.
 * Threads:  every call and every callback on the loop's thread; no callback is made
 *           from within a call, but where said.
 * Time:     'clock' is read for certificates and skew; timers are the loop's.
 * Peers:    a 'struct link_peer *' is good until ops.lost was called for it. Answers
 *           that come later keep link_peer_id and look it up again: ids are never
 *           reused.
 * Life:     hello or enroll -> (later) link_peer_welcome, link_peer_enrolled or
 *           link_peer_refuse -> wants, reports, calls, channels -> lost. Only a peer
 *           that got as far as hello or enroll is heard of, and each such one is lost
 *           once. */
#pragma once
#include "link/channel.h"
#include "link/link.h"

struct link_server;
struct link_peer;

/* Whom the transport proved the peer to be. */
struct link_identity {
    bool local;          /* Unix socket. */
    const char *node_id; /* From the certificate; NULL when local or enrolling. */
    const char *serial;  /* Of the certificate, hex; control knows which are good. */
    const char *address; /* "192.0.2.7:41234", or "local". */
};

struct link_server_ops {
    /* A node that proved 'who' says hello. The server has checked chain, dates, clock,
     * protocol, and that hello's node id is the certificate's. */
    void (*hello)(void *ctx, struct link_peer *peer, const struct link_identity *who,
                  const struct link_hello *hello);
    /* A stranger asks to join. Check token, sign with pki_sign_node, store the serial,
     * then link_peer_enrolled, or link_peer_refuse(peer, "token", ...). */
    void (*enroll)(void *ctx, struct link_peer *peer, const struct link_identity *who,
                   const struct link_enroll *enroll);
    /* A welcomed node wants a fresh certificate. As enroll; node_id is the peer's. */
    void (*renew)(void *ctx, struct link_peer *peer, const struct link_renew *renew);
    /* A seen record: 'record' is decoded by link_seen_desc(kind) and borrowed for the
     * call; 'body' is its TLV; 'revision' that of the wanted record it answers, 0 when
     * it was not told. Answer with link_peer_ack_report once it is durable. */
    void (*report)(void *ctx, struct link_peer *peer, enum link_kind kind,
                   const void *record, struct blob body, int64_t revision,
                   int64_t sequence);
    /* Wants up to 'revision' are on the node's disk. */
    void (*ack)(void *ctx, struct link_peer *peer, int64_t revision);
    /* The node opens a channel: blob_get (accept with a source) or blob_put (accept
     * with a sink, limit_bytes = open->size). See channel.h for who owns 'channel'. */
    void (*channel)(void *ctx, struct link_peer *peer, struct link_channel *channel,
                    const struct link_channel_open *open);
    /* The stream has ended; 'peer' is gone when this returns. */
    void (*lost)(void *ctx, struct link_peer *peer, const char *why);
    /* The node wants its lease prolonged: link_peer_lease once that is durable, or with
     * duration_ms 0. NULL: no node gets one. */
    void (*lease_ask)(void *ctx, struct link_peer *peer,
                      const struct link_lease_ask *ask);
};

struct link_server_config {
    uv_loop_t *loop;
    const struct clock *clock;
    const struct rng *rng;
    struct link_server_ops ops;
    void *ctx;
    const char *unix_path; /* NULL: no local node. Made anew, 0600. */
    const char *tcp_host;  /* Address to bind; NULL: no TCP. */
    int tcp_port;          /* 0: any; see link_server_port. */
    const char *ca_pem;    /* Needed with TCP, as are these: */
    const char *cert_pem, *key_pem;
    uint64_t queue_max_bytes; /* More unsent: closed as slow; 0: 64 MiB. */
    unsigned peers_max;       /* 0: 100 000. */
};

/* Everything in 'config' but ctx, clock, rng and loop is copied. Listens at once. */
MUST_CHECK struct link_server *
link_server_create(const struct link_server_config *config, struct err *err);
/* Closes every peer (calling lost) and the listeners; the memory goes when the loop has
 * run the handles' close callbacks: run the loop until it is empty. NULL is a no-op. */
void link_server_destroy(struct link_server *server);
int link_server_port(const struct link_server *server); /* TCP; 0 when there is none. */
size_t link_server_peer_count(const struct link_server *server);

/* ---- one peer -------------------------------------------------------------------- */

uint64_t link_peer_id(const struct link_peer *peer);
/* NULL: it is gone. */
struct link_peer *link_server_peer(struct link_server *server, uint64_t id);
/* 'user' is the owner's, borrowed. */
void link_peer_set_user(struct link_peer *peer, void *user);
void *link_peer_user(const struct link_peer *peer);
const struct link_identity *link_peer_identity(const struct link_peer *peer);
/* Of welcome; NULL before. */
const char *link_peer_node_id(const struct link_peer *peer);
/* TLS took up an earlier session. */
bool link_peer_resumed(const struct link_peer *peer);

/* Answers hello. protocol and clock_ns are filled in; node_id and cloud_id are not. */
void link_peer_welcome(struct link_peer *peer, const struct link_welcome *welcome);
/* Answers hello or enroll, then closes: code is revoked, unknown, clock, protocol,
 * token. */
void link_peer_refuse(struct link_peer *peer, const char *code, const char *message);
/* Answers enroll (and closes: the node comes back with its certificate) or renew.
 * ca_pem is filled in. */
void link_peer_enrolled(struct link_peer *peer, const struct link_enrolled *enrolled);
/* Closes at once, whatever is queued: a revoked node's stream, a superseded one's.
 * 'lost' follows from the loop. */
void link_peer_close(struct link_peer *peer, const char *why);
/* Whether a channel is open on it. */
bool link_peer_carries(const struct link_peer *peer);

/* Sends a wanted record; 'body' is its TLV (as rows keep it). Revisions rise. */
void link_peer_want(struct link_peer *peer, enum link_kind kind, const char *id,
                    int64_t revision, bool deleted, struct blob body);
/* Ends the snapshot that welcome promised: 'count' records, up to 'revision'. */
void link_peer_snapshot_end(struct link_peer *peer, int64_t revision, int64_t count);
/* Reports up to 'sequence' are durable; the node forgets them. */
void link_peer_ack_report(struct link_peer *peer, int64_t sequence);

/* Answers lease_ask. Sent after the wants that were sent before it. */
void link_peer_lease(struct link_peer *peer, const struct link_lease *lease);

/* 'reply' is NULL when the time ran out or the peer was lost; borrowed. Called once. */
typedef void link_reply_fn(void *ctx, const struct link_reply *reply);
void link_peer_call(struct link_peer *peer, const char *what, const char *object,
                    int64_t timeout_ns, link_reply_fn *fn, void *ctx);

/* Opens a channel to the node (open->what "tunnel" or "console"; channel is filled in)
 * and pumps it once the node accepted. 'bind->fn' hears of it; NULL, and the descriptor
 * closed, when there are too many already. */
struct link_channel *link_peer_open_channel(struct link_peer *peer,
                                            const struct link_channel_open *open,
                                            const struct link_channel_bind *bind);
