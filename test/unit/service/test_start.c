/* test_start.c - where a stopped instance starts when its host cannot have it. */
#include "ec2_fixture.h"

#include "core/elsewhere.h"
#include "core/migration_rows.h"

static const char *
stopped(struct ec2 *e)
{
    struct err err;
    struct ec2_reservation r;
    struct ec2_stop_instances_result out;
    struct ec2_run_instances_request in = {
        .image_id = IMAGE, .instance_type = "t3.micro", .min_count = 1, .max_count = 1};
    CHECK_OK(CALL(e, run_instances, &in, &r, &err), &err);
    const char *id = r.instances.items[0].instance_id;
    struct ec2_stop_instances_request stop = {.instance_ids = {&id, 1}};
    ec2_node_says(e, id, "running");
    CHECK_OK(CALL(e, stop_instances, &stop, &out, &err), &err);
    ec2_node_says(e, id, "stopped");
    return id;
}

static bool
start(struct ec2 *e, const char *id, struct err *err)
{
    struct ec2_start_instances_result out;
    struct ec2_start_instances_request in = {.instance_ids = {&id, 1}};
    return CALL(e, start_instances, &in, &out, err);
}

struct rows {
    const struct row_instance *instance;
    const struct row_volume *root;
    const struct row_node_claim *claim; /* Of the node that it is on. */
};

static bool
read_rows(struct call *call, const void *in, void *out, struct err *err)
{
    struct rows *r = out;
    return row_get(call->txn, &row_instance_type,
                   &(struct row_instance){.account = ACCOUNT, .id = in},
                   (const void **)&r->instance, err) &&
           row_get(call->txn, &row_volume_type,
                   &(struct row_volume){.account = ACCOUNT,
                                        .id = r->instance->root_volume_id},
                   (const void **)&r->root, err) &&
           row_get(call->txn, &row_node_claim_type,
                   &(struct row_node_claim){.id = r->instance->node_id},
                   (const void **)&r->claim, err);
}

static struct rows
rows_of(struct ec2 *e, const char *id)
{
    struct err err;
    struct rows rows;
    CHECK_OK(ec2_step(e, "rows", read_rows, id, &rows, sizeof rows, &err), &err);
    return rows;
}

/* A change of the world: the node goes away, is cordoned, or sees a shared pool. */
struct change {
    const char *node_id, *pool;
    bool away, cordoned, revoked;
    bool apart; /* It names no underlay. */
};

static bool
change_node(struct call *call, const void *in, void *out UNUSED, struct err *err)
{
    const struct change *c = in;
    const struct row_node node_key = {.id = c->node_id};
    const struct row_node_seen seen_key = {.id = c->node_id};
    const struct row_node *node;
    const struct row_node_seen *seen;
    if (!row_get(call->txn, &row_node_type, &node_key, (const void **)&node, err) ||
        !row_get(call->txn, &row_node_seen_type, &seen_key, (const void **)&seen,
                 err)) {
        return false;
    }
    struct row_node next_node = *node;
    struct row_node_seen next_seen = *seen;
    next_node.cordoned = c->cordoned;
    next_node.underlay = c->apart ? NULL : node->underlay;
    next_node.state = c->revoked ? "revoked" : "active";
    next_seen.connected = !c->away;
    next_seen.shared_pool = c->pool;
    return row_put(call->txn, &row_node_type, &next_node, err) &&
           row_put(call->txn, &row_node_seen_type, &next_seen, err);
}

static void
change(struct ec2 *e, struct change c)
{
    struct err err;
    CHECK_OK(ec2_step(e, "change", change_node, &c, NULL, 0, &err), &err);
}

static bool
put_root_in_pool(struct call *call, const void *in, void *out UNUSED, struct err *err)
{
    struct rows rows;
    if (!read_rows(call, in, &rows, err)) {
        return false;
    }
    struct row_volume next = *rows.root;
    next.pool = "pool-1";
    next.made = true; /* It has run. */
    return row_put(call->txn, &row_volume_type, &next, err);
}

static bool
put_tag(struct call *call, const void *in, void *out UNUSED, struct err *err)
{
    const struct row_tag tag = {.account = ACCOUNT,
                                .region = "us-east-1",
                                .resource_id = in,
                                .tag_key = RECOVERY_TAG,
                                .value = RECOVERY_REBUILD};
    return row_put(call->txn, &row_tag_type, &tag, err);
}

static bool
put_pending_image(struct call *call, const void *in, void *out UNUSED, struct err *err)
{
    const struct row_image image = {.id = "ami-00000000000000001",
                                    .account = ACCOUNT,
                                    .region = "us-east-1",
                                    .state = "pending",
                                    .source_instance = in};
    return row_put(call->txn, &row_image_type, &image, err);
}

static const char *
other_than(const char *node_id)
{
    return str_eq(node_id, "node-a") ? "node-b" : "node-a";
}

TEST(start_says_which_host_has_a_local_disk_and_what_to_do)
{
    struct ec2 e;
    struct err err;
    ec2_init(&e);
    const char *id = stopped(&e);
    struct rows before = rows_of(&e, id);
    const char *home = before.instance->node_id;
    const struct change troubles[] = {{home, .away = true},
                                      {home, .cordoned = true, .apart = true},
                                      {home, .revoked = true}};
    const char *const words[] = {"cannot be reached", "no room", "has left"};
    for (size_t i = 0; i < ARRAY_LEN(troubles); i++) {
        change(&e, troubles[i]);
        CHECK(!start(&e, id, &err));
        CHECK_EQ(err.code, ERR_INSTANCE_CAPACITY);
        CHECK(strstr(err.msg, home) && strstr(err.msg, before.root->id));
        CHECK(strstr(err.msg, words[i]) && strstr(err.msg, RECOVERY_TAG));
    }
    struct rows after = rows_of(&e, id);
    CHECK_STR(after.instance->want_state, "stopped");
    CHECK_EQ(after.instance->generation, before.instance->generation);
    CHECK_EQ(after.claim->machines, 0);

    change(&e, (struct change){home});
    CHECK_OK(start(&e, id, &err), &err);
    CHECK_STR(rows_of(&e, id).instance->node_id, home);
    CHECK_EQ(rows_of(&e, id).claim->machines, 1);
    ec2_fini(&e);
}

TEST(start_goes_elsewhere_with_a_root_volume_that_may_be_made_anew)
{
    struct ec2 e;
    struct err err;
    ec2_init(&e);
    const char *id = stopped(&e);
    struct rows before = rows_of(&e, id);
    const char *home = before.instance->node_id;
    CHECK_OK(ec2_step(&e, "tag", put_tag, id, NULL, 0, &err), &err);
    change(&e, (struct change){home, .away = true});
    CHECK_OK(start(&e, id, &err), &err);
    struct rows after = rows_of(&e, id);
    CHECK_STR(after.instance->node_id, other_than(home));
    CHECK_STR(after.instance->left_node, home);
    CHECK_STR(after.instance->want_state, "running");
    CHECK(after.instance->claimed && after.claim->machines == 1);
    CHECK(!str_eq(after.root->id, before.root->id));
    CHECK_STR(after.root->node_id, other_than(home));
    CHECK_EQ(after.claim->disk_bytes, 2 * (int64_t)GIB);
    ec2_fini(&e);
}

TEST(start_goes_elsewhere_only_where_the_shared_pool_is)
{
    struct ec2 e;
    struct err err;
    ec2_init(&e);
    const char *id = stopped(&e);
    struct rows before = rows_of(&e, id);
    const char *home = before.instance->node_id, *other = other_than(home);
    CHECK_OK(ec2_step(&e, "pool", put_root_in_pool, id, NULL, 0, &err), &err);
    change(&e, (struct change){home, .cordoned = true});
    CHECK(!start(&e, id, &err));
    CHECK_EQ(err.code, ERR_INSTANCE_CAPACITY);
    CHECK(strstr(err.msg, home) != NULL);

    change(&e, (struct change){other, .pool = "pool-1"});
    CHECK_OK(start(&e, id, &err), &err);
    struct rows after = rows_of(&e, id);
    CHECK_STR(after.instance->node_id, other);
    CHECK_STR(after.root->id, before.root->id);
    CHECK_STR(after.root->node_id, other);
    CHECK(after.root->made && !after.root->want_deleted);
    ec2_fini(&e);
}

struct on_the_way {
    const struct row_migration *migration;
    const struct row_node_claim *there;
};

static bool
read_way(struct call *call, const void *in, void *out, struct err *err)
{
    const struct row_instance *inst = in;
    struct on_the_way *w = out;
    return migration_get(call->txn, inst->migration_id, &w->migration, err) &&
           (!w->migration ||
            row_get(call->txn, &row_node_claim_type,
                    &(struct row_node_claim){.id = w->migration->to_node},
                    (const void **)&w->there, err));
}

static struct on_the_way
way_of(struct ec2 *e, const struct row_instance *inst)
{
    struct err err;
    struct on_the_way way = {0};
    CHECK_OK(ec2_step(e, "way", read_way, inst, &way, sizeof way, &err), &err);
    return way;
}

TEST(start_brings_a_local_disk_to_a_host_that_has_room)
{
    struct ec2 e;
    struct err err;
    ec2_init(&e);
    const char *id = stopped(&e);
    struct rows before = rows_of(&e, id);
    const char *home = before.instance->node_id;
    change(&e, (struct change){home, .cordoned = true});
    CHECK_OK(start(&e, id, &err), &err);
    struct rows after = rows_of(&e, id);
    CHECK_STR(after.instance->want_state, "running");
    CHECK_STR(after.instance->node_id, home); /* Until its disk is there. */
    CHECK(!after.instance->claimed);
    CHECK_EQ(after.claim->machines, 0);
    struct on_the_way way = way_of(&e, after.instance);
    CHECK(way.migration && way.migration->cold && way.migration->starts);
    CHECK_STR(way.migration->reason, "start");
    CHECK_EQ(way.there->machines, 1);
    CHECK_EQ(way.there->vcpus, after.instance->vcpus);
    CHECK_EQ(way.migration->held_memory_bytes, way.there->memory_bytes);
    CHECK_OK(start(&e, id, &err), &err); /* Pending already: nothing more. */
    CHECK_EQ(way_of(&e, after.instance).there->machines, 1);
    ec2_fini(&e);
}

static bool
begin_drain(struct call *call, const void *in, void *out UNUSED, struct err *err)
{
    struct rows rows;
    const struct row_migration *m;
    struct migration_ask ask = {.reason = "drain"};
    return read_rows(call, in, &rows, err) &&
           migration_choose(call->txn, call->pool, call->config, rows.instance, NULL,
                            &ask.to_node, err) &&
           migration_begin(call->txn, rows.instance, &ask, call->rng, call->now_ns, &m,
                           err);
}

/* Where its own host has room it does not wait for what a drain began; else it joins that. */
TEST(start_joins_a_drain_that_moves_its_disk_already)
{
    struct ec2 e;
    struct err err;
    ec2_init(&e);
    const char *id = stopped(&e);
    const char *home = rows_of(&e, id).instance->node_id;
    change(&e, (struct change){home, .cordoned = true});
    CHECK_OK(ec2_step(&e, "drain", begin_drain, id, NULL, 0, &err), &err);
    struct on_the_way way = way_of(&e, rows_of(&e, id).instance);
    CHECK(way.migration->cold && !way.migration->starts);
    CHECK_EQ(way.there->machines + way.there->vcpus, 0);
    CHECK_OK(start(&e, id, &err), &err);
    struct rows after = rows_of(&e, id);
    way = way_of(&e, after.instance);
    CHECK(way.migration->starts && str_eq(way.migration->reason, "drain"));
    CHECK_EQ(way.there->machines, 1);
    CHECK_EQ(way.there->vcpus, after.instance->vcpus);
    CHECK_STR(after.instance->want_state, "running");
    ec2_fini(&e);
}

TEST(start_waits_for_an_image_that_is_being_made_of_the_disk)
{
    struct ec2 e;
    struct err err;
    ec2_init(&e);
    const char *id = stopped(&e);
    CHECK_OK(ec2_step(&e, "tag", put_tag, id, NULL, 0, &err), &err);
    CHECK_OK(ec2_step(&e, "image", put_pending_image, id, NULL, 0, &err), &err);
    change(&e, (struct change){rows_of(&e, id).instance->node_id, .away = true});
    CHECK(!start(&e, id, &err));
    CHECK_STR(rows_of(&e, id).instance->want_state, "stopped");
    ec2_fini(&e);
}
