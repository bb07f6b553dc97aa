/* interface_attributes.c - an interface's attributes, and its addresses assigned and taken
 * back. */
#include "service/ec2/interfaces.h"

/* ---- attributes ---- */

static bool
find_own(struct call *call, const char *id, const struct row_eni **out, struct err *err)
{
    return FIND(call, kind_eni, id, out, err) && eni_check_own(*out, err);
}

/* Puts an interface, and what its instance repeats of its first one. */
static bool
put_with_instance(struct call *call, const struct row_eni *eni, struct err *err)
{
    const struct row_instance key = {.account = eni->account, .id = eni->instance_id};
    const void *row = NULL;
    if (!eni_put(call->txn, eni, err) ||
        (!str_empty(key.id) &&
         !row_get(call->txn, &row_instance_type, &key, &row, err))) {
        return false;
    }
    if (!row || eni->device_index != 0) {
        return true;
    }
    struct row_instance next = *(const struct row_instance *)row;
    struct ec2_group_identifier *groups;
    size_t count;
    if (!eni_groups_out(call, eni, &groups, &count, err)) {
        return false;
    }
    next.source_dest_check = eni->source_dest_check;
    next.groups.items = ARENA_ARRAY(call->arena, count, struct row_instance_group);
    next.groups.count = count;
    for (size_t i = 0; i < count; i++) {
        next.groups.items[i].id = groups[i].group_id;
        next.groups.items[i].name = groups[i].group_name;
    }
    return row_put(call->txn, &row_instance_type, &next, err);
}

bool
eni_groups_set(struct call *call, const struct row_eni *eni, const char *const *ids,
               size_t count, struct err *err)
{
    struct row_eni next = *eni;
    const char *const *groups;
    if (!eni_groups_check(call, eni->vpc_id, ids, count, &groups, &next.group_ids.count,
                          err)) {
        return false;
    }
    next.group_ids.items = ARENA_ARRAY(call->arena, next.group_ids.count, const char *);
    for (size_t i = 0; i < next.group_ids.count; i++) {
        next.group_ids.items[i] = groups[i];
    }
    return put_with_instance(call, &next, err);
}

static bool
change_attachment(const struct ec2_network_interface_attachment_changes *asked,
                  struct row_eni *next, struct err *err)
{
    if (!str_eq(asked->attachment_id, next->attachment_id)) {
        return err_no_such(err, ERR_ATTACHMENT_NOT_FOUND, "attachment",
                           text_or_empty(asked->attachment_id));
    }
    next->delete_on_termination = asked->delete_on_termination;
    return true;
}

bool
ec2_modify_network_interface_attribute(
    struct call *call, const struct ec2_modify_network_interface_attribute_request *in,
    struct err *err)
{
    const struct row_eni *eni;
    int asked = !!in->attachment + !!in->description + !!in->groups.count +
                !!in->source_dest_check;
    if (!find_own(call, in->network_interface_id, &eni, err)) {
        return false;
    }
    if (asked != 1) {
        return err_set(
            err, asked ? ERR_INVALID_PARAMETER_COMBINATION : ERR_MISSING_PARAMETER,
            "Exactly one attribute can be modified by a request.");
    }
    struct row_eni next = *eni;
    if ((in->attachment && !change_attachment(in->attachment, &next, err)) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    if (in->groups.count) {
        return eni_groups_set(call, eni, in->groups.items, in->groups.count, err);
    }
    if (in->description) {
        next.description = text_or_empty(in->description->value);
    }
    if (in->source_dest_check) {
        next.source_dest_check = in->source_dest_check->value;
    }
    return put_with_instance(call, &next, err);
}

bool
ec2_reset_network_interface_attribute(
    struct call *call, const struct ec2_reset_network_interface_attribute_request *in,
    struct err *err)
{
    const struct row_eni *eni;
    if (!find_own(call, in->network_interface_id, &eni, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    struct row_eni next = *eni;
    next.source_dest_check = true;
    return put_with_instance(call, &next, err);
}

bool
ec2_describe_network_interface_attribute(
    struct call *call,
    const struct ec2_describe_network_interface_attribute_request *in,
    struct ec2_describe_network_interface_attribute_result *out, struct err *err)
{
    const struct row_eni *eni;
    struct ec2_network_interface shown;
    if (!FIND(call, kind_eni, in->network_interface_id, &eni, err) ||
        !dry_run_check(in->dry_run, err) ||
        !eni_out(call, eni, (struct tag_set){0}, &shown, err)) {
        return false;
    }
    out->network_interface_id = eni->id;
    if (str_eq(in->attribute, "description")) {
        out->description = ARENA_NEW(call->arena, struct ec2_attribute_value);
        out->description->value = shown.description;
    } else if (str_eq(in->attribute, "groupSet")) {
        out->groups.items = shown.groups.items;
        out->groups.count = shown.groups.count;
    } else if (str_eq(in->attribute, "sourceDestCheck")) {
        out->source_dest_check =
            ARENA_NEW(call->arena, struct ec2_attribute_boolean_value);
        *out->source_dest_check =
            (struct ec2_attribute_boolean_value){HAS(value, eni->source_dest_check)};
    } else if (str_eq(in->attribute, "attachment")) {
        out->attachment = shown.attachment;
    } else {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%.60s) for parameter attribute is invalid.",
                       text_or_empty(in->attribute));
    }
    return true;
}

/* ---- IPv4 ---- */

/* Takes 'text' out of a list, by copying it; whether it was there. */
static bool
list_drop(struct call *call, const char *text, const char ***items, size_t *count)
{
    const char **next = ARENA_ARRAY(call->arena, *count, const char *);
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        if (!str_eq((*items)[i], text)) {
            next[kept++] = (*items)[i];
        }
    }
    bool found = kept < *count;
    *items = next;
    *count = kept;
    return found;
}

/* Takes an address off the other interface of the account that has it as a secondary
 * one: what AllowReassignment allows. */
static bool
take_over(struct call *call, const struct row_eni *eni, const char *ip, struct err *err)
{
    uint32_t number;
    const void *row, *other;
    if (!ipv4_parse(ip, &number)) {
        return true;
    }
    const struct row_address_use key = {
        .account = eni->account, .subnet_id = eni->subnet_id, .ip = number};
    if (!row_get(call->txn, &row_address_use_type, &key, &row, err)) {
        return false;
    }
    const struct row_address_use *use = row;
    if (!use || str_eq(use->eni_id, eni->id)) {
        return true;
    }
    const struct row_eni holder = {.account = eni->account, .id = use->eni_id};
    if (!row_get(call->txn, &row_eni_type, &holder, &other, err) || !other) {
        return !err->code;
    }
    struct row_eni next = *(const struct row_eni *)other;
    return !list_drop(call, ip, &next.more_ipv4.items, &next.more_ipv4.count) ||
           (ipv4_give_back(call->txn, eni->account, eni->subnet_id, ip, err) &&
            eni_put(call->txn, &next, err));
}

bool
ec2_assign_private_ip_addresses(
    struct call *call, const struct ec2_assign_private_ip_addresses_request *in,
    struct ec2_assign_private_ip_addresses_result *out, struct err *err)
{
    const struct row_eni *eni;
    if (!find_own(call, in->network_interface_id, &eni, err)) {
        return false;
    }
    if (in->ipv4_prefixes.count || in->ipv4_prefix_count) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "Prefixes delegated to interfaces are not supported.");
    }
    if (!in->private_ip_addresses.count == !in->secondary_private_ip_address_count) {
        return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                       "Exactly one of privateIpAddress and "
                       "secondaryPrivateIpAddressCount is needed.");
    }
    struct row_eni next = *eni;
    size_t before = eni->more_ipv4.count;
    for (size_t i = 0; in->allow_reassignment && i < in->private_ip_addresses.count;
         i++) {
        if (!take_over(call, eni, in->private_ip_addresses.items[i], err)) {
            return false;
        }
    }
    if (!eni_add_ipv4(call, &next, in->private_ip_addresses.items,
                      in->private_ip_addresses.count,
                      in->secondary_private_ip_address_count, err) ||
        !eni_put(call->txn, &next, err)) {
        return false;
    }
    size_t count = next.more_ipv4.count - before;
    out->network_interface_id = eni->id;
    out->assigned_private_ip_addresses.items =
        ARENA_ARRAY(call->arena, count, struct ec2_assigned_private_ip_address);
    out->assigned_private_ip_addresses.count = count;
    for (size_t i = 0; i < count; i++) {
        out->assigned_private_ip_addresses.items[i].private_ip_address =
            next.more_ipv4.items[before + i];
    }
    return true;
}

static bool
unassign(struct call *call, struct row_eni *eni, const char *ip, struct err *err)
{
    const struct row_address *elastic;
    if (!list_drop(call, ip, &eni->more_ipv4.items, &eni->more_ipv4.count)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Some of %.40s are not assigned to interface %s as secondary "
                       "addresses",
                       text_or_empty(ip), eni->id);
    }
    return address_of(call->txn, eni, ip, &elastic, err) &&
           (!elastic || address_part(call->txn, elastic, err)) &&
           ipv4_give_back(call->txn, eni->account, eni->subnet_id, ip, err);
}

bool
ec2_unassign_private_ip_addresses(
    struct call *call, const struct ec2_unassign_private_ip_addresses_request *in,
    struct err *err)
{
    const struct row_eni *eni;
    if (!find_own(call, in->network_interface_id, &eni, err)) {
        return false;
    }
    struct row_eni next = *eni;
    for (size_t i = 0; i < in->private_ip_addresses.count; i++) {
        if (!unassign(call, &next, in->private_ip_addresses.items[i], err)) {
            return false;
        }
    }
    return eni_put(call->txn, &next, err);
}

/* ---- IPv6 ---- */

bool
ec2_assign_ipv6_addresses(struct call *call,
                          const struct ec2_assign_ipv6_addresses_request *in,
                          struct ec2_assign_ipv6_addresses_result *out, struct err *err)
{
    const struct row_eni *eni;
    const struct row_subnet *subnet;
    if (!find_own(call, in->network_interface_id, &eni, err) ||
        !FIND(call, kind_subnet, eni->subnet_id, &subnet, err)) {
        return false;
    }
    if (in->ipv6_prefixes.count || in->ipv6_prefix_count) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "Prefixes delegated to interfaces are not supported.");
    }
    struct row_eni next = *eni;
    size_t before = eni->ipv6.count;
    int64_t any = in->ipv6_address_count;
    if (!in->ipv6_addresses.count && !any) {
        any = 1;
    }
    if (!eni_add_ipv6(call, &next, subnet, in->ipv6_addresses.items,
                      in->ipv6_addresses.count, any, err) ||
        !eni_put(call->txn, &next, err)) {
        return false;
    }
    out->network_interface_id = eni->id;
    out->assigned_ipv6_addresses.items = next.ipv6.items + before;
    out->assigned_ipv6_addresses.count = next.ipv6.count - before;
    return true;
}

bool
ec2_unassign_ipv6_addresses(struct call *call,
                            const struct ec2_unassign_ipv6_addresses_request *in,
                            struct ec2_unassign_ipv6_addresses_result *out,
                            struct err *err)
{
    const struct row_eni *eni;
    if (!find_own(call, in->network_interface_id, &eni, err)) {
        return false;
    }
    struct row_eni next = *eni;
    for (size_t i = 0; i < in->ipv6_addresses.count; i++) {
        uint8_t ip[16];
        char text[IPV6_TEXT_LEN] = "";
        if (ipv6_parse(in->ipv6_addresses.items[i], ip)) {
            ipv6_format(ip, text);
        }
        if (!list_drop(call, text, &next.ipv6.items, &next.ipv6.count)) {
            return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                           "Some of %.60s are not assigned to interface %s",
                           in->ipv6_addresses.items[i], eni->id);
        }
        if (!ipv6_give_back(call->txn, eni->account, eni->subnet_id,
                            arena_strdup(call->arena, text), err)) {
            return false;
        }
    }
    out->network_interface_id = eni->id;
    out->unassigned_ipv6_addresses.items = in->ipv6_addresses.items;
    out->unassigned_ipv6_addresses.count = in->ipv6_addresses.count;
    return eni_put(call->txn, &next, err);
}
