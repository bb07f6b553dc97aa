/* writer.c - the one thread that runs what writes, and its batches' beginning and end.
 *
 * A batch's functions run against its own fork of the newest version in memory, which
 * readers do not see yet; what one that fails has changed there is undone. The batch then
 * goes to the committer (commit.h), which makes it durable, publishes it and answers, while
 * the writer runs the next. A store without a thread does the same in turn when store_turn
 * is called.
 *
 * On a shared database the committer takes the change log's lock first (follow.h), and gives
 * back what it was handed when others have committed since it was run. So what runs ahead is
 * a bet that nobody else writes. While others do, and for what reads from the database
 * itself, the writer takes the lock before it runs a batch, and commits it here.
 * A commit that was not answered is looked up in the log before it is tried again, so that
 * nothing is done twice. */
#include "store/commit.h"
#include "store/follow.h"
#include <errno.h>

#define LATER_AT_ONCE 16 /* Where a batch is not all that is committed together. */

/* With the lock held: whether batches run before their turn. On a shared database while
 * nobody else has written since the last but one turn that was waited for. */
static bool
runs_ahead(const struct store *store)
{
    return store->committer_runs &&
           (!store->follow || (store->calm && store->turn_breaks == store->breaks));
}

/* ---- a batch ---------------------------------------------------------------------- */

static struct batch *
batch_create(struct request *first, size_t count)
{
    struct batch *batch = xcalloc(1, sizeof *batch);
    batch->first = first;
    batch->count = count;
    batch->txns = xcalloc(count, sizeof *batch->txns);
    return batch;
}

/* Back to how it was made. */
static void
batch_reset(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        txn_fini(&batch->txns[i]);
        batch->txns[i] = (struct txn){0};
    }
    if (batch->tip) {
        version_unpin(batch->tip);
        batch->tip = NULL;
    }
    batch->forked = batch->began = batch->changed = batch->lost = false;
}

void
batch_destroy(struct batch *batch)
{
    batch_reset(batch);
    free(batch->txns);
    free(batch);
}

static void
roll_back(struct store *store)
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
    txn->session = store->follow && !batch->began ? NULL : store->session;
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

/* Runs every function, each on what the one before left, from 'base' (pinned by this) on.
 * False: all is lost. */
static bool
batch_run(struct store *store, struct batch *batch, struct version *base,
          struct err *err)
{
    size_t i = 0;
    version_pin(base);
    batch->tip = base;
    for (struct request *r = batch->first; r && !batch->lost; r = r->next, i++) {
        request_run(store, r, &batch->txns[i], batch);
        if (batch->lost) {
            *err = r->err;
        }
    }
    return !batch->lost;
}

static void
count_batch(struct store *store, const struct batch *batch)
{
    struct store_counts add = {0};
    for (size_t t = 0; t < batch->count; t++) {
        const struct txn *txn = &batch->txns[t];
        add.transactions += txn->changes.count > 0;
        for (size_t i = 0; i < txn->changes.count; i++) {
            add.rows += txn->changes.items[i].sent;
        }
    }
    pthread_mutex_lock(&store->lock);
    store->counts.transactions += add.transactions;
    store->counts.rows += add.rows;
    pthread_mutex_unlock(&store->lock);
}

void
batch_end(struct store *store, struct batch *batch, bool ok, const struct err *err)
{
    size_t i = 0;
    if (ok) {
        count_batch(store, batch);
    }
    for (struct request *r = batch->first, *next; r; r = next, i++) {
        const struct txn *txn = &batch->txns[i];
        next = r->next;
        if (!ok && (r->err.code == ERR_NONE || store->follow)) {
            r->err = *err;
        } else if (r->err.code == ERR_NONE) {
            store_tell(store, txn->changes.items, txn->changes.count);
        }
        txn_fini(&batch->txns[i]);
        request_answer(store, r);
    }
    batch_destroy(batch);
}

static void
set_tip(struct store *store, struct version *tip)
{
    if (store->tip) {
        version_unpin(store->tip);
    }
    store->tip = tip;
}

/* Runs the batch on the newest version, published or not. */
static bool
batch_on_tip(struct store *store, struct batch *batch, struct err *err)
{
    if (store->tip && store->tip_breaks != batch->breaks) {
        set_tip(store, NULL); /* It stands on what was lost. */
    }
    if (!store->tip) {
        store->tip = image_pin(store->image);
        store->tip_breaks = batch->breaks;
    }
    if (!batch_run(store, batch, store->tip, err)) {
        return false;
    }
    version_pin(batch->tip);
    set_tip(store, batch->tip);
    return true;
}

/* ---- one writer among others ------------------------------------------------------- */

/* Whether others wrote since the turn before this one. */
static void
note_turn(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    store->calm = store->turn_breaks == store->breaks;
    store->turn_breaks = store->breaks;
    pthread_mutex_unlock(&store->lock);
}

/* The database's turn is held, from commit_enter on. */
static bool
batch_entered(struct store *store, struct batch *batch, int64_t *head, int64_t *doubt,
              struct err *err)
{
    struct version *base = image_pin(store->image);
    batch->began = true;
    note_turn(store);
    bool ok = batch_run(store, batch, base, err);
    version_unpin(base);
    if (ok) {
        ok = commit_entered(store, batch, head, doubt, err);
    } else {
        roll_back(store);
    }
    image_collect(store->image);
    return ok;
}

static bool
batch_shared(struct store *store, struct batch *batch, int64_t *doubt, struct err *err)
{
    int64_t head;
    bool done;
    if (!commit_enter(store, &head, doubt, &done, err)) {
        return false;
    }
    bool ok = true;
    if (!done) {
        batch_reset(batch);
        ok = batch_entered(store, batch, &head, doubt, err);
    }
    follow_leave(store, head);
    return ok;
}

static bool
batch_try(struct store *store, struct batch *batch, struct err *err)
{
    int64_t doubt = 0;
    for (unsigned tries = 1;; tries++) {
        if (batch_shared(store, batch, &doubt, err)) {
            return true;
        }
        if (!commit_again(doubt, tries, err)) {
            return false;
        }
    }
}

/* Waits for the database's turn, and only then runs. What was given back comes first. */
static void
batch_in_turn(struct store *store, struct batch *batch)
{
    struct err err;
    err_clear(&err);
    commit_settle(store);
    set_tip(store, NULL);
    if (!commit_is_next(store, batch)) {
        return;
    }
    bool ok = batch_try(store, batch, &err);
    batch_end(store, batch, ok, &err);
}

/* Runs it on what the one before left, and lets the committer take the turn. */
static void
batch_ahead(struct store *store, struct batch *batch)
{
    struct err err;
    pthread_mutex_lock(&store->hands);
    bool ok = batch_on_tip(store, batch, &err);
    image_collect(store->image);
    pthread_mutex_unlock(&store->hands);
    if (!ok) {
        commit_untell(store, batch);
        batch_reset(batch);
        batch_in_turn(store, batch);
    } else if (!commit_hand_over(store, batch)) {
        commit_settle(
            store); /* What was handed over before it is given back before it. */
        commit_untell(store, batch);
        commit_take_back(store, batch);
    }
}

/* ---- the only writer there is ------------------------------------------------------ */

/* To the committer; or, when the database gave it up under way, to an end. */
static void
batch_pass_on(struct store *store, struct batch *batch)
{
    struct err err;
    err_clear(&err);
    bool alone = batch->first->alone; /* It may change what sealing takes. */
    if (!batch_on_tip(store, batch, &err)) {
        set_tip(store, NULL);
        batch_end(store, batch, false, &err);
    } else if (commit_hand_over(store, batch)) {
        if (alone) {
            commit_settle(store);
        }
    } else {
        if (batch->began) {
            roll_back(store);
        }
        commit_take_back(store, batch);
    }
}

/* Without a thread. */
static void
batch_turn(struct store *store, struct batch *batch)
{
    struct err err;
    err_clear(&err);
    bool ok = batch_on_tip(store, batch, &err) && commit_batches(store, batch, &err);
    set_tip(store, NULL);
    image_collect(store->image);
    batch_end(store, batch, ok, &err);
}

static void
batch_do(struct store *store, struct request *first, size_t count)
{
    struct batch *batch = batch_create(first, count);
    pthread_mutex_lock(&store->lock);
    batch->breaks = store->breaks;
    bool ahead = runs_ahead(store) && !first->alone;
    pthread_mutex_unlock(&store->lock);
    if (store->follow && ahead) {
        batch_ahead(store, batch);
    } else if (store->follow) {
        batch_in_turn(store, batch);
    } else if (store->committer_runs) {
        batch_pass_on(store, batch);
        image_collect(store->image);
    } else {
        batch_turn(store, batch);
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

/* ---- the thread --------------------------------------------------------------------- */

static void
line_init(struct line *line)
{
    line->first = NULL;
    line->last = &line->first;
}

static void
line_put(struct line *line, struct request *r)
{
    r->next = NULL;
    *line->last = r;
    line->last = &r->next;
}

static struct request *
line_take(struct line *line)
{
    struct request *r = line->first;
    line->first = r->next;
    if (!line->first) {
        line->last = &line->first;
    }
    return r;
}

/* With the lock held: nothing to do, and nothing to end for either. */
static bool
must_wait(const struct store *store)
{
    return store->writer_runs && !store->again.first && !store->asked.first &&
           !store->later.first && (!store->closing || !commit_is_idle(store));
}

/* Moves at most 'limit' requests to the batch's: up to one that must be alone, or that
 * one. Returns how many. */
static size_t
move_some(struct line *from, struct line *batch, size_t limit)
{
    size_t count = 0;
    while (from->first && count < limit &&
           (!batch->first || (!from->first->alone && !batch->first->alone))) {
        line_put(batch, line_take(from));
        count++;
    }
    return count;
}

/* Takes what waits: at most 'limit' that somebody waits for, and a few others, so that
 * nobody waits for all of them. NULL: closing, or, without a thread, nothing waits. */
static struct request *
batch_take(struct store *store, size_t limit, size_t *out_count)
{
    struct line batch;
    line_init(&batch);
    pthread_mutex_lock(&store->lock);
    while (must_wait(store)) {
        store->writer_rests = true;
        pthread_cond_signal(&store->handed);
        pthread_cond_wait(&store->work, &store->lock);
    }
    store->writer_rests = false;
    size_t others = runs_ahead(store) ? LATER_AT_ONCE : SIZE_MAX;
    size_t count = move_some(&store->again, &batch, limit);
    if (!store->again.first) {
        count += move_some(&store->asked, &batch, limit - count);
        count += move_some(&store->later, &batch, MIN(limit - count, others));
    }
    pthread_mutex_unlock(&store->lock);
    *out_count = count;
    return batch.first;
}

static void *
writer_main(void *ctx)
{
    struct store *store = ctx;
    size_t count;
    struct request *first;
    while ((first = batch_take(store, SIZE_MAX, &count)) != NULL) {
        batch_do(store, first, count);
    }
    return NULL;
}

bool
store_turn(struct store *store, size_t limit)
{
    size_t count;
    struct request *first = batch_take(store, limit ? limit : SIZE_MAX, &count);
    if (first) {
        batch_do(store, first, count);
    }
    return store->asked.first != NULL;
}

bool
writer_start(struct store *store, struct err *err)
{
    line_init(&store->again);
    line_init(&store->asked);
    line_init(&store->later);
    if (!commit_start(store, err)) {
        return false;
    }
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
    while (store->asked.first) {
        free(line_take(&store->asked));
    }
}

void
writer_stop(struct store *store)
{
    if (!store->writer_runs) {
        drop_waiting(store);
    } else {
        pthread_mutex_lock(&store->lock);
        store->closing = true;
        pthread_cond_signal(&store->work);
        pthread_mutex_unlock(&store->lock);
        (void)pthread_join(store->writer, NULL);
        store->writer_runs = false;
    }
    commit_stop(store);
    set_tip(store, NULL);
}

static void
enqueue(struct store *store, struct line *line, struct request *r)
{
    line_put(line, r);
    pthread_cond_signal(&store->work);
}

bool
writer_run(struct store *store, struct request *r, struct err *err)
{
    pthread_cond_init(&r->wakes, NULL);
    pthread_mutex_lock(&store->lock);
    enqueue(store, &store->asked, r);
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
    enqueue(store, store->wake ? &store->asked : &store->later, r);
    pthread_mutex_unlock(&store->lock);
    if (store->wake) {
        store->wake(store->wake_ctx);
    }
}
