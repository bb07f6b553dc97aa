/* test_cold.c - a stopped instance's way from node to node: the files of its disks are all that
 * moves, its machine stays off meanwhile, and it can start where it goes. */
#include "moving.h"

#include "base/tlv.h"
#include "control/drains.h"
#include "core/instance_rows.h"

#define DISK_BYTES (8 * (int64_t)GIB)

/* ---- the scene -------------------------------------------------------------------------- */

/* As a node says it, of the record that it has. */
struct word {
    const char *node_id, *state, *reason;
};

static bool
do_report(struct pass *pass, void *ctx, struct err *err)
{
    const struct word *w = ctx;
    const struct row_instance *inst;
    if (!GET_ROW(instance, &inst, .account = ACCOUNT, .id = INSTANCE)) {
        return false;
    }
    const struct link_machine_seen seen = {.id = INSTANCE,
                                           .state = w->state,
                                           .reason = w->reason,
                                           .generation = inst->generation};
    return report_apply(pass, w->node_id, LINK_MACHINE, &seen, 0, "e2", err);
}

static bool
do_want(struct pass *pass, void *ctx, struct err *err)
{
    const struct instance_want want = {.state = ctx};
    const struct row_instance *inst;
    return GET_ROW(instance, &inst, .account = ACCOUNT, .id = INSTANCE) &&
           instance_want(pass->txn, inst, &want, pass->now_ns, NULL, err) &&
           instance_pass(pass, ACCOUNT, INSTANCE, err);
}

static void
want(struct stage *s, const char *state)
{
    stage_run(s, do_want, (void *)(uintptr_t)state);
    stage_run(s, moving_do_pass, NULL);
}

static void
stop(struct stage *s)
{
    want(s, "stopped");
    stage_run(s, do_report, &(struct word){NODE, "stopped", "guest_shutdown"});
}

static void
stopped_ready(struct stage *s)
{
    moving_ready(s);
    stop(s);
}

struct sides {
    struct link_machine machine[2]; /* On NODE, on OTHER_NODE; zero: not wanted. */
    struct link_disk disk[2];
    struct usage usage;
    const struct row_node_claim *claim[2];
};

static bool
told(struct pass *pass, const char *node_id, enum link_kind kind, const char *id,
     void *out, struct err *err)
{
    const struct row_node_want *want;
    if (!want_get(pass->txn, node_id, kind, id, &want, err)) {
        return false;
    }
    return !want || want->deleted ||
           tlv_decode(link_want_desc(kind), want->body.data, want->body.len,
                      txn_arena(pass->txn), out, err);
}

static bool
do_sides(struct pass *pass, void *ctx, struct err *err)
{
    static const char *const nodes[] = {NODE, OTHER_NODE};
    struct sides *s = ctx;
    for (int i = 0; i < 2; i++) {
        if (!told(pass, nodes[i], LINK_MACHINE, INSTANCE, &s->machine[i], err) ||
            !told(pass, nodes[i], LINK_DISK, VOLUME, &s->disk[i], err) ||
            !GET_ROW(node_claim, &s->claim[i], .id = nodes[i])) {
            return false;
        }
    }
    return account_usage_get(pass->txn, ACCOUNT, "us-east-1", &s->usage, err);
}

static struct sides
sides(struct stage *s)
{
    struct sides out = {0};
    stage_run(s, do_sides, &out);
    return out;
}

/* ---- there -------------------------------------------------------------------------------- */

TEST(migration_of_a_stopped_one_moves_its_disks_and_wants_it_off_meanwhile)
{
    struct stage s;
    stopped_ready(&s);
    const char *id = moving_begin(&s);
    struct moving l = moving_look(&s, id);
    CHECK_STR(l.m->state, "preparing");
    CHECK(l.give.cold && l.take.cold && l.machine_to);
    CHECK_EQ(l.give.copy_disks.count, 1);
    struct sides now = sides(&s);
    CHECK(!now.machine[0].running && !now.machine[1].running);
    CHECK(str_empty(now.machine[0].outgoing) && str_empty(now.machine[1].incoming));
    CHECK_STR(now.disk[1].incoming, id);
    CHECK(str_empty(now.disk[0].incoming));
    CHECK_EQ(now.claim[1]->vcpus + now.claim[1]->machines, 0); /* Its disk alone. */
    CHECK_EQ(now.claim[1]->disk_bytes, DISK_BYTES);

    moving_say(&s, id, OTHER_NODE, "listening");
    CHECK_STR(moving_look(&s, id).give.order, "copy");
    moving_say(&s, id, NODE, "copying");
    CHECK_STR(moving_look(&s, id).instance->node_id, NODE);
    moving_say(&s, id, OTHER_NODE, "here");
    l = moving_look(&s, id);
    CHECK_STR(l.m->state, "settling");
    CHECK_STR(l.instance->node_id, OTHER_NODE);
    CHECK_STR(l.root->node_id, OTHER_NODE);
    CHECK(!l.machine_from && l.machine_to);
    now = sides(&s);
    CHECK(now.disk[1].made && str_empty(now.disk[1].incoming)); /* Never made anew. */

    moving_clear(&s);
    l = moving_look(&s, id);
    CHECK_STR(l.m->state, "done");
    CHECK_STR(l.instance->want_state, "stopped");
    CHECK_EQ(l.left_from, 0);
    CHECK_EQ(l.from->disk_bytes, 0);
    CHECK_EQ(l.to->disk_bytes, DISK_BYTES);
    CHECK_EQ(l.to->vcpus + l.to->machines, 0);
    /* And on, by the new host's word. */
    stage_run(&s, do_report, &(struct word){OTHER_NODE, "stopped", ""});
    struct move_asked on = {.to = THIRD};
    stage_run(&s, moving_do_begin, &on);
    CHECK_OK(on.id != NULL, &on.why);
    stage_close(&s);
}

/* What either says after that it is there is late: the giver's word of the middle of the way, the
 * receiver's of a disk that is awaited no more. */
TEST(migration_of_a_stopped_one_keeps_the_receivers_word_of_what_came)
{
    const int64_t all = 5 * (int64_t)MIB;
    struct stage s;
    stopped_ready(&s);
    const char *id = moving_begin(&s);
    moving_say(&s, id, OTHER_NODE, "listening");
    const struct moving_word words[] = {{OTHER_NODE, id, "here", all, all},
                                        {OTHER_NODE, id, "listening", 0, 0},
                                        {NODE, id, "copying", all, all / 5}};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        stage_run(&s, moving_do_say, (void *)(uintptr_t)&words[i]);
    }
    struct moving l = moving_look(&s, id);
    CHECK_STR(l.m->state, "settling");
    CHECK_EQ(l.m->disk_bytes, all);
    CHECK_EQ(l.m->disk_done_bytes, all);
    stage_close(&s);
}

TEST(migration_of_a_stopped_one_waits_until_it_has_stopped)
{
    struct stage s;
    struct move_asked a = {.to = OTHER_NODE};
    moving_ready(&s);
    want(&s, "stopped");
    stage_run(&s, moving_do_begin, &a);
    CHECK(!a.id && strstr(a.why.msg, "not stopped yet") && migration_waits(&a.why));
    stage_run(&s, do_report, &(struct word){NODE, "stopping", ""});
    stage_run(&s, moving_do_begin, &a);
    CHECK(a.id == NULL);
    stage_run(&s, do_report, &(struct word){NODE, "stopped", ""});
    a.post_copy = true;
    stage_run(&s, moving_do_begin, &a);
    CHECK(!a.id && strstr(a.why.msg, "no memory"));
    a.post_copy = false;
    stage_run(&s, moving_do_begin, &a);
    CHECK_OK(a.id != NULL, &a.why);
    CHECK_EQ(moving_look(&s, a.id).m->forecast_downtime_ms, 0);
    stage_close(&s);
}

/* ---- given up ------------------------------------------------------------------------------- */

/* It stays, whole, and nothing of it is left or promised elsewhere. */
static void
check_stays(struct stage *s, const char *id)
{
    struct moving l = moving_look(s, id);
    CHECK_STR(l.m->state, "undoing");
    CHECK_STR(l.instance->node_id, NODE);
    CHECK(!l.machine_to);
    moving_say(s, id, OTHER_NODE, "here"); /* Too late. */
    moving_clear(s);
    l = moving_look(s, id);
    CHECK_STR(l.m->state, "failed");
    CHECK_STR(l.instance->node_id, NODE);
    CHECK_STR(l.root->node_id, NODE);
    CHECK(str_empty(l.instance->migration_id));
    CHECK_EQ(l.left_to, 0);
    CHECK_EQ(l.to->disk_bytes + l.to->vcpus + l.to->machines, 0);
    CHECK_EQ(l.from->disk_bytes, 0); /* The stage never counted its own. */
}

TEST(migration_of_a_stopped_one_that_breaks_leaves_it_where_it_was)
{
    static const struct {
        const char *node_id, *state;
    } breaks[] = {{NODE, "kept"}, {OTHER_NODE, "failed"}, {OTHER_NODE, "absent"}};
    for (size_t i = 0; i < ARRAY_LEN(breaks); i++) {
        struct stage s;
        stopped_ready(&s);
        const char *id = moving_begin(&s);
        moving_say(&s, id, OTHER_NODE, "listening");
        moving_say(&s, id, breaks[i].node_id, breaks[i].state);
        check_stays(&s, id);
        CHECK(!sides(&s).machine[0].running);
        stage_close(&s);
    }
}

/* A start comes first, and waits for nobody: what was copied is never anybody's disk. */
TEST(migration_of_a_stopped_one_ends_when_it_is_started_where_it_is)
{
    struct stage s;
    stopped_ready(&s);
    const char *id = moving_begin(&s);
    moving_say(&s, id, OTHER_NODE, "listening");
    want(&s, "running");
    CHECK(sides(&s).machine[0].running);
    check_stays(&s, id);
    stage_run(&s, do_report, &(struct word){NODE, "running", ""});
    CHECK_STR(moving_look(&s, id).instance->observed_state, "running");
    stage_close(&s);
}

TEST(migration_of_a_stopped_one_ends_with_it)
{
    struct stage s;
    stopped_ready(&s);
    const char *id = moving_begin(&s);
    moving_say(&s, id, OTHER_NODE, "listening");
    want(&s, "terminated");
    CHECK_STR(moving_look(&s, id).m->state, "undoing");
    moving_clear(&s);
    moving_clear(&s);
    struct moving l = moving_look(&s, id);
    CHECK_STR(l.m->state, "failed");
    CHECK(l.instance->terminated_at > 0 && !l.root);
    CHECK_EQ(l.left_from + l.left_to, 0);
    stage_close(&s);
}

/* ---- a start that moves it -------------------------------------------------------------------- */

/* In one step, as a start does. */
static bool
do_start(struct pass *pass, void *ctx, struct err *err)
{
    const struct migration_ask ask = {
        .reason = "start", .to_node = OTHER_NODE, .starts = true};
    const char **out_id = ctx;
    const struct row_instance *inst;
    const struct row_migration *m;
    if (!GET_ROW(instance, &inst, .account = ACCOUNT, .id = INSTANCE) ||
        !migration_begin(pass->txn, inst, &ask, pass->rng, pass->now_ns, &m, err)) {
        return false;
    }
    *out_id = m->id;
    return do_want(pass, (void *)(uintptr_t) "running", err);
}

static const char *
begin_start(struct stage *s)
{
    const char *id = NULL;
    stopped_ready(s);
    stage_run(s, do_start, &id);
    return id;
}

TEST(migration_that_starts_it_promises_its_room_there_and_runs_it_once_it_came)
{
    struct stage s;
    const char *id = begin_start(&s);
    struct sides now = sides(&s);
    CHECK_EQ(now.claim[1]->vcpus, 2);
    CHECK_EQ(now.claim[1]->memory_bytes, MEMORY);
    CHECK_EQ(now.claim[0]->vcpus, 0);
    CHECK_EQ(now.usage.vcpus, 2); /* Its quota counts it from the start on. */
    CHECK(!now.machine[0].running && !now.machine[1].running);
    /* The old host's word of how it stopped, once more, is of before. */
    stage_run(&s, do_report, &(struct word){NODE, "stopped", "guest_shutdown"});
    CHECK_STR(moving_look(&s, id).instance->want_state, "running");

    moving_say(&s, id, OTHER_NODE, "listening");
    moving_say(&s, id, OTHER_NODE, "here");
    now = sides(&s);
    CHECK(now.machine[1].running);
    CHECK_EQ(now.usage.vcpus, 2);
    stage_run(&s, do_report, &(struct word){OTHER_NODE, "running", ""});
    moving_clear(&s);
    struct moving l = moving_look(&s, id);
    CHECK_STR(l.m->state, "done");
    CHECK(l.instance->claimed);
    CHECK_STR(l.instance->observed_state, "running");
    CHECK_EQ(l.to->vcpus, 2);
    CHECK_EQ(l.to->machines, 1);
    CHECK_EQ(l.to->memory_bytes, MEMORY);
    CHECK_EQ(l.from->vcpus + l.from->machines, 0);
    stage_close(&s);
}

TEST(migration_that_was_to_start_it_and_breaks_stops_it_again_and_says_why)
{
    struct stage s;
    const char *id = begin_start(&s);
    moving_say(&s, id, OTHER_NODE, "listening");
    moving_say(&s, id, NODE, "kept");
    CHECK_STR(moving_look(&s, id).m->state, "undoing");
    CHECK(!sides(&s).machine[0].running); /* It has no room there. */
    stage_run(&s, do_report, &(struct word){NODE, "stopped", "guest_shutdown"});
    moving_clear(&s);
    struct moving l = moving_look(&s, id);
    CHECK_STR(l.m->state, "failed");
    CHECK_STR(l.instance->node_id, NODE);
    CHECK_STR(l.instance->want_state, "stopped");
    CHECK(strstr(l.instance->reason_text, "not moved"));
    CHECK(!l.instance->claimed);
    CHECK_EQ(sides(&s).usage.vcpus, 0);
    CHECK_EQ(l.to->vcpus + l.to->machines + l.to->disk_bytes, 0);
    stage_run(&s, do_report, &(struct word){NODE, "stopped", ""});
    CHECK_STR(moving_look(&s, id).instance->observed_state, "stopped");
    stage_close(&s);
}

/* ---- drains ------------------------------------------------------------------------------------ */

static bool
do_drain(struct pass *pass, void *ctx, struct err *err)
{
    const char **out_id = ctx;
    const struct row_node *old;
    const struct row_instance *inst;
    if (!GET_ROW(node, &old, .id = NODE)) {
        return false;
    }
    struct row_node next = *old;
    next.cordoned = next.draining = true;
    if (!row_put(pass->txn, &row_node_type, &next, err) ||
        !drain_pass(pass, NULL, NODE, err) ||
        !GET_ROW(instance, &inst, .account = ACCOUNT, .id = INSTANCE)) {
        return false;
    }
    *out_id = inst->migration_id;
    return true;
}

TEST(drain_takes_what_is_stopped_along)
{
    struct stage s;
    const char *id = NULL;
    moving_ready(&s);
    want(&s, "stopped");
    stage_run(&s, do_drain, &id);
    CHECK(str_empty(id)); /* It has not stopped yet. */
    stage_run(&s, do_report, &(struct word){NODE, "stopped", ""});
    stage_run(&s, do_drain, &id);
    CHECK(!str_empty(id));
    struct moving l = moving_look(&s, id);
    CHECK(l.m->cold && !l.m->starts);
    CHECK_STR(l.m->reason, "drain");
    stage_close(&s);
}
