/* store.c - a store's life, and its readers. */
#include "base/crypto.h"
#include "store/follow.h"
#include "store/own.h"
#include "store/schema.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#define READ_TRIES 3

/* ---- life ------------------------------------------------------------------------ */

static const struct sql_driver *const drivers[] = {&sql_sqlite, &sql_postgres};

static const struct sql_driver *
driver_of(const char *url, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(drivers); i++) {
        if (str_starts(url, drivers[i]->scheme)) {
            return drivers[i];
        }
    }
    err_set(err, ERR_UNSUPPORTED,
            "no such kind of store: %.*s (sqlite:PATH or postgresql://...)",
            (int)strcspn(url, ":"), url);
    return NULL;
}

/* Two programs that both hold rows in memory would overwrite each other's. */
static bool
lock_database(struct store *store, struct err *err)
{
    AUTO(free) char *path = xasprintf("%s.lock", store->where);
    store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (store->lock_fd < 0) {
        return err_sys(err, errno, "opening %s", path);
    }
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK
                   ? err_set(err, ERR_BUSY, "%s is in use by another control plane",
                             store->where)
                   : err_sys(err, errno, "locking %s", path);
    }
    return true;
}

static bool
make_tables(struct store *store, const struct store_config *config, struct err *err)
{
    const struct row_type *const own[OWN_TABLES] = {
        &own_store_counter_type, &own_store_meta_type, &own_store_log_type};
    size_t count = config->type_count;
    store->table_count = count + OWN_TABLES;
    store->tables = xcalloc(store->table_count, sizeof *store->tables);
    for (size_t i = 0; i < OWN_TABLES; i++) {
        store->own_types[i] = *own[i];
        store->own_types[i].id = (uint16_t)(count + i);
    }
    for (size_t i = 0; i < store->table_count; i++) {
        const struct row_type *type =
            i < count ? config->types[i] : &store->own_types[i - count];
        if (type->id != i) {
            return err_set(err, ERR_INVALID, "table %s is out of order", type->name);
        }
        if (!table_init(&store->tables[i], type, true, err)) {
            return false;
        }
    }
    return true;
}

static bool
load_row(void *ctx, const struct table *table, const void *row, struct err *err)
{
    const void *old;
    (void)version_put(ctx, table, row, &old);
    return true;
}

/* Fills the image with what the database holds. */
static bool
load_image(struct store *store, struct err *err)
{
    struct version *full = version_blank(store->image);
    bool ok = true;
    for (size_t i = 0; ok && i < store->table_count; i++) {
        const struct table *table = &store->tables[i];
        ok = !table->hot || session_scan(store->session, table, load_row, full, err);
    }
    if (ok) {
        image_publish(store->image, full);
    }
    version_unpin(full);
    image_collect(store->image);
    return ok;
}

static bool
start(struct store *store, const struct store_config *config, struct err *err)
{
    store->driver = config->driver ? config->driver : driver_of(config->url, err);
    if (!store->driver) {
        return false;
    }
    store->where = xstrdup(config->url + strlen(store->driver->scheme));
    if ((!store->driver->shared && !lock_database(store, err)) ||
        !make_tables(store, config, err)) {
        return false;
    }
    store->session = session_open(store->driver, store->where, store->table_count,
                                  &store->vault, err);
    if (!store->session ||
        !schema_prepare(store->session, store->tables, store->table_count,
                        store_meta(store), err)) {
        return false;
    }
    store->image = image_create(store->tables, store->table_count);
    return (store->driver->shared ? follow_start(store, err)
                                  : load_image(store, err)) &&
           writer_start(store, err);
}

struct store *
store_open(const struct store_config *config, struct err *err)
{
    struct store *store = xcalloc(1, sizeof *store);
    store->lock_fd = -1;
    store->scratch = arena_create();
    store->clock = config->clock;
    store->wake = config->wake;
    store->wake_ctx = config->wake_ctx;
    store->vault.rng = config->rng;
    store->vault.has_key = config->master_key != NULL;
    if (config->master_key) {
        memcpy(store->vault.key, config->master_key, sizeof store->vault.key);
    }
    pthread_mutex_init(&store->lock, NULL);
    pthread_mutex_init(&store->watch_lock, NULL);
    pthread_mutex_init(&store->hands, NULL);
    pthread_cond_init(&store->work, NULL);
    pthread_cond_init(&store->handed, NULL);
    pthread_cond_init(&store->settled, NULL);
    pthread_cond_init(&store->flush, NULL);
    pthread_rwlock_init(&store->vault_lock, NULL);
    if (!start(store, config, err)) {
        store_close(store);
        return NULL;
    }
    return store;
}

void
store_close(struct store *store)
{
    if (!store) {
        return;
    }
    writer_stop(store);
    follow_stop(store);
    while (store->idle) {
        struct session *next = store->idle->next;
        session_close(store->idle);
        store->idle = next;
    }
    session_close(store->session);
    image_close(store->image);
    arena_destroy(store->scratch);
    for (size_t i = 0; store->tables && i < store->table_count; i++) {
        table_fini(&store->tables[i]);
    }
    free(store->tables);
    auto_fd(&store->lock_fd);
    pthread_mutex_destroy(&store->lock);
    pthread_mutex_destroy(&store->watch_lock);
    pthread_mutex_destroy(&store->hands);
    pthread_cond_destroy(&store->work);
    pthread_cond_destroy(&store->handed);
    pthread_cond_destroy(&store->settled);
    pthread_cond_destroy(&store->flush);
    pthread_rwlock_destroy(&store->vault_lock);
    explicit_bzero(&store->vault, sizeof store->vault);
    free(store->where);
    free(store);
}

bool
store_follow(struct store *store, struct err *err)
{
    return !store->follow || follow_take_in(store, err);
}

bool
store_shared(const struct store *store)
{
    return store->driver->shared;
}

/* ---- readers --------------------------------------------------------------------- */

struct session *
reader_take(struct store *store, struct err *err)
{
    pthread_mutex_lock(&store->lock);
    struct session *session = store->idle;
    if (session) {
        store->idle = session->next;
        store->idle_count--;
    }
    pthread_mutex_unlock(&store->lock);
    if (!session) {
        session = follow_session(store, err);
    }
    if (session) {
        pthread_rwlock_rdlock(&store->vault_lock); /* Until reader_return. */
    }
    return session;
}

void
reader_return(struct store *store, struct session *session)
{
    bool alive = store->driver->alive(session->conn);
    pthread_rwlock_unlock(&store->vault_lock);
    pthread_mutex_lock(&store->lock);
    if (alive && store->idle_count < IDLE_READERS_MAX) {
        session->next = store->idle;
        store->idle = session;
        store->idle_count++;
        session = NULL;
    }
    pthread_mutex_unlock(&store->lock);
    session_close(session);
}

static bool
read_once(struct store *store, struct arena *arena, txn_fn *fn, void *ctx, size_t rows,
          bool *out_spent, struct err *err)
{
    struct txn txn;
    struct version *version = image_pin(store->image);
    txn_init(&txn, store, arena, version);
    version_unpin(version);
    txn.brief = out_spent != NULL;
    txn.left = rows;
    bool ok = fn(&txn, ctx, err);
    if (out_spent) {
        *out_spent = txn.spent;
        ok = ok && !txn.spent;
    }
    txn_settle(&txn, false, err);
    txn_fini(&txn);
    return ok;
}

bool
store_read_known(struct store *store, struct arena *arena, txn_fn *fn, void *ctx,
                 struct err *err)
{
    return read_once(store, arena, fn, ctx, 0, NULL, err);
}

static bool
read_fresh(struct store *store, struct arena *arena, txn_fn *fn, void *ctx, size_t rows,
           bool *out_spent, struct err *err)
{
    for (unsigned tries = 1;; tries++) {
        if (store->follow && !follow_fresh(store, err)) {
            return false;
        }
        if (read_once(store, arena, fn, ctx, rows, out_spent, err)) {
            return true;
        }
        /* A connection that broke under a row that is not in memory. */
        bool again = err->code == ERR_GONE || err->code == ERR_CONFLICT;
        if (!store->follow || !again || tries == READ_TRIES) {
            return false;
        }
    }
}

bool
store_read(struct store *store, struct arena *arena, txn_fn *fn, void *ctx,
           struct err *err)
{
    return read_fresh(store, arena, fn, ctx, 0, NULL, err);
}

bool
store_read_brief(struct store *store, struct arena *arena, txn_fn *fn, void *ctx,
                 size_t rows, bool *out_spent, struct err *err)
{
    *out_spent = false;
    return read_fresh(store, arena, fn, ctx, rows, out_spent, err);
}

void
store_tell(struct store *store, const struct change *changes, size_t count)
{
    /* Held while they are called: after store_unwatch none is. */
    pthread_mutex_lock(&store->watch_lock);
    const struct watcher *watchers = store->watchers;
    for (size_t i = 0; i < count; i++) {
        const struct change *c = &changes[i];
        bool own = c->table->type->id >= store->table_count - OWN_TABLES;
        for (unsigned w = 0; w < store->watcher_count && !own; w++) {
            watchers[w].fn(watchers[w].ctx, c->table->type, c->row);
        }
    }
    pthread_mutex_unlock(&store->watch_lock);
}

void
store_watch(struct store *store, store_watch_fn *fn, void *ctx)
{
    pthread_mutex_lock(&store->watch_lock);
    if (store->watcher_count == WATCHERS_MAX) {
        abort();
    }
    store->watchers[store->watcher_count++] = (struct watcher){fn, ctx};
    pthread_mutex_unlock(&store->watch_lock);
}

void
store_unwatch(struct store *store, store_watch_fn *fn, void *ctx)
{
    pthread_mutex_lock(&store->watch_lock);
    for (unsigned i = 0; i < store->watcher_count; i++) {
        if (store->watchers[i].fn == fn && store->watchers[i].ctx == ctx) {
            store->watchers[i] = store->watchers[--store->watcher_count];
            break;
        }
    }
    pthread_mutex_unlock(&store->watch_lock);
}
