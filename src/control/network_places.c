/* network_places.c - see network_places.h. */
#include "control/network_places.h"

#include "control/nat_loop.h"
#include "control/wants.h"
#include "core/instance_rows.h"
#include "core/migration_rows.h"

#define GET(pass, name, out, err, ...) \
    row_get((pass)->txn, &row_##name##_type, &(const struct row_##name){__VA_ARGS__}, \
            (const void **)(out), (err))

/* ---- questions ---- */

bool
vpc_places(const struct pass *pass, const char *vpc_id, struct row_list *out,
           struct err *err)
{
    const struct row_vpc_node prefix = {.vpc_id = vpc_id};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 1};
    return row_list(pass->txn, &row_vpc_node_type, &query, out, err);
}

bool
vpc_is_on(const struct pass *pass, const char *vpc_id, const char *node_id, bool *out,
          struct err *err)
{
    const struct row_vpc_node *row;
    if (!GET(pass, vpc_node, &row, err, .vpc_id = vpc_id, .node_id = node_id)) {
        return false;
    }
    *out = row != NULL;
    return true;
}

const char *
peer_of(const struct row_vpc_peering *peering, const char *vpc_id)
{
    return str_eq(peering->vpc_id, vpc_id) ? peering->peer_vpc_id : peering->vpc_id;
}

bool
vpc_peerings(const struct pass *pass, const char *vpc_id, struct row_list *out,
             struct err *err)
{
    const struct row_vpc_peering mine = {.vpc_id = vpc_id};
    const struct row_vpc_peering theirs = {.peer_vpc_id = vpc_id};
    const struct row_query queries[] = {
        {.index = "by_vpc", .prefix = &mine, .prefix_fields = 1},
        {.index = "by_peer_vpc", .prefix = &theirs, .prefix_fields = 1}};
    struct row_list found[2];
    if (!row_list(pass->txn, &row_vpc_peering_type, &queries[0], &found[0], err) ||
        !row_list(pass->txn, &row_vpc_peering_type, &queries[1], &found[1], err)) {
        return false;
    }
    *out = (struct row_list){ARENA_ARRAY(txn_arena(pass->txn),
                                         found[0].count + found[1].count, const void *),
                             0};
    for (size_t i = 0; i < found[0].count + found[1].count; i++) {
        const struct row_vpc_peering *row =
            i < found[0].count ? found[0].rows[i] : found[1].rows[i - found[0].count];
        if (str_eq(row->state, "active")) {
            out->rows[out->count++] = row;
        }
    }
    return true;
}

static bool
peer_vpc(const struct pass *pass, const struct row_vpc_peering *peering,
         const char *vpc_id, const struct row_vpc **out, struct err *err)
{
    bool asked = str_eq(peering->vpc_id, vpc_id);
    return GET(pass, vpc, out, err,
               .account = asked ? peering->peer_account : peering->account,
               .id = peer_of(peering, vpc_id));
}

static bool
vpc_uses(const struct pass *pass, const char *vpc_id, const char *node_id, bool *out,
         struct err *err)
{
    const struct row_instance *machine;
    const struct vpc_machine_ask ask = {.vpc_id = vpc_id, .node_id = node_id};
    if (!vpc_machine(pass->txn, &ask, &machine, err)) {
        return false;
    }
    *out = machine != NULL;
    return *out || migration_uses(pass->txn, vpc_id, node_id, out, err);
}

/* Whether the node must have the VPC: for its own machines or a peer's, or since a NAT
 * gateway is at home there. */
static bool
node_needs(const struct pass *pass, const struct row_vpc_node *place, bool *out,
           struct err *err)
{
    const char *vpc_id = place->vpc_id, *node_id = place->node_id;
    struct row_list peerings;
    if (!vpc_uses(pass, vpc_id, node_id, out, err) ||
        (!*out && !nat_is_on(pass, place->account, vpc_id, node_id, out, err)) ||
        (!*out && !vpc_peerings(pass, vpc_id, &peerings, err))) {
        return false;
    }
    for (size_t i = 0; !*out && i < peerings.count; i++) {
        if (!vpc_uses(pass, peer_of(peerings.rows[i], vpc_id), node_id, out, err)) {
            return false;
        }
    }
    return true;
}

/* ---- coming ---- */

/* A node that was revoked has nothing any more, whatever rows still name it. */
static bool
place_put(const struct pass *pass, const struct row_vpc *vpc, const char *node_id,
          struct err *err)
{
    bool there;
    const struct row_node *node;
    const struct row_vpc_node row = {
        .vpc_id = vpc->id, .node_id = node_id, .account = vpc->account};
    return vpc_is_on(pass, vpc->id, node_id, &there, err) &&
           (there || (GET(pass, node, &node, err, .id = node_id) &&
                      (!node || !str_eq(node->state, "active") ||
                       row_put(pass->txn, &row_vpc_node_type, &row, err))));
}

bool
vpc_look_again(const struct pass *pass, const struct row_vpc_node *row, struct err *err)
{
    struct row_vpc_node next = *row;
    next.looks++;
    return row_put(pass->txn, &row_vpc_node_type, &next, err);
}

static bool
peers_put(const struct pass *pass, const struct row_vpc *vpc, const char *node_id,
          struct err *err)
{
    struct row_list peerings;
    if (!vpc_peerings(pass, vpc->id, &peerings, err)) {
        return false;
    }
    for (size_t i = 0; i < peerings.count; i++) {
        const struct row_vpc *peer;
        if (!peer_vpc(pass, peerings.rows[i], vpc->id, &peer, err) ||
            (peer && !place_put(pass, peer, node_id, err))) {
            return false;
        }
    }
    return true;
}

bool
vpc_arrives(const struct pass *pass, const struct row_vpc *vpc, const char *node_id,
            struct err *err)
{
    bool there;
    return vpc_is_on(pass, vpc->id, node_id, &there, err) &&
           (there ||
            (place_put(pass, vpc, node_id, err) && peers_put(pass, vpc, node_id, err)));
}

/* ---- going ---- */

static bool
peerings_take_down(const struct pass *pass, const char *vpc_id, const char *node_id,
                   struct err *err)
{
    struct row_list peerings;
    if (!vpc_peerings(pass, vpc_id, &peerings, err)) {
        return false;
    }
    for (size_t i = 0; i < peerings.count; i++) {
        const struct row_vpc_peering *row = peerings.rows[i];
        if (!want_take_down(pass->txn, node_id, LINK_PEERING, row->id, err)) {
            return false;
        }
    }
    return true;
}

bool
vpc_leaves(const struct pass *pass, const char *vpc_id, const char *node_id,
           struct err *err)
{
    const struct row_node_want prefix = {.node_id = node_id, .scope = vpc_id};
    const struct row_query query = {
        .index = "by_scope", .prefix = &prefix, .prefix_fields = 2};
    const struct row_vpc_node place = {.vpc_id = vpc_id, .node_id = node_id};
    struct row_list list;
    if (!row_list(pass->txn, &row_node_want_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_node_want *want = list.rows[i];
        if (!want_take_down(pass->txn, node_id, (enum link_kind)want->kind, want->id,
                            err)) {
            return false;
        }
    }
    return peerings_take_down(pass, vpc_id, node_id, err) &&
           row_delete(pass->txn, &row_vpc_node_type, &place, err);
}

static bool
release_one(const struct pass *pass, const char *vpc_id, const char *node_id,
            struct err *err)
{
    const struct row_vpc_node *place;
    bool needed;
    return GET(pass, vpc_node, &place, err, .vpc_id = vpc_id, .node_id = node_id) &&
           (!place || (node_needs(pass, place, &needed, err) &&
                       (needed || vpc_leaves(pass, vpc_id, node_id, err))));
}

bool
network_release(const struct pass *pass, const char *node_id, const struct row_vpc *vpc,
                struct err *err)
{
    struct row_list peerings;
    if (!release_one(pass, vpc->id, node_id, err) ||
        !vpc_peerings(pass, vpc->id, &peerings, err)) {
        return false;
    }
    for (size_t i = 0; i < peerings.count; i++) {
        if (!release_one(pass, peer_of(peerings.rows[i], vpc->id), node_id, err)) {
            return false;
        }
    }
    return true;
}

bool
vpc_settle(const struct pass *pass, const struct row_vpc *vpc, struct err *err)
{
    struct row_list places;
    const struct row_instance *machine;
    if (!vpc_places(pass, vpc->id, &places, err)) {
        return false;
    }
    for (size_t i = 0; i < places.count; i++) {
        const struct row_vpc_node *place = places.rows[i];
        if (!release_one(pass, vpc->id, place->node_id, err)) {
            return false;
        }
    }
    for (const char *at = NULL;; at = machine->node_id) {
        const struct vpc_machine_ask next = {.vpc_id = vpc->id, .after = at};
        if (!vpc_machine(pass->txn, &next, &machine, err)) {
            return false;
        }
        if (!machine) {
            return true;
        }
        if (!place_put(pass, vpc, machine->node_id, err) ||
            !peers_put(pass, vpc, machine->node_id, err)) {
            return false;
        }
    }
}
