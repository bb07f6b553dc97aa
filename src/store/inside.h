/* inside.h - the store's own state, shared by store.c, writer.c, txn.c and upkeep.c.
 *
 * Threads:  'tables', 'driver' and 'where' are constant. 'session' and the counters of
 * a batch belong to the writer thread; the rest is guarded as said beside it. */
#pragma once
#include "base/map.h"
#include "store/image.h"
#include "store/session.h"
#include <pthread.h>

#define WATCHERS_MAX 8
#define IDLE_READERS_MAX 2
#define OWN_TABLES 3 /* The last of a store's tables: own.schema. */

/* One store_write on its way through the writer thread. */
struct request {
    struct request *next;
    txn_fn *fn;
    void *ctx;
    struct arena *arena;
    store_done_fn *done; /* NULL: somebody waits until it is finished. */
    bool alone;          /* Shares its transaction with no other. */
    /* NULL, or called on the writer thread. */
    void (*committed)(struct store *store, void *ctx);
    struct err err;
    bool finished; /* Under the store's lock, as is the waking. */
    pthread_cond_t wakes;
};

struct watcher {
    store_watch_fn *fn;
    void *ctx;
};

struct store {
    const struct sql_driver *driver;
    char *where;
    int lock_fd; /* Held while the database is ours alone. */
    struct row_type own_types[OWN_TABLES];
    struct table *tables; /* By type id; then the store's own. */
    size_t table_count;
    const struct clock *clock;

    /* Sealing: changed by rekey on the writer thread under 'vault_lock', read by it
     * freely and by reader sessions under the lock. */
    struct vault vault;
    pthread_rwlock_t vault_lock;

    struct image *image;     /* The hot tables. */
    struct follow *follow;   /* Of a shared database; NULL: it is ours alone. */
    struct session *session; /* The writer's. */
    struct arena *scratch;   /* The writer's, for rows on their way to the database. */
    pthread_t writer;
    bool writer_runs;
    void (*wake)(void *ctx); /* Set: there is no writer thread. */
    void *wake_ctx;

    pthread_mutex_t lock; /* Guards all that follows. */
    pthread_cond_t work;
    struct request *first, **last;
    bool closing;
    struct store_counts counts;
    pthread_mutex_t watch_lock; /* Guards the watchers; held while they are called. */
    struct watcher watchers[WATCHERS_MAX];
    unsigned watcher_count;
    struct session *idle; /* Reader sessions. */
    unsigned idle_count;
};

/* Transactions that are committed together. */
struct batch {
    struct version *tip; /* What the next of them starts from; pinned. */
    bool began;          /* The database's transaction has begun. */
    bool changed;        /* Something in it is to be committed. */
    bool lost; /* The database has given it up, and with it what others had done. */
};

/* A row that a transaction changed. Of hot tables they reach the database when the
 * transaction's function has succeeded, and lie in its version; of others at once. */
struct change {
    const struct table *table;
    const void *row; /* Its key fields at least. */
    bool deleted;
};

struct txn {
    struct store *store;
    struct arena *arena;
    bool writable;
    bool forked;             /* 'version' is its own, to be changed. */
    struct version *version; /* Pinned until the arena ends. */
    /* A reader's own, taken when first needed; or the writer's. */
    struct session *session;
    bool began;          /* Its part of the database's transaction has begun. */
    struct batch *batch; /* Of the writer: what is shared with the others. */
    VEC(struct change) changes;
};

static inline const struct table *
store_counters(const struct store *store)
{
    return &store->tables[store->table_count - OWN_TABLES];
}

static inline const struct table *
store_meta(const struct store *store)
{
    return &store->tables[store->table_count - 2];
}

static inline const struct table *
store_log(const struct store *store)
{
    return &store->tables[store->table_count - 1];
}

/* writer.c: the thread, and its queue's end for store.c. */
MUST_CHECK bool writer_start(struct store *store, struct err *err);
void writer_stop(struct store *store); /* After all that is queued. */
/* Waits for its end. */
bool writer_run(struct store *store, struct request *request, struct err *err);

/* txn.c: a transaction from outside. init pins 'version' for the arena's sake. */
void txn_init(struct txn *txn, struct store *store, struct arena *arena,
              struct version *version);
MUST_CHECK bool txn_session(struct txn *txn, struct session **out, struct err *err);
bool txn_settle(struct txn *txn, bool keep, struct err *err);
void txn_fini(struct txn *txn);

/* store.c: tells the watchers. */
void store_tell(struct store *store, const struct change *changes, size_t count);
/* store.c: reader sessions. */
MUST_CHECK struct session *reader_take(struct store *store, struct err *err);
void reader_return(struct store *store, struct session *session);
