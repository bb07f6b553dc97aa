/* call.h - one authenticated request, as a handler sees it.
 *
 * Purpose:  everything a handler may use, handed in. A handler is a function from its
 *           input and the rows to its output and new rows: the gateway runs it inside one
 *           transaction (read-only or writing, as the operation's table says), which may run
 *           it again, so it has no effect outside 'txn'.
 * Place:    service/; handlers never see HTTP, nodes or the store itself.
 * Owner:    the gateway, for the length of the request.
 * Threads:  the one thread that runs the request. */
#pragma once
#include "base/arena.h"
#include "base/world.h"
#include "store/store.h"

struct fragments;    /* service/fragments.h */
struct cloud_config; /* core/config.h: regions, zones, catalogue, limits. */
struct pool;         /* core/pool.h: where machines are placed. */

/* What a handler may ask the gateway to do after its transaction has committed: rule 2's
 * two live reads. */
struct live_ask {
    const char *node_id;
    const char *what;   /* "console" */
    const char *object; /* i-... */
    /* Fills the operation's output from what came back; 'data' NULL: the node did not answer
     * within two seconds. */
    void (*finish)(struct arena *arena, void *out, const void *data, size_t len);
};

struct call {
    struct arena *arena;
    struct txn *txn;
    const struct cloud_config *config;
    struct pool *pool; /* NULL: placement reads all nodes. */
    const struct rng *rng;
    int64_t now_ns;       /* Real time of the request's arrival: the same in a rerun. */
    const char *account;  /* 12 digits; of operators: "operator". */
    const char *key_id;   /* AKIA... */
    const char *user_arn; /* arn:aws:iam::123456789012:root */
    const char *region;   /* From the signature's scope; one that we serve. */
    const char *source_ip;
    const char *request_id;      /* uuid */
    const char *operation;       /* "RunInstances" */
    struct fragments *fragments; /* NULL: the answer is not XML. */
    struct live_ask *live;       /* Set by a handler that needs one; NULL otherwise. */
    const char *detail; /* Set by a handler: for the audit, not for the caller. */
};

typedef bool handler_fn(struct call *call, const void *in, void *out, struct err *err);
