/* test_reach.c - where a network is, where interfaces are lent, and where machines then go. */
#include "base/file.h"
#include "core/places.h"
#include "core/reach.h"
#include "core/uplink_rows.h"
#include "test.h"

#define ACCOUNT "111122223333"
#define REGION "us-east-1"
#define ZONE "us-east-1a"

static const struct cloud_config config = {.cpu_overcommit = 1, .memory_overcommit = 1};

struct lab {
    char dir[64];
    struct store *store;
    struct arena *arena;
};

static void
lab_init(struct lab *lab)
{
    struct err err;
    err_clear(&err);
    static uint8_t key[32];
    *lab = (struct lab){.dir = "/tmp/moln-reach-XXXXXX", .arena = arena_create()};
    CHECK(mkdtemp(lab->dir) != NULL);
    const struct store_config how = {
        .url = arena_printf(lab->arena, "sqlite:%s/t.db", lab->dir),
        .types = row_types,
        .type_count = ROW_TYPES,
        .master_key = key,
        .rng = &rng_system,
        .clock = &clock_system};
    lab->store = store_open(&how, &err);
    CHECK_OK(lab->store, &err);
}

static void
lab_fini(struct lab *lab)
{
    struct err err;
    store_close(lab->store);
    arena_destroy(lab->arena);
    CHECK_OK(dir_remove(lab->dir, &err), &err);
}

static void
run(struct lab *lab, txn_fn *fn, void *ctx)
{
    struct err err;
    err_clear(&err);
    CHECK_OK(store_write(lab->store, lab->arena, fn, ctx, &err), &err);
}

/* ---- rows ---- */

struct host {
    const char *id, *underlay;
};

static bool
put_host(struct txn *txn, void *ctx, struct err *err)
{
    const struct host *h = ctx;
    const struct row_node node = {.id = h->id, .region = REGION, .zone = ZONE,
                                  .state = "active", .underlay = h->underlay};
    const struct row_node_seen seen = {.id = h->id, .vcpus = 4, .memory_bytes = 8 * (int64_t)GIB,
                                       .pool_bytes = 100, .pool_free_bytes = 50,
                                       .connected = true};
    return row_put(txn, &row_node_type, &node, err) &&
           row_put(txn, &row_node_seen_type, &seen, err);
}

struct machine {
    const char *id, *node, *vpc, *eni;
};

static bool
put_machine(struct txn *txn, void *ctx, struct err *err)
{
    struct machine *m = ctx;
    const struct row_instance inst = {.account = ACCOUNT, .id = m->id, .region = REGION,
                                      .zone = ZONE, .node_id = m->node, .vpc_id = m->vpc,
                                      .eni_ids = {&m->eni, m->eni ? 1 : 0}};
    return row_put(txn, &row_instance_type, &inst, err);
}

struct question {
    const char *vpc, *but;
    struct placement_reach reach;
};

static bool
ask_reach(struct txn *txn, void *ctx, struct err *err)
{
    struct question *q = ctx;
    return reach_of_network(txn, q->vpc, q->but, &q->reach, err);
}

static struct placement_reach
reach(struct lab *lab, const char *vpc, const char *but)
{
    struct question q = {.vpc = vpc, .but = but};
    run(lab, ask_reach, &q);
    return q.reach;
}

struct wish {
    const char *vpc;
    int64_t cards;
    size_t want;
    struct places_found found;
    struct buf why;
};

static bool
find_places(struct txn *txn, void *ctx, struct err *err)
{
    static const struct place_terms terms = {.tenancy = "default"};
    struct wish *w = ctx;
    const struct place_want want = {.account = ACCOUNT, .region = REGION, .zone = ZONE,
                                    .terms = &terms, .vcpus = 1,
                                    .memory_bytes = (int64_t)GIB, .disk_bytes = 1,
                                    .vpc_id = w->vpc, .lent_cards = w->cards,
                                    .count = w->want};
    return places_find(NULL, txn, &config, &want, &w->found, err) &&
           pool_explain(NULL, txn, &config, &w->found.ask, 0, &w->why, err);
}

/* How many found a place; '*last' is the last one's node, '*why' what explain says. */
static size_t
places(struct lab *lab, const char *vpc, int64_t cards, size_t want, char last[32],
       char why[256])
{
    struct wish w = {.vpc = vpc, .cards = cards, .want = want};
    run(lab, find_places, &w);
    snprintf(last, 32, "%s", w.found.count ? w.found.picks[w.found.count - 1].node_id : "");
    snprintf(why, 256, "%s", buf_str(&w.why));
    buf_fini(&w.why);
    return w.found.count;
}

/* ---- networks ---- */

TEST(reach_tells_where_a_network_is_whatever_it_has)
{
    struct lab lab;
    lab_init(&lab);
    run(&lab, put_host, &(struct host){"node-a", NULL});
    run(&lab, put_host, &(struct host){"node-b", "10.0.0.2"});
    CHECK(!reach(&lab, "vpc-1", NULL).host);
    run(&lab, put_machine, &(struct machine){"i-1", "node-b", "vpc-1", NULL});
    run(&lab, put_machine, &(struct machine){"i-2", "node-b", "vpc-1", NULL});
    run(&lab, put_machine, &(struct machine){"i-3", "node-a", "vpc-2", NULL});
    run(&lab, put_machine, &(struct machine){"i-4", NULL, "vpc-1", NULL});
    struct placement_reach r = reach(&lab, "vpc-1", NULL);
    CHECK_STR(r.host, "node-b");
    CHECK(r.joined && !r.many);
    CHECK(!reach(&lab, "vpc-2", "i-3").host); /* It is itself no reason to stay. */
    CHECK_STR(reach(&lab, "vpc-1", "i-1").host, "node-b");
    run(&lab, put_machine, &(struct machine){"i-5", "node-a", "vpc-1", NULL});
    r = reach(&lab, "vpc-1", NULL);
    CHECK_STR(r.host, "node-a");
    CHECK(!r.joined && r.many);
    CHECK(!reach(&lab, "vpc-1", "i-5").many);
    lab_fini(&lab);
}

TEST(places_of_a_network_are_on_hosts_that_reach_each_other)
{
    struct lab lab;
    char last[32], why[256];
    lab_init(&lab);
    run(&lab, put_host, &(struct host){"node-a", NULL});
    run(&lab, put_host, &(struct host){"node-b", NULL});
    /* Of a new one all that one host takes, and no more. */
    CHECK_EQ(places(&lab, NULL, 0, 6, last, why), 6);
    CHECK_EQ(places(&lab, "vpc-1", 0, 6, last, why), 4);
    run(&lab, put_machine, &(struct machine){"i-1", "node-b", "vpc-1", NULL});
    CHECK_EQ(places(&lab, "vpc-1", 0, 6, last, why), 4);
    CHECK_STR(last, "node-b");
    CHECK(strstr(why, "1 would take it, 1 without an underlay to the other hosts"));
    /* With underlays it spreads, but never to a host without one. */
    run(&lab, put_host, &(struct host){"node-b", "10.0.0.2"});
    run(&lab, put_host, &(struct host){"node-c", "10.0.0.3"});
    CHECK_EQ(places(&lab, "vpc-1", 0, 12, last, why), 8);
    run(&lab, put_machine, &(struct machine){"i-2", "node-c", "vpc-1", NULL});
    CHECK_EQ(places(&lab, "vpc-1", 0, 12, last, why), 8);
    lab_fini(&lab);
}

/* ---- interfaces lent ---- */

struct lending {
    const char *uplink, *node, *device, *state;
    int64_t functions;
};

static bool
lend(struct txn *txn, void *ctx, struct err *err)
{
    const struct lending *l = ctx;
    const struct row_uplink uplink = {.id = l->uplink, .region = REGION, .zone = ZONE,
                                      .node_id = l->node, .account = ACCOUNT,
                                      .mode = UPLINK_PASSTHROUGH_MODE, .device = l->device};
    const struct row_uplink_seen seen = {.uplink_id = l->uplink, .node_id = l->node,
                                         .state = l->state, .functions = l->functions};
    return row_put(txn, &row_uplink_type, &uplink, err) &&
           row_put(txn, &row_uplink_seen_type, &seen, err);
}

/* A machine with a local network interface. */
static bool
put_carded(struct txn *txn, void *ctx, struct err *err)
{
    const struct machine *m = ctx;
    const struct row_eni eni = {.account = ACCOUNT, .id = m->eni, .subnet_id = "subnet-1",
                                .instance_id = m->id, .device_index = 1};
    const struct row_subnet subnet = {.account = ACCOUNT, .id = "subnet-1", .region = REGION,
                                      .zone = ZONE, .lni_index = 1};
    return put_machine(txn, ctx, err) && row_put(txn, &row_eni_type, &eni, err) &&
           row_put(txn, &row_subnet_type, &subnet, err);
}

TEST(places_for_local_network_interfaces_are_where_one_is_free)
{
    struct lab lab;
    char last[32], why[256];
    lab_init(&lab);
    run(&lab, put_host, &(struct host){"node-a", NULL});
    run(&lab, put_host, &(struct host){"node-b", NULL});
    CHECK_EQ(places(&lab, NULL, 1, 2, last, why), 0);
    CHECK(strstr(why, "2 without a free interface that is lent to the account"));
    run(&lab, lend, &(struct lending){"uplink-1", "node-b", NULL, "error", 0});
    CHECK_EQ(places(&lab, NULL, 1, 2, last, why), 0); /* It is not up there. */
    run(&lab, lend, &(struct lending){"uplink-1", "node-b", NULL, "ready", 0});
    CHECK_EQ(places(&lab, NULL, 1, 9, last, why), 4); /* As many as the host takes. */
    CHECK_STR(last, "node-b");
    run(&lab, lend, &(struct lending){"uplink-1", "node-b", "vfio", "ready", 3});
    CHECK_EQ(places(&lab, NULL, 1, 9, last, why), 3);
    CHECK_EQ(places(&lab, NULL, 2, 9, last, why), 1);
    run(&lab, put_carded, &(struct machine){"i-1", "node-b", "vpc-1", "eni-1"});
    CHECK_EQ(places(&lab, NULL, 1, 9, last, why), 2);
    CHECK_EQ(places(&lab, NULL, 0, 9, last, why), 8); /* Who needs none goes anywhere. */
    lab_fini(&lab);
}
