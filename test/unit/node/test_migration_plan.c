#include "node/migrate/migration_plan.h"
#include "test.h"

#define T0 (1000 * NS_PER_S)

/* A giver all of whose copying goes well. */
static struct give_facts
giving(enum give_order order, enum migration_part disks, enum migration_memory memory)
{
    return (struct give_facts){
        .order = order,
        .alive = true,
        .qmp_up = true,
        .looked = true,
        .begun = true,
        .begun_once = true,
        .couriers = PART_READY,
        .disks = disks,
        .memory = memory,
        .asked_ns = memory == MEMORY_PAUSED ? T0 : 0,
    };
}

static enum give_step
give(const struct give_facts *f)
{
    return give_plan(f, T0);
}

TEST(give_plan_waits_until_it_is_told_where_to_go)
{
    struct give_facts f = giving(GIVE_ORDER_WAIT, PART_NONE, MEMORY_NONE);
    f.begun = f.begun_once = false;
    f.couriers = PART_NONE;
    CHECK_EQ(give(&f), GIVE_NOTHING);
    f.order = GIVE_ORDER_COPY;
    CHECK_EQ(give(&f), GIVE_BEGIN);
}

/* Disks first: memory converges only once they no longer take the network. */
TEST(give_plan_copies_disks_then_memory_then_ends_the_disks)
{
    struct give_facts f = giving(GIVE_ORDER_COPY, PART_NONE, MEMORY_NONE);
    CHECK_EQ(give(&f), GIVE_DISKS);
    f.disks = PART_BEGUN;
    CHECK_EQ(give(&f), GIVE_NOTHING);
    f.disks = PART_READY;
    CHECK_EQ(give(&f), GIVE_MEMORY);
    f.memory = MEMORY_COPYING;
    CHECK_EQ(give(&f), GIVE_NOTHING);
    f.memory = MEMORY_PAUSED;
    f.asked_ns = T0;
    CHECK_EQ(give(&f), GIVE_END_DISKS);
    f.disks = PART_ENDED;
    CHECK_EQ(give(&f), GIVE_NOTHING);
    f.order = GIVE_ORDER_SWITCH;
    CHECK_EQ(give(&f), GIVE_CONTINUE);
    f.memory = MEMORY_SWITCHING;
    CHECK_EQ(give(&f), GIVE_NOTHING);
    f.memory = MEMORY_DONE;
    CHECK_EQ(give(&f), GIVE_PART);
}

TEST(give_plan_keeps_a_guest_that_nobody_answers_for)
{
    struct give_facts f = giving(GIVE_ORDER_COPY, PART_ENDED, MEMORY_PAUSED);
    CHECK_EQ(give_plan(&f, T0 + MIGRATION_ASK_NS - 1), GIVE_NOTHING);
    CHECK_EQ(give_plan(&f, T0 + MIGRATION_ASK_NS), GIVE_STAY);
    f.order = GIVE_ORDER_SWITCH; /* The answer came in time. */
    CHECK_EQ(give_plan(&f, T0 + MIGRATION_ASK_NS), GIVE_CONTINUE);
}

/* Couriers end with their agent: the next one undoes what was not finished. */
TEST(give_plan_undoes_what_an_earlier_agent_began)
{
    struct give_facts f = giving(GIVE_ORDER_SWITCH, PART_NONE, MEMORY_COPYING);
    f.begun = f.looked = false;
    CHECK_EQ(give(&f), GIVE_LOOK);
    f.looked = true;
    CHECK_EQ(give(&f), GIVE_STAY);
    f.memory = MEMORY_DONE; /* All was sent while the agent was away. */
    CHECK_EQ(give(&f), GIVE_PART);
}

TEST(give_plan_returns_a_guest_only_when_told)
{
    struct give_facts f = giving(GIVE_ORDER_SWITCH, PART_ENDED, MEMORY_DONE);
    f.moved = true;
    f.looked = false;
    CHECK_EQ(give(&f), GIVE_LOOK); /* By an agent that has just come. */
    f.looked = true;
    CHECK_EQ(give(&f), GIVE_NOTHING);
    f.order = GIVE_ORDER_STAY;
    CHECK_EQ(give(&f), GIVE_NOTHING);
    f.alive = f.qmp_up = false; /* Not even when its shell is gone. */
    CHECK_EQ(give(&f), GIVE_NOTHING);
    f.order = GIVE_ORDER_RETURN;
    CHECK_EQ(give(&f), GIVE_RETURN);
}

/* Whether it had left when its host lost power, nobody knows: it is not here, in any case. */
TEST(give_plan_counts_a_guest_as_gone_when_its_process_ended_after_the_order)
{
    struct give_facts f = giving(GIVE_ORDER_SWITCH, PART_NONE, MEMORY_NONE);
    f.alive = f.qmp_up = f.looked = f.begun = false;
    CHECK_EQ(give(&f), GIVE_PART);
    f.order = GIVE_ORDER_COPY;
    CHECK_EQ(give(&f), GIVE_STAY);
}

/* ---- post-copy ---- */

static struct give_facts
behind(enum migration_memory memory)
{
    struct give_facts f = giving(GIVE_ORDER_SWITCH, PART_ENDED, memory);
    f.couriers = PART_NONE;
    f.call_due = true;
    return f;
}

/* QEMU has let go, but the guest has not left before the receiver could run it. */
TEST(give_plan_parts_with_a_guest_whose_memory_follows_once_the_rest_is_there)
{
    struct give_facts f = behind(MEMORY_FOLLOWING);
    CHECK_EQ(give(&f), GIVE_NOTHING);
    f.here = true;
    CHECK_EQ(give(&f), GIVE_PART);
    f.moved = true;
    CHECK_EQ(give(&f), GIVE_NOTHING);
}

TEST(give_plan_calls_anew_and_resumes_when_memory_was_cut)
{
    for (int moved = 0; moved < 2; moved++) {
        struct give_facts f = behind(MEMORY_CUT);
        f.moved = moved;
        f.here = moved;
        CHECK_EQ(give(&f), GIVE_CALL);
        f.call_due = false;
        CHECK_EQ(give(&f), GIVE_NOTHING);
        f.couriers = PART_BEGUN;
        CHECK_EQ(give(&f), GIVE_NOTHING);
        f.couriers = PART_READY;
        CHECK_EQ(give(&f), GIVE_RESUME);
        f.looked = f.begun = false; /* The agent was killed meanwhile. */
        f.couriers = PART_NONE;
        f.call_due = true;
        CHECK_EQ(give(&f), GIVE_LOOK);
        f.looked = true;
        CHECK_EQ(give(&f), GIVE_CALL);
    }
}

/* Its end, here: QEMU lets nothing go on that it began to hand over. */
TEST(give_plan_keeps_a_guest_of_which_too_little_arrived)
{
    struct give_facts f = behind(MEMORY_CUT);
    f.order = GIVE_ORDER_STAY;
    CHECK_EQ(give(&f), GIVE_STAY);
    f.here = true; /* It may run there at any time. */
    CHECK_EQ(give(&f), GIVE_PART);
    f.moved = true;
    CHECK_EQ(give(&f), GIVE_CALL);
    f.order = GIVE_ORDER_RETURN;
    CHECK_EQ(give(&f), GIVE_RETURN);
}

TEST(take_plan_runs_with_memory_to_follow_when_all_else_is_here)
{
    struct take_facts f = {.alive = true,
                           .qmp_up = true,
                           .looked = true,
                           .open = true,
                           .set_up = true,
                           .word = true,
                           .memory = MEMORY_FOLLOWING};
    CHECK_EQ(take_plan(&f), TAKE_NOTHING);
    f.here = true;
    CHECK_EQ(take_plan(&f), TAKE_RUN);
    f.memory = MEMORY_CUT; /* What it has not it waits for. */
    CHECK_EQ(take_plan(&f), TAKE_RUN);
    f.word = false;
    CHECK_EQ(take_plan(&f), TAKE_NOTHING);
    f.open = f.set_up = false; /* Another agent's: memory must find its way again. */
    CHECK_EQ(take_plan(&f), TAKE_OPEN);
    f.running = true;
    CHECK_EQ(take_plan(&f), TAKE_OPEN);
    f.memory = MEMORY_DONE;
    CHECK_EQ(take_plan(&f), TAKE_NOTHING);
}

/* Over all facts: the guest is let go only on the order to switch, when it stands still and
 * every disk is whole; it never goes on here after it has left, but on the order to. */
TEST(give_plan_never_has_the_guest_in_two_places)
{
    for (unsigned bits = 0; bits < 1u << 10; bits++) {
        for (unsigned n = 0; n < 5 * 6 * 6 * (MEMORY_BROKEN + 1); n++) {
            struct give_facts f = {
                .order = (enum give_order)(n % 5),
                .couriers = (enum migration_part)(n / 5 % 6),
                .disks = (enum migration_part)(n / 30 % 6),
                .memory = (enum migration_memory)(n / 180),
                .busy = bits & 1,
                .kept = bits & 2,
                .alive = bits & 4,
                .qmp_up = bits & 8,
                .looked = bits & 16,
                .begun = bits & 32,
                .begun_once = bits & (32 | 64),
                .moved = bits & 128,
                .here = bits & 256,
                .call_due = bits & 512,
                .asked_ns = T0,
            };
            enum give_step step = give(&f);
            if (step == GIVE_CONTINUE) {
                CHECK(f.order == GIVE_ORDER_SWITCH && f.memory == MEMORY_PAUSED &&
                      f.disks == PART_ENDED && f.begun && !f.moved);
            }
            if (f.moved) {
                CHECK(step == GIVE_NOTHING || step == GIVE_LOOK || step == GIVE_CALL ||
                      step == GIVE_RESUME ||
                      (step == GIVE_RETURN && f.order == GIVE_ORDER_RETURN));
            }
            if (step == GIVE_STAY && f.alive) {
                CHECK(f.memory != MEMORY_SWITCHING && f.memory != MEMORY_DONE);
                CHECK(!memory_is_behind(f.memory) || (!f.here && !f.moved));
            }
            if (step == GIVE_PART && f.alive) { /* Nothing goes on here by itself. */
                CHECK(f.memory == MEMORY_DONE ||
                      (memory_is_behind(f.memory) && f.here));
            }
            if (step == GIVE_CALL || step == GIVE_RESUME) {
                CHECK(f.memory == MEMORY_CUT && f.looked && f.qmp_up);
            }
            if (f.busy || f.kept) {
                CHECK_EQ(step, GIVE_NOTHING);
            }
        }
    }
}

/* Over all facts: it runs only when all of it is here and it is known to have left. */
TEST(take_plan_runs_only_what_is_whole_and_has_left)
{
    for (unsigned bits = 0; bits < 1u << 12; bits++) {
        for (int memory = MEMORY_NONE; memory <= MEMORY_BROKEN; memory++) {
            struct take_facts f = {
                .memory = (enum migration_memory)memory,
                .busy = bits & 1,
                .failed = bits & 2,
                .alive = bits & 4,
                .qmp_up = bits & 8,
                .looked = bits & 16,
                .moved = bits & 32,
                .word = bits & 64,
                .set_up = bits & 128,
                .running = bits & 256,
                .here = bits & 512,
                .open = bits & 1024,
                .starting = bits & 2048,
            };
            enum take_step step = take_plan(&f);
            if (step == TAKE_RUN) {
                CHECK((f.word || f.moved) && !f.running);
                CHECK(f.memory == MEMORY_DONE ||
                      (memory_is_behind(f.memory) && f.here));
            }
            if (f.busy || f.failed || (!f.qmp_up && !f.starting)) {
                CHECK_EQ(step, TAKE_NOTHING);
            }
        }
    }
}

/* Its door is open while the emulator starts. */
TEST(take_plan_opens_and_sets_up_once)
{
    struct take_facts f = {.starting = true};
    CHECK_EQ(take_plan(&f), TAKE_OPEN);
    f.open = true;
    CHECK_EQ(take_plan(&f), TAKE_NOTHING);
    f.starting = false;
    f.alive = true;
    CHECK_EQ(take_plan(&f), TAKE_NOTHING);
    f.qmp_up = true;
    CHECK_EQ(take_plan(&f), TAKE_LOOK);
    f.looked = true;
    CHECK_EQ(take_plan(&f), TAKE_SET_UP);
    f.open = false; /* An agent that came since. */
    CHECK_EQ(take_plan(&f), TAKE_OPEN);
    f.open = f.set_up = true;
    CHECK_EQ(take_plan(&f), TAKE_NOTHING);
    f.memory = MEMORY_DONE;
    CHECK_EQ(take_plan(&f), TAKE_NOTHING);
    f.word = true;
    CHECK_EQ(take_plan(&f), TAKE_RUN);
}
