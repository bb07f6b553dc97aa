/* network_plan.c - see network_plan.h. */
#include "control/network_plan.h"

#include "base/tlv.h"
#include "control/network_interface.h"
#include "control/network_names.h"
#include "control/network_places.h"
#include "control/network_records.h"
#include "control/wants.h"

#define KEY_LEN 160

#define GET(pass, name, out, err, ...) \
    row_get((pass)->txn, &row_##name##_type, &(const struct row_##name){__VA_ARGS__}, \
            (const void **)(out), (err))

void
network_plan_init(struct network_plan *plan, const struct pass *pass,
                  const struct row_vpc *vpc)
{
    *plan = (struct network_plan){.pass = pass, .vpc = vpc, .kept = map_create(NULL)};
}

void
network_plan_fini(struct network_plan *plan)
{
    map_destroy(plan->kept);
    VEC_FREE(&plan->items);
}

static const char *
key_of(int64_t kind, const char *id, char out[KEY_LEN])
{
    (void)snprintf(out, KEY_LEN, "%d/%s", (int)kind, id);
    return out;
}

static void
add(struct network_plan *plan, const struct plan_item *item, const void *record)
{
    struct plan_item full = *item;
    char key[KEY_LEN];
    AUTO(buf) struct buf body = {0};
    if (map_get(plan->kept, key_of(item->kind, item->id, key))) {
        return; /* Two rules name the same list, or the same peer's group. */
    }
    tlv_encode(link_want_desc(item->kind), record, &body);
    full.body.data = arena_memdup(txn_arena(plan->pass->txn), body.data, body.len);
    full.body.len = body.len;
    VEC_PUSH(&plan->items, full);
    map_put(plan->kept, key, plan);
}

/* What is the VPC's own. */
static void
add_own(struct network_plan *plan, enum link_kind kind, const char *id,
        const void *record)
{
    add(plan, &(struct plan_item){.kind = kind, .id = id, .scope = plan->vpc->id},
        record);
}

/* ---- structure ---- */

static bool
rows_by(const struct network_plan *plan, const struct row_type *type, const char *index,
        const void *prefix, struct row_list *out, struct err *err)
{
    const struct row_query query = {
        .index = index, .prefix = prefix, .prefix_fields = 2};
    return row_list(plan->pass->txn, type, &query, out, err);
}

#define OF_VPC(plan, name, out, err) \
    rows_by((plan), &row_##name##_type, "by_vpc", \
            &(const struct row_##name){.account = (plan)->vpc->account, \
                                       .vpc_id = (plan)->vpc->id}, \
            (out), (err))

static bool
plan_dhcp(struct network_plan *plan, struct err *err)
{
    struct link_dhcp_options record;
    bool there;
    if (!dhcp_record(plan->pass->txn, plan->vpc, &record, &there, err)) {
        return false;
    }
    if (there) {
        add_own(plan, LINK_DHCP_OPTIONS, record.id, &record);
    }
    return true;
}

static bool
plan_network(struct network_plan *plan, struct err *err)
{
    struct link_network record;
    if (!network_record(plan->pass->txn, plan->vpc, &record, err)) {
        return false;
    }
    add_own(plan, LINK_NETWORK, record.id, &record);
    return plan_dhcp(plan, err);
}

static bool
plan_subnet(struct network_plan *plan, const struct row_subnet *subnet, struct err *err)
{
    struct link_subnet record;
    if (!subnet_record(plan->pass->txn, plan->vpc, subnet, &record, err)) {
        return false;
    }
    add_own(plan, LINK_SUBNET, record.id, &record);
    return true;
}

bool
network_plan_base(struct network_plan *plan, const struct row_subnet *subnet,
                  struct err *err)
{
    return plan_network(plan, err) && plan_subnet(plan, subnet, err);
}

static bool
plan_subnets(struct network_plan *plan, struct err *err)
{
    struct row_list list;
    if (!OF_VPC(plan, subnet, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (!plan_subnet(plan, list.rows[i], err)) {
            return false;
        }
    }
    return true;
}

static bool
plan_tables(struct network_plan *plan, struct err *err)
{
    struct txn *txn = plan->pass->txn;
    struct row_list tables, acls;
    if (!OF_VPC(plan, route_table, &tables, err) ||
        !OF_VPC(plan, network_acl, &acls, err)) {
        return false;
    }
    for (size_t i = 0; i < tables.count; i++) {
        struct link_route_table record;
        if (!route_table_record(txn, tables.rows[i], &record, err)) {
            return false;
        }
        add_own(plan, LINK_ROUTE_TABLE, record.id, &record);
    }
    for (size_t i = 0; i < acls.count; i++) {
        struct link_acl record;
        if (!acl_record(txn, acls.rows[i], &record, err)) {
            return false;
        }
        add_own(plan, LINK_ACL, record.id, &record);
    }
    return true;
}

static bool
plan_nats(struct network_plan *plan, struct err *err)
{
    struct row_list list;
    if (!OF_VPC(plan, nat_gateway, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_nat_gateway *row = list.rows[i];
        const struct row_node_seen *seen = NULL;
        const char *home = NULL;
        if (!str_empty(row->node_id) &&
            (!underlay_of(plan->pass, row->node_id, &home, err) ||
             !GET(plan->pass, node_seen, &seen, err, .id = row->node_id))) {
            return false;
        }
        const struct link_nat_gateway record = {
            .id = row->id,
            .network_id = row->vpc_id,
            .public_ipv4 = row->public_ip,
            .private_ipv4 = row->private_ip,
            .generation = 1,
            .subnet_id = row->subnet_id,
            .vni = row->vni,
            .node_address = home,
            .leased = home && seen && seen->nat_leases,
        };
        if (str_eq(row->state, "pending") || str_eq(row->state, "available")) {
            add_own(plan, LINK_NAT_GATEWAY, record.id, &record);
        }
    }
    return true;
}

static bool
plan_peerings(struct network_plan *plan, struct err *err)
{
    struct name_list names;
    struct row_list list;
    if (!vpc_peerings(plan->pass, plan->vpc->id, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_vpc_peering *row = list.rows[i];
        const struct link_peering record = {.id = row->id,
                                            .network_a = row->vpc_id,
                                            .network_b = row->peer_vpc_id,
                                            .generation = 1};
        const struct plan_item item = {
            .kind = LINK_PEERING,
            .id = row->id,
            .scope = row->vpc_id,
            .peer_id = peer_of(row, plan->vpc->id),
        };
        add(plan, &item, &record);
        if (!names_of_peer(plan->pass, row, plan->vpc->id, &names, err)) {
            return false;
        }
        for (size_t k = 0; k < names.count; k++) {
            add_own(plan, LINK_NAME, names.items[k].id, &names.items[k]);
        }
    }
    return true;
}

static bool
plan_flow_logs(struct network_plan *plan, struct err *err)
{
    struct row_list list;
    if (!OF_VPC(plan, flow_log, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        struct link_flow_log record;
        flow_log_record(list.rows[i], &record);
        add_own(plan, LINK_FLOW_LOG, record.id, &record);
    }
    return true;
}

/* Their addresses are each node's own, and their names lead to those. */
static bool
plan_endpoint(struct network_plan *plan, const struct row_vpc_endpoint *endpoint,
              struct err *err)
{
    struct name_list names;
    for (size_t i = 0; i < endpoint->eni_ids.count; i++) {
        const struct row_eni *eni;
        if (!GET(plan->pass, eni, &eni, err, .account = endpoint->account,
                 .id = endpoint->eni_ids.items[i])) {
            return false;
        }
        if (eni) {
            const struct link_endpoint record = {
                .id = eni->id,
                .subnet_id = eni->subnet_id,
                .ipv4 = eni->ipv4,
                .group_ids = {eni->group_ids.items, eni->group_ids.count},
                .generation = MAX(eni->generation, 1),
                .network_id = eni->vpc_id,
            };
            add_own(plan, LINK_ENDPOINT, record.id, &record);
        }
    }
    if (!names_of_endpoint(plan->pass, endpoint, &names, err)) {
        return false;
    }
    for (size_t i = 0; i < names.count; i++) {
        add_own(plan, LINK_NAME, names.items[i].id, &names.items[i]);
    }
    return true;
}

static bool
plan_endpoints(struct network_plan *plan, struct err *err)
{
    struct row_list list;
    if (!OF_VPC(plan, vpc_endpoint, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (!plan_endpoint(plan, list.rows[i], err)) {
            return false;
        }
    }
    return true;
}

static bool
plan_groups(struct network_plan *plan, struct err *err)
{
    struct row_list groups;
    if (!OF_VPC(plan, security_group, &groups, err)) {
        return false;
    }
    for (size_t i = 0; i < groups.count; i++) {
        if (!network_plan_group(plan, groups.rows[i], err)) {
            return false;
        }
    }
    return true;
}

bool
network_plan_structure(struct network_plan *plan, struct err *err)
{
    return plan_network(plan, err) && plan_subnets(plan, err) &&
           plan_tables(plan, err) && plan_groups(plan, err) && plan_nats(plan, err) &&
           plan_peerings(plan, err) && plan_flow_logs(plan, err) &&
           plan_endpoints(plan, err);
}

/* ---- groups and members ---- */

/* The interfaces among 'enis' that are in a group; in any when 'group_id' is NULL. */
static void
add_members(struct network_plan *plan, const struct row_list *enis,
            const char *group_id)
{
    for (size_t i = 0; i < enis->count; i++) {
        const struct row_eni *eni = enis->rows[i];
        for (size_t g = 0; g < eni->group_ids.count; g++) {
            struct link_group_member record;
            if (group_id && !str_eq(group_id, eni->group_ids.items[g])) {
                continue;
            }
            member_record(plan->pass->txn, plan->vpc->id, eni->group_ids.items[g], eni,
                          &record);
            add_own(plan, LINK_GROUP_MEMBER, record.id, &record);
        }
    }
}

static bool
plan_prefix_list(struct network_plan *plan, const struct row_security_group_rule *rule,
                 struct err *err)
{
    const struct row_prefix_list *list;
    struct link_prefix_list record;
    if (!GET(plan->pass, prefix_list, &list, err, .account = rule->account,
             .id = rule->prefix_list_id)) {
        return false;
    }
    if (!list) {
        return true;
    }
    if (!prefix_list_record(plan->pass->txn, plan->vpc->id, list, &record, err)) {
        return false;
    }
    add_own(plan, LINK_PREFIX_LIST, record.id, &record);
    return true;
}

/* What a rule names besides blocks and the VPC's own groups. */
static bool
plan_named(struct network_plan *plan, const struct row_security_group_rule *rule,
           struct err *err)
{
    const struct row_security_group *peer;
    struct row_list enis;
    if (!str_empty(rule->prefix_list_id)) {
        return plan_prefix_list(plan, rule, err);
    }
    if (str_empty(rule->peer_group)) {
        return true;
    }
    if (!GET(plan->pass, security_group, &peer, err, .account = rule->peer_account,
             .id = rule->peer_group)) {
        return false;
    }
    if (!peer || str_eq(peer->vpc_id, plan->vpc->id)) {
        return true;
    }
    const struct row_eni of = {.account = peer->account, .vpc_id = peer->vpc_id};
    if (!rows_by(plan, &row_eni_type, "by_vpc", &of, &enis, err)) {
        return false;
    }
    add_members(plan, &enis, peer->id);
    return true;
}

bool
network_plan_group(struct network_plan *plan, const struct row_security_group *group,
                   struct err *err)
{
    const struct row_security_group_rule prefix = {.account = group->account,
                                                   .group_id = group->id};
    struct link_group record;
    struct row_list rules;
    if (!group_record(plan->pass->txn, group, &record, err) ||
        !rows_by(plan, &row_security_group_rule_type, "by_group", &prefix, &rules,
                 err)) {
        return false;
    }
    add_own(plan, LINK_GROUP, record.id, &record);
    for (size_t i = 0; i < rules.count; i++) {
        if (!plan_named(plan, rules.rows[i], err)) {
            return false;
        }
    }
    return true;
}

bool
network_plan_members(struct network_plan *plan, const char *node_id, struct err *err)
{
    struct row_list enis;
    struct name_list names;
    plan->has_members = true;
    if (!OF_VPC(plan, eni, &enis, err)) {
        return false;
    }
    add_members(plan, &enis, NULL);
    for (size_t i = 0; i < enis.count; i++) {
        struct link_neighbour record;
        bool wanted;
        if (!neighbour_for(plan->pass, enis.rows[i], node_id, &record, &wanted, err)) {
            return false;
        }
        if (wanted) {
            add_own(plan, LINK_NEIGHBOUR, record.id, &record);
        }
        if (!names_of_eni(plan->pass, enis.rows[i], &names, err)) {
            return false;
        }
        for (size_t k = 0; k < names.count; k++) {
            add_own(plan, LINK_NAME, names.items[k].id, &names.items[k]);
        }
    }
    return true;
}

/* ---- onto nodes ---- */

bool
network_plan_want(const struct network_plan *plan, const char *node_id, struct err *err)
{
    for (size_t i = 0; i < plan->items.count; i++) {
        const struct plan_item *item = &plan->items.items[i];
        const struct row_node_want want = {
            .node_id = node_id,
            .kind = item->kind,
            .id = item->id,
            .account = plan->vpc->account,
            .scope = item->scope,
            .body = item->body,
        };
        bool belongs = true;
        if (item->peer_id &&
            !vpc_is_on(plan->pass, item->peer_id, node_id, &belongs, err)) {
            return false;
        }
        if (belongs && !want_put_body(plan->pass->txn, &want, err)) {
            return false;
        }
    }
    return true;
}

static bool
covers(const struct network_plan *plan, const struct row_node_want *want)
{
    bool member = want->kind == LINK_GROUP_MEMBER || want->kind == LINK_NEIGHBOUR ||
                  (want->kind == LINK_NAME && str_starts(want->id, "eni-"));
    return plan->has_members || !member;
}

static bool
is_kept(const struct network_plan *plan, const struct row_node_want *want)
{
    char key[KEY_LEN];
    return map_get(plan->kept, key_of(want->kind, want->id, key)) != NULL;
}

bool
network_plan_sweep(const struct network_plan *plan, const char *node_id,
                   struct err *err)
{
    struct txn *txn = plan->pass->txn;
    const struct row_node_want prefix = {.node_id = node_id, .scope = plan->vpc->id};
    struct row_list list;
    if (!rows_by(plan, &row_node_want_type, "by_scope", &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_node_want *want = list.rows[i];
        if (!want->deleted && covers(plan, want) && !is_kept(plan, want) &&
            !want_take_down(txn, node_id, (enum link_kind)want->kind, want->id, err)) {
            return false;
        }
    }
    return true;
}
