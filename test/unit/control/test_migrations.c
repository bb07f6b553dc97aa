/* test_migrations.c - a guest's way from node to node, as the control plane follows it:
 * what the two ends say in every state, late, doubled, or from a stranger; what is lost on
 * the way; and what the instance's owner does meanwhile. */
#include "moving.h"

#include "base/tlv.h"

#define SECOND_ROOT "vol-00000000000000002"

/* It ended, on 'node_id'; nothing of it is left, or promised, elsewhere. */
static void
check_settled(struct stage *s, const char *id, const char *state, const char *node_id)
{
    moving_clear(s);
    struct moving l = moving_look(s, id);
    bool moved = str_eq(node_id, OTHER_NODE);
    CHECK_STR(l.m->state, state);
    CHECK(l.m->ended_at > 0);
    CHECK(str_empty(l.m->held_node));
    CHECK_STR(l.instance->node_id, node_id);
    CHECK(str_empty(l.instance->migration_id));
    CHECK_EQ(moved ? l.left_from : l.left_to, 0);
    CHECK_EQ(l.from->vcpus, moved ? 0 : 2);
    CHECK_EQ(l.from->memory_bytes, moved ? 0 : MEMORY);
    CHECK_EQ(l.to->vcpus, moved ? 2 : 0);
    CHECK_EQ(l.to->memory_bytes, moved ? MEMORY : 0);
}

/* ---- there and back ------------------------------------------------------------------------ */

/* The giver's record ends, and with it says how long the guest stood still. */
static bool
do_end_giver(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_node_want *want;
    struct link_migration_seen seen = {.id = ctx, .state = "absent", .downtime_ms = 55};
    return want_get(pass->txn, NODE, LINK_MIGRATION, ctx, &want, err) &&
           report_apply(pass, NODE, LINK_MIGRATION, &seen, want->revision, "e1", err);
}

TEST(migration_goes_there_step_by_step)
{
    struct stage s;
    moving_ready(&s);
    const char *id = moving_begin(&s);
    struct moving l = moving_look(&s, id);
    CHECK_STR(l.m->state, "preparing");
    CHECK_STR(l.give.order, "wait");
    CHECK_STR(l.take.order, "receive");
    CHECK(l.machine_from && l.machine_to);
    CHECK_EQ(l.from->vcpus, 2); /* Both are promised it. */
    CHECK_EQ(l.to->vcpus, 2);

    moving_say(&s, id, OTHER_NODE, "preparing");
    CHECK_STR(moving_look(&s, id).m->state, "preparing");
    moving_say(&s, id, OTHER_NODE, "listening");
    l = moving_look(&s, id);
    CHECK_STR(l.m->state, "copying");
    CHECK_STR(l.give.order, "copy");
    CHECK_STR(l.give.peer_address, "192.0.2.2");
    CHECK_EQ(l.give.peer_port, 4000);

    moving_say(&s, id, NODE, "copying");
    CHECK_STR(moving_look(&s, id).instance->node_id, NODE);
    moving_say(&s, id, NODE, "paused");
    l = moving_look(&s, id);
    CHECK_STR(l.m->state, "switching");
    CHECK_STR(l.instance->node_id, OTHER_NODE); /* Before the giver may let go. */
    CHECK_STR(l.root->node_id, OTHER_NODE);
    CHECK_STR(l.give.order, "switch");
    CHECK_STR(l.take.order, "receive");

    moving_say(&s, id, NODE, "left");
    CHECK_STR(moving_look(&s, id).take.order, "run");
    moving_say(&s, id, OTHER_NODE, "running");
    l = moving_look(&s, id);
    CHECK_STR(l.m->state, "settling");
    CHECK(!l.machine_from && l.machine_to);
    CHECK_EQ(l.m->downtime_ms, 40);
    stage_run(&s, do_end_giver, (void *)(uintptr_t)id);
    check_settled(&s, id, "done", OTHER_NODE);
    CHECK_EQ(moving_look(&s, id).m->downtime_ms, 55);
    stage_close(&s);
}

/* A report of the receiver's, in its own words. */
static bool
do_lie(struct pass *pass, void *ctx, struct err *err)
{
    return report_apply(pass, OTHER_NODE, LINK_MIGRATION, ctx, 0, "e1", err);
}

static void
lie(struct stage *s, const char *id, const char *address, int64_t port)
{
    struct link_migration_seen seen = {
        .id = id, .state = "listening", .address = address, .port = port};
    stage_run(s, do_lie, &seen);
    stage_run(s, moving_do_pass, NULL);
}

/* A node that says it listens elsewhere would make another connect to whatever it likes: to a
 * third host, to the giver itself, to a service of a host. */
TEST(migration_sends_the_giver_to_no_place_that_the_receiver_makes_up)
{
    static const struct {
        const char *address;
        int64_t port;
    } lies[] = {{"192.0.2.3", 4000}, {"127.0.0.1", 4000}, {"somewhere", 4000},
                {"192.0.2.2", 22},   {"192.0.2.2", 0},    {"192.0.2.2", 70000}};
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        struct stage s;
        moving_ready(&s);
        const char *id = moving_begin(&s);
        lie(&s, id, lies[i].address, lies[i].port);
        struct moving l = moving_look(&s, id);
        CHECK_STR(l.m->state, "undoing");
        CHECK(strstr(l.m->message, "underlay address") != NULL);
        CHECK(str_empty(l.give.peer_address));
        moving_say(&s, id, NODE, "kept");
        check_settled(&s, id, "failed", NODE);
        stage_close(&s);
    }
}

TEST(migration_keeps_the_giver_on_its_way_whatever_the_receiver_makes_up)
{
    struct stage s;
    moving_ready(&s);
    const char *id = moving_begin(&s);
    moving_say(&s, id, OTHER_NODE, "listening");
    lie(&s, id, "192.0.2.3", 4000);
    struct moving l = moving_look(&s, id);
    CHECK_STR(l.m->state, "copying");
    CHECK_STR(l.give.peer_address, "192.0.2.2");
    CHECK_EQ(l.give.peer_port, 4000);
    stage_close(&s);
}

static bool
do_share(struct pass *pass, void *ctx, struct err *err)
{
    const char *const *nodes = ctx; /* Two. */
    const struct row_volume *old;
    if (!GET_ROW(volume, &old, .account = ACCOUNT, .id = VOLUME)) {
        return false;
    }
    struct row_volume next = *old;
    next.pool = "pool-1";
    for (int i = 0; i < 2; i++) {
        const struct row_node_seen *seen;
        if (!GET_ROW(node_seen, &seen, .id = nodes[i])) {
            return false;
        }
        struct row_node_seen with = *seen;
        with.shared_pool = "pool-1";
        if (!row_put(pass->txn, &row_node_seen_type, &with, err)) {
            return false;
        }
    }
    return row_put(pass->txn, &row_volume_type, &next, err);
}

/* Its disk stays where both see it; only a host that does takes it. */
TEST(migration_copies_no_disk_of_a_shared_pool)
{
    struct stage s;
    const char *nodes[] = {NODE, OTHER_NODE};
    struct move_asked third = {.to = THIRD};
    moving_ready(&s);
    const char *plain = moving_begin(&s);
    CHECK_EQ(moving_look(&s, plain).give.copy_disks.count, 1);
    stage_close(&s);

    moving_ready(&s);
    stage_run(&s, do_share, nodes);
    stage_run(&s, moving_do_begin, &third);
    CHECK(!third.id && strstr(third.why.msg, "pool-1"));
    const char *id = moving_begin(&s);
    moving_say(&s, id, OTHER_NODE, "listening");
    struct moving l = moving_look(&s, id);
    CHECK_STR(l.give.order, "copy");
    CHECK_EQ(l.give.copy_disks.count, 0);
    CHECK_EQ(l.take.copy_disks.count, 0);
    moving_say(&s, id, NODE, "paused");
    moving_say(&s, id, NODE, "left");
    moving_say(&s, id, OTHER_NODE, "running");
    check_settled(&s, id, "done", OTHER_NODE);
    CHECK_STR(moving_look(&s, id).root->node_id, OTHER_NODE);
    stage_close(&s);
}

/* Its owner's side, and the giver with what it still has, stay until all has followed. */
TEST(migration_by_post_copy_waits_for_the_memory_behind_the_guest)
{
    struct stage s;
    struct move_asked asked = {.to = OTHER_NODE, .post_copy = true};
    moving_ready(&s);
    stage_run(&s, moving_do_begin, &asked);
    CHECK(!asked.id && strstr(asked.why.msg, "userfaultfd"));
    stage_run(&s, moving_do_allow, NULL);
    stage_run(&s, moving_do_begin, &asked);
    CHECK(asked.id && moving_look(&s, asked.id).give.post_copy);
    moving_say(&s, asked.id, OTHER_NODE, "listening");
    moving_say(&s, asked.id, NODE, "paused");
    moving_say(&s, asked.id, NODE, "left");
    const char *const states[] = {"following", "interrupted", "following"};
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        moving_say(&s, asked.id, OTHER_NODE, states[i]);
        struct moving l = moving_look(&s, asked.id);
        CHECK_STR(l.m->state, "switching");
        CHECK_STR(l.instance->node_id, OTHER_NODE);
        CHECK(l.machine_from && l.machine_to);
    }
    moving_say(&s, asked.id, OTHER_NODE, "running");
    check_settled(&s, asked.id, "done", OTHER_NODE);
    stage_close(&s);
}

static bool
do_disallow(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_tag tag = {.account = ACCOUNT,
                                .region = "us-east-1",
                                .resource_id = INSTANCE,
                                .tag_key = MIGRATION_TAG,
                                .value = "as you like"};
    return row_put(pass->txn, &row_tag_type, &tag, err);
}

/* To depend on two hosts is its owner's to allow, or an operator's to force. */
TEST(migration_by_post_copy_is_refused_without_its_owners_word)
{
    struct stage s;
    struct move_asked asked = {.to = OTHER_NODE, .post_copy = true};
    moving_ready(&s);
    stage_run(&s, moving_do_allow, NULL);
    stage_run(&s, do_disallow, NULL);
    stage_run(&s, moving_do_begin, &asked);
    CHECK(!asked.id && migration_waits(&asked.why));
    CHECK(strstr(asked.why.msg, INSTANCE) && strstr(asked.why.msg, MIGRATION_TAG));
    asked.force = true;
    stage_run(&s, moving_do_begin, &asked);
    CHECK_OK(asked.id != NULL, &asked.why);
    CHECK(moving_look(&s, asked.id).give.post_copy);
    stage_close(&s);
}

/* What it has not yet is lost with the giver: it starts anew where it is. */
TEST(migration_by_post_copy_ends_when_the_giver_is_lost)
{
    struct stage s;
    struct move_asked asked = {.to = OTHER_NODE, .post_copy = true};
    moving_ready(&s);
    stage_run(&s, moving_do_allow, NULL);
    stage_run(&s, moving_do_begin, &asked);
    moving_say(&s, asked.id, OTHER_NODE, "listening");
    moving_say(&s, asked.id, NODE, "paused");
    moving_say(&s, asked.id, NODE, "left");
    moving_say(&s, asked.id, OTHER_NODE, "interrupted");
    stage_run(&s, moving_do_revoke, (void *)(uintptr_t)NODE);
    stage_run(&s, moving_do_pass, NULL);
    struct moving l = moving_look(&s, asked.id);
    CHECK_STR(l.m->state, "settling");
    CHECK_STR(l.instance->node_id, OTHER_NODE);
    CHECK(l.machine_to);
    stage_close(&s);
}

/* The same when its host only lost its power: nothing can follow any more. But not while the
 * receiver still hears of memory: it may have had the last of it. */
TEST(migration_by_post_copy_ends_when_the_givers_emulator_is_gone)
{
    struct stage s;
    struct move_asked asked = {.to = OTHER_NODE, .post_copy = true};
    moving_ready(&s);
    stage_run(&s, moving_do_allow, NULL);
    stage_run(&s, moving_do_begin, &asked);
    moving_say(&s, asked.id, OTHER_NODE, "listening");
    moving_say(&s, asked.id, NODE, "paused");
    moving_say(&s, asked.id, NODE, "gone");
    CHECK_STR(moving_look(&s, asked.id).take.order, "run"); /* It has left. */
    moving_say(&s, asked.id, OTHER_NODE, "following");
    CHECK_STR(moving_look(&s, asked.id).m->state, "switching");
    moving_say(&s, asked.id, OTHER_NODE, "interrupted");
    CHECK_STR(moving_look(&s, asked.id).m->state, "settling");
    CHECK_STR(moving_look(&s, asked.id).instance->node_id, OTHER_NODE);
    stage_close(&s);
}

static bool
do_ask_for_recovery(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_instance *inst;
    struct row_node_lease lost = {.id = NODE, .serial = 7, .lost = true};
    if (!GET_ROW(instance, &inst, .account = ACCOUNT, .id = INSTANCE)) {
        return false;
    }
    struct row_instance next = *inst;
    next.recover = true;
    return row_put(pass->txn, &row_node_lease_type, &lost, err) &&
           row_put(pass->txn, &row_instance_type, &next, err) &&
           instance_pass(pass, ACCOUNT, INSTANCE, err);
}

static bool
do_get_leased(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_instance *inst;
    const struct row_node_lease *lease;
    bool ok = GET_ROW(instance, &inst, .account = ACCOUNT, .id = INSTANCE) &&
              GET_ROW(node_lease, &lease, .id = NODE);
    *(bool *)ctx = ok && inst->leased && lease && !lease->lost;
    return ok;
}

/* A lease that the giver lost while it kept nothing under one says nothing of this guest. */
TEST(migration_by_post_copy_goes_on_when_its_owner_asks_for_recovery)
{
    struct stage s;
    const char *nodes[] = {NODE, OTHER_NODE};
    struct move_asked asked = {.to = OTHER_NODE, .post_copy = true};
    bool leased = false;
    moving_ready(&s);
    stage_run(&s, do_share, nodes);
    stage_run(&s, moving_do_allow, NULL);
    stage_run(&s, moving_do_begin, &asked);
    CHECK_OK(asked.id != NULL, &asked.why);
    moving_say(&s, asked.id, OTHER_NODE, "listening");
    moving_say(&s, asked.id, NODE, "paused");
    moving_say(&s, asked.id, NODE, "left");
    moving_say(&s, asked.id, OTHER_NODE, "following");
    stage_run(&s, do_ask_for_recovery, NULL);
    stage_run(&s, moving_do_pass, NULL);
    stage_run(&s, do_get_leased, &leased);
    CHECK(leased);
    CHECK_STR(moving_look(&s, asked.id).m->state, "switching");
    stage_close(&s);
}

static bool
do_count_foreign(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_node_event prefix = {.node_id = THIRD};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 1};
    struct row_list list;
    size_t *count = ctx;
    if (!row_list(pass->txn, &row_node_event_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_node_event *event = list.rows[i];
        *count += str_eq(event->kind, "foreign-report");
    }
    return true;
}

/* A node that has no part in it is not heard, and told of. */
TEST(migration_report_of_a_stranger_is_refused_with_an_event)
{
    struct stage s;
    size_t told = 0;
    moving_ready(&s);
    const char *id = moving_begin(&s);
    moving_say(&s, id, OTHER_NODE, "listening");
    moving_say(&s, id, THIRD, "paused");
    CHECK_STR(moving_look(&s, id).m->state, "copying");
    stage_run(&s, do_count_foreign, &told);
    CHECK_EQ(told, 1);
    stage_close(&s);
}

/* A report comes again whenever its acknowledgement was lost. */
TEST(migration_report_doubled_or_late_changes_nothing)
{
    struct stage s;
    moving_ready(&s);
    const char *id = moving_begin(&s);
    for (int i = 0; i < 2; i++) {
        moving_say(&s, id, OTHER_NODE, "listening");
    }
    int64_t generation = moving_look(&s, id).m->generation;
    moving_say(&s, id, OTHER_NODE, "preparing"); /* Of before. */
    CHECK_STR(moving_look(&s, id).m->state, "copying");
    CHECK_EQ(moving_look(&s, id).m->generation, generation);
    for (int i = 0; i < 2; i++) {
        moving_say(&s, id, NODE, "paused");
        CHECK_STR(moving_look(&s, id).m->state, "switching");
        CHECK_STR(moving_look(&s, id).instance->node_id, OTHER_NODE);
    }
    moving_say(&s, id, NODE, "copying");
    CHECK_STR(moving_look(&s, id).m->state, "switching");
    moving_say(&s, id, NODE, "left");
    for (int i = 0; i < 2; i++) {
        moving_say(&s, id, OTHER_NODE, "running");
    }
    moving_say(&s, id, NODE, "kept"); /* Too late to be true. */
    CHECK_STR(moving_look(&s, id).instance->node_id, OTHER_NODE);
    check_settled(&s, id, "done", OTHER_NODE);
    moving_say(&s, id, NODE, "paused");
    moving_say(&s, id, OTHER_NODE, "failed");
    check_settled(&s, id, "done", OTHER_NODE);
    stage_close(&s);
}

TEST(migration_heeds_only_its_two_nodes_each_for_its_own_side)
{
    struct stage s;
    moving_ready(&s);
    const char *id = moving_begin(&s);
    moving_say(&s, id, THIRD, "listening");
    moving_say(&s, id, THIRD, "failed");
    moving_say(&s, id, NODE, "listening"); /* Not the giver's to say. */
    CHECK_STR(moving_look(&s, id).m->state, "preparing");
    moving_say(&s, id, OTHER_NODE, "listening");
    moving_say(&s, id, OTHER_NODE, "paused");
    moving_say(&s, id, THIRD, "paused");
    CHECK_STR(moving_look(&s, id).m->state, "copying");
    CHECK_STR(moving_look(&s, id).instance->node_id, NODE);
    stage_close(&s);
}

/* ---- what goes along ------------------------------------------------------------------------ */

/* It is burstable, with credits as its node says; its card has an Elastic IP. */
static bool
do_own(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_address address = {.account = ACCOUNT,
                                        .id = "eipalloc-00000000000000001",
                                        .region = "us-east-1",
                                        .public_ip = ELASTIC,
                                        .eni_id = ENI,
                                        .private_ip = "172.31.0.5"};
    struct row_machine_use use = {
        .id = INSTANCE, .credits_milli = 4200, .surplus_milli = 30, .charged_milli = 7};
    const struct row_node_use node = {.id = NODE, .machines = {&use, 1}};
    return row_put(pass->txn, &row_address_type, &address, err) &&
           row_put(pass->txn, &row_node_use_type, &node, err) &&
           instance_pass(pass, ACCOUNT, INSTANCE, err);
}

struct along {
    const char *node_id;
    struct link_machine machine;
    struct link_port port;
};

static bool
decode(struct pass *pass, const char *node_id, enum link_kind kind, const char *id,
       void *out, struct err *err)
{
    const struct row_node_want *want;
    return want_get(pass->txn, node_id, kind, id, &want, err) && want &&
           tlv_decode(link_want_desc(kind), want->body.data, want->body.len,
                      txn_arena(pass->txn), out, err);
}

static bool
do_along(struct pass *pass, void *ctx, struct err *err)
{
    struct along *a = ctx;
    return decode(pass, a->node_id, LINK_MACHINE, INSTANCE, &a->machine, err) &&
           decode(pass, a->node_id, LINK_PORT, ENI, &a->port, err);
}

static struct along
along(struct stage *s, const char *node_id)
{
    struct along a = {.node_id = node_id};
    stage_run(s, do_along, &a);
    return a;
}

TEST(migration_brings_credits_and_the_elastic_ip)
{
    static const struct instance_type types[] = {
        {.name = "t3.nano", .family = "t3", .burstable = true, .baseline_percent = 5}};
    struct stage s;
    moving_ready(&s);
    s.config.types = types;
    s.config.type_count = 1;
    stage_run(&s, do_own, NULL);
    const char *id = moving_to_switching(&s);
    struct along there = along(&s, OTHER_NODE), here = along(&s, NODE);
    CHECK(there.machine.brought && !here.machine.brought);
    CHECK_EQ(there.machine.credits_milli, 4200);
    CHECK_EQ(there.machine.surplus_milli, 30);
    CHECK_EQ(there.machine.charged_milli, 7);
    CHECK_EQ(there.port.publics.count, 1);
    CHECK_STR(there.port.publics.items[0].public, ELASTIC);
    moving_say(&s, id, NODE, "left");
    moving_say(&s, id, OTHER_NODE, "running");
    check_settled(&s, id, "done", OTHER_NODE);
    CHECK_STR(along(&s, OTHER_NODE).port.publics.items[0].public, ELASTIC);
    stage_close(&s);
}

/* ---- before the switch ----------------------------------------------------------------------- */

/* The migration is given up and the guest stays, once the giver has said so. */
static void
check_stays(struct stage *s, const char *id)
{
    struct moving l = moving_look(s, id);
    CHECK_STR(l.m->state, "undoing");
    CHECK_STR(l.give.order, "stay");
    CHECK_STR(l.instance->node_id, NODE);
    CHECK(!l.machine_to);
    moving_clear(s);
    CHECK_STR(moving_look(s, id).m->state, "undoing"); /* The giver has not said yet. */
    moving_say(s, id, NODE, "kept");
    check_settled(s, id, "failed", NODE);
}

TEST(migration_cancelled_before_the_switch_stays)
{
    for (int step = 0; step < 2; step++) {
        struct stage s;
        moving_ready(&s);
        const char *id = moving_begin(&s);
        if (step > 0) {
            moving_say(&s, id, OTHER_NODE, "listening");
        }
        stage_run(&s, moving_do_cancel, (void *)(uintptr_t)id);
        CHECK_STR(moving_look(&s, id).m->message, "cancelled");
        check_stays(&s, id);
        stage_close(&s);
    }
}

TEST(migration_that_one_side_fails_before_the_switch_stays)
{
    static const struct {
        const char *node_id, *state;
    } words[] = {{OTHER_NODE, "failed"}, {OTHER_NODE, "absent"}, {NODE, "kept"}};
    for (size_t w = 0; w < ARRAY_LEN(words); w++) {
        struct stage s;
        moving_ready(&s);
        const char *id = moving_begin(&s);
        moving_say(&s, id, OTHER_NODE, "listening");
        moving_say(&s, id, words[w].node_id, words[w].state);
        CHECK_STR(moving_look(&s, id).m->state, "undoing");
        moving_say(&s, id, NODE, "kept");
        check_settled(&s, id, "failed", NODE);
        stage_close(&s);
    }
}

TEST(migration_that_is_not_ready_in_time_stays)
{
    struct stage s;
    moving_ready(&s);
    const char *id = moving_begin(&s);
    s.now_ns += 901 * NS_PER_S;
    moving_say(&s, id, OTHER_NODE, "preparing");
    CHECK_STR(moving_look(&s, id).m->message, "the receiver was not ready in time");
    check_stays(&s, id);
    stage_close(&s);
}

static bool
do_wander(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_instance *old;
    if (!GET_ROW(instance, &old, .account = ACCOUNT, .id = INSTANCE)) {
        return false;
    }
    struct row_instance next = *old;
    next.node_id = THIRD;
    return row_put(pass->txn, &row_instance_type, &next, err);
}

/* Whoever else has moved it in between has won: one compare and set. */
TEST(migration_does_not_take_what_has_another_owner_by_now)
{
    struct stage s;
    moving_ready(&s);
    const char *id = moving_begin(&s);
    moving_say(&s, id, OTHER_NODE, "listening");
    stage_run(&s, do_wander, NULL);
    moving_say(&s, id, NODE, "paused");
    struct moving l = moving_look(&s, id);
    CHECK_STR(l.m->state, "undoing");
    CHECK_STR(l.m->message, "the instance changed meanwhile");
    CHECK_STR(l.instance->node_id, THIRD);
    CHECK_STR(l.give.order, "stay");
    stage_close(&s);
}

/* ---- after it --------------------------------------------------------------------------------- */

TEST(migration_goes_back_only_when_it_never_ran_there)
{
    struct stage s;
    moving_ready(&s);
    const char *id = moving_to_switching(&s);
    moving_say(&s, id, OTHER_NODE, "failed");
    struct moving l = moving_look(&s, id);
    CHECK_STR(l.m->state, "switching"); /* The giver may have let go already. */
    CHECK_STR(l.give.order, "stay");
    CHECK_STR(l.instance->node_id, OTHER_NODE);
    moving_say(&s, id, NODE, "left");
    l = moving_look(&s, id);
    CHECK_STR(l.instance->node_id, NODE);
    CHECK_STR(l.give.order, "return");
    CHECK_STR(l.root->node_id, NODE);
    moving_say(&s, id, NODE, "kept");
    check_settled(&s, id, "failed", NODE);
    stage_close(&s);
}

/* What is known of the machine by then is the receiver's word, and a node says nothing twice. */
TEST(migration_that_goes_back_asks_the_giver_for_its_word_anew)
{
    struct stage s;
    moving_ready(&s);
    const char *id = moving_to_switching(&s);
    int64_t before = along(&s, NODE).machine.generation;
    moving_say(&s, id, OTHER_NODE, "failed");
    CHECK_EQ(along(&s, NODE).machine.generation, before);
    moving_say(&s, id, NODE, "left");
    CHECK_EQ(along(&s, NODE).machine.generation, before + 1);
    stage_close(&s);
}

TEST(migration_that_the_giver_kept_after_the_switch_is_its_again)
{
    struct stage s;
    moving_ready(&s);
    const char *id = moving_to_switching(&s);
    moving_say(&s, id, NODE, "kept");
    struct moving l = moving_look(&s, id);
    CHECK_STR(l.m->state, "undoing");
    CHECK_STR(l.instance->node_id, NODE);
    check_settled(&s, id, "failed", NODE);
    stage_close(&s);
}

/* ---- nodes that will never speak again --------------------------------------------------------- */

TEST(migration_outlives_its_receiver_before_and_after_the_switch)
{
    struct stage s;
    moving_ready(&s);
    const char *id = moving_begin(&s);
    moving_say(&s, id, OTHER_NODE, "listening");
    stage_run(&s, moving_do_revoke, OTHER_NODE);
    CHECK_STR(moving_look(&s, id).m->message, "the receiver was lost");
    moving_say(&s, id, NODE, "kept");
    CHECK_STR(moving_look(&s, id).m->state,
              "undoing"); /* Until the giver's side is gone. */
    stage_run(&s, moving_do_clear, NODE);
    CHECK_STR(moving_look(&s, id).m->state, "failed");
    CHECK_STR(moving_look(&s, id).instance->node_id, NODE);
    stage_close(&s);

    moving_ready(&s);
    id = moving_to_switching(&s);
    stage_run(&s, moving_do_revoke, OTHER_NODE);
    CHECK_STR(moving_look(&s, id).give.order, "stay");
    moving_say(&s, id, NODE, "left");
    CHECK_STR(moving_look(&s, id).give.order, "return");
    moving_say(&s, id, NODE, "kept");
    stage_run(&s, moving_do_clear, NODE);
    CHECK_STR(moving_look(&s, id).m->state, "failed");
    CHECK_STR(moving_look(&s, id).instance->node_id, NODE);
    stage_close(&s);
}

TEST(migration_outlives_its_giver_before_and_after_the_switch)
{
    struct stage s;
    moving_ready(&s);
    const char *id = moving_begin(&s);
    stage_run(&s, moving_do_revoke, NODE);
    CHECK_STR(moving_look(&s, id).m->state, "undoing");
    stage_run(&s, moving_do_clear, OTHER_NODE);
    CHECK_STR(moving_look(&s, id).m->state, "failed");
    stage_close(&s);

    moving_ready(&s);
    id = moving_to_switching(&s);
    stage_run(&s, moving_do_revoke, NODE); /* With its word on the way, or not given. */
    CHECK_STR(moving_look(&s, id).take.order, "run");
    moving_say(&s, id, OTHER_NODE, "running");
    stage_run(&s, moving_do_clear, OTHER_NODE);
    CHECK_STR(moving_look(&s, id).m->state, "done");
    CHECK_STR(moving_look(&s, id).instance->node_id, OTHER_NODE);
    stage_close(&s);
}

/* It cannot go back to a giver that is lost: it starts anew from the disks it brought. */
TEST(migration_that_failed_at_the_receiver_ends_there_when_the_giver_is_lost)
{
    static const char *const last_words[] = {"paused", "left"};
    for (size_t i = 0; i < ARRAY_LEN(last_words); i++) {
        struct stage s;
        moving_ready(&s);
        const char *id = moving_to_switching(&s);
        moving_say(&s, id, NODE, last_words[i]);
        stage_run(&s, moving_do_revoke, NODE);
        moving_say(&s, id, OTHER_NODE, "failed");
        CHECK_STR(moving_look(&s, id).m->state, "settling");
        stage_run(&s, moving_do_clear, OTHER_NODE);
        CHECK_STR(moving_look(&s, id).m->state, "done");
        CHECK_STR(moving_look(&s, id).instance->node_id, OTHER_NODE);
        CHECK_STR(moving_look(&s, id).root->node_id, OTHER_NODE);
        stage_close(&s);
    }
}

/* ---- what its owner does meanwhile -------------------------------------------------------------- */

static bool
do_want(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_instance *inst;
    const struct instance_want want = {.state = ctx};
    return GET_ROW(instance, &inst, .account = ACCOUNT, .id = INSTANCE) &&
           instance_want(pass->txn, inst, &want, pass->now_ns, NULL, err) &&
           instance_pass(pass, ACCOUNT, INSTANCE, err) &&
           moving_do_pass(pass, NULL, err);
}

TEST(migration_of_an_instance_that_is_stopped_ends_where_it_was)
{
    struct stage s;
    moving_ready(&s);
    const char *id = moving_begin(&s);
    moving_say(&s, id, OTHER_NODE, "listening");
    stage_run(&s, do_want, "stopped");
    check_stays(&s, id);
    CHECK_STR(moving_look(&s, id).instance->want_state, "stopped");
    stage_close(&s);
}

static bool
do_reboot(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_instance *old;
    if (!GET_ROW(instance, &old, .account = ACCOUNT, .id = INSTANCE)) {
        return false;
    }
    struct row_instance next = *old;
    next.reboot_count++;
    next.generation++;
    return row_put(pass->txn, &row_instance_type, &next, err) &&
           instance_pass(pass, ACCOUNT, INSTANCE, err) &&
           moving_do_pass(pass, NULL, err);
}

TEST(migration_yields_to_a_reboot_before_the_switch)
{
    struct stage s;
    moving_ready(&s);
    const char *id = moving_begin(&s);
    moving_say(&s, id, OTHER_NODE, "listening");
    stage_run(&s, do_reboot, NULL);
    CHECK_STR(moving_look(&s, id).m->message, "it is rebooted");
    CHECK_EQ(along(&s, NODE).machine.reboot_count, 1);
    check_stays(&s, id);
    struct move_asked a = {.to = OTHER_NODE}; /* Its node has not said that it has. */
    stage_run(&s, moving_do_begin, &a);
    CHECK(!a.id && strstr(a.why.msg, "rebooted"));
    stage_close(&s);
}

/* An emulator that ends in the middle of the switch would take the guest with it. */
TEST(migration_lets_a_reboot_and_a_stop_wait_for_the_end_of_the_switch)
{
    struct stage s;
    moving_ready(&s);
    const char *id = moving_to_switching(&s);
    stage_run(&s, do_reboot, NULL);
    stage_run(&s, do_want, "stopped");
    static const char *const nodes[] = {NODE, OTHER_NODE};
    for (size_t n = 0; n < ARRAY_LEN(nodes); n++) {
        CHECK_EQ(along(&s, nodes[n]).machine.reboot_count, 0);
        CHECK(along(&s, nodes[n]).machine.running);
    }
    moving_say(&s, id, NODE, "left");
    CHECK(along(&s, OTHER_NODE).machine.running);
    moving_say(&s, id, OTHER_NODE, "running");
    CHECK_EQ(along(&s, OTHER_NODE).machine.reboot_count, 1);
    CHECK(!along(&s, OTHER_NODE).machine.running);
    check_settled(&s, id, "done", OTHER_NODE);
    stage_close(&s);
}

static void
terminated_in(bool switched)
{
    struct stage s;
    moving_ready(&s);
    const char *id = switched ? moving_to_switching(&s) : moving_begin(&s);
    stage_run(&s, do_want, "terminated");
    if (!switched) {
        moving_say(&s, id, NODE, "kept");
    }
    moving_clear(&s);
    moving_clear(&s);
    struct moving l = moving_look(&s, id);
    CHECK_STR(l.m->state, switched ? "done" : "failed");
    CHECK(l.instance->terminated_at > 0);
    CHECK_EQ(l.left_from + l.left_to, 0);
    CHECK_EQ(l.from->machines + l.to->machines, 0);
    CHECK_EQ(l.from->vcpus + l.to->vcpus, 0);
    CHECK_EQ(l.from->memory_bytes + l.to->memory_bytes, 0);
    stage_close(&s);
}

TEST(migration_of_an_instance_that_is_terminated_leaves_nothing)
{
    terminated_in(false);
    terminated_in(true);
}

static bool
do_plug(struct pass *pass, void *ctx, struct err *err)
{
    static const char *enis[] = {ENI, CARD};
    const bool *in = ctx;
    const struct row_eni eni = {.account = ACCOUNT,
                                .id = CARD,
                                .subnet_id = SUBNET,
                                .vpc_id = VPC,
                                .mac = "02:00:00:00:00:02",
                                .ipv4 = "172.31.0.6",
                                .instance_id = INSTANCE,
                                .device_index = 1,
                                .region = "us-east-1"};
    const struct row_instance *old;
    if (!GET_ROW(instance, &old, .account = ACCOUNT, .id = INSTANCE)) {
        return false;
    }
    struct row_instance next = *old;
    next.eni_ids.items = enis;
    next.eni_ids.count = *in ? 2 : 1;
    next.generation++;
    return row_put(pass->txn, &row_eni_type, &eni, err) &&
           row_put(pass->txn, &row_instance_type, &next, err) &&
           instance_pass(pass, ACCOUNT, INSTANCE, err) &&
           moving_do_pass(pass, NULL, err);
}

/* The emulator that waits has no such card: the guest gets it here, and moves another time. */
TEST(migration_yields_to_a_card_that_is_attached_or_detached)
{
    struct stage s;
    moving_ready(&s);
    const char *id = moving_begin(&s);
    moving_say(&s, id, OTHER_NODE, "listening");
    stage_run(&s, do_plug, &(bool){true});
    CHECK_STR(moving_look(&s, id).m->message,
              "a network interface was attached or detached");
    CHECK(moving_look(&s, id).card_from);
    check_stays(&s, id);

    id = moving_begin(&s);
    stage_run(&s, do_plug, &(bool){false});
    CHECK_STR(moving_look(&s, id).m->message,
              "a network interface was attached or detached");
    stage_close(&s);
}

/* After the switch it is for the receiver, and the giver must not keep its port. */
TEST(migration_takes_a_card_that_comes_after_the_switch_along)
{
    struct stage s;
    moving_ready(&s);
    const char *id = moving_to_switching(&s);
    stage_run(&s, do_plug, &(bool){true});
    CHECK_STR(moving_look(&s, id).m->state, "switching");
    moving_say(&s, id, NODE, "left");
    moving_say(&s, id, OTHER_NODE, "running");
    CHECK(moving_look(&s, id).card_to && !moving_look(&s, id).card_from);
    check_settled(&s, id, "done", OTHER_NODE);
    stage_close(&s);
}

/* As CreateReplaceRootVolumeTask does. */
static bool
do_replace_root(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_volume *old;
    const struct row_instance *was;
    if (!GET_ROW(volume, &old, .account = ACCOUNT, .id = VOLUME) ||
        !GET_ROW(instance, &was, .account = ACCOUNT, .id = INSTANCE)) {
        return false;
    }
    struct row_volume fresh = *old, gone = *old;
    struct row_instance next = *was;
    fresh.id = SECOND_ROOT;
    fresh.node_id = was->node_id;
    gone.instance_id = NULL;
    gone.want_deleted = true;
    next.root_volume_id = SECOND_ROOT;
    next.root_task_id = "replacevol-00000000000000001";
    next.generation++;
    next.reboot_count++;
    return row_put(pass->txn, &row_volume_type, &fresh, err) &&
           row_put(pass->txn, &row_volume_type, &gone, err) &&
           row_put(pass->txn, &row_instance_type, &next, err) &&
           instance_pass(pass, ACCOUNT, INSTANCE, err) &&
           volume_pass(pass, ACCOUNT, VOLUME, err);
}

TEST(migration_yields_to_a_new_root_volume_and_leaves_none_behind)
{
    struct stage s;
    moving_ready(&s);
    const char *id = moving_begin(&s);
    moving_say(&s, id, OTHER_NODE, "listening");
    stage_run(&s, do_replace_root, NULL);
    CHECK_STR(moving_look(&s, id).m->message, "its root volume is replaced");
    moving_say(&s, id, NODE, "kept");
    check_settled(&s, id, "failed", NODE);
    stage_close(&s);

    moving_ready(&s);
    id = moving_to_switching(&s);
    stage_run(&s, do_replace_root, NULL);
    CHECK_STR(moving_look(&s, id).m->state, "switching");
    moving_say(&s, id, NODE, "left");
    moving_say(&s, id, OTHER_NODE, "running");
    check_settled(&s, id, "done", OTHER_NODE);
    stage_close(&s);
}
