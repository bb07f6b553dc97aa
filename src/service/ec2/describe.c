/* describe.c - see describe.h. */
#include "service/ec2/describe.h"

void
pick_init(struct call *call, const char *const *ids, size_t count, struct pick *out)
{
    *out = (struct pick){
        .ids = ids, .count = count, .found = ARENA_ARRAY(call->arena, count, bool)};
}

bool
pick_take(struct pick *pick, const char *id)
{
    bool taken = pick->count == 0;
    for (size_t i = 0; i < pick->count; i++) {
        if (str_eq(pick->ids[i], id)) {
            taken = pick->found[i] = true;
        }
    }
    return taken;
}

bool
pick_check(const struct call *call, const struct pick *pick, enum err_code code,
           const char *what, struct err *err)
{
    const char **missing = ARENA_ARRAY(call->arena, pick->count, const char *);
    size_t count = 0;
    for (size_t i = 0; i < pick->count; i++) {
        if (!pick->found[i]) {
            missing[count++] = pick->ids[i];
        }
    }
    return !count || err_no_such_ids(err, code, what, missing, count);
}

const char *
derived_id(struct call *call, const char *prefix, const char *id)
{
    const char *digits = strrchr(id, '-');
    return arena_printf(call->arena, "%s-%s", prefix, digits ? digits + 1 : id);
}

const char **
one_text(struct call *call, const char *text)
{
    const char **out = ARENA_NEW(call->arena, const char *);
    *out = text;
    return out;
}

bool
rows_of_account(struct call *call, const struct row_type *type, const void *prefix,
                struct row_list *out, struct err *err)
{
    const struct row_query query = {.prefix = prefix, .prefix_fields = 1};
    return row_list(call->txn, type, &query, out, err);
}

bool
rows_of_region(struct call *call, const struct row_type *type, const void *prefix,
               struct row_list *out, struct err *err)
{
    const struct row_query query = {
        .index = "by_region", .prefix = prefix, .prefix_fields = 2};
    return row_list(call->txn, type, &query, out, err);
}

static void
set_text(const struct desc *desc, void *row, const char *name, const char *text)
{
    *(const char **)desc_at(desc_find(desc, name), row) = text;
}

bool
room_for_one(struct call *call, const struct row_type *type, const char *index,
             size_t max, enum err_code code, const char *what, struct err *err)
{
    void *prefix = arena_alloc(call->arena, type->desc->size);
    const struct row_query query = {
        .index = index, .prefix = prefix, .prefix_fields = 2, .limit = max};
    struct row_list list;
    set_text(type->desc, prefix, "account", call->account);
    set_text(type->desc, prefix, "region", call->region);
    return row_list(call->txn, type, &query, &list, err) &&
           (list.count < max ||
            err_set(err, code, "The maximum number of %s has been reached.", what));
}
