/* follow.c - see follow.h.
 *
 * Two locks order everything. The database's, on the log's head, makes writers of all
 * processes take turns. 'turn', in memory, is held by whoever changes the image: the
 * writer from the moment it has the first, or the follower. Nobody waits for the first
 * while holding the second. */
#include "store/follow.h"
#include "base/crypto.h"
#include "base/log.h"
#include "store/changelog.h"
#include <errno.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>

#define LOOK_EVERY_MS 1000 /* Also without news. */
#define RETRY_FIRST_MS 100
#define RETRY_LAST_MS 2000
#define FRESH_WAIT_S 20
#define CONNECT_TRIES 3
#define PATIENCE_S 2 /* A connection that is cut and can be had again is no outage. */

struct follow {
    char origin[17]; /* Tells this process's commits apart. */
    pthread_t thread;
    bool runs;
    int wake_fd;
    atomic_bool closing;
    struct session *own;

    pthread_mutex_t turn;
    int64_t applied; /* The commit that the image has: changed under both locks. */

    pthread_mutex_t lock; /* Guards all that follows. */
    pthread_cond_t moved;
    bool down;              /* Nobody but the follower connects... */
    struct timespec hope;   /* ...and until then the others wait for it. */
    struct session *asking; /* Of whoever asks for the head. */
    bool asks;
    uint64_t begun, ended; /* Questions. */
    int64_t head;          /* The last answer... */
    struct err why;        /* ...or why there was none. */
};

static void
follower_wake(struct follow *f)
{
    uint64_t one = 1;
    (void)!write(f->wake_fd, &one, sizeof one);
}

static struct session *
connect_once(struct store *store, struct err *err)
{
    return session_open(store->driver, store->where, store->table_count, &store->vault,
                        err);
}

static void
set_down(struct follow *f, bool down)
{
    pthread_mutex_lock(&f->lock);
    if (down && !f->down) {
        (void)clock_gettime(CLOCK_MONOTONIC, &f->hope);
        f->hope.tv_sec += PATIENCE_S;
    }
    if (f->down != down) {
        f->down = down;
        pthread_cond_broadcast(&f->moved);
    }
    pthread_mutex_unlock(&f->lock);
}

/* Whether the database is not away, or comes back while there is hope. */
static bool
wait_up(struct follow *f, struct err *err)
{
    pthread_mutex_lock(&f->lock);
    while (f->down &&
           pthread_cond_timedwait(&f->moved, &f->lock, &f->hope) != ETIMEDOUT) {
    }
    bool up = !f->down;
    pthread_mutex_unlock(&f->lock);
    return up ||
           err_set(err, ERR_GONE, "the database is away; it is being tried again");
}

struct session *
follow_session(struct store *store, struct err *err)
{
    struct follow *f = store->follow;
    if (!f) {
        return connect_once(store, err);
    }
    for (unsigned tries = 1; wait_up(f, err); tries++) {
        struct session *s = connect_once(store, err);
        if (s || err->code != ERR_GONE || tries == CONNECT_TRIES) {
            return s;
        }
        set_down(f, true);
        follower_wake(f);
    }
    return NULL;
}

/* Makes '*session' one that is alive. */
static bool
revive(struct store *store, struct session **session, struct err *err)
{
    if (*session && (*session)->conn->driver->alive((*session)->conn)) {
        return true;
    }
    session_close(*session);
    *session = follow_session(store, err);
    return *session != NULL;
}

/* ---- catching up: with 'turn' held, in a transaction that sees one state ------------- */

/* Others' changes, for the watchers. */
struct news {
    struct arena *arena; /* NULL: none. */
    VEC(struct change) changes;
};

static struct arena *
news_arena(struct news *news)
{
    if (!news->arena) {
        news->arena = arena_create();
    }
    return news->arena;
}

static void
news_tell(struct store *store, struct news *news)
{
    store_tell(store, news->changes.items, news->changes.count);
    VEC_FREE(&news->changes);
    arena_destroy(news->arena);
    news->arena = NULL;
}

static void
set_applied(struct follow *f, int64_t head)
{
    pthread_mutex_lock(&f->lock);
    f->applied = head;
    pthread_cond_broadcast(&f->moved);
    pthread_mutex_unlock(&f->lock);
}

static bool
load_row(void *ctx, const struct table *table, const void *row, struct err *err UNUSED)
{
    const void *old;
    (void)version_put(ctx, table, row, &old);
    return true;
}

static void
note_all(struct version *v, struct store *store, struct news *news)
{
    struct arena *arena = news_arena(news);
    struct row_query all = {0};
    for (size_t i = 0; i < store->table_count; i++) {
        const struct table *table = &store->tables[i];
        struct row_list list = {0};
        if (table->hot) {
            version_list(v, table, &all, arena, &list);
        }
        for (size_t r = 0; r < list.count; r++) {
            VEC_PUSH(&news->changes,
                     ((struct change){.table = table, .row = list.rows[r]}));
        }
    }
    version_pin(v);
    arena_defer(arena, version_unpin, v);
}

/* Reads everything. All that was, and all that is, counts as changed. */
static bool
load_all(struct store *store, struct session *session, struct news *news,
         struct err *err)
{
    struct version *full = version_blank(store->image);
    bool ok = true;
    for (size_t i = 0; ok && i < store->table_count; i++) {
        const struct table *table = &store->tables[i];
        ok = !table->hot || session_scan(session, table, load_row, full, err);
    }
    if (ok && news) {
        struct version *old = image_pin(store->image);
        note_all(old, store, news);
        note_all(full, store, news);
        version_unpin(old);
    }
    if (ok) {
        image_publish(store->image, full);
    }
    version_unpin(full);
    return ok;
}

static const struct table *
table_named(const struct store *store, const char *name)
{
    for (size_t i = 0; name && i < store->table_count; i++) {
        if (str_eq(store->tables[i].type->name, name)) {
            return &store->tables[i];
        }
    }
    return NULL;
}

/* Keys of changed rows by table, each once. */
struct stale {
    VEC(const void *) * keys; /* By table id. */
    struct map *seen;
    bool rekeyed;
};

static void
stale_add(struct stale *stale, const struct store *store,
          const struct own_log_change *change, struct arena *arena)
{
    static char present;
    const struct table *table = table_named(store, change->table);
    stale->rekeyed |= table && table == store_meta(store);
    const void *key = table && table->hot ? changelog_key(table, change, arena) : NULL;
    AUTO(buf) struct buf name = {0};
    if (!key) {
        return; /* A table of a newer program: not ours to keep. */
    }
    buf_puts(&name, change->table);
    for (size_t i = 0; i < change->key.count; i++) {
        buf_printf(&name, "\n%s", change->key.items[i]);
    }
    if (!map_get(stale->seen, buf_str(&name))) {
        map_put(stale->seen, buf_str(&name), &present);
        VEC_PUSH(&stale->keys[table->type->id], key);
    }
}

/* Brings 'count' rows of one table to what the database has. */
static bool
renew_rows(struct session *session, const struct table *table, const void *const *keys,
           size_t count, struct version *v, struct arena *arena, struct err *err)
{
    const struct order *order = &table->orders[0];
    struct row_list rows;
    if (!session_get_many(session, table, keys, count, arena, &rows, err)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const void *found = NULL, *old;
        for (size_t r = 0; r < rows.count && !found; r++) {
            if (order_compare(order, order->count, rows.rows[r], keys[i]) == 0) {
                found = rows.rows[r];
            }
        }
        if (found) {
            (void)version_put(v, table, found, &old);
        } else {
            (void)version_del(v, table, keys[i]);
        }
    }
    return true;
}

static bool
renew_all(struct store *store, struct session *session, const struct stale *stale,
          struct news *news, struct err *err)
{
    struct version *base = image_pin(store->image);
    struct version *v = version_fork(base);
    AUTO(arena) struct arena *scratch = arena_create();
    version_unpin(base);
    bool ok = true;
    for (size_t t = 0; ok && t < store->table_count; t++) {
        const struct table *table = &store->tables[t];
        size_t count = stale->keys[t].count;
        for (size_t i = 0; ok && i < count; i += SESSION_MANY_MAX) {
            ok = renew_rows(session, table, stale->keys[t].items + i,
                            MIN(count - i, SESSION_MANY_MAX), v, scratch, err);
            arena_reset(scratch);
        }
        for (size_t i = 0; ok && i < count; i++) {
            struct change c = {.table = table, .row = stale->keys[t].items[i]};
            VEC_PUSH(&news->changes, c);
        }
    }
    if (ok) {
        image_publish(store->image, v);
    }
    version_unpin(v);
    return ok;
}

/* Another process sealed everything under a new key: this one can read no secret and
 * must write none. */
static bool
check_key(struct store *store, struct session *session, struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    const void *row;
    return session_get(session, store_meta(store),
                       &(struct own_store_meta){.name = "schema"}, arena, &row, err) ||
           err_set(err, ERR_DENIED,
                   "the master key was changed by another control process: start this "
                   "one again with the new key");
}

static bool
catch_up_to(struct store *store, struct session *session, int64_t head,
            struct news *news, struct err *err)
{
    struct follow *f = store->follow;
    struct row_list commits;
    if (!changelog_read(session, store_log(store), f->applied, news_arena(news),
                        &commits, err)) {
        return false;
    }
    bool ok;
    if (head - f->applied != (int64_t)commits.count) {
        log_warn("store: the change log does not reach back to %" PRId64
                 "; reading everything",
                 f->applied);
        ok = check_key(store, session, err) && load_all(store, session, news, err);
    } else {
        struct stale stale = {.seen = map_create(NULL)};
        stale.keys = xcalloc(store->table_count, sizeof *stale.keys);
        for (size_t i = 0; i < commits.count; i++) {
            const struct own_store_log *commit = commits.rows[i];
            for (size_t c = 0; c < commit->changes.count; c++) {
                stale_add(&stale, store, &commit->changes.items[c], news->arena);
            }
        }
        ok = (!stale.rekeyed || check_key(store, session, err)) &&
             renew_all(store, session, &stale, news, err);
        for (size_t i = 0; i < store->table_count; i++) {
            VEC_FREE(&stale.keys[i]);
        }
        free(stale.keys);
        map_destroy(stale.seen);
    }
    if (ok) {
        set_applied(f, head);
    }
    image_collect(store->image);
    return ok;
}

static bool
catch_up(struct store *store, struct session *session, int64_t head, struct err *err)
{
    struct news news = {0};
    bool ok =
        head == store->follow->applied || catch_up_to(store, session, head, &news, err);
    news_tell(store, &news);
    return ok;
}

/* ---- the writer ---------------------------------------------------------------------- */

bool
follow_enter(struct store *store, struct session **session, int64_t *out_head,
             struct err *err)
{
    struct err ignored;
    int64_t head;
    if (!revive(store, session, err)) {
        return false;
    }
    bool ok = changelog_lock(*session, &head, err);
    if (ok) {
        pthread_mutex_lock(&store->follow->turn);
        ok = catch_up(store, *session, head, err);
        if (!ok) {
            pthread_mutex_unlock(&store->follow->turn);
        }
    }
    if (!ok) {
        (void)session_exec(*session, "ROLLBACK", &ignored);
        return false;
    }
    *out_head = head;
    return true;
}

void
follow_leave(struct store *store, int64_t head)
{
    set_applied(store->follow, head);
    pthread_mutex_unlock(&store->follow->turn);
}

bool
follow_append(struct store *store, struct session *session, int64_t seq,
              const struct txn *txns, size_t count, bool rekeyed, struct err *err)
{
    struct arena *arena = store->scratch;
    VEC(struct own_log_change) changes = {0};
    for (size_t t = 0; t < count; t++) {
        for (size_t i = 0; i < txns[t].changes.count; i++) {
            const struct change *c = &txns[t].changes.items[i];
            if (c->table->hot) {
                VEC_PUSH(&changes, changelog_change(c->table, c->row, arena));
            }
        }
    }
    if (rekeyed) {
        VEC_PUSH(&changes,
                 changelog_change(store_meta(store),
                                  &(struct own_store_meta){.name = "schema"}, arena));
    }
    struct own_store_log row = {.seq = seq,
                                .at = clock_real(store->clock),
                                .origin = store->follow->origin,
                                .changes = {changes.items, changes.count}};
    bool ok = changelog_append(session, store_log(store), &row, arena, err);
    VEC_FREE(&changes);
    arena_reset(arena);
    return ok;
}

bool
follow_is_ours(struct store *store, struct session *session, int64_t seq, bool *out,
               struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    const void *row;
    if (!session_get(session, store_log(store), &(struct own_store_log){.seq = seq},
                     arena, &row, err)) {
        return false;
    }
    const struct own_store_log *commit = row;
    *out = commit && str_eq(commit->origin, store->follow->origin);
    return true;
}

/* ---- readers ------------------------------------------------------------------------- */

/* Asks for the head on behalf of all who wait. Without the lock. */
static bool
ask_head(struct store *store, int64_t *out, struct err *err)
{
    struct follow *f = store->follow;
    for (unsigned tries = 0;; tries++) {
        if (!revive(store, &f->asking, err)) {
            return false;
        }
        if (changelog_head(f->asking, out, err)) {
            return true;
        }
        if (tries || f->asking->conn->driver->alive(f->asking->conn)) {
            return false;
        }
    }
}

/* With the lock held: an answer to a question that was asked after the call. */
static bool
wait_answer(struct store *store, int64_t *out, struct err *err)
{
    struct follow *f = store->follow;
    for (uint64_t mine = f->begun + 1; f->ended < mine;) {
        if (f->asks) {
            pthread_cond_wait(&f->moved, &f->lock);
            continue;
        }
        struct err why;
        int64_t head = 0;
        f->asks = true;
        f->begun++;
        pthread_mutex_unlock(&f->lock);
        if (ask_head(store, &head, &why)) {
            err_clear(&why);
        }
        pthread_mutex_lock(&f->lock);
        f->asks = false;
        f->ended = f->begun;
        f->head = head;
        f->why = why;
        pthread_cond_broadcast(&f->moved);
    }
    if (f->why.code != ERR_NONE) {
        *err = f->why;
        return false;
    }
    *out = f->head;
    return true;
}

bool
follow_fresh(struct store *store, struct err *err)
{
    struct follow *f = store->follow;
    struct timespec until;
    int64_t head = 0;
    pthread_mutex_lock(&f->lock);
    bool ok = wait_answer(store, &head, err);
    if (ok && f->applied < head) {
        follower_wake(f);
        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += FRESH_WAIT_S;
    }
    while (ok && f->applied < head) {
        if (pthread_cond_timedwait(&f->moved, &f->lock, &until) == ETIMEDOUT) {
            ok = err_set(err, ERR_GONE, "the database has changes that cannot be read");
        }
    }
    pthread_mutex_unlock(&f->lock);
    return ok;
}

/* ---- the follower -------------------------------------------------------------------- */

/* One look at the log. */
static bool
look(struct store *store, struct session *session, struct err *err)
{
    struct follow *f = store->follow;
    struct err ignored;
    int64_t head;
    if (!session_exec(session, store->driver->begin_read, err)) {
        return false;
    }
    bool ok = changelog_head(session, &head, err);
    if (ok) {
        pthread_mutex_lock(&f->turn);
        pthread_rwlock_rdlock(&store->vault_lock); /* After 'turn', as the writer. */
        ok = head <= f->applied || catch_up(store, session, head, err);
        pthread_rwlock_unlock(&store->vault_lock);
        pthread_mutex_unlock(&f->turn);
    }
    (void)session_exec(session, "ROLLBACK", &ignored);
    return ok;
}

/* A connection that listens, and everything since the last one looked at. */
static bool
reach(struct store *store, struct err *err)
{
    struct follow *f = store->follow;
    session_close(f->own);
    f->own = session_open(store->driver, store->where, store->table_count,
                          &store->vault, err);
    return f->own && store->driver->listen(f->own->conn, CHANGELOG_CHANNEL, err) &&
           look(store, f->own, err);
}

static void
rest(struct follow *f, int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    if (!atomic_load(&f->closing)) {
        (void)nanosleep(&t, NULL);
    }
}

static void *
follower_main(void *ctx)
{
    struct store *store = ctx;
    struct follow *f = store->follow;
    const struct sql_driver *driver = store->driver;
    int64_t wait_ms = RETRY_FIRST_MS;
    struct err err;
    while (!atomic_load(&f->closing)) {
        uint64_t wakes;
        bool here = f->own && driver->alive(f->own->conn);
        bool ok = here ? driver->await(f->own->conn, f->wake_fd, LOOK_EVERY_MS, &err) &&
                             (read(f->wake_fd, &wakes, sizeof wakes), true) &&
                             look(store, f->own, &err)
                       : reach(store, &err);
        if (!ok && wait_ms == RETRY_FIRST_MS) {
            log_warn("store: %s", err.msg);
        }
        if (!ok) {
            session_close(take_session(&f->own));
            rest(f, wait_ms);
            wait_ms = MIN(wait_ms * 2, RETRY_LAST_MS);
            continue;
        }
        if (!here) {
            log_info("store: following the database");
        }
        wait_ms = RETRY_FIRST_MS;
        set_down(f, false);
    }
    return NULL;
}

/* The rows and the head of one and the same state. */
static bool
load(struct store *store, struct err *err)
{
    struct err ignored;
    int64_t head;
    bool ok = session_exec(store->session, store->driver->begin_read, err) &&
              changelog_head(store->session, &head, err) &&
              load_all(store, store->session, NULL, err);
    (void)session_exec(store->session, "ROLLBACK", &ignored);
    if (ok) {
        set_applied(store->follow, head);
        image_collect(store->image);
    }
    return ok;
}

bool
follow_start(struct store *store, struct err *err)
{
    struct follow *f = xcalloc(1, sizeof *f);
    uint8_t random[8];
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&f->moved, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&f->lock, NULL);
    pthread_mutex_init(&f->turn, NULL);
    store->vault.rng->fill(store->vault.rng->ctx, random, sizeof random);
    hex_encode(random, sizeof random, f->origin);
    store->follow = f;
    f->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (f->wake_fd < 0) {
        return err_sys(err, errno, "eventfd");
    }
    if (!load(store, err)) {
        return false;
    }
    int rc = pthread_create(&f->thread, NULL, follower_main, store);
    if (rc != 0) {
        return err_sys(err, rc, "starting the store's follower");
    }
    (void)pthread_setname_np(f->thread, "store-follower");
    f->runs = true;
    return true;
}

void
follow_stop(struct store *store)
{
    struct follow *f = store->follow;
    if (!f) {
        return;
    }
    atomic_store(&f->closing, true);
    if (f->runs) {
        follower_wake(f);
        (void)pthread_join(f->thread, NULL);
    }
    session_close(f->own);
    session_close(f->asking);
    auto_fd(&f->wake_fd);
    pthread_mutex_destroy(&f->lock);
    pthread_mutex_destroy(&f->turn);
    pthread_cond_destroy(&f->moved);
    free(f);
    store->follow = NULL;
}
