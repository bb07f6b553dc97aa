/* pool.c - see pool.h. */
#include "core/pool.h"

#include "base/map.h"
#include <pthread.h>

#define EXPLAIN_EVERY_NS (100 * NS_PER_MS)

struct pool {
    struct store *store; /* NULL: made for one call. */
    struct placement_rules rules;
    pthread_mutex_t lock; /* Guards what follows. */
    struct placement_index *index;
    struct map *stale; /* Ids of nodes to be read anew. */
    int64_t explained_ns;
};

bool
pool_rows(struct txn *txn, const char *node_id, struct placement_rows *out,
          struct err *err)
{
    const struct row_node node = {.id = node_id};
    const struct row_node_seen seen = {.id = node_id};
    const struct row_node_claim claim = {.id = node_id};
    *out = (struct placement_rows){0};
    return row_get(txn, &row_node_type, &node, (const void **)&out->node, err) &&
           (!out->node ||
            (row_get(txn, &row_node_seen_type, &seen, (const void **)&out->seen, err) &&
             row_get(txn, &row_node_claim_type, &claim, (const void **)&out->claim,
                     err)));
}

/* Brings one node's rows into the index. */
static bool
pool_read(struct pool *pool, struct txn *txn, const char *node_id, struct err *err)
{
    struct placement_rows rows;
    if (!pool_rows(txn, node_id, &rows, err)) {
        return false;
    }
    if (!rows.node) {
        placement_index_drop(pool->index, node_id);
        return true;
    }
    struct placement_host host = placement_host_of(&rows, &pool->rules);
    placement_index_put(pool->index, &host);
    return true;
}

static void
pool_doubt(struct pool *pool, const char *node_id)
{
    map_put(pool->stale, node_id, pool);
}

static bool
pool_refresh(struct pool *pool, struct txn *txn, struct err *err)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(pool->stale, &it, &id, &value);) {
        if (!pool_read(pool, txn, id, err)) {
            return false;
        }
        map_del(pool->stale, id);
    }
    return true;
}

/* ---- life ------------------------------------------------------------------------ */

static void
on_change(void *ctx, const struct row_type *type, const void *key)
{
    struct pool *pool = ctx;
    /* Each begins with its id. */
    if (type == &row_node_type || type == &row_node_seen_type ||
        type == &row_node_claim_type) {
        pthread_mutex_lock(&pool->lock);
        pool_doubt(pool, ((const struct row_node *)key)->id);
        pthread_mutex_unlock(&pool->lock);
    }
}

static bool
read_all(struct txn *txn, void *ctx, struct err *err)
{
    struct pool *pool = ctx;
    const struct row_query query = {0};
    struct row_list list;
    if (!row_list(txn, &row_node_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (!pool_read(pool, txn, ((const struct row_node *)list.rows[i])->id, err)) {
            return false;
        }
    }
    return true;
}

static struct pool *
pool_empty(const struct cloud_config *config)
{
    struct pool *pool = xcalloc(1, sizeof *pool);
    pool->rules = placement_rules_of(config);
    pool->index = placement_index_create(config->placement_spread ? PLACEMENT_SPREAD
                                                                  : PLACEMENT_PACK);
    pool->stale = map_create(NULL);
    pthread_mutex_init(&pool->lock, NULL);
    return pool;
}

struct pool *
pool_create(struct store *store, const struct cloud_config *config, struct err *err)
{
    AUTO(pool) struct pool *pool = pool_empty(config);
    AUTO(arena) struct arena *arena = arena_create();
    pool->store = store;
    store_watch(store, on_change, pool);
    return store_read(store, arena, read_all, pool, err) ? take_pool(&pool) : NULL;
}

void
pool_destroy(struct pool *pool)
{
    if (!pool) {
        return;
    }
    if (pool->store) {
        store_unwatch(pool->store, on_change, pool);
    }
    placement_index_destroy(pool->index);
    map_destroy(pool->stale);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* ---- placing --------------------------------------------------------------------- */

/* One call's state. */
struct placing {
    struct pool *pool;
    struct txn *txn;
    struct placement_ask ask;
    struct map *read; /* Ids of hosts that this call has read, and maybe filled. */
};

/* The best host as the transaction's rows have it; NULL with success: none. */
static bool
pick_one(struct placing *p, const struct placement_host **out, struct err *err)
{
    struct placement_index *index = p->pool->index;
    for (;;) {
        const struct placement_host *host = placement_index_pick(index, &p->ask);
        if (!host || map_get(p->read, host->id)) {
            *out = host;
            return true;
        }
        const char *id = arena_strdup(txn_arena(p->txn), host->id);
        map_put(p->read, id, p);
        if (!pool_read(p->pool, p->txn, id, err)) {
            return false;
        }
        host = placement_index_host(index, id);
        if (host && placement_why(host, &p->ask) == PLACEMENT_FITS) {
            *out = host;
            return true;
        }
    }
}

/* Keeps what comes next off the last one's host, and off what fails with it. */
static void
keep_apart(void *ctx, size_t index UNUSED, const struct placement_host *last,
           struct placement_ask *ask)
{
    struct arena *arena = ctx;
    if (last) {
        placement_words_add(
            arena, &ask->avoid,
            arena_strdup(arena, str_empty(last->rack) ? last->id : last->rack));
    }
}

/* Supposes that the machine is on '*host', as the caller's rows will say. */
static struct pool_pick
take_on(struct placing *p, const struct placement_host **host)
{
    struct placement_index *index = p->pool->index;
    struct claim took = placement_claim((*host)->class, &p->ask);
    struct placement_host next = **host;
    const char *id = arena_strdup(txn_arena(p->txn), next.id);
    next.claimed.vcpus += took.vcpus;
    next.claimed.memory_bytes += took.memory_bytes;
    next.claimed.disk_bytes += took.disk_bytes;
    next.claimed.machines += took.machines;
    if (p->ask.tenancy == PLACEMENT_DEDICATED && str_empty(next.owner)) {
        next.owner = p->ask.account;
        placement_index_put(index, &next);
    } else {
        placement_index_claim(index, id, &next.claimed);
    }
    *host = placement_index_host(index, id);
    return (struct pool_pick){id, took.memory_bytes};
}

static bool
place_all(struct placing *p, pool_next_fn *next, void *ctx, size_t want,
          struct pool_pick *out, size_t *out_count, struct err *err)
{
    const struct placement_host *host = NULL;
    *out_count = 0;
    while (*out_count < want) {
        if (next) {
            next(ctx, *out_count, host, &p->ask);
        }
        if (!pick_one(p, &host, err)) {
            return false;
        }
        if (!host) {
            return true;
        }
        out[(*out_count)++] = take_on(p, &host);
    }
    return true;
}

/* What was only supposed is read anew by the next call: this transaction may fail. */
static void
placing_end(struct placing *p)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(p->read, &it, &id, &value);) {
        pool_doubt(p->pool, id);
    }
    map_destroy(p->read);
}

/* For calls that name their hosts, that have no pool, or that only read (their state may
 * be older than what the pool knows), one is made of the rows. */
static bool
pool_for_call(struct txn *txn, const struct cloud_config *config,
              const struct placement_ask *ask, struct pool **out, struct err *err)
{
    AUTO(pool) struct pool *pool = pool_empty(config);
    for (size_t i = 0; i < ask->among.count; i++) {
        if (!pool_read(pool, txn, ask->among.items[i], err)) {
            return false;
        }
    }
    if (ask->among.count == 0 && !read_all(txn, pool, err)) {
        return false;
    }
    *out = take_pool(&pool);
    return true;
}

bool
pool_place(struct pool *pool, struct txn *txn, const struct cloud_config *config,
           const struct placement_ask *ask, bool apart, size_t want,
           struct pool_pick *out, size_t *out_count, struct err *err)
{
    return pool_place_each(pool, txn, config, ask, apart ? keep_apart : NULL,
                           txn_arena(txn), want, out, out_count, err);
}

bool
pool_place_each(struct pool *pool, struct txn *txn, const struct cloud_config *config,
                const struct placement_ask *ask, pool_next_fn *next, void *ctx,
                size_t want, struct pool_pick *out, size_t *out_count, struct err *err)
{
    AUTO(pool) struct pool *own = NULL;
    if (!pool || ask->among.count > 0 || !txn_writable(txn)) {
        if (!pool_for_call(txn, config, ask, &own, err)) {
            return false;
        }
        pool = own;
    }
    struct placing p = {pool, txn, *ask, map_create(NULL)};
    pthread_mutex_lock(&pool->lock);
    bool ok = pool_refresh(pool, txn, err) &&
              place_all(&p, next, ctx, want, out, out_count, err);
    placing_end(&p);
    pthread_mutex_unlock(&pool->lock);
    return ok;
}

bool
pool_explain(struct pool *pool, struct txn *txn, const struct cloud_config *config,
             const struct placement_ask *ask, size_t after, struct buf *out,
             struct err *err)
{
    AUTO(pool) struct pool *own = NULL;
    if (!pool || !txn_writable(txn)) {
        const struct placement_ask everywhere = {.region = ask->region};
        if (!pool_for_call(txn, config, &everywhere, &own, err)) {
            return false;
        }
        pool = own;
    }
    struct placing p = {pool, txn, *ask, map_create(NULL)};
    struct pool_pick *picks = ARENA_ARRAY(txn_arena(txn), after, struct pool_pick);
    size_t count;
    pthread_mutex_lock(&pool->lock);
    bool ok = pool_refresh(pool, txn, err) &&
              place_all(&p, NULL, NULL, after, picks, &count, err);
    if (ok) {
        placement_index_explain(pool->index, ask, out);
    }
    placing_end(&p);
    pthread_mutex_unlock(&pool->lock);
    return ok;
}

double
pool_load(struct pool *pool, const char *zone)
{
    if (!pool) {
        return 0;
    }
    pthread_mutex_lock(&pool->lock);
    double load = placement_index_load(pool->index, zone);
    pthread_mutex_unlock(&pool->lock);
    return load;
}

bool
pool_may_explain(struct pool *pool, int64_t now_ns)
{
    if (!pool) {
        return true;
    }
    pthread_mutex_lock(&pool->lock);
    bool may =
        now_ns >= pool->explained_ns + EXPLAIN_EVERY_NS || now_ns < pool->explained_ns;
    if (may) {
        pool->explained_ns = now_ns;
    }
    pthread_mutex_unlock(&pool->lock);
    return may;
}
