/* nat_loop.c - see nat_loop.h. */
#include "control/nat_loop.h"

#include "base/log.h"
#include "control/network_interface.h"
#include "control/network_loop.h"
#include "control/network_places.h"
#include "control/wants.h"
#include "core/network_rows.h"
#include "core/uplink_rows.h"

#define NAT_VISIBLE_NS (3600 * NS_PER_S)

#define GET(pass, name, out, err, ...) \
    row_get((pass)->txn, &row_##name##_type, &(const struct row_##name){__VA_ARGS__}, \
            (const void **)(out), (err))

/* ---- homes ---- */

static bool
is_alive(const struct row_nat_gateway *nat)
{
    return str_eq(nat->state, "pending") || str_eq(nat->state, "available");
}

static bool
nats_of(const struct pass *pass, const char *account, const char *vpc_id,
        struct row_list *out, struct err *err)
{
    const struct row_nat_gateway prefix = {.account = account, .vpc_id = vpc_id};
    const struct row_query query = {
        .index = "by_vpc", .prefix = &prefix, .prefix_fields = 2};
    return row_list(pass->txn, &row_nat_gateway_type, &query, out, err);
}

bool
nat_is_on(const struct pass *pass, const char *account, const char *vpc_id,
          const char *node_id, bool *out, struct err *err)
{
    struct row_list nats;
    *out = false;
    if (!nats_of(pass, account, vpc_id, &nats, err)) {
        return false;
    }
    for (size_t i = 0; i < nats.count; i++) {
        const struct row_nat_gateway *nat = nats.rows[i];
        *out |= is_alive(nat) && str_eq(nat->node_id, node_id);
    }
    return true;
}

/* Whether gateways of the node lead to the world. */
static bool
leads_out(const struct pass *pass, const char *node_id, bool *out, struct err *err)
{
    const struct row_node_want prefix = {.node_id = node_id, .kind = LINK_UPLINK};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 2};
    struct row_list wants;
    *out = false;
    if (!row_list(pass->txn, &row_node_want_type, &query, &wants, err)) {
        return false;
    }
    for (size_t i = 0; i < wants.count; i++) {
        const struct row_node_want *want = wants.rows[i];
        const struct row_uplink *uplink;
        if (!GET(pass, uplink, &uplink, err, .id = want->id)) {
            return false;
        }
        *out |= uplink && !want->deleted && !uplink_is_lent(uplink) &&
                !str_eq(uplink->mode, "none");
    }
    return true;
}

/* How good a home the node is: 0 none, 1 one without an uplink, 2 one with. */
static bool
home_score(const struct pass *pass, const char *node_id, int *out, struct err *err)
{
    const struct row_node *node;
    bool out_there;
    if (!GET(pass, node, &node, err, .id = node_id) ||
        !leads_out(pass, node_id, &out_there, err)) {
        return false;
    }
    bool reachable =
        node && str_eq(node->state, "active") && !str_empty(node->underlay);
    *out = !reachable ? 0 : out_there ? 2 : 1;
    return true;
}

static bool
find_home(const struct pass *pass, const struct row_nat_gateway *nat, const char **out,
          struct err *err)
{
    struct row_list places;
    int best = 0;
    *out = NULL;
    if (!vpc_places(pass, nat->vpc_id, &places, err)) {
        return false;
    }
    for (size_t i = 0; i < places.count; i++) {
        const struct row_vpc_node *place = places.rows[i];
        int score;
        if (!home_score(pass, place->node_id, &score, err)) {
            return false;
        }
        score *= 2;
        score += score && str_eq(place->node_id, nat->node_id);
        if (score > best) {
            best = score;
            *out = place->node_id;
        }
    }
    return true;
}

static bool
move_home(const struct pass *pass, const struct row_nat_gateway *nat,
          const char *node_id, struct err *err)
{
    struct row_nat_gateway next = *nat;
    next.node_id = node_id;
    log_info("NAT gateway %s: at home on %s", nat->id, node_id ? node_id : "no node");
    return (next.vni || vni_take(pass->txn, &next.vni, err)) &&
           row_put(pass->txn, &row_nat_gateway_type, &next, err) &&
           interface_tell(pass, nat->account, nat->eni_id, err);
}

bool
nat_find_homes(const struct pass *pass, const struct row_vpc *vpc, bool *moved,
               struct err *err)
{
    struct row_list nats;
    *moved = false;
    if (!nats_of(pass, vpc->account, vpc->id, &nats, err)) {
        return false;
    }
    for (size_t i = 0; i < nats.count; i++) {
        const struct row_nat_gateway *nat = nats.rows[i];
        const char *home;
        if (!is_alive(nat)) {
            continue;
        }
        if (!find_home(pass, nat, &home, err)) {
            return false;
        }
        if (str_eq(home, nat->node_id) || (!home && str_empty(nat->node_id))) {
            continue;
        }
        *moved = true;
        if (!move_home(pass, nat, home, err)) {
            return false;
        }
    }
    return true;
}

/* ---- ends ---- */

static bool
nat_is_down(const struct pass *pass, const struct row_nat_gateway *nat, bool *out,
            struct err *err)
{
    struct row_list nodes;
    *out = true;
    if (!row_list(pass->txn, &row_node_type, &(struct row_query){0}, &nodes, err)) {
        return false;
    }
    for (size_t i = 0; i < nodes.count; i++) {
        const struct row_node *node = nodes.rows[i];
        const struct row_node_want *want;
        if (!want_get(pass->txn, node->id, LINK_NAT_GATEWAY, nat->id, &want, err)) {
            return false;
        }
        *out &= !want || !str_eq(node->state, "active");
    }
    return true;
}

/* Its interface and address are given back when no node has it any more. */
static bool
nat_end(const struct pass *pass, const struct row_nat_gateway *nat, struct err *err)
{
    const struct row_eni *eni;
    struct row_nat_gateway next = *nat;
    next.state = "deleted";
    next.deleted_at = pass->now_ns;
    log_info("NAT gateway %s: deleted", nat->id);
    const struct row_vpc *vpc;
    return GET(pass, eni, &eni, err, .account = nat->account, .id = nat->eni_id) &&
           (!eni || eni_remove(pass->txn, eni, err)) &&
           row_put(pass->txn, &row_nat_gateway_type, &next, err) &&
           GET(pass, vpc, &vpc, err, .account = nat->account, .id = nat->vpc_id) &&
           (!vpc || str_empty(nat->node_id) ||
            network_release(pass, nat->node_id, vpc, err));
}

static bool
nat_step(const struct pass *pass, const struct row_nat_gateway *nat, struct err *err)
{
    bool down;
    if (str_eq(nat->state, "pending")) {
        struct row_nat_gateway next = *nat;
        next.state = "available";
        return row_put(pass->txn, &row_nat_gateway_type, &next, err);
    }
    if (str_eq(nat->state, "deleting")) {
        return network_pass(pass, nat->account, nat->vpc_id, err) &&
               nat_is_down(pass, nat, &down, err) && (!down || nat_end(pass, nat, err));
    }
    if (nat->deleted_at && pass->now_ns >= nat->deleted_at + NAT_VISIBLE_NS) {
        return resource_tags_drop(pass->txn, nat->account, nat->region, nat->id, err) &&
               row_delete(pass->txn, &row_nat_gateway_type, nat, err);
    }
    return true;
}

bool
nats_pass(const struct pass *pass, const char *account UNUSED, const char *id UNUSED,
          struct err *err)
{
    static const char *const states[] = {"pending", "deleting", "deleted"};
    for (size_t s = 0; s < ARRAY_LEN(states); s++) {
        const struct row_nat_gateway prefix = {.state = states[s]};
        const struct row_query query = {
            .index = "by_state", .prefix = &prefix, .prefix_fields = 1};
        struct row_list list;
        if (!row_list(pass->txn, &row_nat_gateway_type, &query, &list, err)) {
            return false;
        }
        for (size_t i = 0; i < list.count; i++) {
            if (!nat_step(pass, list.rows[i], err)) {
                return false;
            }
        }
    }
    return true;
}
