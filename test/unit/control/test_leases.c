/* test_leases.c - leases granted, refused and lost, and what becomes of instances then. */
#include "one_instance.h"

#include "base/tlv.h"
#include "control/janitor.h"
#include "control/leases.h"
#include "control/recovery.h"
#include "core/elsewhere.h"

#define NEW_ROOT_GIB 8

struct asked {
    const char *node_id;
    struct link_lease_ask ask;
    struct link_lease answer;
};

static bool
do_ask(struct pass *pass, void *ctx, struct err *err)
{
    struct asked *a = ctx;
    return lease_grant(pass, a->node_id, &a->ask, &a->answer, err);
}

static struct link_lease
ask(struct stage *s, const char *node_id, bool empty)
{
    struct asked a = {node_id, {.serial = 7, .empty = empty}, {0}};
    stage_run(s, do_ask, &a);
    CHECK_EQ(a.answer.serial, 7);
    return a.answer;
}

struct looked {
    const struct row_instance *instance;
    const struct row_node_lease *lease;
    const struct row_node_want *machine, *machine_there;
    const struct row_volume *root, *old_root;
    const struct row_node_claim *claim, *claim_there;
    const struct row_machine_seen *seen;
    struct row_list events;
};

#define GET_ROW(type, out, ...) \
    row_get(pass->txn, &row_##type##_type, &(struct row_##type){__VA_ARGS__}, \
            (const void **)(out), err)

static bool
do_look(struct pass *pass, void *ctx, struct err *err)
{
    struct looked *l = ctx;
    const struct row_query all = {0};
    return GET_ROW(instance, &l->instance, .account = ACCOUNT, .id = INSTANCE) &&
           GET_ROW(node_lease, &l->lease, .id = NODE) &&
           GET_ROW(node_want, &l->machine, .node_id = NODE, .kind = LINK_MACHINE,
                   .id = INSTANCE) &&
           GET_ROW(node_want, &l->machine_there, .node_id = OTHER_NODE,
                   .kind = LINK_MACHINE, .id = INSTANCE) &&
           GET_ROW(volume, &l->root, .account = ACCOUNT,
                   .id = l->instance->root_volume_id) &&
           GET_ROW(volume, &l->old_root, .account = ACCOUNT, .id = VOLUME) &&
           GET_ROW(node_claim, &l->claim, .id = NODE) &&
           GET_ROW(node_claim, &l->claim_there, .id = OTHER_NODE) &&
           GET_ROW(machine_seen, &l->seen, .id = INSTANCE) &&
           row_list(pass->txn, &row_node_event_type, &all, &l->events, err);
}

static struct looked
look(struct stage *s)
{
    struct looked l = {0};
    stage_run(s, do_look, &l);
    return l;
}

static bool
do_pass(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    return instance_pass(pass, ACCOUNT, INSTANCE, err);
}

/* What a tenant may change. */
struct policy {
    bool recover;
    const char *tag; /* NULL: none. */
};

static bool
do_policy(struct pass *pass, void *ctx, struct err *err)
{
    const struct policy *policy = ctx;
    const struct row_instance *old;
    struct row_tag tag = {.account = ACCOUNT,
                          .region = "us-east-1",
                          .resource_id = INSTANCE,
                          .tag_key = RECOVERY_TAG,
                          .value = policy->tag};
    if (!GET_ROW(instance, &old, .account = ACCOUNT, .id = INSTANCE)) {
        return false;
    }
    struct row_instance next = *old;
    next.recover = policy->recover;
    return row_put(pass->txn, &row_instance_type, &next, err) &&
           (policy->tag ? row_put(pass->txn, &row_tag_type, &tag, err)
                        : row_delete(pass->txn, &row_tag_type, &tag, err)) &&
           instance_pass(pass, ACCOUNT, INSTANCE, err);
}

static void
set_policy(struct stage *s, bool recover, const char *tag)
{
    stage_run(s, do_policy, &(struct policy){recover, tag});
}

static bool
do_report(struct pass *pass, void *ctx, struct err *err)
{
    const struct link_machine_seen *seen = ctx;
    return report_apply(pass, NODE, LINK_MACHINE, seen, 0, "e1", err);
}

static void
report(struct stage *s, const char *state, int64_t generation, bool leased)
{
    struct link_machine_seen seen = {
        .id = INSTANCE, .state = state, .generation = generation, .leased = leased};
    stage_run(s, do_report, &seen);
}

static bool
do_lose(struct pass *pass, void *ctx, struct err *err)
{
    return lease_lose(pass, NODE, *(int64_t *)ctx, err);
}

static void
lose(struct stage *s, int64_t serial)
{
    stage_run(s, do_lose, &serial);
    stage_run(s, do_pass, NULL);
}

static bool
do_connect(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_node_seen seen = {.id = ctx,
                                       .connected = true,
                                       .vcpus = 8,
                                       .memory_bytes = 16 * (int64_t)GIB,
                                       .pool_bytes = 100 * (int64_t)GIB,
                                       .pool_free_bytes = 90 * (int64_t)GIB,
                                       .accel = "tcg"};
    return row_put(pass->txn, &row_node_seen_type, &seen, err);
}

static bool
do_revoke(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_node *old;
    if (!GET_ROW(node, &old, .id = NODE)) {
        return false;
    }
    struct row_node next = *old;
    next.state = "revoked";
    return row_put(pass->txn, &row_node_type, &next, err);
}

TEST(lease_grant_rises_and_refuses_the_revoked_with_an_event)
{
    struct stage s;
    setup(&s);
    CHECK_EQ(ask(&s, NODE, true).duration_ms, 60000);
    CHECK_EQ(look(&s).lease->serial, 1);
    CHECK_EQ(ask(&s, NODE, false).duration_ms, 60000);
    CHECK_EQ(look(&s).lease->serial, 2);
    stage_run(&s, do_revoke, NULL);
    for (int i = 0; i < 3; i++) {
        struct link_lease no = ask(&s, NODE, true);
        CHECK_EQ(no.duration_ms, 0);
        CHECK_STR(no.code, "revoked");
    }
    CHECK_EQ(look(&s).lease->serial, 2);
    CHECK_EQ(look(&s).events.count, 1);
    stage_close(&s);
}

TEST(lease_lose_yields_to_a_renewal_and_forgets_nodes_without_leased_machines)
{
    struct stage s;
    setup(&s);
    set_policy(&s, true, RECOVERY_REBUILD);
    CHECK_EQ(look(&s).lease->serial, 1); /* Watched, though it never asked. */
    (void)ask(&s, NODE, true);
    lose(&s, 1);
    CHECK(!look(&s).lease->lost);
    lose(&s, 2);
    CHECK(look(&s).lease->lost);
    CHECK_STR(ask(&s, NODE, false).code, "lost");
    CHECK(ask(&s, NODE, true).duration_ms > 0);
    CHECK(!look(&s).lease->lost);

    set_policy(&s, false, NULL);
    lose(&s, look(&s).lease->serial);
    CHECK_NULL(look(&s).lease);
    stage_close(&s);
}

TEST(recovery_leases_only_what_asked_and_can_be_had_elsewhere)
{
    struct stage s;
    setup(&s);
    set_policy(&s, true, NULL);
    CHECK(!look(&s).instance->leased);
    set_policy(&s, false, RECOVERY_REBUILD);
    CHECK(!look(&s).instance->leased);
    set_policy(&s, true, "something");
    CHECK(!look(&s).instance->leased);
    int64_t generation = look(&s).instance->generation;
    set_policy(&s, true, RECOVERY_REBUILD);
    CHECK(look(&s).instance->leased);
    CHECK_EQ(look(&s).instance->leased_generation, generation + 1);
    stage_close(&s);
}

TEST(recovery_moves_an_instance_once_its_node_is_lost)
{
    struct stage s;
    setup(&s);
    set_policy(&s, true, RECOVERY_REBUILD);
    CHECK_EQ(look(&s).instance->leased_generation, 0); /* Leased from the first. */
    (void)ask(&s, NODE, true);
    report(&s, "running", 1, true);
    lose(&s, look(&s).lease->serial); /* Nowhere to go yet. */
    CHECK_STR(look(&s).instance->node_id, NODE);

    stage_run(&s, do_connect, OTHER_NODE);
    stage_run(&s, do_pass, NULL);
    struct looked l = look(&s);
    CHECK_STR(l.instance->node_id, OTHER_NODE);
    CHECK(l.machine->deleted && !l.machine_there->deleted);
    CHECK(l.old_root->want_deleted && str_eq(l.old_root->node_id, NODE));
    CHECK(!str_eq(l.root->id, VOLUME) && str_eq(l.root->node_id, OTHER_NODE));
    CHECK_EQ(l.root->size_gib, NEW_ROOT_GIB);
    CHECK_EQ(l.claim->vcpus, 0);
    CHECK_EQ(l.claim_there->vcpus, 2);
    CHECK_EQ(instance_state_of(l.instance, l.seen), INSTANCE_PENDING);
    CHECK_EQ(l.events.count, 2); /* The loss and the recovery. */

    /* What the old node says now is about what it still has, and no more. */
    report(&s, "running", 1, true);
    CHECK_NULL(look(&s).seen);
    report(&s, "absent", 1, false);
    l = look(&s);
    CHECK_NULL(l.machine);
    CHECK_STR(l.instance->node_id, OTHER_NODE);
    stage_run(&s, do_pass, NULL);
    CHECK_STR(look(&s).instance->node_id, OTHER_NODE);
    stage_close(&s);
}

static bool
do_use(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    struct row_machine_use use = {
        .id = INSTANCE, .credits_milli = 4200, .surplus_milli = 30, .charged_milli = 7};
    const struct row_node_use node = {.id = NODE, .machines = {&use, 1}};
    return row_put(pass->txn, &row_node_use_type, &node, err);
}

static bool
do_machine_there(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_node_want *want;
    return want_get(pass->txn, OTHER_NODE, LINK_MACHINE, INSTANCE, &want, err) &&
           want &&
           tlv_decode(&link_machine_desc, want->body.data, want->body.len,
                      txn_arena(pass->txn), ctx, err);
}

/* As its lost node said last; the new one takes them once, by the name. */
TEST(recovery_brings_credits_along)
{
    static const struct instance_type types[] = {
        {.name = "t3.nano", .family = "t3", .burstable = true, .baseline_percent = 5}};
    struct stage s;
    struct link_machine there;
    setup(&s);
    s.config.types = types;
    s.config.type_count = 1;
    set_policy(&s, true, RECOVERY_REBUILD);
    (void)ask(&s, NODE, true);
    report(&s, "running", 1, true);
    stage_run(&s, do_use, NULL);
    stage_run(&s, do_connect, OTHER_NODE);
    lose(&s, look(&s).lease->serial);
    stage_run(&s, do_pass, NULL);
    CHECK_STR(look(&s).instance->node_id, OTHER_NODE);
    stage_run(&s, do_machine_there, &there);
    CHECK(there.brought && str_starts(there.brought_as, NODE "."));
    CHECK_EQ(there.credits_milli, 4200);
    CHECK_EQ(there.surplus_milli, 30);
    CHECK_EQ(there.charged_milli, 7);
    stage_close(&s);
}

static bool
do_lose_other(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_node_lease lost = {.id = OTHER_NODE, .serial = 9, .lost = true};
    return row_put(pass->txn, &row_node_lease_type, &lost, err);
}

/* A node may have been lost once, have come back, and not have asked for a lease since. */
TEST(recovery_stays_where_it_moved_to)
{
    struct stage s;
    setup(&s);
    stage_run(&s, do_connect, NODE);
    stage_run(&s, do_connect, OTHER_NODE);
    stage_run(&s, do_lose_other, NULL);
    set_policy(&s, true, RECOVERY_REBUILD);
    lose(&s, look(&s).lease->serial);
    for (int i = 0; i < 3; i++) {
        CHECK_STR(look(&s).instance->node_id, OTHER_NODE);
        stage_run(&s, do_pass, NULL);
    }
    stage_close(&s);
}

TEST(recovery_leaves_alone_what_may_run_without_a_lease)
{
    struct stage s;
    setup(&s);
    stage_run(&s, do_connect, OTHER_NODE);
    stage_run(&s, do_pass, NULL);
    report(&s, "running", 1, false); /* Started before anybody asked. */
    set_policy(&s, true, RECOVERY_REBUILD);
    (void)ask(&s, NODE, true);
    int64_t leased = look(&s).instance->leased_generation;
    CHECK(leased > 1);
    lose(&s, look(&s).lease->serial);
    CHECK_STR(look(&s).instance->node_id, NODE);

    /* The node has heard of it, but the old process goes on. */
    report(&s, "running", leased, false);
    stage_run(&s, do_pass, NULL);
    CHECK_STR(look(&s).instance->node_id, NODE);

    /* Rebooted, it is leased. */
    report(&s, "running", leased, true);
    stage_run(&s, do_pass, NULL);
    CHECK_STR(look(&s).instance->node_id, OTHER_NODE);
    stage_close(&s);
}

TEST(recovery_goes_by_what_the_node_said_after_the_last_change)
{
    struct stage s;
    setup(&s);
    stage_run(&s, do_connect, OTHER_NODE);
    set_policy(&s, true, RECOVERY_REBUILD);
    report(&s, "running", 1, true);
    set_policy(&s, false,
               RECOVERY_REBUILD); /* It may have been rebooted meanwhile... */
    set_policy(&s, true, RECOVERY_REBUILD);
    (void)ask(&s, NODE, true);
    lose(&s, look(&s).lease->serial);
    CHECK_STR(look(&s).instance->node_id, NODE); /* ...and run without a lease. */
    stage_close(&s);
}

static bool
do_stop(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_instance *old;
    const struct instance_want want = {.state = "stopped"};
    return GET_ROW(instance, &old, .account = ACCOUNT, .id = INSTANCE) &&
           instance_want(pass->txn, old, &want, pass->now_ns, NULL, err) &&
           instance_pass(pass, ACCOUNT, INSTANCE, err);
}

/* Its node will never say so; but it can run there no more, and may start elsewhere. */
TEST(recovery_takes_for_stopped_what_was_to_stop_on_a_lost_node)
{
    struct stage s;
    setup(&s);
    set_policy(&s, true, RECOVERY_REBUILD);
    (void)ask(&s, NODE, true);
    report(&s, "running", 1, true);
    stage_run(&s, do_stop, NULL);
    CHECK_EQ(instance_state_of(look(&s).instance, look(&s).seen), INSTANCE_STOPPING);
    lose(&s, look(&s).lease->serial);
    struct looked l = look(&s);
    CHECK_EQ(instance_state_of(l.instance, l.seen), INSTANCE_STOPPED);
    CHECK_STR(l.instance->node_id, NODE);
    CHECK_EQ(l.claim->vcpus, 0);
    stage_close(&s);
}

/* What may run there without a lease may be running still. */
TEST(recovery_does_not_take_for_stopped_what_was_never_leased)
{
    struct stage s;
    setup(&s);
    stage_run(&s, do_pass, NULL);
    report(&s, "running", 1, false);
    set_policy(&s, true, RECOVERY_REBUILD);
    stage_run(&s, do_stop, NULL);
    lose(&s, look(&s).lease->serial);
    CHECK_EQ(instance_state_of(look(&s).instance, look(&s).seen), INSTANCE_STOPPING);
    stage_close(&s);
}

struct foreign {
    const char *node_id;
    enum link_kind kind;
    const void *record;
};

static bool
do_foreign(struct pass *pass, void *ctx, struct err *err)
{
    const struct foreign *f = ctx;
    return report_apply(pass, f->node_id, f->kind, f->record, 0, "e1", err);
}

TEST(report_apply_tells_of_a_node_that_speaks_of_anothers_machine)
{
    struct stage s;
    setup(&s);
    stage_run(&s, do_pass, NULL);
    report(&s, "running", 1, false);
    struct link_machine_seen machine = {
        .id = INSTANCE, .state = "stopped", .generation = 1};
    for (int i = 0; i < 2; i++) {
        stage_run(&s, do_foreign,
                  &(struct foreign){OTHER_NODE, LINK_MACHINE, &machine});
    }
    struct looked l = look(&s);
    CHECK_STR(l.seen->state, "running");
    CHECK_EQ(l.events.count, 1);
    const struct row_node_event *event = l.events.rows[0];
    CHECK_STR(event->kind, "foreign-report");
    CHECK_STR(event->node_id, OTHER_NODE);
    stage_close(&s);
}

#define DAY_NS (24 * 3600 * NS_PER_S)

struct told {
    const char *id;
    int64_t at;
};

static bool
do_event(struct pass *pass, void *ctx, struct err *err)
{
    const struct told *t = ctx;
    const struct link_event event = {.kind = "crash", .at = t->at};
    return report_apply(pass, NODE, LINK_EVENT, &event, 0, t->id, err);
}

static void
forget(struct stage *s)
{
    struct err err = {0};
    CHECK_OK(janitor_forget(s->store, s->now_ns, &err), &err);
}

/* Whatever a node's clock says, an event is no newer than we are. */
TEST(events_are_kept_for_ninety_days_of_our_own_clock)
{
    struct stage s;
    setup(&s);
    s.now_ns = 1000 * DAY_NS;
    struct told events[] = {{"e1", s.now_ns - 91 * DAY_NS},
                            {"e2", s.now_ns - 89 * DAY_NS},
                            {"e3", s.now_ns + 5000 * DAY_NS}};
    for (size_t i = 0; i < ARRAY_LEN(events); i++) {
        stage_run(&s, do_event, &events[i]);
    }
    CHECK_EQ(look(&s).events.count, 3);
    forget(&s);
    CHECK_EQ(look(&s).events.count, 2);
    s.now_ns += 90 * DAY_NS + 1;
    forget(&s);
    CHECK_EQ(look(&s).events.count, 0);
    stage_close(&s);
}
