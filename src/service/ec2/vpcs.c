/* vpcs.c - VPCs, shown and made: DescribeVpcs, CreateVpc, CreateDefaultVpc, DeleteVpc. */
#include "service/ec2/network.h"

#define VPC_BITS_MIN 16 /* AWS's largest block ... */
#define VPC_BITS_MAX 28 /* ... and its smallest. */

/* ---- how it is shown ---- */

static struct ec2_vpc_cidr_block_association
block_out(struct call *call, const char *association_id, const char *cidr)
{
    struct ec2_vpc_cidr_block_state *state =
        ARENA_NEW(call->arena, struct ec2_vpc_cidr_block_state);
    state->state = "associated";
    return (struct ec2_vpc_cidr_block_association){.association_id = association_id,
                                                   .cidr_block = cidr,
                                                   .cidr_block_state = state};
}

struct ec2_vpc_ipv6_cidr_block_association
vpc_block6_out(struct call *call, const struct row_cidr_block *block, const char *state)
{
    struct ec2_vpc_cidr_block_state *shown =
        ARENA_NEW(call->arena, struct ec2_vpc_cidr_block_state);
    shown->state = state;
    return (struct ec2_vpc_ipv6_cidr_block_association){
        .association_id = block->association_id,
        .ipv6_cidr_block = block->cidr,
        .ipv6_cidr_block_state = shown,
        .ipv6_pool = block->pool,
        .network_border_group = call->region,
    };
}

struct ec2_vpc
vpc_out(struct call *call, const struct row_vpc *row, struct tag_set tags)
{
    size_t count = row->blocks.count + 1, count6 = row->blocks6.count;
    struct ec2_vpc_cidr_block_association *blocks =
        ARENA_ARRAY(call->arena, count, struct ec2_vpc_cidr_block_association);
    struct ec2_vpc_ipv6_cidr_block_association *blocks6 =
        ARENA_ARRAY(call->arena, count6, struct ec2_vpc_ipv6_cidr_block_association);
    blocks[0] = block_out(call, vpc_primary_association(call, row), row->cidr);
    for (size_t i = 1; i < count; i++) {
        const struct row_cidr_block *block = &row->blocks.items[i - 1];
        blocks[i] = block_out(call, block->association_id, block->cidr);
    }
    for (size_t i = 0; i < count6; i++) {
        blocks6[i] = vpc_block6_out(call, &row->blocks6.items[i], "associated");
    }
    return (struct ec2_vpc){
        .vpc_id = row->id,
        .owner_id = row->account,
        .state = "available",
        .cidr_block = row->cidr,
        .cidr_block_association_set = {blocks, count},
        .ipv6_cidr_block_association_set = {blocks6, count6},
        .dhcp_options_id =
            str_empty(row->dhcp_options_id) ? "default" : row->dhcp_options_id,
        .instance_tenancy = str_empty(row->tenancy) ? "default" : row->tenancy,
        HAS(is_default, row->is_default),
        .tags = {tags_out(call, tags), tags.count},
    };
}

const char *
vpc_primary_association(struct call *call, const struct row_vpc *row)
{
    return derived_id(call, "vpc-cidr-assoc", row->id);
}

/* ---- DescribeVpcs ---- */

FILTER_TEXT(vpc_cidr, struct ec2_vpc, cidr_block)
FILTER_TEXT(vpc_dhcp, struct ec2_vpc, dhcp_options_id)
FILTER_BOOL(vpc_default, struct ec2_vpc, is_default)
FILTER_TEXT(vpc_owner, struct ec2_vpc, owner_id)
FILTER_TEXT(vpc_state, struct ec2_vpc, state)
FILTER_TEXT(vpc_id, struct ec2_vpc, vpc_id)

FILTER_EACH(block, struct ec2_vpc, cidr_block_association_set, cidr_block)
FILTER_EACH(block_id, struct ec2_vpc, cidr_block_association_set, association_id)
FILTER_EACH(block_state, struct ec2_vpc, cidr_block_association_set,
            cidr_block_state->state)
FILTER_EACH(block6, struct ec2_vpc, ipv6_cidr_block_association_set, ipv6_cidr_block)
FILTER_EACH(block6_id, struct ec2_vpc, ipv6_cidr_block_association_set, association_id)
FILTER_EACH(block6_pool, struct ec2_vpc, ipv6_cidr_block_association_set, ipv6_pool)
FILTER_EACH(block6_state, struct ec2_vpc, ipv6_cidr_block_association_set,
            ipv6_cidr_block_state->state)

static const struct filter_def vpc_filters[] = {
    {"cidr", vpc_cidr_values},
    {"cidr-block-association.association-id", block_id_values},
    {"cidr-block-association.cidr-block", block_values},
    {"cidr-block-association.state", block_state_values},
    {"dhcp-options-id", vpc_dhcp_values},
    {"ipv6-cidr-block-association.association-id", block6_id_values},
    {"ipv6-cidr-block-association.ipv6-cidr-block", block6_values},
    {"ipv6-cidr-block-association.ipv6-pool", block6_pool_values},
    {"ipv6-cidr-block-association.state", block6_state_values},
    {"is-default", vpc_default_values},
    {"isDefault", vpc_default_values},
    {"owner-id", vpc_owner_values},
    {"state", vpc_state_values},
    {"vpc-id", vpc_id_values},
};

bool
ec2_describe_vpcs(struct call *call, const struct ec2_describe_vpcs_request *in,
                  struct ec2_describe_vpcs_result *out, struct err *err)
{
    const struct row_vpc prefix = {.account = call->account, .region = call->region};
    const struct listing_ask ask =
        LISTING_ASK(in, vpc_ids, filters, "vpcSet", kind_vpc, vpc_filters, &prefix);
    struct listing listing;
    if (!listing_open(call, &ask, &listing, err)) {
        return false;
    }
    out->vpcs.items = ARENA_ARRAY(call->arena, listing.rows.count, struct ec2_vpc);
    for (size_t i = 0; i < listing.rows.count; i++) {
        const struct row_vpc *row = listing.rows.rows[i];
        struct ec2_vpc *vpc = &out->vpcs.items[out->vpcs.count];
        *vpc = vpc_out(call, row, tags_of(&listing.tags, row->id));
        out->vpcs.count += listing_accepts(&listing, row->id, vpc);
    }
    return listing_close(call, &listing, &out->next_token, err);
}

/* ---- CreateVpc ---- */

bool
vpc_block_check(struct call *call, const char *text, const char **out, struct err *err)
{
    struct cidr block;
    if (!block_canonical(call, text, "cidrBlock", out, err)) {
        return false;
    }
    if (!cidr_parse(*out, &block) || block.bits < VPC_BITS_MIN ||
        block.bits > VPC_BITS_MAX) {
        return err_set(err, ERR_VPC_RANGE, "The CIDR '%s' is invalid.", *out);
    }
    return true;
}

/* A block of the operator's; where he has named none, the cloud's next of those that nobody
 * routes. */
bool
vpc_block6_make(struct call *call, struct row_cidr_block *out, struct err *err)
{
    struct cidr6 block;
    int64_t number;
    char text[CIDR6_TEXT_LEN];
    *out = (struct row_cidr_block){.association_id =
                                       id_new(call->arena, call->rng, "vpc-cidr-assoc"),
                                   .pool = "Amazon"};
    if (!vpc_block6_take(call->txn, call->region, &out->cidr, err)) {
        return false;
    }
    if (out->cidr) {
        return true;
    }
    if (!txn_next(call->txn, "ipv6", &number, err)) {
        return false;
    }
    cidr6_of_vpc(text_or_empty(call->config->cloud_id), number, &block);
    cidr6_format(&block, text);
    out->cidr = arena_strdup(call->arena, text);
    return true;
}

static bool
check_new(struct call *call, const struct ec2_create_vpc_request *in,
          const char **block, struct err *err)
{
    const struct row_vpc prefix = {.account = call->account, .region = call->region};
    struct row_list vpcs;
    if (in->ipv4_ipam_pool_id || in->ipv6_ipam_pool_id || in->ipv6_cidr_block ||
        in->ipv6_pool) {
        return err_set(
            err, ERR_UNSUPPORTED_OPERATION,
            "Blocks from pools of your own are not supported by this cloud.");
    }
    if (in->instance_tenancy && !str_eq(in->instance_tenancy, "default") &&
        !str_eq(in->instance_tenancy, "dedicated")) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%.40s) for parameter instanceTenancy is invalid.",
                       in->instance_tenancy);
    }
    if (!need(in->cidr_block, "cidrBlock", err) ||
        !vpc_block_check(call, in->cidr_block, block, err) ||
        !new_tags_check(&kind_vpc, in->tag_specifications.items,
                        in->tag_specifications.count, err) ||
        !rows_of_region(call, &row_vpc_type, &prefix, &vpcs, err)) {
        return false;
    }
    return vpcs.count < VPCS_MAX ||
           err_set(err, ERR_VPC_LIMIT, "The maximum number of VPCs has been reached.");
}

static bool
answer(struct call *call, const char *vpc_id, struct ec2_vpc **out, struct err *err)
{
    const struct row_vpc *row;
    struct tag_set tags;
    if (!FIND(call, kind_vpc, vpc_id, &row, err) ||
        !tags_shown(call, vpc_id, &tags, err)) {
        return false;
    }
    *out = ARENA_NEW(call->arena, struct ec2_vpc);
    **out = vpc_out(call, row, tags);
    return true;
}

bool
ec2_create_vpc(struct call *call, const struct ec2_create_vpc_request *in,
               struct ec2_create_vpc_result *out, struct err *err)
{
    struct row_vpc vpc = {
        .account = call->account,
        .id = id_new(call->arena, call->rng, "vpc"),
        .region = call->region,
        .tenancy = in->instance_tenancy ? in->instance_tenancy : "default",
        .created_at = call->now_ns,
        .dns_support = true,
    };
    struct row_cidr_block block6;
    if (!check_new(call, in, &vpc.cidr, err) || !dry_run_check(in->dry_run, err) ||
        !vni_take(call->txn, &vpc.vni, err)) {
        return false;
    }
    if (in->amazon_provided_ipv6_cidr_block) {
        if (!vpc_block6_make(call, &block6, err)) {
            return false;
        }
        vpc.blocks6.items = &block6;
        vpc.blocks6.count = 1;
    }
    return dhcp_default(call->txn, call->rng, call->account, call->region, call->now_ns,
                        &vpc.dhcp_options_id, err) &&
           vpc_add(call->txn, call->rng, &vpc, NULL, err) &&
           new_tags_put(call, &kind_vpc, in->tag_specifications.items,
                        in->tag_specifications.count, vpc.id, err) &&
           answer(call, vpc.id, &out->vpc, err);
}

bool
ec2_create_default_vpc(struct call *call,
                       const struct ec2_create_default_vpc_request *in,
                       struct ec2_create_default_vpc_result *out, struct err *err)
{
    const char *id;
    if (!default_vpc_find(call, &id, err)) {
        return false;
    }
    if (id) {
        return err_set(err, ERR_DEFAULT_VPC_EXISTS,
                       "A Default VPC already exists for this account in this region.");
    }
    return dry_run_check(in->dry_run, err) && default_vpc_make(call, &id, err) &&
           answer(call, id, &out->vpc, err);
}

/* ---- DeleteVpc ---- */

/* What keeps a VPC from being deleted, by table; 'allowed' goes with the VPC. */
static const struct {
    const struct row_type *type;
    size_t allowed;
} dependants[] = {
    {&row_subnet_type, 0},         {&row_internet_gateway_type, 0},
    {&row_egress_gateway_type, 0}, {&row_eni_type, 0},
    {&row_vpc_endpoint_type, 0},   {&row_security_group_type, 1},
    {&row_network_acl_type, 1},    {&row_route_table_type, 1},
};

static bool
check_unused(struct call *call, const struct row_vpc *vpc, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(dependants); i++) {
        const struct row_type *type = dependants[i].type;
        void *prefix = arena_alloc(call->arena, type->desc->size);
        struct row_list list;
        *(const char **)desc_at(desc_find(type->desc, "account"), prefix) =
            vpc->account;
        *(const char **)desc_at(desc_find(type->desc, "vpc_id"), prefix) = vpc->id;
        if (!rows_by(call, type, "by_vpc", 2, prefix, &list, err)) {
            return false;
        }
        if (list.count > dependants[i].allowed) {
            return err_depends(err, "vpc", vpc->id);
        }
    }
    return true;
}

static bool
delete_groups(struct call *call, const struct row_vpc *vpc, struct err *err)
{
    const struct row_security_group prefix = {.account = vpc->account,
                                              .vpc_id = vpc->id};
    struct row_list list;
    if (!rows_by(call, &row_security_group_type, "by_vpc", 2, &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (!group_remove(call, list.rows[i], err)) {
            return false;
        }
    }
    return true;
}

static bool
delete_acls(struct call *call, const struct row_vpc *vpc, struct err *err)
{
    const struct row_network_acl prefix = {.account = vpc->account, .vpc_id = vpc->id};
    struct row_list list;
    if (!rows_by(call, &row_network_acl_type, "by_vpc", 2, &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (!acl_remove(call, list.rows[i], err)) {
            return false;
        }
    }
    return true;
}

static bool
delete_tables(struct call *call, const struct row_vpc *vpc, struct err *err)
{
    const struct row_route_table prefix = {.account = vpc->account, .vpc_id = vpc->id};
    struct row_list list;
    if (!rows_by(call, &row_route_table_type, "by_vpc", 2, &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (!route_table_remove(call, list.rows[i], err)) {
            return false;
        }
    }
    return true;
}

/* The mark stays, with no VPC: so that none is made again unasked. */
static bool
forget_default(struct call *call, const struct row_vpc *vpc, struct err *err)
{
    const struct row_zone_default none = {.account = vpc->account,
                                          .region = vpc->region};
    return !vpc->is_default || row_put(call->txn, &row_zone_default_type, &none, err);
}

bool
ec2_delete_vpc(struct call *call, const struct ec2_delete_vpc_request *in,
               struct err *err)
{
    const struct row_vpc *vpc;
    if (!FIND(call, kind_vpc, in->vpc_id, &vpc, err) || !check_unused(call, vpc, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    return delete_groups(call, vpc, err) && delete_acls(call, vpc, err) &&
           delete_tables(call, vpc, err) && peerings_end(call, vpc, err) &&
           flow_logs_end(call, vpc->id, err) && forget_default(call, vpc, err) &&
           object_delete(call, &kind_vpc, vpc, err);
}
