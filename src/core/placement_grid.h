/* placement_grid.h - hosts by what they have free: rows of vCPUs, columns of memory.
 *
 * Purpose:  finds the bucket that suits an ask best. A host lies in the bucket below its
 *           free room: a bucket beyond the ask's in both ways holds hosts with room; those
 *           in the ask's own row or column have to be asked.
 * Place:    core/, under placement_index.c.
 * Threads:  one at a time. */
#pragma once
#include "base/base.h"

#define GRID_ROWS 64
#define GRID_COLUMNS 128
#define GRID_WORDS (GRID_COLUMNS / 64)

/* Where a host hangs in a grid. */
struct grid_link {
    struct grid_link *next, **back; /* 'back' NULL: nowhere. */
    uint16_t bucket;
};

struct grid {
    struct grid_link *heads[GRID_ROWS * GRID_COLUMNS];
    uint64_t used[GRID_ROWS][GRID_WORDS];
    uint64_t rows; /* With any bucket used. */
};

void grid_put(struct grid *grid, struct grid_link *link, int64_t free_vcpus,
              int64_t free_bytes);
void grid_take(struct grid *grid, struct grid_link *link); /* Nowhere: a no-op. */

/* What a search wants: room for these; parts are taken of the two wholes. */
struct grid_want {
    int64_t vcpus, bytes;
    double all_vcpus, all_bytes;
    bool spread;
};

/* How well a host with this much free suits; lower is better. */
double grid_score(const struct grid_want *want, int64_t free_vcpus, int64_t free_bytes);

/* The bucket that comes next after '*at' in the order of (score, bucket): sets '*at' and
 * returns its first host; NULL: no more. Start with GRID_START. */
struct grid_at {
    double score;
    int bucket;
};
#define GRID_START ((struct grid_at){-1e300, -1})
struct grid_link *grid_next(const struct grid *grid, const struct grid_want *want,
                            struct grid_at *at);
