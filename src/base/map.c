/* map.c - entries in order of insertion, found through a table of their positions.
 *
 * The hash is keyed at random, since keys come from tenants; the order of iteration
 * does not depend on it, so that a run can be replayed. */
#include "base/map.h"
#include "base/world.h"
#include <pthread.h>

#define NO_ENTRY UINT32_MAX
#define SMALLEST_TABLE 8u

struct entry {
    char *key; /* NULL: deleted. */
    void *value;
    uint64_t hash;
};

struct map {
    map_drop_fn *drop;
    VEC(struct entry) entries;
    uint32_t *table; /* Positions in 'entries'; at most half of it in use. */
    uint32_t table_len;
    size_t live;
};

static uint64_t hash_key[2];
static pthread_once_t hash_key_once = PTHREAD_ONCE_INIT;

static void
hash_key_make(void)
{
    rng_system.fill(rng_system.ctx, hash_key, sizeof hash_key);
}

#define ROTL(x, n) (((x) << (n)) | ((x) >> (64 - (n))))

static void
sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = ROTL(v[1], 13) ^ v[0];
    v[0] = ROTL(v[0], 32);
    v[2] += v[3];
    v[3] = ROTL(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = ROTL(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = ROTL(v[1], 17) ^ v[2];
    v[2] = ROTL(v[2], 32);
}

/* SipHash-1-3. */
static uint64_t
hash_of(const char *key)
{
    (void)pthread_once(&hash_key_once, hash_key_make);
    size_t len = strlen(key);
    uint64_t v[4] = {hash_key[0] ^ UINT64_C(0x736f6d6570736575),
                     hash_key[1] ^ UINT64_C(0x646f72616e646f6d),
                     hash_key[0] ^ UINT64_C(0x6c7967656e657261),
                     hash_key[1] ^ UINT64_C(0x7465646279746573)};
    uint64_t m;
    size_t left = len;
    for (; left >= 8; key += 8, left -= 8) {
        memcpy(&m, key, 8);
        v[3] ^= m;
        sip_round(v);
        v[0] ^= m;
    }
    m = 0;
    memcpy(&m, key, left);
    m |= (uint64_t)len << 56;
    v[3] ^= m;
    sip_round(v);
    v[0] ^= m;
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct map *
map_create(map_drop_fn *drop)
{
    struct map *map = xcalloc(1, sizeof *map);
    map->drop = drop;
    return map;
}

void
map_destroy(struct map *map)
{
    if (!map) {
        return;
    }
    for (size_t i = 0; i < map->entries.count; i++) {
        struct entry *e = &map->entries.items[i];
        if (e->key && map->drop) {
            map->drop(e->value);
        }
        free(e->key);
    }
    VEC_FREE(&map->entries);
    free(map->table);
    free(map);
}

/* The live entry of 'key', or NULL. Positions of deleted entries stay in the table, so
 * that the search goes on past them. */
static struct entry *
find(const struct map *map, const char *key, uint64_t hash)
{
    if (!map->live) {
        return NULL;
    }
    uint32_t mask = map->table_len - 1;
    for (uint32_t i = (uint32_t)hash & mask; map->table[i] != NO_ENTRY;
         i = (i + 1) & mask) {
        struct entry *e = &map->entries.items[map->table[i]];
        if (e->key && e->hash == hash && strcmp(e->key, key) == 0) {
            return e;
        }
    }
    return NULL;
}

static void
table_add(struct map *map, uint64_t hash, uint32_t pos)
{
    uint32_t mask = map->table_len - 1;
    uint32_t i = (uint32_t)hash & mask;
    while (map->table[i] != NO_ENTRY) {
        i = (i + 1) & mask;
    }
    map->table[i] = pos;
}

/* Closes the gaps among the entries and sizes the table for twice as many. */
static void
rebuild(struct map *map)
{
    size_t kept = 0;
    for (size_t i = 0; i < map->entries.count; i++) {
        if (map->entries.items[i].key) {
            map->entries.items[kept++] = map->entries.items[i];
        }
    }
    map->entries.count = kept;
    uint32_t len = SMALLEST_TABLE;
    while (len < kept * 4) {
        len *= 2;
    }
    map->table = xrealloc(map->table, len * sizeof *map->table);
    map->table_len = len;
    memset(map->table, 0xff, len * sizeof *map->table);
    for (size_t i = 0; i < kept; i++) {
        table_add(map, map->entries.items[i].hash, (uint32_t)i);
    }
}

void *
map_get(const struct map *map, const char *key)
{
    const struct entry *e = find(map, key, hash_of(key));
    return e ? e->value : NULL;
}

void
map_put(struct map *map, const char *key, void *value)
{
    uint64_t hash = hash_of(key);
    struct entry *e = find(map, key, hash);
    if (e) {
        void *old = e->value;
        e->value = value;
        if (map->drop && old != value) {
            map->drop(old);
        }
        return;
    }
    if ((map->entries.count + 1) * 2 > map->table_len) {
        rebuild(map);
    }
    struct entry fresh = {.key = xstrdup(key), .value = value, .hash = hash};
    VEC_PUSH(&map->entries, fresh);
    table_add(map, hash, (uint32_t)(map->entries.count - 1));
    map->live++;
}

void *
map_steal(struct map *map, const char *key)
{
    struct entry *e = find(map, key, hash_of(key));
    if (!e) {
        return NULL;
    }
    void *value = e->value;
    free(e->key);
    e->key = NULL;
    e->value = NULL;
    map->live--;
    return value;
}

void
map_del(struct map *map, const char *key)
{
    bool had = find(map, key, hash_of(key)) != NULL;
    void *value = map_steal(map, key);
    if (had && map->drop) {
        map->drop(value);
    }
}

size_t
map_count(const struct map *map)
{
    return map->live;
}

bool
map_next(const struct map *map, size_t *it, const char **out_key, void **out_value)
{
    while (*it < map->entries.count) {
        const struct entry *e = &map->entries.items[(*it)++];
        if (e->key) {
            *out_key = e->key;
            *out_value = e->value;
            return true;
        }
    }
    return false;
}
