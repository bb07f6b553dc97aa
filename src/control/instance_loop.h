/* instance_loop.h - makes a cloud server so: from its rows to records on its node, and
 * from what the node saw back to its rows.
 *
 * Purpose:  one pass looks at one instance whole and does the next thing, or nothing;
 *           it may be run at any time, any number of times.
 * Place:    control/, inside the caller's transaction. Only here does an instance end:
 *           its addresses, claims and disks are given back after the node has reported
 *           them absent.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "base/world.h"
#include "core/config.h"
#include "store/blobs.h"
#include "store/rows.h"
#include "store/store.h"

struct pool;

struct pass {
    struct txn *txn;
    struct pool *pool; /* Where machines are placed; NULL: placement reads all nodes. */
    const struct cloud_config *config;
    const struct rng *rng;
    struct blob_store *blobs; /* To see whether a file came; NULL: taken on trust. */
    int64_t now_ns;
};

/* An instance that is not there, or has left its visible hour, is success. */
MUST_CHECK bool instance_pass(const struct pass *pass, const char *account,
                              const char *id, struct err *err);
/* The same, but for the migration that it may be in, whose own pass calls this. */
MUST_CHECK bool instance_sides(const struct pass *pass, const char *account,
                               const char *id, struct err *err);
/* Brings a volume that is wanted deleted to its end. */
MUST_CHECK bool volume_pass(const struct pass *pass, const char *account,
                            const char *id, struct err *err);
