/* endpoints.c - VPC endpoints: gateway endpoints named by route tables, and interface
 * endpoints with an interface in each of their subnets. The services behind them are those
 * of this cloud; what a node serves of them is the data plane's. */
#include "service/ec2/interfaces.h"
#include "service/ec2/routes.h"

#define FULL_POLICY \
    "{\"Version\":\"2008-10-17\",\"Statement\":[{\"Effect\":\"Allow\"," \
    "\"Principal\":\"*\",\"Action\":\"*\",\"Resource\":\"*\"}]}"

static const struct {
    const char *name, *type;
} services[] = {{"ec2", "Interface"}, {"s3", "Gateway"}};

static const char *
service_name(struct call *call, size_t i)
{
    return arena_printf(call->arena, "com.amazonaws.%s.%s", call->region,
                        services[i].name);
}

/* ---- shown ---- */

static const char **
texts_copy(struct call *call, const char *const *items, size_t count)
{
    const char **out = ARENA_ARRAY(call->arena, count, const char *);
    for (size_t i = 0; i < count; i++) {
        out[i] = items[i];
    }
    return out;
}

static bool
endpoint_out(struct call *call, const struct row_vpc_endpoint *row, struct tag_set tags,
             struct ec2_vpc_endpoint *out, struct err *err)
{
    const struct row_eni names = {
        .account = row->account,
        .group_ids = {row->group_ids.items, row->group_ids.count}};
    struct ec2_group_identifier *groups;
    size_t count;
    if (!eni_groups_out(call, &names, &groups, &count, err)) {
        return false;
    }
    *out = (struct ec2_vpc_endpoint){
        .vpc_endpoint_id = row->id,
        .vpc_endpoint_type = row->type,
        .vpc_id = row->vpc_id,
        .service_name = row->service,
        .state = "available",
        .policy_document = row->policy,
        .route_table_ids = {row->table_ids.items, row->table_ids.count},
        .subnet_ids = {row->subnet_ids.items, row->subnet_ids.count},
        .network_interface_ids = {row->eni_ids.items, row->eni_ids.count},
        HAS(private_dns_enabled, row->private_dns),
        HAS(requester_managed, false),
        HAS(creation_timestamp, row->created_at),
        .owner_id = row->account,
        .tags = {tags_out(call, tags), tags.count},
    };
    out->groups.items =
        ARENA_ARRAY(call->arena, count, struct ec2_security_group_identifier);
    out->groups.count = count;
    for (size_t i = 0; i < count; i++) {
        out->groups.items[i].group_id = groups[i].group_id;
        out->groups.items[i].group_name = groups[i].group_name;
    }
    return true;
}

FILTER_TEXT(endpoint_id, struct ec2_vpc_endpoint, vpc_endpoint_id)
FILTER_TEXT(endpoint_service, struct ec2_vpc_endpoint, service_name)
FILTER_TEXT(endpoint_state, struct ec2_vpc_endpoint, state)
FILTER_TEXT(endpoint_type, struct ec2_vpc_endpoint, vpc_endpoint_type)
FILTER_TEXT(endpoint_vpc, struct ec2_vpc_endpoint, vpc_id)

static const struct filter_def endpoint_filters[] = {
    {"service-name", endpoint_service_values},
    {"vpc-endpoint-id", endpoint_id_values},
    {"vpc-endpoint-state", endpoint_state_values},
    {"vpc-endpoint-type", endpoint_type_values},
    {"vpc-id", endpoint_vpc_values},
};

bool
ec2_describe_vpc_endpoints(struct call *call,
                           const struct ec2_describe_vpc_endpoints_request *in,
                           struct ec2_describe_vpc_endpoints_result *out,
                           struct err *err)
{
    const struct row_vpc_endpoint prefix = {.account = call->account,
                                            .region = call->region};
    const struct listing_ask ask =
        LISTING_ASK(in, vpc_endpoint_ids, filters, "vpcEndpointIds", kind_endpoint,
                    endpoint_filters, &prefix);
    struct listing listing;
    if (!listing_open(call, &ask, &listing, err)) {
        return false;
    }
    struct ec2_vpc_endpoint *items =
        ARENA_ARRAY(call->arena, listing.rows.count, struct ec2_vpc_endpoint);
    size_t count = 0;
    for (size_t i = 0; i < listing.rows.count; i++) {
        const struct row_vpc_endpoint *row = listing.rows.rows[i];
        if (!endpoint_out(call, row, tags_of(&listing.tags, row->id), &items[count],
                          err)) {
            return false;
        }
        count += listing_accepts(&listing, row->id, &items[count]);
    }
    out->vpc_endpoints.items = items;
    out->vpc_endpoints.count = count;
    return listing_close(call, &listing, &out->next_token, err);
}

bool
ec2_describe_vpc_endpoint_services(
    struct call *call, const struct ec2_describe_vpc_endpoint_services_request *in,
    struct ec2_describe_vpc_endpoint_services_result *out, struct err *err)
{
    static const struct filter_def filters[] = {{"service-name", NULL},
                                                {"service-type", NULL}};
    struct filters used;
    struct pick names;
    pick_init(call, in->service_names.items, in->service_names.count, &names);
    if (!filters_init(call, filters, ARRAY_LEN(filters), in->filters.items,
                      in->filters.count, &used, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    out->service_names.items =
        ARENA_ARRAY(call->arena, ARRAY_LEN(services), const char *);
    out->service_details.items =
        ARENA_ARRAY(call->arena, ARRAY_LEN(services), struct ec2_service_detail);
    for (size_t i = 0; i < ARRAY_LEN(services); i++) {
        const char *name = service_name(call, i);
        if (!pick_take(&names, name)) {
            continue;
        }
        struct ec2_service_type_detail *type =
            ARENA_NEW(call->arena, struct ec2_service_type_detail);
        type->service_type = services[i].type;
        out->service_names.items[out->service_names.count++] = name;
        out->service_details.items[out->service_details.count++] =
            (struct ec2_service_detail){
                .service_name = name,
                .service_type = {type, 1},
                .owner = "amazon",
                HAS(acceptance_required, false),
                HAS(manages_vpc_endpoints, false),
                HAS(vpc_endpoint_policy_supported, true),
            };
    }
    for (size_t i = 0; i < names.count; i++) {
        if (!names.found[i]) {
            return err_set(err, ERR_SERVICE_NAME,
                           "The Vpc Endpoint Service '%.100s' does not exist",
                           names.ids[i]);
        }
    }
    return true;
}

/* ---- made ---- */

static bool
check_service(struct call *call, const struct ec2_create_vpc_endpoint_request *in,
              const char **out_type, struct err *err)
{
    *out_type = in->vpc_endpoint_type ? in->vpc_endpoint_type : "Gateway";
    for (size_t i = 0; i < ARRAY_LEN(services); i++) {
        if (str_eq(service_name(call, i), in->service_name) &&
            str_eq(services[i].type, *out_type)) {
            return true;
        }
    }
    return err_set(err, ERR_SERVICE_NAME,
                   "The Vpc Endpoint Service '%.100s' does not exist",
                   text_or_empty(in->service_name));
}

static bool
check_tables(struct call *call, const char *vpc_id, const char *const *ids,
             size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct row_route_table *table;
        if (!FIND(call, kind_route_table, ids[i], &table, err)) {
            return false;
        }
        if (!str_eq(table->vpc_id, vpc_id)) {
            return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                           "Route table %s belongs to another network.", table->id);
        }
    }
    return true;
}

/* An interface in each of the subnets. */
static bool
make_enis(struct call *call, struct row_vpc_endpoint *row, struct err *err)
{
    const char **ids = ARENA_ARRAY(call->arena, row->subnet_ids.count, const char *);
    struct new_eni ask = {
        .group_ids = row->group_ids.items,
        .group_count = row->group_ids.count,
        .description = arena_printf(call->arena, "VPC Endpoint Interface %s", row->id),
        .type = "vpc_endpoint",
        .owner_id = row->id,
    };
    for (size_t i = 0; i < row->subnet_ids.count; i++) {
        const struct row_eni *eni;
        if (!FIND(call, kind_subnet, row->subnet_ids.items[i], &ask.subnet, err)) {
            return false;
        }
        if (!str_eq(ask.subnet->vpc_id, row->vpc_id)) {
            return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                           "Subnet %s belongs to another network.", ask.subnet->id);
        }
        if (!eni_make(call, &ask, &eni, err)) {
            return false;
        }
        ids[i] = eni->id;
    }
    row->eni_ids.items = ids;
    row->eni_ids.count = row->subnet_ids.count;
    return true;
}

static bool
answer(struct call *call, const char *id, struct ec2_create_vpc_endpoint_result *out,
       struct err *err)
{
    const struct row_vpc_endpoint *row;
    struct tag_set tags;
    out->vpc_endpoint = ARENA_NEW(call->arena, struct ec2_vpc_endpoint);
    return FIND(call, kind_endpoint, id, &row, err) &&
           tags_shown(call, id, &tags, err) &&
           endpoint_out(call, row, tags, out->vpc_endpoint, err);
}

bool
ec2_create_vpc_endpoint(struct call *call,
                        const struct ec2_create_vpc_endpoint_request *in,
                        struct ec2_create_vpc_endpoint_result *out, struct err *err)
{
    const char *digest =
        request_digest(call, &ec2_create_vpc_endpoint_request_desc, in);
    const struct row_vpc *vpc;
    const char *const *groups = NULL;
    const char *before;
    struct row_vpc_endpoint row = {.account = call->account,
                                   .id = id_new(call->arena, call->rng, "vpce"),
                                   .region = call->region,
                                   .vpc_id = in->vpc_id,
                                   .service = in->service_name,
                                   .policy = in->policy_document ? in->policy_document
                                                                 : FULL_POLICY,
                                   .created_at = call->now_ns};
    out->client_token = in->client_token;
    if (!token_get(call, in->client_token, digest, &before, err)) {
        return false;
    }
    if (before) {
        return answer(call, before, out, err);
    }
    if (!FIND(call, kind_vpc, in->vpc_id, &vpc, err) ||
        !check_service(call, in, &row.type, err) ||
        !check_tables(call, vpc->id, in->route_table_ids.items,
                      in->route_table_ids.count, err) ||
        !new_tags_check(&kind_endpoint, in->tag_specifications.items,
                        in->tag_specifications.count, err)) {
        return false;
    }
    row.table_ids.items =
        texts_copy(call, in->route_table_ids.items, in->route_table_ids.count);
    row.table_ids.count = in->route_table_ids.count;
    if (str_eq(row.type, "Interface")) {
        row.private_dns = !in->has_private_dns_enabled || in->private_dns_enabled;
        row.subnet_ids.items =
            texts_copy(call, in->subnet_ids.items, in->subnet_ids.count);
        row.subnet_ids.count = in->subnet_ids.count;
        if (!eni_groups_check(call, vpc->id, in->security_group_ids.items,
                              in->security_group_ids.count, &groups,
                              &row.group_ids.count, err)) {
            return false;
        }
        row.group_ids.items = texts_copy(call, groups, row.group_ids.count);
    }
    return dry_run_check(in->dry_run, err) && make_enis(call, &row, err) &&
           row_insert(call->txn, &row_vpc_endpoint_type, &row, err) &&
           new_tags_put(call, &kind_endpoint, in->tag_specifications.items,
                        in->tag_specifications.count, row.id, err) &&
           token_put(call, in->client_token, digest, row.id, err) &&
           vpc_touch(call, vpc->id, err) && answer(call, row.id, out, err);
}

/* ---- changed and deleted ---- */

/* A list without 'removed' and with 'added'. */
static void
texts_change(struct call *call, const char *const *added, size_t added_count,
             const char *const *removed, size_t removed_count, const char ***items,
             size_t *count)
{
    const char **next = ARENA_ARRAY(call->arena, *count + added_count, const char *);
    size_t kept = 0;
    for (size_t i = 0; i < *count + added_count; i++) {
        const char *text = i < *count ? (*items)[i] : added[i - *count];
        bool drop = false;
        for (size_t k = 0; k < removed_count; k++) {
            drop |= str_eq(removed[k], text);
        }
        for (size_t k = 0; k < kept; k++) {
            drop |= str_eq(next[k], text);
        }
        if (!drop) {
            next[kept++] = text;
        }
    }
    *items = next;
    *count = kept;
}

bool
ec2_modify_vpc_endpoint(struct call *call,
                        const struct ec2_modify_vpc_endpoint_request *in,
                        struct ec2_modify_vpc_endpoint_result *out, struct err *err)
{
    const struct row_vpc_endpoint *row;
    if (in->add_subnet_ids.count || in->remove_subnet_ids.count ||
        in->add_security_group_ids.count || in->remove_security_group_ids.count) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "The subnets and groups of an endpoint cannot be changed.");
    }
    if (!FIND(call, kind_endpoint, in->vpc_endpoint_id, &row, err) ||
        !check_tables(call, row->vpc_id, in->add_route_table_ids.items,
                      in->add_route_table_ids.count, err)) {
        return false;
    }
    struct row_vpc_endpoint next = *row;
    texts_change(call, in->add_route_table_ids.items, in->add_route_table_ids.count,
                 in->remove_route_table_ids.items, in->remove_route_table_ids.count,
                 &next.table_ids.items, &next.table_ids.count);
    next.policy = in->reset_policy      ? FULL_POLICY
                  : in->policy_document ? in->policy_document
                                        : row->policy;
    next.private_dns =
        in->has_private_dns_enabled ? in->private_dns_enabled : row->private_dns;
    out->return_ = out->has_return_ = true;
    return dry_run_check(in->dry_run, err) &&
           row_put(call->txn, &row_vpc_endpoint_type, &next, err) &&
           vpc_touch(call, row->vpc_id, err);
}

bool
endpoints_leave(struct call *call, const struct row_route_table *table, struct err *err)
{
    const struct row_vpc_endpoint prefix = {.account = table->account,
                                            .vpc_id = table->vpc_id};
    struct row_list list;
    if (!rows_by(call, &row_vpc_endpoint_type, "by_vpc", 2, &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        struct row_vpc_endpoint next = *(const struct row_vpc_endpoint *)list.rows[i];
        texts_change(call, NULL, 0, &table->id, 1, &next.table_ids.items,
                     &next.table_ids.count);
        if (!row_put(call->txn, &row_vpc_endpoint_type, &next, err)) {
            return false;
        }
    }
    return true;
}

static bool
endpoint_delete(struct call *call, const char *id, struct err *err)
{
    const struct row_vpc_endpoint *row;
    if (!FIND(call, kind_endpoint, id, &row, err)) {
        return false;
    }
    for (size_t i = 0; i < row->eni_ids.count; i++) {
        const struct row_eni key = {.account = row->account,
                                    .id = row->eni_ids.items[i]};
        const void *eni;
        if (!row_get(call->txn, &row_eni_type, &key, &eni, err) ||
            (eni && !eni_remove(call->txn, eni, err))) {
            return false;
        }
    }
    return object_delete(call, &kind_endpoint, row, err) &&
           vpc_touch(call, row->vpc_id, err);
}

bool
ec2_delete_vpc_endpoints(struct call *call,
                         const struct ec2_delete_vpc_endpoints_request *in,
                         struct ec2_delete_vpc_endpoints_result *out, struct err *err)
{
    if (!dry_run_check(in->dry_run, err)) {
        return false;
    }
    out->unsuccessful.items = ARENA_ARRAY(call->arena, in->vpc_endpoint_ids.count,
                                          struct ec2_unsuccessful_item);
    for (size_t i = 0; i < in->vpc_endpoint_ids.count; i++) {
        const char *id = in->vpc_endpoint_ids.items[i];
        if (endpoint_delete(call, id, err)) {
            continue;
        }
        if (err->code != kind_endpoint.not_found) {
            return false;
        }
        /* AWS goes on, and says which were not there. */
        struct ec2_unsuccessful_item *item =
            &out->unsuccessful.items[out->unsuccessful.count++];
        item->resource_id = id;
        item->error = ARENA_NEW(call->arena, struct ec2_unsuccessful_item_error);
        item->error->code = err_info(err->code)->aws;
        item->error->message = arena_strdup(call->arena, err->msg);
        err_clear(err);
    }
    return true;
}
