/* follow.c - see follow.h.
 *
 * Three locks order everything. The database's, on the log's head, makes writers of all
 * processes take turns. 'turn', in memory, is held by whoever moves the image: who commits,
 * from the moment he has the first, or the follower. 'hands' (inside.h) is held by whoever
 * changes the image's trees: who takes in what others committed, or the writer while it
 * runs ahead. They are taken in this order, but by who bets (follow_enter_at_once), and the
 * last is held over no wait for the database's. */
#include "store/follow.h"
#include "base/crypto.h"
#include "base/log.h"
#include "store/catch_up.h"
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
    if (!f || store->wake) {
        return connect_once(store, err); /* Nobody else would do it. */
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

int64_t
follow_applied(const struct store *store)
{
    return store->follow->applied;
}

void
follow_set_applied(struct store *store, int64_t head)
{
    struct follow *f = store->follow;
    pthread_mutex_lock(&f->lock);
    f->applied = head;
    pthread_cond_broadcast(&f->moved);
    pthread_mutex_unlock(&f->lock);
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

/* Who waits for the database's lock in this holds 'turn' already. He is waited for by the
 * follower alone, which holds nothing that others wait for. */
bool
follow_enter_at_once(struct store *store, struct session **session, int64_t *out_head,
                     struct err *err)
{
    if (!revive(store, session, err)) {
        return false;
    }
    pthread_mutex_lock(&store->follow->turn);
    int64_t head = store->follow->applied;
    if (!changelog_expect(*session, head, err)) {
        struct err ignored;
        pthread_mutex_unlock(&store->follow->turn);
        (void)session_exec(*session, "ROLLBACK", &ignored);
        return false;
    }
    *out_head = head;
    return true;
}

void
follow_leave(struct store *store, int64_t head)
{
    follow_set_applied(store, head);
    pthread_mutex_unlock(&store->follow->turn);
}

bool
follow_append(struct store *store, struct session *session, int64_t seq,
              const struct batch *first, bool rekeyed, struct err *err)
{
    struct arena *arena = store->scratch;
    VEC(struct own_log_change) changes = {0};
    for (const struct batch *b = first; b; b = b->next) {
        for (size_t t = 0; t < b->count; t++) {
            for (size_t i = 0; i < b->txns[t].changes.count; i++) {
                const struct change *c = &b->txns[t].changes.items[i];
                if (c->table->hot && c->sent) {
                    VEC_PUSH(&changes, changelog_change(c->table, c->row, arena));
                }
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
    if (store->wake) {
        return follow_take_in(store, err);
    }
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

bool
follow_take_in(struct store *store, struct err *err)
{
    struct follow *f = store->follow;
    int64_t head;
    return ask_head(store, &head, err) &&
           (head <= f->applied || look(store, f->asking, err));
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
        bool ok = here ? driver->await(f->own->conn, f->origin, f->wake_fd,
                                       LOOK_EVERY_MS, &err) &&
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
              catch_up_load(store, store->session, err);
    (void)session_exec(store->session, "ROLLBACK", &ignored);
    if (ok) {
        follow_set_applied(store, head);
        image_collect(store->image);
    }
    return ok;
}

static bool
start_thread(struct store *store, struct err *err)
{
    struct follow *f = store->follow;
    int rc = pthread_create(&f->thread, NULL, follower_main, store);
    if (rc != 0) {
        return err_sys(err, rc, "starting the store's follower");
    }
    (void)pthread_setname_np(f->thread, "store-follower");
    f->runs = true;
    return true;
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
    return load(store, err) && (store->wake || start_thread(store, err));
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
