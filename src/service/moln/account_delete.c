/* account_delete.c - DeleteAccount: refused while the account owns something that runs,
 * stores or was made by it; its default network objects go with it. */
#include "service/moln/operators.h"

/* Whether a row is something that the account still owns. */
typedef bool owns_fn(const void *row);

static bool
owns_any(const void *row)
{
    (void)row;
    return true;
}

static bool
owns_instance(const void *row)
{
    const struct row_instance *inst = row;
    return !inst->terminated_at && !inst->hidden;
}

static bool
owns_task(const void *row)
{
    return str_eq(((const struct row_import_task *)row)->state, "active");
}

static bool
owns_image(const void *row)
{
    return !str_eq(((const struct row_image *)row)->state, "deregistered");
}

static bool
owns_blob(const void *row)
{
    return !str_eq(((const struct row_blob *)row)->state, "deleting");
}

static const struct {
    const struct row_type *type;
    const char *index; /* That begins with the account; NULL: the key does. */
    owns_fn *owns;
    const char *what;
} owned[] = {
    {&row_instance_type, NULL, owns_instance, "instances"},
    {&row_volume_type, NULL, owns_any, "volumes"},
    {&row_image_type, "by_account", owns_image, "images"},
    {&row_import_task_type, NULL, owns_task, "imports under way"},
    {&row_blob_type, "by_account", owns_blob, "uploads or disks"},
    {&row_key_pair_type, NULL, owns_any, "key pairs"},
    {&row_launch_template_type, NULL, owns_any, "launch templates"},
};

/* What every account has without asking for it. */
static const struct row_type *const given[] = {
    &row_tag_type,
    &row_zone_default_type,
    &row_address_use_type,
    &row_eni_type,
    &row_security_group_rule_type,
    &row_subnet_type,
    &row_security_group_type,
    &row_vpc_type,
    &row_client_token_type,
};

static bool
rows_of(struct call *call, const struct row_type *type, const char *index,
        const char *account, struct row_list *out, struct err *err)
{
    void *prefix = arena_alloc(call->arena, type->desc->size);
    const char **at = desc_at(desc_find(type->desc, "account"), prefix);
    *at = account;
    const struct row_query query = {
        .index = index, .prefix = prefix, .prefix_fields = 1};
    return row_list(call->txn, type, &query, out, err);
}

static bool
owns_nothing(struct call *call, const char *account, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(owned); i++) {
        struct row_list list;
        if (!rows_of(call, owned[i].type, owned[i].index, account, &list, err)) {
            return false;
        }
        for (size_t k = 0; k < list.count; k++) {
            if (owned[i].owns(list.rows[k])) {
                return err_set(err, ERR_RESOURCE_IN_USE,
                               "The account '%s' still has %s", account, owned[i].what);
            }
        }
    }
    return true;
}

static bool
rows_drop(struct call *call, const struct row_type *type, const struct row_list *list,
          struct err *err)
{
    for (size_t i = 0; i < list->count; i++) {
        if (!row_delete(call->txn, type, list->rows[i], err)) {
            return false;
        }
    }
    return true;
}

bool
moln_delete_account(struct call *call, const struct moln_delete_account_request *in,
                    struct moln_delete_account_response *out, struct err *err)
{
    const struct row_account *row;
    struct row_list list;
    (void)out;
    if (!account_find(call, in->account_id, &row, err) ||
        !owns_nothing(call, row->id, err) || !keys_of(call, row->id, &list, err) ||
        !rows_drop(call, &row_access_key_type, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(given); i++) {
        if (!rows_of(call, given[i], NULL, row->id, &list, err) ||
            !rows_drop(call, given[i], &list, err)) {
            return false;
        }
    }
    struct row_account gone = *row;
    gone.deleted = true;
    gone.state = "disabled";
    return row_put(call->txn, &row_account_type, &gone, err);
}
