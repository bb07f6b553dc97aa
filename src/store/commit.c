/* commit.c - see commit.h.
 *
 * The committer only reads rows and trees of versions that batches have pinned; what
 * shares them is counted by the writer alone (image.h), and freed by it. */
#include "store/commit.h"
#include "store/flush.h"
#include "store/follow.h"
#include <time.h>

#define PILE_ROWS 256
#define ENOUGH 16 /* Transactions. */
#define JOIN_PART 8
#define JOIN_MAX_NS (2 * NS_PER_MS)
#define TRIES 4 /* Of a commit on a shared database. */

/* ---- to the database ------------------------------------------------------------- */

bool
commit_is_last(const struct version *tip, const struct change *c)
{
    if (!c->table->hot) {
        return true;
    }
    const void *now = version_get(tip, c->table, c->row);
    return c->deleted ? now == NULL : now == c->row;
}

static bool
send_change(struct store *store, struct change *c, struct err *err)
{
    c->sent = true;
    bool ok =
        session_change(store->session, c->table, c->deleted ? TABLE_DELETE : TABLE_PUT,
                       c->row, store->scratch, err);
    arena_reset(store->scratch);
    return ok;
}

bool
commit_send_cold(struct store *store, const struct txn *txn, struct err *err)
{
    for (size_t i = 0; i < txn->changes.count; i++) {
        struct change *c = &txn->changes.items[i];
        if (!c->sent && !c->table->hot && !send_change(store, c, err)) {
            return false;
        }
    }
    return true;
}

/* Rows on their way to one table, no two of them with the same key. */
struct pile {
    const void *rows[PILE_ROWS];
    size_t count;
};

static bool
pile_send(struct store *store, const struct table *table, struct pile *pile,
          struct err *err)
{
    size_t count = pile->count;
    pile->count = 0;
    bool ok = !count || session_put_many(store->session, table, pile->rows, count,
                                         store->scratch, err);
    arena_reset(store->scratch);
    return ok;
}

static bool
pile_has(const struct pile *pile, const struct table *table, const void *row)
{
    const struct order *key = &table->orders[0];
    for (size_t i = 0; i < pile->count; i++) {
        if (order_compare(key, key->count, pile->rows[i], row) == 0) {
            return true;
        }
    }
    return false;
}

/* Rows are put together; what is deleted goes one by one. Of a table in memory only the
 * last word on a row gets here; what becomes of a row of another goes in its order. */
static bool
pile_change(struct store *store, struct pile **piles, struct change *c, struct err *err)
{
    const struct table *table = c->table;
    bool put = !c->deleted && session_may_post(table, TABLE_PUT);
    struct pile **pile = &piles[table->type->id];
    if (!*pile) {
        *pile = xcalloc(1, sizeof **pile);
    }
    bool before = !table->hot && (!put || pile_has(*pile, table, c->row));
    if ((before || (*pile)->count == PILE_ROWS) &&
        !pile_send(store, table, *pile, err)) {
        return false;
    }
    if (!put) {
        return send_change(store, c, err);
    }
    c->sent = true;
    (*pile)->rows[(*pile)->count++] = c->row;
    return true;
}

typedef bool change_fn(struct store *store, struct pile **piles, struct change *c,
                       struct err *err);

static bool
change_at_once(struct store *store, struct pile **piles UNUSED, struct change *c,
               struct err *err)
{
    return send_change(store, c, err);
}

static bool
each_last_change(struct store *store, struct batch *first, change_fn *fn,
                 struct pile **piles, struct err *err)
{
    const struct version *tip = batches_tip(first);
    for (struct batch *b = first; b; b = b->next) {
        for (size_t t = 0; t < b->count; t++) {
            struct txn *txn = &b->txns[t];
            for (size_t i = 0; i < txn->changes.count; i++) {
                struct change *c = &txn->changes.items[i];
                if (!c->sent && commit_is_last(tip, c) && !fn(store, piles, c, err)) {
                    return false;
                }
            }
        }
    }
    return true;
}

bool
commit_send(struct store *store, struct batch *first, struct err *err)
{
    if (!session_puts_many(store->session)) {
        return each_last_change(store, first, change_at_once, NULL, err);
    }
    struct pile **piles = xcalloc(store->table_count, sizeof *piles);
    bool ok = each_last_change(store, first, pile_change, piles, err);
    for (size_t i = 0; i < store->table_count; i++) {
        ok = ok && (!piles[i] || pile_send(store, &store->tables[i], piles[i], err));
        free(piles[i]);
    }
    free(piles);
    return ok;
}

static void
roll_back(struct store *store)
{
    struct err ignored;
    (void)session_exec(store->session, "ROLLBACK", &ignored);
}

bool
commit_end(struct store *store, const struct request *first, struct err *err)
{
    bool rekeys = first->alone && first->committed;
    if (rekeys) {
        pthread_rwlock_wrlock(&store->vault_lock);
    }
    bool ok = session_exec(store->session, "COMMIT", err);
    if (!ok) {
        roll_back(store);
    } else if (rekeys && first->err.code == ERR_NONE) {
        first->committed(store, first->ctx);
    }
    if (rekeys) {
        pthread_rwlock_unlock(&store->vault_lock);
    }
    pthread_mutex_lock(&store->lock);
    store->counts.commits += ok;
    pthread_mutex_unlock(&store->lock);
    return ok;
}

bool
commit_batches(struct store *store, struct batch *first, struct err *err)
{
    bool changed = batches_changed(first);
    bool began =
        first->began; /* Only the first can have: the session was its writer's. */
    if (flush_failed(store, err)) {
        if (began) {
            roll_back(store);
        }
        return false;
    }
    if (!began && changed) {
        began = session_exec(store->session, store->driver->begin_write, err);
        if (!began) {
            return false;
        }
    }
    if (began && !commit_send(store, first, err)) {
        roll_back(store);
        return false;
    }
    if (began && !commit_end(store, first->first, err)) {
        return false;
    }
    if (flush_runs(store)) {
        flush_hand_over(store, first);
    } else {
        image_publish(store->image, batches_tip(first));
    }
    return true;
}

/* ---- to a database that others write too ------------------------------------------ */

bool
commit_enter(struct store *store, int64_t *out_head, int64_t *doubt, bool *out_done,
             struct err *err)
{
    *out_done = false;
    if (!follow_enter(store, &store->session, out_head, err)) {
        return false;
    }
    bool ok = !*doubt || follow_is_ours(store, store->session, *doubt, out_done, err);
    if (!ok || *out_done) {
        roll_back(store);
    }
    if (ok) {
        *doubt = 0;
    } else {
        follow_leave(store, *out_head);
    }
    return ok;
}

bool
commit_entered(struct store *store, struct batch *first, int64_t *head, int64_t *doubt,
               struct err *err)
{
    bool rekeyed = first->first->alone && first->first->committed;
    int64_t seq = *head + 1;
    bool ends = batches_changed(first) || rekeyed;
    bool ok = ends && commit_send(store, first, err) &&
              follow_append(store, store->session, seq, first, rekeyed, err);
    if (!ok) {
        roll_back(store);
        return !ends;
    }
    *doubt = seq;
    ok = commit_end(store, first->first, err);
    if (ok) {
        image_publish(store->image, batches_tip(first));
        *head = seq;
    }
    if (ok || err->code != ERR_GONE) {
        *doubt = 0;
    }
    return ok;
}

bool
commit_again(int64_t doubt, unsigned tries, struct err *err)
{
    bool again = err->code == ERR_GONE || err->code == ERR_CONFLICT;
    if (again && tries < TRIES) {
        return true;
    }
    if (doubt) {
        (void)err_wrap(err, "perhaps done, perhaps not");
    }
    return false;
}

static void
unsend(struct batch *first)
{
    for (struct batch *b = first; b; b = b->next) {
        for (size_t t = 0; t < b->count; t++) {
            for (size_t i = 0; i < b->txns[t].changes.count; i++) {
                b->txns[t].changes.items[i].sent = false;
            }
        }
    }
}

/* Whether what the batches stand on is still the last that was committed. */
static bool
overtaken(struct store *store, const struct batch *first)
{
    pthread_mutex_lock(&store->lock);
    bool over = first->breaks != store->breaks;
    pthread_mutex_unlock(&store->lock);
    return over;
}

/* In one round trip: the lock, the rows and the end of it. */
static bool
commit_at_once(struct store *store, struct batch *first, int64_t *doubt, bool *out_over,
               struct err *err)
{
    int64_t head;
    if (!follow_enter_at_once(store, &store->session, &head, err)) {
        return false;
    }
    bool ok = true;
    *out_over = overtaken(store, first);
    if (*out_over) {
        roll_back(store);
    } else {
        ok = commit_entered(store, first, &head, doubt, err);
    }
    follow_leave(store, head);
    return ok;
}

/* With the lock first, and all that others have committed. */
static bool
commit_in_turn(struct store *store, struct batch *first, int64_t *doubt, bool *out_over,
               struct err *err)
{
    int64_t head;
    bool done;
    if (!commit_enter(store, &head, doubt, &done, err)) {
        return false;
    }
    bool ok = true;
    *out_over = !done && overtaken(store, first);
    if (*out_over) {
        roll_back(store);
    } else if (!done) {
        ok = commit_entered(store, first, &head, doubt, err);
    }
    follow_leave(store, head);
    return ok;
}

/* Tries until it is known how it ended. '*out_over': others came before; nothing was
 * done. What changes nothing has no statement that would fail when it lost the bet. */
static bool
commit_shared(struct store *store, struct batch *first, bool *out_over, struct err *err)
{
    int64_t doubt = 0;
    *out_over = false;
    bool ok = batches_changed(first)
                  ? commit_at_once(store, first, &doubt, out_over, err)
                  : commit_in_turn(store, first, &doubt, out_over, err);
    for (unsigned tries = 1; !ok && commit_again(doubt, tries, err); tries++) {
        unsend(first);
        ok = commit_in_turn(store, first, &doubt, out_over, err);
    }
    return ok;
}

/* ---- the thread ------------------------------------------------------------------ */

bool
commit_is_idle(const struct store *store)
{
    return !store->ready && !store->committing && flush_is_idle(store);
}

/* With the lock held. */
static void
take_back(struct store *store, struct batch *batch)
{
    *store->again.last = batch->first;
    while (*store->again.last) {
        store->again.last = &(*store->again.last)->next;
    }
    batch_destroy(batch);
}

void
commit_take_back(struct store *store, struct batch *batch)
{
    pthread_mutex_lock(&store->lock);
    take_back(store, batch);
    pthread_mutex_unlock(&store->lock);
}

bool
commit_is_next(struct store *store, struct batch *batch)
{
    pthread_mutex_lock(&store->lock);
    bool next = store->again.first == NULL;
    if (!next) {
        take_back(store, batch);
    }
    pthread_mutex_unlock(&store->lock);
    return next;
}

/* With the lock held: what stood on a commit that failed goes back to the writer, which
 * lets go of the version that it has come to when it hands over again. */
static void
fail_ready(struct store *store)
{
    store->breaks++;
    while (store->ready) {
        struct batch *batch = store->ready;
        store->ready = batch->next;
        take_back(store, batch);
    }
    store->ready_last = &store->ready;
    store->ready_count = 0;
}

/* While a sync is under way there is time: until the writer rests, or so much has come that
 * it is worth a commit. */
static bool
may_gather(const struct store *store)
{
    return store->flushing && !store->writer_rests && store->ready_count < ENOUGH;
}

/* Takes all that waits but what must be alone; NULL: no more will come. */
static struct batch *
take_ready(struct store *store)
{
    while (!store->hand_ends && (!store->ready || may_gather(store))) {
        pthread_cond_wait(&store->handed, &store->lock);
    }
    struct batch *first = store->ready, **end = &store->ready;
    while (*end &&
           (end == &store->ready || (!(*end)->first->alone && !first->first->alone))) {
        end = &(*end)->next;
    }
    store->ready = *end;
    *end = NULL;
    if (!store->ready) {
        store->ready_last = &store->ready;
    }
    for (const struct batch *b = first; b; b = b->next) {
        store->ready_count -= b->count;
    }
    return first;
}

void
commit_untell(struct store *store, const struct batch *batch)
{
    for (size_t t = 0; t < batch->count; t++) {
        store_tell(store, batch->txns[t].changes.items, batch->txns[t].changes.count);
    }
}

/* Of a shared database: the batches, and what was handed over since. The writer waits for
 * the end of it before it runs anything else (commit_settle). */
static void
give_back(struct store *store, struct batch *first)
{
    struct batch *last = first;
    while (last->next) {
        last = last->next;
    }
    pthread_mutex_lock(&store->lock);
    last->next = store->ready;
    store->ready = NULL;
    store->ready_count = 0;
    store->ready_last = &store->ready;
    pthread_mutex_unlock(&store->lock);
    for (const struct batch *b = first; b; b = b->next) {
        commit_untell(store, b);
    }
    pthread_mutex_lock(&store->lock);
    for (struct batch *b = first, *next; b; b = next) {
        next = b->next;
        take_back(store, b);
    }
    pthread_mutex_unlock(&store->lock);
}

static void
commit_and_answer(struct store *store, struct batch *first)
{
    struct err err;
    bool over = false;
    err_clear(&err);
    bool ok = store->follow ? commit_shared(store, first, &over, &err)
                            : commit_batches(store, first, &err);
    if (over) {
        give_back(store, first);
        return;
    }
    if (ok && flush_runs(store)) {
        return;
    }
    if (!ok) {
        pthread_mutex_lock(&store->lock);
        flush_settle(store); /* The writer goes on from what is published. */
        fail_ready(store);
        pthread_mutex_unlock(&store->lock);
    }
    for (struct batch *b = first, *next; b; b = next) {
        next = b->next;
        batch_end(store, b, ok, &err);
    }
}

/* On a shared database, after a commit that others waited for the end of already: those who
 * were answered ask again in a moment. An eighth of its time is worth it, for all go together
 * then, and not in two halves that wait for one another. */
static void
let_join(int64_t took_ns)
{
    struct timespec t = {.tv_nsec = MIN(took_ns / JOIN_PART, JOIN_MAX_NS)};
    (void)nanosleep(&t, NULL);
}

static void *
committer_main(void *ctx)
{
    struct store *store = ctx;
    struct batch *first;
    pthread_mutex_lock(&store->lock);
    while ((first = take_ready(store)) != NULL) {
        store->committing = true;
        pthread_mutex_unlock(&store->lock);
        int64_t began = clock_mono(store->clock);
        commit_and_answer(store, first);
        int64_t took = clock_mono(store->clock) - began;
        pthread_mutex_lock(&store->lock);
        if (store->ready && store->follow) {
            pthread_mutex_unlock(&store->lock);
            let_join(took);
            pthread_mutex_lock(&store->lock);
        }
        store->committing = false;
        if (commit_is_idle(store)) {
            pthread_cond_broadcast(&store->settled);
            pthread_cond_signal(&store->work); /* The writer may wait to end. */
        }
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

bool
commit_hand_over(struct store *store, struct batch *batch)
{
    pthread_mutex_lock(&store->lock);
    bool ok = batch->breaks == store->breaks;
    if (ok) {
        *store->ready_last = batch;
        store->ready_last = &batch->next;
        store->ready_count += batch->count;
        pthread_cond_signal(&store->handed);
    }
    pthread_mutex_unlock(&store->lock);
    return ok;
}

void
commit_settle(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    store->writer_rests = true;
    pthread_cond_signal(&store->handed);
    while (!commit_is_idle(store)) {
        pthread_cond_wait(&store->settled, &store->lock);
    }
    store->writer_rests = false;
    pthread_mutex_unlock(&store->lock);
}

bool
commit_start(struct store *store, struct err *err)
{
    store->ready_last = &store->ready;
    if (store->wake) {
        return true;
    }
    if (!flush_start(store, err)) {
        return false;
    }
    int rc = pthread_create(&store->committer, NULL, committer_main, store);
    if (rc != 0) {
        return err_sys(err, rc, "starting the store's committer");
    }
    store->committer_runs = true;
    (void)pthread_setname_np(store->committer, "store-commit");
    return true;
}

void
commit_stop(struct store *store)
{
    if (!store->committer_runs) {
        return;
    }
    pthread_mutex_lock(&store->lock);
    store->hand_ends = true;
    pthread_cond_signal(&store->handed);
    pthread_mutex_unlock(&store->lock);
    (void)pthread_join(store->committer, NULL);
    store->committer_runs = false;
    flush_stop(store);
}
