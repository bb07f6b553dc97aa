/* subnets.c - subnets: shown, made, deleted. */
#include "service/ec2/network.h"

#define SUBNET_BITS_MIN 16
#define SUBNET_BITS_MAX 28
#define SUBNET_BITS6 64 /* AWS's only size. */

/* ---- how it is shown ---- */

/* Addresses that are still to be had: without the five that every subnet keeps. */
static bool
addresses_free(struct call *call, const struct row_subnet *row, int64_t *out,
               struct err *err)
{
    const struct row_address_use prefix = {.account = row->account,
                                           .subnet_id = row->id};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 2};
    struct row_list taken;
    struct cidr cidr;
    if (!row_list(call->txn, &row_address_use_type, &query, &taken, err)) {
        return false;
    }
    int64_t usable = cidr_parse(row->cidr, &cidr) ? (int64_t)subnet_usable(&cidr) : 0;
    *out = MAX(usable - (int64_t)taken.count, 0);
    return true;
}

struct ec2_subnet_ipv6_cidr_block_association
subnet_block6_out(struct call *call, const struct row_subnet *row, const char *state)
{
    struct ec2_subnet_cidr_block_state *shown =
        ARENA_NEW(call->arena, struct ec2_subnet_cidr_block_state);
    shown->state = state;
    return (struct ec2_subnet_ipv6_cidr_block_association){
        .association_id = row->block6_association_id,
        .ipv6_cidr_block = row->block6,
        .ipv6_cidr_block_state = shown,
    };
}

static bool
subnet_out(struct call *call, const struct row_subnet *row, struct tag_set tags,
           struct ec2_subnet *out, struct err *err)
{
    const struct zone_config *zone = config_zone(call->config, row->zone);
    struct ec2_private_dns_name_options_on_launch *names =
        ARENA_NEW(call->arena, struct ec2_private_dns_name_options_on_launch);
    struct ec2_subnet_ipv6_cidr_block_association *block6 =
        ARENA_NEW(call->arena, struct ec2_subnet_ipv6_cidr_block_association);
    int64_t free_count;
    if (!addresses_free(call, row, &free_count, err)) {
        return false;
    }
    *names = (struct ec2_private_dns_name_options_on_launch){
        .hostname_type = str_empty(row->hostname_type) ? "ip-name" : row->hostname_type,
        HAS(enable_resource_name_dns_a_record, row->dns_a),
        HAS(enable_resource_name_dns_aaaa_record, row->dns_aaaa),
    };
    if (!str_empty(row->block6)) {
        *block6 = subnet_block6_out(call, row, "associated");
    }
    *out = (struct ec2_subnet){
        .subnet_id = row->id,
        .subnet_arn = arena_printf(call->arena, "arn:aws:ec2:%s:%s:subnet/%s",
                                   row->region, row->account, row->id),
        .vpc_id = row->vpc_id,
        .owner_id = row->account,
        .state = "available",
        .availability_zone = row->zone,
        .availability_zone_id = zone ? zone->id : NULL,
        HAS(available_ip_address_count, free_count),
        .cidr_block = row->cidr,
        HAS(default_for_az, row->default_for_az),
        HAS(map_public_ip_on_launch, row->map_public_ip),
        HAS(map_customer_owned_ip_on_launch, false),
        HAS(assign_ipv6_address_on_creation, row->assign_ipv6),
        HAS(enable_dns64, row->dns64),
        HAS(ipv6_native, false),
        .enable_lni_at_device_index = row->lni_index,
        .has_enable_lni_at_device_index = row->lni_index > 0,
        .private_dns_name_options_on_launch = names,
        .ipv6_cidr_block_association_set = {block6, !str_empty(row->block6)},
        .tags = {tags_out(call, tags), tags.count},
    };
    return true;
}

/* ---- DescribeSubnets ---- */

FILTER_TEXT(subnet_zone, struct ec2_subnet, availability_zone)
FILTER_TEXT(subnet_zone_id, struct ec2_subnet, availability_zone_id)
FILTER_INT(subnet_free, struct ec2_subnet, available_ip_address_count)
FILTER_INT(subnet_lni, struct ec2_subnet, enable_lni_at_device_index)
FILTER_TEXT(subnet_cidr, struct ec2_subnet, cidr_block)
FILTER_BOOL(subnet_default, struct ec2_subnet, default_for_az)
FILTER_BOOL(subnet_dns64, struct ec2_subnet, enable_dns64)
FILTER_BOOL(subnet_ipv6, struct ec2_subnet, ipv6_native)
FILTER_BOOL(subnet_public, struct ec2_subnet, map_public_ip_on_launch)
FILTER_TEXT(subnet_owner, struct ec2_subnet, owner_id)
FILTER_TEXT(subnet_state, struct ec2_subnet, state)
FILTER_TEXT(subnet_arn, struct ec2_subnet, subnet_arn)
FILTER_TEXT(subnet_id, struct ec2_subnet, subnet_id)
FILTER_TEXT(subnet_vpc, struct ec2_subnet, vpc_id)

FILTER_EACH(block6, struct ec2_subnet, ipv6_cidr_block_association_set, ipv6_cidr_block)
FILTER_EACH(block6_id, struct ec2_subnet, ipv6_cidr_block_association_set,
            association_id)
FILTER_EACH(block6_state, struct ec2_subnet, ipv6_cidr_block_association_set,
            ipv6_cidr_block_state->state)

static const struct filter_def subnet_filters[] = {
    {"availability-zone", subnet_zone_values},
    {"availabilityZone", subnet_zone_values},
    {"availability-zone-id", subnet_zone_id_values},
    {"availabilityZoneId", subnet_zone_id_values},
    {"available-ip-address-count", subnet_free_values},
    {"cidr", subnet_cidr_values},
    {"cidr-block", subnet_cidr_values},
    {"cidrBlock", subnet_cidr_values},
    {"customer-owned-ipv4-pool", NULL},
    {"default-for-az", subnet_default_values},
    {"defaultForAz", subnet_default_values},
    {"enable-dns64", subnet_dns64_values},
    {"enable-lni-at-device-index", subnet_lni_values},
    {"ipv6-cidr-block-association.association-id", block6_id_values},
    {"ipv6-cidr-block-association.ipv6-cidr-block", block6_values},
    {"ipv6-cidr-block-association.state", block6_state_values},
    {"ipv6-native", subnet_ipv6_values},
    {"map-customer-owned-ip-on-launch", NULL},
    {"map-public-ip-on-launch", subnet_public_values},
    {"outpost-arn", NULL},
    {"owner-id", subnet_owner_values},
    {"state", subnet_state_values},
    {"subnet-arn", subnet_arn_values},
    {"subnet-id", subnet_id_values},
    {"vpc-id", subnet_vpc_values},
};

bool
ec2_describe_subnets(struct call *call, const struct ec2_describe_subnets_request *in,
                     struct ec2_describe_subnets_result *out, struct err *err)
{
    const struct row_subnet prefix = {.account = call->account, .region = call->region};
    const struct listing_ask ask = LISTING_ASK(in, subnet_ids, filters, "subnetSet",
                                               kind_subnet, subnet_filters, &prefix);
    struct listing listing;
    if (!listing_open(call, &ask, &listing, err)) {
        return false;
    }
    out->subnets.items =
        ARENA_ARRAY(call->arena, listing.rows.count, struct ec2_subnet);
    for (size_t i = 0; i < listing.rows.count; i++) {
        const struct row_subnet *row = listing.rows.rows[i];
        struct ec2_subnet *subnet = &out->subnets.items[out->subnets.count];
        if (!subnet_out(call, row, tags_of(&listing.tags, row->id), subnet, err)) {
            return false;
        }
        out->subnets.count += listing_accepts(&listing, row->id, subnet);
    }
    return listing_close(call, &listing, &out->next_token, err);
}

/* ---- CreateSubnet ---- */

/* The block lies in one of the VPC's. */
static bool
check_inside(struct call *call, const struct row_vpc *vpc, const char *text,
             struct err *err)
{
    const char **blocks;
    struct cidr part, whole;
    size_t count = vpc_blocks(call, vpc, &blocks);
    for (size_t i = 0; cidr_parse(text, &part) && i < count; i++) {
        if (part.bits >= SUBNET_BITS_MIN && part.bits <= SUBNET_BITS_MAX &&
            cidr_parse(blocks[i], &whole) && part.bits >= whole.bits &&
            cidr_contains(&whole, part.base)) {
            return true;
        }
    }
    return err_set(err, ERR_SUBNET_RANGE, "The CIDR '%s' is invalid.", text);
}

static bool
check_apart(struct call *call, const struct row_vpc *vpc, const char *text,
            const char *text6, struct err *err)
{
    const struct row_subnet prefix = {.account = vpc->account, .vpc_id = vpc->id};
    struct row_list list;
    struct cidr block, other;
    struct cidr6 block6, other6;
    if (!rows_by(call, &row_subnet_type, "by_vpc", 2, &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_subnet *subnet = list.rows[i];
        if ((cidr_parse(text, &block) && cidr_parse(subnet->cidr, &other) &&
             cidr_overlaps(&block, &other)) ||
            (cidr6_parse(text6, &block6) && cidr6_parse(subnet->block6, &other6) &&
             cidr6_overlaps(&block6, &other6))) {
            return err_set(err, ERR_SUBNET_CONFLICT,
                           "The CIDR '%s' conflicts with another subnet",
                           text ? text : text6);
        }
    }
    return list.count < SUBNETS_MAX ||
           err_set(err, ERR_SUBNET_LIMIT,
                   "The maximum number of subnets has been reached.");
}

bool
subnet_block6_check(struct call *call, const struct row_vpc *vpc, const char *asked,
                    const char **out, struct err *err)
{
    struct cidr6 block, whole;
    if (!block6_canonical(call, asked, "ipv6CidrBlock", out, err)) {
        return false;
    }
    for (size_t i = 0; cidr6_parse(*out, &block) && i < vpc->blocks6.count; i++) {
        if (block.bits == SUBNET_BITS6 &&
            cidr6_parse(vpc->blocks6.items[i].cidr, &whole) &&
            cidr6_within(&whole, &block)) {
            return check_apart(call, vpc, NULL, *out, err);
        }
    }
    return err_set(err, ERR_SUBNET_RANGE, "The CIDR '%s' is invalid.", *out);
}

/* The zone asked for by name or id; without one, the region's first. */
static bool
zone_find(struct call *call, const char *name, const char *id, const char **out,
          struct err *err)
{
    const struct region_config *region = config_region(call->config, call->region);
    for (size_t i = 0; region && i < region->zone_count; i++) {
        const struct zone_config *zone = &region->zones[i];
        if ((!name || str_eq(zone->name, name)) && (!id || str_eq(zone->id, id))) {
            *out = zone->name;
            return true;
        }
    }
    return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                   "Value (%.60s) for parameter availabilityZone is invalid. Subnets "
                   "can currently only be created in the following availability zones: "
                   "those of the region '%s'.",
                   name ? name : text_or_empty(id), call->region);
}

static bool
answer(struct call *call, const char *id, struct ec2_subnet **out, struct err *err)
{
    const struct row_subnet *row;
    struct tag_set tags;
    *out = ARENA_NEW(call->arena, struct ec2_subnet);
    return FIND(call, kind_subnet, id, &row, err) && tags_shown(call, id, &tags, err) &&
           subnet_out(call, row, tags, *out, err);
}

bool
ec2_create_subnet(struct call *call, const struct ec2_create_subnet_request *in,
                  struct ec2_create_subnet_result *out, struct err *err)
{
    const struct row_vpc *vpc;
    struct row_subnet subnet = {
        .account = call->account, .region = call->region, .created_at = call->now_ns};
    if (in->outpost_arn || in->ipv6_native) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "Outposts and IPv6-only subnets are not supported.");
    }
    if (!FIND(call, kind_vpc, in->vpc_id, &vpc, err) ||
        !need(in->cidr_block, "cidrBlock", err) ||
        !block_canonical(call, in->cidr_block, "cidrBlock", &subnet.cidr, err) ||
        !check_inside(call, vpc, subnet.cidr, err) ||
        !check_apart(call, vpc, subnet.cidr, NULL, err) ||
        (in->ipv6_cidr_block &&
         !subnet_block6_check(call, vpc, in->ipv6_cidr_block, &subnet.block6, err)) ||
        !zone_find(call, in->availability_zone, in->availability_zone_id, &subnet.zone,
                   err) ||
        !new_tags_check(&kind_subnet, in->tag_specifications.items,
                        in->tag_specifications.count, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    subnet.id = id_new(call->arena, call->rng, "subnet");
    subnet.vpc_id = vpc->id;
    if (subnet.block6) {
        subnet.block6_association_id =
            id_new(call->arena, call->rng, "subnet-cidr-assoc");
    }
    return vni_take(call->txn, &subnet.vni, err) &&
           subnet_add(call->txn, call->rng, &subnet, err) &&
           vpc_touch(call, subnet.vpc_id, err) &&
           new_tags_put(call, &kind_subnet, in->tag_specifications.items,
                        in->tag_specifications.count, subnet.id, err) &&
           answer(call, subnet.id, &out->subnet, err);
}

/* ---- CreateDefaultSubnet ---- */

/* The first /20 of the VPC in which no subnet lies. */
static bool
free_part(struct call *call, const struct row_vpc *vpc, const char **out,
          struct err *err)
{
    struct cidr whole, part;
    char text[CIDR_TEXT_LEN];
    for (uint32_t i = 0;
         cidr_parse(vpc->cidr, &whole) && cidr_child(&whole, 20, i, &part); i++) {
        cidr_format(&part, text);
        *out = arena_strdup(call->arena, text);
        if (check_apart(call, vpc, *out, NULL, err)) {
            return true;
        }
        if (err->code != ERR_SUBNET_CONFLICT) {
            return false;
        }
        err_clear(err);
    }
    return err_set(err, ERR_SUBNET_CONFLICT,
                   "The default VPC has no room for another default subnet");
}

static bool
check_zone_without(struct call *call, const struct row_vpc *vpc, const char *zone,
                   struct err *err)
{
    const struct row_subnet prefix = {.account = vpc->account, .vpc_id = vpc->id};
    struct row_list list;
    if (!rows_by(call, &row_subnet_type, "by_vpc", 2, &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_subnet *subnet = list.rows[i];
        if (subnet->default_for_az && str_eq(subnet->zone, zone)) {
            return err_set(err, ERR_DEFAULT_SUBNET_EXISTS,
                           "A default subnet already exists in the availability zone "
                           "'%s'.",
                           zone);
        }
    }
    return true;
}

bool
ec2_create_default_subnet(struct call *call,
                          const struct ec2_create_default_subnet_request *in,
                          struct ec2_create_default_subnet_result *out, struct err *err)
{
    const struct row_vpc *vpc;
    const char *vpc_id;
    struct row_subnet subnet = {.account = call->account,
                                .id = id_new(call->arena, call->rng, "subnet"),
                                .region = call->region,
                                .default_for_az = true,
                                .map_public_ip = true,
                                .created_at = call->now_ns};
    if (!default_vpc_find(call, &vpc_id, err)) {
        return false;
    }
    if (!vpc_id) {
        return err_set(err, ERR_DEFAULT_VPC_MISSING,
                       "No default VPC exists for this account in this region.");
    }
    subnet.vpc_id = vpc_id;
    return FIND(call, kind_vpc, vpc_id, &vpc, err) &&
           zone_find(call, in->availability_zone, NULL, &subnet.zone, err) &&
           check_zone_without(call, vpc, subnet.zone, err) &&
           free_part(call, vpc, &subnet.cidr, err) && dry_run_check(in->dry_run, err) &&
           vni_take(call->txn, &subnet.vni, err) &&
           subnet_add(call->txn, call->rng, &subnet, err) &&
           vpc_touch(call, subnet.vpc_id, err) &&
           answer(call, subnet.id, &out->subnet, err);
}

/* ---- DeleteSubnet ---- */

bool
ec2_delete_subnet(struct call *call, const struct ec2_delete_subnet_request *in,
                  struct err *err)
{
    const struct row_subnet *subnet;
    struct row_list enis;
    if (!FIND(call, kind_subnet, in->subnet_id, &subnet, err)) {
        return false;
    }
    const struct row_eni of = {.account = subnet->account, .subnet_id = subnet->id};
    if (!enis_in(call, "by_subnet", &of, &enis, err)) {
        return false;
    }
    if (enis.count) {
        return err_depends(err, "subnet", subnet->id);
    }
    return dry_run_check(in->dry_run, err) && flow_logs_end(call, subnet->id, err) &&
           object_delete(call, &kind_subnet, subnet, err);
}
