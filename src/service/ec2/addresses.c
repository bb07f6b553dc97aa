/* addresses.c - Elastic IPs: allocated, associated, released, described. */
#include "core/uplink_rows.h"
#include "service/ec2/network.h"

/* ---- shown ---- */

static bool
address_out(struct call *call, const struct row_address *row, struct tag_set tags,
            struct ec2_address *out, struct err *err)
{
    *out = (struct ec2_address){
        .public_ip = row->public_ip,
        .allocation_id = row->id,
        .domain = "vpc",
        .public_ipv4_pool = str_empty(row->pool) ? "amazon" : row->pool,
        .network_border_group = row->region,
        .tags = {tags_out(call, tags), tags.count},
    };
    if (str_empty(row->eni_id)) {
        return true;
    }
    const struct row_eni key = {.account = row->account, .id = row->eni_id};
    const void *eni;
    if (!row_get(call->txn, &row_eni_type, &key, &eni, err)) {
        return false;
    }
    const char *instance = eni ? ((const struct row_eni *)eni)->instance_id : NULL;
    out->association_id = row->association_id;
    out->network_interface_id = row->eni_id;
    out->network_interface_owner_id = row->account;
    out->private_ip_address = row->private_ip;
    out->instance_id = str_empty(instance) ? NULL : instance;
    return true;
}

FILTER_TEXT(address_id, struct ec2_address, allocation_id)
FILTER_TEXT(address_association, struct ec2_address, association_id)
FILTER_TEXT(address_domain, struct ec2_address, domain)
FILTER_TEXT(address_instance, struct ec2_address, instance_id)
FILTER_TEXT(address_group, struct ec2_address, network_border_group)
FILTER_TEXT(address_eni, struct ec2_address, network_interface_id)
FILTER_TEXT(address_eni_owner, struct ec2_address, network_interface_owner_id)
FILTER_TEXT(address_private, struct ec2_address, private_ip_address)
FILTER_TEXT(address_public, struct ec2_address, public_ip)

static const struct filter_def address_filters[] = {
    {"allocation-id", address_id_values},
    {"association-id", address_association_values},
    {"domain", address_domain_values},
    {"instance-id", address_instance_values},
    {"network-border-group", address_group_values},
    {"network-interface-id", address_eni_values},
    {"network-interface-owner-id", address_eni_owner_values},
    {"private-ip-address", address_private_values},
    {"public-ip", address_public_values},
};

bool
ec2_describe_addresses(struct call *call,
                       const struct ec2_describe_addresses_request *in,
                       struct ec2_describe_addresses_result *out, struct err *err)
{
    const struct row_address prefix = {.account = call->account,
                                       .region = call->region};
    const struct listing_ask ask = {.kind = &kind_address,
                                    .prefix = &prefix,
                                    .defs = address_filters,
                                    .def_count = ARRAY_LEN(address_filters),
                                    .filters = in->filters.items,
                                    .filter_count = in->filters.count,
                                    .ids = in->allocation_ids.items,
                                    .page = {.ids = in->allocation_ids.count},
                                    .dry_run = in->dry_run};
    const char *no_next;
    struct listing listing;
    struct pick ips;
    pick_init(call, in->public_ips.items, in->public_ips.count, &ips);
    if (!listing_open(call, &ask, &listing, err)) {
        return false;
    }
    struct ec2_address *items =
        ARENA_ARRAY(call->arena, listing.rows.count, struct ec2_address);
    size_t count = 0;
    for (size_t i = 0; i < listing.rows.count; i++) {
        const struct row_address *row = listing.rows.rows[i];
        if (!address_out(call, row, tags_of(&listing.tags, row->id), &items[count],
                         err)) {
            return false;
        }
        bool named = pick_take(&ips, row->public_ip);
        count += listing_accepts(&listing, row->id, &items[count]) && named;
    }
    for (size_t i = 0; i < ips.count; i++) {
        if (!ips.found[i]) {
            return err_set(err, ERR_ADDRESS_NOT_FOUND, "Address '%.80s' not found.",
                           ips.ids[i]);
        }
    }
    out->addresses.items = items;
    out->addresses.count = count;
    return listing_close(call, &listing, &no_next, err);
}

/* ---- AllocateAddress, ReleaseAddress ---- */

bool
ec2_allocate_address(struct call *call, const struct ec2_allocate_address_request *in,
                     struct ec2_allocate_address_result *out, struct err *err)
{
    struct row_address row = {.account = call->account,
                              .id = id_new(call->arena, call->rng, "eipalloc"),
                              .region = call->region,
                              .created_at = call->now_ns};
    const struct row_public_use owner = {
        .region = call->region, .account = call->account, .allocation_id = row.id};
    if (in->customer_owned_ipv4_pool) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "Pools of customers' own addresses are not supported.");
    }
    if (in->domain && !str_eq(in->domain, "vpc")) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "EC2-Classic is not supported: the domain must be 'vpc'.");
    }
    if (!new_tags_check(&kind_address, in->tag_specifications.items,
                        in->tag_specifications.count, err) ||
        !room_for_one(call, &row_address_type, "by_region", ADDRESSES_MAX,
                      ERR_ADDRESS_LIMIT, "addresses", err) ||
        !dry_run_check(in->dry_run, err) ||
        !public_take(call->txn, &owner, in->address, call->now_ns, &row.public_ip,
                     err) ||
        !row_insert(call->txn, &row_address_type, &row, err)) {
        return false;
    }
    *out = (struct ec2_allocate_address_result){.public_ip = row.public_ip,
                                                .allocation_id = row.id,
                                                .public_ipv4_pool = "amazon",
                                                .network_border_group = call->region,
                                                .domain = "vpc"};
    return new_tags_put(call, &kind_address, in->tag_specifications.items,
                        in->tag_specifications.count, row.id, err);
}

/* By allocation id, or by the address itself. */
static bool
address_find(struct call *call, const char *allocation_id, const char *public_ip,
             const struct row_address **out, struct err *err)
{
    const struct row_address prefix = {.account = call->account,
                                       .region = call->region};
    struct row_list list;
    if (allocation_id && public_ip) {
        return err_set(
            err, ERR_INVALID_PARAMETER_COMBINATION,
            "You may specify public IP or allocation id, but not both in the "
            "same call");
    }
    if (allocation_id) {
        return FIND(call, kind_address, allocation_id, out, err);
    }
    if (!need(public_ip, "allocationId", err) ||
        !rows_of_region(call, &row_address_type, &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_address *row = list.rows[i];
        if (str_eq(row->public_ip, public_ip)) {
            *out = row;
            return true;
        }
    }
    return err_set(err, ERR_ADDRESS_NOT_FOUND, "Address '%.80s' not found.", public_ip);
}

bool
ec2_release_address(struct call *call, const struct ec2_release_address_request *in,
                    struct err *err)
{
    const struct row_address *row;
    if (!address_find(call, in->allocation_id, in->public_ip, &row, err)) {
        return false;
    }
    if (!str_empty(row->eni_id)) {
        return err_set(err, ERR_ADDRESS_IN_USE, "Address %s is in use.",
                       row->public_ip);
    }
    return dry_run_check(in->dry_run, err) &&
           public_give_back(call->txn, row->region, row->public_ip, err) &&
           object_delete(call, &kind_address, row, err);
}

/* ---- AssociateAddress, DisassociateAddress ---- */

/* The interface that a request names, by itself or as an instance's first. */
static bool
eni_of(struct call *call, const struct ec2_associate_address_request *in,
       const struct row_eni **out, struct err *err)
{
    const struct row_instance *inst;
    const struct row_eni prefix = {.account = call->account,
                                   .instance_id = in->instance_id};
    struct row_list enis;
    *out = NULL;
    if (in->network_interface_id) {
        return FIND(call, kind_eni, in->network_interface_id, out, err);
    }
    if (!need(in->instance_id, "instanceId", err) ||
        !instance_find(call, in->instance_id, &inst, err)) {
        return false;
    }
    if (str_eq(inst->want_state, "terminated")) {
        return err_set(err, ERR_RESOURCE_ID_INVALID,
                       "The instance '%s' is not in a valid state for this operation.",
                       inst->id);
    }
    if (!rows_by(call, &row_eni_type, "by_instance", 2, &prefix, &enis, err)) {
        return false;
    }
    for (size_t i = 0; i < enis.count; i++) {
        const struct row_eni *eni = enis.rows[i];
        *out = eni->device_index == 0 ? eni : *out;
    }
    if (enis.count > 1) {
        return err_set(
            err, ERR_RESOURCE_ID_INVALID,
            "There are multiple interfaces attached to instance '%s'. Please "
            "specify an interface ID for the operation instead.",
            inst->id);
    }
    return *out || err_set(err, ERR_INTERNAL, "instance %s has no interface", inst->id);
}

static bool
private_of(const struct ec2_associate_address_request *in, const struct row_eni *eni,
           const char **out, struct err *err)
{
    *out = in->private_ip_address ? in->private_ip_address : eni->ipv4;
    bool found = str_eq(*out, eni->ipv4);
    for (size_t i = 0; i < eni->more_ipv4.count; i++) {
        found |= str_eq(*out, eni->more_ipv4.items[i]);
    }
    return found ||
           err_set(err, ERR_INVALID_PARAMETER_VALUE,
                   "Address %.40s is not associated with interface %s.", *out, eni->id);
}

/* What stands on the provider's network has that one's addresses. */
static bool
check_routed(struct call *call, const struct row_eni *eni, struct err *err)
{
    const struct row_subnet *subnet;
    if (str_empty(eni->instance_id)) {
        return true;
    }
    return FIND(call, kind_subnet, eni->subnet_id, &subnet, err) &&
           (!lni_at(subnet, eni->device_index) ||
            err_set(err, ERR_UNSUPPORTED_OPERATION,
                    "'%s' is a local network interface: it has no Elastic IP address",
                    eni->id));
}

static bool
check_gateway(struct call *call, const char *vpc_id, struct err *err)
{
    const struct row_internet_gateway of = {.account = call->account, .vpc_id = vpc_id};
    struct row_list gateways;
    return rows_by(call, &row_internet_gateway_type, "by_vpc", 2, &of, &gateways,
                   err) &&
           (gateways.count ||
            err_set(err, ERR_GATEWAY_NOT_ATTACHED,
                    "Network %s is not attached to any internet gateway", vpc_id));
}

/* Frees the address, and the interface's address, where they are taken by others: with
 * the caller's leave. */
static bool
make_way(struct call *call, const struct row_address *address,
         const struct row_eni *eni, const char *private_ip, bool allowed,
         struct err *err)
{
    const struct row_address *other;
    if (!address_of(call->txn, eni, private_ip, &other, err)) {
        return false;
    }
    if (!allowed && !str_empty(address->eni_id)) {
        return err_set(err, ERR_ADDRESS_ASSOCIATED,
                       "resource %s is already associated with associate-id %s",
                       address->id, address->association_id);
    }
    if (!allowed && other) {
        return err_set(err, ERR_ADDRESS_ASSOCIATED,
                       "resource %s is already associated with associate-id %s",
                       eni->id, other->association_id);
    }
    if (!str_empty(address->nat_id)) {
        return err_set(err, ERR_ADDRESS_LOCKED,
                       "The address is held by the NAT gateway '%s'.", address->nat_id);
    }
    return (str_empty(address->eni_id) || address_part(call->txn, address, err)) &&
           (!other || address_part(call->txn, other, err));
}

bool
ec2_associate_address(struct call *call, const struct ec2_associate_address_request *in,
                      struct ec2_associate_address_result *out, struct err *err)
{
    const struct row_address *address, *joined;
    const struct row_eni *eni;
    const char *private_ip;
    if (!address_find(call, in->allocation_id, in->public_ip, &address, err) ||
        !eni_of(call, in, &eni, err) || !private_of(in, eni, &private_ip, err) ||
        !check_gateway(call, eni->vpc_id, err) || !check_routed(call, eni, err)) {
        return false;
    }
    if (str_eq(address->eni_id, eni->id) && str_eq(address->private_ip, private_ip)) {
        out->association_id = address->association_id;
        return dry_run_check(in->dry_run, err);
    }
    /* By instance and public address, AWS lets a second association replace the first. */
    bool allowed =
        in->has_allow_reassociation ? in->allow_reassociation : in->public_ip != NULL;
    if (!dry_run_check(in->dry_run, err) ||
        !make_way(call, address, eni, private_ip, allowed, err) ||
        !eni_of(call, in, &eni, err) ||
        !address_join(call->txn, call->rng, address, eni, private_ip, &joined, err)) {
        return false;
    }
    out->association_id = joined->association_id;
    return true;
}

static bool
association_find(struct call *call, const char *id, const struct row_address **out,
                 struct err *err)
{
    const struct row_address prefix = {.account = call->account,
                                       .region = call->region};
    struct row_list list;
    if (!rows_of_region(call, &row_address_type, &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_address *row = list.rows[i];
        if (str_eq(row->association_id, id)) {
            *out = row;
            return true;
        }
    }
    return err_no_such(err, ERR_ASSOCIATION_NOT_FOUND, "association ID", id);
}

bool
ec2_disassociate_address(struct call *call,
                         const struct ec2_disassociate_address_request *in,
                         struct err *err)
{
    const struct row_address *address;
    bool found = in->association_id
                     ? association_find(call, in->association_id, &address, err)
                     : address_find(call, NULL, in->public_ip, &address, err);
    if (!found) {
        return false;
    }
    if (!str_empty(address->nat_id)) {
        return err_set(err, ERR_AUTH_FAILURE,
                       "You do not have permission to access the specified resource: "
                       "the NAT gateway '%s' holds it.",
                       address->nat_id);
    }
    if (str_empty(address->eni_id)) {
        return dry_run_check(in->dry_run, err);
    }
    return dry_run_check(in->dry_run, err) && address_part(call->txn, address, err);
}
