/* test_drains.c - who may be moved where, nodes that are emptied, and what is kept of
 * migrations that have ended. */
#include "moving.h"

#include "control/drains.h"
#include "core/instance_events.h"

/* ---- who may go where ---------------------------------------------------------------------------- */

struct change {
    const char *node_id;
    bool local, cordoned;
    const char *underlay, *accel, *zone, *owner;
};

static bool
do_change(struct pass *pass, void *ctx, struct err *err)
{
    const struct change *c = ctx;
    const struct row_node *node;
    const struct row_node_seen *seen;
    if (!moving_put_host(pass, c->node_id, c->underlay, err) ||
        !GET_ROW(node, &node, .id = c->node_id) ||
        !GET_ROW(node_seen, &seen, .id = c->node_id)) {
        return false;
    }
    struct row_node next = *node;
    struct row_node_seen says = *seen;
    const struct row_node_claim claim = {
        .id = c->node_id, .owner = c->owner, .machines = c->owner ? 1 : 0};
    next.local = c->local;
    next.cordoned = c->cordoned;
    next.zone = c->zone ? c->zone : "us-east-1a";
    says.accel = c->accel ? c->accel : "tcg";
    return row_put(pass->txn, &row_node_type, &next, err) &&
           row_put(pass->txn, &row_node_seen_type, &says, err) &&
           (str_eq(c->node_id, NODE) ||
            row_put(pass->txn, &row_node_claim_type, &claim, err));
}

static struct move_asked
ask_after(struct stage *s, const char *to, struct change change)
{
    struct move_asked a = {.to = to};
    moving_ready(s);
    stage_run(s, do_change, &change);
    stage_run(s, moving_do_begin, &a);
    stage_close(s);
    return a;
}

#define U2 "192.0.2.2"

TEST(migration_choose_refuses_with_the_reason)
{
    struct stage s;
    struct move_asked a = ask_after(
        &s, OTHER_NODE, (struct change){OTHER_NODE, .local = true, .underlay = U2});
    CHECK(!a.id && strstr(a.why.msg, "unix socket") && migration_waits(&a.why));
    a = ask_after(&s, NULL,
                  (struct change){NODE, .local = true, .underlay = "192.0.2.1"});
    CHECK(!a.id && strstr(a.why.msg, NODE) && strstr(a.why.msg, "unix socket"));
    a = ask_after(&s, OTHER_NODE, (struct change){OTHER_NODE});
    CHECK(!a.id && strstr(a.why.msg, "--underlay"));
    a = ask_after(&s, OTHER_NODE,
                  (struct change){OTHER_NODE, .underlay = U2, .accel = "kvm"});
    CHECK(!a.id && migration_waits(&a.why));
    a = ask_after(&s, OTHER_NODE,
                  (struct change){OTHER_NODE, .underlay = U2, .zone = "us-east-1b"});
    CHECK(!a.id && migration_waits(&a.why));
    a = ask_after(&s, OTHER_NODE,
                  (struct change){OTHER_NODE, .underlay = U2, .cordoned = true});
    CHECK(!a.id && migration_waits(&a.why));
    a = ask_after(&s, OTHER_NODE,
                  (struct change){OTHER_NODE, .underlay = U2, .owner = "999999999999"});
    CHECK(!a.id && migration_waits(&a.why));
}

struct group {
    const char *strategy;
    const char *member_node; /* Of another member. */
};

static bool
do_group(struct pass *pass, void *ctx, struct err *err)
{
    const struct group *g = ctx;
    const struct row_placement_group group = {.account = ACCOUNT,
                                              .id = "pg-1",
                                              .region = "us-east-1",
                                              .name = "g",
                                              .strategy = g->strategy};
    const struct row_instance *old;
    if (!GET_ROW(instance, &old, .account = ACCOUNT, .id = INSTANCE)) {
        return false;
    }
    struct row_instance next = *old, other = *old;
    next.placement_group_id = other.placement_group_id = "pg-1";
    next.placement_group = other.placement_group = "g";
    other.id = "i-00000000000000002";
    other.node_id = g->member_node;
    other.eni_ids.count = 0;
    struct row_placement_member a = {
        .account = ACCOUNT, .group_id = "pg-1", .instance_id = INSTANCE};
    struct row_placement_member b = a;
    b.instance_id = other.id;
    return row_put(pass->txn, &row_placement_group_type, &group, err) &&
           row_put(pass->txn, &row_instance_type, &next, err) &&
           row_put(pass->txn, &row_instance_type, &other, err) &&
           row_put(pass->txn, &row_placement_member_type, &a, err) &&
           row_put(pass->txn, &row_placement_member_type, &b, err);
}

TEST(migration_choose_keeps_a_spread_group_apart)
{
    struct stage s;
    struct move_asked a = {0};
    moving_ready(&s);
    stage_run(&s, do_group, &(struct group){"spread", OTHER_NODE});
    a.to = OTHER_NODE;
    stage_run(&s, moving_do_begin, &a);
    CHECK(!a.id && migration_waits(&a.why));
    a = (struct move_asked){0}; /* The best of all: the only one that is left. */
    stage_run(&s, moving_do_begin, &a);
    CHECK_OK(a.id != NULL, &a.why);
    CHECK_STR(moving_look(&s, a.id).m->to_node, THIRD);
    stage_close(&s);
}

/* ---- drains --------------------------------------------------------------------------------------- */

static bool
do_drain(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_node *old;
    if (!GET_ROW(node, &old, .id = NODE)) {
        return false;
    }
    struct row_node next = *old;
    next.draining = next.cordoned = true;
    return row_put(pass->txn, &row_node_type, &next, err) &&
           drains_look(pass, NULL, NULL, err);
}

static const char *
migration_of(struct stage *s)
{
    return moving_look(s, "none").instance->migration_id;
}

TEST(drain_moves_what_runs_and_rests_after_a_failure)
{
    struct stage s;
    moving_ready(&s);
    stage_run(&s, do_drain, NULL);
    const char *id = migration_of(&s);
    CHECK(!str_empty(id));
    CHECK_STR(moving_look(&s, id).m->reason, "drain");
    stage_run(&s, do_drain, NULL);
    CHECK_STR(migration_of(&s), id); /* One at a time for one machine. */
    stage_run(&s, moving_do_cancel, (void *)(uintptr_t)id);
    moving_say(&s, id, NODE, "kept");
    moving_clear(&s);
    stage_run(&s, moving_do_clear, THIRD);
    CHECK_STR(moving_look(&s, id).m->state, "failed");
    stage_run(&s, do_drain, NULL);
    CHECK(str_empty(migration_of(&s)));
    s.now_ns += 61 * NS_PER_S;
    stage_run(&s, do_drain, NULL);
    CHECK(!str_empty(migration_of(&s)) && !str_eq(migration_of(&s), id));
    stage_close(&s);
}

/* Others like the instance, without a disk. */
static bool
do_make_more(struct pass *pass, void *ctx, struct err *err)
{
    const size_t *count = ctx;
    struct arena *arena = txn_arena(pass->txn);
    const struct row_instance *inst;
    const struct row_machine_seen *seen;
    if (!GET_ROW(instance, &inst, .account = ACCOUNT, .id = INSTANCE) ||
        !GET_ROW(machine_seen, &seen, .id = INSTANCE)) {
        return false;
    }
    for (size_t i = 0; i < *count; i++) {
        struct row_instance other = *inst;
        struct row_machine_seen runs = *seen;
        other.id = runs.id = arena_printf(arena, "i-1000000000000%04zu", i);
        other.eni_ids.count = 0;
        if (!row_put(pass->txn, &row_instance_type, &other, err) ||
            !row_put(pass->txn, &row_machine_seen_type, &runs, err)) {
            return false;
        }
    }
    return true;
}

static bool
do_list_open(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_migration prefix = {.state = "preparing"};
    const struct row_query query = {
        .index = "by_state", .prefix = &prefix, .prefix_fields = 1};
    return row_list(pass->txn, &row_migration_type, &query, ctx, err);
}

TEST(drain_keeps_to_what_the_operator_set)
{
    struct stage s;
    struct row_list open;
    moving_ready(&s);
    stage_run(&s, do_make_more, &(size_t){5});
    stage_run(&s, do_drain, NULL);
    stage_run(&s, do_list_open, &open);
    CHECK_EQ(open.count, MIGRATIONS_AT_ONCE);
    CHECK_EQ(((const struct row_migration *)open.rows[0])->bandwidth_bps, 0);
    stage_close(&s);

    moving_ready(&s);
    s.config.drain_at_once = 4;
    s.config.migration_bps = 300000000;
    stage_run(&s, do_make_more, &(size_t){5});
    stage_run(&s, do_drain, NULL);
    stage_run(&s, do_list_open, &open);
    CHECK_EQ(open.count, 4);
    for (size_t i = 0; i < open.count; i++) {
        const struct row_migration *m = open.rows[i];
        CHECK_EQ(m->bandwidth_bps, 300000000);
        CHECK_EQ(m->at_once, 4);
    }
    stage_close(&s);
}

static bool
do_look(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    return drains_look(pass, NULL, NULL, err);
}

static bool
do_plan(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_node *old;
    const struct row_instance *inst;
    if (!GET_ROW(node, &old, .id = NODE) ||
        !GET_ROW(instance, &inst, .account = ACCOUNT, .id = INSTANCE)) {
        return false;
    }
    struct row_node next = *old;
    next.draining = next.cordoned = true;
    next.drain_at = pass->now_ns + 3600 * NS_PER_S;
    next.drain_deadline = pass->now_ns + 7200 * NS_PER_S;
    return row_put(pass->txn, &row_node_type, &next, err) &&
           drain_tell(pass, inst, err) && drains_look(pass, NULL, NULL, err);
}

/* As ModifyInstanceEventStartTime does. */
static bool
do_put_off(struct pass *pass, void *ctx, struct err *err)
{
    const int64_t *by_ns = ctx;
    const struct row_instance *inst;
    const struct row_instance_event *event;
    if (!GET_ROW(instance, &inst, .account = ACCOUNT, .id = INSTANCE) ||
        !instance_event_standing(pass->txn, inst, INSTANCE_EVENT_MAINTENANCE, &event,
                                 err)) {
        return false;
    }
    struct row_instance_event next = *event;
    next.not_before += *by_ns;
    return row_put(pass->txn, &row_instance_event_type, &next, err) &&
           drain_tell(pass, inst, err);
}

TEST(drain_waits_for_its_time_and_for_what_owners_made_of_it)
{
    struct stage s;
    moving_ready(&s);
    stage_run(&s, do_plan, NULL);
    stage_run(&s, do_put_off, &(int64_t){1800 * NS_PER_S});
    CHECK(str_empty(migration_of(&s)));
    s.now_ns += 3601 * NS_PER_S;
    stage_run(&s, do_look, NULL);
    CHECK(str_empty(migration_of(&s)));
    s.now_ns += 1800 * NS_PER_S;
    stage_run(&s, do_look, NULL);
    CHECK(!str_empty(migration_of(&s)));
    stage_close(&s);
}

static bool
do_events(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_node_event prefix = {.node_id = NODE};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 1};
    return row_list(pass->txn, &row_node_event_type, &query, ctx, err);
}

static size_t
events_of(struct stage *s)
{
    struct row_list list;
    stage_run(s, do_events, &list);
    return list.count;
}

/* What cannot go now is told, once an hour, and does not keep the others. */
TEST(drain_tells_of_what_stays_and_goes_on)
{
    struct stage s;
    moving_ready(&s);
    stage_run(&s, do_change,
              &(struct change){OTHER_NODE, .cordoned = true, .underlay = U2});
    stage_run(&s, do_change,
              &(struct change){THIRD, .local = true, .underlay = "192.0.2.3"});
    for (int i = 0; i < 3; i++) {
        stage_run(&s, do_drain, NULL);
    }
    CHECK(str_empty(migration_of(&s)));
    CHECK_EQ(events_of(&s), 1);
    stage_close(&s);
}

static bool
do_share(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_volume *old;
    if (!GET_ROW(volume, &old, .account = ACCOUNT, .id = VOLUME)) {
        return false;
    }
    struct row_volume next = *old;
    next.pool = "pool-1";
    return row_put(pass->txn, &row_volume_type, &next, err);
}

TEST(drain_leaves_a_disk_that_cannot_go_and_tells)
{
    struct stage s;
    moving_ready(&s);
    stage_run(&s, do_share, NULL);
    stage_run(&s, do_drain, NULL);
    CHECK(str_empty(migration_of(&s)));
    CHECK_EQ(events_of(&s), 1);
    stage_close(&s);
}

static bool
do_stop_here(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_instance *old;
    if (!GET_ROW(instance, &old, .account = ACCOUNT, .id = INSTANCE)) {
        return false;
    }
    struct row_instance next = *old;
    next.want_state = "stopped";
    return row_put(pass->txn, &row_instance_type, &next, err);
}

TEST(drain_leaves_what_stops_just_now_and_nodes_that_are_revoked)
{
    struct stage s;
    moving_ready(&s);
    stage_run(&s, do_stop_here, NULL);
    stage_run(&s, do_drain, NULL);
    CHECK(str_empty(migration_of(&s)));
    stage_close(&s);

    moving_ready(&s);
    stage_run(&s, moving_do_revoke, NODE);
    stage_run(&s, do_drain, NULL);
    CHECK(str_empty(migration_of(&s)));
    stage_close(&s);
}

/* ---- forecasts -------------------------------------------------------------------- */

/* The guest writes so much, over cards that carry 100 Mbit/s. */
static bool
do_write_fast(struct pass *pass, void *ctx, struct err *err)
{
    const int64_t *dirty_bps = ctx;
    struct row_machine_use use = {
        .id = INSTANCE, .memory_bytes = 200 * (int64_t)MIB, .dirty_bps = *dirty_bps};
    const struct row_node_use node = {.id = NODE, .machines = {&use, 1}};
    struct row_host_nic card = {.name = "eth0", .speed_mbps = 100};
    struct row_node_hardware here = {.id = NODE, .nics = {&card, 1}};
    struct row_node_hardware there = here;
    there.id = OTHER_NODE;
    return row_put(pass->txn, &row_node_use_type, &node, err) &&
           row_put(pass->txn, &row_node_hardware_type, &here, err) &&
           row_put(pass->txn, &row_node_hardware_type, &there, err);
}

TEST(migration_begin_notes_its_forecast_and_refuses_what_never_ends)
{
    struct stage s;
    struct move_asked a = {.to = OTHER_NODE};
    moving_ready(&s);
    stage_run(&s, do_write_fast, &(int64_t){40000000000});
    stage_run(&s, moving_do_begin, &a);
    CHECK(!a.id && migration_waits(&a.why));
    CHECK(strstr(a.why.msg, "40.0 Gbit/s") && strstr(a.why.msg, "80 Mbit/s"));
    stage_close(&s);

    moving_ready(&s);
    stage_run(&s, do_write_fast, &(int64_t){40000000000});
    a = (struct move_asked){.to = OTHER_NODE, .force = true};
    stage_run(&s, moving_do_begin, &a);
    CHECK_OK(a.id != NULL, &a.why);
    stage_close(&s);

    moving_ready(&s);
    stage_run(&s, do_write_fast, &(int64_t){1000000});
    a = (struct move_asked){.to = OTHER_NODE};
    stage_run(&s, moving_do_begin, &a);
    CHECK_OK(a.id != NULL, &a.why);
    const struct moving l = moving_look(&s, a.id); /* 200 MiB over 80 Mbit/s: 21 s. */
    CHECK(l.m->forecast_ms > 20900 && l.m->forecast_ms < 22000);
    CHECK(l.m->forecast_downtime_ms < 400);
    stage_close(&s);
}

static bool
do_begin_drain(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    return do_write_fast(pass, &(int64_t){40000000000}, err) &&
           do_drain(pass, NULL, err);
}

/* By post-copy only what its owner allows, and only where nothing else ends. */
TEST(drain_lets_memory_follow_where_its_owner_allows_it_and_nothing_else_ends)
{
    struct stage s;
    moving_ready(&s);
    stage_run(&s, moving_do_revoke, (void *)(uintptr_t)THIRD); /* One place to go. */
    stage_run(&s, do_begin_drain, NULL);
    CHECK(str_empty(migration_of(&s)));
    stage_run(&s, moving_do_allow, NULL);
    stage_run(&s, do_drain, NULL);
    CHECK(moving_look(&s, migration_of(&s)).m->post_copy);
    stage_close(&s);

    moving_ready(&s);
    stage_run(&s, moving_do_allow, NULL);
    stage_run(&s, do_drain, NULL);
    CHECK(!moving_look(&s, migration_of(&s)).m->post_copy);
    stage_close(&s);
}

/* The third host can, and the other one, which is as good and comes first, cannot. */
static bool
do_allow_third(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_node_seen *other, *third;
    if (!moving_do_allow(pass, ctx, err) ||
        !GET_ROW(node_seen, &other, .id = OTHER_NODE) ||
        !GET_ROW(node_seen, &third, .id = THIRD)) {
        return false;
    }
    struct row_node_seen cannot = *other, can = *third;
    cannot.post_copy = false;
    can.post_copy = true;
    return row_put(pass->txn, &row_node_seen_type, &cannot, err) &&
           row_put(pass->txn, &row_node_seen_type, &can, err);
}

TEST(drain_finds_the_host_where_memory_may_follow)
{
    struct stage s;
    moving_ready(&s);
    stage_run(&s, do_allow_third, NULL);
    stage_run(&s, do_drain, NULL);
    CHECK_STR(moving_look(&s, migration_of(&s)).m->to_node, OTHER_NODE);
    stage_close(&s);

    moving_ready(&s);
    stage_run(&s, do_allow_third, NULL);
    stage_run(&s, do_write_fast, &(int64_t){400000000000});
    stage_run(&s, do_drain, NULL);
    const struct moving l = moving_look(&s, migration_of(&s));
    CHECK_STR(l.m->to_node, THIRD);
    CHECK(l.m->post_copy);
    stage_close(&s);
}

/* ---- what is kept ---------------------------------------------------------------------------------- */

struct history {
    int64_t now_ns;
    size_t most, left;
};

static bool
do_remember(struct pass *pass, void *ctx, struct err *err)
{
    const struct history *h = ctx;
    for (int i = 0; i < MIGRATIONS_KEPT + 30; i++) {
        const struct row_migration m = {
            .id = arena_printf(txn_arena(pass->txn), "migration-%04d", i),
            .account = ACCOUNT,
            .instance_id = INSTANCE,
            .state = i == 0       ? "copying"
                     : i % 2 == 0 ? "done"
                                  : "failed",
            .ended_at = i == 0 ? 0 : h->now_ns + i * NS_PER_S,
        };
        if (!row_put(pass->txn, &row_migration_type, &m, err)) {
            return false;
        }
    }
    return true;
}

static bool
do_prune(struct pass *pass, void *ctx, struct err *err)
{
    struct history *h = ctx;
    const struct row_query query = {0};
    struct row_list list;
    if (!migrations_prune(pass->txn, h->now_ns, h->most, err) ||
        !row_list(pass->txn, &row_migration_type, &query, &list, err)) {
        return false;
    }
    h->left = list.count;
    return true;
}

TEST(migrations_prune_keeps_a_month_and_a_thousand_and_what_is_under_way)
{
    struct stage s;
    struct history h = {.now_ns = 1000 * NS_PER_S, .most = 10};
    stage_open(&s);
    stage_run(&s, do_remember, &h);
    stage_run(&s, do_prune, &h);
    CHECK_EQ(h.left, MIGRATIONS_KEPT + 20);
    h.most = 500;
    stage_run(&s, do_prune, &h);
    CHECK_EQ(h.left, MIGRATIONS_KEPT + 1);
    /* The oldest of a thousand ended 30 s after the first. */
    h.now_ns += MIGRATION_KEPT_NS + 40 * NS_PER_S;
    stage_run(&s, do_prune, &h);
    CHECK_EQ(h.left, MIGRATIONS_KEPT + 1 - 11);
    h.now_ns *= 2;
    h.most = 5000;
    stage_run(&s, do_prune, &h);
    CHECK_EQ(h.left, 1);
    stage_close(&s);
}
