/* vpc_attributes.c - VPCs changed: their further blocks, and Describe- and
 * ModifyVpcAttribute, ModifyVpcTenancy. */
#include "service/ec2/network.h"

#define BLOCKS_MAX 5 /* Of each family, in a VPC. */

/* ---- further blocks ---- */

static bool
check_apart(struct call *call, const struct row_vpc *vpc, const char *text,
            struct err *err)
{
    const char **blocks;
    struct cidr block, other;
    size_t count = vpc_blocks(call, vpc, &blocks);
    for (size_t i = 0; cidr_parse(text, &block) && i < count; i++) {
        if (cidr_parse(blocks[i], &other) && cidr_overlaps(&block, &other)) {
            return err_set(
                err, ERR_VPC_RANGE,
                "The CIDR '%s' conflicts with the CIDR '%s' of the VPC '%s'.", text,
                blocks[i], vpc->id);
        }
    }
    return true;
}

static bool
err_full(struct err *err, const struct row_vpc *vpc)
{
    return err_set(err, ERR_VPC_BLOCK_LIMIT,
                   "This network '%s' has met its maximum number of allowed CIDRs: %d",
                   vpc->id, BLOCKS_MAX);
}

/* A copy of a list of blocks with room for one more. */
static struct row_cidr_block *
blocks_copy(struct call *call, const struct row_cidr_block *items, size_t count)
{
    struct row_cidr_block *out =
        ARENA_ARRAY(call->arena, count + 1, struct row_cidr_block);
    for (size_t i = 0; i < count; i++) {
        out[i] = items[i];
    }
    return out;
}

static bool
associate4(struct call *call, const struct ec2_associate_vpc_cidr_block_request *in,
           const struct row_vpc *vpc, struct ec2_associate_vpc_cidr_block_result *out,
           struct err *err)
{
    struct row_vpc next = *vpc;
    struct row_cidr_block block = {
        .association_id = id_new(call->arena, call->rng, "vpc-cidr-assoc")};
    if (!vpc_block_check(call, in->cidr_block, &block.cidr, err) ||
        !check_apart(call, vpc, block.cidr, err)) {
        return false;
    }
    if (vpc->blocks.count + 1 >= BLOCKS_MAX) {
        return err_full(err, vpc);
    }
    next.generation++;
    next.blocks.items = blocks_copy(call, vpc->blocks.items, vpc->blocks.count);
    next.blocks.items[next.blocks.count++] = block;
    struct ec2_vpc shown = vpc_out(call, &next, (struct tag_set){0});
    out->cidr_block_association =
        &shown.cidr_block_association_set.items[next.blocks.count];
    out->cidr_block_association->cidr_block_state->state = "associating";
    return row_put(call->txn, &row_vpc_type, &next, err);
}

static bool
associate6(struct call *call, const struct row_vpc *vpc,
           struct ec2_associate_vpc_cidr_block_result *out, struct err *err)
{
    struct row_vpc next = *vpc;
    struct row_cidr_block block;
    if (vpc->blocks6.count >= BLOCKS_MAX) {
        return err_full(err, vpc);
    }
    if (!vpc_block6_make(call, &block, err)) {
        return false;
    }
    next.generation++;
    next.blocks6.items = blocks_copy(call, vpc->blocks6.items, vpc->blocks6.count);
    next.blocks6.items[next.blocks6.count++] = block;
    out->ipv6_cidr_block_association =
        ARENA_NEW(call->arena, struct ec2_vpc_ipv6_cidr_block_association);
    *out->ipv6_cidr_block_association = vpc_block6_out(call, &block, "associating");
    return row_put(call->txn, &row_vpc_type, &next, err) &&
           vpc_open6(call->txn, call->rng, vpc, err);
}

bool
ec2_associate_vpc_cidr_block(struct call *call,
                             const struct ec2_associate_vpc_cidr_block_request *in,
                             struct ec2_associate_vpc_cidr_block_result *out,
                             struct err *err)
{
    const struct row_vpc *vpc;
    if (!FIND(call, kind_vpc, in->vpc_id, &vpc, err)) {
        return false;
    }
    out->vpc_id = vpc->id;
    if (in->amazon_provided_ipv6_cidr_block) {
        return associate6(call, vpc, out, err);
    }
    if (str_empty(in->cidr_block)) {
        return err_set(err, ERR_MISSING_PARAMETER,
                       "Either 'cidrBlock' or 'amazonProvidedIpv6CidrBlock' should be "
                       "provided.");
    }
    return associate4(call, in, vpc, out, err);
}

static bool
block_used(struct call *call, const struct row_vpc *vpc, const char *cidr, bool *out,
           struct err *err)
{
    const struct row_subnet prefix = {.account = vpc->account, .vpc_id = vpc->id};
    struct row_list list;
    struct cidr block, part;
    struct cidr6 block6, part6;
    if (!rows_by(call, &row_subnet_type, "by_vpc", 2, &prefix, &list, err)) {
        return false;
    }
    *out = false;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_subnet *subnet = list.rows[i];
        *out |= cidr_parse(cidr, &block) && cidr_parse(subnet->cidr, &part) &&
                cidr_overlaps(&block, &part);
        *out |= cidr6_parse(cidr, &block6) && cidr6_parse(subnet->block6, &part6) &&
                cidr6_overlaps(&block6, &part6);
    }
    return true;
}

/* Takes the block with 'id' out of a list; '*out' is what was taken. */
static bool
blocks_take(struct row_cidr_block *items, size_t *count, const char *id,
            struct row_cidr_block *out)
{
    for (size_t i = 0; i < *count; i++) {
        if (str_eq(items[i].association_id, id)) {
            *out = items[i];
            memmove(items + i, items + i + 1, (*count - i - 1) * sizeof *items);
            --*count;
            return true;
        }
    }
    return false;
}

static bool
disassociate(struct call *call, const struct row_vpc *next,
             const struct row_cidr_block *block, struct err *err)
{
    bool used = false;
    struct row_vpc changed = *next;
    if (!block_used(call, next, block->cidr, &used, err)) {
        return false;
    }
    if (used) {
        return err_set(err, ERR_DEPENDENCY,
                       "The vpcCidrBlock '%s' has dependencies and cannot be "
                       "disassociated.",
                       block->association_id);
    }
    changed.generation++;
    return row_put(call->txn, &row_vpc_type, &changed, err);
}

static bool
disassociate_from(struct call *call, const struct row_vpc *vpc, const char *id,
                  struct ec2_disassociate_vpc_cidr_block_result *out, bool *out_found,
                  struct err *err)
{
    struct row_vpc next = *vpc;
    struct row_cidr_block block;
    *out_found = true;
    out->vpc_id = vpc->id;
    if (str_eq(vpc_primary_association(call, vpc), id)) {
        return err_set(err, ERR_OPERATION_NOT_PERMITTED,
                       "The vpc CIDR block with association ID %s may not be "
                       "disassociated. It is the primary IPv4 CIDR block of the VPC",
                       id);
    }
    next.blocks.items = blocks_copy(call, vpc->blocks.items, vpc->blocks.count);
    next.blocks6.items = blocks_copy(call, vpc->blocks6.items, vpc->blocks6.count);
    if (blocks_take(next.blocks.items, &next.blocks.count, id, &block)) {
        struct ec2_vpc_cidr_block_association *shown =
            ARENA_NEW(call->arena, struct ec2_vpc_cidr_block_association);
        shown->association_id = id;
        shown->cidr_block = block.cidr;
        shown->cidr_block_state =
            ARENA_NEW(call->arena, struct ec2_vpc_cidr_block_state);
        shown->cidr_block_state->state = "disassociating";
        out->cidr_block_association = shown;
        return disassociate(call, &next, &block, err);
    }
    if (blocks_take(next.blocks6.items, &next.blocks6.count, id, &block)) {
        out->ipv6_cidr_block_association =
            ARENA_NEW(call->arena, struct ec2_vpc_ipv6_cidr_block_association);
        *out->ipv6_cidr_block_association =
            vpc_block6_out(call, &block, "disassociating");
        return disassociate(call, &next, &block, err);
    }
    *out_found = false;
    return true;
}

bool
ec2_disassociate_vpc_cidr_block(
    struct call *call, const struct ec2_disassociate_vpc_cidr_block_request *in,
    struct ec2_disassociate_vpc_cidr_block_result *out, struct err *err)
{
    const struct row_vpc prefix = {.account = call->account, .region = call->region};
    struct row_list list;
    bool found = false;
    if (!rows_of_region(call, &row_vpc_type, &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count && !found; i++) {
        if (!disassociate_from(call, list.rows[i], in->association_id, out, &found,
                               err)) {
            return false;
        }
    }
    return found || err_no_such(err, ERR_VPC_BLOCK_ASSOCIATION,
                                "vpc CIDR block with association ID",
                                text_or_empty(in->association_id));
}

/* ---- attributes ---- */

static struct ec2_attribute_boolean_value *
flag_out(struct call *call, bool value)
{
    struct ec2_attribute_boolean_value *out =
        ARENA_NEW(call->arena, struct ec2_attribute_boolean_value);
    *out = (struct ec2_attribute_boolean_value){HAS(value, value)};
    return out;
}

bool
ec2_describe_vpc_attribute(struct call *call,
                           const struct ec2_describe_vpc_attribute_request *in,
                           struct ec2_describe_vpc_attribute_result *out,
                           struct err *err)
{
    const struct row_vpc *vpc;
    if (!FIND(call, kind_vpc, in->vpc_id, &vpc, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    out->vpc_id = vpc->id;
    if (str_eq(in->attribute, "enableDnsSupport")) {
        out->enable_dns_support = flag_out(call, vpc->dns_support);
    } else if (str_eq(in->attribute, "enableDnsHostnames")) {
        out->enable_dns_hostnames = flag_out(call, vpc->dns_hostnames);
    } else if (str_eq(in->attribute, "enableNetworkAddressUsageMetrics")) {
        out->enable_network_address_usage_metrics = flag_out(call, vpc->usage_metrics);
    } else {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%.80s) for parameter attribute is invalid. Unknown VPC "
                       "attribute.",
                       text_or_empty(in->attribute));
    }
    return true;
}

bool
ec2_modify_vpc_attribute(struct call *call,
                         const struct ec2_modify_vpc_attribute_request *in,
                         struct err *err)
{
    const struct row_vpc *vpc;
    if (!FIND(call, kind_vpc, in->vpc_id, &vpc, err)) {
        return false;
    }
    struct row_vpc next = *vpc;
    int asked = !!in->enable_dns_support + !!in->enable_dns_hostnames +
                !!in->enable_network_address_usage_metrics;
    if (asked != 1) {
        return err_set(
            err, asked ? ERR_INVALID_PARAMETER_COMBINATION : ERR_MISSING_PARAMETER,
            "Exactly one attribute can be modified by a request.");
    }
    if (in->enable_dns_support) {
        next.dns_support = in->enable_dns_support->value;
    } else if (in->enable_dns_hostnames) {
        next.dns_hostnames = in->enable_dns_hostnames->value;
    } else {
        next.usage_metrics = in->enable_network_address_usage_metrics->value;
    }
    next.generation++;
    return row_put(call->txn, &row_vpc_type, &next, err);
}

bool
ec2_modify_vpc_tenancy(struct call *call,
                       const struct ec2_modify_vpc_tenancy_request *in,
                       struct ec2_modify_vpc_tenancy_result *out, struct err *err)
{
    const struct row_vpc *vpc;
    if (!FIND(call, kind_vpc, in->vpc_id, &vpc, err)) {
        return false;
    }
    if (!str_eq(in->instance_tenancy, "default")) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "The tenancy can only be changed to 'default'.");
    }
    struct row_vpc next = *vpc;
    next.tenancy = "default";
    out->return_value = out->has_return_value = true;
    return dry_run_check(in->dry_run, err) &&
           row_put(call->txn, &row_vpc_type, &next, err);
}
