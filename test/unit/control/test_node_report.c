/* test_node_report.c - what a node says of itself, and whether it still is who was
 * accepted. */
#include "control/node_report.h"
#include "control/reports.h"
#include "stage.h"

#define NODE "node-0123456789abcdef0"
#define GIBS(n) ((n) * (int64_t)GIB)

static struct link_node_seen
host(int64_t vcpus, int64_t gib, const char *model)
{
    return (struct link_node_seen){.boot_id = "b",
                                   .version = "1",
                                   .vcpus = vcpus,
                                   .memory_bytes = GIBS(gib),
                                   .pool_bytes = 100,
                                   .pool_free_bytes = 50,
                                   .accel = "kvm",
                                   .cpu_model = model,
                                   .hostname = "n1"};
}

static bool
do_node(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_node *like = ctx;
    struct row_node row = *like;
    row.id = NODE;
    row.region = "us-east-1";
    row.zone = "us-east-1a";
    row.state = "active";
    return row_put(pass->txn, &row_node_type, &row, err);
}

static bool
do_report(struct pass *pass, void *ctx, struct err *err)
{
    pass->now_ns++; /* Each report has a moment of its own. */
    return report_apply(pass, NODE, LINK_NODE, ctx, 0, "e", err);
}

struct now {
    const struct row_node *node;
    const struct row_node_seen *seen;
    const struct row_node_hardware *hardware;
    size_t events;
    const char *kind; /* Of the last event. */
};

static bool
do_look(struct pass *pass, void *ctx, struct err *err)
{
    struct now *now = ctx;
    const struct row_node node = {.id = NODE};
    const struct row_node_seen seen = {.id = NODE};
    const struct row_node_hardware hardware = {.id = NODE};
    const struct row_node_event prefix = {.node_id = NODE};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 1};
    struct row_list list;
    if (!row_get(pass->txn, &row_node_type, &node, (const void **)&now->node, err) ||
        !row_get(pass->txn, &row_node_seen_type, &seen, (const void **)&now->seen,
                 err) ||
        !row_get(pass->txn, &row_node_hardware_type, &hardware,
                 (const void **)&now->hardware, err) ||
        !row_list(pass->txn, &row_node_event_type, &query, &list, err)) {
        return false;
    }
    now->events = list.count;
    now->kind = list.count
                    ? ((const struct row_node_event *)list.rows[list.count - 1])->kind
                    : NULL;
    return true;
}

static struct now
look(struct stage *s)
{
    struct now now = {0};
    stage_run(s, do_look, &now);
    return now;
}

static void
report(struct stage *s, struct link_node_seen r)
{
    s->now_ns += NS_PER_S;
    stage_run(s, do_report, &r);
}

static void
joined(struct stage *s, struct row_node like)
{
    stage_open(s);
    stage_run(s, do_node, &like);
}

TEST(node_report_accepts_the_first_hardware_and_what_is_nearly_the_same)
{
    struct stage s;
    joined(&s, (struct row_node){0});
    report(&s, host(8, 64, "EPYC"));
    report(&s, host(8, 62, "EPYC")); /* Another kernel keeps more for itself. */
    const struct now now = look(&s);
    CHECK_EQ(now.node->hw_vcpus, 8);
    CHECK(str_empty(now.node->quarantine));
    CHECK_EQ(now.events, 0);
    stage_close(&s);
}

TEST(node_report_quarantines_changed_hardware_until_it_is_as_before)
{
    struct stage s;
    joined(&s, (struct row_node){0});
    report(&s, host(8, 64, "EPYC"));
    const struct link_node_seen others[] = {host(16, 64, "EPYC"), host(8, 32, "EPYC"),
                                            host(8, 64, "Xeon"), host(4, 64, "EPYC")};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        report(&s, others[i]);
        report(&s, others[i]); /* Said again, it is no news. */
        struct now now = look(&s);
        CHECK(!str_empty(now.node->quarantine));
        CHECK_STR(now.kind, "quarantine");
        CHECK_EQ(now.events, 2 * i + 1);
        report(&s, host(8, 64, "EPYC"));
        now = look(&s);
        CHECK(str_empty(now.node->quarantine));
        CHECK_EQ(now.events, 2 * i + 2);
    }
    stage_close(&s);
}

TEST(node_report_takes_the_local_hosts_change_as_its_operators)
{
    struct stage s;
    joined(&s, (struct row_node){.local = true});
    report(&s, host(8, 64, "EPYC"));
    report(&s, host(16, 64, "EPYC"));
    const struct now now = look(&s);
    CHECK(str_empty(now.node->quarantine));
    CHECK_EQ(now.node->hw_vcpus, 16);
    CHECK_STR(now.kind, "hardware");
    stage_close(&s);
}

TEST(node_report_notes_what_is_above_the_ceiling_once)
{
    struct stage s;
    joined(&s, (struct row_node){.ceiling_vcpus = 4, .ceiling_memory_bytes = GIBS(64)});
    report(&s, host(8, 64, "EPYC"));
    report(&s, host(8, 64, "EPYC"));
    const struct now now = look(&s);
    CHECK_EQ(now.events, 1);
    CHECK_STR(now.kind, "ceiling");
    CHECK(str_empty(now.node->quarantine));
    stage_close(&s);
}

/* A stranger's numbers: nothing that adds them up may overflow. */
static bool
do_neighbour(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_node row = {.id = "node-0123456789abcdef1",
                                 .region = "us-east-1",
                                 .zone = "us-east-1a",
                                 .state = "active",
                                 .underlay = ctx};
    return row_put(pass->txn, &row_node_type, &row, err);
}

/* Frames for one of the two would reach the other. */
TEST(node_report_tells_of_an_underlay_that_another_node_has)
{
    struct stage s;
    struct link_node_seen r = host(4, 8, "cpu");
    joined(&s, (struct row_node){0});
    stage_run(&s, do_neighbour, (void *)(uintptr_t) "192.0.2.7");
    r.underlay = "192.0.2.7";
    report(&s, r);
    report(&s, r);
    struct now now = look(&s);
    CHECK(str_empty(now.node->underlay));
    CHECK_EQ(now.events, 1);
    CHECK_STR(now.kind, "underlay");
    r.underlay = "192.0.2.8";
    report(&s, r);
    now = look(&s);
    CHECK_STR(now.node->underlay, "192.0.2.8");
    CHECK_EQ(now.events, 1);
    stage_close(&s);
}

TEST(node_report_bounds_what_it_is_told)
{
    struct stage s;
    struct link_node_seen liar = host(INT64_MAX, 1, "x");
    const char *features[] = {"gpu", "", "two words", "a'b", NULL};
    features[4] = "0123456789012345678901234567890123456789";
    liar.memory_bytes = liar.swap_bytes = liar.pool_free_bytes = INT64_MAX;
    liar.speed = INT64_MIN;
    liar.features.items = features;
    liar.features.count = ARRAY_LEN(features);
    joined(&s, (struct row_node){0});
    report(&s, liar);
    const struct now now = look(&s);
    CHECK(now.seen->memory_bytes + now.seen->swap_bytes < INT64_C(1) << 54);
    CHECK_EQ(now.seen->vcpus, 1 << 16);
    CHECK_EQ(now.seen->speed, 0);
    CHECK_EQ(now.seen->features.count, 1);
    stage_close(&s);
}

TEST(node_report_keeps_hardware_and_writes_it_only_when_it_changed)
{
    struct stage s;
    struct link_hw_disk disks[300] = {{.name = "sda", .size_bytes = GIBS(1)}};
    struct link_hardware hardware = {.cores = 4, .sockets = 1};
    struct link_node_seen r = host(8, 64, "EPYC");
    hardware.disks.items = disks;
    hardware.disks.count = 300;
    r.hardware = &hardware;
    joined(&s, (struct row_node){0});
    report(&s, r);
    struct now now = look(&s);
    int64_t first = now.hardware->at;
    CHECK_EQ(now.hardware->disks.count, 256);
    CHECK_STR(now.hardware->disks.items[0].name, "sda");
    CHECK_EQ(now.seen->cores, 4);
    report(&s, r);
    now = look(&s);
    CHECK_EQ(now.hardware->at, first);
    disks[0].size_bytes = GIBS(2);
    report(&s, r);
    now = look(&s);
    CHECK(now.hardware->at > first);
    stage_close(&s);
}

/* What placement asks of it: the size of the largest NUMA node of several, and the most that
 * its processors drew. */
TEST(node_report_keeps_the_largest_numa_node_and_the_highest_draw)
{
    struct stage s;
    struct link_hw_numa numa[] = {
        {.number = 0, .cpus = "0-7,16-23", .memory_bytes = GIBS(31)},
        {.number = 1, .cpus = "8-15,24-31", .memory_bytes = GIBS(32)},
        {.number = 2, .cpus = "", .memory_bytes = GIBS(512)}, /* Memory alone. */
    };
    struct link_hardware hardware = {.cores = 16, .numa = {numa, 3}};
    struct link_node_seen r = host(32, 575, "EPYC");
    r.hardware = &hardware;
    r.watts = 90;
    joined(&s, (struct row_node){0});
    report(&s, r);
    CHECK_EQ(look(&s).seen->numa_vcpus, 16);
    CHECK_EQ(look(&s).seen->numa_memory_bytes, GIBS(32));
    r.watts = 60;
    report(&s, r);
    CHECK_EQ(look(&s).seen->peak_watts, 90);
    hardware.numa.count = 1; /* All of it is one: nothing can be on the wrong side. */
    report(&s, r);
    CHECK_EQ(look(&s).seen->numa_vcpus, 0);
    numa[1].cpus = "7-3,-9--2,a,,"; /* No list. */
    hardware.numa.count = 2;
    report(&s, r);
    CHECK(look(&s).seen->numa_vcpus <= 16);
    stage_close(&s);
}

TEST(node_report_of_a_removed_node_writes_nothing)
{
    struct stage s;
    stage_open(&s);
    report(&s, host(8, 64, "EPYC"));
    const struct now now = look(&s);
    CHECK_NULL(now.node);
    CHECK_NULL(now.seen);
    stage_close(&s);
}

/* What it names, other hosts connect to. */
TEST(node_report_takes_no_underlay_that_is_no_other_hosts)
{
    static const char *const bad[] = {"127.0.0.1",  "0.0.0.0",     "169.254.169.254",
                                      "224.0.0.1",  "10.0.0",      "255.255.255.255",
                                      "10.7.0.300", "host.example"};
    struct stage s;
    joined(&s, (struct row_node){0});
    struct link_node_seen r = host(8, 64, "EPYC");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        r.underlay = "10.7.0.1";
        report(&s, r);
        CHECK_STR(look(&s).node->underlay, "10.7.0.1");
        r.underlay = bad[i];
        report(&s, r);
        CHECK(str_empty(look(&s).node->underlay));
    }
    stage_close(&s);
}

TEST(node_report_takes_an_underlay_of_the_networks_that_the_operator_names)
{
    static const struct cidr networks[] = {{0x0a070000u, 24}, {0xc0a80100u, 24}};
    struct stage s;
    joined(&s, (struct row_node){0});
    s.config.underlays = networks;
    s.config.underlay_count = ARRAY_LEN(networks);
    struct link_node_seen r = host(8, 64, "EPYC");
    r.underlay = "10.7.0.1";
    report(&s, r);
    CHECK_STR(look(&s).node->underlay, "10.7.0.1");
    r.underlay = "192.168.1.7";
    report(&s, r);
    CHECK_STR(look(&s).node->underlay, "192.168.1.7");
    r.underlay = "10.7.1.1";
    report(&s, r);
    CHECK(str_empty(look(&s).node->underlay));
    stage_close(&s);
}
