/* routes.c - CreateRoute, ReplaceRoute, DeleteRoute, and how routes are shown. */
#include "service/ec2/routes.h"

/* ---- targets ---- */

/* Whether a target can take packets now. */
typedef bool works_fn(struct call *call, const void *target, const char *vpc_id);

static bool
gateway_works(struct call *call, const void *target, const char *vpc_id)
{
    (void)call;
    return str_eq(((const struct row_internet_gateway *)target)->vpc_id, vpc_id);
}

static bool
egress_works(struct call *call, const void *target, const char *vpc_id)
{
    (void)call;
    return str_eq(((const struct row_egress_gateway *)target)->vpc_id, vpc_id);
}

static bool
nat_works(struct call *call, const void *target, const char *vpc_id)
{
    const struct row_nat_gateway *nat = target;
    (void)call;
    return str_eq(nat->vpc_id, vpc_id) &&
           (str_eq(nat->state, "available") || str_eq(nat->state, "pending"));
}

static bool
eni_works(struct call *call, const void *target, const char *vpc_id)
{
    const struct row_eni *eni = target;
    (void)call;
    return str_eq(eni->vpc_id, vpc_id) &&
           (!str_empty(eni->instance_id) || !str_empty(eni->owner_id));
}

/* Only endpoints of gateway load balancers, which this cloud has not, are a way. */
static bool
endpoint_works(struct call *call, const void *target, const char *vpc_id)
{
    (void)call;
    (void)target;
    (void)vpc_id;
    return false;
}

static const struct target_kind {
    const struct kind *kind;
    works_fn *works;
    size_t shown; /* Where an answer names it. */
} target_kinds[] = {
    {&kind_internet_gateway, gateway_works, offsetof(struct ec2_route, gateway_id)},
    {&kind_egress_gateway, egress_works,
     offsetof(struct ec2_route, egress_only_internet_gateway_id)},
    {&kind_nat_gateway, nat_works, offsetof(struct ec2_route, nat_gateway_id)},
    {&kind_eni, eni_works, offsetof(struct ec2_route, network_interface_id)},
    {&kind_endpoint, endpoint_works, offsetof(struct ec2_route, gateway_id)},
};

static const struct target_kind *
target_kind_of(const char *id)
{
    for (size_t i = 0; i < ARRAY_LEN(target_kinds); i++) {
        if (id_valid(target_kinds[i].kind->prefix, id)) {
            return &target_kinds[i];
        }
    }
    return NULL;
}

/* Fills in the target and the state of a route. */
static bool
target_out(struct call *call, const struct row_route *route, struct ec2_route *out,
           struct err *err)
{
    const struct target_kind *kind = target_kind_of(route->target);
    const void *target = NULL;
    bool works = false;
    if (!kind) {
        const struct row_vpc_peering *peering;
        out->vpc_peering_connection_id = route->target;
        if (!peering_get(call, route->target, &peering, err)) {
            return false;
        }
        works = peering && str_eq(peering->state, "active");
    } else {
        *(const char **)(void *)((char *)out + kind->shown) = route->target;
        if (FIND(call, *kind->kind, route->target, &target, err)) {
            works = kind->works(call, target, route->vpc_id);
        } else if (err->code != kind->kind->not_found) {
            return false;
        }
        err_clear(err);
    }
    out->state = works ? "active" : "blackhole";
    if (target && kind->kind == &kind_eni) {
        const struct row_eni *eni = target;
        out->instance_id = str_empty(eni->instance_id) ? NULL : eni->instance_id;
        out->instance_owner_id = out->instance_id ? eni->account : NULL;
    }
    return true;
}

static void
destination_out(const char *destination, struct ec2_route *out)
{
    struct cidr block;
    if (str_starts(destination, "pl-")) {
        out->destination_prefix_list_id = destination;
    } else if (cidr_parse(destination, &block)) {
        out->destination_cidr_block = destination;
    } else {
        out->destination_ipv6_cidr_block = destination;
    }
}

bool
routes_out(struct call *call, const struct row_vpc *vpc,
           const struct row_route_table *table, struct ec2_route **out,
           size_t *out_count, struct err *err)
{
    const struct row_route prefix = {.account = table->account, .table_id = table->id};
    struct row_list routes;
    const char **blocks;
    if (!rows_by(call, &row_route_type, NULL, 2, &prefix, &routes, err)) {
        return false;
    }
    size_t count = vpc_blocks(call, vpc, &blocks), local = count + vpc->blocks6.count;
    struct ec2_route *items =
        ARENA_ARRAY(call->arena, local + routes.count, struct ec2_route);
    for (size_t i = 0; i < local; i++) {
        destination_out(i < count ? blocks[i] : vpc->blocks6.items[i - count].cidr,
                        &items[i]);
        items[i].gateway_id = "local";
        items[i].origin = "CreateRouteTable";
        items[i].state = "active";
    }
    for (size_t i = 0; i < routes.count; i++) {
        const struct row_route *route = routes.rows[i];
        destination_out(route->destination, &items[local + i]);
        items[local + i].origin = "CreateRoute";
        if (!target_out(call, route, &items[local + i], err)) {
            return false;
        }
    }
    *out = items;
    *out_count = local + routes.count;
    return true;
}

/* ---- a request's destination and target ---- */

/* The same members, whether they come from Create- or ReplaceRoute. */
struct route_ask {
    const char *table_id, *block, *block6, *list;
    const char *gateway, *egress, *nat, *eni, *instance, *peering, *endpoint;
    bool other; /* A target that this cloud does not have. */
};

#define ROUTE_ASK(in) \
    { \
        .table_id = (in)->route_table_id, .block = (in)->destination_cidr_block, \
        .block6 = (in)->destination_ipv6_cidr_block, \
        .list = (in)->destination_prefix_list_id, .gateway = (in)->gateway_id, \
        .egress = (in)->egress_only_internet_gateway_id, .nat = (in)->nat_gateway_id, \
        .eni = (in)->network_interface_id, .instance = (in)->instance_id, \
        .peering = (in)->vpc_peering_connection_id, .endpoint = (in)->vpc_endpoint_id, \
        .other = (in)->transit_gateway_id || (in)->local_gateway_id || \
                 (in)->carrier_gateway_id || (in)->core_network_arn, \
    }

static bool
destination_of(struct call *call, const char *block, const char *block6,
               const char *list, const char **out, struct err *err)
{
    const struct row_prefix_list *found;
    int asked = !!block + !!block6 + !!list;
    if (asked != 1) {
        return err_set(
            err, asked ? ERR_INVALID_PARAMETER_COMBINATION : ERR_MISSING_PARAMETER,
            "The request must contain exactly one of destinationCidrBlock, "
            "destinationIpv6CidrBlock, destinationPrefixListId.");
    }
    *out = list;
    return block ? block_canonical(call, block, "destinationCidrBlock", out, err)
           : block6
               ? block6_canonical(call, block6, "destinationIpv6CidrBlock", out, err)
               : FIND(call, kind_prefix_list, list, &found, err);
}

/* The one interface of an instance, as a target. */
static bool
instance_target(struct call *call, const char *id, const char **out, struct err *err)
{
    const struct row_instance *inst;
    const struct row_eni prefix = {.account = call->account, .instance_id = id};
    struct row_list enis;
    if (!instance_find(call, id, &inst, err) ||
        !rows_by(call, &row_eni_type, "by_instance", 2, &prefix, &enis, err)) {
        return false;
    }
    if (enis.count != 1) {
        return err_set(
            err, ERR_INVALID_PARAMETER_VALUE,
            "There are multiple interfaces attached to instance '%s'. Please "
            "specify an interface ID for the operation instead.",
            id);
    }
    *out = ((const struct row_eni *)enis.rows[0])->id;
    return true;
}

static bool
peering_target(struct call *call, const char *id, const char *vpc_id, struct err *err)
{
    const struct row_vpc_peering *peering;
    if (!peering_get(call, id, &peering, err)) {
        return false;
    }
    if (!peering) {
        return err_no_such(err, ERR_PEERING_NOT_FOUND, "vpcPeeringConnection ID", id);
    }
    return str_eq(peering->vpc_id, vpc_id) || str_eq(peering->peer_vpc_id, vpc_id) ||
           err_set(err, ERR_INVALID_PARAMETER_VALUE,
                   "route table and peering connection '%s' belong to different "
                   "networks",
                   id);
}

static bool
check_target(struct call *call, const struct route_ask *ask, const char *id,
             const char *vpc_id, struct err *err)
{
    const struct target_kind *kind = target_kind_of(id);
    const void *target;
    if (ask->peering) {
        return peering_target(call, id, vpc_id, err);
    }
    if (!kind) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%.80s) for the route's target is invalid.", id);
    }
    if (!FIND(call, *kind->kind, id, &target, err)) {
        return false;
    }
    const char *const *at =
        desc_at(desc_find(kind->kind->type->desc, "vpc_id"), target);
    if (str_eq(*at, vpc_id)) {
        return true;
    }
    return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                   "route table and network gateway %s belong to different networks",
                   id);
}

static bool
target_of(struct call *call, const struct route_ask *ask, const char *vpc_id,
          const char **out, struct err *err)
{
    const char *const targets[] = {ask->gateway,  ask->egress,  ask->nat,     ask->eni,
                                   ask->instance, ask->peering, ask->endpoint};
    int asked = 0;
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        if (targets[i]) {
            *out = targets[i];
            asked++;
        }
    }
    if (ask->other || ask->endpoint) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "This cloud has no gateways of that kind.");
    }
    if (asked != 1) {
        return err_set(
            err, asked ? ERR_INVALID_PARAMETER_COMBINATION : ERR_MISSING_PARAMETER,
            "The request must contain exactly one target of the route.");
    }
    return (!ask->instance || instance_target(call, ask->instance, out, err)) &&
           check_target(call, ask, *out, vpc_id, err);
}

/* A destination that is one of the VPC's blocks, or lies in it, is local. AWS lets more
 * specific ones pass to interfaces only. */
static bool
check_not_local(struct call *call, const struct row_vpc *vpc, const char *destination,
                const char *target, struct err *err)
{
    const char **blocks;
    struct cidr block, part;
    size_t count = vpc_blocks(call, vpc, &blocks);
    bool local = false;
    for (size_t i = 0; i < count && cidr_parse(destination, &part); i++) {
        local |= cidr_parse(blocks[i], &block) && part.bits >= block.bits &&
                 cidr_contains(&block, part.base) &&
                 (part.bits == block.bits || !str_starts(target, "eni-"));
    }
    for (size_t i = 0; i < vpc->blocks6.count; i++) {
        local |= str_eq(destination, vpc->blocks6.items[i].cidr);
    }
    return !local ||
           err_set(
               err, ERR_INVALID_PARAMETER_VALUE,
               "The destination CIDR block %s is equal to or more specific than one "
               "of this VPC's CIDR blocks. This route can target only an interface "
               "or an instance.",
               destination);
}

/* Everything about a route that is asked for; '*out_old' is the one there is. */
static bool
route_prepare(struct call *call, const struct route_ask *ask, struct row_route *out,
              const struct row_route **out_old, struct err *err)
{
    const struct row_route_table *table;
    const struct row_vpc *vpc;
    const void *old;
    *out = (struct row_route){
        .account = call->account, .region = call->region, .created_at = call->now_ns};
    if (!FIND(call, kind_route_table, ask->table_id, &table, err) ||
        !FIND(call, kind_vpc, table->vpc_id, &vpc, err) ||
        !destination_of(call, ask->block, ask->block6, ask->list, &out->destination,
                        err) ||
        !target_of(call, ask, vpc->id, &out->target, err) ||
        !check_not_local(call, vpc, out->destination, out->target, err)) {
        return false;
    }
    out->table_id = table->id;
    out->vpc_id = vpc->id;
    if (!row_get(call->txn, &row_route_type, out, &old, err)) {
        return false;
    }
    *out_old = old;
    return true;
}

bool
ec2_create_route(struct call *call, const struct ec2_create_route_request *in,
                 struct ec2_create_route_result *out, struct err *err)
{
    const struct route_ask ask = ROUTE_ASK(in);
    const struct row_route *old;
    struct row_route route;
    struct row_list all;
    if (!route_prepare(call, &ask, &route, &old, err) ||
        !rows_by(call, &row_route_type, NULL, 2, &route, &all, err)) {
        return false;
    }
    if (old && !str_eq(old->target, route.target)) {
        return err_set(err, ERR_ROUTE_EXISTS,
                       "The route identified by %s already exists.", route.destination);
    }
    if (all.count >= ROUTES_MAX) {
        return err_set(err, ERR_ROUTE_LIMIT,
                       "The maximum number of routes has been reached.");
    }
    out->return_ = out->has_return_ = true;
    return dry_run_check(in->dry_run, err) &&
           row_put(call->txn, &row_route_type, &route, err) &&
           vpc_touch(call, route.vpc_id, err);
}

static bool
err_no_route(struct err *err, const char *destination, const char *table_id)
{
    return err_set(err, ERR_ROUTE_NOT_FOUND,
                   "no route with destination-cidr-block %s in route table %s",
                   destination, table_id);
}

bool
ec2_replace_route(struct call *call, const struct ec2_replace_route_request *in,
                  struct err *err)
{
    const struct route_ask ask = ROUTE_ASK(in);
    const struct row_route *old;
    struct row_route route;
    if (!route_prepare(call, &ask, &route, &old, err)) {
        return false;
    }
    if (!old) {
        return err_no_route(err, route.destination, route.table_id);
    }
    return dry_run_check(in->dry_run, err) &&
           row_put(call->txn, &row_route_type, &route, err) &&
           vpc_touch(call, route.vpc_id, err);
}

/* The route to one of the VPC's own blocks, which no row stands for. */
static bool
is_local(struct call *call, const struct row_route_table *table,
         const char *destination, bool *out, struct err *err)
{
    const struct row_vpc *vpc;
    const char **blocks;
    *out = false;
    if (!FIND(call, kind_vpc, table->vpc_id, &vpc, err)) {
        return false;
    }
    size_t count = vpc_blocks(call, vpc, &blocks);
    for (size_t i = 0; i < count; i++) {
        *out |= str_eq(blocks[i], destination);
    }
    for (size_t i = 0; i < vpc->blocks6.count; i++) {
        *out |= str_eq(vpc->blocks6.items[i].cidr, destination);
    }
    return true;
}

bool
ec2_delete_route(struct call *call, const struct ec2_delete_route_request *in,
                 struct err *err)
{
    const struct row_route_table *table;
    struct row_route key = {.account = call->account, .table_id = in->route_table_id};
    const void *old;
    bool local;
    if (!FIND(call, kind_route_table, in->route_table_id, &table, err) ||
        !destination_of(call, in->destination_cidr_block,
                        in->destination_ipv6_cidr_block, in->destination_prefix_list_id,
                        &key.destination, err) ||
        !row_get(call->txn, &row_route_type, &key, &old, err) ||
        !is_local(call, table, key.destination, &local, err)) {
        return false;
    }
    if (!old && local) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "cannot remove local route %s in route table %s",
                       key.destination, table->id);
    }
    if (!old) {
        return err_no_route(err, key.destination, table->id);
    }
    return dry_run_check(in->dry_run, err) &&
           row_delete(call->txn, &row_route_type, &key, err) &&
           vpc_touch(call, table->vpc_id, err);
}
