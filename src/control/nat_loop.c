/* nat_loop.c - see nat_loop.h. */
#include "control/nat_loop.h"

#include "base/log.h"
#include "control/leases.h"
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
                !uplink_is_overlay(uplink) && !str_eq(uplink->mode, "none");
    }
    return true;
}

/* What makes a home better than another, the weightiest first. */
enum {
    HOME_ALIVE =
        8, /* Its stream is open; or it has the gateway, and has not been lost. */
    HOME_UPLINK = 4,
    HOME_ALREADY = 2,
    HOME_AT_ALL = 1, /* It can be reached, once it is there. */
};

static bool
is_lost(const struct pass *pass, const char *node_id, bool *out, struct err *err)
{
    const struct row_node_lease *lease;
    if (!GET(pass, node_lease, &lease, err, .id = node_id)) {
        return false;
    }
    *out = lease && lease->lost;
    return true;
}

/* How good a home the node is for a gateway that is at home on 'now'; 0: none. A home whose lease
 * is lost is the last resort: it may come back. Of another node it says nothing whether an old
 * lease of its was lost: what that covered is gone, and it needs a new one to speak. */
static bool
home_score(const struct pass *pass, const char *node_id, const char *now, int *out,
           struct err *err)
{
    const struct row_node *node;
    const struct row_node_seen *seen;
    bool out_there, lost, already = str_eq(node_id, now);
    if (!GET(pass, node, &node, err, .id = node_id) ||
        !GET(pass, node_seen, &seen, err, .id = node_id) ||
        !leads_out(pass, node_id, &out_there, err) ||
        !is_lost(pass, node_id, &lost, err)) {
        return false;
    }
    bool reachable =
        node && str_eq(node->state, "active") && !str_empty(node->underlay);
    bool alive = already ? !lost : seen && seen->connected;
    *out = !reachable
               ? 0
               : HOME_AT_ALL + (already ? HOME_ALREADY : 0) + (alive ? HOME_ALIVE : 0) +
                     (alive && out_there ? HOME_UPLINK : 0);
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
        if (!home_score(pass, place->node_id, nat->node_id, &score, err)) {
            return false;
        }
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
           (!node_id || lease_expect(pass, node_id, err)) &&
           row_put(pass->txn, &row_nat_gateway_type, &next, err) &&
           interface_tell(pass, nat->account, nat->eni_id, err);
}

/* It is watched as long as it has one, also where that was so before leases were. */
static bool
watch_home(const struct pass *pass, const struct row_nat_gateway *nat, struct err *err)
{
    const struct row_node_lease *lease;
    return GET(pass, node_lease, &lease, err, .id = nat->node_id) &&
           (lease || lease_expect(pass, nat->node_id, err));
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
        if (!home && str_empty(nat->node_id)) {
            continue;
        }
        if (str_eq(home, nat->node_id)) {
            if (!watch_home(pass, nat, err)) {
                return false;
            }
            continue;
        }
        *moved = true;
        if (!move_home(pass, nat, home, err)) {
            return false;
        }
    }
    return true;
}

/* ---- lost nodes ---- */

bool
nat_each_home(const struct pass *pass, const char *node_id, nat_home_fn *fn, void *ctx,
              struct err *err)
{
    const struct row_vpc_node prefix = {.node_id = node_id};
    const struct row_query query = {
        .index = "by_node", .prefix = &prefix, .prefix_fields = 1};
    struct row_list places;
    if (!row_list(pass->txn, &row_vpc_node_type, &query, &places, err)) {
        return false;
    }
    for (size_t i = 0; i < places.count; i++) {
        const struct row_vpc_node *place = places.rows[i];
        bool at_home;
        if (!nat_is_on(pass, place->account, place->vpc_id, node_id, &at_home, err) ||
            (at_home && !fn(ctx, pass, place, err))) {
            return false;
        }
    }
    return true;
}

static bool
count_home(void *ctx, const struct pass *pass UNUSED,
           const struct row_vpc_node *place UNUSED, struct err *err UNUSED)
{
    ++*(size_t *)ctx;
    return true;
}

bool
nats_leased_on(const struct pass *pass, const char *node_id, size_t *out_count,
               struct err *err)
{
    const struct row_node_seen *seen;
    *out_count = 0;
    if (!GET(pass, node_seen, &seen, err, .id = node_id)) {
        return false;
    }
    /* An agent of before does it without a lease. */
    return !seen || !seen->nat_leases ||
           nat_each_home(pass, node_id, count_home, out_count, err);
}

static bool
look_at_home(void *ctx UNUSED, const struct pass *pass,
             const struct row_vpc_node *place, struct err *err)
{
    return vpc_look_again(pass, place, err);
}

bool
nats_lost(const struct pass *pass, const char *node_id, struct err *err)
{
    return nat_each_home(pass, node_id, look_at_home, NULL, err);
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
