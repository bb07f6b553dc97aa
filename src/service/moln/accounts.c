/* accounts.c - accounts: made, listed, limited, disabled, deleted. */
#include "service/ec2/common.h"
#include "service/moln/operators.h"

#define DRAWS 16 /* Of an account id, before giving up. */
#define USER_ID_LEN 22

/* ---- what is answered ---- */

static struct moln_account *
account_out(struct call *call, const struct row_account *row)
{
    const struct cloud_config *config = call->config;
    struct moln_account *out = ARENA_NEW(call->arena, struct moln_account);
    *out = (struct moln_account){
        .account_id = row->id,
        .name = row->name,
        .state = row->state,
        HAS(created_at, row->created_at),
        HAS(quota_vcpus,
            row->quota_vcpus ? row->quota_vcpus : config->default_quota_vcpus),
        HAS(quota_instances, row->quota_instances ? row->quota_instances
                                                  : config->default_quota_instances),
        HAS(quota_disk_gi_b,
            row->quota_disk_gib ? row->quota_disk_gib : config->default_quota_disk_gib),
        HAS(tunnels, !row->tunnels_off),
    };
    return out;
}

/* Adds what the account uses, over all regions. */
static bool
usage_add(struct call *call, struct moln_account *out, struct err *err)
{
    const struct row_instance instances_of = {.account = out->account_id};
    const struct row_volume volumes_of = {.account = out->account_id};
    const struct row_query instance_query = {.prefix = &instances_of,
                                             .prefix_fields = 1};
    const struct row_query volume_query = {.prefix = &volumes_of, .prefix_fields = 1};
    struct row_list instances, volumes;
    if (!row_list(call->txn, &row_instance_type, &instance_query, &instances, err) ||
        !row_list(call->txn, &row_volume_type, &volume_query, &volumes, err)) {
        return false;
    }
    out->has_used_vcpus = out->has_used_instances = out->has_used_disk_gi_b = true;
    for (size_t i = 0; i < instances.count; i++) {
        const struct row_instance *inst = instances.rows[i];
        out->used_instances += !str_eq(inst->want_state, "terminated");
        out->used_vcpus += str_eq(inst->want_state, "running") ? inst->vcpus : 0;
    }
    for (size_t i = 0; i < volumes.count; i++) {
        out->used_disk_gi_b += ((const struct row_volume *)volumes.rows[i])->size_gib;
    }
    return true;
}

/* ---- CreateAccount ---- */

/* Whether no account has, or had, the id. */
static bool
id_free(struct call *call, const char *id, bool *out, struct err *err)
{
    const struct row_account key = {.id = id};
    const void *row;
    if (!row_get(call->txn, &row_account_type, &key, &row, err)) {
        return false;
    }
    *out = row == NULL;
    return true;
}

static bool
id_choose(struct call *call, const char *ask, const char **out, struct err *err)
{
    bool free_id;
    if (ask) {
        if (!id_free(call, ask, &free_id, err)) {
            return false;
        }
        *out = ask;
        return (free_id && ask[0] != '0') ||
               err_set(err, ERR_RESOURCE_IN_USE,
                       "The account id '%s' is taken or reserved", ask);
    }
    for (int i = 0; i < DRAWS; i++) {
        char drawn[13];
        id_make_account(call->rng, drawn);
        if (!id_free(call, drawn, &free_id, err)) {
            return false;
        }
        if (free_id) {
            *out = arena_strdup(call->arena, drawn);
            return true;
        }
    }
    return err_set(err, ERR_INTERNAL, "no account id is free");
}

/* "AIDA" and base32, AWS's form of a user's id. */
static const char *
user_id_make(struct call *call)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    char *out = arena_alloc(call->arena, USER_ID_LEN);
    (void)snprintf(out, USER_ID_LEN, "AIDA");
    for (size_t i = 4; i + 1 < USER_ID_LEN; i++) {
        out[i] = digits[rng_below(call->rng, sizeof digits - 1)];
    }
    return out;
}

bool
moln_create_account(struct call *call, const struct moln_create_account_request *in,
                    struct moln_create_account_response *out, struct err *err)
{
    struct row_account row = {
        .name = in->name,
        .state = "active",
        .created_at = call->now_ns,
        .quota_vcpus = in->quota_vcpus,
        .quota_instances = in->quota_instances,
        .quota_disk_gib = in->quota_disk_gi_b,
        .user_id = user_id_make(call),
    };
    if (!id_choose(call, in->account_id, &row.id, err) ||
        !row_insert(call->txn, &row_account_type, &row, err)) {
        return false;
    }
    for (size_t i = 0; i < call->config->region_count; i++) {
        const char *vpc_id;
        if (!default_vpc_ensure(call, row.id, call->config->regions[i].name, &vpc_id,
                                err)) {
            return false;
        }
    }
    out->account = account_out(call, &row);
    return true;
}

/* ---- ListAccounts, DescribeAccount ---- */

bool
moln_list_accounts(struct call *call, const struct moln_list_accounts_request *in,
                   struct moln_list_accounts_response *out, struct err *err)
{
    struct listing listing;
    struct row_list list;
    if (!listing_init(call, in->has_max_results, in->max_results, in->next_token, NULL,
                      &listing, err) ||
        !row_all(call, &row_account_type, &list, err)) {
        return false;
    }
    struct moln_account *items =
        ARENA_ARRAY(call->arena, list.count, struct moln_account);
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_account *row = list.rows[i];
        if (!row->deleted && listing_take(&listing, row->id)) {
            items[count] = *account_out(call, row);
            if (!usage_add(call, &items[count++], err)) {
                return false;
            }
        }
    }
    out->accounts.items = items;
    out->accounts.count = count;
    out->next_token = listing_next(call, &listing);
    return true;
}

bool
moln_describe_account(struct call *call, const struct moln_describe_account_request *in,
                      struct moln_describe_account_response *out, struct err *err)
{
    const struct row_account *row;
    if (!account_find(call, in->account_id, &row, err)) {
        return false;
    }
    out->account = account_out(call, row);
    return usage_add(call, out->account, err);
}

/* ---- changes ---- */

static bool
state_set(struct call *call, const char *id, const char *state,
          struct moln_account **out, struct err *err)
{
    const struct row_account *row;
    if (!account_find(call, id, &row, err)) {
        return false;
    }
    struct row_account changed = *row;
    changed.state = state;
    *out = account_out(call, &changed);
    return row_put(call->txn, &row_account_type, &changed, err);
}

bool
moln_disable_account(struct call *call, const struct moln_disable_account_request *in,
                     struct moln_disable_account_response *out, struct err *err)
{
    return state_set(call, in->account_id, "disabled", &out->account, err);
}

bool
moln_enable_account(struct call *call, const struct moln_enable_account_request *in,
                    struct moln_enable_account_response *out, struct err *err)
{
    return state_set(call, in->account_id, "active", &out->account, err);
}

bool
moln_set_account_quota(struct call *call,
                       const struct moln_set_account_quota_request *in,
                       struct moln_set_account_quota_response *out, struct err *err)
{
    const struct row_account *row;
    if (!account_find(call, in->account_id, &row, err)) {
        return false;
    }
    struct row_account changed = *row;
    changed.quota_vcpus = in->has_quota_vcpus ? in->quota_vcpus : row->quota_vcpus;
    changed.quota_instances =
        in->has_quota_instances ? in->quota_instances : row->quota_instances;
    changed.quota_disk_gib =
        in->has_quota_disk_gi_b ? in->quota_disk_gi_b : row->quota_disk_gib;
    out->account = account_out(call, &changed);
    return row_put(call->txn, &row_account_type, &changed, err);
}

bool
moln_set_tunnels(struct call *call, const struct moln_set_tunnels_request *in,
                 struct moln_set_tunnels_response *out, struct err *err)
{
    const struct row_account *row;
    if (!account_find(call, in->account_id, &row, err)) {
        return false;
    }
    struct row_account changed = *row;
    changed.tunnels_off = !in->enabled;
    out->account = account_out(call, &changed);
    return row_put(call->txn, &row_account_type, &changed, err);
}
