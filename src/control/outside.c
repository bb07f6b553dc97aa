/* outside.c - see outside.h. */
#include "control/outside.h"

#include "base/map.h"
#include "base/tlv.h"
#include "control/network_interface.h"
#include "control/network_records.h"
#include "control/wants.h"
#include "core/uplink_rows.h"

#define SCOPE "outside" /* Of the records, which belong to no VPC. */

#define GET(pass, name, out, err, ...) \
    row_get((pass)->txn, &row_##name##_type, &(const struct row_##name){__VA_ARGS__}, \
            (const void **)(out), (err))

/* A node that has such an uplink, and can be reached. */
struct member {
    const char *node_id, *region, *underlay, *address;
};

typedef VEC(struct member) member_list;

/* ---- who ------------------------------------------------------------------------- */

static bool
add_members(const struct pass *pass, const struct row_uplink *uplink, member_list *out,
            struct err *err)
{
    const struct row_uplink_place prefix = {.uplink_id = uplink->id};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 1};
    struct row_list places;
    if (!row_list(pass->txn, &row_uplink_place_type, &query, &places, err)) {
        return false;
    }
    for (size_t i = 0; i < places.count; i++) {
        const struct row_uplink_place *place = places.rows[i];
        struct member m = {
            .node_id = place->node_id,
            .region = uplink->region,
            .address = uplink_overlay_address(txn_arena(pass->txn), place->place)};
        if (!underlay_of(pass, place->node_id, &m.underlay, err)) {
            return false;
        }
        if (m.underlay) {
            VEC_PUSH(out, m);
        }
    }
    return true;
}

static bool
find_members(const struct pass *pass, member_list *out, struct err *err)
{
    struct row_list uplinks;
    if (!row_list(pass->txn, &row_uplink_type, &(struct row_query){0}, &uplinks, err)) {
        return false;
    }
    for (size_t i = 0; i < uplinks.count; i++) {
        const struct row_uplink *u = uplinks.rows[i];
        if (uplink_is_overlay(u) && !add_members(pass, u, out, err)) {
            return false;
        }
    }
    return true;
}

static const struct member *
member_at(const member_list *members, const char *node_id)
{
    for (size_t i = 0; node_id && i < members->count; i++) {
        if (str_eq(members->items[i].node_id, node_id)) {
            return &members->items[i];
        }
    }
    return NULL;
}

/* ---- what ------------------------------------------------------------------------ */

/* The public addresses of a network interface of any kind. */
static bool
publics_of(const struct pass *pass, const struct row_eni *eni, struct link_public *out,
           struct err *err)
{
    struct link_port port = {0};
    const struct row_nat_gateway *nat = NULL;
    struct arena *arena = txn_arena(pass->txn);
    if (str_eq(eni->type, "nat_gateway")) {
        if (!GET(pass, nat_gateway, &nat, err, .account = eni->account,
                 .id = eni->owner_id)) {
            return false;
        }
    } else if (!port_publics(pass->txn, eni, &port, err)) {
        return false;
    }
    const char **list = ARENA_ARRAY(arena, port.publics.count + 1, const char *);
    size_t count = 0;
    for (size_t i = 0; i < port.publics.count; i++) {
        list[count++] = port.publics.items[i].public;
    }
    if (nat && !str_empty(nat->public_ip)) {
        list[count++] = nat->public_ip;
    }
    out->addresses.items = list;
    out->addresses.count = count;
    return true;
}

static bool
put(const struct pass *pass, const char *node_id, const struct link_public *record,
    struct err *err)
{
    AUTO(buf) struct buf body = {0};
    tlv_encode(&link_public_desc, record, &body);
    const struct row_node_want want = {
        .node_id = node_id,
        .kind = LINK_PUBLIC,
        .id = record->id,
        .scope = SCOPE,
        .body = {(const uint8_t *)body.data, body.len},
    };
    return want_put_body(pass->txn, &want, err);
}

/* To the members of its home's region, but to its home. */
static bool
tell_of(const struct pass *pass, const member_list *members, const struct row_eni *eni,
        const char *eni_id, struct map *kept, struct err *err)
{
    struct link_public record = {.id = eni_id, .generation = 1};
    const char *home = NULL;
    if (eni && (!interface_home(pass, eni, &home, err) ||
                !publics_of(pass, eni, &record, err))) {
        return false;
    }
    const struct member *at =
        record.addresses.count > 0 ? member_at(members, home) : NULL;
    record.node_address = at ? at->underlay : NULL;
    for (size_t i = 0; i < members->count; i++) {
        const struct member *m = &members->items[i];
        bool wanted = at && m != at && str_eq(m->region, at->region);
        if (!(wanted
                  ? put(pass, m->node_id, &record, err)
                  : want_take_down(pass->txn, m->node_id, LINK_PUBLIC, eni_id, err))) {
            return false;
        }
    }
    if (at && kept) {
        map_put(kept, eni_id, kept);
    }
    return true;
}

bool
outside_tell(const struct pass *pass, const char *account, const char *eni_id,
             struct err *err)
{
    member_list members = {0};
    const struct row_eni *eni;
    bool ok = find_members(pass, &members, err) &&
              (members.count == 0 ||
               (GET(pass, eni, &eni, err, .account = account, .id = eni_id) &&
                tell_of(pass, &members, eni, eni_id, NULL, err)));
    VEC_FREE(&members);
    return ok;
}

/* ---- all of it ------------------------------------------------------------------- */

static bool
tell_of_members(const struct pass *pass, const member_list *members, struct map *kept,
                struct err *err)
{
    for (size_t i = 0; i < members->count; i++) {
        struct member *of = &members->items[i];
        const struct link_public record = {.id = of->node_id,
                                           .addresses = {&of->address, 1},
                                           .node_address = of->underlay,
                                           .generation = 1};
        map_put(kept, of->node_id, kept);
        for (size_t k = 0; k < members->count; k++) {
            const struct member *to = &members->items[k];
            if (to != of && str_eq(to->region, of->region) &&
                !put(pass, to->node_id, &record, err)) {
                return false;
            }
        }
    }
    return true;
}

/* Interfaces with an address of their own accord or an Elastic IP, and NAT gateways. */
static bool
tell_of_interfaces(const struct pass *pass, const member_list *members,
                   struct map *kept, struct err *err)
{
    struct row_list enis;
    if (!row_list(pass->txn, &row_eni_type, &(struct row_query){0}, &enis, err)) {
        return false;
    }
    for (size_t i = 0; i < enis.count; i++) {
        const struct row_eni *eni = enis.rows[i];
        if (!tell_of(pass, members, eni, eni->id, kept, err)) {
            return false;
        }
    }
    return true;
}

/* What a node has of it and is not to have. */
static bool
sweep(const struct pass *pass, const char *node_id, bool is_member,
      const struct map *kept, struct err *err)
{
    const struct row_node_want prefix = {.node_id = node_id, .scope = SCOPE};
    const struct row_query query = {
        .index = "by_scope", .prefix = &prefix, .prefix_fields = 2};
    struct row_list wants;
    if (!row_list(pass->txn, &row_node_want_type, &query, &wants, err)) {
        return false;
    }
    for (size_t i = 0; i < wants.count; i++) {
        const struct row_node_want *want = wants.rows[i];
        bool stays = is_member && map_get(kept, want->id) && !str_eq(want->id, node_id);
        if (!want->deleted && !stays &&
            !want_take_down(pass->txn, node_id, LINK_PUBLIC, want->id, err)) {
            return false;
        }
    }
    return true;
}

static bool
sweep_all(const struct pass *pass, const member_list *members, const struct map *kept,
          struct err *err)
{
    struct row_list nodes;
    if (!row_list(pass->txn, &row_node_type, &(struct row_query){0}, &nodes, err)) {
        return false;
    }
    for (size_t i = 0; i < nodes.count; i++) {
        const struct row_node *node = nodes.rows[i];
        if (!sweep(pass, node->id, member_at(members, node->id) != NULL, kept, err)) {
            return false;
        }
    }
    return true;
}

bool
outside_pass(const struct pass *pass, struct err *err)
{
    AUTO(map) struct map *kept = map_create(NULL);
    member_list members = {0};
    bool ok = find_members(pass, &members, err) &&
              (members.count == 0 || (tell_of_members(pass, &members, kept, err) &&
                                      tell_of_interfaces(pass, &members, kept, err))) &&
              sweep_all(pass, &members, kept, err);
    VEC_FREE(&members);
    return ok;
}
