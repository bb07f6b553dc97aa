/* leases.h - the leases of nodes: granted, watched, and declared lost.
 *
 * Purpose:  leased machines run on a node only while its lease lives (node/fence/fence.h
 *           sees to that); a lease that was not renewed for its duration, the time to stop
 *           what it covered and a margin for clocks that run apart is declared lost, and
 *           then those machines are started elsewhere (recovery.h), and NAT gateways that were
 *           at home there find another (nat_loop.h).
 * Rule:     nobody compares clocks of two hosts. The node counts from when it asked; we
 *           count from when we saw the renewal in the rows, on our clock since boot, in
 *           every control process for itself. The declaration is one compare-and-set on
 *           the renewal's number: a renewal that came in between wins, and one that comes
 *           after is refused, until the node says that nothing leased runs there.
 * Place:    control/; control.c owns one, beside the queue that it wakes.
 * Threads:  the loop's. */
#pragma once
#include "control/nodes.h"

struct leases;

struct leases_config {
    const struct nodes_config *config;
    /* An instance of a lost node deserves a look. */
    void (*wake)(void *ctx, const char *account, const char *instance_id);
    /* So does a VPC that has a NAT gateway at home there still. */
    void (*wake_place)(void *ctx, const char *vpc_id, const char *node_id);
    void *ctx;
};

MUST_CHECK struct leases *leases_create(const struct leases_config *config);
/* Waits for nothing: transactions under way end by themselves. NULL is a no-op. */
void leases_close(struct leases *leases);

/* One ask of a node, in its transaction. '*out' is the answer; durable with the
 * transaction. */
MUST_CHECK bool lease_grant(const struct pass *pass, const char *node_id,
                            const struct link_lease_ask *ask, struct link_lease *out,
                            struct err *err);
/* Begins to watch a node on which something leased is newly wanted: it may never ask. One
 * that was lost is watched anew: what it had is known to be gone, and that it asks for its
 * lease is what is awaited of it now. */
MUST_CHECK bool lease_expect(const struct pass *pass, const char *node_id,
                             struct err *err);
/* Declares the lease lost that was renewed last under 'serial'; nothing when it was
 * renewed since. A node that has nothing leased any more is no longer watched. */
MUST_CHECK bool lease_lose(const struct pass *pass, const char *node_id, int64_t serial,
                           struct err *err);
