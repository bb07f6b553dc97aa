/* catch_up.c - see catch_up.h. */
#include "store/catch_up.h"
#include "base/log.h"
#include "store/changelog.h"
#include "store/follow.h"

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
    int64_t applied = follow_applied(store);
    struct row_list commits;
    if (!changelog_read(session, store_log(store), applied, news_arena(news), &commits,
                        err)) {
        return false;
    }
    bool ok;
    if (head - applied != (int64_t)commits.count) {
        log_warn("store: the change log does not reach back to %" PRId64
                 "; reading everything",
                 applied);
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
        pthread_mutex_lock(&store->lock);
        store->breaks++; /* What ran ahead did not know of this. */
        pthread_mutex_unlock(&store->lock);
        follow_set_applied(store, head);
    }
    image_collect(store->image);
    return ok;
}

bool
catch_up(struct store *store, struct session *session, int64_t head, struct err *err)
{
    struct news news = {0};
    if (head == follow_applied(store)) {
        return true;
    }
    pthread_mutex_lock(&store->hands);
    bool ok = catch_up_to(store, session, head, &news, err);
    news_tell(store, &news);
    pthread_mutex_unlock(&store->hands);
    return ok;
}

bool
catch_up_load(struct store *store, struct session *session, struct err *err)
{
    return load_all(store, session, NULL, err);
}
