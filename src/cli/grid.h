/* grid.h - rows for people: columns as wide as their widest cell.
 *
 * Owner:    the caller; 'struct grid t = {0}', grid_fini frees it. Cells are copied.
 * Threads:  one at a time.
 * Failure:  none. What a cell holds is printed without control characters. */
#pragma once
#include "base/map.h"

#define GRID_COLUMNS 12

struct grid {
    const char *const *titles; /* Ended by NULL; borrowed. */
    VEC(char *) cells;
};

void grid_init(struct grid *grid, const char *const *titles);
void grid_fini(struct grid *grid);
/* The next cell, from left to right; an empty one is shown as "-". */
void grid_put(struct grid *grid, const char *text);
void grid_printf(struct grid *grid, const char *fmt, ...) PRINTF_LIKE(2, 3);
void grid_print(const struct grid *grid, FILE *out);

static inline void
auto_grid(struct grid *grid)
{
    grid_fini(grid);
}

/* "1.5 GiB" into 'out'. */
void human_bytes(int64_t bytes, char out[32]);
/* "3 min", "2 h", "5 d": how long 'then_ns' is past at 'now_ns'. */
void human_age(int64_t then_ns, int64_t now_ns, char out[32]);
