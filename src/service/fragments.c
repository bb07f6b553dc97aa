/* fragments.c - see fragments.h. */
#include "service/fragments.h"
#include "base/map.h"
#include <pthread.h>
#include <stdatomic.h>

struct fragment {
    atomic_uint shares; /* The map's, and one of each arena it was given to. */
    size_t count;       /* Words; the text follows them. */
    size_t len;
    uint64_t words[];
};

struct fragments {
    size_t limit_bytes;
    pthread_mutex_t lock; /* Guards all that follows. */
    struct map *by_id;
    size_t bytes; /* Of all in the map. */
};

static void
fragment_unref(void *ctx)
{
    struct fragment *f = ctx;
    if (f && atomic_fetch_sub(&f->shares, 1) == 1) {
        free(f);
    }
}

struct fragments *
fragments_create(size_t limit_bytes)
{
    struct fragments *fragments = xcalloc(1, sizeof *fragments);
    fragments->limit_bytes = limit_bytes;
    pthread_mutex_init(&fragments->lock, NULL);
    fragments->by_id = map_create(fragment_unref);
    return fragments;
}

void
fragments_destroy(struct fragments *fragments)
{
    if (fragments) {
        map_destroy(fragments->by_id);
        pthread_mutex_destroy(&fragments->lock);
        free(fragments);
    }
}

static bool
fits(const struct fragment *f, const struct fragment_key *key)
{
    return f->count == key->count &&
           memcmp(f->words, key->words, key->count * sizeof *key->words) == 0;
}

bool
fragments_get(struct fragments *fragments, const struct fragment_key *key,
              struct arena *arena, struct blob *out)
{
    pthread_mutex_lock(&fragments->lock);
    struct fragment *f = map_get(fragments->by_id, key->id);
    if (f && fits(f, key)) {
        atomic_fetch_add(&f->shares, 1);
    } else {
        f = NULL;
    }
    pthread_mutex_unlock(&fragments->lock);
    if (!f) {
        return false;
    }
    arena_defer(arena, fragment_unref, f);
    *out = (struct blob){(const uint8_t *)(f->words + f->count), f->len};
    return true;
}

static size_t
size_of(const struct fragment *f)
{
    return sizeof *f + f->count * sizeof *f->words + f->len;
}

static struct fragment *
fragment_create(const struct fragment_key *key, struct blob text)
{
    size_t words_bytes = key->count * sizeof *key->words;
    struct fragment *f = xmalloc(sizeof *f + words_bytes + text.len);
    f->shares = 1;
    f->count = key->count;
    f->len = text.len;
    memcpy(f->words, key->words, words_bytes);
    memcpy(f->words + f->count, text.data, text.len);
    return f;
}

void
fragments_put(struct fragments *fragments, const struct fragment_key *key,
              struct blob text)
{
    struct fragment *f = fragment_create(key, text);
    pthread_mutex_lock(&fragments->lock);
    const struct fragment *old = map_get(fragments->by_id, key->id);
    fragments->bytes -= old ? size_of(old) : 0;
    if (fragments->bytes + size_of(f) > fragments->limit_bytes) {
        map_destroy(fragments->by_id);
        fragments->by_id = map_create(fragment_unref);
        fragments->bytes = 0;
    }
    fragments->bytes += size_of(f);
    map_put(fragments->by_id, key->id, f);
    pthread_mutex_unlock(&fragments->lock);
}
