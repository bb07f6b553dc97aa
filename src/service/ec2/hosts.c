/* hosts.c - AllocateHosts, ModifyHosts, ReleaseHosts. */
#include "service/ec2/hosts.h"
#include "core/pool.h"
#include "service/ec2/placement_load.h"

#define QUANTITY_MAX 100

/* ---- what it is for -------------------------------------------------------------- */

static bool
family_known(struct call *call, const char *family)
{
    for (size_t i = 0; i < call->config->type_count; i++) {
        const struct instance_type *type = &call->config->types[i];
        if (type->dedicated_hosts && str_eq(type->family, family)) {
            return true;
        }
    }
    return false;
}

/* A type, or a family for all of its types: one of the two. */
static bool
read_type(struct call *call, const char *type_name, const char *family,
          struct row_dedicated_host *out, struct err *err)
{
    if (str_empty(type_name) == str_empty(family)) {
        return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                       "Specify either InstanceType or InstanceFamily");
    }
    const struct instance_type *type = config_type(call->config, type_name);
    out->type = str_empty(type_name) ? NULL : type_name;
    out->family = type ? type->family : family;
    bool known = str_empty(type_name) ? family_known(call, family)
                                      : type && type->dedicated_hosts;
    return known || err_set(err, ERR_INVALID_PARAMETER_VALUE,
                            "Dedicated Hosts do not support %.100s.",
                            str_empty(type_name) ? family : type_name);
}

/* ---- AllocateHosts --------------------------------------------------------------- */

static bool
check_quota(struct call *call, const struct row_dedicated_host *like, int64_t quantity,
            struct err *err)
{
    struct row_list list;
    int64_t have = 0, most = call->config->default_quota_hosts;
    if (!rows_by(call, &row_dedicated_host_type, "by_region", 2, like, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_dedicated_host *host = list.rows[i];
        have += !host->released_at && str_eq(host->family, like->family);
    }
    return have + quantity <= most ||
           err_set(err, ERR_HOST_LIMIT,
                   "You have requested more Dedicated Hosts of family %s (%" PRId64
                   ") than your limit of %" PRId64 " allows. Ask the operator of this "
                   "cloud to adjust the limit.",
                   like->family, have + quantity, most);
}

/* As many whole hosts, each with room for one of what it is for. */
static bool
find_hosts(struct call *call, const struct row_dedicated_host *like, size_t quantity,
           struct pool_pick *picks, struct err *err)
{
    const struct instance_type *type = config_type(call->config, like->type);
    struct placement_ask ask = {
        .region = call->region,
        .zone = like->zone,
        .account = call->account,
        .tenancy = PLACEMENT_EMPTY,
    };
    size_t count;
    if (type) {
        places_ask_type(call->config, type, &ask);
    }
    placement_ask_machine(call, type ? type->vcpus : 1,
                          type ? type->memory_bytes : (int64_t)MIB, &ask);
    if (!pool_place(call->pool, call->txn, call->config, &ask, false, quantity, picks,
                    &count, err)) {
        return false;
    }
    return count == quantity ||
           err_set(
               err, ERR_HOST_CAPACITY,
               "There is not enough capacity to fulfill your Dedicated Host request "
               "in %s.",
               like->zone);
}

static bool
make_hosts(struct call *call, const struct ec2_allocate_hosts_request *in,
           struct row_dedicated_host *row, const struct pool_pick *picks,
           const char **ids, struct err *err)
{
    for (size_t i = 0; i < (size_t)in->quantity; i++) {
        row->id = ids[i] = id_new(call->arena, call->rng, "h");
        row->node_id = picks[i].node_id;
        if (!row_insert(call->txn, &row_dedicated_host_type, row, err) ||
            !node_claim_own(call->txn, row->node_id, row->account, row->id, err) ||
            !new_tags_put(call, &kind_host, in->tag_specifications.items,
                          in->tag_specifications.count, row->id, err)) {
            return false;
        }
    }
    return true;
}

static bool
check_allocate(struct call *call, const struct ec2_allocate_hosts_request *in,
               struct row_dedicated_host *row, struct err *err)
{
    const struct zone_config *zone = config_zone(call->config, in->availability_zone);
    if (!zone || !str_starts(in->availability_zone, call->region)) {
        return err_set(err, ERR_ZONE_INVALID, "Invalid availability zone: [%.100s]",
                       in->availability_zone);
    }
    if (in->quantity < 1 || in->quantity > QUANTITY_MAX) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%" PRId64 ") for parameter quantity is invalid. "
                       "Expecting a value between 1 and %d.",
                       in->quantity, QUANTITY_MAX);
    }
    if (str_eq(in->host_recovery, "on") || !str_empty(in->outpost_arn)) {
        return err_set(err, ERR_UNSUPPORTED,
                       "The requested configuration is currently not supported: host "
                       "recovery and Outposts.");
    }
    return read_type(call, in->instance_type, in->instance_family, row, err) &&
           new_tags_check(&kind_host, in->tag_specifications.items,
                          in->tag_specifications.count, err);
}

bool
ec2_allocate_hosts(struct call *call, const struct ec2_allocate_hosts_request *in,
                   struct ec2_allocate_hosts_result *out, struct err *err)
{
    const char *digest = request_digest(call, &ec2_allocate_hosts_request_desc, in);
    const char *before;
    struct row_dedicated_host row = {
        .account = call->account,
        .region = call->region,
        .zone = in->availability_zone,
        .auto_placement = str_empty(in->auto_placement) ? "on" : in->auto_placement,
        .created_at = call->now_ns,
        .client_token = in->client_token,
    };
    if (!token_get(call, in->client_token, digest, &before, err)) {
        return false;
    }
    if (before) {
        out->host_ids.items = ids_split(call, before, &out->host_ids.count);
        return true;
    }
    if (!check_allocate(call, in, &row, err) ||
        !check_quota(call, &row, in->quantity, err)) {
        return false;
    }
    size_t quantity = (size_t)in->quantity;
    struct pool_pick *picks = ARENA_ARRAY(call->arena, quantity, struct pool_pick);
    const char **ids = ARENA_ARRAY(call->arena, quantity, const char *);
    if (!find_hosts(call, &row, quantity, picks, err) ||
        !make_hosts(call, in, &row, picks, ids, err)) {
        return false;
    }
    out->host_ids.items = ids;
    out->host_ids.count = quantity;
    return token_put(call, in->client_token, digest, ids_join(call, ids, quantity),
                     err);
}

/* ---- ModifyHosts, ReleaseHosts: each host for itself ----------------------------- */

/* One that stands, or '*out' NULL with the item that says why not. */
static bool
standing_host(struct call *call, const char *id, const struct row_dedicated_host **out,
              struct ec2_unsuccessful_item *why, struct err *err)
{
    const struct row_dedicated_host key = {.account = call->account, .id = id};
    const void *row;
    if (!ids_check("h", &id, 1, ERR_HOST_MALFORMED, err) ||
        !row_get(call->txn, &row_dedicated_host_type, &key, &row, err)) {
        return false;
    }
    const struct row_dedicated_host *host = row;
    bool stands = host && !host->released_at && str_eq(host->region, call->region);
    *out = stands ? host : NULL;
    if (!stands) {
        why->error = ARENA_NEW(call->arena, struct ec2_unsuccessful_item_error);
        why->error->code = "Client.InvalidHost.NotFound";
        why->error->message = "No host found.";
        why->resource_id = id;
    }
    return true;
}

/* Fills 'error' when the host stays as it is. */
typedef bool host_change_fn(struct call *call, const struct row_dedicated_host *host,
                            const void *in, struct ec2_unsuccessful_item_error *error,
                            struct err *err);

struct outcome {
    const char **done;
    size_t done_count;
    struct ec2_unsuccessful_item *failed;
    size_t failed_count;
};

static bool
change_each(struct call *call, const char *const *ids, size_t count, const void *in,
            host_change_fn *change, struct outcome *out, struct err *err)
{
    *out = (struct outcome){
        .done = ARENA_ARRAY(call->arena, count, const char *),
        .failed = ARENA_ARRAY(call->arena, count, struct ec2_unsuccessful_item)};
    for (size_t i = 0; i < count; i++) {
        struct ec2_unsuccessful_item *failed = &out->failed[out->failed_count];
        struct ec2_unsuccessful_item_error *error =
            ARENA_NEW(call->arena, struct ec2_unsuccessful_item_error);
        const struct row_dedicated_host *host;
        if (!standing_host(call, ids[i], &host, failed, err) ||
            (host && !change(call, host, in, error, err))) {
            return false;
        }
        if (host && error->code) {
            *failed =
                (struct ec2_unsuccessful_item){.error = error, .resource_id = host->id};
        }
        if (!host || error->code) {
            out->failed_count++;
        } else {
            out->done[out->done_count++] = host->id;
        }
    }
    return true;
}

static bool
modify_one(struct call *call, const struct row_dedicated_host *host, const void *in_,
           struct ec2_unsuccessful_item_error *error, struct err *err)
{
    const struct ec2_modify_hosts_request *in = in_;
    struct row_dedicated_host next = *host;
    struct row_list list;
    if (!str_empty(in->auto_placement)) {
        next.auto_placement = in->auto_placement;
    }
    if (!str_empty(in->instance_type) || !str_empty(in->instance_family)) {
        if (!read_type(call, in->instance_type, in->instance_family, &next, err) ||
            !host_instances(call, host, &list, err)) {
            return false;
        }
        if (list.count > 0 && !(str_eq(next.family, host->family) && !next.type)) {
            error->code = "Client.InvalidHost.Occupied";
            error->message =
                "The Dedicated Host has instances: it may only be opened to "
                "more types of their family.";
            return true;
        }
    }
    return row_put(call->txn, &row_dedicated_host_type, &next, err);
}

bool
ec2_modify_hosts(struct call *call, const struct ec2_modify_hosts_request *in,
                 struct ec2_modify_hosts_result *out, struct err *err)
{
    struct outcome outcome;
    if (str_eq(in->host_recovery, "on")) {
        return err_set(err, ERR_UNSUPPORTED,
                       "The requested configuration is currently not supported: host "
                       "recovery.");
    }
    if (!change_each(call, in->host_ids.items, in->host_ids.count, in, modify_one,
                     &outcome, err)) {
        return false;
    }
    out->successful.items = outcome.done;
    out->successful.count = outcome.done_count;
    out->unsuccessful.items = outcome.failed;
    out->unsuccessful.count = outcome.failed_count;
    return true;
}

static bool
release_one(struct call *call, const struct row_dedicated_host *host,
            const void *in UNUSED, struct ec2_unsuccessful_item_error *error,
            struct err *err)
{
    struct row_list list;
    if (!host_instances(call, host, &list, err)) {
        return false;
    }
    if (list.count > 0) {
        error->code = "Client.InvalidHost.Occupied";
        error->message = "Dedicated host is occupied by instances.";
        return true;
    }
    struct row_dedicated_host next = *host;
    next.released_at = call->now_ns;
    return row_put(call->txn, &row_dedicated_host_type, &next, err) &&
           node_claim_own(call->txn, host->node_id, NULL, NULL, err) &&
           tags_drop(call, host->id, err);
}

bool
ec2_release_hosts(struct call *call, const struct ec2_release_hosts_request *in,
                  struct ec2_release_hosts_result *out, struct err *err)
{
    struct outcome outcome;
    if (!change_each(call, in->host_ids.items, in->host_ids.count, in, release_one,
                     &outcome, err)) {
        return false;
    }
    out->successful.items = outcome.done;
    out->successful.count = outcome.done_count;
    out->unsuccessful.items = outcome.failed;
    out->unsuccessful.count = outcome.failed_count;
    return true;
}
