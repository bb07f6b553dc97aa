/* placement_grid.c - see placement_grid.h. */
#include "core/placement_grid.h"

#include <math.h>

/* Rows: one for each number of vCPUs up to 32, then four for each doubling. */
#define ROWS_EXACT 32
#define ROWS_A_DOUBLING 4
/* Columns: eight for each doubling from 64 MiB on, to 4 TiB. */
#define COLUMNS_A_DOUBLING 8
#define COLUMN_MIB 64

/* What weighs a lopsided rest against a large one: memory left without processors to use
 * it, or the reverse, is lost. At 2 and above a lopsided host would lose against an empty
 * one; between 0.3 and 1.5 bench/placement.c sees no difference of a percent. */
#define LOPSIDED 0.9

static int
log2_floor(uint64_t n)
{
    return 63 - __builtin_clzll(n);
}

/* 'n' >= 'unit': steps since 'unit', 'each' for every doubling; rising, and the same
 * for all n of a step. */
static int
steps(int64_t n, int64_t unit, int each)
{
    int doublings = log2_floor((uint64_t)(n / unit));
    int64_t low = unit << doublings;
    return doublings * each + (int)((n - low) * each / low);
}

static int64_t
step_low(int step, int64_t unit, int each)
{
    int64_t low = unit << (step / each);
    return low + low * (step % each) / each;
}

static int
row_of(int64_t vcpus)
{
    if (vcpus <= ROWS_EXACT) {
        return (int)MAX(vcpus, 0);
    }
    return MIN(GRID_ROWS - 1, ROWS_EXACT + steps(vcpus, ROWS_EXACT, ROWS_A_DOUBLING));
}

static int64_t
row_low(int row)
{
    return row <= ROWS_EXACT ? row
                             : step_low(row - ROWS_EXACT, ROWS_EXACT, ROWS_A_DOUBLING);
}

static int
column_of(int64_t bytes)
{
    int64_t mib = bytes / (int64_t)MIB;
    return mib < COLUMN_MIB
               ? 0
               : MIN(GRID_COLUMNS - 1, steps(mib, COLUMN_MIB, COLUMNS_A_DOUBLING));
}

static int64_t
column_low(int column)
{
    return step_low(column, COLUMN_MIB, COLUMNS_A_DOUBLING) * (int64_t)MIB;
}

/* ---- in and out ------------------------------------------------------------------ */

void
grid_take(struct grid *grid, struct grid_link *link)
{
    if (!link->back) {
        return;
    }
    int row = link->bucket / GRID_COLUMNS, column = link->bucket % GRID_COLUMNS;
    *link->back = link->next;
    if (link->next) {
        link->next->back = link->back;
    }
    link->back = NULL;
    if (grid->heads[link->bucket]) {
        return;
    }
    grid->used[row][column / 64] &= ~(UINT64_C(1) << (column % 64));
    uint64_t any = 0;
    for (int w = 0; w < GRID_WORDS; w++) {
        any |= grid->used[row][w];
    }
    if (!any) {
        grid->rows &= ~(UINT64_C(1) << row);
    }
}

void
grid_put(struct grid *grid, struct grid_link *link, int64_t free_vcpus,
         int64_t free_bytes)
{
    int row = row_of(free_vcpus), column = column_of(free_bytes);
    int bucket = row * GRID_COLUMNS + column;
    if (link->back && link->bucket == bucket) {
        return;
    }
    grid_take(grid, link);
    struct grid_link **head = &grid->heads[bucket];
    link->bucket = (uint16_t)bucket;
    link->next = *head;
    link->back = head;
    if (*head) {
        (*head)->back = &link->next;
    }
    *head = link;
    grid->used[row][column / 64] |= UINT64_C(1) << (column % 64);
    grid->rows |= UINT64_C(1) << row;
}

/* ---- finding --------------------------------------------------------------------- */

static double
score_of(const struct grid_want *want, double vcpus, double bytes)
{
    if (want->spread) {
        return -MIN(vcpus, bytes);
    }
    return vcpus + bytes + LOPSIDED * fabs(vcpus - bytes);
}

double
grid_score(const struct grid_want *want, int64_t free_vcpus, int64_t free_bytes)
{
    return score_of(want, (double)(free_vcpus - want->vcpus) / want->all_vcpus,
                    (double)(free_bytes - want->bytes) / want->all_bytes);
}

struct search {
    const struct grid *grid;
    const struct grid_want *want;
    struct grid_at after, best;
};

static bool
at_less(struct grid_at a, struct grid_at b)
{
    return a.score < b.score || (a.score == b.score && a.bucket < b.bucket);
}

/* Looks along a row from 'column' on; 'vcpus' is the part left in it. */
static void
search_row(struct search *s, int row, int column, double vcpus)
{
    for (int w = column / 64; w < GRID_WORDS; w++) {
        uint64_t bits = s->grid->used[row][w];
        bits &= w == column / 64 ? ~UINT64_C(0) << (column % 64) : ~UINT64_C(0);
        for (; bits; bits &= bits - 1) {
            int c = w * 64 + __builtin_ctzll(bits);
            int64_t left = MAX(column_low(c) - s->want->bytes, 0);
            double bytes = (double)left / s->want->all_bytes;
            struct grid_at at = {score_of(s->want, vcpus, bytes),
                                 row * GRID_COLUMNS + c};
            if (at_less(s->after, at) && at_less(at, s->best)) {
                s->best = at;
            }
            /* A score is never below the part of either that is left. */
            if (!s->want->spread && bytes > s->best.score) {
                return;
            }
        }
    }
}

struct grid_link *
grid_next(const struct grid *grid, const struct grid_want *want, struct grid_at *at)
{
    struct search s = {grid, want, *at, {1e300, GRID_ROWS * GRID_COLUMNS}};
    int first = row_of(want->vcpus), column = column_of(want->bytes);
    for (uint64_t rows = grid->rows & (~UINT64_C(0) << first); rows; rows &= rows - 1) {
        int row = __builtin_ctzll(rows);
        int64_t left = MAX(row_low(row) - want->vcpus, 0);
        double vcpus = (double)left / want->all_vcpus;
        if (!want->spread && vcpus > s.best.score) {
            break;
        }
        search_row(&s, row, column, vcpus);
    }
    if (s.best.bucket == GRID_ROWS * GRID_COLUMNS) {
        return NULL;
    }
    *at = s.best;
    return grid->heads[s.best.bucket];
}
