/* test_placement.c - which host takes which machine, why others do not, and the index
 * that finds it. */
#include "core/placement_index.h"
#include "test.h"

#define GIBS(n) ((n) * (int64_t)GIB)

static const struct placement_rules plain = {{{1, 1}, {1, 1}}, 0};

static const struct row_node a_node = {
    .id = "node-a", .region = "r", .zone = "z", .state = "active"};
static const struct row_node_seen a_seen = {.vcpus = 4,
                                            .memory_bytes = GIBS(8),
                                            .pool_bytes = 100,
                                            .pool_free_bytes = 50,
                                            .connected = true};

static struct placement_host
host_of(const struct row_node *node, const struct row_node_seen *seen)
{
    const struct placement_rows rows = {.node = node, .seen = seen};
    return placement_host_of(&rows, &plain);
}

static const struct placement_ask small = {
    .region = "r",
    .account = "111122223333",
    .claim = {.vcpus = 1, .memory_bytes = GIBS(1), .disk_bytes = 1, .machines = 1}};

/* ---- one host ---- */

TEST(placement_ceiling_is_what_was_measured_within_the_operators_limit)
{
    struct row_node node = a_node;
    const struct placement_rules much = {{{8, 1}, {2, 1}}, 0};
    struct placement_rows rows = {.node = &node, .seen = &a_seen};
    CHECK_EQ(placement_ceiling(&rows, &much).vcpus, 32);
    node.ceiling_vcpus = 6;
    node.ceiling_memory_bytes = GIBS(100);
    CHECK_EQ(placement_ceiling(&rows, &much).vcpus, 6);
    CHECK_EQ(placement_ceiling(&rows, &much).memory_bytes, GIBS(8));
    struct row_node_seen kvm = a_seen;
    kvm.accel = "kvm";
    rows.seen = &kvm;
    node.ceiling_vcpus = 0;
    CHECK_EQ(placement_ceiling(&rows, &much).vcpus, 8);
}

/* The kernel and the agents need some too, and never their guests' part. */
TEST(placement_ceiling_leaves_the_host_its_own_memory)
{
    struct row_node_seen seen = a_seen;
    const struct placement_rules rules = {{{1, 1}, {1, 1}}, 512 * (int64_t)MIB};
    struct placement_rows rows = {.node = &a_node, .seen = &seen};
    CHECK_EQ(placement_ceiling(&rows, &rules).memory_bytes,
             GIBS(8) - 512 * (int64_t)MIB);
    seen.memory_bytes = GIBS(1);
    CHECK_EQ(placement_ceiling(&rows, &rules).memory_bytes, 960 * (int64_t)MIB);
    seen.swap_bytes = 16 * (int64_t)MIB; /* What is paged out may be the host's. */
    CHECK_EQ(placement_ceiling(&rows, &rules).memory_bytes, 976 * (int64_t)MIB);
    seen.swap_bytes = GIBS(4);
    CHECK_EQ(placement_ceiling(&rows, &rules).memory_bytes, GIBS(1));
}

/* Promised memory can always be had. */
TEST(placement_ceiling_promises_memory_beyond_the_real_only_as_swap_covers_it)
{
    struct row_node_seen seen = a_seen;
    const struct placement_rules half_more = {{{1, 1.5}, {1, 1.5}}, 0};
    struct placement_rows rows = {.node = &a_node, .seen = &seen};
    CHECK_EQ(placement_ceiling(&rows, &half_more).memory_bytes, GIBS(8));
    seen.swap_bytes = GIBS(2);
    CHECK_EQ(placement_ceiling(&rows, &half_more).memory_bytes, GIBS(10));
    seen.swap_bytes = GIBS(64);
    CHECK_EQ(placement_ceiling(&rows, &half_more).memory_bytes, GIBS(12));
}

/* An emulated guest's process is larger than one that the processor runs. */
TEST(placement_claim_counts_the_emulator_as_the_host_runs_guests)
{
    struct placement_ask ask = small;
    ask.overhead_bytes[PLACEMENT_KVM] = GIBS(1);
    ask.overhead_bytes[PLACEMENT_TCG] = GIBS(7);
    CHECK_EQ(placement_claim(PLACEMENT_TCG, &ask).memory_bytes, GIBS(8));
    CHECK_EQ(placement_claim(PLACEMENT_KVM, &ask).memory_bytes, GIBS(2));
    struct placement_host host = host_of(&a_node, &a_seen);
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_FITS);
    ask.overhead_bytes[PLACEMENT_TCG]++;
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_MEMORY);
}

TEST(placement_why_names_what_closes_a_host)
{
    struct row_node node = a_node;
    struct row_node_seen seen = a_seen;
    struct placement_host host = host_of(&node, NULL);
    CHECK_EQ(placement_why(&host, &small), PLACEMENT_AWAY);
    seen.connected = false;
    host = host_of(&node, &seen);
    CHECK_EQ(placement_why(&host, &small), PLACEMENT_AWAY);
    seen.connected = true;
    seen.pool_free_bytes = 0;
    host = host_of(&node, &seen);
    CHECK_EQ(placement_why(&host, &small), PLACEMENT_POOL_FULL);
    seen.unfit = "memory";
    host = host_of(&node, &seen);
    CHECK_EQ(placement_why(&host, &small), PLACEMENT_UNFIT);
    node.cordoned = true;
    host = host_of(&node, &seen);
    CHECK_EQ(placement_why(&host, &small), PLACEMENT_CORDONED);
    node.quarantine = "8 vCPUs were 4";
    host = host_of(&node, &seen);
    CHECK_EQ(placement_why(&host, &small), PLACEMENT_QUARANTINED);
    node.state = "revoked";
    host = host_of(&node, &seen);
    CHECK_EQ(placement_why(&host, &small), PLACEMENT_REVOKED);
}

TEST(placement_why_knows_zones_groups_segments_and_features)
{
    struct placement_host host = host_of(&a_node, &a_seen);
    struct placement_ask ask = small;
    const char *words[] = {"node-x", "rack-7"};
    ask.zone = "y";
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_OTHER);
    ask.zone = "z";
    ask.among = (struct placement_words){words, 1};
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_OTHER);
    ask.among.count = 0;
    ask.avoid = (struct placement_words){words, 2};
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_FITS);
    host.rack = "rack-7";
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_GROUP);
    ask.avoid.count = 0;
    ask.segment = "s1";
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_SEGMENT);
    ask.segment = NULL;
    const char *gpu = "gpu";
    ask.features = (struct placement_words){&gpu, 1};
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_FEATURE);
    host.features = ask.features;
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_FITS);
}

/* Emulated hosts promise shares, not speed. */
TEST(placement_why_refuses_real_processors_slower_than_promised)
{
    struct placement_host host = host_of(&a_node, &a_seen);
    struct placement_ask ask = small;
    ask.speed = 1000;
    host.speed = 500;
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_FITS);
    host.class = PLACEMENT_KVM;
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_SLOW);
    host.speed = 880;
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_FITS);
    host.speed = 0; /* Not measured. */
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_FITS);
}

TEST(placement_keeps_a_marked_host_for_its_account)
{
    struct row_node node = a_node;
    struct placement_ask ask = small;
    node.single_account = "444455556666";
    struct placement_host host = host_of(&node, &a_seen);
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_OWNED);
    ask.account = NULL; /* The cloud's own work. */
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_OWNED);
    ask.account = "444455556666";
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_FITS);
    ask.tenancy = PLACEMENT_EMPTY;
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_FITS);
}

TEST(placement_why_keeps_tenancies_apart)
{
    struct placement_host host = host_of(&a_node, &a_seen);
    struct placement_ask ask = small;
    ask.tenancy = PLACEMENT_DEDICATED;
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_FITS);
    host.claimed.machines = 1;
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_SHARED);
    host.owner = ask.account;
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_FITS);
    CHECK_EQ(placement_why(&host, &small), PLACEMENT_OWNED);
    host.owner = "444455556666";
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_OWNED);
    host.owner = ask.account;
    host.host_id = "h-1";
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_OWNED);
    ask.tenancy = PLACEMENT_HOST;
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_FITS);
    ask.host_id = "h-2";
    CHECK_EQ(placement_why(&host, &ask), PLACEMENT_OWNED);
}

/* ---- the index ---- */

static struct placement_host
bare(const char *id, int64_t vcpus, int64_t gib)
{
    return (struct placement_host){
        .id = id,
        .region = "r",
        .zone = "z",
        .processors = vcpus,
        .ceiling = {.vcpus = vcpus, .memory_bytes = GIBS(gib)}};
}

static const char *
pick_and_take(struct placement_index *index, const struct placement_ask *ask)
{
    const struct placement_host *host = placement_index_pick(index, ask);
    if (!host) {
        return "none";
    }
    struct claim sum = host->claimed;
    struct claim took = placement_claim(host->class, ask);
    sum.vcpus += took.vcpus;
    sum.memory_bytes += took.memory_bytes;
    sum.machines++;
    placement_index_claim(index, host->id, &sum);
    return host->id;
}

TEST(placement_index_packs_a_host_before_it_begins_another)
{
    AUTO(placement_index)
    struct placement_index *index = placement_index_create(PLACEMENT_PACK);
    struct placement_host a = bare("node-a", 4, 16), b = bare("node-b", 4, 16);
    placement_index_put(index, &b);
    placement_index_put(index, &a);
    const char *first = pick_and_take(index, &small);
    CHECK_STR(first, "node-a");
    for (int i = 0; i < 3; i++) {
        CHECK_STR(pick_and_take(index, &small), first);
    }
    CHECK_STR(pick_and_take(index, &small), "node-b");
}

TEST(placement_index_spreads_when_told)
{
    AUTO(placement_index)
    struct placement_index *index = placement_index_create(PLACEMENT_SPREAD);
    struct placement_host a = bare("node-a", 4, 16), b = bare("node-b", 4, 16);
    placement_index_put(index, &a);
    placement_index_put(index, &b);
    CHECK_STR(pick_and_take(index, &small), "node-a");
    CHECK_STR(pick_and_take(index, &small), "node-b");
    CHECK_STR(pick_and_take(index, &small), "node-a");
}

/* With processors promised several times, all are promised once before any is twice. */
TEST(placement_index_fills_in_rounds)
{
    AUTO(placement_index)
    struct placement_index *index = placement_index_create(PLACEMENT_PACK);
    struct placement_host a = bare("node-a", 2, 64), b = bare("node-b", 2, 64);
    a.ceiling.vcpus = b.ceiling.vcpus = 32;
    placement_index_put(index, &a);
    placement_index_put(index, &b);
    const char *const rounds[] = {"node-a", "node-a", "node-b", "node-b", "node-a",
                                  "node-a", "node-b", "node-b", "node-a", "node-a",
                                  "node-a", "node-a", "node-b"};
    for (size_t i = 0; i < ARRAY_LEN(rounds); i++) {
        CHECK_STR(pick_and_take(index, &small), rounds[i]);
    }
}

/* What is larger than a round's rest may reach into the next rounds. */
TEST(placement_index_gives_large_machines_all_that_a_host_may_promise)
{
    AUTO(placement_index)
    struct placement_index *index = placement_index_create(PLACEMENT_PACK);
    struct placement_host a = bare("node-a", 2, 64);
    struct placement_ask large = small;
    a.ceiling.vcpus = 8;
    large.claim.vcpus = 8;
    placement_index_put(index, &a);
    CHECK_STR(pick_and_take(index, &large), "node-a");
    CHECK_STR(pick_and_take(index, &small), "none");
}

TEST(placement_index_prefers_real_processors_few_features_and_low_cost)
{
    AUTO(placement_index)
    struct placement_index *index = placement_index_create(PLACEMENT_PACK);
    const char *gpu = "gpu";
    struct placement_host emulated = bare("node-a", 1, 8), gpus = bare("node-b", 1, 8),
                          dear = bare("node-c", 1, 8), good = bare("node-d", 1, 8);
    gpus.class = dear.class = good.class = PLACEMENT_KVM;
    gpus.features = (struct placement_words){&gpu, 1};
    dear.cost = 5;
    placement_index_put(index, &emulated);
    placement_index_put(index, &gpus);
    placement_index_put(index, &dear);
    placement_index_put(index, &good);
    CHECK_STR(pick_and_take(index, &small), "node-d");
    CHECK_STR(pick_and_take(index, &small), "node-c");
    CHECK_STR(pick_and_take(index, &small), "node-b");
    CHECK_STR(pick_and_take(index, &small), "node-a");
    CHECK_STR(pick_and_take(index, &small), "none");
}

/* Trouble and NUMA nodes come before packing; what a processor draws decides between hosts
 * that would be left alike. */
TEST(placement_index_takes_strained_hosts_last_and_thrifty_ones_first)
{
    AUTO(placement_index)
    struct placement_index *index = placement_index_create(PLACEMENT_PACK);
    struct placement_host a = bare("node-a", 2, 8), b = bare("node-b", 2, 8),
                          c = bare("node-c", 2, 8), d = bare("node-d", 2, 8);
    a.strained = true;
    a.claimed = (struct claim){.vcpus = 1, .memory_bytes = GIBS(1), .machines = 1};
    b.milliwatts = 9000;
    c.milliwatts = 7000; /* Of the last nothing is known. */
    placement_index_put(index, &a);
    placement_index_put(index, &d);
    placement_index_put(index, &b);
    placement_index_put(index, &c);
    static const char *const order[] = {"node-c", "node-c", "node-b", "node-b",
                                        "node-d", "node-d", "node-a", "none"};
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        CHECK_STR(pick_and_take(index, &small), order[i]);
    }
}

TEST(placement_index_keeps_a_machine_on_one_numa_node_where_it_can)
{
    AUTO(placement_index)
    struct placement_index *index = placement_index_create(PLACEMENT_PACK);
    /* The first is smaller, and would be packed first. */
    struct placement_host split = bare("node-a", 8, 32), whole = bare("node-b", 16, 64);
    struct placement_ask ask = small;
    split.numa_vcpus = 4;
    split.numa_bytes = GIBS(16);
    placement_index_put(index, &split);
    placement_index_put(index, &whole);
    CHECK_STR(placement_index_pick(index, &ask)->id, "node-a");
    ask.claim.vcpus = 6;
    CHECK_STR(placement_index_pick(index, &ask)->id, "node-b");
    ask.claim.vcpus = 4;
    ask.claim.memory_bytes = GIBS(17);
    CHECK_STR(placement_index_pick(index, &ask)->id, "node-b");
    const char *ids[] = {"node-a", "node-b"};
    ask.among = (struct placement_words){ids, 2}; /* Named ones are compared alike. */
    CHECK_STR(placement_index_pick(index, &ask)->id, "node-b");
    placement_index_drop(index, "node-b");
    CHECK_STR(placement_index_pick(index, &ask)->id, "node-a"); /* Where it cannot. */
    CHECK(placement_spans(&split, &ask));
}

TEST(placement_host_text_says_what_spoke_for_it)
{
    AUTO(buf) struct buf text = {0};
    AUTO(buf) struct buf plain_text = {0};
    struct placement_host host = bare("node-a", 4, 16);
    placement_host_text(&host, &small, &plain_text);
    CHECK_STR(buf_str(&plain_text), "emulated, processors promised once at most");
    host.class = PLACEMENT_KVM;
    host.claimed.vcpus = 5;
    host.cost = 3;
    host.milliwatts = 14200;
    host.numa_vcpus = 2;
    host.numa_bytes = GIBS(8);
    host.strained = true;
    placement_host_text(&host, &small, &text);
    CHECK_STR(buf_str(&text),
              "kvm, processors promised up to 2 times, cost 3, 14.2 W a processor at "
              "most, on one of its NUMA nodes, strained: nobody else takes it");
}

TEST(placement_index_gives_dedicated_machines_an_empty_host_and_then_the_same)
{
    AUTO(placement_index)
    struct placement_index *index = placement_index_create(PLACEMENT_PACK);
    struct placement_host a = bare("node-a", 4, 16), b = bare("node-b", 4, 16);
    a.claimed.machines = 1;
    placement_index_put(index, &a);
    placement_index_put(index, &b);
    struct placement_ask alone = small;
    alone.tenancy = PLACEMENT_DEDICATED;
    CHECK_STR(placement_index_pick(index, &alone)->id, "node-b");
    b.owner = alone.account;
    b.claimed.machines = 1;
    placement_index_put(index, &b);
    CHECK_STR(placement_index_pick(index, &alone)->id, "node-b");
    CHECK_STR(placement_index_pick(index, &small)->id, "node-a");
    alone.account = "444455556666";
    CHECK_NULL(placement_index_pick(index, &alone));
}

static uint64_t
next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* The index answers a host that fits whenever looking at each would find one. */
TEST(placement_index_finds_a_host_exactly_when_there_is_one)
{
    enum { HOSTS = 60, STEPS = 30000 };
    AUTO(placement_index)
    struct placement_index *index = placement_index_create(PLACEMENT_PACK);
    static struct placement_host hosts[HOSTS];
    static char ids[HOSTS][16];
    uint64_t seed = 7;
    for (int i = 0; i < HOSTS; i++) {
        (void)snprintf(ids[i], sizeof ids[i], "node-%02d", i);
        hosts[i] = bare(ids[i], 1 + (int64_t)(next_random(&seed) % 70),
                        1 + (int64_t)(next_random(&seed) % 300));
        hosts[i].zone = i % 2 ? "y" : "z";
        hosts[i].ceiling.vcpus *= 1 + i % 3;
    }
    for (int step = 0; step < STEPS; step++) {
        int i = (int)(next_random(&seed) % HOSTS);
        if (next_random(&seed) % 3 == 0) {
            struct claim claimed = {
                .vcpus = (int64_t)(next_random(&seed) %
                                   (uint64_t)(hosts[i].ceiling.vcpus + 1)),
                .memory_bytes = (int64_t)(next_random(&seed) << 10) %
                                (hosts[i].ceiling.memory_bytes + 1),
                .machines = 1};
            hosts[i].claimed = claimed;
            hosts[i].closed =
                next_random(&seed) % 8 ? PLACEMENT_FITS : PLACEMENT_CORDONED;
            placement_index_put(index, &hosts[i]);
        } else if (next_random(&seed) % 20 == 0) {
            placement_index_drop(index, ids[i]);
            hosts[i].closed = PLACEMENT_REVOKED;
        }
        struct placement_ask ask = small;
        ask.zone = next_random(&seed) % 2 ? "z" : NULL;
        ask.claim.vcpus = 1 + (int64_t)(next_random(&seed) % 64);
        ask.claim.memory_bytes = (int64_t)(next_random(&seed) << 7);
        bool any = false;
        for (int k = 0; k < HOSTS; k++) {
            any |= placement_index_host(index, ids[k]) &&
                   placement_why(&hosts[k], &ask) == PLACEMENT_FITS;
        }
        const struct placement_host *found = placement_index_pick(index, &ask);
        CHECK_EQ(found != NULL, any);
        CHECK(!found || placement_why(found, &ask) == PLACEMENT_FITS);
    }
}

TEST(placement_index_explains_host_class_by_host_class)
{
    AUTO(placement_index)
    struct placement_index *index = placement_index_create(PLACEMENT_PACK);
    AUTO(buf) struct buf text = {0};
    struct placement_host a = bare("node-a", 4, 2), b = bare("node-b", 4, 3),
                          c = bare("node-c", 4, 8), d = bare("node-d", 1, 8);
    a.class = b.class = c.class = PLACEMENT_KVM;
    c.closed = PLACEMENT_CORDONED;
    d.zone = "y";
    placement_index_put(index, &a);
    placement_index_put(index, &b);
    placement_index_put(index, &c);
    placement_index_put(index, &d);
    struct placement_ask ask = small;
    ask.claim.vcpus = 2;
    ask.claim.memory_bytes = GIBS(4);
    placement_index_explain(index, &ask, &text);
    CHECK_STR(buf_str(&text),
              "y: 1 emulated host: 1 lack vCPUs (the nearest by 1); "
              "z: 3 kvm hosts: 1 cordoned, 2 lack memory (the nearest by 1.0 GiB)");
}

TEST(placement_index_load_is_the_scarcer_resources)
{
    AUTO(placement_index)
    struct placement_index *index = placement_index_create(PLACEMENT_PACK);
    struct placement_host a = bare("node-a", 4, 16), b = bare("node-b", 4, 16);
    placement_index_put(index, &a);
    placement_index_put(index, &b);
    b.closed = PLACEMENT_CORDONED;
    placement_index_put(index, &b);
    CHECK((int)(placement_index_load(index, "z") * 100) == 0);
    (void)pick_and_take(index, &small);
    CHECK_EQ((int)(placement_index_load(index, "z") * 100), 25);
    CHECK_EQ((int)placement_index_load(index, "none"), 1);
}
