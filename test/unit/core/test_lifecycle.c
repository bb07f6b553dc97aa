/* test_lifecycle.c - states and what may be asked in them. */
#include "core/lifecycle.h"
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
