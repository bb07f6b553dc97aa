#include "node/machine/machine_plan.h"
#include "test.h"

#define T0 (1000 * NS_PER_S)

static struct machine_facts
wanted_up(enum machine_process process)
{
    return (struct machine_facts){
        .running = true,
        .generation = 3,
        .inputs_ready = true,
        .process = process,
        .qmp_up = process != PROCESS_NONE,
        .traces = true,
        .halted_generation = -1,
    };
}

static enum machine_step
plan(const struct machine_facts *f)
{
    int64_t wake;
    return machine_plan(f, T0, &wake);
}

TEST(machine_plan_starts_only_when_inputs_are_ready)
{
    struct machine_facts f = wanted_up(PROCESS_NONE);
    f.inputs_ready = false;
    CHECK_EQ(plan(&f), MACHINE_NOTHING);
    f.inputs_ready = true;
    CHECK_EQ(plan(&f), MACHINE_START);
}

TEST(machine_plan_waits_out_the_pause_after_a_failure)
{
    struct machine_facts f = wanted_up(PROCESS_NONE);
    int64_t wake;
    f.retry_at_ns = T0 + 5;
    CHECK_EQ(machine_plan(&f, T0, &wake), MACHINE_NOTHING);
    CHECK_EQ(wake, T0 + 5);
    CHECK_EQ(machine_plan(&f, T0 + 5, &wake), MACHINE_START);
}

/* A guest that shut itself down stays down until its record changes. */
TEST(machine_plan_leaves_a_halted_guest_down_until_its_generation_rises)
{
    struct machine_facts f = wanted_up(PROCESS_NONE);
    f.halted_generation = 3;
    CHECK_EQ(plan(&f), MACHINE_NOTHING);
    f.generation = 4;
    CHECK_EQ(plan(&f), MACHINE_START);
}

/* Asked first, asked again (a guest that boots misses it), told to quit, then killed. */
TEST(machine_plan_stops_in_growing_steps)
{
    struct machine_facts f = wanted_up(PROCESS_UP);
    int64_t wake;
    f.running = false;
    f.grace_ns = 10 * NS_PER_S;
    CHECK_EQ(machine_plan(&f, T0, &wake), MACHINE_ASK);

    f.stop_began_ns = f.asked_ns = T0;
    CHECK_EQ(machine_plan(&f, T0 + NS_PER_S, &wake), MACHINE_NOTHING);
    CHECK_EQ(wake, T0 + MACHINE_ASK_AGAIN_NS);
    CHECK_EQ(machine_plan(&f, wake, &wake), MACHINE_ASK);

    f.asked_ns = T0 + 9 * NS_PER_S;
    CHECK_EQ(machine_plan(&f, T0 + 10 * NS_PER_S, &wake), MACHINE_QUIT);

    f.quit_ns = T0 + 10 * NS_PER_S;
    CHECK_EQ(machine_plan(&f, f.quit_ns + 1, &wake), MACHINE_NOTHING);
    CHECK_EQ(machine_plan(&f, wake, &wake), MACHINE_KILL);
}

TEST(machine_plan_kills_when_qemu_cannot_be_spoken_to)
{
    struct machine_facts f = wanted_up(PROCESS_UP);
    f.running = false;
    f.stop_hard = true;
    CHECK_EQ(plan(&f), MACHINE_QUIT);
    f.qmp_up = false;
    CHECK_EQ(plan(&f), MACHINE_KILL);
}

/* A deleted machine is killed first; only then may its folder and cgroup go. */
TEST(machine_plan_kills_a_deleted_machine_before_it_removes_it)
{
    struct machine_facts f = wanted_up(PROCESS_UP);
    f.deleted = true;
    CHECK_EQ(plan(&f), MACHINE_KILL);
    f.process = PROCESS_NONE;
    CHECK_EQ(plan(&f), MACHINE_REMOVE);
    f.traces = false;
    CHECK_EQ(plan(&f), MACHINE_NOTHING);
}

TEST(machine_plan_stops_an_orphan_gently)
{
    struct machine_facts f = wanted_up(PROCESS_UP);
    f.orphan = true;
    f.running = false;
    CHECK_EQ(plan(&f), MACHINE_ASK);
}

/* A reboot is a stop that ends in a start, also when the agent was killed in between. */
TEST(machine_plan_reboots_by_stopping_and_starting)
{
    struct machine_facts f = wanted_up(PROCESS_UP);
    f.reboot_count = 2;
    f.reboots_done = 1;
    CHECK(machine_is_rebooting(&f));
    CHECK_EQ(plan(&f), MACHINE_ASK);
    f.process = PROCESS_HALTED;
    CHECK_EQ(plan(&f), MACHINE_QUIT);
    f.process = PROCESS_NONE;
    CHECK_EQ(plan(&f), MACHINE_START);
    f.process = PROCESS_UP;
    f.reboots_done = 2;
    CHECK_EQ(plan(&f), MACHINE_NOTHING);
}

/* What a migration is to bring waits for it, once, and never boots by itself; what one takes
 * away is not started anew, and its shell is left alone. */
TEST(machine_plan_leaves_a_machine_to_its_migration)
{
    struct machine_facts f = wanted_up(PROCESS_NONE);
    f.arriving = true;
    CHECK_EQ(plan(&f), MACHINE_START);
    f.tried = true;
    CHECK_EQ(plan(&f), MACHINE_NOTHING);
    f.process = PROCESS_UP;
    f.running = false; /* Whatever is wanted of it, it is not here yet. */
    CHECK_EQ(plan(&f), MACHINE_NOTHING);
    f.power_off = true;
    CHECK_EQ(plan(&f), MACHINE_KILL);

    f = wanted_up(PROCESS_NONE);
    f.leaving = true;
    CHECK_EQ(plan(&f), MACHINE_NOTHING);
    f.given = true;
    f.process = PROCESS_UP;
    f.running = false;
    CHECK_EQ(plan(&f), MACHINE_NOTHING);
    f.deleted = true;
    CHECK_EQ(plan(&f), MACHINE_KILL);
}

/* Whatever the facts, nothing is started twice and nothing is removed that runs. */
TEST(machine_plan_never_starts_or_removes_what_runs)
{
    for (unsigned bits = 0; bits < 1u << 8; bits++) {
        for (int process = PROCESS_NONE; process <= PROCESS_PANICKED; process++) {
            struct machine_facts f = wanted_up((enum machine_process)process);
            f.deleted = bits & 1;
            f.orphan = bits & 2;
            f.running = bits & 4;
            f.stop_hard = bits & 8;
            f.qmp_up = bits & 16;
            f.reboot_count = (bits & 32) ? 1 : 0;
            f.stop_began_ns = (bits & 64) ? T0 : 0;
            f.quit_ns = (bits & 128) ? T0 : 0;
            enum machine_step step = plan(&f);
            if (process != PROCESS_NONE) {
                CHECK(step != MACHINE_START && step != MACHINE_REMOVE);
            } else {
                CHECK(step == MACHINE_NOTHING || step == MACHINE_START ||
                      step == MACHINE_REMOVE);
            }
            CHECK(process != PROCESS_STARTING || step == MACHINE_NOTHING);
        }
    }
}

TEST(machine_backoff_doubles_up_to_a_minute)
{
    CHECK_EQ(machine_backoff_ns(0), 0);
    CHECK_EQ(machine_backoff_ns(1), NS_PER_S);
    CHECK_EQ(machine_backoff_ns(3), 4 * NS_PER_S);
    CHECK_EQ(machine_backoff_ns(1000), 60 * NS_PER_S);
}
