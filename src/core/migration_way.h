/* migration_way.h - how an instance would be moved: whether that ends, and whether its memory
 * follows it.
 *
 * Purpose:  before anything is begun, says what a move will take (forecast.h) and whether it
 *           may be made so: one that never ends is not, unless its memory may follow the
 *           guest (post-copy), which makes it need two hosts for a while. That is its
 *           owner's to allow, by a tag, or an operator's to force; the receiver must be able to.
 * Place:    core/, over the store's transactions; begins nothing.
 * Memory:   the transaction's arena.
 * Threads:  the transaction's. */
#pragma once
#include "core/forecast.h"

/* The owner of an instance with this tag allows its memory to follow it. */
#define MIGRATION_TAG "moln:migration"
#define MIGRATION_TAG_POST_COPY "post-copy"

struct migration_ask {
    const char *to_node, *reason;
    int64_t bandwidth_bps, downtime_limit_ms;
    bool post_copy;
    bool
        may_follow; /* By post-copy where it is allowed, and else the move would never end. */
    int64_t at_once; /* Moves that share the way; 0: this one has it. */
    bool force; /* Also what is not expected to end, or by post-copy without its owner's
                      * word. */
    bool starts; /* Of a stopped one: it starts there (migration_cold.h). */
};

struct migration_way {
    struct forecast forecast;
    bool post_copy;
    struct err refusal; /* ERR_RESOURCE_IN_USE: why it is not made so; else ERR_NONE. */
};

MUST_CHECK bool migration_way_of(struct txn *txn, const struct row_instance *inst,
                                 const struct migration_ask *ask,
                                 struct migration_way *out, struct err *err);
