/* test_uplinks.c - which uplinks nodes are told of, and which of a zone's addresses is whose. */
#include "stage.h"

#include "base/tlv.h"
#include "control/network_interface.h"
#include "control/uplinks.h"
#include "control/wants.h"
#include "core/uplink_rows.h"

#define ZONE "us-east-1a"
#define A "node-a"
#define B "node-b"
#define C "node-c"

static bool
put_node(struct pass *pass, void *ctx, struct err *err)
{
    return row_put(pass->txn, &row_node_type, ctx, err) &&
           uplinks_pass(pass, NULL, NULL, err);
}

static void
node(struct stage *s, const char *id, const char *state)
{
    struct row_node row = {
        .id = id, .region = "us-east-1", .zone = ZONE, .state = state};
    stage_run(s, put_node, &row);
}

static bool
put_uplink(struct pass *pass, void *ctx, struct err *err)
{
    return row_put(pass->txn, &row_uplink_type, ctx, err) &&
           uplinks_pass(pass, NULL, NULL, err);
}

static bool
drop_uplink(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_uplink key = {.id = ctx};
    return uplink_places_drop(pass->txn, ctx, err) &&
           row_delete(pass->txn, &row_uplink_type, &key, err) &&
           uplinks_pass(pass, NULL, NULL, err);
}

/* What a node was told of an uplink, and what is said of it there. */
struct told {
    const char *node_id, *uplink_id;
    bool wanted;
    struct link_uplink record;
    const struct row_uplink_seen *seen;
};

static bool
read_told(struct pass *pass, void *ctx, struct err *err)
{
    struct told *t = ctx;
    const struct row_node_want *want;
    const struct row_uplink_seen key = {.uplink_id = t->uplink_id,
                                        .node_id = t->node_id};
    if (!want_get(pass->txn, t->node_id, LINK_UPLINK, t->uplink_id, &want, err) ||
        !row_get(pass->txn, &row_uplink_seen_type, &key, (const void **)&t->seen,
                 err)) {
        return false;
    }
    t->wanted = want && !want->deleted;
    return !t->wanted || tlv_decode(&link_uplink_desc, want->body.data, want->body.len,
                                    txn_arena(pass->txn), &t->record, err);
}

static struct told
told(struct stage *s, const char *node_id, const char *uplink_id)
{
    struct told t = {.node_id = node_id, .uplink_id = uplink_id};
    stage_run(s, read_told, &t);
    return t;
}

static struct row_uplink
bridge(void)
{
    return (struct row_uplink){.id = "uplink-1",
                               .region = "us-east-1",
                               .zone = ZONE,
                               .mode = "bridge",
                               .link = "eth1",
                               .address = "192.0.2.254/23",
                               .router = "192.0.2.1",
                               .addresses = 2,
                               .address6 = "2001:db8::ffff/64",
                               .router6 = "fe80::1"};
}

/* Each node has the address of its place, in both families; who finds none is told of. */
TEST(uplinks_give_each_node_of_a_zone_an_address)
{
    struct stage s;
    struct row_uplink row = bridge();
    stage_open(&s);
    node(&s, A, "active");
    stage_run(&s, put_uplink, &row);
    node(&s, B, "active");
    node(&s, C, "active");
    struct told a = told(&s, A, "uplink-1"), b = told(&s, B, "uplink-1"),
                c = told(&s, C, "uplink-1");
    CHECK_STR(a.record.address, "192.0.2.254/23");
    CHECK_STR(a.record.address6, "2001:db8::ffff/64");
    CHECK_STR(b.record.address, "192.0.2.255/23");
    CHECK_STR(b.record.address6, "2001:db8::1:0/64");
    CHECK(!c.wanted && c.seen && str_eq(c.seen->state, "error"));
    CHECK(strstr(c.seen->message, "all of its 2 addresses"));
    /* A node that is gone makes room; the others keep what they have. */
    node(&s, A, "revoked");
    c = told(&s, C, "uplink-1");
    CHECK(c.wanted);
    CHECK_STR(c.record.address, "192.0.2.254/23");
    b = told(&s, B, "uplink-1");
    CHECK_STR(b.record.address, "192.0.2.255/23");
    stage_close(&s);
}

/* ---- overlay ---- */

static bool
put_joined(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_node row = {.id = ctx, .region = "us-east-1", .zone = ZONE,
                                 .state = "active",
                                 .underlay = str_eq(ctx, A) ? "10.9.0.1" : "10.9.0.2"};
    return row_put(pass->txn, &row_node_type, &row, err) &&
           uplinks_pass(pass, NULL, NULL, err);
}

struct placed {
    const char *node_id; /* NULL: it is nowhere. */
    const char *public_ip;
};

static bool
put_interface(struct pass *pass, void *ctx, struct err *err)
{
    const struct placed *p = ctx;
    const struct row_eni eni = {.account = "123456789012", .id = "eni-1", .vpc_id = "vpc-1",
                                .instance_id = "i-1", .ipv4 = "10.0.0.5",
                                .public_ip = p->public_ip, .region = "us-east-1"};
    const struct row_instance machine = {.account = "123456789012", .id = "i-1",
                                         .node_id = p->node_id, .vpc_id = "vpc-1"};
    return row_put(pass->txn, &row_eni_type, &eni, err) &&
           row_put(pass->txn, &row_instance_type, &machine, err) &&
           interface_tell(pass, eni.account, eni.id, err);
}

struct led {
    const char *node_id, *id, *to; /* 'to': an address and a node, or "nowhere". */
};

static bool
read_led(struct pass *pass, void *ctx, struct err *err)
{
    struct led *l = ctx;
    const struct row_node_want *want;
    struct link_public record;
    l->to = "nowhere";
    if (!want_get(pass->txn, l->node_id, LINK_PUBLIC, l->id, &want, err) || !want ||
        want->deleted) {
        return err->code == ERR_NONE;
    }
    if (!tlv_decode(&link_public_desc, want->body.data, want->body.len,
                    txn_arena(pass->txn), &record, err)) {
        return false;
    }
    CHECK_EQ(record.addresses.count, 1);
    l->to = arena_printf(txn_arena(pass->txn), "%s at %s", record.addresses.items[0],
                         record.node_address);
    return true;
}

static const char *
led(struct stage *s, const char *node_id, const char *id)
{
    struct led l = {.node_id = node_id, .id = id};
    stage_run(s, read_led, &l);
    return l.to;
}

/* Each other's own addresses, and the public ones that are at home there, as long as both have
 * the uplink. */
TEST(uplinks_of_mode_overlay_lead_public_addresses_between_nodes)
{
    struct stage s;
    struct row_uplink row = {.id = "uplink-1", .region = "us-east-1", .zone = ZONE,
                             .mode = UPLINK_OVERLAY_MODE, .vni = 77};
    struct row_uplink none = {.id = "uplink-2", .region = "us-east-1", .zone = ZONE,
                              .node_id = A, .mode = "none"};
    stage_open(&s);
    stage_run(&s, put_joined, A);
    stage_run(&s, put_interface, &(struct placed){A, "203.0.113.5"});
    CHECK_STR(led(&s, B, "eni-1"), "nowhere");
    stage_run(&s, put_uplink, &row);
    stage_run(&s, put_joined, B);
    node(&s, C, "active"); /* It names no underlay. */
    struct told a = told(&s, A, "uplink-1"), b = told(&s, B, "uplink-1");
    CHECK_EQ(a.record.vni, 77);
    CHECK(str_starts(a.record.address, "100.88.0.") && !str_eq(a.record.address, b.record.address));
    CHECK_STR(led(&s, B, "eni-1"), "203.0.113.5 at 10.9.0.1");
    CHECK_STR(led(&s, A, "eni-1"), "nowhere");
    CHECK_STR(led(&s, C, "eni-1"), "nowhere");
    CHECK(strstr(led(&s, B, A), " at 10.9.0.1") && strstr(led(&s, A, B), " at 10.9.0.2"));
    stage_run(&s, put_interface, &(struct placed){B, "203.0.113.5"}); /* It moves. */
    CHECK_STR(led(&s, A, "eni-1"), "203.0.113.5 at 10.9.0.2");
    CHECK_STR(led(&s, B, "eni-1"), "nowhere");
    stage_run(&s, put_interface, &(struct placed){B, NULL});
    CHECK_STR(led(&s, A, "eni-1"), "nowhere");
    stage_run(&s, put_interface, &(struct placed){B, "203.0.113.6"});
    CHECK_STR(led(&s, A, "eni-1"), "203.0.113.6 at 10.9.0.2");
    stage_run(&s, put_uplink, &none); /* A has its own now, which is nothing. */
    CHECK_STR(led(&s, A, "eni-1"), "nowhere");
    CHECK_STR(led(&s, A, B), "nowhere");
    CHECK_STR(led(&s, B, A), "nowhere");
    stage_run(&s, drop_uplink, "uplink-2");
    CHECK_STR(led(&s, A, "eni-1"), "203.0.113.6 at 10.9.0.2");
    stage_run(&s, drop_uplink, "uplink-1");
    CHECK_STR(led(&s, A, "eni-1"), "nowhere");
    CHECK_STR(led(&s, B, A), "nowhere");
    stage_close(&s);
}

/* A node's own takes the place of its zone's, which has the address back. */
TEST(uplinks_of_a_node_come_first_and_lent_ones_beside)
{
    struct stage s;
    struct row_uplink row = bridge();
    struct row_uplink own = {
        .id = "uplink-2", .zone = ZONE, .node_id = A, .mode = "nat", .link = "eth2"};
    struct row_uplink lent = {.id = "uplink-3",
                              .zone = ZONE,
                              .mode = UPLINK_PASSTHROUGH_MODE,
                              .link = "eth3",
                              .account = "123456789012",
                              .unfiltered = true};
    stage_open(&s);
    node(&s, A, "active");
    node(&s, B, "active");
    stage_run(&s, put_uplink, &row);
    stage_run(&s, put_uplink, &lent);
    stage_run(&s, put_uplink, &own);
    CHECK(!told(&s, A, "uplink-1").wanted && told(&s, A, "uplink-2").wanted);
    CHECK(told(&s, B, "uplink-1").wanted && !told(&s, B, "uplink-2").wanted);
    CHECK(told(&s, A, "uplink-3").wanted && told(&s, B, "uplink-3").record.unfiltered);
    node(&s, C, "active");
    CHECK_STR(told(&s, C, "uplink-1").record.address, "192.0.2.254/23");
    stage_run(&s, drop_uplink, (void *)(uintptr_t) "uplink-2");
    struct told a = told(&s, A, "uplink-1"); /* B and C have the two there are. */
    CHECK(!a.wanted && a.seen);
    stage_run(&s, drop_uplink, (void *)(uintptr_t) "uplink-3");
    CHECK(!told(&s, A, "uplink-3").wanted && !told(&s, B, "uplink-3").wanted);
    stage_close(&s);
}
