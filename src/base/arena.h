/* arena.h - memory that dies together: one arena a request, or a reconcile pass.
 *
 * Purpose:  allocate without freeing; all of it goes at arena_destroy or arena_reset.
 * Owner:    whoever created it. For data only: nothing in an arena holds a descriptor; what
 *           it may hold besides is a share of common memory, by arena_defer.
 * Threads:  one thread at a time.
 * Failure:  none (memory that cannot be had ends the program); callers bound sizes. */
#pragma once
#include "base/base.h"

struct arena;

MUST_CHECK struct arena *arena_create(void);
/* For a little that is kept long: the first block has 'first_bytes', and not 4 KiB. */
MUST_CHECK struct arena *arena_create_small(size_t first_bytes);
void arena_destroy(struct arena *arena); /* NULL is a no-op. */
void arena_reset(struct arena *arena);   /* Frees all but the first block. */
AUTO_DEFINE(arena, struct arena *, arena_destroy)

/* Zeroed, aligned for any type. */
void *arena_alloc(struct arena *arena, size_t size) __attribute__((returns_nonnull));
/* 'count' zeroed items of 'size'. */
void *arena_array(struct arena *arena, size_t count, size_t size)
    __attribute__((returns_nonnull));
void *arena_memdup(struct arena *arena, const void *p, size_t size);
char *arena_strdup(struct arena *arena, const char *s); /* NULL gives NULL. */
char *arena_strndup(struct arena *arena, const char *s, size_t len);
char *arena_printf(struct arena *arena, const char *fmt, ...) PRINTF_LIKE(2, 3)
    __attribute__((returns_nonnull, nonnull(2)));
/* Calls fn(ctx) when the arena is destroyed or reset, the last one first: to let go of
 * shared memory into which data in the arena point. */
void arena_defer(struct arena *arena, void (*fn)(void *ctx), void *ctx);
size_t arena_bytes(const struct arena *arena); /* Handed out so far. */

#define ARENA_NEW(arena, type) ((type *)arena_alloc((arena), sizeof(type)))
#define ARENA_ARRAY(arena, count, type) \
    ((type *)arena_array((arena), (count), sizeof(type)))
