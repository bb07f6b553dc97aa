/* test_meter.c - the rules of the meter: credits, ready time, relief. */
#include "test.h"

#include "node/meter/credit.h"
#include "node/meter/ready.h"
#include "node/meter/relief.h"

/* t3.nano: 6 credits an hour, 144 at most. */
static const struct credit_plan nano = {.vcpus = 2, .baseline_permille = 50};

static int64_t
credits(int64_t ns)
{
    return ns / CREDIT_NS;
}

TEST(credit_is_earned_at_the_baseline_and_kept_for_a_day)
{
    struct credit c = {0};
    credit_step(&nano, &c, 0, 3600 * NS_PER_S);
    CHECK_EQ(credits(c.balance_ns), 6);
    for (int hour = 0; hour < 48; hour++) {
        credit_step(&nano, &c, 0, 3600 * NS_PER_S);
    }
    CHECK_EQ(credits(c.balance_ns), 144);
    CHECK_EQ(credit_limit_percent(&nano, &c), 0);
}

TEST(credit_goes_along_with_a_machine_that_moves)
{
    struct credit c = {.balance_ns =
                           30 * CREDIT_NS}; /* What a launch would have given. */
    credit_bring(&nano, &c, 12500, 0, 7000);
    CHECK_EQ(c.balance_ns, 12 * CREDIT_NS + CREDIT_NS / 2);
    CHECK_EQ(c.charged_ns, 7 * CREDIT_NS);
    CHECK(!c.held);
    credit_bring(&nano, &c, 0, 0, 0); /* Spent there, held here. */
    CHECK(c.held);
    credit_bring(&nano, &c, INT64_MAX, -5, INT64_MAX); /* No more than a day's. */
    CHECK_EQ(credits(c.balance_ns), 144);
    CHECK_EQ(c.surplus_ns, 0);
}

/* While it is awaited the last word counts; of a lost host there is but one. */
TEST(credit_is_brought_once_under_a_name_and_else_whenever_it_differs)
{
    struct credit_brought last = {.balance_milli = -1};
    struct credit_brought said = {.balance_milli = 4200};
    CHECK(credit_is_news(&last, &said));
    CHECK(!credit_is_news(&last, &said));
    said.balance_milli = 4300;
    CHECK(credit_is_news(&last, &said));
    struct credit_brought named = {.as = "node-1.7", .balance_milli = 900};
    CHECK(credit_is_news(&last, &named));
    last.balance_milli = -1; /* Another process of it has begun. */
    CHECK(!credit_is_news(&last, &named));
    CHECK(credit_is_news(&last, &said)); /* A migration, there and back... */
    CHECK(!credit_is_news(&last, &named));
    snprintf(named.as, sizeof named.as, "node-2.9"); /* ...and another loss. */
    CHECK(credit_is_news(&last, &named));
}

TEST(credit_is_spent_by_use_beyond_the_baseline)
{
    struct credit c = {.balance_ns = 10 * CREDIT_NS};
    /* Both vCPUs, a minute long: two credits, less what was earned. */
    credit_step(&nano, &c, 2 * CREDIT_NS, 60 * NS_PER_S);
    CHECK_EQ(c.balance_ns, 8 * CREDIT_NS + CREDIT_NS / 10);
}

TEST(credit_holds_a_standard_machine_to_its_baseline_when_it_has_none)
{
    struct credit c = {.balance_ns = CREDIT_NS};
    credit_step(&nano, &c, 2 * CREDIT_NS, 60 * NS_PER_S);
    CHECK_EQ(c.balance_ns, 0);
    CHECK_EQ(c.surplus_ns, 0);
    CHECK_EQ(credit_limit_percent(&nano, &c), 10); /* 5 % of each of two. */
    credit_step(&nano, &c, 0, NS_PER_S);           /* Not let go at once... */
    CHECK_EQ(credit_limit_percent(&nano, &c), 10);
    credit_step(&nano, &c, 0, 10 * NS_PER_S);
    CHECK_EQ(credit_limit_percent(&nano, &c), 0);
}

TEST(credit_lets_an_unlimited_machine_owe_and_charges_beyond_a_day)
{
    struct credit_plan plan = nano;
    struct credit c = {0};
    plan.unlimited = true;
    credit_step(&plan, &c, 100 * CREDIT_NS, 0);
    CHECK_EQ(credits(c.surplus_ns), 100);
    CHECK_EQ(credit_limit_percent(&plan, &c), 0);
    credit_step(&plan, &c, 0, 10 * 3600 * NS_PER_S); /* Earns 60: it pays with them. */
    CHECK_EQ(credits(c.surplus_ns), 40);
    CHECK_EQ(c.balance_ns, 0);
    credit_step(&plan, &c, 200 * CREDIT_NS, 0);
    CHECK_EQ(credits(c.surplus_ns), 144);
    CHECK_EQ(credits(c.charged_ns), 96);
}

TEST(credit_is_nothing_to_machines_that_do_not_burst)
{
    const struct credit_plan plan = {.vcpus = 4};
    struct credit c = {0};
    credit_step(&plan, &c, 100 * CREDIT_NS, 60 * NS_PER_S);
    CHECK_EQ(credit_limit_percent(&plan, &c), 0);
    CHECK_EQ(c.balance_ns, 0);
}

TEST(credit_survives_clocks_and_counters_that_jump)
{
    struct credit c = {.balance_ns = CREDIT_NS};
    credit_step(&nano, &c, -5, -NS_PER_S);
    CHECK_EQ(c.balance_ns, CREDIT_NS);
    credit_step(&nano, &c, 0, INT64_MAX);
    CHECK_EQ(credits(c.balance_ns), 144);
}

TEST(ready_takes_the_95th_percentile_of_a_minute)
{
    struct ready_window w = {0};
    for (int i = 0; i < 19; i++) {
        ready_add(&w, 2, 200 * NS_PER_MS, 0, NS_PER_S);
    }
    CHECK_EQ(ready_p95(&w), 0);    /* Too few to say. */
    for (int i = 0; i < 60; i++) { /* The minute before is forgotten. */
        bool spike = i % 20 == 0;
        ready_add(&w, 2, spike ? NS_PER_S : 20 * NS_PER_MS, 0, NS_PER_S);
    }
    CHECK_EQ(ready_p95(&w),
             10); /* 1 %; three spikes in sixty are the last twentieth. */
    for (int i = 0; i < 2; i++) { /* In place of one of them, and of a quiet second. */
        ready_add(&w, 2, NS_PER_S, 0, NS_PER_S);
    }
    CHECK_EQ(ready_p95(&w), 500);
}

TEST(ready_does_not_count_what_the_machines_own_limit_makes_it_wait)
{
    struct ready_window w = {0};
    for (int i = 0; i < 60; i++) {
        ready_add(&w, 1, 900 * NS_PER_MS, 880 * NS_PER_MS, NS_PER_S);
    }
    CHECK_EQ(ready_p95(&w), 20);
}

TEST(ready_is_bad_only_on_a_host_that_has_little_to_do)
{
    CHECK(!ready_is_bad(40, 0, 16));     /* 4 % is not above 4 %. */
    CHECK(ready_is_bad(41, 4000, 16));   /* A quarter of what was promised. */
    CHECK(!ready_is_bad(500, 4001, 16)); /* More: it does what it sold. */
}

TEST(psi_parse_reads_the_kernels_lines_and_no_others)
{
    struct psi psi = {7, 7};
    CHECK(!psi_parse("", &psi) && !psi_parse("some avg=1", &psi));
    CHECK_EQ(psi.some, 7);
    CHECK(psi_parse("some avg10=12.34 avg60=0.00 avg300=0.00 total=1\n"
                    "full avg10=0.05 avg60=0.00 avg300=0.00 total=1\n",
                    &psi));
    CHECK_EQ(psi.some, 1234);
    CHECK_EQ(psi.full, 5);
}

TEST(relief_goes_step_by_step_and_comes_back_slowly)
{
    const struct relief_facts loud = {
        .memory = {.some = 2000}, .available_bytes = 50, .total_bytes = 100};
    const struct relief_facts quiet = {.available_bytes = 50, .total_bytes = 100};
    struct relief r = {0};
    int64_t now = NS_PER_S;
    CHECK_EQ(relief_step(&r, &loud, now), RELIEF_RECLAIM);
    CHECK_EQ(relief_step(&r, &loud, now += 5 * NS_PER_S), RELIEF_RECLAIM);
    CHECK_EQ(relief_step(&r, &loud, now += 5 * NS_PER_S), RELIEF_BALLOON);
    CHECK_EQ(relief_step(&r, &loud, now += 10 * NS_PER_S), RELIEF_MOVE);
    CHECK_EQ(relief_step(&r, &loud, now += 10 * NS_PER_S), RELIEF_REFUSE);
    CHECK_EQ(relief_step(&r, &loud, now += 90 * NS_PER_S), RELIEF_REFUSE);
    CHECK_EQ(relief_step(&r, &quiet, now += 59 * NS_PER_S), RELIEF_REFUSE);
    CHECK_EQ(relief_step(&r, &quiet, now += NS_PER_S), RELIEF_MOVE);
    CHECK_EQ(relief_step(&r, &quiet, now += 59 * NS_PER_S), RELIEF_MOVE);
    for (int i = 0; i < 3; i++) {
        now += 60 * NS_PER_S;
        (void)relief_step(&r, &quiet, now);
    }
    CHECK_EQ(r.stage, RELIEF_NONE);
}

TEST(relief_hears_little_memory_before_anything_waits)
{
    const struct relief_facts low = {.available_bytes = 4, .total_bytes = 100};
    struct relief r = {0};
    CHECK_EQ(relief_step(&r, &low, NS_PER_S), RELIEF_RECLAIM);
}

/* A minute of a host with four machines of two vCPUs, one of which waits: as the kernel's
 * schedstat and cgroups would have it, second by second. */
TEST(host_judge_has_guests_moved_away_that_wait_on_a_host_with_little_to_do)
{
    struct ready_window calm = {0}, waiting = {0};
    for (int s = 0; s < 60; s++) {
        ready_add(&calm, 2, 4 * NS_PER_MS, 0, NS_PER_S);
        /* 120 ms for two vCPUs, 20 of them its own limit's doing: 5 %. */
        ready_add(&waiting, 2, 120 * NS_PER_MS, 20 * NS_PER_MS, NS_PER_S);
    }
    int64_t worst = MAX(ready_p95(&calm), ready_p95(&waiting));
    CHECK_EQ(worst, 50);
    bool waits = ready_is_bad(worst, 2000, 8); /* Two of eight are busy. */
    struct host_verdict v = host_judge(RELIEF_NONE, waits, true);
    CHECK(v.crowded);
    CHECK(strstr(v.unfit, "wait for processors") != NULL);
    v = host_judge(RELIEF_NONE, waits, false); /* Emulated: shares, not speed. */
    CHECK(!v.crowded && !v.unfit[0]);
    v = host_judge(RELIEF_NONE, ready_is_bad(worst, 2001, 8), true);
    CHECK(!v.crowded && !v.unfit[0]); /* Busy as promised. */
    v = host_judge(RELIEF_NONE, ready_is_bad(40, 2000, 8), true);
    CHECK(!v.crowded && !v.unfit[0]);
}

TEST(host_judge_moves_guests_before_it_refuses_new_ones)
{
    for (enum relief_stage stage = RELIEF_NONE; stage < RELIEF_STAGES; stage++) {
        const struct host_verdict v = host_judge(stage, false, true);
        CHECK_EQ(v.crowded, stage >= RELIEF_MOVE);
        CHECK_EQ(v.unfit[0] != '\0', stage >= RELIEF_REFUSE);
    }
}
