/* pool.h - the cloud's hosts, ready for placement: the index over the rows.
 *
 * Purpose:  answers, inside a transaction, which nodes get machines. The index only
 *           proposes: each host is read in the transaction before it is answered, so that
 *           two that place at the same time, in one process or in several, never promise
 *           the same room twice: the node_claim row that both then change decides.
 * Place:    core/, over the store's transactions. One a process; main/ makes it.
 * Rows:     reads node, node_seen, node_claim; writes none: instance_add() and its like
 *           claim what was answered.
 * Freshness: a change of those rows is noticed by the store's watch, and read by the next
 *           call. What a call itself supposed is read again by the next one.
 * Threads:  any; calls take turns. */
#pragma once
#include "core/placement_index.h"

struct pool;

/* Reads all nodes. 'config' and 'store' are borrowed. */
MUST_CHECK struct pool *pool_create(struct store *store,
                                    const struct cloud_config *config, struct err *err);
void pool_destroy(struct pool *pool); /* NULL is a no-op. Not from within a watch. */
AUTO_DEFINE(pool, struct pool *, pool_destroy)

/* One host that takes one machine. */
struct pool_pick {
    const char *node_id;  /* In the transaction's arena. */
    int64_t memory_bytes; /* That the machine takes there, its emulator included. */
};

/* Finds places for up to 'want' machines; 'apart': each on a host, and rack, of its own.
 * 'out' has room for 'want'; '*out_count' may be fewer, and zero is success.
 * 'pool' NULL: all rows are read for this one call. */
MUST_CHECK bool pool_place(struct pool *pool, struct txn *txn,
                           const struct cloud_config *config,
                           const struct placement_ask *ask, bool apart, size_t want,
                           struct pool_pick *out, size_t *out_count, struct err *err);
/* The same where what one machine gets matters to the next: 'next' is called before each
 * with its number and the host of the one before (NULL: it is the first), and may change
 * the ask. */
typedef void pool_next_fn(void *ctx, size_t index, const struct placement_host *last,
                          struct placement_ask *ask);
MUST_CHECK bool pool_place_each(struct pool *pool, struct txn *txn,
                                const struct cloud_config *config,
                                const struct placement_ask *ask, pool_next_fn *next,
                                void *ctx, size_t want, struct pool_pick *out,
                                size_t *out_count, struct err *err);
/* For operators: why the hosts do not take one more machine once 'after' of them have
 * found a place, or how many would. 'pool' as above. */
MUST_CHECK bool pool_explain(struct pool *pool, struct txn *txn,
                             const struct cloud_config *config,
                             const struct placement_ask *ask, size_t after,
                             struct buf *out, struct err *err);
/* The part of a zone that is promised: see placement_index_load(). NULL: 0. */
double pool_load(struct pool *pool, const char *zone);
/* Whether an operator may be told why again: refusals are explained at most ten times a
 * second, since that looks at every host. */
bool pool_may_explain(struct pool *pool, int64_t now_ns);

/* The rows of one node; '*out' is all NULL when there is none. */
MUST_CHECK bool pool_rows(struct txn *txn, const char *node_id,
                          struct placement_rows *out, struct err *err);
