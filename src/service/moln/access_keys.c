/* access_keys.c - accounts' and operators' keys. A secret is answered once; the row
 * keeps it sealed. */
#include "core/access_key.h"
#include "service/moln/operators.h"

#define LIVE_KEYS 2 /* An account's, active or not. */

static struct moln_access_key
key_out(const struct row_access_key *row)
{
    bool of_operator = str_eq(row->account, OPERATOR_ACCOUNT);
    return (struct moln_access_key){
        .access_key_id = row->id,
        .account_id = of_operator ? NULL : row->account,
        .name = str_empty(row->name) ? NULL : row->name,
        .state = row->state,
        HAS(created_at, row->created_at),
        HAS_TIME(last_used_at, row->last_used_at),
    };
}

static struct moln_access_key *
key_out_one(struct call *call, const struct row_access_key *row)
{
    struct moln_access_key *out = ARENA_NEW(call->arena, struct moln_access_key);
    *out = key_out(row);
    return out;
}

static bool
key_make(struct call *call, const char *account, const char *name,
         struct moln_new_access_key **out, struct err *err)
{
    char id[ACCESS_KEY_ID_LEN], secret[ACCESS_KEY_SECRET_LEN];
    bool of_operator = str_eq(account, OPERATOR_ACCOUNT);
    access_key_make(call->rng, of_operator, id, secret);
    const struct row_access_key row = {
        .id = arena_strdup(call->arena, id),
        .account = account,
        .secret = arena_strdup(call->arena, secret),
        .state = "active",
        .created_at = call->now_ns,
        .name = name,
    };
    *out = ARENA_NEW(call->arena, struct moln_new_access_key);
    **out = (struct moln_new_access_key){
        .access_key_id = row.id,
        .secret_access_key = row.secret,
        .account_id = of_operator ? NULL : account,
        .state = row.state,
        HAS(created_at, row.created_at),
    };
    return row_insert(call->txn, &row_access_key_type, &row, err);
}

/* A key of an account, or of an operator. */
static bool
key_find(struct call *call, const char *id, bool of_operator,
         const struct row_access_key **out, struct err *err)
{
    const struct row_access_key key = {.id = id};
    const void *row;
    if (!row_get(call->txn, &row_access_key_type, &key, &row, err)) {
        return false;
    }
    const struct row_access_key *found = row;
    if (!found || str_eq(found->account, OPERATOR_ACCOUNT) != of_operator) {
        return err_no(err, "access key", id);
    }
    *out = found;
    return true;
}

static bool
key_state_set(struct call *call, const struct row_access_key *row, const char *state,
              struct moln_access_key **out, struct err *err)
{
    struct row_access_key changed = *row;
    changed.state = state;
    *out = key_out_one(call, &changed);
    return row_put(call->txn, &row_access_key_type, &changed, err);
}

/* Room for one more key. */
static bool
room_check(struct call *call, const char *account, struct err *err)
{
    struct row_list list;
    return keys_of(call, account, &list, err) &&
           (list.count < LIVE_KEYS ||
            err_set(err, ERR_LIMIT_EXCEEDED,
                    "The account '%s' has %d access keys already: delete one first",
                    account, LIVE_KEYS));
}

static struct moln_access_key *
keys_out(struct call *call, const struct row_list *list)
{
    struct moln_access_key *out =
        ARENA_ARRAY(call->arena, list->count, struct moln_access_key);
    for (size_t i = 0; i < list->count; i++) {
        out[i] = key_out(list->rows[i]);
    }
    return out;
}

/* ---- accounts' keys ---- */

bool
moln_create_access_key(struct call *call,
                       const struct moln_create_access_key_request *in,
                       struct moln_create_access_key_response *out, struct err *err)
{
    const struct row_account *account;
    return account_find(call, in->account_id, &account, err) &&
           room_check(call, account->id, err) &&
           key_make(call, account->id, NULL, &out->access_key, err);
}

bool
moln_list_access_keys(struct call *call, const struct moln_list_access_keys_request *in,
                      struct moln_list_access_keys_response *out, struct err *err)
{
    const struct row_account *account;
    struct row_list list;
    if (!account_find(call, in->account_id, &account, err) ||
        !keys_of(call, account->id, &list, err)) {
        return false;
    }
    out->access_keys.items = keys_out(call, &list);
    out->access_keys.count = list.count;
    return true;
}

bool
moln_rotate_access_key(struct call *call,
                       const struct moln_rotate_access_key_request *in,
                       struct moln_rotate_access_key_response *out, struct err *err)
{
    const struct row_access_key *row;
    return key_find(call, in->access_key_id, false, &row, err) &&
           room_check(call, row->account, err) &&
           key_state_set(call, row, "inactive", &out->deactivated, err) &&
           key_make(call, row->account, NULL, &out->access_key, err);
}

bool
moln_deactivate_access_key(struct call *call,
                           const struct moln_deactivate_access_key_request *in,
                           struct moln_deactivate_access_key_response *out,
                           struct err *err)
{
    const struct row_access_key *row;
    return key_find(call, in->access_key_id, false, &row, err) &&
           key_state_set(call, row, "inactive", &out->access_key, err);
}

bool
moln_activate_access_key(struct call *call,
                         const struct moln_activate_access_key_request *in,
                         struct moln_activate_access_key_response *out, struct err *err)
{
    const struct row_access_key *row;
    return key_find(call, in->access_key_id, false, &row, err) &&
           key_state_set(call, row, "active", &out->access_key, err);
}

bool
moln_delete_access_key(struct call *call,
                       const struct moln_delete_access_key_request *in,
                       struct moln_delete_access_key_response *out, struct err *err)
{
    const struct row_access_key *row;
    (void)out;
    return key_find(call, in->access_key_id, false, &row, err) &&
           row_delete(call->txn, &row_access_key_type, row, err);
}

/* ---- operators' keys ---- */

bool
moln_create_operator_key(struct call *call,
                         const struct moln_create_operator_key_request *in,
                         struct moln_create_operator_key_response *out, struct err *err)
{
    return key_make(call, OPERATOR_ACCOUNT, in->name, &out->access_key, err);
}

bool
moln_list_operator_keys(struct call *call,
                        const struct moln_list_operator_keys_request *in,
                        struct moln_list_operator_keys_response *out, struct err *err)
{
    struct row_list list;
    (void)in;
    if (!keys_of(call, OPERATOR_ACCOUNT, &list, err)) {
        return false;
    }
    out->access_keys.items = keys_out(call, &list);
    out->access_keys.count = list.count;
    return true;
}

bool
moln_deactivate_operator_key(struct call *call,
                             const struct moln_deactivate_operator_key_request *in,
                             struct moln_deactivate_operator_key_response *out,
                             struct err *err)
{
    const struct row_access_key *row;
    struct row_list list;
    size_t others = 0;
    if (!key_find(call, in->access_key_id, true, &row, err) ||
        !keys_of(call, OPERATOR_ACCOUNT, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_access_key *other = list.rows[i];
        others += str_eq(other->state, "active") && !str_eq(other->id, row->id);
    }
    if (!others) {
        return err_set(err, ERR_RESOURCE_IN_USE,
                       "'%s' is the last active operator key: without it nobody could "
                       "make another",
                       row->id);
    }
    return key_state_set(call, row, "inactive", &out->access_key, err);
}
