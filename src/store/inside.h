/* inside.h - the store's own state, shared by store.c, writer.c, commit.c, txn.c, upkeep.c.
 *
 * Threads:  'tables', 'driver' and 'where' are constant. A batch belongs to the writer
 * thread until it is handed over, then to the committer; 'session' and 'scratch' to the
 * committer, or to the writer while nothing waits for that (commit.h). The rest is guarded
 * as said beside it. */
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

/* Requests in the order in which they came. */
struct line {
    struct request *first, **last;
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
    struct session *session; /* That writes. */
    struct arena *scratch;   /* For rows on their way to the database. */
    pthread_t writer, committer, flusher;
    bool writer_runs, committer_runs, flusher_runs;
    struct version *tip; /* The writer's: what the next batch starts from; pinned, or
                          * NULL for the published version. */
    uint64_t tip_breaks; /* As 'breaks' was when it was last the published one. */
    uint64_t
        turn_breaks; /* The same, when the writer last had a shared database's turn; */
    bool calm;       /* and it was so the time before. */
    pthread_mutex_t hands;   /* Of a shared database: held by who changes trees. */
    void (*wake)(void *ctx); /* Set: there is no writer thread. */
    void *wake_ctx;

    pthread_mutex_t lock; /* Guards all that follows. */
    pthread_cond_t work;
    struct line again; /* To be run once more, before all others. */
    struct line asked; /* Somebody waits. Without a thread: all. */
    struct line later; /* Asked for without waiting: some with each batch. */
    bool closing;
    pthread_cond_t handed,
        settled; /* Batches came to the committer; it has none left. */
    struct batch *ready, **ready_last;
    size_t ready_count;   /* Transactions in them. */
    bool writer_rests;    /* No more come for now. */
    bool committing;      /* It is at work on those that it took. */
    bool hand_ends;       /* No more will be handed over. */
    pthread_cond_t flush; /* Batches came to the flusher. */
    struct batch *ended, **ended_last;
    bool flushing, flush_ends;
    struct err unsynced; /* Why the sync failed after which nothing is written. */
    uint64_t breaks; /* Commits that failed, and what others committed in between: what
                        * ran ahead of them must be run again. */
    struct store_counts counts;
    pthread_mutex_t watch_lock; /* Guards the watchers; held while they are called. */
    struct watcher watchers[WATCHERS_MAX];
    unsigned watcher_count;
    struct session *idle; /* Reader sessions. */
    unsigned idle_count;
};

/* Transactions that were run one after the other, each on what the one before left. */
struct batch {
    struct batch *next;
    struct request *first;
    size_t count;
    struct txn *txns;    /* Of each request. */
    struct version *tip; /* What the next of them starts from; pinned. */
    bool forked;         /* It is the batch's own, to be changed. */
    uint64_t breaks;     /* Of the store, before it was run. */
    bool began;          /* The database's transaction has begun. */
    bool changed;        /* Something in it is to be committed. */
    bool lost; /* The database has given it up, and with it what others had done; or it
                * ran ahead, and needs the database. */
};

/* A row that a transaction changed. It reaches the database with the commit; one of a
 * cold table at once, where the transaction reads such tables too. */
struct change {
    const struct table *table;
    const void *row; /* Its key fields at least. */
    bool deleted;
    bool sent;
};

/* What undoes a change in memory: see version_undo. */
struct step_back {
    const struct table *table;
    const void *row, *old;
};

struct txn {
    struct store *store;
    struct arena *arena;
    bool writable;
    bool brief, spent; /* Only 'left' more rows are handed out; or they were. */
    size_t left;
    struct version *version; /* Pinned until the arena ends. */
    /* A reader's own, taken when first needed; or the writer's. */
    struct session *session;
    bool began;          /* Its part of the database's transaction has begun. */
    struct batch *batch; /* Of the writer: what is shared with the others. */
    VEC(struct change) changes;
    VEC(struct step_back) back; /* Of the changes in memory, in their order. */
};

/* Of batches that follow one another. */
static inline struct version *
batches_tip(const struct batch *batch)
{
    while (batch->next) {
        batch = batch->next;
    }
    return batch->tip;
}

static inline bool
batches_changed(const struct batch *batch)
{
    while (batch && !batch->changed) {
        batch = batch->next;
    }
    return batch != NULL;
}

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
/* writer.c: counts and tells what a batch did, or that it failed, answers all, and frees
 * it. */
void batch_end(struct store *store, struct batch *batch, bool ok,
               const struct err *err);
void batch_destroy(struct batch *batch);
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
