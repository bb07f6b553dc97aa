/* subnet_attributes.c - ModifySubnetAttribute, and a subnet's IPv6 block. */
#include "core/uplink_rows.h"
#include "service/ec2/network.h"

static bool
set_flag(const struct ec2_attribute_boolean_value *asked, bool *flag, int *count)
{
    if (asked) {
        *flag = asked->value;
        ++*count;
    }
    return asked != NULL;
}

/* Where local network interfaces of the subnet sit: on an interface of the hosts that the
 * operator has lent the account in that zone. It stays while one is attached. */
static bool
set_lni_index(struct call *call, const struct ec2_modify_subnet_attribute_request *in,
              struct row_subnet *next, int *asked, struct err *err)
{
    bool off =
        in->disable_lni_at_device_index && in->disable_lni_at_device_index->value;
    const struct row_eni *eni;
    bool lent;
    if (!off && !in->has_enable_lni_at_device_index) {
        return true;
    }
    ++*asked;
    if (!off && (in->enable_lni_at_device_index < 1 ||
                 in->enable_lni_at_device_index > UINT8_MAX)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%" PRId64 ") for parameter enableLniAtDeviceIndex is "
                       "invalid. A local network interface cannot be the primary one.",
                       in->enable_lni_at_device_index);
    }
    if (!uplink_lent_somewhere(call->txn, call->account, next->zone, &lent, err) ||
        !lni_any(call->txn, call->account, call->region, next->zone, next->id, &eni,
                 err)) {
        return false;
    }
    if (!off && !lent) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "No interface of the hosts in '%s' is lent to this account. Ask "
                       "the cloud's operator.",
                       next->zone);
    }
    if (eni) {
        return err_set(err, ERR_DEPENDENCY,
                       "The network interface '%s' is attached as a local one.",
                       eni->id);
    }
    next->lni_index = off ? 0 : in->enable_lni_at_device_index;
    return true;
}

bool
ec2_modify_subnet_attribute(struct call *call,
                            const struct ec2_modify_subnet_attribute_request *in,
                            struct err *err)
{
    const struct row_subnet *subnet;
    int asked = 0;
    if (!FIND(call, kind_subnet, in->subnet_id, &subnet, err)) {
        return false;
    }
    struct row_subnet next = *subnet;
    if (set_flag(in->assign_ipv6_address_on_creation, &next.assign_ipv6, &asked) &&
        next.assign_ipv6 && str_empty(subnet->block6)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Invalid value 'true' for assignIpv6AddressOnCreation. Subnet "
                       "does not have associated IPv6 CIDR.");
    }
    set_flag(in->map_public_ip_on_launch, &next.map_public_ip, &asked);
    set_flag(in->enable_dns64, &next.dns64, &asked);
    set_flag(in->enable_resource_name_dns_a_record_on_launch, &next.dns_a, &asked);
    set_flag(in->enable_resource_name_dns_aaaa_record_on_launch, &next.dns_aaaa,
             &asked);
    if (in->private_dns_hostname_type_on_launch) {
        next.hostname_type = in->private_dns_hostname_type_on_launch;
        asked++;
    }
    if (!set_lni_index(call, in, &next, &asked, err)) {
        return false;
    }
    if (asked != 1) {
        return err_set(
            err, asked ? ERR_INVALID_PARAMETER_COMBINATION : ERR_MISSING_PARAMETER,
            "Exactly one attribute can be modified by a request.");
    }
    return row_put(call->txn, &row_subnet_type, &next, err);
}

/* ---- the IPv6 block ---- */

bool
ec2_associate_subnet_cidr_block(
    struct call *call, const struct ec2_associate_subnet_cidr_block_request *in,
    struct ec2_associate_subnet_cidr_block_result *out, struct err *err)
{
    const struct row_subnet *subnet;
    const struct row_vpc *vpc;
    if (!FIND(call, kind_subnet, in->subnet_id, &subnet, err) ||
        !FIND(call, kind_vpc, subnet->vpc_id, &vpc, err)) {
        return false;
    }
    struct row_subnet next = *subnet;
    if (!str_empty(subnet->block6)) {
        return err_set(err, ERR_VPC_BLOCK_LIMIT,
                       "The subnet '%s' has met its maximum number of allowed IPv6 "
                       "CIDRs: 1",
                       subnet->id);
    }
    next.block6_association_id = id_new(call->arena, call->rng, "subnet-cidr-assoc");
    if (!subnet_block6_check(call, vpc, in->ipv6_cidr_block, &next.block6, err) ||
        !row_put(call->txn, &row_subnet_type, &next, err) ||
        !vpc_touch(call, subnet->vpc_id, err)) {
        return false;
    }
    out->subnet_id = subnet->id;
    out->ipv6_cidr_block_association =
        ARENA_NEW(call->arena, struct ec2_subnet_ipv6_cidr_block_association);
    *out->ipv6_cidr_block_association = subnet_block6_out(call, &next, "associating");
    return true;
}

static bool
drop_block6(struct call *call, const struct row_subnet *subnet,
            struct ec2_disassociate_subnet_cidr_block_result *out, struct err *err)
{
    const struct row_address6_use prefix = {.account = subnet->account,
                                            .subnet_id = subnet->id};
    struct row_list used;
    struct row_subnet next = *subnet;
    if (!rows_by(call, &row_address6_use_type, NULL, 2, &prefix, &used, err)) {
        return false;
    }
    if (used.count) {
        return err_set(err, ERR_DEPENDENCY,
                       "The subnetIpv6CidrBlock '%s' has dependencies and cannot be "
                       "disassociated.",
                       subnet->block6_association_id);
    }
    next.block6 = next.block6_association_id = NULL;
    next.assign_ipv6 = false;
    out->subnet_id = subnet->id;
    out->ipv6_cidr_block_association =
        ARENA_NEW(call->arena, struct ec2_subnet_ipv6_cidr_block_association);
    *out->ipv6_cidr_block_association =
        subnet_block6_out(call, subnet, "disassociating");
    return row_put(call->txn, &row_subnet_type, &next, err) &&
           vpc_touch(call, subnet->vpc_id, err);
}

bool
ec2_disassociate_subnet_cidr_block(
    struct call *call, const struct ec2_disassociate_subnet_cidr_block_request *in,
    struct ec2_disassociate_subnet_cidr_block_result *out, struct err *err)
{
    const struct row_subnet prefix = {.account = call->account, .region = call->region};
    struct row_list list;
    if (!rows_of_region(call, &row_subnet_type, &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_subnet *subnet = list.rows[i];
        if (!str_empty(in->association_id) &&
            str_eq(subnet->block6_association_id, in->association_id)) {
            return drop_block6(call, subnet, out, err);
        }
    }
    return err_no_such(err, ERR_SUBNET_BLOCK_ASSOCIATION,
                       "subnet CIDR block with association ID",
                       text_or_empty(in->association_id));
}
