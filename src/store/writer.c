/* writer.c - the one thread that writes: what waits together is committed together.
 *
 * Each request's function runs against its own fork of the newest version in memory.
 * What it changed goes to the database in a savepoint of its own, within one
 * transaction for all; after its one sync the last version is published and all are
 * answered. A store without a thread does the same when store_turn is called.
 *
 * On a shared database the batch begins with the change log's lock (follow.h), and is run
 * again when the connection breaks. A commit that was not answered is looked up in the
 * log before that, so that nothing is done twice. */
#include "store/follow.h"
#include <errno.h>

#define BATCH_TRIES 4

static void
batch_rollback(struct store *store)
{
    struct err ignored;
    (void)session_exec(store->session, "ROLLBACK", &ignored);
}

static void
request_run(struct store *store, struct request *r, struct txn *txn,
            struct batch *batch)
{
    txn_init(txn, store, r->arena, batch->tip);
    txn->writable = true;
    txn->session = store->session;
    txn->batch = batch;
    err_clear(&r->err);
    bool ok = r->fn(txn, r->ctx, &r->err);
    struct err why;
    err_clear(&why);
    if (!txn_settle(txn, ok, &why)) {
        r->err = why;
        ok = false;
    }
    if (!ok && r->err.code == ERR_NONE) {
        err_set(&r->err, ERR_INTERNAL, "a transaction failed without saying why");
    } else if (ok) {
        err_clear(&r->err);
    }
}

static void
request_answer(struct store *store, struct request *r)
{
    if (r->done) {
        r->done(r->ctx, &r->err);
        free(r);
        return;
    }
    pthread_mutex_lock(&store->lock);
    r->finished = true; /* It lies on the waiter's stack: gone once the lock is. */
    pthread_cond_signal(&r->wakes);
    pthread_mutex_unlock(&store->lock);
}

/* Commits the database's part of the batch, and with it a new master key. */
static bool
batch_commit(struct store *store, const struct request *first, struct err *err)
{
    bool rekeys = first->alone && first->committed;
    if (rekeys) {
        pthread_rwlock_wrlock(&store->vault_lock);
    }
    bool ok = session_exec(store->session, "COMMIT", err);
    if (!ok) {
        batch_rollback(store);
    } else if (rekeys && first->err.code == ERR_NONE) {
        first->committed(store, first->ctx);
    }
    if (rekeys) {
        pthread_rwlock_unlock(&store->vault_lock);
    }
    return ok;
}

/* Runs every function, each on what the one before left. False: all is lost. */
static bool
batch_requests(struct store *store, struct request *first, struct txn *txns,
               struct batch *batch, struct err *err)
{
    size_t i = 0;
    for (struct request *r = first; r && !batch->lost; r = r->next, i++) {
        request_run(store, r, &txns[i], batch);
        if (batch->lost) {
            *err = r->err;
        }
    }
    return !batch->lost;
}

/* The only writer there is. */
static bool
batch_alone(struct store *store, struct request *first, struct txn *txns,
            struct err *err)
{
    struct batch batch = {.tip = image_pin(store->image)};
    bool ok = batch_requests(store, first, txns, &batch, err) &&
              (!batch.began || batch_commit(store, first, err));
    if (ok) {
        image_publish(store->image, batch.tip);
    }
    version_unpin(batch.tip);
    image_collect(store->image);
    return ok;
}

/* What an earlier try of the same batch left open: a commit that was not answered. */
struct doubt {
    int64_t seq; /* 0: none. */
};

/* One writer among others: 'turn' is held from follow_enter on. */
static bool
batch_entered(struct store *store, struct request *first, struct txn *txns,
              size_t count, int64_t *head, struct doubt *doubt, struct err *err)
{
    struct batch batch = {.tip = image_pin(store->image), .began = true};
    bool rekeyed = first->alone && first->committed;
    bool ok = batch_requests(store, first, txns, &batch, err);
    if (ok && (batch.changed || rekeyed)) {
        int64_t seq = *head + 1;
        ok = follow_append(store, store->session, seq, txns, count, rekeyed, err);
        doubt->seq = ok ? seq : 0;
        ok = ok && batch_commit(store, first, err);
        if (ok) {
            image_publish(store->image, batch.tip);
            *head = seq;
        }
        if (ok || err->code != ERR_GONE) {
            doubt->seq = 0;
        }
    } else {
        batch_rollback(store);
    }
    version_unpin(batch.tip);
    image_collect(store->image);
    return ok;
}

static bool
batch_shared(struct store *store, struct request *first, struct txn *txns, size_t count,
             struct doubt *doubt, struct err *err)
{
    int64_t head;
    if (!follow_enter(store, &store->session, &head, err)) {
        return false;
    }
    bool done = false;
    bool ok =
        !doubt->seq || follow_is_ours(store, store->session, doubt->seq, &done, err);
    if (!ok || done) {
        batch_rollback(store);
    } else {
        doubt->seq = 0;
        for (size_t i = 0; i < count; i++) {
            txn_fini(&txns[i]);
        }
        ok = batch_entered(store, first, txns, count, &head, doubt, err);
    }
    follow_leave(store, head);
    return ok;
}

static bool
batch_try(struct store *store, struct request *first, struct txn *txns, size_t count,
          struct err *err)
{
    struct doubt doubt = {0};
    if (!store->follow) {
        return batch_alone(store, first, txns, err);
    }
    for (unsigned tries = 1;; tries++) {
        if (batch_shared(store, first, txns, count, &doubt, err)) {
            return true;
        }
        bool again = err->code == ERR_GONE || err->code == ERR_CONFLICT;
        if (!again || tries == BATCH_TRIES) {
            return doubt.seq ? err_wrap(err, "perhaps done, perhaps not") : false;
        }
    }
}

struct store_counts
store_counts(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    struct store_counts counts = store->counts;
    pthread_mutex_unlock(&store->lock);
    return counts;
}

static void
count_batch(struct store *store, const struct store_counts *add)
{
    pthread_mutex_lock(&store->lock);
    store->counts.commits += add->rows > 0;
    store->counts.transactions += add->transactions;
    store->counts.rows += add->rows;
    pthread_mutex_unlock(&store->lock);
}

static void
batch_run(struct store *store, struct request *first, size_t count)
{
    struct txn *txns = xcalloc(count, sizeof *txns);
    struct err err;
    err_clear(&err);
    bool ok = batch_try(store, first, txns, count, &err);
    struct store_counts counts = {0};
    for (size_t k = 0; ok && k < count; k++) {
        counts.transactions += txns[k].changes.count > 0;
        counts.rows += txns[k].changes.count;
    }
    count_batch(store, &counts);
    size_t i = 0;
    for (struct request *r = first, *next; r; r = next, i++) {
        next = r->next;
        if (!ok && (r->err.code == ERR_NONE || store->follow)) {
            r->err = err;
        } else if (r->err.code == ERR_NONE) {
            store_tell(store, txns[i].changes.items, txns[i].changes.count);
        }
        txn_fini(&txns[i]);
        request_answer(store, r);
    }
    free(txns);
}

/* Takes what waits: at most 'limit', up to a request that must be alone, or that one.
 * NULL: closing, or, without a thread, nothing waits. */
static struct request *
batch_take(struct store *store, size_t limit, size_t *out_count)
{
    pthread_mutex_lock(&store->lock);
    while (!store->first && !store->closing && store->writer_runs) {
        pthread_cond_wait(&store->work, &store->lock);
    }
    struct request *first = store->first, **end = &store->first;
    size_t count = 0;
    while (*end && count < limit && (count == 0 || (!(*end)->alone && !first->alone))) {
        end = &(*end)->next;
        count++;
    }
    struct request *rest = *end;
    if (first) {
        *end = NULL;
    }
    store->first = rest;
    if (!rest) {
        store->last = &store->first;
    }
    pthread_mutex_unlock(&store->lock);
    *out_count = count;
    return first;
}

static void *
writer_main(void *ctx)
{
    struct store *store = ctx;
    size_t count;
    struct request *first;
    while ((first = batch_take(store, SIZE_MAX, &count)) != NULL) {
        batch_run(store, first, count);
    }
    return NULL;
}

bool
store_turn(struct store *store, size_t limit)
{
    size_t count;
    struct request *first = batch_take(store, limit ? limit : SIZE_MAX, &count);
    if (first) {
        batch_run(store, first, count);
    }
    return store->first != NULL;
}

bool
writer_start(struct store *store, struct err *err)
{
    store->last = &store->first;
    if (store->wake) {
        return true;
    }
    store->writer_runs = true; /* Before it looks. */
    int rc = pthread_create(&store->writer, NULL, writer_main, store);
    if (rc != 0) {
        store->writer_runs = false;
        return err_sys(err, rc, "starting the store's writer");
    }
    (void)pthread_setname_np(store->writer, "store-writer");
    return true;
}

static void
drop_waiting(struct store *store)
{
    for (struct request *r = store->first, *next; r; r = next) {
        next = r->next;
        free(r);
    }
    store->first = NULL;
}

void
writer_stop(struct store *store)
{
    if (!store->writer_runs) {
        drop_waiting(store);
        return;
    }
    pthread_mutex_lock(&store->lock);
    store->closing = true;
    pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->lock);
    (void)pthread_join(store->writer, NULL);
    store->writer_runs = false;
}

static void
enqueue(struct store *store, struct request *r)
{
    r->next = NULL;
    *store->last = r;
    store->last = &r->next;
    pthread_cond_signal(&store->work);
}

bool
writer_run(struct store *store, struct request *r, struct err *err)
{
    pthread_cond_init(&r->wakes, NULL);
    pthread_mutex_lock(&store->lock);
    enqueue(store, r);
    while (!r->finished && store->writer_runs) {
        pthread_cond_wait(&r->wakes, &store->lock);
    }
    pthread_mutex_unlock(&store->lock);
    while (!r->finished) { /* Without a thread. */
        (void)store_turn(store, 0);
    }
    pthread_cond_destroy(&r->wakes);
    if (r->err.code != ERR_NONE) {
        *err = r->err;
        return false;
    }
    return true;
}

bool
store_write(struct store *store, struct arena *arena, txn_fn *fn, void *ctx,
            struct err *err)
{
    struct request r = {.fn = fn, .ctx = ctx, .arena = arena};
    return writer_run(store, &r, err);
}

void
store_write_async(struct store *store, struct arena *arena, txn_fn *fn,
                  store_done_fn *done, void *ctx)
{
    struct request *r = xcalloc(1, sizeof *r);
    *r = (struct request){.fn = fn, .ctx = ctx, .arena = arena, .done = done};
    pthread_mutex_lock(&store->lock);
    enqueue(store, r);
    pthread_mutex_unlock(&store->lock);
    if (store->wake) {
        store->wake(store->wake_ctx);
    }
}
