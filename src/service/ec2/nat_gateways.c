/* nat_gateways.c - NAT gateways. The controllers bring them from pending to available, and
 * from deleting to deleted (control/network_loop.c). */
#include "service/ec2/network.h"

#define VISIBLE_NS (3600 * NS_PER_S) /* A deleted one is shown for an hour. */

/* ---- shown ---- */

static struct ec2_nat_gateway
nat_out(struct call *call, const struct row_nat_gateway *row, struct tag_set tags)
{
    struct ec2_nat_gateway_address *address =
        ARENA_NEW(call->arena, struct ec2_nat_gateway_address);
    *address = (struct ec2_nat_gateway_address){
        .allocation_id = str_empty(row->allocation_id) ? NULL : row->allocation_id,
        .network_interface_id = row->eni_id,
        .private_ip = row->private_ip,
        .public_ip = str_empty(row->public_ip) ? NULL : row->public_ip,
    };
    return (struct ec2_nat_gateway){
        .nat_gateway_id = row->id,
        .vpc_id = row->vpc_id,
        .subnet_id = row->subnet_id,
        .connectivity_type = row->connectivity,
        .state = row->state,
        HAS(create_time, row->created_at),
        .delete_time = row->deleted_at,
        .has_delete_time = row->deleted_at != 0,
        .failure_code = str_empty(row->failure_code) ? NULL : row->failure_code,
        .failure_message =
            str_empty(row->failure_message) ? NULL : row->failure_message,
        .nat_gateway_addresses = {address, 1},
        .tags = {tags_out(call, tags), tags.count},
    };
}

FILTER_TEXT(nat_id, struct ec2_nat_gateway, nat_gateway_id)
FILTER_TEXT(nat_state, struct ec2_nat_gateway, state)
FILTER_TEXT(nat_subnet, struct ec2_nat_gateway, subnet_id)
FILTER_TEXT(nat_vpc, struct ec2_nat_gateway, vpc_id)
FILTER_TEXT(nat_connectivity, struct ec2_nat_gateway, connectivity_type)

static const struct filter_def nat_filters[] = {
    {"connectivity-type", nat_connectivity_values},
    {"nat-gateway-id", nat_id_values},
    {"state", nat_state_values},
    {"subnet-id", nat_subnet_values},
    {"vpc-id", nat_vpc_values},
};

static bool
visible(const struct call *call, const struct row_nat_gateway *row)
{
    return !row->deleted_at || call->now_ns < row->deleted_at + VISIBLE_NS;
}

bool
ec2_describe_nat_gateways(struct call *call,
                          const struct ec2_describe_nat_gateways_request *in,
                          struct ec2_describe_nat_gateways_result *out, struct err *err)
{
    const struct row_nat_gateway prefix = {.account = call->account,
                                           .region = call->region};
    const struct listing_ask ask =
        LISTING_ASK(in, nat_gateway_ids, filter, "natGatewayIds", kind_nat_gateway,
                    nat_filters, &prefix);
    struct listing listing;
    if (!listing_open(call, &ask, &listing, err)) {
        return false;
    }
    struct ec2_nat_gateway *items =
        ARENA_ARRAY(call->arena, listing.rows.count, struct ec2_nat_gateway);
    size_t count = 0;
    for (size_t i = 0; i < listing.rows.count; i++) {
        const struct row_nat_gateway *row = listing.rows.rows[i];
        items[count] = nat_out(call, row, tags_of(&listing.tags, row->id));
        count +=
            visible(call, row) && listing_accepts(&listing, row->id, &items[count]);
    }
    out->nat_gateways.items = items;
    out->nat_gateways.count = count;
    return listing_close(call, &listing, &out->next_token, err);
}

/* ---- CreateNatGateway ---- */

static bool
check_connectivity(const struct ec2_create_nat_gateway_request *in, bool *out_public,
                   struct err *err)
{
    const char *type = in->connectivity_type ? in->connectivity_type : "public";
    *out_public = str_eq(type, "public");
    if (!*out_public && !str_eq(type, "private")) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%.40s) for parameter connectivityType is invalid.",
                       type);
    }
    if (*out_public && str_empty(in->allocation_id)) {
        return err_set(err, ERR_MISSING_PARAMETER,
                       "The request must include the AllocationId parameter. Add the "
                       "required parameter and retry the request.");
    }
    return *out_public || str_empty(in->allocation_id) ||
           err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                   "A private NAT gateway cannot have an Elastic IP address.");
}

/* An Elastic IP that is free, and a VPC that has a way out. */
static bool
check_public(struct call *call, const char *allocation_id, const char *vpc_id,
             const struct row_address **out, struct err *err)
{
    const struct row_internet_gateway of = {.account = call->account, .vpc_id = vpc_id};
    struct row_list gateways;
    if (!FIND(call, kind_address, allocation_id, out, err) ||
        !rows_by(call, &row_internet_gateway_type, "by_vpc", 2, &of, &gateways, err)) {
        return false;
    }
    if (!str_empty((*out)->eni_id)) {
        return err_set(err, ERR_ADDRESS_ASSOCIATED,
                       "Elastic IP address [%s] is already associated", allocation_id);
    }
    return gateways.count ||
           err_set(err, ERR_GATEWAY_NOT_ATTACHED,
                   "Network %s has no Internet gateway attached", vpc_id);
}

/* Those that have been deleted are shown for an hour, and do not count. */
static bool
check_limit(struct call *call, const char *vpc_id, struct err *err)
{
    const struct row_nat_gateway prefix = {.account = call->account, .vpc_id = vpc_id};
    struct row_list list;
    size_t count = 0;
    if (!rows_by(call, &row_nat_gateway_type, "by_vpc", 2, &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_nat_gateway *nat = list.rows[i];
        count += !str_eq(nat->state, "deleted");
    }
    return count < NATS_MAX ||
           err_set(err, ERR_NAT_LIMIT,
                   "The maximum number of NAT gateways of %s has been reached.",
                   vpc_id);
}

/* The gateway's interface: the cloud's own, which its tenant may look at. */
static bool
make_eni(struct call *call, const struct row_subnet *subnet, const char *wanted,
         struct row_nat_gateway *nat, const struct row_eni **out, struct err *err)
{
    const struct new_eni ask = {
        .subnet = subnet,
        .address = wanted,
        .description =
            arena_printf(call->arena, "Interface for NAT Gateway %s", nat->id),
        .type = "nat_gateway",
        .owner_id = nat->id,
    };
    if (!eni_make(call, &ask, out, err)) {
        return false;
    }
    nat->eni_id = (*out)->id;
    nat->private_ip = (*out)->ipv4;
    return true;
}

static bool
take_address(struct call *call, const struct row_address *address,
             const struct row_eni *eni, struct row_nat_gateway *nat, struct err *err)
{
    const struct row_address *joined;
    if (!address_join(call->txn, call->rng, address, eni, eni->ipv4, &joined, err)) {
        return false;
    }
    struct row_address held = *joined;
    held.nat_id = nat->id;
    nat->allocation_id = held.id;
    nat->public_ip = held.public_ip;
    nat->association_id = held.association_id;
    return row_put(call->txn, &row_address_type, &held, err);
}

static bool
answer(struct call *call, const char *id, struct ec2_create_nat_gateway_result *out,
       struct err *err)
{
    const struct row_nat_gateway *row;
    struct tag_set tags;
    if (!FIND(call, kind_nat_gateway, id, &row, err) ||
        !tags_shown(call, id, &tags, err)) {
        return false;
    }
    out->nat_gateway = ARENA_NEW(call->arena, struct ec2_nat_gateway);
    *out->nat_gateway = nat_out(call, row, tags);
    return true;
}

bool
ec2_create_nat_gateway(struct call *call,
                       const struct ec2_create_nat_gateway_request *in,
                       struct ec2_create_nat_gateway_result *out, struct err *err)
{
    const char *digest = request_digest(call, &ec2_create_nat_gateway_request_desc, in);
    const struct row_subnet *subnet;
    const struct row_address *address = NULL;
    const struct row_eni *eni;
    const char *before;
    bool public;
    out->client_token = in->client_token;
    if (!token_get(call, in->client_token, digest, &before, err)) {
        return false;
    }
    if (before) {
        return answer(call, before, out, err);
    }
    if (!check_connectivity(in, &public, err) ||
        !FIND(call, kind_subnet, in->subnet_id, &subnet, err) ||
        (public &&
         !check_public(call, in->allocation_id, subnet->vpc_id, &address, err)) ||
        !check_limit(call, subnet->vpc_id, err) ||
        !new_tags_check(&kind_nat_gateway, in->tag_specifications.items,
                        in->tag_specifications.count, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    struct row_nat_gateway nat = {
        .account = call->account,
        .id = id_new(call->arena, call->rng, "nat"),
        .region = call->region,
        .vpc_id = subnet->vpc_id,
        .subnet_id = subnet->id,
        .connectivity = public ? "public" : "private",
        .state = "pending",
        .created_at = call->now_ns,
        .generation = 1,
    };
    return make_eni(call, subnet, in->private_ip_address, &nat, &eni, err) &&
           (!public || take_address(call, address, eni, &nat, err)) &&
           row_insert(call->txn, &row_nat_gateway_type, &nat, err) &&
           new_tags_put(call, &kind_nat_gateway, in->tag_specifications.items,
                        in->tag_specifications.count, nat.id, err) &&
           token_put(call, in->client_token, digest, nat.id, err) &&
           vpc_touch(call, nat.vpc_id, err) && answer(call, nat.id, out, err);
}

bool
ec2_delete_nat_gateway(struct call *call,
                       const struct ec2_delete_nat_gateway_request *in,
                       struct ec2_delete_nat_gateway_result *out, struct err *err)
{
    const struct row_nat_gateway *nat;
    if (!FIND(call, kind_nat_gateway, in->nat_gateway_id, &nat, err)) {
        return false;
    }
    if (!visible(call, nat)) {
        return err_no_such(err, ERR_NAT_NOT_FOUND, kind_nat_gateway.what, nat->id);
    }
    out->nat_gateway_id = nat->id;
    if (!dry_run_check(in->dry_run, err)) {
        return false;
    }
    if (str_eq(nat->state, "deleting") || str_eq(nat->state, "deleted")) {
        return true;
    }
    struct row_nat_gateway next = *nat;
    next.state = "deleting";
    next.generation++;
    return row_put(call->txn, &row_nat_gateway_type, &next, err) &&
           vpc_touch(call, nat->vpc_id, err);
}
