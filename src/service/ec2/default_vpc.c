/* default_vpc.c - the VPC that every account finds in every region. */
#include "service/ec2/network.h"

#define DEFAULT_VPC_CIDR "172.31.0.0/16"
#define DEFAULT_SUBNET_BITS 20
/* VXLAN identifiers below this are left to the operator's own networks. */

static bool
find(struct call *call, const char *account, const char *region,
     const char **out_vpc_id, struct err *err)
{
    const struct row_zone_default key = {.account = account, .region = region};
    const void *row;
    if (!row_get(call->txn, &row_zone_default_type, &key, &row, err)) {
        return false;
    }
    *out_vpc_id = row ? ((const struct row_zone_default *)row)->vpc_id : NULL;
    return true;
}

bool
default_vpc_find(struct call *call, const char **out_vpc_id, struct err *err)
{
    return find(call, call->account, call->region, out_vpc_id, err);
}

/* One /20 in each zone, from the VPC's start. */
static bool
make_subnets(struct call *call, const struct row_vpc *vpc, struct err *err)
{
    const struct region_config *region = config_region(call->config, vpc->region);
    struct cidr whole, part;
    if (!region || !cidr_parse(vpc->cidr, &whole)) {
        return err_set(err, ERR_INTERNAL, "region '%s' is not configured", vpc->region);
    }
    for (size_t i = 0; i < region->zone_count; i++) {
        if (!cidr_child(&whole, DEFAULT_SUBNET_BITS, (uint32_t)i, &part)) {
            break; /* More zones than the default VPC has room for. */
        }
        char text[CIDR_TEXT_LEN];
        cidr_format(&part, text);
        struct row_subnet subnet = {
            .account = vpc->account,
            .id = id_new(call->arena, call->rng, "subnet"),
            .region = vpc->region,
            .vpc_id = vpc->id,
            .zone = region->zones[i].name,
            .cidr = arena_strdup(call->arena, text),
            .default_for_az = true,
            .map_public_ip = true,
            .created_at = call->now_ns,
        };
        if (!vni_take(call->txn, &subnet.vni, err) ||
            !subnet_add(call->txn, call->rng, &subnet, err)) {
            return false;
        }
    }
    return true;
}

static bool
make(struct call *call, const char *account, const char *region, const char **out_id,
     struct err *err)
{
    struct row_vpc vpc = {.account = account,
                          .id = id_new(call->arena, call->rng, "vpc"),
                          .region = region,
                          .cidr = DEFAULT_VPC_CIDR,
                          .is_default = true,
                          .tenancy = "default",
                          .created_at = call->now_ns,
                          .dns_support = true,
                          .dns_hostnames = true};
    const struct row_zone_default mark = {
        .account = account, .region = region, .vpc_id = vpc.id};
    const struct row_vpc *made;
    *out_id = vpc.id;
    return vni_take(call->txn, &vpc.vni, err) &&
           dhcp_default(call->txn, call->rng, account, region, call->now_ns,
                        &vpc.dhcp_options_id, err) &&
           vpc_add(call->txn, call->rng, &vpc, &made, err) &&
           make_subnets(call, made, err) &&
           vpc_open(call->txn, call->rng, made, call->now_ns, err) &&
           row_put(call->txn, &row_zone_default_type, &mark, err);
}

bool
default_vpc_make(struct call *call, const char **out_id, struct err *err)
{
    return make(call, call->account, call->region, out_id, err);
}

bool
default_vpc_ensure(struct call *call, const char *account, const char *region,
                   const char **out_vpc_id, struct err *err)
{
    const struct row_zone_default key = {.account = account, .region = region};
    const void *mark, *row;
    if (!row_get(call->txn, &row_zone_default_type, &key, &mark, err)) {
        return false;
    }
    if (!mark) {
        return make(call, account, region, out_vpc_id, err);
    }
    const struct row_vpc vpc = {.account = account,
                                .id = ((const struct row_zone_default *)mark)->vpc_id};
    *out_vpc_id = vpc.id;
    if (str_empty(vpc.id)) {
        *out_vpc_id = NULL; /* Its owner deleted it. */
        return true;
    }
    return row_get(call->txn, &row_vpc_type, &vpc, &row, err) &&
           (!row || vpc_complete(call->txn, call->rng, row, call->now_ns, NULL, err));
}
