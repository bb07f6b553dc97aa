/* test_network_loop.c - what nodes are told of VPCs, as machines, interfaces, groups, peerings
 * and nodes come and go. */
#include "stage.h"

#include "base/tlv.h"
#include "control/leases.h"
#include "control/network_interface.h"
#include "control/network_loop.h"
#include "control/network_places.h"
#include "control/wants.h"
#include "core/network_rows.h"

#define ACCOUNT "123456789012"
#define A "node-a"
#define B "node-b"
#define C "node-c"

/* ---- rows ---- */

struct machine {
    const char *name, *node, *vpc, *group;
};

static bool
put_node(struct pass *pass, void *ctx, struct err *err)
{
    return row_put(pass->txn, &row_node_type, ctx, err) &&
           node_pass(pass, "-", ((struct row_node *)ctx)->id, err);
}

static void
node(struct stage *s, const char *id, const char *state, const char *underlay)
{
    struct row_node row = {.id = id, .region = "us-east-1", .state = state,
                           .underlay = underlay};
    stage_run(s, put_node, &row);
}

static bool
put_vpc(struct pass *pass, void *ctx, struct err *err)
{
    const char *id = ctx;
    struct arena *arena = txn_arena(pass->txn);
    const char *group = arena_printf(arena, "sg-%s", id), *second = arena_printf(arena, "sg2-%s", id);
    struct row_vpc vpc = {.account = ACCOUNT, .id = id, .region = "us-east-1",
                          .cidr = "10.0.0.0/16", .vni = 100, .main_table_id = "rtb-1"};
    struct row_subnet subnet = {.account = ACCOUNT, .id = arena_printf(arena, "subnet-%s", id),
                                .vpc_id = id, .cidr = "10.0.0.0/20", .vni = 101,
                                .region = "us-east-1"};
    struct row_security_group groups[] = {
        {.account = ACCOUNT, .id = group, .vpc_id = id, .region = "us-east-1"},
        {.account = ACCOUNT, .id = second, .vpc_id = id, .region = "us-east-1"}};
    return row_put(pass->txn, &row_vpc_type, &vpc, err) &&
           row_put(pass->txn, &row_subnet_type, &subnet, err) &&
           row_put(pass->txn, &row_security_group_type, &groups[0], err) &&
           row_put(pass->txn, &row_security_group_type, &groups[1], err);
}

static bool
put_machine(struct pass *pass, void *ctx, struct err *err)
{
    const struct machine *m = ctx;
    struct arena *arena = txn_arena(pass->txn);
    const char *id = arena_printf(arena, "i-%s", m->name);
    const char *enis[] = {arena_printf(arena, "eni-%s", m->name)};
    const char *volume_id = arena_printf(arena, "vol-%s", m->name);
    const char *groups[] = {m->group};
    struct row_instance machine = {
        .account = ACCOUNT, .id = id, .region = "us-east-1", .want_state = "running",
        .generation = 1, .node_id = m->node, .vpc_id = m->vpc, .root_volume_id = volume_id,
        .subnet_id = arena_printf(arena, "subnet-%s", m->vpc), .eni_ids = {enis, 1}};
    struct row_volume volume = {.account = ACCOUNT, .id = volume_id, .size_gib = 1,
                                .node_id = m->node, .instance_id = id, .generation = 1};
    struct row_eni eni = {.account = ACCOUNT, .id = enis[0], .subnet_id = machine.subnet_id,
                          .vpc_id = m->vpc, .mac = "02:00:00:00:00:01",
                          .ipv4 = "10.0.0.5", .instance_id = id, .region = "us-east-1",
                          .group_ids = {groups, 1}};
    return row_put(pass->txn, &row_instance_type, &machine, err) &&
           row_put(pass->txn, &row_volume_type, &volume, err) &&
           row_put(pass->txn, &row_eni_type, &eni, err) &&
           interface_pass(pass, ACCOUNT, eni.id, err);
}

/* New rows wake a pass for each place; here, all places get one. */
static bool
look_at_places(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    struct row_list list;
    if (!row_list(pass->txn, &row_vpc_node_type, &(struct row_query){0}, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_vpc_node *place = list.rows[i];
        if (!place_pass(pass, place->vpc_id, place->node_id, err)) {
            return false;
        }
    }
    return true;
}

static void
launch(struct stage *s, const char *name, const char *at, const char *vpc)
{
    char group[32];
    snprintf(group, sizeof group, "sg-%s", vpc);
    struct machine m = {name, at, vpc, group};
    stage_run(s, put_machine, &m);
    stage_run(s, look_at_places, NULL);
}

static bool
take_machine(struct pass *pass, void *ctx, struct err *err)
{
    const char *name = ctx;
    struct arena *arena = txn_arena(pass->txn);
    const struct row_instance key = {.account = ACCOUNT,
                                     .id = arena_printf(arena, "i-%s", name)};
    const struct row_eni eni_key = {.account = ACCOUNT,
                                    .id = arena_printf(arena, "eni-%s", name)};
    const void *row, *eni, *vpc;
    if (!row_get(pass->txn, &row_instance_type, &key, &row, err) ||
        !row_get(pass->txn, &row_eni_type, &eni_key, &eni, err)) {
        return false;
    }
    struct row_instance over = *(const struct row_instance *)row;
    const struct row_vpc vpc_key = {.account = ACCOUNT, .id = over.vpc_id};
    over.terminated_at = 1;
    return row_put(pass->txn, &row_instance_type, &over, err) &&
           eni_remove(pass->txn, eni, err) &&
           row_get(pass->txn, &row_vpc_type, &vpc_key, &vpc, err) &&
           interface_pass(pass, ACCOUNT, eni_key.id, err) &&
           network_release(pass, over.node_id, vpc, err);
}

/* ---- what a node is told ---- */

struct question {
    const char *node;
    enum link_kind kind;
    const char *id; /* NULL: how many there are. */
    size_t count;
    struct link_neighbour neighbour;
};

static bool
count_wants(struct pass *pass, void *ctx, struct err *err)
{
    struct question *q = ctx;
    const struct row_node_want prefix = {.node_id = q->node, .kind = q->kind};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = q->kind ? 2 : 1};
    struct row_list list;
    q->count = 0;
    if (!row_list(pass->txn, &row_node_want_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_node_want *want = list.rows[i];
        bool matches = !want->deleted && (!q->id || str_eq(q->id, want->id));
        q->count += matches;
        if (matches && q->kind == LINK_NEIGHBOUR &&
            !tlv_decode(&link_neighbour_desc, want->body.data, want->body.len,
                        txn_arena(pass->txn), &q->neighbour, err)) {
            return false;
        }
    }
    return true;
}

static size_t
wants(struct stage *s, const char *at, enum link_kind kind, const char *id)
{
    struct question q = {.node = at, .kind = kind, .id = id};
    stage_run(s, count_wants, &q);
    return q.count;
}

static const char *
home_told(struct stage *s, const char *at, const char *eni)
{
    struct question q = {.node = at, .kind = LINK_NEIGHBOUR, .id = eni};
    stage_run(s, count_wants, &q);
    return q.count ? q.neighbour.node_address : "nowhere";
}

struct tally {
    const char *node;
    int64_t revision;
};

static bool
last_revision(struct pass *pass, void *ctx, struct err *err)
{
    struct tally *t = ctx;
    return txn_next(pass->txn, arena_printf(txn_arena(pass->txn), "want/%s", t->node),
                    &t->revision, err);
}

/* Changes that the node was told of since the last call. */
static int64_t
changes(struct stage *s, const char *at, int64_t *since)
{
    struct tally t = {.node = at};
    stage_run(s, last_revision, &t);
    int64_t count = t.revision - *since - 1;
    *since = t.revision;
    return count;
}

static void
two_nodes(struct stage *s)
{
    stage_open(s);
    node(s, A, "active", "192.168.0.1");
    node(s, B, "active", "192.168.0.2");
    stage_run(s, put_vpc, "vpc-1");
}

/* ---- tests ---- */

TEST(network_is_on_the_nodes_of_its_machines_only)
{
    struct stage s;
    two_nodes(&s);
    node(&s, C, "active", "192.168.0.3");
    launch(&s, "1", A, "vpc-1");
    launch(&s, "2", B, "vpc-1");
    CHECK_EQ(wants(&s, A, LINK_NETWORK, "vpc-1"), 1);
    CHECK_EQ(wants(&s, B, LINK_SUBNET, "subnet-vpc-1"), 1);
    CHECK_EQ(wants(&s, B, LINK_GROUP, NULL), 2);
    CHECK_EQ(wants(&s, C, LINK_NETWORK, NULL), 0);
    stage_run(&s, take_machine, "2");
    CHECK_EQ(wants(&s, B, LINK_NETWORK, NULL), 0);
    CHECK_EQ(wants(&s, B, LINK_GROUP, NULL), 0);
    CHECK_EQ(wants(&s, B, LINK_GROUP_MEMBER, NULL), 0);
    CHECK_EQ(wants(&s, A, LINK_NETWORK, "vpc-1"), 1);
    stage_close(&s);
}

TEST(interface_is_a_neighbour_where_it_is_not_at_home)
{
    struct stage s;
    two_nodes(&s);
    launch(&s, "1", A, "vpc-1");
    launch(&s, "2", B, "vpc-1");
    CHECK_STR(home_told(&s, A, "eni-2"), "192.168.0.2");
    CHECK_STR(home_told(&s, B, "eni-1"), "192.168.0.1");
    CHECK_STR(home_told(&s, A, "eni-1"), "nowhere");
    CHECK_EQ(wants(&s, A, LINK_GROUP_MEMBER, NULL), 2);
    launch(&s, "3", B, "vpc-1");
    stage_run(&s, take_machine, "2");
    CHECK_STR(home_told(&s, A, "eni-2"), "nowhere");
    CHECK_STR(home_told(&s, A, "eni-3"), "192.168.0.2");
    CHECK_EQ(wants(&s, A, LINK_GROUP_MEMBER, "eni-2.sg-vpc-1"), 0);
    CHECK_EQ(wants(&s, B, LINK_GROUP_MEMBER, NULL), 2);
    stage_close(&s);
}

TEST(launch_tells_a_node_of_one_interface_however_many_there_are)
{
    struct stage s;
    two_nodes(&s);
    launch(&s, "1", A, "vpc-1");
    char name[8];
    int64_t at_a = 0, first = 0;
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "n%d", i);
        launch(&s, name, B, "vpc-1");
        int64_t told = changes(&s, A, &at_a);
        CHECK(i == 0 || told == 2); /* A member, and a neighbour. */
        int64_t there = changes(&s, B, &first);
        CHECK(i == 0 || there == 5); /* A port, its metadata, a disk, a machine, a member. */
    }
    stage_close(&s);
}

static bool
change_groups(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_eni key = {.account = ACCOUNT, .id = "eni-1"};
    const char *groups[] = {"sg2-vpc-1"};
    const void *row;
    if (!row_get(pass->txn, &row_eni_type, &key, &row, err)) {
        return false;
    }
    struct row_eni next = *(const struct row_eni *)row;
    next.group_ids.items = groups;
    return eni_put(pass->txn, &next, err) && interface_pass(pass, ACCOUNT, "eni-1", err);
}

TEST(interface_that_changes_groups_is_a_member_of_the_new_ones_only)
{
    struct stage s;
    two_nodes(&s);
    launch(&s, "1", A, "vpc-1");
    launch(&s, "10", B, "vpc-1"); /* Its id begins with the other's. */
    stage_run(&s, change_groups, NULL);
    CHECK_EQ(wants(&s, B, LINK_GROUP_MEMBER, "eni-1.sg-vpc-1"), 0);
    CHECK_EQ(wants(&s, B, LINK_GROUP_MEMBER, "eni-1.sg2-vpc-1"), 1);
    CHECK_EQ(wants(&s, B, LINK_GROUP_MEMBER, "eni-10.sg-vpc-1"), 1);
    stage_close(&s);
}

TEST(node_without_underlay_has_no_neighbours_until_it_names_one)
{
    struct stage s;
    two_nodes(&s);
    node(&s, C, "active", NULL);
    launch(&s, "1", A, "vpc-1");
    launch(&s, "2", C, "vpc-1");
    CHECK_EQ(wants(&s, C, LINK_UNDERLAY, NULL), 0);
    CHECK_EQ(wants(&s, A, LINK_NEIGHBOUR, NULL), 0);
    CHECK_EQ(wants(&s, C, LINK_NEIGHBOUR, NULL), 0);
    node(&s, C, "active", "192.168.0.3");
    stage_run(&s, look_at_places, NULL);
    CHECK_EQ(wants(&s, C, LINK_UNDERLAY, NULL), 1);
    CHECK_STR(home_told(&s, A, "eni-2"), "192.168.0.3");
    CHECK_STR(home_told(&s, C, "eni-1"), "192.168.0.1");
    node(&s, C, "active", "192.168.0.4");
    CHECK_STR(home_told(&s, A, "eni-2"), "192.168.0.4");
    stage_close(&s);
}

TEST(node_that_is_revoked_is_nobodys_neighbour)
{
    struct stage s;
    two_nodes(&s);
    launch(&s, "1", A, "vpc-1");
    launch(&s, "2", B, "vpc-1");
    node(&s, B, "revoked", "192.168.0.2");
    CHECK_EQ(wants(&s, A, LINK_NEIGHBOUR, NULL), 0);
    CHECK_EQ(wants(&s, B, LINK_NETWORK, NULL), 0);
    CHECK_EQ(wants(&s, B, LINK_UNDERLAY, NULL), 0);
    launch(&s, "3", A, "vpc-1");
    CHECK_EQ(wants(&s, B, LINK_GROUP_MEMBER, NULL), 0);
    stage_close(&s);
}

static bool
move_machine(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_instance key = {.account = ACCOUNT, .id = "i-1"};
    const void *row;
    if (!row_get(pass->txn, &row_instance_type, &key, &row, err)) {
        return false;
    }
    struct row_instance next = *(const struct row_instance *)row;
    next.node_id = ctx;
    return row_put(pass->txn, &row_instance_type, &next, err) &&
           interface_tell(pass, ACCOUNT, "eni-1", err);
}

TEST(machine_that_moves_is_told_of_with_its_new_home)
{
    struct stage s;
    two_nodes(&s);
    node(&s, C, "active", "192.168.0.3");
    launch(&s, "1", A, "vpc-1");
    launch(&s, "2", B, "vpc-1");
    launch(&s, "3", C, "vpc-1");
    stage_run(&s, move_machine, B);
    CHECK_STR(home_told(&s, A, "eni-1"), "192.168.0.2");
    CHECK_STR(home_told(&s, B, "eni-1"), "nowhere");
    CHECK_STR(home_told(&s, C, "eni-1"), "192.168.0.2");
    stage_close(&s);
}

static bool
put_peering(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_vpc_peering row = {
        .account = ACCOUNT, .id = "pcx-1", .region = "us-east-1", .vpc_id = "vpc-1",
        .peer_account = ACCOUNT, .peer_region = "us-east-1", .peer_vpc_id = "vpc-2",
        .state = ctx};
    return row_put(pass->txn, &row_vpc_peering_type, &row, err) &&
           network_pass(pass, ACCOUNT, "vpc-1", err) &&
           network_pass(pass, ACCOUNT, "vpc-2", err);
}

static bool
put_peer_rule(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_security_group_rule rule = {
        .account = ACCOUNT, .id = "sgr-1", .group_id = "sg-vpc-2", .protocol = "-1",
        .peer_account = ACCOUNT, .peer_group = "sg-vpc-1", .region = "us-east-1",
        .vpc_id = "vpc-2"};
    return row_put(pass->txn, &row_security_group_rule_type, &rule, err) &&
           rule_pass(pass, ACCOUNT, "sgr-1", err);
}

TEST(peers_are_on_the_nodes_of_both)
{
    struct stage s;
    two_nodes(&s);
    stage_run(&s, put_vpc, "vpc-2");
    launch(&s, "1", A, "vpc-1");
    launch(&s, "2", B, "vpc-2");
    stage_run(&s, put_peering, "active");
    stage_run(&s, look_at_places, NULL);
    CHECK_EQ(wants(&s, A, LINK_NETWORK, NULL), 2);
    CHECK_EQ(wants(&s, B, LINK_NETWORK, NULL), 2);
    CHECK_EQ(wants(&s, A, LINK_PEERING, "pcx-1"), 1);
    CHECK_EQ(wants(&s, B, LINK_PEERING, "pcx-1"), 1);
    CHECK_STR(home_told(&s, A, "eni-2"), "192.168.0.2");

    /* One's group in the other's rule: its members, and those who join later. */
    stage_run(&s, put_peer_rule, NULL);
    CHECK_EQ(wants(&s, B, LINK_GROUP_MEMBER, "eni-1.sg-vpc-1.vpc-2"), 1);
    launch(&s, "3", A, "vpc-1");
    CHECK_EQ(wants(&s, B, LINK_GROUP_MEMBER, "eni-3.sg-vpc-1.vpc-2"), 1);
    stage_run(&s, take_machine, "3");
    CHECK_EQ(wants(&s, B, LINK_GROUP_MEMBER, "eni-3.sg-vpc-1.vpc-2"), 0);

    /* The last machine of one goes: the node needs neither. */
    stage_run(&s, take_machine, "2");
    CHECK_EQ(wants(&s, B, LINK_NETWORK, NULL), 0);
    CHECK_EQ(wants(&s, B, LINK_PEERING, NULL), 0);
    CHECK_EQ(wants(&s, A, LINK_NETWORK, NULL), 2);
    stage_run(&s, put_peering, "deleted");
    CHECK_EQ(wants(&s, A, LINK_NETWORK, NULL), 1);
    CHECK_EQ(wants(&s, A, LINK_PEERING, NULL), 0);
    stage_close(&s);
}

/* Machine 1 of vpc-1 has a public address, or (NULL) none, and a name by its id. */
static bool
name_machine(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_eni eni_key = {.account = ACCOUNT, .id = "eni-1"};
    const struct row_instance key = {.account = ACCOUNT, .id = "i-1"};
    const void *eni, *machine;
    if (!row_get(pass->txn, &row_eni_type, &eni_key, &eni, err) ||
        !row_get(pass->txn, &row_instance_type, &key, &machine, err)) {
        return false;
    }
    struct row_eni next = *(const struct row_eni *)eni;
    struct row_instance named = *(const struct row_instance *)machine;
    next.public_ip = ctx;
    named.dns_a = true;
    return row_put(pass->txn, &row_eni_type, &next, err) &&
           row_put(pass->txn, &row_instance_type, &named, err) &&
           interface_pass(pass, ACCOUNT, next.id, err);
}

static bool
let_names_out(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_vpc_peering key = {.account = ACCOUNT, .id = "pcx-1"};
    const void *row;
    if (!row_get(pass->txn, &row_vpc_peering_type, &key, &row, err)) {
        return false;
    }
    struct row_vpc_peering next = *(const struct row_vpc_peering *)row;
    next.requester_dns = true;
    return row_put(pass->txn, &row_vpc_peering_type, &next, err) &&
           network_pass(pass, ACCOUNT, "vpc-1", err) &&
           network_pass(pass, ACCOUNT, "vpc-2", err);
}

#define PUBLIC "eni-1.203.0.113.5"

/* Every node of the VPC knows a machine's names; of a peer's nodes those of public addresses, and
 * as the peer's own, once it lets them out. They follow the address. */
TEST(names_are_told_to_the_vpcs_nodes_and_to_peers_that_may)
{
    struct stage s;
    two_nodes(&s);
    stage_run(&s, put_vpc, "vpc-2");
    launch(&s, "1", A, "vpc-1");
    launch(&s, "2", B, "vpc-2");
    stage_run(&s, put_peering, "active");
    stage_run(&s, look_at_places, NULL);
    CHECK_EQ(wants(&s, A, LINK_NAME, NULL), 0);
    stage_run(&s, name_machine, "203.0.113.5");
    CHECK_EQ(wants(&s, A, LINK_NAME, "eni-1.resource"), 1);
    CHECK_EQ(wants(&s, A, LINK_NAME, PUBLIC), 1);
    CHECK_EQ(wants(&s, B, LINK_NAME, NULL), 2);
    stage_run(&s, let_names_out, NULL);
    CHECK_EQ(wants(&s, B, LINK_NAME, "pcx-1." PUBLIC), 1);
    CHECK_EQ(wants(&s, B, LINK_NAME, NULL), 3);
    stage_run(&s, look_at_places, NULL); /* Looks at all; the same comes of it. */
    CHECK_EQ(wants(&s, B, LINK_NAME, NULL), 3);
    stage_run(&s, name_machine, NULL);
    CHECK_EQ(wants(&s, A, LINK_NAME, "eni-1.resource"), 1);
    CHECK_EQ(wants(&s, B, LINK_NAME, NULL), 1);
    stage_run(&s, name_machine, "203.0.113.5");
    CHECK_EQ(wants(&s, B, LINK_NAME, NULL), 3);
    stage_run(&s, take_machine, "1");
    CHECK_EQ(wants(&s, A, LINK_NAME, NULL), 0);
    CHECK_EQ(wants(&s, B, LINK_NAME, NULL), 0);
    stage_close(&s);
}

static bool
put_nat(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_nat_gateway nat = {
        .account = ACCOUNT, .id = "nat-1", .vpc_id = "vpc-1", .subnet_id = "subnet-vpc-1",
        .state = "available", .eni_id = "eni-nat", .region = "us-east-1",
        .private_ip = "10.0.0.9", .public_ip = "203.0.113.9"};
    const struct row_eni eni = {.account = ACCOUNT, .id = "eni-nat", .vpc_id = "vpc-1",
                                .subnet_id = "subnet-vpc-1", .mac = "02:00:00:00:00:09",
                                .ipv4 = "10.0.0.9", .type = "nat_gateway",
                                .owner_id = "nat-1", .region = "us-east-1"};
    return row_put(pass->txn, &row_nat_gateway_type, &nat, err) &&
           row_put(pass->txn, &row_eni_type, &eni, err) &&
           network_pass(pass, ACCOUNT, "vpc-1", err);
}

static bool
end_nat(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_nat_gateway key = {.account = ACCOUNT, .id = "nat-1"};
    const struct row_vpc vpc = {.account = ACCOUNT, .id = "vpc-1"};
    const void *row;
    if (!row_get(pass->txn, &row_nat_gateway_type, &key, &row, err)) {
        return false;
    }
    struct row_nat_gateway next = *(const struct row_nat_gateway *)row;
    next.state = "deleted";
    return row_put(pass->txn, &row_nat_gateway_type, &next, err) &&
           network_release(pass, next.node_id, &vpc, err);
}

TEST(nat_gateway_is_at_home_on_one_node_and_moves_when_it_is_lost)
{
    struct stage s;
    two_nodes(&s);
    node(&s, C, "active", NULL);
    launch(&s, "3", C, "vpc-1"); /* No underlay, no home: each node does it by itself. */
    stage_run(&s, put_nat, NULL);
    CHECK_EQ(wants(&s, C, LINK_NAT_GATEWAY, "nat-1"), 1);
    CHECK_EQ(wants(&s, C, LINK_NEIGHBOUR, NULL), 0);
    launch(&s, "1", A, "vpc-1");
    launch(&s, "2", B, "vpc-1");
    CHECK_STR(home_told(&s, B, "eni-nat"), "192.168.0.1");
    CHECK_STR(home_told(&s, A, "eni-nat"), "nowhere");
    stage_run(&s, take_machine, "1"); /* It stays, and so does the VPC. */
    CHECK_STR(home_told(&s, B, "eni-nat"), "192.168.0.1");
    CHECK_EQ(wants(&s, A, LINK_NAT_GATEWAY, "nat-1"), 1);
    node(&s, A, "revoked", NULL);
    CHECK_STR(home_told(&s, B, "eni-nat"), "nowhere");
    stage_run(&s, take_machine, "2"); /* Its new home is B. */
    CHECK_EQ(wants(&s, B, LINK_NETWORK, "vpc-1"), 1);
    stage_run(&s, end_nat, NULL);
    CHECK_EQ(wants(&s, B, LINK_NETWORK, "vpc-1"), 0);
    stage_close(&s);
}

static bool
put_seen(struct pass *pass, void *ctx, struct err *err)
{
    return row_put(pass->txn, &row_node_seen_type, ctx, err);
}

static void
seen(struct stage *s, const char *id, bool connected)
{
    struct row_node_seen row = {.id = id, .connected = connected, .nat_leases = true};
    stage_run(s, put_seen, &row);
}

/* The lease that was granted last is not renewed. */
static bool
lose_lease(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_node_lease key = {.id = ctx};
    const void *row;
    if (!row_get(pass->txn, &row_node_lease_type, &key, &row, err)) {
        return false;
    }
    CHECK(row != NULL);
    return lease_lose(pass, ctx, ((const struct row_node_lease *)row)->serial, err) &&
           look_at_places(pass, NULL, err);
}

TEST(nat_gateway_of_a_node_that_lost_its_lease_is_done_by_another)
{
    struct stage s;
    two_nodes(&s);
    seen(&s, A, true);
    seen(&s, B, true);
    launch(&s, "1", A, "vpc-1");
    launch(&s, "2", B, "vpc-1");
    stage_run(&s, put_nat, NULL);
    CHECK_STR(home_told(&s, B, "eni-nat"), "192.168.0.1");
    seen(&s, A, false); /* A stream that ends says nothing of what the host does. */
    stage_run(&s, look_at_places, NULL);
    CHECK_STR(home_told(&s, B, "eni-nat"), "192.168.0.1");
    stage_run(&s, lose_lease, A);
    CHECK_STR(home_told(&s, A, "eni-nat"), "192.168.0.2");
    CHECK_STR(home_told(&s, B, "eni-nat"), "nowhere");
    seen(&s, A, true); /* It is back, and not at home, with a lease or without. */
    stage_run(&s, look_at_places, NULL);
    CHECK_STR(home_told(&s, A, "eni-nat"), "192.168.0.2");
    seen(&s, A, false);
    stage_run(&s, lose_lease, B); /* Nobody is there: it waits for B... */
    CHECK_STR(home_told(&s, A, "eni-nat"), "192.168.0.2");
    seen(&s, A, true); /* ...or for somebody. */
    stage_run(&s, look_at_places, NULL);
    CHECK_STR(home_told(&s, B, "eni-nat"), "192.168.0.1");
    stage_close(&s);
}

/* In the very pass that moves the gateway away; else nobody would tell it of changes. */
TEST(node_that_has_a_vpc_for_its_gateway_only_loses_both_at_once)
{
    struct stage s;
    two_nodes(&s);
    seen(&s, A, true);
    seen(&s, B, true);
    launch(&s, "1", A, "vpc-1");
    launch(&s, "2", B, "vpc-1");
    stage_run(&s, put_nat, NULL);
    stage_run(&s, take_machine, "1");
    CHECK_EQ(wants(&s, A, LINK_NAT_GATEWAY, "nat-1"), 1);
    seen(&s, A, false);
    stage_run(&s, lose_lease, A);
    CHECK_STR(home_told(&s, B, "eni-nat"), "nowhere");
    CHECK_EQ(wants(&s, A, LINK_NAT_GATEWAY, "nat-1"), 0);
    CHECK_EQ(wants(&s, A, LINK_NETWORK, "vpc-1"), 0);
    stage_close(&s);
}

static bool
drop_group(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_security_group key = {.account = ACCOUNT, .id = "sg2-vpc-1"};
    return row_delete(pass->txn, &row_security_group_type, &key, err) &&
           network_pass(pass, ACCOUNT, "vpc-1", err);
}

TEST(network_pass_takes_down_what_the_vpc_lost_and_no_members)
{
    struct stage s;
    two_nodes(&s);
    launch(&s, "1", A, "vpc-1");
    launch(&s, "2", B, "vpc-1");
    stage_run(&s, drop_group, NULL);
    CHECK_EQ(wants(&s, A, LINK_GROUP, "sg2-vpc-1"), 0);
    CHECK_EQ(wants(&s, A, LINK_GROUP_MEMBER, NULL), 2);
    CHECK_EQ(wants(&s, A, LINK_NEIGHBOUR, NULL), 1);
    stage_close(&s);
}
