/* route_tables.c - route tables and what they are associated with. */
#include "service/ec2/routes.h"

/* ---- who uses a table ---- */

/* The VPC's subnets that say so themselves. */
static bool
subnets_of(struct call *call, const struct row_route_table *table, struct row_list *out,
           struct err *err)
{
    const struct row_subnet prefix = {.account = table->account,
                                      .vpc_id = table->vpc_id};
    if (!rows_by(call, &row_subnet_type, "by_vpc", 2, &prefix, out, err)) {
        return false;
    }
    size_t count = 0;
    for (size_t i = 0; i < out->count; i++) {
        const struct row_subnet *subnet = out->rows[i];
        if (str_eq(subnet->table_id, table->id)) {
            out->rows[count++] = subnet;
        }
    }
    out->count = count;
    return true;
}

static struct ec2_route_table_association_state *
association_state(struct call *call)
{
    struct ec2_route_table_association_state *state =
        ARENA_NEW(call->arena, struct ec2_route_table_association_state);
    state->state = "associated";
    return state;
}

static bool
associations_out(struct call *call, const struct row_vpc *vpc,
                 const struct row_route_table *table, struct ec2_route_table *out,
                 struct err *err)
{
    struct row_list subnets;
    if (!subnets_of(call, table, &subnets, err)) {
        return false;
    }
    struct ec2_route_table_association *items =
        ARENA_ARRAY(call->arena, subnets.count + 1, struct ec2_route_table_association);
    size_t count = 0;
    if (str_eq(vpc->main_table_id, table->id)) {
        items[count++] = (struct ec2_route_table_association){
            HAS(main, true),
            .route_table_association_id = vpc->main_association_id,
            .route_table_id = table->id,
            .association_state = association_state(call),
        };
    }
    for (size_t i = 0; i < subnets.count; i++) {
        const struct row_subnet *subnet = subnets.rows[i];
        items[count++] = (struct ec2_route_table_association){
            HAS(main, false),
            .route_table_association_id = subnet->table_association_id,
            .route_table_id = table->id,
            .subnet_id = subnet->id,
            .association_state = association_state(call),
        };
    }
    out->associations.items = items;
    out->associations.count = count;
    return true;
}

static bool
table_out(struct call *call, const struct row_route_table *table, struct tag_set tags,
          struct ec2_route_table *out, struct err *err)
{
    const struct row_vpc *vpc;
    if (!FIND(call, kind_vpc, table->vpc_id, &vpc, err)) {
        return false;
    }
    *out = (struct ec2_route_table){
        .route_table_id = table->id,
        .vpc_id = table->vpc_id,
        .owner_id = table->account,
        .propagating_vgws = NO_ITEMS(call, struct ec2_propagating_vgw),
        .tags = {tags_out(call, tags), tags.count},
    };
    return associations_out(call, vpc, table, out, err) &&
           routes_out(call, vpc, table, &out->routes.items, &out->routes.count, err);
}

/* ---- DescribeRouteTables ---- */

FILTER_TEXT(table_id, struct ec2_route_table, route_table_id)
FILTER_TEXT(table_owner, struct ec2_route_table, owner_id)
FILTER_TEXT(table_vpc, struct ec2_route_table, vpc_id)
FILTER_EACH(association_id, struct ec2_route_table, associations,
            route_table_association_id)
FILTER_EACH(association_table, struct ec2_route_table, associations, route_table_id)
FILTER_EACH(association_subnet, struct ec2_route_table, associations, subnet_id)
FILTER_EACH(association_gateway, struct ec2_route_table, associations, gateway_id)
FILTER_EACH(route_block, struct ec2_route_table, routes, destination_cidr_block)
FILTER_EACH(route_block6, struct ec2_route_table, routes, destination_ipv6_cidr_block)
FILTER_EACH(route_list, struct ec2_route_table, routes, destination_prefix_list_id)
FILTER_EACH(route_egress, struct ec2_route_table, routes,
            egress_only_internet_gateway_id)
FILTER_EACH(route_gateway, struct ec2_route_table, routes, gateway_id)
FILTER_EACH(route_instance, struct ec2_route_table, routes, instance_id)
FILTER_EACH(route_nat, struct ec2_route_table, routes, nat_gateway_id)
FILTER_EACH(route_origin, struct ec2_route_table, routes, origin)
FILTER_EACH(route_state, struct ec2_route_table, routes, state)
FILTER_EACH(route_peering, struct ec2_route_table, routes, vpc_peering_connection_id)

static void
association_main_values(const void *object, struct filter_test *test)
{
    const struct ec2_route_table *table = object;
    for (size_t i = 0; i < table->associations.count; i++) {
        filter_offer_bool(test, table->associations.items[i].main);
    }
}

static const struct filter_def table_filters[] = {
    {"association.gateway-id", association_gateway_values},
    {"association.main", association_main_values},
    {"association.route-table-association-id", association_id_values},
    {"association.route-table-id", association_table_values},
    {"association.subnet-id", association_subnet_values},
    {"owner-id", table_owner_values},
    {"route-table-id", table_id_values},
    {"route.destination-cidr-block", route_block_values},
    {"route.destination-ipv6-cidr-block", route_block6_values},
    {"route.destination-prefix-list-id", route_list_values},
    {"route.egress-only-internet-gateway-id", route_egress_values},
    {"route.gateway-id", route_gateway_values},
    {"route.instance-id", route_instance_values},
    {"route.nat-gateway-id", route_nat_values},
    {"route.origin", route_origin_values},
    {"route.state", route_state_values},
    {"route.transit-gateway-id", NULL},
    {"route.vpc-peering-connection-id", route_peering_values},
    {"transit-gateway-id", NULL},
    {"vpc-id", table_vpc_values},
};

bool
ec2_describe_route_tables(struct call *call,
                          const struct ec2_describe_route_tables_request *in,
                          struct ec2_describe_route_tables_result *out, struct err *err)
{
    const struct row_route_table prefix = {.account = call->account,
                                           .region = call->region};
    const struct listing_ask ask =
        LISTING_ASK(in, route_table_ids, filters, "routeTableIds", kind_route_table,
                    table_filters, &prefix);
    struct listing listing;
    if (!listing_open(call, &ask, &listing, err)) {
        return false;
    }
    out->route_tables.items =
        ARENA_ARRAY(call->arena, listing.rows.count, struct ec2_route_table);
    for (size_t i = 0; i < listing.rows.count; i++) {
        const struct row_route_table *row = listing.rows.rows[i];
        struct ec2_route_table *table =
            &out->route_tables.items[out->route_tables.count];
        if (!table_out(call, row, tags_of(&listing.tags, row->id), table, err)) {
            return false;
        }
        out->route_tables.count += listing_accepts(&listing, row->id, table);
    }
    return listing_close(call, &listing, &out->next_token, err);
}

/* ---- made and deleted ---- */

bool
ec2_create_route_table(struct call *call,
                       const struct ec2_create_route_table_request *in,
                       struct ec2_create_route_table_result *out, struct err *err)
{
    const struct row_vpc *vpc;
    struct row_list list;
    struct tag_set tags;
    struct row_route_table table = {.account = call->account,
                                    .id = id_new(call->arena, call->rng, "rtb"),
                                    .region = call->region,
                                    .vpc_id = in->vpc_id,
                                    .created_at = call->now_ns};
    if (!FIND(call, kind_vpc, in->vpc_id, &vpc, err) ||
        !new_tags_check(&kind_route_table, in->tag_specifications.items,
                        in->tag_specifications.count, err) ||
        !rows_by(call, &row_route_table_type, "by_vpc", 2, &table, &list, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    if (list.count >= TABLES_MAX) {
        return err_set(err, ERR_ROUTE_TABLE_LIMIT,
                       "The maximum number of route tables has been reached.");
    }
    out->route_table = ARENA_NEW(call->arena, struct ec2_route_table);
    return row_insert(call->txn, &row_route_table_type, &table, err) &&
           new_tags_put(call, &kind_route_table, in->tag_specifications.items,
                        in->tag_specifications.count, table.id, err) &&
           tags_shown(call, table.id, &tags, err) &&
           table_out(call, &table, tags, out->route_table, err);
}

bool
route_table_remove(struct call *call, const struct row_route_table *table,
                   struct err *err)
{
    const struct row_route prefix = {.account = table->account, .table_id = table->id};
    struct row_list routes;
    if (!rows_by(call, &row_route_type, NULL, 2, &prefix, &routes, err)) {
        return false;
    }
    for (size_t i = 0; i < routes.count; i++) {
        if (!row_delete(call->txn, &row_route_type, routes.rows[i], err)) {
            return false;
        }
    }
    return object_delete(call, &kind_route_table, table, err);
}

bool
ec2_delete_route_table(struct call *call,
                       const struct ec2_delete_route_table_request *in, struct err *err)
{
    const struct row_route_table *table;
    const struct row_vpc *vpc;
    struct row_list subnets;
    if (!FIND(call, kind_route_table, in->route_table_id, &table, err) ||
        !FIND(call, kind_vpc, table->vpc_id, &vpc, err) ||
        !subnets_of(call, table, &subnets, err)) {
        return false;
    }
    if (subnets.count || str_eq(vpc->main_table_id, table->id)) {
        return err_depends(err, "routeTable", table->id);
    }
    return dry_run_check(in->dry_run, err) && route_table_remove(call, table, err) &&
           vpc_touch(call, vpc->id, err);
}

/* ---- associations ---- */

bool
ec2_associate_route_table(struct call *call,
                          const struct ec2_associate_route_table_request *in,
                          struct ec2_associate_route_table_result *out, struct err *err)
{
    const struct row_route_table *table;
    const struct row_subnet *subnet;
    if (in->gateway_id) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "Route tables of gateways are not supported by this cloud.");
    }
    if (!FIND(call, kind_route_table, in->route_table_id, &table, err) ||
        !FIND(call, kind_subnet, in->subnet_id, &subnet, err)) {
        return false;
    }
    if (!str_eq(table->vpc_id, subnet->vpc_id)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Route table %s and subnet %s belong to different networks",
                       table->id, subnet->id);
    }
    if (!str_empty(subnet->table_id) && !str_eq(subnet->table_id, table->id)) {
        return err_set(err, ERR_ADDRESS_ASSOCIATED,
                       "the specified association for route table %s conflicts with an "
                       "existing association",
                       table->id);
    }
    struct row_subnet next = *subnet;
    next.table_id = table->id;
    if (str_empty(next.table_association_id)) {
        next.table_association_id = id_new(call->arena, call->rng, "rtbassoc");
    }
    out->association_id = next.table_association_id;
    out->association_state = association_state(call);
    return dry_run_check(in->dry_run, err) &&
           row_put(call->txn, &row_subnet_type, &next, err) &&
           vpc_touch(call, subnet->vpc_id, err);
}

/* What has the association: a subnet, or (main) a VPC; the other stays NULL. */
struct association {
    const struct row_subnet *subnet;
    const struct row_vpc *vpc;
};

static bool
association_find(struct call *call, const char *id, struct association *out,
                 struct err *err)
{
    const struct row_subnet subnet = {.account = call->account, .region = call->region};
    const struct row_vpc vpc = {.account = call->account, .region = call->region};
    struct row_list subnets, vpcs;
    *out = (struct association){0};
    if (!rows_of_region(call, &row_subnet_type, &subnet, &subnets, err) ||
        !rows_of_region(call, &row_vpc_type, &vpc, &vpcs, err)) {
        return false;
    }
    for (size_t i = 0; i < subnets.count && !str_empty(id); i++) {
        const struct row_subnet *row = subnets.rows[i];
        out->subnet = str_eq(row->table_association_id, id) ? row : out->subnet;
    }
    for (size_t i = 0; i < vpcs.count && !str_empty(id); i++) {
        const struct row_vpc *row = vpcs.rows[i];
        out->vpc = str_eq(row->main_association_id, id) ? row : out->vpc;
    }
    return out->subnet || out->vpc ||
           err_no_such(err, ERR_ASSOCIATION_NOT_FOUND, "association ID",
                       text_or_empty(id));
}

bool
ec2_disassociate_route_table(struct call *call,
                             const struct ec2_disassociate_route_table_request *in,
                             struct err *err)
{
    struct association found;
    if (!association_find(call, in->association_id, &found, err)) {
        return false;
    }
    if (found.vpc) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "cannot disassociate the main route table association %s",
                       in->association_id);
    }
    struct row_subnet next = *found.subnet;
    next.table_id = next.table_association_id = NULL;
    return dry_run_check(in->dry_run, err) &&
           row_put(call->txn, &row_subnet_type, &next, err) &&
           vpc_touch(call, next.vpc_id, err);
}

bool
ec2_replace_route_table_association(
    struct call *call, const struct ec2_replace_route_table_association_request *in,
    struct ec2_replace_route_table_association_result *out, struct err *err)
{
    const struct row_route_table *table;
    struct association found;
    if (!FIND(call, kind_route_table, in->route_table_id, &table, err) ||
        !association_find(call, in->association_id, &found, err)) {
        return false;
    }
    const char *vpc_id = found.vpc ? found.vpc->id : found.subnet->vpc_id;
    if (!str_eq(vpc_id, table->vpc_id)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Route table %s belongs to another network than association %s",
                       table->id, in->association_id);
    }
    out->new_association_id = id_new(call->arena, call->rng, "rtbassoc");
    out->association_state = association_state(call);
    if (!dry_run_check(in->dry_run, err)) {
        return false;
    }
    if (found.vpc) {
        struct row_vpc next = *found.vpc;
        next.main_table_id = table->id;
        next.main_association_id = out->new_association_id;
        next.generation++;
        return row_put(call->txn, &row_vpc_type, &next, err);
    }
    struct row_subnet next = *found.subnet;
    next.table_id = table->id;
    next.table_association_id = out->new_association_id;
    return row_put(call->txn, &row_subnet_type, &next, err) &&
           vpc_touch(call, vpc_id, err);
}
