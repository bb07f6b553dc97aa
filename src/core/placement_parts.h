/* placement_parts.h - what the index's files share; private to placement_*.c.
 *
 * A cell holds the open hosts of one kind: same zone, class, cost, speed, segment, NUMA nodes
 * and features, and all strained or none. Each lies in two of its grids: that of all, by what it may promise yet; and
 * that of its round, by what it may promise until the round's end. In the first round a
 * processor is promised once; in the next ones up to 2, 4, 8 ... times. Hosts that one
 * account has alone lie in no cell but in its list. */
#pragma once
#include "base/map.h"
#include "core/placement_grid.h"
#include "core/placement_index.h"

#define ROUNDS 6 /* The last one ends at the ceiling only. */

enum hangs { HANGS_IN_ROUND, HANGS_IN_ALL, HANGS };

struct cell {
    char *key, *zone, *region;
    enum placement_class class;
    int64_t cost;
    int64_t numa_vcpus, numa_bytes;
    bool strained;
    size_t features;
    struct entry *empty; /* Those without a machine. */
    size_t count;
    struct claim ceiling, claimed; /* Sums. */
    struct grid *rounds[ROUNDS];   /* NULL: no host ever was in it. */
    struct grid all;
};

struct chain {
    struct entry *next, **back; /* 'back' NULL: nowhere. */
};

struct entry {
    struct placement_host host; /* Its texts lie in 'texts'. */
    struct arena *texts;
    struct cell *cell; /* NULL: closed, or owned. */
    int round;         /* Of its grid, while links[HANGS_IN_ROUND] hangs. */
    struct grid_link links[HANGS];
    struct chain in_empty, in_owned;
    size_t place; /* In index->entries. */
};

struct placement_index {
    enum placement_policy policy;
    struct map *by_id;           /* struct entry */
    struct map *cells;           /* By key: struct cell. */
    struct map *owned;           /* By account: struct owned. */
    VEC(struct entry *) entries; /* In the order of their coming. */
    VEC(struct cell *) ranked;   /* By cell_compare(). */
};

struct owned {
    struct entry *first;
};

/* Promised so often are its processors. */
static inline int
host_round(const struct placement_host *host)
{
    int round = 0;
    while (round < ROUNDS - 1 && host->claimed.vcpus >= host->processors << round) {
        round++;
    }
    return round;
}

/* What it may promise until the end of 'round', or at all. */
static inline int64_t
round_vcpus(const struct placement_host *host, int round)
{
    int64_t end = host->ceiling.vcpus;
    if (round < ROUNDS - 1) {
        end = MIN(end, host->processors << round);
    }
    return end - host->claimed.vcpus;
}

static inline int64_t
free_bytes(const struct placement_host *host)
{
    return host->ceiling.memory_bytes - host->claimed.memory_bytes;
}

/* The order in which the cells of one class are tried; 0: together. */
int cell_rank(const struct cell *a, const struct cell *b);
