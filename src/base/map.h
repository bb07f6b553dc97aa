/* map.h - a hash map from text to pointers, and a growing array.
 *
 * Owner:    the map copies keys and borrows values; map_destroy calls 'drop' on each value
 *           when given.
 * Threads:  one at a time. Iteration order is unspecified; do not change while iterating
 *           but by map_del of the item just returned. */
#pragma once
#include "base/base.h"

struct map;
typedef void map_drop_fn(void *value);

MUST_CHECK struct map *map_create(map_drop_fn *drop);
void map_destroy(struct map *map); /* NULL is a no-op. */
AUTO_DEFINE(map, struct map *, map_destroy)
void *map_get(const struct map *map, const char *key); /* NULL: there is none. */
void map_put(struct map *map, const char *key, void *value); /* Drops the old value. */
void map_del(struct map *map, const char *key);
void *map_steal(struct map *map, const char *key); /* Removes without dropping. */
size_t map_count(const struct map *map);
/* for (size_t it = 0; map_next(map, &it, &key, &value);) */
bool map_next(const struct map *map, size_t *it, const char **out_key, void **out_value);

/* VEC(int) v = {0}; VEC_PUSH(&v, 3); v.items[0]; VEC_FREE(&v) */
#define VEC(type) \
    struct { \
        type *items; \
        size_t count, cap; \
    }
#define VEC_PUSH(v, value) \
    do { \
        if ((v)->count == (v)->cap) { \
            (v)->cap = (v)->cap ? (v)->cap * 2 : 8; \
            (v)->items = xrealloc((v)->items, (v)->cap * sizeof *(v)->items); \
        } \
        (v)->items[(v)->count++] = (value); \
    } while (0)
#define VEC_FREE(v) \
    do { \
        free((v)->items); \
        (v)->items = NULL; \
        (v)->count = (v)->cap = 0; \
    } while (0)
