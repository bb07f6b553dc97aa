/* placement_choose.c - which host gets the machine. See placement_index.h. */
#include "core/placement_parts.h"

/* Hosts asked in a bucket in the first round; a second round, with none found, asks all. */
#define ASKED_MAX 48
/* Of those that fit, compared by what exactly they have free. */
#define COMPARED_MAX 6

/* Within a class, whatever else speaks for a host. */
enum resort {
    RESORT_FIRST,
    RESORT_SPANS,    /* The machine would lie on several of its NUMA nodes. */
    RESORT_STRAINED, /* It has trouble with what it has already. */
    RESORTS,
};

static enum resort
resort_of(bool strained, bool spans)
{
    return strained ? RESORT_STRAINED : spans ? RESORT_SPANS : RESORT_FIRST;
}

struct choice {
    const struct placement_index *index;
    const struct placement_ask *ask;
    size_t asked_max;
    struct entry *best;
    double score;
    bool cut; /* Not every host was asked. */
};

/* Of what the host has itself. */
static struct grid_want
want_of(const struct choice *c, enum placement_class class, double vcpus, double bytes)
{
    struct claim want = placement_claim(class, c->ask);
    return (struct grid_want){
        .vcpus = want.vcpus,
        .bytes = want.memory_bytes,
        .all_vcpus = MAX(vcpus, 1),
        .all_bytes = MAX(bytes, 1),
        .spread = c->index->policy == PLACEMENT_SPREAD,
    };
}

/* Of two that are left alike, the one that draws less; what is not known counts as more. */
static bool
is_before(const struct placement_host *a, const struct placement_host *b)
{
    int64_t x = a->milliwatts ? a->milliwatts : INT64_MAX;
    int64_t y = b->milliwatts ? b->milliwatts : INT64_MAX;
    return x != y ? x < y : strcmp(a->id, b->id) < 0;
}

static void
choice_offer(struct choice *c, struct entry *e, double score)
{
    bool better = !c->best || score < c->score ||
                  (score == c->score && is_before(&e->host, &c->best->host));
    if (better) {
        c->best = e;
        c->score = score;
    }
}

/* One of a few hosts, by its own measure. */
static void
choice_try(struct choice *c, struct entry *e)
{
    const struct placement_host *h = &e->host;
    if (placement_why(h, c->ask) != PLACEMENT_FITS) {
        return;
    }
    struct grid_want want =
        want_of(c, h->class, (double)h->ceiling.vcpus, (double)h->ceiling.memory_bytes);
    int round = host_round(h);
    int64_t vcpus = round_vcpus(h, round);
    if (vcpus < want.vcpus) {
        round = ROUNDS;
        vcpus = h->ceiling.vcpus - h->claimed.vcpus;
    }
    /* Scores lie far below 100: class, resort and round come first, as among many. */
    enum resort resort = resort_of(h->strained, placement_spans(h, c->ask));
    choice_offer(c, e,
                 grid_score(&want, vcpus, free_bytes(h)) + 100 * round +
                     1000 * (int)resort + (h->class == PLACEMENT_KVM ? 0 : 10000));
}

static void
choose_named(struct choice *c, struct placement_words ids)
{
    for (size_t i = 0; i < ids.count; i++) {
        struct entry *e = map_get(c->index->by_id, ids.items[i]);
        if (e) {
            choice_try(c, e);
        }
    }
}

/* The best of a bucket's hosts; false: none of those asked fits. 'round' ROUNDS: the
 * grid is that of all. */
static bool
choose_in_bucket(struct choice *c, struct grid_link *first, int round,
                 const struct grid_want *want)
{
    size_t asked = 0, fit = 0;
    for (struct grid_link *link = first; link && fit < COMPARED_MAX;
         link = link->next) {
        int hangs = round < ROUNDS ? HANGS_IN_ROUND : HANGS_IN_ALL;
        struct entry *e = CONTAINER_OF(link - hangs, struct entry, links);
        const struct placement_host *h = &e->host;
        if (asked++ == c->asked_max) {
            c->cut = true;
            break;
        }
        int64_t vcpus = round_vcpus(h, round);
        if (vcpus < want->vcpus || placement_why(h, c->ask) != PLACEMENT_FITS) {
            continue;
        }
        fit++;
        choice_offer(c, e, grid_score(want, vcpus, free_bytes(h)));
    }
    return fit > 0;
}

static bool
cell_serves(const struct cell *cell, const struct placement_ask *ask)
{
    return cell->count > 0 && str_eq(cell->region, ask->region) &&
           (!ask->zone || str_eq(cell->zone, ask->zone));
}

static enum resort
cell_resort(const struct cell *cell, const struct placement_ask *ask)
{
    const struct placement_host alike = {.class = cell->class,
                                         .numa_vcpus = cell->numa_vcpus,
                                         .numa_bytes = cell->numa_bytes};
    return resort_of(cell->strained, placement_spans(&alike, ask));
}

static void
choose_in_cell(struct choice *c, const struct cell *cell, int round)
{
    const struct grid *grid = round < ROUNDS ? cell->rounds[round] : &cell->all;
    struct grid_want want =
        want_of(c, cell->class, (double)cell->ceiling.vcpus / (double)cell->count,
                (double)cell->ceiling.memory_bytes / (double)cell->count);
    struct grid_at at = GRID_START;
    struct grid_link *first;
    while (grid && (first = grid_next(grid, &want, &at)) != NULL) {
        if (choose_in_bucket(c, first, round, &want)) {
            return;
        }
    }
}

/* Cells in their order, those of one rank together. */
static void
choose_among_cells(struct choice *c, enum placement_class class, enum resort resort,
                   int round)
{
    const struct cell *found_in = NULL;
    for (size_t i = 0; i < c->index->ranked.count; i++) {
        struct cell *cell = c->index->ranked.items[i];
        if (cell->class != class || cell_resort(cell, c->ask) != resort ||
            !cell_serves(cell, c->ask)) {
            continue;
        }
        if (found_in && cell_rank(found_in, cell) != 0) {
            return;
        }
        choose_in_cell(c, cell, round);
        found_in = c->best ? cell : found_in;
    }
}

static void
choose_shared(struct choice *c)
{
    for (int class = PLACEMENT_CLASSES - 1; class >= 0; class --) {
        for (int resort = 0; resort < RESORTS; resort++) {
            for (int round = 0; round <= ROUNDS && !c->best; round++) {
                choose_among_cells(c, (enum placement_class) class, (enum resort)resort,
                                   round);
            }
        }
    }
}

/* A host that the account has alone already, else the first empty one that will do. */
static void
choose_alone(struct choice *c)
{
    const struct owned *owned =
        c->ask->account ? map_get(c->index->owned, c->ask->account) : NULL;
    for (struct entry *e = owned ? owned->first : NULL; e; e = e->in_owned.next) {
        choice_try(c, e);
    }
    for (size_t i = 0; !c->best && i < c->index->ranked.count; i++) {
        const struct cell *cell = c->index->ranked.items[i];
        if (!cell_serves(cell, c->ask)) {
            continue;
        }
        for (struct entry *e = cell->empty; e && !c->best; e = e->in_empty.next) {
            choice_try(c, e);
        }
    }
}

const struct placement_host *
placement_index_pick(const struct placement_index *index,
                     const struct placement_ask *ask)
{
    struct choice c = {.index = index, .ask = ask, .asked_max = ASKED_MAX};
    choose_named(&c, ask->prefer);
    if (c.best) {
        return &c.best->host;
    }
    if (ask->among.count > 0) {
        choose_named(&c, ask->among);
    } else if (ask->tenancy != PLACEMENT_DEFAULT) {
        choose_alone(&c);
    } else {
        choose_shared(&c);
        if (!c.best && c.cut) {
            c.asked_max = SIZE_MAX;
            choose_shared(&c);
        }
    }
    return c.best ? &c.best->host : NULL;
}

double
placement_index_load(const struct placement_index *index, const char *zone)
{
    struct claim all = {0}, taken = {0};
    for (size_t i = 0; i < index->ranked.count; i++) {
        const struct cell *cell = index->ranked.items[i];
        if (str_eq(cell->zone, zone)) {
            all.vcpus += cell->ceiling.vcpus;
            all.memory_bytes += cell->ceiling.memory_bytes;
            taken.vcpus += cell->claimed.vcpus;
            taken.memory_bytes += cell->claimed.memory_bytes;
        }
    }
    if (all.vcpus <= 0 || all.memory_bytes <= 0) {
        return 1;
    }
    return MAX((double)taken.vcpus / (double)all.vcpus,
               (double)taken.memory_bytes / (double)all.memory_bytes);
}
