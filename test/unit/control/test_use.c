/* test_use.c - what becomes of a node's word about its machines and itself. */
#include "one_instance.h"

#include "control/use_report.h"
#include "core/placement.h"

struct looked {
    const struct row_node_use *use;
    const struct row_node_seen *seen;
    struct row_list migrations;
};

static bool
do_look(struct pass *pass, void *ctx, struct err *err)
{
    struct looked *l = ctx;
    const struct row_node_use use = {.id = NODE};
    const struct row_node_seen seen = {.id = NODE};
    const struct row_query all = {0};
    return row_get(pass->txn, &row_node_use_type, &use, (const void **)&l->use, err) &&
           row_get(pass->txn, &row_node_seen_type, &seen, (const void **)&l->seen,
                   err) &&
           row_list(pass->txn, &row_migration_type, &all, &l->migrations, err);
}

static struct looked
look(struct stage *s)
{
    struct looked l = {0};
    stage_run(s, do_look, &l);
    return l;
}

/* Both nodes are here and reach each other, and the machine runs on the first. */
static bool
do_set(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    static const char *const nodes[] = {NODE, OTHER_NODE};
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
        const struct row_node node = {.id = nodes[i],
                                      .region = "us-east-1",
                                      .zone = "us-east-1a",
                                      .state = "active",
                                      .underlay = i ? "10.9.0.2" : "10.9.0.1"};
        const struct row_node_seen seen = {.id = nodes[i],
                                           .connected = true,
                                           .vcpus = 8,
                                           .memory_bytes = 16 * (int64_t)GIB,
                                           .pool_bytes = 100 * (int64_t)GIB,
                                           .pool_free_bytes = 90 * (int64_t)GIB,
                                           .accel = "tcg"};
        if (!row_put(pass->txn, &row_node_type, &node, err) ||
            !row_put(pass->txn, &row_node_seen_type, &seen, err)) {
            return false;
        }
    }
    const struct link_machine_seen machine = {
        .id = INSTANCE, .state = "running", .generation = 1};
    return instance_pass(pass, ACCOUNT, INSTANCE, err) &&
           report_apply(pass, NODE, LINK_MACHINE, &machine, 0, "e1", err);
}

static bool
do_tell(struct pass *pass, void *ctx, struct err *err)
{
    return report_apply(pass, NODE, LINK_METER, ctx, 0, "e2", err);
}

static void
tell(struct stage *s, const char *unfit, bool crowded)
{
    struct link_machine_meter machines[] = {
        {.id = INSTANCE, .busy_milli = 500, .memory_bytes = (int64_t)GIB},
        {.id = "i-0badbadbadbadbadb", .busy_milli = -5}};
    struct link_meter meter = {.busy_milli = 500,
                               .promised_vcpus = 2,
                               .relief = "nonsense",
                               .unfit = unfit,
                               .crowded = crowded};
    meter.machines.items = machines;
    meter.machines.count = ARRAY_LEN(machines);
    stage_run(s, do_tell, &meter);
}

TEST(use_report_keeps_what_is_wanted_of_the_node_and_plain_words)
{
    struct stage s;
    setup(&s);
    stage_run(&s, do_set, NULL);
    tell(&s, "", false);
    struct looked l = look(&s);
    CHECK_EQ(l.use->machines.count, 1);
    CHECK_STR(l.use->machines.items[0].id, INSTANCE);
    CHECK_STR(l.use->relief, "none");
    CHECK_EQ(l.migrations.count, 0);
    stage_close(&s);
}

TEST(use_report_tells_placement_that_a_node_is_unfit_until_it_is_fit)
{
    struct stage s;
    setup(&s);
    stage_run(&s, do_set, NULL);
    tell(&s, "memory pressure", false);
    CHECK_STR(look(&s).seen->unfit, "memory pressure");
    CHECK(!look(&s).seen->strained);
    tell(&s, "memory pressure", true);
    CHECK(look(&s).seen->strained);
    tell(&s, "", false);
    CHECK(str_empty(look(&s).seen->unfit));
    stage_close(&s);
}

TEST(use_report_moves_one_guest_at_a_time_from_a_crowded_node)
{
    struct stage s;
    setup(&s);
    stage_run(&s, do_set, NULL);
    for (int i = 0; i < 3; i++) {
        tell(&s, "", true);
        CHECK_EQ(look(&s).migrations.count, 1);
    }
    const struct row_migration *m = look(&s).migrations.rows[0];
    CHECK_STR(m->instance_id, INSTANCE);
    CHECK_STR(m->to_node, OTHER_NODE);
    CHECK_STR(m->reason, "pressure");
    stage_close(&s);
}
