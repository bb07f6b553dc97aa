/* listing.h - what the operators' service answers, as a grid for people or, with --json, as
 * it came.
 *
 * Place:    cli/, over api.h and grid.h.
 * Threads:  one. */
#pragma once
#include "cli/api.h"
#include "cli/grid.h"

struct listing {
    const char *const *titles;
    void (*put)(struct cli *cli, struct grid *grid, json_t *item); /* Its lines. */
    const char *nothing; /* Said in place of an empty grid; NULL: the titles are. */
};

/* The items of the answer's 'member', or the one that it is. */
void listing_print(struct cli *cli, const struct listing *listing, json_t *answer,
                   const char *member);
/* Calls, and prints that member of the answer; 'in' may be NULL. */
MUST_CHECK bool listing_one(struct cli *cli, const struct listing *listing,
                            const char *operation, const json_t *in, const char *member,
                            struct err *err);
/* The same of a list's pages, all of them. */
MUST_CHECK bool listing_all(struct cli *cli, const struct listing *listing,
                            const char *operation, const json_t *in, const char *member,
                            struct err *err);
