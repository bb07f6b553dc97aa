/* client_tokens.c - see client_tokens.h. */
#include "control/client_tokens.h"

#include "store/rows.h"

static int
by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* What one account asked for before this is forgotten. */
static int64_t
horizon(struct arena *arena, const void *const *tokens, size_t count, int64_t now_ns)
{
    int64_t by_age = now_ns - CLIENT_TOKENS_KEPT_NS;
    if (count <= CLIENT_TOKENS_MAX) {
        return by_age;
    }
    int64_t *times = ARENA_ARRAY(arena, count, int64_t);
    for (size_t i = 0; i < count; i++) {
        times[i] = ((const struct row_client_token *)tokens[i])->at;
    }
    qsort(times, count, sizeof *times, by_time);
    int64_t by_number = times[count - CLIENT_TOKENS_MAX];
    return MAX(by_age, MIN(by_number, now_ns - CLIENT_TOKENS_LEAST_NS));
}

static bool
forget_of_one(struct txn *txn, const void *const *tokens, size_t count, int64_t now_ns,
              size_t *left, struct err *err)
{
    int64_t since = horizon(txn_arena(txn), tokens, count, now_ns);
    for (size_t i = 0; i<count && * left> 0; i++) {
        const struct row_client_token *t = tokens[i];
        if (t->at >= since) {
            continue;
        }
        if (!row_delete(txn, &row_client_token_type, t, err)) {
            return false;
        }
        --*left;
    }
    return true;
}

bool
client_tokens_forget(struct txn *txn, int64_t now_ns, size_t most, bool *out_more,
                     struct err *err)
{
    const struct row_query all = {0}; /* By account first: see rows.schema. */
    struct row_list list;
    size_t left = most;
    if (!row_list(txn, &row_client_token_type, &all, &list, err)) {
        return false;
    }
    for (size_t i = 0, end; i < list.count; i = end) {
        const struct row_client_token *first = list.rows[i];
        for (end = i + 1; end < list.count; end++) {
            const struct row_client_token *t = list.rows[end];
            if (!str_eq(t->account, first->account)) {
                break;
            }
        }
        if (!forget_of_one(txn, &list.rows[i], end - i, now_ns, &left, err)) {
            return false;
        }
    }
    *out_more = left == 0;
    return true;
}
