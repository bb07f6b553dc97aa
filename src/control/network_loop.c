/* network_loop.c - see network_loop.h. */
#include "control/network_loop.h"

#include "base/log.h"
#include "base/tlv.h"
#include "control/nat_loop.h"
#include "control/network_interface.h"
#include "control/network_places.h"
#include "control/network_plan.h"
#include "control/network_records.h"
#include "control/wants.h"
#include "core/instance_rows.h"
#include "core/network_rows.h"

#define UNDERLAY "underlay" /* The record's id: a node has one. */

#define GET(pass, name, out, err, ...) \
    row_get((pass)->txn, &row_##name##_type, &(const struct row_##name){__VA_ARGS__}, \
            (const void **)(out), (err))

static void
auto_network_plan(struct network_plan *plan)
{
    network_plan_fini(plan);
}

/* ---- a VPC's structure ---- */

static bool
plan_everywhere(const struct network_plan *plan, bool sweep, struct err *err)
{
    struct row_list places;
    if (!vpc_places(plan->pass, plan->vpc->id, &places, err)) {
        return false;
    }
    for (size_t i = 0; i < places.count; i++) {
        const struct row_vpc_node *place = places.rows[i];
        if (!network_plan_want(plan, place->node_id, err) ||
            (sweep && !network_plan_sweep(plan, place->node_id, err))) {
            return false;
        }
    }
    return true;
}

static bool
leave_everywhere(const struct pass *pass, const char *vpc_id, struct err *err)
{
    struct row_list places;
    if (!vpc_places(pass, vpc_id, &places, err)) {
        return false;
    }
    for (size_t i = 0; i < places.count; i++) {
        const struct row_vpc_node *place = places.rows[i];
        if (!vpc_leaves(pass, vpc_id, place->node_id, err)) {
            return false;
        }
    }
    return true;
}

bool
network_pass(const struct pass *pass, const char *account, const char *id,
             struct err *err)
{
    const struct row_vpc *vpc;
    if (!GET(pass, vpc, &vpc, err, .account = account, .id = id)) {
        return false;
    }
    if (!vpc) {
        return leave_everywhere(pass, id, err);
    }
    /* One from before its parts were rows gets them now. */
    bool moved;
    if (!vpc_complete(pass->txn, pass->rng, vpc, pass->now_ns, &vpc, err) ||
        !vpc_settle(pass, vpc, err) || !nat_find_homes(pass, vpc, &moved, err)) {
        return false;
    }
    AUTO(network_plan) struct network_plan plan;
    network_plan_init(&plan, pass, vpc);
    return network_plan_structure(&plan, err) && plan_everywhere(&plan, true, err);
}

/* The VPC's nodes came or went: a NAT gateway may have a home now, or need another. */
static bool
settle_nats(const struct pass *pass, const struct row_vpc *vpc, struct err *err)
{
    bool moved;
    return nat_find_homes(pass, vpc, &moved, err) &&
           (!moved || network_pass(pass, vpc->account, vpc->id, err));
}

bool
place_pass(const struct pass *pass, const char *vpc_id, const char *node_id,
           struct err *err)
{
    const struct row_vpc_node *place;
    const struct row_vpc *vpc;
    if (!GET(pass, vpc_node, &place, err, .vpc_id = vpc_id, .node_id = node_id)) {
        return false;
    }
    if (!place) {
        return true;
    }
    if (!GET(pass, vpc, &vpc, err, .account = place->account, .id = vpc_id)) {
        return false;
    }
    if (!vpc) {
        return vpc_leaves(pass, vpc_id, node_id, err);
    }
    bool stays;
    if (!settle_nats(pass, vpc, err) ||
        !vpc_is_on(pass, vpc_id, node_id, &stays, err)) {
        return false;
    }
    if (!stays) {
        return true; /* It was there for the sake of a gateway, which has moved. */
    }
    AUTO(network_plan) struct network_plan plan;
    network_plan_init(&plan, pass, vpc);
    return network_plan_structure(&plan, err) &&
           network_plan_members(&plan, node_id, err) &&
           network_plan_want(&plan, node_id, err) &&
           network_plan_sweep(&plan, node_id, err);
}

bool
network_want_base(const struct pass *pass, const char *node_id,
                  const struct row_vpc *vpc, const struct row_subnet *subnet,
                  struct err *err)
{
    const struct row_node_want *there;
    bool placed;
    if (!vpc_is_on(pass, vpc->id, node_id, &placed, err) ||
        !want_get(pass->txn, node_id, LINK_SUBNET, subnet->id, &there, err)) {
        return false;
    }
    if (placed && there && !there->deleted) {
        return true; /* The passes of this file keep them right. */
    }
    AUTO(network_plan) struct network_plan plan;
    network_plan_init(&plan, pass, vpc);
    return vpc_arrives(pass, vpc, node_id, err) &&
           network_plan_base(&plan, subnet, err) &&
           network_plan_want(&plan, node_id, err);
}

/* ---- groups and lists ---- */

bool
group_pass(const struct pass *pass, const char *account, const char *id,
           struct err *err)
{
    const struct row_security_group *group;
    const struct row_vpc *vpc;
    if (!GET(pass, security_group, &group, err, .account = account, .id = id)) {
        return false;
    }
    if (!group) {
        return true; /* Its VPC's pass takes it down. */
    }
    if (!GET(pass, vpc, &vpc, err, .account = account, .id = group->vpc_id)) {
        return false;
    }
    if (!vpc) {
        return true;
    }
    AUTO(network_plan) struct network_plan plan;
    network_plan_init(&plan, pass, vpc);
    return network_plan_group(&plan, group, err) && plan_everywhere(&plan, false, err);
}

bool
rule_pass(const struct pass *pass, const char *account, const char *id, struct err *err)
{
    const struct row_security_group_rule *rule;
    return GET(pass, security_group_rule, &rule, err, .account = account, .id = id) &&
           (!rule || group_pass(pass, account, rule->group_id, err));
}

static bool
list_in_groups(const struct pass *pass, const char *account, const char *id,
               struct err *err)
{
    const struct row_security_group_rule prefix = {.account = account};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 1};
    struct row_list rules;
    if (!row_list(pass->txn, &row_security_group_rule_type, &query, &rules, err)) {
        return false;
    }
    for (size_t i = 0; i < rules.count; i++) {
        const struct row_security_group_rule *rule = rules.rows[i];
        if (str_eq(rule->prefix_list_id, id) &&
            !group_pass(pass, account, rule->group_id, err)) {
            return false;
        }
    }
    return true;
}

bool
prefix_list_pass(const struct pass *pass, const char *account, const char *id,
                 struct err *err)
{
    const struct row_route prefix = {.account = account};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 1};
    struct row_list routes;
    if (!list_in_groups(pass, account, id, err) ||
        !row_list(pass->txn, &row_route_type, &query, &routes, err)) {
        return false;
    }
    for (size_t i = 0; i < routes.count; i++) {
        const struct row_route *route = routes.rows[i];
        if (str_eq(route->destination, id) &&
            !network_pass(pass, account, route->vpc_id, err)) {
            return false;
        }
    }
    return true;
}

/* ---- interfaces ---- */

/* Routes lead to an interface while a machine has it. */
static bool
tell_routes(const struct pass *pass, const char *account, const char *eni_id,
            struct err *err)
{
    const struct row_route prefix = {.account = account, .target = eni_id};
    const struct row_query query = {
        .index = "by_target", .prefix = &prefix, .prefix_fields = 2};
    struct row_list routes;
    if (!row_list(pass->txn, &row_route_type, &query, &routes, err)) {
        return false;
    }
    for (size_t i = 0; i < routes.count; i++) {
        const struct row_route *route = routes.rows[i];
        if (!network_pass(pass, account, route->vpc_id, err)) {
            return false;
        }
    }
    return true;
}

/* Peers that see the VPC's public names by their private addresses. */
static bool
tell_peers(const struct pass *pass, const char *account, const char *eni_id,
           struct err *err)
{
    const struct row_eni *eni;
    const struct row_eni_gone *gone;
    struct row_list peerings;
    if (!GET(pass, eni, &eni, err, .account = account, .id = eni_id) ||
        !GET(pass, eni_gone, &gone, err, .account = account, .id = eni_id)) {
        return false;
    }
    const char *vpc_id = eni ? eni->vpc_id : gone ? gone->vpc_id : NULL;
    if (!vpc_id) {
        return true;
    }
    if (!vpc_peerings(pass, vpc_id, &peerings, err)) {
        return false;
    }
    for (size_t i = 0; i < peerings.count; i++) {
        const struct row_vpc_peering *p = peerings.rows[i];
        bool asked = str_eq(p->vpc_id, vpc_id);
        if ((asked ? p->requester_dns : p->accepter_dns) &&
            !network_pass(pass, asked ? p->peer_account : p->account,
                          asked ? p->peer_vpc_id : p->vpc_id, err)) {
            return false;
        }
    }
    return true;
}

/* Whether the interface's own node has been told of it as it is now, as it is after a launch:
 * its instance's pass came first. */
static bool
port_is_current(const struct pass *pass, const struct row_eni *eni, bool *out,
                struct err *err)
{
    const struct row_instance *machine;
    const struct row_node_want *want = NULL;
    struct link_port port = {0};
    *out = false;
    if (!GET(pass, instance, &machine, err, .account = eni->account,
             .id = eni->instance_id)) {
        return false;
    }
    if (!machine || str_empty(machine->node_id)) {
        return true;
    }
    if (!want_get(pass->txn, machine->node_id, LINK_PORT, eni->id, &want, err) ||
        (want && !tlv_decode(&link_port_desc, want->body.data, want->body.len,
                             txn_arena(pass->txn), &port, err))) {
        return false;
    }
    *out = want && !want->deleted && port.generation == MAX(eni->generation, 1);
    return true;
}

static bool
visit_instance(const struct pass *pass, const struct row_eni *eni, struct err *err)
{
    bool current;
    return str_empty(eni->instance_id) ||
           (port_is_current(pass, eni, &current, err) &&
            (current || instance_pass(pass, eni->account, eni->instance_id, err)));
}

bool
interface_pass(const struct pass *pass, const char *account, const char *id,
               struct err *err)
{
    const struct row_eni *eni;
    return GET(pass, eni, &eni, err, .account = account, .id = id) &&
           (!eni || visit_instance(pass, eni, err)) &&
           tell_peers(pass, account, id, err) &&
           interface_tell(pass, account, id, err) &&
           tell_routes(pass, account, id, err);
}

/* ---- nodes ---- */

/* The node's machines have moved, as others see it. */
static bool
tell_of_machines(const struct pass *pass, const char *node_id, struct err *err)
{
    struct row_list list;
    if (!instances_on(pass->txn, node_id, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_instance *machine = list.rows[i];
        for (size_t n = 0; !machine->terminated_at && n < machine->eni_ids.count; n++) {
            if (!interface_tell(pass, machine->account, machine->eni_ids.items[n],
                                err)) {
                return false;
            }
        }
    }
    return true;
}

/* Its VPCs are looked at there once more, or (it is lost) are there no more. */
static bool
visit_places(const struct pass *pass, const char *node_id, bool lost, struct err *err)
{
    const struct row_vpc_node prefix = {.node_id = node_id};
    const struct row_query query = {
        .index = "by_node", .prefix = &prefix, .prefix_fields = 1};
    struct row_list list;
    if (!row_list(pass->txn, &row_vpc_node_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_vpc_node *place = list.rows[i];
        const struct row_vpc *vpc;
        if (!(lost ? vpc_leaves(pass, place->vpc_id, node_id, err)
                   : vpc_look_again(pass, place, err))) {
            return false;
        }
        if (!GET(pass, vpc, &vpc, err, .account = place->account,
                 .id = place->vpc_id) ||
            (vpc && !settle_nats(pass, vpc, err))) {
            return false;
        }
    }
    return true;
}

/* A group's members bore its name first once, and belonged to no scope: they could not be
 * found by their interface. */
static bool
drop_old_members(const struct pass *pass, const char *node_id, struct err *err)
{
    const struct row_node_want prefix = {.node_id = node_id};
    const struct row_query query = {
        .index = "by_scope", .prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    if (!row_list(pass->txn, &row_node_want_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_node_want *want = list.rows[i];
        if (want->kind == LINK_GROUP_MEMBER &&
            !want_take_down(pass->txn, node_id, LINK_GROUP_MEMBER, want->id, err)) {
            return false;
        }
    }
    return true;
}

/* Which address a node was last told to use between hosts; NULL: none. */
static bool
told_underlay(const struct pass *pass, const char *node_id, const char **out,
              struct err *err)
{
    const struct row_node_want *want;
    struct link_underlay record;
    *out = NULL;
    if (!want_get(pass->txn, node_id, LINK_UNDERLAY, UNDERLAY, &want, err)) {
        return false;
    }
    if (!want || want->deleted) {
        return true;
    }
    if (!tlv_decode(&link_underlay_desc, want->body.data, want->body.len,
                    txn_arena(pass->txn), &record, err)) {
        return false;
    }
    *out = record.address;
    return true;
}

/* Others take VXLAN from a node because one of its interfaces is their neighbour: the
 * record names no peers, and stays as it is when nodes come and go. */
static bool
tell_underlay(const struct pass *pass, const char *node_id, const char *address,
              struct err *err)
{
    const struct link_underlay record = {
        .id = UNDERLAY, .address = address, .generation = 1};
    return address ? want_put(pass->txn, node_id, LINK_UNDERLAY, UNDERLAY, NULL,
                              &record, err)
                   : want_take_down(pass->txn, node_id, LINK_UNDERLAY, UNDERLAY, err);
}

bool
node_pass(const struct pass *pass, const char *account UNUSED, const char *id,
          struct err *err)
{
    const struct row_node *node;
    const char *told;
    if (!GET(pass, node, &node, err, .id = id) ||
        !told_underlay(pass, id, &told, err) || !drop_old_members(pass, id, err)) {
        return false;
    }
    bool lost = !node || !str_eq(node->state, "active");
    const char *address = lost || str_empty(node->underlay) ? NULL : node->underlay;
    if (!lost && str_eq(told, address)) {
        return true; /* Its name or certificate changed, or whether it takes machines. */
    }
    if (!lost) {
        log_info("node %s: underlay %s", id, address ? address : "none");
    }
    return tell_underlay(pass, id, address, err) && tell_of_machines(pass, id, err) &&
           visit_places(pass, id, lost, err);
}
