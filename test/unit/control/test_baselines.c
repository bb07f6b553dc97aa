/* test_baselines.c - what hosts of a zone offer, what its guests get, and what they keep. */
#include "moving.h"

#include "base/tlv.h"
#include "core/baseline.h"

static const char *types_old[] = {"pc-q35-7.2"};
static const char *types_new[] = {"pc-q35-9.0", "pc-q35-7.2"};
static const char *cpus_low[] = {"qemu64", "x86-64-v2-AES"};
static const char *cpus_high[] = {"qemu64", "x86-64-v2-AES", "x86-64-v3"};

struct offer {
    const char *node_id;
    bool new_types, high, silent;
};

static bool
do_offer(struct pass *pass, void *ctx, struct err *err)
{
    const struct offer *o = ctx;
    const struct link_node_seen r = {
        .boot_id = "b",
        .version = "1",
        .vcpus = 8,
        .memory_bytes = 16 * (int64_t)GIB,
        .pool_bytes = 100 * (int64_t)GIB,
        .pool_free_bytes = 90 * (int64_t)GIB,
        .accel = "tcg",
        .underlay = str_eq(o->node_id, NODE)         ? "192.0.2.1"
                    : str_eq(o->node_id, OTHER_NODE) ? "192.0.2.2"
                                                     : "192.0.2.3",
        .qemu_version = o->new_types ? "9.0.1" : "7.2.22",
        .machine_types = {o->new_types ? types_new : types_old, o->silent      ? 0
                                                                : o->new_types ? 2
                                                                               : 1},
        .cpu_models = {o->high ? cpus_high : cpus_low, o->silent ? 0
                                                       : o->high ? 3
                                                                 : 2}};
    return report_apply(pass, o->node_id, LINK_NODE, &r, 0, "e1", err);
}

static void
offer(struct stage *s, const char *node_id, bool new_types, bool high)
{
    s->now_ns += NS_PER_S;
    stage_run(s, do_offer, &(struct offer){node_id, new_types, high});
}

struct zone {
    const struct row_baseline *baseline;
    const struct row_node *first, *second;
    struct row_list events;
};

static bool
do_zone(struct pass *pass, void *ctx, struct err *err)
{
    struct zone *z = ctx;
    const struct row_query all = {0};
    return GET_ROW(baseline, &z->baseline, .region = "us-east-1", .zone = "us-east-1a",
                   .accel = "tcg") &&
           GET_ROW(node, &z->first, .id = NODE) &&
           GET_ROW(node, &z->second, .id = OTHER_NODE) &&
           row_list(pass->txn, &row_node_event_type, &all, &z->events, err);
}

static struct zone
zone(struct stage *s)
{
    struct zone z = {0};
    stage_run(s, do_zone, &z);
    return z;
}

static bool
do_empty(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    return row_delete(pass->txn, &row_node_claim_type,
                      &(struct row_node_claim){.id = NODE}, err);
}

TEST(baseline_is_the_first_hosts_and_all_hosts_while_there_are_no_guests)
{
    struct stage s;
    setup(&s);
    stage_run(&s, do_empty, NULL);
    CHECK_NULL(zone(&s).baseline);
    offer(&s, NODE, true, true);
    CHECK_STR(zone(&s).baseline->cpu_model, "x86-64-v3");
    CHECK_STR(zone(&s).baseline->machine_type, "pc-q35-9.0");
    CHECK(!zone(&s).baseline->fixed);
    offer(&s, OTHER_NODE, false, false);
    struct zone z = zone(&s);
    CHECK_STR(z.baseline->cpu_model, "x86-64-v2-AES");
    CHECK_STR(z.baseline->machine_type, "pc-q35-7.2");
    CHECK(str_empty(z.first->lacks) && str_empty(z.second->lacks));
    CHECK_EQ(z.events.count, 0);
    stage_close(&s);
}

TEST(baseline_refuses_a_later_host_that_is_less_with_one_event)
{
    struct stage s;
    setup(&s); /* With a guest on NODE. */
    offer(&s, NODE, true, true);
    for (int i = 0; i < 3; i++) {
        offer(&s, OTHER_NODE, false, true);
    }
    struct zone z = zone(&s);
    CHECK_STR(z.baseline->machine_type, "pc-q35-9.0");
    CHECK_STR(z.second->lacks, "machine type pc-q35-9.0 (QEMU 7.2.22)");
    CHECK_EQ(z.events.count, 1);
    const struct row_node_event *event = z.events.rows[0];
    CHECK_STR(event->kind, "baseline");
    CHECK_STR(event->node_id, OTHER_NODE);
    offer(&s, OTHER_NODE, true, true); /* Upgraded. */
    CHECK(str_empty(zone(&s).second->lacks));
    CHECK_EQ(zone(&s).events.count, 2);
    stage_close(&s);
}

static bool
do_fix(struct pass *pass, void *ctx, struct err *err)
{
    const struct baseline_key key = {"us-east-1", "us-east-1a", "tcg"};
    const struct row_baseline row = {.region = key.region,
                                     .zone = key.zone,
                                     .accel = key.accel,
                                     .cpu_model = ctx,
                                     .machine_type = "pc-q35-7.2",
                                     .fixed = true};
    return row_put(pass->txn, &row_baseline_type, &row, err) &&
           baseline_judge_all(pass->txn, &key, NULL, err);
}

TEST(baseline_that_an_operator_set_stays_and_binds_all_hosts)
{
    struct stage s;
    setup(&s);
    stage_run(&s, do_empty, NULL);
    offer(&s, NODE, true, true);
    offer(&s, OTHER_NODE, true, false);
    stage_run(&s, do_fix, "x86-64-v3");
    CHECK(str_empty(zone(&s).first->lacks));
    CHECK_STR(zone(&s).second->lacks, "processor x86-64-v3");
    offer(&s, OTHER_NODE, true, false); /* There are no guests, yet it stays. */
    CHECK_STR(zone(&s).baseline->cpu_model, "x86-64-v3");
    stage_run(&s, do_fix, "qemu64");
    CHECK(str_empty(zone(&s).second->lacks));
    stage_close(&s);
}

/* ---- guests ------------------------------------------------------------------------------ */

struct told {
    const char *node_id;
    struct link_machine record;
};

static bool
do_told(struct pass *pass, void *ctx, struct err *err)
{
    struct told *t = ctx;
    const struct row_node_want *want;
    return instance_pass(pass, ACCOUNT, INSTANCE, err) &&
           want_get(pass->txn, t->node_id, LINK_MACHINE, INSTANCE, &want, err) &&
           want &&
           tlv_decode(&link_machine_desc, want->body.data, want->body.len,
                      txn_arena(pass->txn), &t->record, err);
}

static struct link_machine
told(struct stage *s, const char *node_id)
{
    struct told t = {.node_id = node_id};
    stage_run(s, do_told, &t);
    return t.record;
}

static bool
do_runs(struct pass *pass, void *ctx, struct err *err)
{
    const struct link_machine_seen *seen = ctx;
    return report_apply(pass, NODE, LINK_MACHINE, seen, 0, "e1", err);
}

static void
reports(struct stage *s, const char *state, const char *cpu, const char *machine)
{
    struct link_machine_seen seen = {.id = INSTANCE,
                                     .state = state,
                                     .generation = 1,
                                     .cpu_model = cpu,
                                     .machine_type = machine};
    stage_run(s, do_runs, &seen);
}

TEST(instance_gets_the_baseline_and_keeps_what_it_runs_with)
{
    struct stage s;
    setup(&s);
    CHECK_NULL(told(&s, NODE).cpu_model); /* An agent of an earlier version. */
    offer(&s, NODE, false, true);
    CHECK_STR(told(&s, NODE).cpu_model, "x86-64-v3");
    CHECK_STR(told(&s, NODE).machine_type, "pc-q35-7.2");
    reports(&s, "running", "x86-64-v3", "pc-q35-7.2");
    stage_run(&s, do_fix, "qemu64");
    CHECK_STR(told(&s, NODE).cpu_model, "x86-64-v3");
    reports(&s, "stopped", "x86-64-v3", "pc-q35-7.2"); /* Its next start is another. */
    CHECK_STR(told(&s, NODE).cpu_model, "qemu64");
    reports(&s, "preparing", "x86-64-v3", "pc-q35-7.2");
    CHECK_STR(told(&s, NODE).cpu_model, "qemu64");
    stage_close(&s);
}

/* An agent that was just started says nothing of its QEMU until that has answered. */
TEST(instance_gets_the_baseline_while_its_hosts_agent_is_starting)
{
    struct stage s;
    setup(&s);
    offer(&s, NODE, false, true);
    s.now_ns += NS_PER_S;
    stage_run(&s, do_offer, &(struct offer){.node_id = NODE, .silent = true});
    CHECK_STR(told(&s, NODE).cpu_model, "x86-64-v3");
    stage_close(&s);
}

/* One that was started before there were baselines has its host's own. */
TEST(instance_that_ran_before_there_was_a_baseline_keeps_its_hosts_own)
{
    struct stage s;
    setup(&s);
    (void)told(&s, NODE);
    reports(&s, "running", NULL, NULL);
    offer(&s, NODE, false, true);
    CHECK(str_empty(told(&s, NODE).cpu_model));
    stage_close(&s);
}

TEST(migration_goes_only_where_the_guests_processor_is_offered)
{
    struct stage s;
    moving_ready(&s);
    offer(&s, NODE, true, true);
    offer(&s, OTHER_NODE, true, false); /* Below. */
    offer(&s, THIRD, true, true);
    reports(&s, "running", "x86-64-v3", "pc-q35-9.0");
    struct move_asked a = {.to = OTHER_NODE};
    stage_run(&s, moving_do_begin, &a);
    CHECK(!a.id && strstr(a.why.msg, "x86-64-v3") && migration_waits(&a.why));

    /* A low baseline lets it take guests, but this one has more. */
    stage_run(&s, do_fix, "qemu64");
    CHECK(str_empty(zone(&s).second->lacks));
    stage_run(&s, moving_do_begin, &a);
    CHECK(!a.id);
    a.to = THIRD;
    stage_run(&s, moving_do_begin, &a);
    CHECK_OK(a.id != NULL, &a.why);
    CHECK_STR(told(&s, THIRD).cpu_model, "x86-64-v3"); /* What it knows goes along. */
    CHECK_STR(told(&s, THIRD).machine_type, "pc-q35-9.0");
    stage_close(&s);
}
