/* network.c - see network.h. */
#include "service/ec2/network.h"

/* ---- objects ---- */

#define KIND(name, table, ...) \
    const struct kind kind_##name = {&row_##table##_type, __VA_ARGS__}

KIND(vpc, vpc, "vpc", ERR_VPC_MALFORMED, ERR_VPC_NOT_FOUND, "vpc ID", "vpc");
KIND(subnet, subnet, "subnet", ERR_SUBNET_MALFORMED, ERR_SUBNET_NOT_FOUND, "subnet ID",
     "subnet");
KIND(route_table, route_table, "rtb", ERR_ROUTE_TABLE_MALFORMED,
     ERR_ROUTE_TABLE_NOT_FOUND, "routeTable ID", "route-table");
KIND(internet_gateway, internet_gateway, "igw", ERR_GATEWAY_MALFORMED,
     ERR_GATEWAY_NOT_FOUND, "internetGateway ID", "internet-gateway");
KIND(egress_gateway, egress_gateway, "eigw", ERR_EGRESS_GATEWAY_MALFORMED,
     ERR_EGRESS_GATEWAY_NOT_FOUND, "egressOnlyInternetGateway ID",
     "egress-only-internet-gateway");
KIND(nat_gateway, nat_gateway, "nat", ERR_NAT_MALFORMED, ERR_NAT_NOT_FOUND,
     "natGateway ID", "natgateway");
KIND(address, address, "eipalloc", ERR_ALLOCATION_MALFORMED, ERR_ALLOCATION_NOT_FOUND,
     "allocation ID", "elastic-ip");
KIND(eni, eni, "eni", ERR_ENI_MALFORMED, ERR_ENI_NOT_FOUND, "networkInterface ID",
     "network-interface");
KIND(group, security_group, "sg", ERR_GROUP_ID_MALFORMED, ERR_GROUP_NOT_FOUND,
     "security group", "security-group");
KIND(group_rule, security_group_rule, "sgr", ERR_GROUP_RULE_MALFORMED,
     ERR_GROUP_RULE_NOT_FOUND, "security group rule ID", "security-group-rule");
KIND(acl, network_acl, "acl", ERR_ACL_MALFORMED, ERR_ACL_NOT_FOUND, "networkAcl ID",
     "network-acl");
KIND(dhcp_options, dhcp_options, "dopt", ERR_DHCP_OPTIONS_MALFORMED,
     ERR_DHCP_OPTIONS_NOT_FOUND, "dhcpOption ID", "dhcp-options");
KIND(prefix_list, prefix_list, "pl", ERR_PREFIX_LIST_MALFORMED,
     ERR_PREFIX_LIST_NOT_FOUND, "prefix list ID", "prefix-list");
KIND(flow_log, flow_log, "fl", ERR_FLOW_LOG_NOT_FOUND, ERR_FLOW_LOG_NOT_FOUND,
     "flow log ID", "vpc-flow-log");
KIND(endpoint, vpc_endpoint, "vpce", ERR_ENDPOINT_MALFORMED, ERR_ENDPOINT_NOT_FOUND,
     "Vpc Endpoint Id", "vpc-endpoint");

KIND(placement_group, placement_group, "pg", ERR_PLACEMENT_GROUP_ID,
     ERR_PLACEMENT_GROUP, "placement group ID", "placement-group");
KIND(host, dedicated_host, "h", ERR_HOST_MALFORMED, ERR_HOST_NOT_FOUND,
     "Dedicated host ID", "dedicated-host");

/* Where a row keeps the text called 'name'. */
static const char **
text_at(const struct row_type *type, const void *row, const char *name)
{
    return desc_at(desc_find(type->desc, name), row);
}

bool
object_find(struct call *call, const struct kind *kind, const char *id,
            const void **out, struct err *err)
{
    void *key = arena_alloc(call->arena, kind->type->desc->size);
    const void *row;
    if (!ids_check(kind->prefix, &id, 1, kind->malformed, err)) {
        return false;
    }
    *text_at(kind->type, key, "account") = call->account;
    *text_at(kind->type, key, "id") = id;
    if (!row_get(call->txn, kind->type, key, &row, err)) {
        return false;
    }
    if (!row || !str_eq(*text_at(kind->type, row, "region"), call->region)) {
        return err_no_such(err, kind->not_found, kind->what, id);
    }
    *out = row;
    return true;
}

/* Whose part the row is hears of it: a row that is gone cannot be asked where it was. */
static bool
touch_whole(struct call *call, const struct kind *kind, const void *row,
            struct err *err)
{
    if (kind == &kind_group_rule) {
        return group_touch(
            call, ((const struct row_security_group_rule *)row)->group_id, err);
    }
    return !desc_find(kind->type->desc, "vpc_id") ||
           vpc_touch(call, *text_at(kind->type, row, "vpc_id"), err);
}

bool
object_delete(struct call *call, const struct kind *kind, const void *row,
              struct err *err)
{
    return resource_tags_drop(call->txn, call->account, call->region,
                              *text_at(kind->type, row, "id"), err) &&
           row_delete(call->txn, kind->type, row, err) &&
           touch_whole(call, kind, row, err);
}

bool
rows_by(struct call *call, const struct row_type *type, const char *index,
        unsigned fields, const void *prefix, struct row_list *out, struct err *err)
{
    const struct row_query query = {
        .index = index, .prefix = prefix, .prefix_fields = fields};
    return row_list(call->txn, type, &query, out, err);
}

bool
new_tags_check(const struct kind *kind, const struct ec2_tag_specification *specs,
               size_t count, struct err *err)
{
    const char *const types[] = {kind->resource_type, NULL};
    return tag_specs_check(specs, count, types, err);
}

bool
new_tags_put(struct call *call, const struct kind *kind,
             const struct ec2_tag_specification *specs, size_t count, const char *id,
             struct err *err)
{
    return tag_specs_put(call, specs, count, kind->resource_type, id, err);
}

bool
need(const char *value, const char *name, struct err *err)
{
    return !str_empty(value) ||
           err_set(err, ERR_MISSING_PARAMETER,
                   "The request must contain the parameter %s", name);
}

bool
err_depends(struct err *err, const char *what, const char *id)
{
    return err_set(err, ERR_DEPENDENCY,
                   "The %s '%s' has dependencies and cannot be deleted.", what, id);
}

const char *
text_or_empty(const char *text)
{
    return text ? text : "";
}

/* ---- listings ---- */

bool
listing_open(struct call *call, const struct listing_ask *ask, struct listing *out,
             struct err *err)
{
    const struct kind *kind = ask->kind;
    *out = (struct listing){.ask = ask};
    pick_init(call, ask->ids, ask->page.ids, &out->ids);
    return filters_init(call, ask->defs, ask->def_count, ask->filters,
                        ask->filter_count, &out->filters, err) &&
           ids_check(kind->prefix, ask->ids, ask->page.ids, kind->malformed, err) &&
           page_init(call, &ask->page, &out->filters, &out->page, err) &&
           dry_run_check(ask->dry_run, err) && tags_load_all(call, &out->tags, err) &&
           rows_of_region(call, kind->type, ask->prefix, &out->rows, err);
}

bool
listing_accepts(struct listing *listing, const char *id, const void *object)
{
    return pick_take(&listing->ids, id) &&
           filters_match(&listing->filters, object, tags_of(&listing->tags, id)) &&
           page_take(&listing->page, id);
}

bool
listing_close(struct call *call, struct listing *listing, const char **out_next,
              struct err *err)
{
    const struct kind *kind = listing->ask->kind;
    *out_next = page_next_token(call, &listing->page);
    return pick_check(call, &listing->ids, kind->not_found, kind->what, err);
}

bool
tags_shown(struct call *call, const char *id, struct tag_set *out, struct err *err)
{
    return tags_load_one(call, id, out, err);
}

/* ---- VPCs ---- */

bool
vpc_touch(struct call *call, const char *vpc_id, struct err *err)
{
    const struct row_vpc key = {.account = call->account, .id = vpc_id};
    const void *row;
    if (!row_get(call->txn, &row_vpc_type, &key, &row, err) || !row) {
        return !err->code;
    }
    struct row_vpc next = *(const struct row_vpc *)row;
    next.generation++;
    return row_put(call->txn, &row_vpc_type, &next, err);
}

bool
group_touch(struct call *call, const char *group_id, struct err *err)
{
    const struct row_security_group key = {.account = call->account, .id = group_id};
    const void *row;
    if (!row_get(call->txn, &row_security_group_type, &key, &row, err) || !row) {
        return !err->code;
    }
    struct row_security_group next = *(const struct row_security_group *)row;
    next.generation++;
    return row_put(call->txn, &row_security_group_type, &next, err);
}

size_t
vpc_blocks(struct call *call, const struct row_vpc *vpc, const char ***out)
{
    size_t count = vpc->blocks.count + 1;
    const char **blocks = ARENA_ARRAY(call->arena, count, const char *);
    blocks[0] = vpc->cidr;
    for (size_t i = 1; i < count; i++) {
        blocks[i] = vpc->blocks.items[i - 1].cidr;
    }
    *out = blocks;
    return count;
}

bool
enis_in(struct call *call, const char *index, const struct row_eni *of,
        struct row_list *out, struct err *err)
{
    return rows_by(call, &row_eni_type, index, 2, of, out, err);
}

/* ---- text ---- */

bool
block_canonical(struct call *call, const char *text, const char *name, const char **out,
                struct err *err)
{
    struct cidr block;
    char canonical[CIDR_TEXT_LEN];
    if (!cidr_parse(text, &block)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%.60s) for parameter %s is invalid. This is not a valid "
                       "CIDR block.",
                       text_or_empty(text), name);
    }
    cidr_format(&block, canonical);
    *out = arena_strdup(call->arena, canonical);
    return true;
}

bool
block6_canonical(struct call *call, const char *text, const char *name,
                 const char **out, struct err *err)
{
    struct cidr6 block;
    char canonical[CIDR6_TEXT_LEN];
    if (!cidr6_parse(text, &block)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%.60s) for parameter %s is invalid. This is not a valid "
                       "CIDR block.",
                       text_or_empty(text), name);
    }
    cidr6_format(&block, canonical);
    *out = arena_strdup(call->arena, canonical);
    return true;
}
