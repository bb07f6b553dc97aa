/* arena.c - blocks that double in size, the arena itself in the first of them. */
#include "base/arena.h"

#define FIRST_BLOCK_BYTES ((size_t)4096)
#define LARGEST_BLOCK_BYTES ((size_t)256 << 10)
#define ALIGNMENT _Alignof(max_align_t)

struct block {
    struct block *prev;
    size_t cap, used;
    max_align_t data[];
};

struct deferred {
    struct deferred *next;
    void (*fn)(void *ctx);
    void *ctx;
};

struct arena {
    struct block *last;
    struct deferred *deferred; /* In the arena itself; the last one first. */
    size_t bytes;
    struct block first; /* Ends the struct: its data follow. */
};

static size_t
round_up(size_t size)
{
    return (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
}

struct arena *
arena_create(void)
{
    return arena_create_small(FIRST_BLOCK_BYTES - sizeof(struct arena));
}

struct arena *
arena_create_small(size_t first_bytes)
{
    first_bytes = round_up(first_bytes);
    struct arena *arena = xmalloc(sizeof *arena + first_bytes);
    arena->bytes = 0;
    arena->deferred = NULL;
    arena->first.prev = NULL;
    arena->first.used = 0;
    arena->first.cap = first_bytes;
    arena->last = &arena->first;
    return arena;
}

void
arena_reset(struct arena *arena)
{
    while (arena->deferred) {
        struct deferred *d = arena->deferred;
        arena->deferred = d->next;
        d->fn(d->ctx);
    }
    while (arena->last != &arena->first) {
        struct block *gone = arena->last;
        arena->last = gone->prev;
        free(gone);
    }
    arena->first.used = 0;
    arena->bytes = 0;
}

void
arena_destroy(struct arena *arena)
{
    if (arena) {
        arena_reset(arena);
        free(arena);
    }
}

static struct block *
block_add(struct arena *arena, size_t size)
{
    size_t cap = MIN(arena->last->cap * 2, LARGEST_BLOCK_BYTES);
    cap = MAX(cap, size);
    struct block *b = xmalloc(sizeof *b + cap);
    b->cap = cap;
    b->used = 0;
    b->prev = arena->last;
    arena->last = b;
    return b;
}

/* Not zeroed. */
static void *
take(struct arena *arena, size_t size)
{
    if (size > SIZE_MAX / 4) {
        abort();
    }
    size = round_up(size ? size : 1);
    struct block *b = arena->last;
    if (b->cap - b->used < size) {
        b = block_add(arena, size);
    }
    void *p = (char *)b->data + b->used;
    b->used += size;
    arena->bytes += size;
    return p;
}

void *
arena_alloc(struct arena *arena, size_t size)
{
    return memset(take(arena, size), 0, size);
}

void *
arena_array(struct arena *arena, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) {
        abort();
    }
    return arena_alloc(arena, total);
}

void *
arena_memdup(struct arena *arena, const void *p, size_t size)
{
    void *out = take(arena, size);
    if (size) {
        memcpy(out, p, size);
    }
    return out;
}

char *
arena_strdup(struct arena *arena, const char *s)
{
    return s ? arena_memdup(arena, s, strlen(s) + 1) : NULL;
}

char *
arena_strndup(struct arena *arena, const char *s, size_t len)
{
    len = strnlen(s, len);
    char *out = take(arena, len + 1);
    memcpy(out, s, len);
    out[len] = '\0';
    return out;
}

char *
arena_printf(struct arena *arena, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    char small[256];
    int n = vsnprintf(small, sizeof small, fmt, args);
    va_end(args);
    size_t size = (size_t)(n < 0 ? 0 : n) + 1;
    char *out = take(arena, size);
    if (size <= sizeof small) {
        memcpy(out, small, size);
        out[size - 1] = '\0';
    } else {
        (void)vsnprintf(out, size, fmt, again);
    }
    va_end(again);
    return out;
}

void
arena_defer(struct arena *arena, void (*fn)(void *ctx), void *ctx)
{
    struct deferred *d = take(arena, sizeof *d);
    *d = (struct deferred){.next = arena->deferred, .fn = fn, .ctx = ctx};
    arena->deferred = d;
}

size_t
arena_bytes(const struct arena *arena)
{
    return arena->bytes;
}
