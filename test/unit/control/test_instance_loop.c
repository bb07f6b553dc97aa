/* test_instance_loop.c - an instance's life through passes and reports, without any node. */
#include "stage.h"

#include "control/reports.h"
#include "control/wants.h"
#include "core/lifecycle.h"
#include "store/rows.h"

#define ACCOUNT "123456789012"
#define NODE "node-00000000000000001"
#define INSTANCE "i-00000000000000001"
#define VOLUME "vol-00000000000000001"
#define ENI "eni-00000000000000001"
#define SUBNET "subnet-00000000000000001"
#define VPC "vpc-00000000000000001"

static bool
put_rows(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const char *enis[] = {ENI};
    struct row_instance instance = {
        .account = ACCOUNT, .id = INSTANCE, .region = "us-east-1", .zone = "us-east-1a",
        .type = "t3.nano", .vcpus = 2, .memory_bytes = 512 * (int64_t)MIB,
        .want_state = "running", .generation = 1, .node_id = NODE, .claimed = true,
        .subnet_id = SUBNET, .vpc_id = VPC, .root_volume_id = VOLUME,
        .root_device = "/dev/xvda", .private_dns = "ip-172-31-0-5.ec2.internal",
        .shutdown_behavior = "stop", .eni_ids = {enis, 1},
    };
    struct row_volume volume = {.account = ACCOUNT, .id = VOLUME, .size_gib = 8,
                                .instance_id = INSTANCE, .node_id = NODE, .generation = 1,
                                .delete_on_termination = true, .region = "us-east-1"};
    struct row_eni eni = {.account = ACCOUNT, .id = ENI, .subnet_id = SUBNET, .vpc_id = VPC,
                          .mac = "02:00:00:00:00:01", .ipv4 = "172.31.0.5",
                          .instance_id = INSTANCE, .delete_on_termination = true,
                          .region = "us-east-1"};
    struct row_subnet subnet = {.account = ACCOUNT, .id = SUBNET, .vpc_id = VPC,
                                .cidr = "172.31.0.0/20", .region = "us-east-1"};
    struct row_vpc vpc = {.account = ACCOUNT, .id = VPC, .cidr = "172.31.0.0/16", .vni = 100,
                          .region = "us-east-1"};
    struct row_node node = {.id = NODE, .region = "us-east-1", .zone = "us-east-1a",
                            .state = "active"};
    struct row_node_claim claim = {.id = NODE, .vcpus = 2, .machines = 1,
                                   .memory_bytes = 512 * (int64_t)MIB};
    struct txn *t = pass->txn;
    return row_put(t, &row_instance_type, &instance, err) &&
           row_put(t, &row_volume_type, &volume, err) &&
           row_put(t, &row_eni_type, &eni, err) &&
           row_put(t, &row_subnet_type, &subnet, err) &&
           row_put(t, &row_vpc_type, &vpc, err) && row_put(t, &row_node_type, &node, err) &&
           row_put(t, &row_node_claim_type, &claim, err);
}

static void
setup(struct stage *s)
{
    stage_open(s);
    stage_run(s, put_rows, NULL);
}

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
    return row_get(pass->txn, &row_instance_type, &ikey, (const void **)&c->instance, err) &&
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
report_machine(struct stage *s, const char *state, const char *reason, int64_t generation)
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
TEST(report_apply_ignores_the_absence_of_an_earlier_record)
{
    struct stage s;
    setup(&s);
    stage_run(&s, do_pass, NULL);
    report_machine(&s, "running", "", 1);
    stage_run(&s, do_want, "terminated");
    struct link_machine_seen seen = {.id = INSTANCE, .generation = 2, .state = "absent"};
    struct counted c = count(&s);
    stage_run(&s, do_report,
        &(struct said){LINK_MACHINE, &seen, .revision = c.last_revision - 1});
    CHECK_EQ(count(&s).instance->terminated_at, 0);
    stage_run(&s, do_report, &(struct said){LINK_MACHINE, &seen, .revision = c.last_revision});
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
