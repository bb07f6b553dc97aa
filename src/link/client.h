/* client.h - a node's end of the link: connects, stays connected, delivers, reports.
 *
 * Purpose:  one stream to the control plane over its unix socket or TCP with mutual TLS
 *           1.3; joins with a token when there is no certificate yet, renews the
 *           certificate, connects anew with jittered, doubling pauses (0.1 to 15 s) for
 *           as long as it lives.
 * Place:    above base/, below node/, which owns one.
 * Threads:  every call and every callback on the loop's thread; no callback is made
 *           from within a call, but where said.
 * Time:     'clock' is read for certificates and skew; timers are the loop's.
 * Wants:    come in order of revision. After welcome with 'snapshot' a whole snapshot
 *           follows: what is not in it by snapshot_end is not wanted any more. Without
 *           one snapshot_end tells that nothing is missing any more.
 *           Acknowledge with link_client_ack once they are on disk.
 * Reports:  the last word counts: a newer report of the same kind and id replaces one
 *           that is not acknowledged. Kept until acknowledged and sent again on each
 *           new stream, so each may arrive twice. Of events the latest 1 024 are kept.
 */
#pragma once
#include "link/channel.h"
#include "link/link.h"

struct link_client;

struct link_client_ops {
    /* Connected and welcome; wants follow. */
    void (*welcome)(void *ctx, const struct link_welcome *welcome);
    /* A wanted record: 'record' is decoded by link_want_desc(kind) and borrowed for the
     * call, NULL only when 'deleted' came without a body; 'body' is its TLV. */
    void (*want)(void *ctx, enum link_kind kind, const char *id, int64_t revision,
                 bool deleted, const void *record, struct blob body);
    void (*snapshot_end)(void *ctx, int64_t revision, int64_t count);
    /* A live question; answer now or later with link_client_reply. */
    void (*call)(void *ctx, int64_t call_id, const char *what, const char *object);
    /* Control opens a channel (tunnel, console); channel.h says who owns it. */
    void (*channel)(void *ctx, struct link_channel *channel,
                    const struct link_channel_open *open);
    /* The stream ended, or could not be opened. 'code' is the control plane's when it
     * refused us (revoked, unknown, clock, protocol, token), else NULL. It is tried
     * again. */
    void (*down)(void *ctx, const char *code, const char *why);
    /* Joining: a key was made; store it before the token is spent (then a crash between
     * leaves a key to try again with). */
    bool (*key_made)(void *ctx, const char *key_pem, struct err *err);
    /* Joined, or renewed: store the certificate; it is used from now on. */
    bool (*enrolled)(void *ctx, const struct link_enrolled *enrolled, struct err *err);
    /* Last wanted revision on disk; 0: none, send a snapshot. Asked at each hello. */
    int64_t (*have_revision)(void *ctx);
    /* Answer to link_client_ask_lease, after every want that was there when it was
     * given. NULL: leases are nothing to this node, which then never asks. */
    void (*lease)(void *ctx, const struct link_lease *lease);
};

struct link_client_config {
    uv_loop_t *loop;
    const struct clock *clock;
    const struct rng *rng;
    struct link_client_ops ops; /* All but key_made, enrolled and lease are required. */
    void *ctx;
    const char *unix_path; /* Either this... */
    const char *places;    /* ...or these: "HOST:PORT,...", tried in turn (place.h). */
    const char *node_id, *cloud_id; /* NULL before the first welcome. */
    const char *boot_id, *hostname, *agent_version;
    const char *ca_pem, *cert_pem, *key_pem; /* TCP; NULL before joining. */
    const char *token; /* Text; needed when there is no cert_pem. */
    char *scratch; /* NULL, or STREAM_SCRATCH bytes (stream.h), borrowed, for who has
                        * thousands of clients on one thread. */
};

/* Starts to connect at once. Everything in 'config' but ctx, clock, rng, loop and scratch
 * is copied. ERR_INVALID: a bad token, key or certificate. */
MUST_CHECK struct link_client *
link_client_create(const struct link_client_config *config, struct err *err);
/* Ends the stream without callbacks but of channels and calls under way; the memory
 * goes when the loop has run the handles' close callbacks. NULL is a no-op. */
void link_client_destroy(struct link_client *client);
/* Other places to try, from the next attempt on; ERR_INVALID leaves those there are. */
MUST_CHECK bool link_client_set_places(struct link_client *client, const char *places,
                                       struct err *err);
bool link_client_is_up(const struct link_client *client); /* Welcomed. */

/* Reports a seen record (a struct of link_seen_desc(kind)); 'revision' is that of the
 * wanted record it answers, 0 where there is none. False, and nothing is kept, when 65 536
 * different ones wait already. */
bool link_client_report(struct link_client *client, enum link_kind kind,
                        int64_t revision, const void *record);
size_t link_client_reports_waiting(const struct link_client *client);
/* Wants up to 'revision' are on disk. */
void link_client_ack(struct link_client *client, int64_t revision);
/* Asks for the node's lease; false when the link is down. The answer to an ask that a
 * stream took with it never comes. */
bool link_client_ask_lease(struct link_client *client,
                           const struct link_lease_ask *ask);
/* 'ok' false: 'message' says why. Dropped when the stream that asked is gone. */
void link_client_reply(struct link_client *client, int64_t call_id, bool ok,
                       struct blob body, const char *message);
/* Opens a channel (blob_get, blob_put; open->channel is filled in). NULL, and the
 * descriptor closed, when the link is down or there are too many already. */
struct link_channel *link_client_open_channel(struct link_client *client,
                                              const struct link_channel_open *open,
                                              const struct link_channel_bind *bind);
