/* baseline.h - what every guest of a zone may count on, so that it can go to any host there.
 *
 * Purpose:  a guest has a named processor and a versioned machine type, and keeps both
 *           while it runs. For each zone and accelerator one pair is the baseline: what new
 *           guests, and those that are started again, get. It is picked when the zone's
 *           first host has said what it offers, and as long as the zone has no machines
 *           when a further host cannot give that; or an operator sets it. A host that
 *           cannot give it takes no new machines.
 * Place:    core/, over the store's transactions; writes 'baseline' and node.lacks.
 * Memory:   the transaction's arena.
 * Threads:  the transaction's. */
#pragma once
#include "store/rows.h"
#include "store/store.h"

/* A zone's hosts of one accelerator. */
struct baseline_key {
    const char *region, *zone, *accel;
};

/* '*out' NULL: none has been picked; guests get their host's own. */
MUST_CHECK bool baseline_get(struct txn *txn, const struct baseline_key *key,
                             const struct row_baseline **out, struct err *err);

/* Whether a host has said what it offers; those of an earlier version have not. */
bool baseline_told(const struct row_node_seen *seen);
/* Whether it offers that pair. What is not named any host offers. */
bool baseline_offers(const struct row_node_seen *seen, const char *cpu_model,
                     const char *machine_type);
/* What of the baseline the host cannot give, for people; NULL: it can, or has not told. */
const char *baseline_gap(struct arena *arena, const struct row_baseline *baseline,
                         const struct row_node_seen *seen);
/* The best that all of 'hosts' offer, by a fixed order of processors; false: they have
 * nothing in common. Pure. */
bool baseline_pick(const struct row_node_seen *const *hosts, size_t count,
                   const char **out_cpu_model, const char **out_machine_type);

/* The active hosts of a zone and accelerator that have spoken. */
struct baseline_hosts {
    struct baseline_host {
        const struct row_node *node;
        const struct row_node_seen *seen;
    } * items;
    size_t count;
};
MUST_CHECK bool baseline_hosts(struct txn *txn, const struct baseline_key *key,
                               struct baseline_hosts *out, struct err *err);

/* Picks for the zone as its hosts are now, and puts the row. '*out' NULL: nothing is known
 * of any, or they have nothing in common. */
MUST_CHECK bool baseline_renew(struct txn *txn, const struct baseline_key *key,
                               int64_t now_ns, const struct row_baseline **out,
                               struct err *err);
/* Whether any machine is placed on the zone's hosts of that accelerator. */
MUST_CHECK bool baseline_in_use(struct txn *txn, const struct baseline_key *key,
                                bool *out, struct err *err);
/* Sets node.lacks of all the zone's hosts as the row has it now; 'except' (or NULL) is
 * left to the caller. */
MUST_CHECK bool baseline_judge_all(struct txn *txn, const struct baseline_key *key,
                                   const char *except, struct err *err);
