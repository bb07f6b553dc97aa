/* placement_index.c - the hosts of an index: cells, grids and lists. See
 * placement_index.h; placement_choose.c finds. */
#include "core/placement_parts.h"

/* ---- chains ---------------------------------------------------------------------- */

static void
chain_put(struct entry **head, struct entry *e, size_t offset)
{
    struct chain *link = (struct chain *)(void *)((char *)e + offset);
    link->next = *head;
    link->back = head;
    if (*head) {
        ((struct chain *)(void *)((char *)*head + offset))->back = &link->next;
    }
    *head = e;
}

static void
chain_take(struct entry *e, size_t offset)
{
    struct chain *link = (struct chain *)(void *)((char *)e + offset);
    if (!link->back) {
        return;
    }
    *link->back = link->next;
    if (link->next) {
        ((struct chain *)(void *)((char *)link->next + offset))->back = link->back;
    }
    link->back = NULL;
}

#define ENTRY_TEXTS_BYTES 192 /* A host's words, mostly. */
#define CHAIN_PUT(head, e, member) chain_put(head, e, offsetof(struct entry, member))
#define CHAIN_TAKE(e, member) chain_take(e, offsetof(struct entry, member))

/* ---- cells ----------------------------------------------------------------------- */

/* Steps of about 9 %: measurements of equal hosts fall into one or two of them. */
static int
speed_step(const struct placement_host *host)
{
    int step = 0;
    if (host->class != PLACEMENT_KVM) {
        return 0;
    }
    for (int64_t s = 100; s < host->speed && step < 64; s += s / 11) {
        step++;
    }
    return step;
}

static void
cell_key(const struct placement_host *host, struct buf *out)
{
    buf_printf(out, "%s %d %" PRId64 " %d %s", host->zone ? host->zone : "-",
               (int)host->class, host->cost, speed_step(host),
               host->segment ? host->segment : "");
    if (host->numa_vcpus > 0) {
        buf_printf(out, " numa %" PRId64 "/%" PRId64, host->numa_vcpus,
                   host->numa_bytes / (int64_t)GIB);
    }
    buf_puts(out, host->strained ? " strained" : "");
    for (size_t i = 0; i < host->features.count; i++) {
        buf_printf(out, " %s", host->features.items[i]);
    }
    for (size_t i = 0; i < host->labels.count; i++) {
        buf_printf(out, " =%s", host->labels.items[i]);
    }
}

int
cell_rank(const struct cell *a, const struct cell *b)
{
    if (a->class != b->class) {
        return a->class > b->class ? -1 : 1;
    }
    if (a->features != b->features) {
        return a->features < b->features ? -1 : 1;
    }
    return (a->cost > b->cost) - (a->cost < b->cost);
}

static int
cell_compare(const void *a, const void *b)
{
    const struct cell *x = *(struct cell *const *)a, *y = *(struct cell *const *)b;
    int rank = cell_rank(x, y);
    return rank ? rank : strcmp(x->key, y->key);
}

static struct cell *
cell_of(struct placement_index *index, const struct placement_host *host)
{
    AUTO(buf) struct buf key = {0};
    cell_key(host, &key);
    struct cell *cell = map_get(index->cells, buf_str(&key));
    if (cell) {
        return cell;
    }
    cell = xcalloc(1, sizeof *cell);
    cell->zone = xstrdup(host->zone ? host->zone : "");
    cell->region = xstrdup(host->region ? host->region : "");
    cell->class = host->class;
    cell->cost = host->cost;
    cell->numa_vcpus = host->numa_vcpus;
    cell->numa_bytes = host->numa_bytes / (int64_t)GIB * (int64_t)GIB;
    cell->strained = host->strained;
    cell->features = host->features.count + host->labels.count;
    cell->key = buf_take(&key);
    map_put(index->cells, cell->key, cell);
    VEC_PUSH(&index->ranked, cell);
    qsort(index->ranked.items, index->ranked.count, sizeof(struct cell *),
          cell_compare);
    return cell;
}

static void
cell_free(void *value)
{
    struct cell *cell = value;
    for (int i = 0; i < ROUNDS; i++) {
        free(cell->rounds[i]);
    }
    free(cell->key);
    free(cell->zone);
    free(cell->region);
    free(cell);
}

static void
cell_count(struct cell *cell, const struct placement_host *host, int sign)
{
    cell->count += (size_t)sign;
    cell->ceiling.vcpus += sign * host->ceiling.vcpus;
    cell->ceiling.memory_bytes += sign * host->ceiling.memory_bytes;
    cell->claimed.vcpus += sign * host->claimed.vcpus;
    cell->claimed.memory_bytes += sign * host->claimed.memory_bytes;
}

/* ---- entries --------------------------------------------------------------------- */

static void
round_take(struct entry *e)
{
    struct grid_link *link = &e->links[HANGS_IN_ROUND];
    if (link->back) {
        grid_take(e->cell->rounds[e->round], link);
    }
}

static void
round_put(struct entry *e, int round, int64_t vcpus, int64_t bytes)
{
    struct grid **grid = &e->cell->rounds[round];
    if (e->round != round) {
        round_take(e);
    }
    if (!*grid) {
        *grid = xcalloc(1, sizeof **grid);
    }
    e->round = round;
    grid_put(*grid, &e->links[HANGS_IN_ROUND], vcpus, bytes);
}

/* Hangs the entry where its free room says. */
static void
entry_hang(struct entry *e)
{
    const struct placement_host *h = &e->host;
    int64_t vcpus = h->ceiling.vcpus - h->claimed.vcpus, bytes = free_bytes(h);
    if (vcpus > 0 && bytes > 0) {
        int round = host_round(h);
        round_put(e, round, round_vcpus(h, round), bytes);
        grid_put(&e->cell->all, &e->links[HANGS_IN_ALL], vcpus, bytes);
    } else {
        round_take(e);
        grid_take(&e->cell->all, &e->links[HANGS_IN_ALL]);
    }
    if (h->claimed.machines > 0) {
        CHAIN_TAKE(e, in_empty);
    } else if (!e->in_empty.back) {
        CHAIN_PUT(&e->cell->empty, e, in_empty);
    }
}

static void
entry_unhang(struct entry *e)
{
    CHAIN_TAKE(e, in_owned);
    if (!e->cell) {
        return;
    }
    round_take(e);
    grid_take(&e->cell->all, &e->links[HANGS_IN_ALL]);
    CHAIN_TAKE(e, in_empty);
    cell_count(e->cell, &e->host, -1);
    e->cell = NULL;
}

static void
entry_place(struct placement_index *index, struct entry *e)
{
    if (e->host.closed != PLACEMENT_FITS) {
        return;
    }
    if (!str_empty(e->host.owner)) {
        struct owned *owned = map_get(index->owned, e->host.owner);
        if (!owned) {
            owned = xcalloc(1, sizeof *owned);
            map_put(index->owned, e->host.owner, owned);
        }
        CHAIN_PUT(&owned->first, e, in_owned);
        return;
    }
    e->cell = cell_of(index, &e->host);
    cell_count(e->cell, &e->host, 1);
    entry_hang(e);
}

static bool
words_equal(struct placement_words a, struct placement_words b)
{
    bool same = a.count == b.count;
    for (size_t i = 0; same && i < a.count; i++) {
        same = str_eq(a.items[i], b.items[i]);
    }
    return same;
}

/* All but the numbers that change with each machine. */
static bool
same_kind(const struct placement_host *a, const struct placement_host *b)
{
    return a->closed == b->closed && a->class == b->class && a->speed == b->speed &&
           a->cost == b->cost && str_eq(a->region, b->region) &&
           str_eq(a->zone, b->zone) && str_eq(a->rack, b->rack) &&
           str_eq(a->segment, b->segment) && str_eq(a->owner, b->owner) &&
           str_eq(a->host_id, b->host_id) && str_eq(a->single, b->single) &&
           words_equal(a->features, b->features) && words_equal(a->labels, b->labels);
}

static struct placement_words
words_copy(struct arena *arena, struct placement_words words)
{
    const char **items = ARENA_ARRAY(arena, words.count, const char *);
    for (size_t i = 0; i < words.count; i++) {
        items[i] = arena_strdup(arena, words.items[i]);
    }
    return (struct placement_words){items, words.count};
}

static void
entry_copy(struct entry *e, const struct placement_host *host)
{
    struct arena *texts = arena_create_small(ENTRY_TEXTS_BYTES);
    e->host = *host;
    e->host.id = arena_strdup(texts, host->id);
    e->host.region = arena_strdup(texts, host->region);
    e->host.zone = arena_strdup(texts, host->zone);
    e->host.rack = arena_strdup(texts, host->rack);
    e->host.segment = arena_strdup(texts, host->segment);
    e->host.owner = arena_strdup(texts, host->owner);
    e->host.host_id = arena_strdup(texts, host->host_id);
    e->host.single = arena_strdup(texts, host->single);
    e->host.features = words_copy(texts, host->features);
    e->host.labels = words_copy(texts, host->labels);
    arena_destroy(e->texts);
    e->texts = texts;
}

void
placement_index_put(struct placement_index *index, const struct placement_host *host)
{
    struct entry *e = map_get(index->by_id, host->id);
    if (e && same_kind(&e->host, host)) {
        bool sized = e->host.ceiling.vcpus == host->ceiling.vcpus &&
                     e->host.ceiling.memory_bytes == host->ceiling.memory_bytes &&
                     e->host.processors == host->processors;
        if (sized) {
            placement_index_claim(index, host->id, &host->claimed);
            return;
        }
    }
    if (!e) {
        e = xcalloc(1, sizeof *e);
        e->place = index->entries.count;
        map_put(index->by_id, host->id, e);
        VEC_PUSH(&index->entries, e);
    }
    entry_unhang(e);
    entry_copy(e, host);
    entry_place(index, e);
}

void
placement_index_claim(struct placement_index *index, const char *id,
                      const struct claim *claimed)
{
    struct entry *e = map_get(index->by_id, id);
    if (!e) {
        return;
    }
    if (!e->cell) {
        e->host.claimed = *claimed;
        return;
    }
    cell_count(e->cell, &e->host, -1);
    e->host.claimed = *claimed;
    cell_count(e->cell, &e->host, 1);
    entry_hang(e);
}

static void
entry_free(struct entry *e)
{
    arena_destroy(e->texts);
    free(e);
}

void
placement_index_drop(struct placement_index *index, const char *id)
{
    struct entry *e = map_get(index->by_id, id);
    if (!e) {
        return;
    }
    entry_unhang(e);
    map_del(index->by_id, id);
    index->entries.count--;
    if (e->place < index->entries.count) {
        struct entry *last = index->entries.items[index->entries.count];
        index->entries.items[e->place] = last;
        last->place = e->place;
    }
    entry_free(e);
}

const struct placement_host *
placement_index_host(const struct placement_index *index, const char *id)
{
    const struct entry *e = map_get(index->by_id, id);
    return e ? &e->host : NULL;
}

struct placement_index *
placement_index_create(enum placement_policy policy)
{
    struct placement_index *index = xcalloc(1, sizeof *index);
    index->policy = policy;
    index->by_id = map_create(NULL);
    index->cells = map_create(cell_free);
    index->owned = map_create(free);
    return index;
}

void
placement_index_destroy(struct placement_index *index)
{
    if (!index) {
        return;
    }
    for (size_t i = 0; i < index->entries.count; i++) {
        entry_free(index->entries.items[i]);
    }
    VEC_FREE(&index->entries);
    VEC_FREE(&index->ranked);
    map_destroy(index->by_id);
    map_destroy(index->cells);
    map_destroy(index->owned);
    free(index);
}
