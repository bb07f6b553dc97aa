/* network_loop.c - see network_loop.h. */
#include "control/network_loop.h"

#include "base/log.h"
#include "base/tlv.h"
#include "control/network_records.h"
#include "control/wants.h"
#include "core/network_rows.h"

#define NAT_VISIBLE_NS (3600 * NS_PER_S)

#define GET(pass, name, out, err, ...) \
    row_get((pass)->txn, &row_##name##_type, &(const struct row_##name){__VA_ARGS__}, \
            (const void **)(out), (err))

/* ---- one VPC on one node ---- */

/* What has been wanted in this pass: what else the VPC has on the node is taken down. */
struct place {
    const struct pass *pass;
    const char *node_id;
    const struct row_vpc *vpc;
    struct kept {
        enum link_kind kind;
        const char *id;
    } * kept;
    size_t kept_count, kept_room;
};

static bool
keep(struct place *p, enum link_kind kind, const char *id, const void *record,
     struct err *err)
{
    if (p->kept_count == p->kept_room) {
        struct arena *arena = txn_arena(p->pass->txn);
        size_t room = p->kept_room ? p->kept_room * 2 : 64;
        struct kept *next = ARENA_ARRAY(arena, room, struct kept);
        for (size_t i = 0; i < p->kept_count; i++) {
            next[i] = p->kept[i];
        }
        p->kept = next;
        p->kept_room = room;
    }
    p->kept[p->kept_count++] = (struct kept){kind, id};
    return want_put(p->pass->txn, p->node_id, kind, id, p->vpc->account, record, err);
}

static bool
rows_by(const struct place *p, const struct row_type *type, const char *index,
        const void *prefix, struct row_list *out, struct err *err)
{
    const struct row_query query = {
        .index = index, .prefix = prefix, .prefix_fields = 2};
    return row_list(p->pass->txn, type, &query, out, err);
}

#define OF_VPC(p, name, out, err) \
    rows_by((p), &row_##name##_type, "by_vpc", \
            &(const struct row_##name){.account = (p)->vpc->account, \
                                       .vpc_id = (p)->vpc->id}, \
            (out), (err))

static bool
want_network(struct place *p, struct err *err)
{
    struct link_network network;
    return network_record(p->pass->txn, p->vpc, &network, err) &&
           keep(p, LINK_NETWORK, network.id, &network, err);
}

static bool
want_subnets(struct place *p, struct err *err)
{
    struct row_list list;
    if (!OF_VPC(p, subnet, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        struct link_subnet record;
        if (!subnet_record(p->pass->txn, p->vpc, list.rows[i], &record, err) ||
            !keep(p, LINK_SUBNET, record.id, &record, err)) {
            return false;
        }
    }
    return true;
}

static bool
want_tables(struct place *p, struct err *err)
{
    struct row_list tables, acls;
    if (!OF_VPC(p, route_table, &tables, err) || !OF_VPC(p, network_acl, &acls, err)) {
        return false;
    }
    for (size_t i = 0; i < tables.count; i++) {
        struct link_route_table record;
        if (!route_table_record(p->pass->txn, tables.rows[i], &record, err) ||
            !keep(p, LINK_ROUTE_TABLE, record.id, &record, err)) {
            return false;
        }
    }
    for (size_t i = 0; i < acls.count; i++) {
        struct link_acl record;
        if (!acl_record(p->pass->txn, acls.rows[i], &record, err) ||
            !keep(p, LINK_ACL, record.id, &record, err)) {
            return false;
        }
    }
    return true;
}

/* The members, among 'enis', of a group; of all groups when 'group_id' is NULL. */
static bool
want_members(struct place *p, const struct row_list *enis, const char *group_id,
             struct err *err)
{
    for (size_t i = 0; i < enis->count; i++) {
        const struct row_eni *eni = enis->rows[i];
        for (size_t g = 0; g < eni->group_ids.count; g++) {
            struct link_group_member record;
            if (group_id && !str_eq(group_id, eni->group_ids.items[g])) {
                continue;
            }
            member_record(p->pass->txn, p->vpc->id, eni->group_ids.items[g], eni,
                          &record);
            if (!keep(p, LINK_GROUP_MEMBER, record.id, &record, err)) {
                return false;
            }
        }
    }
    return true;
}

/* What a rule names besides blocks: a list, or a group of a peer's VPC. */
static bool
want_named(struct place *p, const struct row_security_group_rule *rule, struct err *err)
{
    const struct row_prefix_list *list = NULL;
    const struct row_security_group *peer = NULL;
    if (!str_empty(rule->prefix_list_id)) {
        struct link_prefix_list record;
        return GET(p->pass, prefix_list, &list, err, .account = rule->account,
                   .id = rule->prefix_list_id) &&
               (!list ||
                (prefix_list_record(p->pass->txn, p->vpc->id, list, &record, err) &&
                 keep(p, LINK_PREFIX_LIST, record.id, &record, err)));
    }
    if (str_empty(rule->peer_group)) {
        return true;
    }
    if (!GET(p->pass, security_group, &peer, err, .account = rule->peer_account,
             .id = rule->peer_group)) {
        return false;
    }
    if (!peer || str_eq(peer->vpc_id, p->vpc->id)) {
        return true;
    }
    const struct row_eni of = {.account = peer->account, .vpc_id = peer->vpc_id};
    struct row_list enis;
    return rows_by(p, &row_eni_type, "by_vpc", &of, &enis, err) &&
           want_members(p, &enis, peer->id, err);
}

static bool
want_groups(struct place *p, struct err *err)
{
    struct row_list groups, enis;
    if (!OF_VPC(p, security_group, &groups, err) || !OF_VPC(p, eni, &enis, err)) {
        return false;
    }
    for (size_t i = 0; i < groups.count; i++) {
        const struct row_security_group *group = groups.rows[i];
        const struct row_security_group_rule prefix = {.account = group->account,
                                                       .group_id = group->id};
        struct link_group record;
        struct row_list rules;
        if (!group_record(p->pass->txn, group, &record, err) ||
            !keep(p, LINK_GROUP, record.id, &record, err) ||
            !rows_by(p, &row_security_group_rule_type, "by_group", &prefix, &rules,
                     err)) {
            return false;
        }
        for (size_t k = 0; k < rules.count; k++) {
            if (!want_named(p, rules.rows[k], err)) {
                return false;
            }
        }
    }
    return want_members(p, &enis, NULL, err);
}

static bool
want_nats(struct place *p, struct err *err)
{
    struct row_list list;
    if (!OF_VPC(p, nat_gateway, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_nat_gateway *row = list.rows[i];
        if (!str_eq(row->state, "pending") && !str_eq(row->state, "available")) {
            continue;
        }
        struct link_nat_gateway record = {
            .id = row->id,
            .network_id = row->vpc_id,
            .public_ipv4 = row->public_ip,
            .private_ipv4 = row->private_ip,
            .generation = 1,
            .subnet_id = row->subnet_id,
        };
        if (!keep(p, LINK_NAT_GATEWAY, record.id, &record, err)) {
            return false;
        }
    }
    return true;
}

/* ---- peerings ---- */

/* The active peerings of a VPC, asked for by it or of it. */
static bool
peerings_of(const struct pass *pass, const struct row_vpc *vpc, struct row_list *out,
            struct err *err)
{
    const struct row_vpc_peering mine = {.account = vpc->account,
                                         .region = vpc->region};
    const struct row_vpc_peering theirs = {.peer_account = vpc->account,
                                           .peer_region = vpc->region};
    const struct row_query queries[] = {
        {.index = "by_region", .prefix = &mine, .prefix_fields = 2},
        {.index = "by_peer", .prefix = &theirs, .prefix_fields = 2}};
    struct row_list found[2];
    if (!row_list(pass->txn, &row_vpc_peering_type, &queries[0], &found[0], err) ||
        !row_list(pass->txn, &row_vpc_peering_type, &queries[1], &found[1], err)) {
        return false;
    }
    *out = (struct row_list){ARENA_ARRAY(txn_arena(pass->txn),
                                         found[0].count + found[1].count, const void *),
                             0};
    for (size_t i = 0; i < found[0].count + found[1].count; i++) {
        bool asked = i < found[0].count;
        const struct row_vpc_peering *row =
            asked ? found[0].rows[i] : found[1].rows[i - found[0].count];
        const char *ours = asked ? row->vpc_id : row->peer_vpc_id;
        if (str_eq(row->state, "active") && str_eq(ours, vpc->id)) {
            out->rows[out->count++] = row;
        }
    }
    return true;
}

static bool
want_peerings(struct place *p, struct err *err)
{
    struct row_list list;
    if (!peerings_of(p->pass, p->vpc, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_vpc_peering *row = list.rows[i];
        struct link_peering record = {.id = row->id,
                                      .network_a = row->vpc_id,
                                      .network_b = row->peer_vpc_id,
                                      .generation = 1};
        if (!keep(p, LINK_PEERING, record.id, &record, err)) {
            return false;
        }
    }
    return true;
}

/* ---- what is not wanted any more ---- */

static const enum link_kind swept[] = {
    LINK_NAT_GATEWAY, LINK_PEERING, LINK_GROUP_MEMBER, LINK_GROUP,
    LINK_PREFIX_LIST, LINK_ROUTE_TABLE, LINK_ACL,     LINK_SUBNET,
};

/* Whether a record speaks of the network. */
static bool
speaks_of(struct arena *arena, const struct row_node_want *want, const char *vpc_id,
          bool *out, struct err *err)
{
    static const char *const names[] = {"network_id", "network_a", "network_b"};
    const struct desc *desc = link_want_desc((enum link_kind)want->kind);
    void *record = arena_alloc(arena, desc->size);
    *out = false;
    if (!tlv_decode(desc, want->body.data, want->body.len, arena, record, err)) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const struct desc_field *field = desc_find(desc, names[i]);
        *out |= field && str_eq(*(const char *const *)desc_at(field, record), vpc_id);
    }
    return true;
}

static bool
is_kept(const struct place *p, const struct row_node_want *want)
{
    for (size_t i = 0; i < p->kept_count; i++) {
        if ((int64_t)p->kept[i].kind == want->kind && str_eq(p->kept[i].id, want->id)) {
            return true;
        }
    }
    return false;
}

static bool
sweep(struct place *p, struct err *err)
{
    struct txn *txn = p->pass->txn;
    for (size_t k = 0; k < ARRAY_LEN(swept); k++) {
        const struct row_node_want prefix = {.node_id = p->node_id, .kind = swept[k]};
        struct row_list list;
        if (!rows_by(p, &row_node_want_type, NULL, &prefix, &list, err)) {
            return false;
        }
        for (size_t i = 0; i < list.count; i++) {
            const struct row_node_want *want = list.rows[i];
            bool ours = false;
            if (want->deleted || is_kept(p, want)) {
                continue;
            }
            if (!speaks_of(txn_arena(txn), want, p->vpc->id, &ours, err) ||
                (ours && !want_take_down(txn, p->node_id, swept[k], want->id, err))) {
                return false;
            }
        }
    }
    return true;
}

/* ---- which nodes ---- */

/* Whether a machine of the VPC is, or is to be, on the node. */
static bool
vpc_uses(const struct pass *pass, const char *node_id, const struct row_vpc *vpc,
         bool *out, struct err *err)
{
    const struct row_instance prefix = {.node_id = node_id};
    const struct row_query query = {
        .index = "by_node", .prefix = &prefix, .prefix_fields = 1};
    struct row_list list;
    *out = false;
    if (!row_list(pass->txn, &row_instance_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_instance *inst = list.rows[i];
        *out |= !inst->terminated_at && str_eq(inst->vpc_id, vpc->id);
    }
    return true;
}

/* The same of the VPC or of one that is peered with it. */
static bool
node_needs(const struct pass *pass, const char *node_id, const struct row_vpc *vpc,
           bool *out, struct err *err)
{
    struct row_list list;
    if (!vpc_uses(pass, node_id, vpc, out, err) ||
        !peerings_of(pass, vpc, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count && !*out; i++) {
        const struct row_vpc_peering *row = list.rows[i];
        bool asked = str_eq(row->vpc_id, vpc->id);
        const struct row_vpc *peer;
        if (!GET(pass, vpc, &peer, err,
                 .account = asked ? row->peer_account : row->account,
                 .id = asked ? row->peer_vpc_id : row->vpc_id) ||
            (peer && !vpc_uses(pass, node_id, peer, out, err))) {
            return false;
        }
    }
    return true;
}

static bool
want_all(struct place *p, struct err *err)
{
    return want_network(p, err) && want_subnets(p, err) && want_tables(p, err) &&
           want_groups(p, err) && want_nats(p, err) && want_peerings(p, err) && sweep(p, err);
}

bool
network_release(const struct pass *pass, const char *node_id, const struct row_vpc *vpc,
                struct err *err)
{
    struct place place = {.pass = pass, .node_id = node_id, .vpc = vpc};
    const struct row_node_want *there;
    bool needed;
    if (!node_needs(pass, node_id, vpc, &needed, err) ||
        !want_get(pass->txn, node_id, LINK_NETWORK, vpc->id, &there, err)) {
        return false;
    }
    return needed || !there ||
           (sweep(&place, err) &&
            want_take_down(pass->txn, node_id, LINK_NETWORK, vpc->id, err));
}

static bool
vpc_on_node(const struct pass *pass, const char *node_id, const struct row_vpc *vpc,
            struct err *err)
{
    struct place place = {.pass = pass, .node_id = node_id, .vpc = vpc};
    bool needed;
    if (!node_needs(pass, node_id, vpc, &needed, err)) {
        return false;
    }
    return needed ? want_all(&place, err) : network_release(pass, node_id, vpc, err);
}

static bool
vpc_everywhere(const struct pass *pass, const struct row_vpc *vpc, struct err *err)
{
    struct row_list nodes;
    if (!row_list(pass->txn, &row_node_type, &(struct row_query){0}, &nodes, err)) {
        return false;
    }
    for (size_t i = 0; i < nodes.count; i++) {
        const struct row_node *node = nodes.rows[i];
        if (str_eq(node->state, "active") && str_eq(node->region, vpc->region) &&
            !vpc_on_node(pass, node->id, vpc, err)) {
            return false;
        }
    }
    return true;
}

bool
network_want_base(const struct pass *pass, const char *node_id,
                  const struct row_vpc *vpc, const struct row_subnet *subnet,
                  struct err *err)
{
    struct place place = {.pass = pass, .node_id = node_id, .vpc = vpc};
    struct link_subnet record;
    return want_network(&place, err) &&
           subnet_record(pass->txn, vpc, subnet, &record, err) &&
           keep(&place, LINK_SUBNET, record.id, &record, err);
}

/* ---- passes ---- */

/* A peer's rules name our groups' members: its VPC is looked at with ours. */
static bool
peers_everywhere(const struct pass *pass, const struct row_vpc *vpc, struct err *err)
{
    struct row_list list;
    if (!peerings_of(pass, vpc, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_vpc_peering *row = list.rows[i];
        bool asked = str_eq(row->vpc_id, vpc->id);
        const struct row_vpc *peer;
        if (!GET(pass, vpc, &peer, err,
                 .account = asked ? row->peer_account : row->account,
                 .id = asked ? row->peer_vpc_id : row->vpc_id)) {
            return false;
        }
        if (peer && !str_eq(peer->account, vpc->account) &&
            !vpc_everywhere(pass, peer, err)) {
            return false;
        }
    }
    return true;
}

bool
networks_pass(const struct pass *pass, const char *account, const char *id UNUSED,
              struct err *err)
{
    const struct row_vpc prefix = {.account = account};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 1};
    struct row_list vpcs;
    if (!row_list(pass->txn, &row_vpc_type, &query, &vpcs, err)) {
        return false;
    }
    for (size_t i = 0; i < vpcs.count; i++) {
        const struct row_vpc *vpc = vpcs.rows[i];
        /* One from before its parts were rows gets them now. */
        if (!vpc_complete(pass->txn, pass->rng, vpc, pass->now_ns, &vpc, err) ||
            !vpc_everywhere(pass, vpc, err) || !peers_everywhere(pass, vpc, err)) {
            return false;
        }
    }
    return true;
}

bool
interface_pass(const struct pass *pass, const char *account, const char *id,
               struct err *err)
{
    const struct row_eni *eni;
    if (!GET(pass, eni, &eni, err, .account = account, .id = id)) {
        return false;
    }
    return !eni || str_empty(eni->instance_id) ||
           instance_pass(pass, account, eni->instance_id, err);
}

/* ---- NAT gateways ---- */

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
    return GET(pass, eni, &eni, err, .account = nat->account, .id = nat->eni_id) &&
           (!eni || eni_remove(pass->txn, eni, err)) &&
           row_put(pass->txn, &row_nat_gateway_type, &next, err);
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
        const struct row_vpc *vpc;
        return GET(pass, vpc, &vpc, err, .account = nat->account, .id = nat->vpc_id) &&
               (!vpc || vpc_everywhere(pass, vpc, err)) &&
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
