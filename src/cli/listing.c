/* listing.c - see listing.h. */
#include "cli/listing.h"

void
listing_print(struct cli *cli, const struct listing *listing, json_t *answer,
              const char *member)
{
    if (cli->json) {
        json_print(answer);
        return;
    }
    AUTO(grid) struct grid grid;
    json_t *items = json_object_get(answer, member), *item;
    size_t i;
    grid_init(&grid, listing->titles);
    if (json_is_object(items)) {
        listing->put(cli, &grid, items);
    }
    json_array_foreach(items, i, item)
    {
        listing->put(cli, &grid, item);
    }
    if (listing->nothing && grid.cells.count == 0) {
        (void)fprintf(stderr, "%s\n", listing->nothing);
    } else {
        grid_print(&grid, stdout);
    }
}

bool
listing_one(struct cli *cli, const struct listing *listing, const char *operation,
            const json_t *in, const char *member, struct err *err)
{
    AUTO(json) json_t *answer = NULL;
    if (!api_operator(cli, operation, in, &answer, err)) {
        return false;
    }
    listing_print(cli, listing, answer, member);
    return true;
}

bool
listing_all(struct cli *cli, const struct listing *listing, const char *operation,
            const json_t *in, const char *member, struct err *err)
{
    AUTO(json) json_t *answer = NULL;
    if (!api_operator_all(cli, operation, in, member, &answer, err)) {
        return false;
    }
    listing_print(cli, listing, answer, member);
    return true;
}
