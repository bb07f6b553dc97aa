/* test_lifecycle.c - states and what may be asked in them, and placement. */
#include "core/lifecycle.h"
#include "core/placement.h"
#include "test.h"

static enum instance_state
seen_as(const char *want, int64_t want_generation, const char *observed,
        const char *seen, int64_t seen_generation)
{
    const struct row_instance inst = {.want_state = want,
                                      .generation = want_generation,
                                      .want_generation = want_generation,
                                      .observed_state = observed};
    const struct row_machine_seen row = {.state = seen, .generation = seen_generation};
    return instance_state_of(&inst, seen ? &row : NULL);
}

TEST(instance_state_is_pending_until_the_node_says_running)
{
    CHECK_EQ(seen_as("running", 1, NULL, NULL, 0), INSTANCE_PENDING);
    CHECK_EQ(seen_as("running", 1, NULL, "starting", 1), INSTANCE_PENDING);
    CHECK_EQ(seen_as("running", 1, NULL, "running", 1), INSTANCE_RUNNING);
}

TEST(instance_state_ignores_what_was_said_of_an_older_want)
{
    /* Started again: the node's last word is of the time before the stop. */
    CHECK_EQ(seen_as("running", 3, NULL, "running", 2), INSTANCE_PENDING);
    CHECK_EQ(seen_as("stopped", 3, NULL, "stopped", 2), INSTANCE_STOPPING);
}

TEST(instance_state_stays_running_through_a_restart)
{
    CHECK_EQ(seen_as("running", 1, "running", "starting", 1), INSTANCE_RUNNING);
}

TEST(instance_state_is_stopped_when_the_machine_is_down_or_absent)
{
    CHECK_EQ(seen_as("stopped", 2, NULL, "running", 1), INSTANCE_STOPPING);
    CHECK_EQ(seen_as("stopped", 2, NULL, "stopped", 2), INSTANCE_STOPPED);
    CHECK_EQ(seen_as("stopped", 2, NULL, "absent", 2), INSTANCE_STOPPED);
}

TEST(instance_state_is_shutting_down_until_all_is_given_back)
{
    struct row_instance inst = {.want_state = "terminated"};
    CHECK_EQ(instance_state_of(&inst, NULL), INSTANCE_SHUTTING_DOWN);
    inst.terminated_at = 1;
    CHECK_EQ(instance_state_of(&inst, NULL), INSTANCE_TERMINATED);
}

TEST(instance_may_start_only_from_stopped)
{
    CHECK_EQ(instance_may(INSTANCE_STOPPED, ACTION_START), VERDICT_DO);
    CHECK_EQ(instance_may(INSTANCE_RUNNING, ACTION_START), VERDICT_NOTHING);
    CHECK_EQ(instance_may(INSTANCE_PENDING, ACTION_START), VERDICT_NOTHING);
    CHECK_EQ(instance_may(INSTANCE_STOPPING, ACTION_START), VERDICT_REFUSE);
    CHECK_EQ(instance_may(INSTANCE_TERMINATED, ACTION_START), VERDICT_REFUSE);
}

TEST(instance_may_be_terminated_in_every_state)
{
    for (int s = 0; s <= INSTANCE_STOPPED; s += 16) {
        CHECK(instance_may((enum instance_state)s, ACTION_TERMINATE) != VERDICT_REFUSE);
    }
}

TEST(instance_visible_for_an_hour_after_its_end)
{
    struct row_instance inst = {.terminated_at = 1000};
    CHECK(instance_visible(&inst, 1000 + INSTANCE_VISIBLE_NS - 1));
    CHECK(!instance_visible(&inst, 1000 + INSTANCE_VISIBLE_NS));
}

/* ---- placement ---- */

static const struct placement_rules plain = {1.0, 1.0};
static const struct row_node_seen host = {.vcpus = 4,
                                          .memory_bytes = 8 << 20,
                                          .pool_bytes = 100,
                                          .pool_free_bytes = 50,
                                          .connected = true};

static struct placement_node
node(const char *id, const char *zone, const struct row_node_seen *seen)
{
    struct row_node *row = calloc(1, sizeof *row);
    *row = (struct row_node){.id = id, .region = "r", .zone = zone, .state = "active"};
    return (struct placement_node){.node = row, .seen = seen};
}

static void
drop(struct placement_node *nodes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free((void *)(uintptr_t)nodes[i].node);
    }
}

static const struct placement_ask small = {
    .region = "r",
    .claim = {.vcpus = 1, .memory_bytes = 1 << 20, .disk_bytes = 1, .machines = 1}};

TEST(placement_pick_spreads_and_breaks_ties_by_id)
{
    struct placement_node nodes[] = {node("node-b", "z", &host),
                                     node("node-a", "z", &host)};
    CHECK_EQ(placement_pick(nodes, 2, &plain, &small), 1);
    placement_take(&nodes[1], &small.claim);
    CHECK_EQ(placement_pick(nodes, 2, &plain, &small), 0);
    drop(nodes, 2);
}

/* An emulated guest's process is larger than one that the processor runs. */
TEST(placement_claim_counts_the_emulator_as_the_node_runs_guests)
{
    struct row_node_seen kvm = host;
    kvm.accel = "kvm";
    struct placement_node nodes[] = {node("node-a", "z", &host),
                                     node("node-b", "z", &kvm)};
    struct placement_ask ask = small;
    ask.overhead_kvm_bytes = 1 << 20;
    ask.overhead_emulated_bytes = 7 << 20;
    CHECK_EQ(placement_claim(&nodes[0], &ask).memory_bytes, 8 << 20);
    CHECK_EQ(placement_claim(&nodes[1], &ask).memory_bytes, 2 << 20);
    CHECK_EQ(placement_pick(nodes, 2, &plain, &ask), 1);
    ask.overhead_emulated_bytes++;
    CHECK_EQ(placement_pick(nodes, 1, &plain, &ask), -1);
    drop(nodes, 2);
}

TEST(placement_pick_refuses_full_cordoned_gone_and_foreign_nodes)
{
    struct row_node_seen away = host;
    away.connected = false;
    struct placement_node nodes[] = {node("n1", "z", &away), node("n2", "y", &host),
                                     node("n3", "z", &host), node("n4", "z", NULL)};
    nodes[2].claimed.vcpus = 4;
    struct placement_ask ask = small;
    ask.zone = "z";
    CHECK_EQ(placement_pick(nodes, 4, &plain, &ask), -1);
    const struct placement_rules twice = {2.0, 1.0};
    CHECK_EQ(placement_pick(nodes, 4, &twice, &ask), 2);
    ((struct row_node *)(uintptr_t)nodes[2].node)->cordoned = true;
    CHECK_EQ(placement_pick(nodes, 4, &twice, &ask), -1);
    drop(nodes, 4);
}

TEST(placement_ceiling_obeys_the_operator_over_what_was_measured)
{
    struct placement_node n = node("n", "z", &host);
    ((struct row_node *)(uintptr_t)n.node)->ceiling_vcpus = 2;
    const struct placement_rules much = {8.0, 1.0};
    CHECK_EQ(placement_ceiling(&n, &much).vcpus, 2);
    CHECK_EQ(placement_ceiling(&n, &much).memory_bytes, 8 << 20);
    drop(&n, 1);
}

TEST(placement_pick_takes_nothing_on_a_full_pool)
{
    struct row_node_seen full = host;
    full.pool_free_bytes = 0;
    struct placement_node n = node("n", "z", &full);
    CHECK_EQ(placement_pick(&n, 1, &plain, &small), -1);
    drop(&n, 1);
}
