/* network_interfaces.c - network interfaces as EC2 shows them; DescribeNetworkInterfaces. */
#include "service/ec2/interfaces.h"

static bool
in_use(const struct row_eni *eni)
{
    return !str_empty(eni->instance_id) || !str_empty(eni->owner_id);
}

bool
eni_groups_out(struct call *call, const struct row_eni *eni,
               struct ec2_group_identifier **out, size_t *out_count, struct err *err)
{
    size_t count = eni->group_ids.count;
    *out = ARENA_ARRAY(call->arena, count, struct ec2_group_identifier);
    *out_count = count;
    for (size_t i = 0; i < count; i++) {
        const struct row_security_group key = {.account = eni->account,
                                               .id = eni->group_ids.items[i]};
        const void *row;
        if (!row_get(call->txn, &row_security_group_type, &key, &row, err)) {
            return false;
        }
        (*out)[i].group_id = key.id;
        (*out)[i].group_name =
            row ? ((const struct row_security_group *)row)->name : NULL;
    }
    return true;
}

bool
eni_public_of(struct call *call, const struct row_eni *eni, const char *private_ip,
              struct eni_public *out, struct err *err)
{
    const struct row_address *elastic;
    if (!address_of(call->txn, eni, private_ip, &elastic, err)) {
        return false;
    }
    *out = (struct eni_public){0};
    if (elastic) {
        *out = (struct eni_public){elastic->public_ip, elastic->id,
                                   elastic->association_id, elastic->account};
    } else if (str_eq(private_ip, eni->ipv4) && !str_empty(eni->public_ip)) {
        *out = (struct eni_public){.ip = eni->public_ip, .owner_id = "amazon"};
    }
    return true;
}

const char *
public_dns_name(struct call *call, const char *ip)
{
    uint32_t number;
    char name[PUBLIC_NAME_LEN];
    if (!ipv4_parse(ip, &number)) {
        return "";
    }
    public_name(call->region, number, name);
    return arena_strdup(call->arena, name);
}

static const char *
private_dns(struct call *call, const char *ip)
{
    uint32_t number;
    char host[HOSTNAME_LEN], domain[96];
    if (!ipv4_parse(ip, &number)) {
        return NULL;
    }
    hostname_of(number, host);
    private_domain(call->region, domain, sizeof domain);
    return arena_printf(call->arena, "%s.%s", host, domain);
}

/* One private address with its public side. */
static bool
address_out(struct call *call, const struct row_eni *eni, const char *ip,
            struct ec2_network_interface_private_ip_address *out, struct err *err)
{
    struct eni_public public;
    if (!eni_public_of(call, eni, ip, &public, err)) {
        return false;
    }
    *out = (struct ec2_network_interface_private_ip_address){
        HAS(primary, str_eq(ip, eni->ipv4)),
        .private_dns_name = private_dns(call, ip),
        .private_ip_address = ip,
    };
    if (public.ip) {
        out->association =
            ARENA_NEW(call->arena, struct ec2_network_interface_association);
        *out->association = (struct ec2_network_interface_association){
            .allocation_id = public.allocation_id,
            .association_id = public.association_id,
            .ip_owner_id = public.owner_id,
            .public_dns_name = public_dns_name(call, public.ip),
            .public_ip = public.ip,
        };
    }
    return true;
}

static bool
addresses_out(struct call *call, const struct row_eni *eni,
              struct ec2_network_interface *out, struct err *err)
{
    size_t count = eni->more_ipv4.count + 1;
    struct ec2_network_interface_private_ip_address *items = ARENA_ARRAY(
        call->arena, count, struct ec2_network_interface_private_ip_address);
    for (size_t i = 0; i < count; i++) {
        const char *ip = i ? eni->more_ipv4.items[i - 1] : eni->ipv4;
        if (!address_out(call, eni, ip, &items[i], err)) {
            return false;
        }
    }
    out->private_ip_addresses.items = items;
    out->private_ip_addresses.count = count;
    out->association = items[0].association;
    out->private_dns_name = items[0].private_dns_name;
    out->ipv6_addresses.items = ARENA_ARRAY(call->arena, eni->ipv6.count + 1,
                                            struct ec2_network_interface_ipv6_address);
    for (size_t i = 0; i < eni->ipv6.count; i++) {
        out->ipv6_addresses.items[i].ipv6_address = eni->ipv6.items[i];
    }
    out->ipv6_addresses.count = eni->ipv6.count;
    out->ipv6_address = eni->ipv6.count ? eni->ipv6.items[0] : NULL;
    return true;
}

static void
attachment_out(struct call *call, const struct row_eni *eni,
               struct ec2_network_interface *out)
{
    bool ours = str_empty(eni->owner_id);
    if (!in_use(eni)) {
        return;
    }
    out->attachment = ARENA_NEW(call->arena, struct ec2_network_interface_attachment);
    *out->attachment = (struct ec2_network_interface_attachment){
        .attach_time = eni->attached_at,
        .has_attach_time = eni->attached_at != 0,
        .attachment_id = eni->attachment_id,
        HAS(delete_on_termination, eni->delete_on_termination),
        HAS(device_index, ours ? eni->device_index : 1),
        HAS(network_card_index, 0),
        .instance_id = ours ? eni->instance_id : NULL,
        .instance_owner_id = ours ? eni->account : "amazon-aws",
        .status = "attached",
    };
}

bool
eni_out(struct call *call, const struct row_eni *eni, struct tag_set tags,
        struct ec2_network_interface *out, struct err *err)
{
    bool ours = str_empty(eni->owner_id);
    *out = (struct ec2_network_interface){
        .availability_zone = eni->zone,
        .description = text_or_empty(eni->description),
        .interface_type = str_empty(eni->type) ? "interface" : eni->type,
        .mac_address = eni->mac,
        .network_interface_id = eni->id,
        .owner_id = eni->account,
        .private_ip_address = eni->ipv4,
        .requester_id = ours ? NULL : "amazon-aws",
        HAS(requester_managed, !ours),
        HAS(source_dest_check, eni->source_dest_check),
        .status = in_use(eni) ? "in-use" : "available",
        .subnet_id = eni->subnet_id,
        .vpc_id = eni->vpc_id,
        .tag_set = {tags_out(call, tags), tags.count},
    };
    attachment_out(call, eni, out);
    return addresses_out(call, eni, out, err) &&
           eni_groups_out(call, eni, &out->groups.items, &out->groups.count, err);
}

/* ---- filters over the answer ---- */

#define NIC struct ec2_network_interface
#define ADDRESSES private_ip_addresses

FILTER_TEXT(address, NIC, private_ip_address)
FILTER_TEXT(zone, NIC, availability_zone)
FILTER_TEXT(description, NIC, description)
FILTER_TEXT(mac, NIC, mac_address)
FILTER_TEXT(id, NIC, network_interface_id)
FILTER_TEXT(owner, NIC, owner_id)
FILTER_TEXT(subnet, NIC, subnet_id)
FILTER_TEXT(vpc, NIC, vpc_id)
FILTER_TEXT(dns, NIC, private_dns_name)
FILTER_TEXT(type, NIC, interface_type)
FILTER_TEXT(status, NIC, status)
FILTER_TEXT(requester, NIC, requester_id)
FILTER_BOOL(managed, NIC, requester_managed)
FILTER_BOOL(check, NIC, source_dest_check)
FILTER_EACH(group_id, NIC, groups, group_id)
FILTER_EACH(group_name, NIC, groups, group_name)
FILTER_EACH(each_address, NIC, ADDRESSES, private_ip_address)
FILTER_EACH(ipv6, NIC, ipv6_addresses, ipv6_address)

/* Of an attachment, or of an association: none where there is none. */
#define FILTER_PART(NAME, part, offer, member) \
    static void NAME##_values(const void *object, struct filter_test *test) \
    { \
        const NIC *nic = object; \
        if (nic->part) { \
            offer(test, nic->part->member); \
        } \
    }
#define FILTER_ASSOCIATION(NAME, member) \
    static void NAME##_values(const void *object, struct filter_test *test) \
    { \
        const NIC *nic = object; \
        for (size_t i = 0; i < nic->ADDRESSES.count; i++) { \
            if (nic->ADDRESSES.items[i].association) { \
                filter_offer(test, nic->ADDRESSES.items[i].association->member); \
            } \
        } \
    }

FILTER_PART(attach_id, attachment, filter_offer, attachment_id)
FILTER_PART(attach_time, attachment, filter_offer_time, attach_time)
FILTER_PART(attach_delete, attachment, filter_offer_bool, delete_on_termination)
FILTER_PART(attach_index, attachment, filter_offer_int, device_index)
FILTER_PART(attach_instance, attachment, filter_offer, instance_id)
FILTER_PART(attach_owner, attachment, filter_offer, instance_owner_id)
FILTER_PART(attach_status, attachment, filter_offer, status)
FILTER_ASSOCIATION(public_ip, public_ip)
FILTER_ASSOCIATION(public_owner, ip_owner_id)
FILTER_ASSOCIATION(public_name, public_dns_name)
FILTER_ASSOCIATION(allocation, allocation_id)
FILTER_ASSOCIATION(association, association_id)

static void
primary_values(const void *object, struct filter_test *test)
{
    const NIC *nic = object;
    for (size_t i = 0; i < nic->ADDRESSES.count; i++) {
        filter_offer_bool(test, nic->ADDRESSES.items[i].primary);
    }
}

static const struct filter_def eni_filters[] = {
    {"addresses.association.owner-id", public_owner_values},
    {"addresses.association.public-ip", public_ip_values},
    {"addresses.primary", primary_values},
    {"addresses.private-ip-address", each_address_values},
    {"association.allocation-id", allocation_values},
    {"association.association-id", association_values},
    {"association.ip-owner-id", public_owner_values},
    {"association.public-dns-name", public_name_values},
    {"association.public-ip", public_ip_values},
    {"attachment.attach-time", attach_time_values},
    {"attachment.attachment-id", attach_id_values},
    {"attachment.delete-on-termination", attach_delete_values},
    {"attachment.device-index", attach_index_values},
    {"attachment.instance-id", attach_instance_values},
    {"attachment.instance-owner-id", attach_owner_values},
    {"attachment.status", attach_status_values},
    {"availability-zone", zone_values},
    {"description", description_values},
    {"group-id", group_id_values},
    {"group-name", group_name_values},
    {"interface-type", type_values},
    {"ipv6-addresses.ipv6-address", ipv6_values},
    {"mac-address", mac_values},
    {"network-interface-id", id_values},
    {"owner-id", owner_values},
    {"private-dns-name", dns_values},
    {"private-ip-address", address_values},
    {"requester-id", requester_values},
    {"requester-managed", managed_values},
    {"source-dest-check", check_values},
    {"status", status_values},
    {"subnet-id", subnet_values},
    {"vpc-id", vpc_values},
};

bool
ec2_describe_network_interfaces(
    struct call *call, const struct ec2_describe_network_interfaces_request *in,
    struct ec2_describe_network_interfaces_result *out, struct err *err)
{
    const struct row_eni prefix = {.account = call->account, .region = call->region};
    const struct listing_ask ask =
        LISTING_ASK(in, network_interface_ids, filters, "networkInterfaceIdSet",
                    kind_eni, eni_filters, &prefix);
    struct listing listing;
    if (!listing_open(call, &ask, &listing, err)) {
        return false;
    }
    struct ec2_network_interface *items =
        ARENA_ARRAY(call->arena, listing.rows.count, struct ec2_network_interface);
    size_t count = 0;
    for (size_t i = 0; i < listing.rows.count; i++) {
        const struct row_eni *eni = listing.rows.rows[i];
        if (!eni_out(call, eni, tags_of(&listing.tags, eni->id), &items[count], err)) {
            return false;
        }
        count += listing_accepts(&listing, eni->id, &items[count]);
    }
    out->network_interfaces.items = items;
    out->network_interfaces.count = count;
    return listing_close(call, &listing, &out->next_token, err);
}
