/* test_instance_loop.c - an instance's life through passes and reports, without any node. */
#include "one_instance.h"

#include "base/tlv.h"
#include "control/instance_metadata.h"
#include "control/jobs.h"

static bool
do_pass(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    return instance_pass(pass, ACCOUNT, INSTANCE, err);
}

struct counted {
    size_t rows, deleted;
    int64_t last_revision;
    const struct row_instance *instance;
    const struct row_volume *volume;
};

static bool
do_count(struct pass *pass, void *ctx, struct err *err)
{
    struct counted *c = ctx;
    struct row_node_want prefix = {.node_id = NODE};
    struct row_query query = {.prefix = &prefix, .prefix_fields = 1};
    struct row_list list;
    *c = (struct counted){0};
    if (!row_list(pass->txn, &row_node_want_type, &query, &list, err)) {
        return false;
    }
    c->rows = list.count;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_node_want *want = list.rows[i];
        c->deleted += want->deleted;
        c->last_revision = MAX(c->last_revision, want->revision);
    }
    struct row_instance ikey = {.account = ACCOUNT, .id = INSTANCE};
    struct row_volume vkey = {.account = ACCOUNT, .id = VOLUME};
    return row_get(pass->txn, &row_instance_type, &ikey, (const void **)&c->instance,
                   err) &&
           row_get(pass->txn, &row_volume_type, &vkey, (const void **)&c->volume, err);
}

static struct counted
count(struct stage *s)
{
    struct counted c;
    stage_run(s, do_count, &c);
    return c;
}

struct said {
    enum link_kind kind;
    const void *record;
    int64_t revision;
};

static bool
do_report(struct pass *pass, void *ctx, struct err *err)
{
    const struct said *said = ctx;
    return report_apply(pass, NODE, said->kind, said->record, said->revision, "e1",
                        err);
}

static void
report_machine(struct stage *s, const char *state, const char *reason,
               int64_t generation)
{
    struct link_machine_seen seen = {
        .id = INSTANCE, .generation = generation, .state = state, .reason = reason};
    stage_run(s, do_report, &(struct said){LINK_MACHINE, &seen});
}

static bool
do_want(struct pass *pass, void *ctx, struct err *err)
{
    struct row_instance key = {.account = ACCOUNT, .id = INSTANCE};
    const struct row_instance *old;
    if (!row_get(pass->txn, &row_instance_type, &key, (const void **)&old, err)) {
        return false;
    }
    struct row_instance row = *old;
    row.want_state = ctx;
    row.generation++;
    return row_put(pass->txn, &row_instance_type, &row, err) &&
           instance_pass(pass, ACCOUNT, INSTANCE, err);
}

TEST(instance_pass_wants_every_record_once)
{
    struct stage s;
    setup(&s);
    stage_run(&s, do_pass, NULL);
    struct counted first = count(&s);
    CHECK_EQ(first.rows, 6); /* network, subnet, port, metadata, disk, machine */
    CHECK_EQ(first.deleted, 0);

    stage_run(&s, do_pass, NULL);
    CHECK_EQ(count(&s).last_revision, first.last_revision);
    stage_close(&s);
}

TEST(instance_pass_ends_what_is_terminated_step_by_step)
{
    struct stage s;
    setup(&s);
    stage_run(&s, do_pass, NULL);
    report_machine(&s, "running", "", 1);
    stage_run(&s, do_want, "terminated");
    struct counted c = count(&s);
    CHECK_EQ(c.deleted, 1); /* The machine first... */
    CHECK_EQ(c.instance->terminated_at, 0);

    report_machine(&s, "absent", "", 2);
    c = count(&s);
    CHECK(c.instance->terminated_at != 0);
    CHECK_EQ(c.deleted, 4); /* ...then port, metadata, subnet, network. */

    struct link_port_seen port = {.id = ENI, .state = "absent"};
    stage_run(&s, do_report, &(struct said){LINK_PORT, &port});
    stage_run(&s, do_report, &(struct said){LINK_METADATA, &port});
    struct link_network_seen subnet = {.id = SUBNET, .state = "absent"};
    stage_run(&s, do_report, &(struct said){LINK_SUBNET, &subnet});
    struct link_network_seen network = {.id = VPC, .state = "absent"};
    stage_run(&s, do_report, &(struct said){LINK_NETWORK, &network});
    c = count(&s);
    CHECK_EQ(c.rows, 1); /* The disk: its volume has a pass of its own. */
    CHECK(c.volume->want_deleted);
    stage_close(&s);
}

TEST(instance_pass_gives_the_claim_back_when_the_guest_is_off)
{
    struct stage s;
    setup(&s);
    stage_run(&s, do_pass, NULL);
    report_machine(&s, "running", "", 1);
    stage_run(&s, do_want, "stopped");
    CHECK(count(&s).instance->claimed);
    report_machine(&s, "stopped", "stopped", 2);
    CHECK(!count(&s).instance->claimed);
    stage_close(&s);
}

TEST(instance_pass_follows_a_guest_that_shuts_itself_down)
{
    struct stage s;
    setup(&s);
    stage_run(&s, do_pass, NULL);
    report_machine(&s, "running", "", 1);
    report_machine(&s, "stopped", "guest_shutdown", 1);
    CHECK_STR(count(&s).instance->want_state, "stopped");
    stage_close(&s);
}

/* Deleted, absent, wanted again and deleted again: the first absence, should it come late
 * or twice, says nothing about what was made in between. */
/* A volume of a shared pool that came to its node last, and ends before that has heard. */
static bool
do_end_shared(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_volume key = {.account = ACCOUNT, .id = VOLUME};
    const struct row_volume *old;
    if (!row_get(pass->txn, &row_volume_type, &key, (const void **)&old, err)) {
        return false;
    }
    struct row_volume next = *old;
    next.pool = "pool-1";
    next.want_deleted = true;
    return row_put(pass->txn, &row_volume_type, &next, err) &&
           volume_pass(pass, ACCOUNT, VOLUME, err);
}

static bool
do_disk_want(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_node_want *want;
    return want_get(pass->txn, NODE, LINK_DISK, VOLUME, &want, err) && want &&
           want->deleted &&
           tlv_decode(&link_disk_desc, want->body.data, want->body.len,
                      txn_arena(pass->txn), ctx, err);
}

TEST(volume_of_a_shared_pool_is_erased_though_its_node_never_heard_of_it)
{
    struct stage s;
    struct link_disk told;
    const struct link_disk_seen gone = {.id = VOLUME, .state = "absent"};
    setup(&s);
    stage_run(&s, do_end_shared, NULL);
    stage_run(&s, do_disk_want, &told);
    CHECK(told.erase && str_eq(told.tier, "pool-1"));
    CHECK(count(&s).volume != NULL);
    stage_run(&s, do_report, &(struct said){LINK_DISK, &gone});
    struct counted end = count(&s);
    CHECK(!end.volume); /* And it is not asked for again. */
    CHECK_EQ(end.rows, 0);
    stage_close(&s);
}

TEST(report_apply_ignores_the_absence_of_an_earlier_record)
{
    struct stage s;
    setup(&s);
    stage_run(&s, do_pass, NULL);
    report_machine(&s, "running", "", 1);
    stage_run(&s, do_want, "terminated");
    struct link_machine_seen seen = {
        .id = INSTANCE, .generation = 2, .state = "absent"};
    struct counted c = count(&s);
    stage_run(&s, do_report,
              &(struct said){LINK_MACHINE, &seen, .revision = c.last_revision - 1});
    CHECK_EQ(count(&s).instance->terminated_at, 0);
    stage_run(&s, do_report,
              &(struct said){LINK_MACHINE, &seen, .revision = c.last_revision});
    CHECK(count(&s).instance->terminated_at != 0);
    stage_close(&s);
}

TEST(report_apply_ignores_what_is_not_wanted_of_the_node)
{
    struct stage s;
    setup(&s);
    report_machine(&s, "running", "", 1); /* No pass yet: nothing is wanted. */
    struct counted c = count(&s);
    CHECK_EQ(c.rows, 0);
    CHECK_STR(c.instance->want_state, "running");
    stage_close(&s);
}

/* ---- what is made when it is sent ---- */

struct made {
    const char *port;
    const struct row_node_want *want;
    struct link_metadata record;
    size_t len;
    const char *version; /* Set: another process is a member, of this version. */
};

static bool
do_make(struct pass *pass, void *ctx, struct err *err)
{
    struct made *made = ctx;
    struct blob body;
    const struct row_control other = {.id = "other", .version = made->version};
    if ((made->version && !row_put(pass->txn, &row_control_type, &other, err)) ||
        !instance_pass(pass, ACCOUNT, INSTANCE, err) ||
        !want_get(pass->txn, NODE, LINK_METADATA, made->port, &made->want, err) ||
        !instance_metadata_body(pass, made->want, &body, err)) {
        return false;
    }
    made->len = body.len;
    return !body.len || tlv_decode(&link_metadata_desc, body.data, body.len,
                                   txn_arena(pass->txn), &made->record, err);
}

TEST(instance_metadata_is_kept_as_a_digest_and_made_again)
{
    struct stage s;
    setup(&s);
    struct made made = {.port = ENI};
    stage_run(&s, do_make, &made);
    CHECK_EQ(made.want->body.len, 0);
    CHECK(made.want->digest.len > 0 && made.len > 1000);
    CHECK_STR(made.record.id, ENI);
    int64_t revision = made.want->revision;
    stage_run(&s, do_make, &made); /* The same again is no change. */
    CHECK_EQ(made.want->revision, revision);
    stage_close(&s);
}

TEST(instance_metadata_is_kept_whole_beside_a_process_of_another_version)
{
    struct stage s;
    setup(&s);
    struct made made = {.port = ENI, .version = "0.0.1"};
    stage_run(&s, do_make, &made);
    CHECK(made.want->body.len > 1000);
    CHECK_EQ(made.want->digest.len, 0);
    made.version = MOLN_VERSION; /* It was upgraded. */
    stage_run(&s, do_make, &made);
    CHECK_EQ(made.want->body.len, 0);
    CHECK(made.want->digest.len > 0);
    stage_close(&s);
}

/* ---- an image of what is terminated meanwhile ------------------------------------------ */

#define IMAGE "ami-00000000000000001"

static bool
do_image(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    struct row_block_mapping root = {.device = "/dev/xvda", .size_gib = 8};
    const struct row_image image = {.id = IMAGE,
                                    .account = ACCOUNT,
                                    .region = "us-east-1",
                                    .state = "pending",
                                    .mappings = {&root, 1},
                                    .source_instance = INSTANCE,
                                    .source_volume = VOLUME,
                                    .job_id = IMAGE};
    return row_put(pass->txn, &row_image_type, &image, err) &&
           job_pass(pass, ACCOUNT, IMAGE, err);
}

static bool
do_volume(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    return volume_pass(pass, ACCOUNT, VOLUME, err);
}

struct copy {
    const struct row_image *image;
    const struct row_node_want *disk, *job;
};

static bool
do_copy(struct pass *pass, void *ctx, struct err *err)
{
    struct copy *c = ctx;
    const struct row_image key = {.id = IMAGE};
    return row_get(pass->txn, &row_image_type, &key, (const void **)&c->image, err) &&
           want_get(pass->txn, NODE, LINK_DISK, VOLUME, &c->disk, err) &&
           want_get(pass->txn, NODE, LINK_BLOB_JOB, IMAGE, &c->job, err);
}

static struct copy
copy_of(struct stage *s)
{
    struct copy c;
    stage_run(s, do_copy, &c);
    return c;
}

static bool
do_revoke(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_node node = {
        .id = NODE, .region = "us-east-1", .state = "revoked"};
    return row_put(pass->txn, &row_node_type, &node, err);
}

/* An instance that ends while its disk is copied. */
static void
begin_copy(struct stage *s)
{
    setup(s);
    stage_run(s, do_pass, NULL);
    report_machine(s, "running", "", 1);
    stage_run(s, do_image, NULL);
    CHECK(copy_of(s).job != NULL);
    stage_run(s, do_want, "terminated");
    report_machine(s, "absent", "", 2);
    CHECK(count(s).instance->terminated_at != 0);
    stage_run(s, do_volume, NULL);
    CHECK(!copy_of(s).disk->deleted);
    CHECK_STR(copy_of(s).image->state, "pending");
}

TEST(volume_stays_until_the_image_of_it_is_made)
{
    struct stage s;
    begin_copy(&s);
    struct link_blob_job_seen done = {.id = IMAGE, .state = "done"};
    stage_run(&s, do_report, &(struct said){LINK_BLOB_JOB, &done});
    CHECK_STR(copy_of(&s).image->state, "available");
    CHECK(copy_of(&s).disk->deleted);
    stage_close(&s);
}

TEST(volume_goes_when_the_image_of_it_is_given_up)
{
    struct stage s;
    begin_copy(&s);
    struct link_blob_job_seen failed = {.id = IMAGE, .state = "failed"};
    stage_run(&s, do_report, &(struct said){LINK_BLOB_JOB, &failed});
    CHECK_STR(copy_of(&s).image->state, "failed");
    CHECK(copy_of(&s).disk->deleted);
    stage_close(&s);
}

TEST(volume_and_image_of_a_revoked_node_wait_for_nobody)
{
    struct stage s;
    begin_copy(&s);
    stage_run(&s, do_revoke, NULL);
    stage_run(&s, do_volume, NULL);
    CHECK_STR(copy_of(&s).image->state, "failed");
    CHECK_NULL(count(&s).volume);
    stage_close(&s);
}
