/* relay.h - asking another control process for a node whose stream is with it.
 *
 * Purpose:  live questions and streams reach a node through the process that has its
 *           stream. This end connects to that process's link as a peer of its own kind: by
 *           mutual TLS, with a certificate "control-..." under the cloud's CA, whose key
 *           every process has from the rows. nodes_relay.c is the other end.
 * Place:    control/; nodes.c owns one. Knows addresses, nothing of who has which node.
 * Threads:  the loop's.
 * Failure:  a process that cannot be reached fails what waits for it, at once when it
 *           refuses and after the call's limit when it says nothing. */
#pragma once
#include "base/desc.h"
#include "control/mailbox.h"
#include "link/client.h"
#include "link/pki.h"

struct relay;

struct relay_config {
    uv_loop_t *loop;
    const struct clock *clock;
    const struct rng *rng;
    struct mailbox *mailbox;
    const struct pki_ca *ca;
    const char *id, *cloud_id; /* Of this control process. */
};

MUST_CHECK struct relay *relay_create(const struct relay_config *config);
/* What waits fails. NULL is a no-op. */
void relay_destroy(struct relay *relay);

/* 'body' is the answer, NULL when there was none: 'why' says so. Called once. */
typedef void relay_reply_fn(void *ctx, const struct blob *body, const char *why);
/* Asks 'node_id' through the process at 'link' ("HOST:PORT"). */
void relay_call(struct relay *relay, const char *link, const char *node_id,
                const char *what, const char *object, int64_t limit_ns,
                relay_reply_fn *fn, void *ctx);
/* Joins 'fd' (taken) to a stream of the node: 'open' as for link_peer_open_channel. */
void relay_stream(struct relay *relay, const char *link, const char *node_id,
                  const struct link_channel_open *open, int fd);
