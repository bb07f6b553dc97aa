/* operators.c - see operators.h. */
#include "service/moln/operators.h"
#include "core/page_token.h"

#define PAGE_DEFAULT 100

bool
listing_init(struct call *call, bool has_max, int64_t max_results,
             const char *next_token, const char *query, struct listing *out,
             struct err *err)
{
    struct listing listing = {
        .left = has_max ? (size_t)max_results : PAGE_DEFAULT,
        .bind = arena_printf(call->arena, "%s\n%s\n%s\n%s", call->config->cloud_id,
                             call->region, call->operation, query ? query : ""),
    };
    if (!str_empty(next_token) &&
        !page_token_read(call->arena, listing.bind, next_token, &listing.after, err)) {
        return false;
    }
    *out = listing;
    return true;
}

bool
listing_take(struct listing *listing, const char *key)
{
    if (listing->after && strcmp(key, listing->after) <= 0) {
        return false;
    }
    if (listing->left == 0) {
        listing->more = true;
        return false;
    }
    listing->left--;
    listing->last = key;
    return true;
}

const char *
listing_next(struct call *call, const struct listing *listing)
{
    return listing->more && listing->last
               ? page_token_make(call->arena, listing->bind, listing->last)
               : NULL;
}

bool
err_no(struct err *err, const char *what, const char *id)
{
    return err_set(err, ERR_RESOURCE_NOT_FOUND, "There is no %s '%.80s'", what, id);
}

bool
account_find(struct call *call, const char *id, const struct row_account **out,
             struct err *err)
{
    const struct row_account key = {.id = id};
    const void *row;
    if (!row_get(call->txn, &row_account_type, &key, &row, err)) {
        return false;
    }
    const struct row_account *account = row;
    if (!account || account->deleted) {
        return err_no(err, "account", id);
    }
    *out = account;
    return true;
}

static int
key_order(const void *a, const void *b)
{
    const struct row_access_key *x = *(const void *const *)a;
    const struct row_access_key *y = *(const void *const *)b;
    return x->created_at != y->created_at ? (x->created_at > y->created_at ? 1 : -1)
                                          : strcmp(x->id, y->id);
}

bool
keys_of(struct call *call, const char *account, struct row_list *out, struct err *err)
{
    const struct row_access_key prefix = {.account = account};
    const struct row_query query = {
        .index = "by_account", .prefix = &prefix, .prefix_fields = 1};
    struct row_list list;
    if (!row_list(call->txn, &row_access_key_type, &query, &list, err)) {
        return false;
    }
    *out = (struct row_list){ARENA_ARRAY(call->arena, list.count, const void *),
                             list.count};
    for (size_t i = 0; i < list.count; i++) {
        out->rows[i] = list.rows[i];
    }
    if (list.count) {
        qsort(out->rows, out->count, sizeof *out->rows, key_order);
    }
    return true;
}

bool
row_all(struct call *call, const struct row_type *type, struct row_list *out,
        struct err *err)
{
    const struct row_query query = {0};
    return row_list(call->txn, type, &query, out, err);
}

bool
node_view_load(struct call *call, const struct row_node *node, struct node_view *out,
               struct err *err)
{
    struct placement_rows rows;
    if (!pool_rows(call->txn, node->id, &rows, err)) {
        return false;
    }
    rows.node = node;
    const struct placement_rules rules = placement_rules_of(call->config);
    *out = (struct node_view){rows, placement_host_of(&rows, &rules)};
    return true;
}
