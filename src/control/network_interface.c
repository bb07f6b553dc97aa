/* network_interface.c - see network_interface.h. */
#include "control/network_interface.h"

#include "base/map.h"
#include "base/tlv.h"
#include "control/network_names.h"
#include "control/network_places.h"
#include "control/network_records.h"
#include "control/outside.h"
#include "control/wants.h"

#define CHUNK 32 /* Records of one interface on one node, read at a time. */

#define GET(pass, name, out, err, ...) \
    row_get((pass)->txn, &row_##name##_type, &(const struct row_##name){__VA_ARGS__}, \
            (const void **)(out), (err))

/* ---- where it is ---- */

bool
underlay_of(const struct pass *pass, const char *node_id, const char **out,
            struct err *err)
{
    const struct row_node *node;
    if (!GET(pass, node, &node, err, .id = node_id)) {
        return false;
    }
    bool reachable =
        node && str_eq(node->state, "active") && !str_empty(node->underlay);
    *out = reachable ? node->underlay : NULL;
    return true;
}

bool
interface_home(const struct pass *pass, const struct row_eni *eni, const char **out,
               struct err *err)
{
    const struct row_instance *machine;
    const struct row_nat_gateway *nat;
    *out = NULL;
    if (str_eq(eni->type, "nat_gateway")) {
        if (!GET(pass, nat_gateway, &nat, err, .account = eni->account,
                 .id = eni->owner_id)) {
            return false;
        }
        *out = nat && !str_empty(nat->node_id) ? nat->node_id : NULL;
        return true;
    }
    if (str_empty(eni->instance_id)) {
        return true;
    }
    if (!GET(pass, instance, &machine, err, .account = eni->account,
             .id = eni->instance_id)) {
        return false;
    }
    if (machine && !machine->terminated_at && !str_empty(machine->node_id)) {
        *out = machine->node_id;
    }
    return true;
}

bool
neighbour_for(const struct pass *pass, const struct row_eni *eni, const char *node_id,
              struct link_neighbour *out, bool *wanted, struct err *err)
{
    const char *home, *there = NULL, *here = NULL;
    *wanted = false;
    if (!interface_home(pass, eni, &home, err)) {
        return false;
    }
    if (!home || str_eq(home, node_id)) {
        return true;
    }
    if (!underlay_of(pass, home, &there, err) ||
        !underlay_of(pass, node_id, &here, err)) {
        return false;
    }
    *wanted = there && here;
    *out = (struct link_neighbour){
        .id = eni->id,
        .subnet_id = eni->subnet_id,
        .mac = eni->mac,
        .node_address = there,
        .generation = 1,
    };
    eni_addresses(txn_arena(pass->txn), eni, &out->addresses.items,
                  &out->addresses.count);
    return true;
}

/* ---- telling ---- */

/* A group that it is in, or a name that it has, as a VPC speaks of it. */
struct mention {
    enum link_kind kind;
    const char *vpc_id, *id;
    struct blob body;
};

struct news {
    const struct pass *pass;
    const char *account, *eni_id, *vpc_id;
    const struct row_eni *eni; /* NULL: it is gone. */
    VEC(struct mention) mentions;
};

static void
add_mention(struct news *n, enum link_kind kind, const char *vpc_id, const char *id,
            const void *record)
{
    AUTO(buf) struct buf body = {0};
    tlv_encode(link_want_desc(kind), record, &body);
    const struct mention m = {
        .kind = kind,
        .vpc_id = vpc_id,
        .id = id,
        .body = {arena_memdup(txn_arena(n->pass->txn), body.data, body.len), body.len},
    };
    VEC_PUSH(&n->mentions, m);
}

static void
add_membership(struct news *n, const char *vpc_id, const char *group_id)
{
    struct link_group_member record;
    member_record(n->pass->txn, vpc_id, group_id, n->eni, &record);
    add_mention(n, LINK_GROUP_MEMBER, vpc_id, record.id, &record);
}

static bool
add_names(struct news *n, struct err *err)
{
    struct name_list names;
    if (!n->eni) {
        return true;
    }
    if (!names_of_eni(n->pass, n->eni, &names, err)) {
        return false;
    }
    for (size_t i = 0; i < names.count; i++) {
        add_mention(n, LINK_NAME, n->vpc_id, names.items[i].id, &names.items[i]);
    }
    return true;
}

static bool
has_mention(const struct news *n, enum link_kind kind, const char *id)
{
    for (size_t i = 0; i < n->mentions.count; i++) {
        const struct mention *m = &n->mentions.items[i];
        if (m->kind == kind && str_eq(m->id, id)) {
            return true;
        }
    }
    return false;
}

/* The peers' VPCs whose rules name the group. */
static bool
add_peers_of(struct news *n, const char *group_id, struct err *err)
{
    const struct row_security_group_rule prefix = {.peer_account = n->account,
                                                   .peer_group = group_id};
    const struct row_query query = {
        .index = "by_peer", .prefix = &prefix, .prefix_fields = 2};
    struct row_list rules;
    if (!row_list(n->pass->txn, &row_security_group_rule_type, &query, &rules, err)) {
        return false;
    }
    for (size_t i = 0; i < rules.count; i++) {
        const struct row_security_group_rule *rule = rules.rows[i];
        const struct row_security_group *group;
        if (!GET(n->pass, security_group, &group, err, .account = rule->account,
                 .id = rule->group_id)) {
            return false;
        }
        if (group && !str_eq(group->vpc_id, n->vpc_id)) {
            add_membership(n, group->vpc_id, group_id);
        }
    }
    return true;
}

static bool
add_memberships(struct news *n, struct err *err)
{
    for (size_t g = 0; n->eni && g < n->eni->group_ids.count; g++) {
        const char *group_id = n->eni->group_ids.items[g];
        add_membership(n, n->vpc_id, group_id);
        if (!add_peers_of(n, group_id, err)) {
            return false;
        }
    }
    return true;
}

static bool
put_mentions(const struct news *n, const char *node_id, struct err *err)
{
    for (size_t i = 0; i < n->mentions.count; i++) {
        const struct mention *m = &n->mentions.items[i];
        const struct row_node_want want = {
            .node_id = node_id,
            .kind = m->kind,
            .id = m->id,
            .account = n->account,
            .scope = m->vpc_id,
            .body = m->body,
        };
        bool there;
        if (!vpc_is_on(n->pass, m->vpc_id, node_id, &there, err) ||
            (there && !want_put_body(n->pass->txn, &want, err))) {
            return false;
        }
    }
    return true;
}

/* Those of a kind that the node has of it and that are no more: their ids begin with its
 * own. */
static bool
drop_mentions(const struct news *n, const char *node_id, enum link_kind kind,
              struct err *err)
{
    struct txn *txn = n->pass->txn;
    const struct row_node_want prefix = {.node_id = node_id, .kind = kind};
    const char *begin = arena_printf(txn_arena(txn), "%s.", n->eni_id);
    struct row_node_want after = {.node_id = node_id, .kind = kind, .id = begin};
    const struct row_query query = {
        .prefix = &prefix, .prefix_fields = 2, .after = &after, .limit = CHUNK};
    struct row_list list;
    do {
        if (!row_list(txn, &row_node_want_type, &query, &list, err)) {
            return false;
        }
        for (size_t i = 0; i < list.count; i++) {
            const struct row_node_want *want = list.rows[i];
            if (!str_starts(want->id, begin)) {
                return true;
            }
            if (!has_mention(n, kind, want->id) &&
                !want_take_down(txn, node_id, kind, want->id, err)) {
                return false;
            }
            after = *want;
        }
    } while (list.count == CHUNK);
    return true;
}

static bool
tell_neighbour(const struct news *n, const char *node_id, struct err *err)
{
    struct link_neighbour record;
    bool wanted = false;
    if (n->eni && !neighbour_for(n->pass, n->eni, node_id, &record, &wanted, err)) {
        return false;
    }
    if (!wanted) {
        return want_take_down(n->pass->txn, node_id, LINK_NEIGHBOUR, n->eni_id, err);
    }
    AUTO(buf) struct buf body = {0};
    tlv_encode(&link_neighbour_desc, &record, &body);
    const struct row_node_want want = {
        .node_id = node_id,
        .kind = LINK_NEIGHBOUR,
        .id = n->eni_id,
        .account = n->account,
        .scope = n->vpc_id,
        .body = {(const uint8_t *)body.data, body.len},
    };
    return want_put_body(n->pass->txn, &want, err);
}

static bool
tell_nodes(struct news *n, struct err *err)
{
    struct row_list places;
    if (!add_memberships(n, err) || !add_names(n, err) ||
        !vpc_places(n->pass, n->vpc_id, &places, err)) {
        return false;
    }
    for (size_t i = 0; i < places.count; i++) {
        const struct row_vpc_node *place = places.rows[i];
        if (!put_mentions(n, place->node_id, err) ||
            !drop_mentions(n, place->node_id, LINK_GROUP_MEMBER, err) ||
            !drop_mentions(n, place->node_id, LINK_NAME, err) ||
            !tell_neighbour(n, place->node_id, err)) {
            return false;
        }
    }
    return true;
}

bool
interface_tell(const struct pass *pass, const char *account, const char *id,
               struct err *err)
{
    const struct row_eni_gone *gone;
    struct news news = {.pass = pass, .account = account, .eni_id = id};
    if (!GET(pass, eni, &news.eni, err, .account = account, .id = id) ||
        !GET(pass, eni_gone, &gone, err, .account = account, .id = id)) {
        return false;
    }
    news.vpc_id = news.eni ? news.eni->vpc_id : gone ? gone->vpc_id : NULL;
    bool ok = (!news.vpc_id || tell_nodes(&news, err)) &&
              outside_tell(pass, account, id, err);
    VEC_FREE(&news.mentions);
    return ok && (!gone || row_delete(pass->txn, &row_eni_gone_type, gone, err));
}
