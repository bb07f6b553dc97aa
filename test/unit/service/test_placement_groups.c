/* test_placement_groups.c - placement groups, dedicated hosts and tenancy, through the
 * handlers. */
#include "core/migration_rows.h"
#include "ec2_fixture.h"

/* ---- steps ---- */

struct host_spec {
    const char *id, *rack, *segment;
};

static bool
put_hosts(struct call *call, const void *in, void *out UNUSED, struct err *err)
{
    const struct host_spec *spec = in;
    for (; spec->id; spec++) {
        const struct row_node node = {.id = spec->id,
                                      .region = "us-east-1",
                                      .zone = "us-east-1a",
                                      .state = "active",
                                      .underlay = spec->id,
                                      .rack = spec->rack,
                                      .segment = spec->segment};
        const struct row_node_seen seen = {.id = spec->id,
                                           .vcpus = HOST_VCPUS,
                                           .memory_bytes = 64 * (int64_t)GIB,
                                           .connected = true};
        if (!row_put(call->txn, &row_node_type, &node, err) ||
            !row_put(call->txn, &row_node_seen_type, &seen, err)) {
            return false;
        }
    }
    return true;
}

static void
hosts(struct ec2 *e, const struct host_spec *spec)
{
    struct err err;
    CHECK_OK(ec2_step(e, "hosts", put_hosts, spec, NULL, 0, &err), &err);
}

static const char *
make_group(struct ec2 *e, const char *name, const char *strategy, int64_t partitions)
{
    struct err err;
    const struct ec2_create_placement_group_request in = {.group_name = name,
                                                          .strategy = strategy,
                                                          .partition_count = partitions,
                                                          .has_partition_count =
                                                              partitions > 0};
    struct ec2_create_placement_group_result out;
    CHECK_OK(CALL(e, create_placement_group, &in, &out, &err), &err);
    CHECK(id_valid("pg", out.placement_group->group_id));
    return out.placement_group->group_id;
}

static bool
launch(struct ec2 *e, const struct ec2_placement *where, int64_t count,
       struct ec2_reservation *out, struct err *err)
{
    struct ec2_placement copy = *where;
    const struct ec2_run_instances_request in = {.image_id = IMAGE,
                                                 .instance_type = "m5.large",
                                                 .min_count = count,
                                                 .max_count = count,
                                                 .placement = &copy};
    return CALL(e, run_instances, &in, out, err);
}

struct found {
    const char *id, *node_id, *tenancy, *host_id;
    int64_t partition;
};

static bool
find_instance(struct call *call, const void *in, void *out, struct err *err)
{
    struct found *found = out;
    const struct row_instance key = {.account = ACCOUNT, .id = in};
    const void *row;
    if (!row_get(call->txn, &row_instance_type, &key, &row, err)) {
        return false;
    }
    const struct row_instance *inst = row;
    *found = (struct found){in, inst->node_id, inst->tenancy, inst->host_id,
                            inst->partition};
    return true;
}

static struct found
found(struct ec2 *e, const char *id)
{
    struct err err;
    struct found out;
    CHECK_OK(ec2_step(e, "find", find_instance, id, &out, sizeof out, &err), &err);
    return out;
}

static void
refused(struct ec2 *e, const struct ec2_placement *where, int64_t count,
        enum err_code code)
{
    struct err err;
    struct ec2_reservation out;
    CHECK(!launch(e, where, count, &out, &err));
    if (err.code != code) {
        fail_msg("%s: %s", err_info(err.code)->name, err.msg);
    }
}

/* ---- groups ---- */

TEST(placement_group_is_made_shown_and_deleted)
{
    struct ec2 e;
    struct err err;
    ec2_init(&e);
    const char *id = make_group(&e, "parts", "partition", 3);
    (void)make_group(&e, "far", "spread", 0);
    struct ec2_describe_placement_groups_request in = {0};
    struct ec2_describe_placement_groups_result out;
    CHECK_OK(CALL(&e, describe_placement_groups, &in, &out, &err), &err);
    CHECK_EQ(out.placement_groups.count, 2);
    in.group_ids.items = &id;
    in.group_ids.count = 1;
    CHECK_OK(CALL(&e, describe_placement_groups, &in, &out, &err), &err);
    CHECK_EQ(out.placement_groups.count, 1);
    CHECK_EQ(out.placement_groups.items[0].partition_count, 3);
    CHECK_STR(out.placement_groups.items[0].state, "available");

    const struct ec2_create_placement_group_request again = {.group_name = "far",
                                                             .strategy = "cluster"};
    struct ec2_create_placement_group_result made;
    CHECK(!CALL(&e, create_placement_group, &again, &made, &err));
    CHECK_EQ(err.code, ERR_PLACEMENT_GROUP_EXISTS);

    struct ec2_reservation launched;
    CHECK_OK(
        launch(&e, &(struct ec2_placement){.group_name = "far"}, 1, &launched, &err),
        &err);
    CHECK_STR(launched.instances.items[0].placement->group_name, "far");
    e.account = STRANGER;
    in.group_ids.count = 0;
    CHECK_OK(CALL(&e, describe_placement_groups, &in, &out, &err), &err);
    CHECK_EQ(out.placement_groups.count, 0);
    ec2_fini(&e);
}

static bool
delete_group(struct call *call, const void *in, void *out UNUSED, struct err *err)
{
    const struct ec2_delete_placement_group_request drop = {.group_name = in};
    return ec2_delete_placement_group(call, &drop, err);
}

TEST(placement_group_in_use_stays_until_its_last_instance_ends)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation out;
    ec2_init(&e);
    (void)make_group(&e, "far", "spread", 0);
    CHECK_OK(launch(&e, &(struct ec2_placement){.group_name = "far"}, 1, &out, &err),
             &err);
    CHECK(!ec2_step(&e, "delete", delete_group, "far", NULL, 0, &err));
    CHECK_EQ(err.code, ERR_PLACEMENT_GROUP_IN_USE);
    const char *id = out.instances.items[0].instance_id;
    struct ec2_terminate_instances_request end = {0};
    struct ec2_terminate_instances_result ended;
    end.instance_ids.items = &id;
    end.instance_ids.count = 1;
    CHECK_OK(CALL(&e, terminate_instances, &end, &ended, &err), &err);
    ec2_node_says(&e, id, "absent");
    CHECK_OK(ec2_step(&e, "delete", delete_group, "far", NULL, 0, &err), &err);
    CHECK(!ec2_step(&e, "delete", delete_group, "far", NULL, 0, &err));
    CHECK_EQ(err.code, ERR_PLACEMENT_GROUP);
    ec2_fini(&e);
}

TEST(spread_group_gives_each_instance_a_rack_of_its_own)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation one, two;
    ec2_init(&e);
    hosts(&e, (struct host_spec[]){{"node-a", "r1", NULL},
                                   {"node-b", "r1", NULL},
                                   {"node-c", "r2", NULL},
                                   {NULL, NULL, NULL}});
    (void)make_group(&e, "far", "spread", 0);
    const struct ec2_placement far = {.group_name = "far"};
    refused(&e, &far, 3, ERR_INSTANCE_CAPACITY);
    CHECK_OK(launch(&e, &far, 1, &one, &err), &err);
    CHECK_OK(launch(&e, &far, 1, &two, &err), &err);
    bool on_c = str_eq(found(&e, one.instances.items[0].instance_id).node_id, "node-c");
    bool other =
        str_eq(found(&e, two.instances.items[0].instance_id).node_id, "node-c");
    CHECK(on_c != other);
    refused(&e, &far, 1, ERR_INSTANCE_CAPACITY);
    ec2_fini(&e);
}

TEST(spread_group_holds_seven_in_a_zone)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation out;
    static char ids[8][16];
    struct host_spec spec[9] = {{NULL, NULL, NULL}};
    ec2_init(&e);
    for (int i = 0; i < 8; i++) {
        (void)snprintf(ids[i], sizeof ids[i], "node-%d", i);
        spec[i].id = ids[i];
    }
    hosts(&e, spec);
    (void)make_group(&e, "far", "spread", 0);
    const struct ec2_placement far = {.group_name = "far",
                                      .availability_zone = "us-east-1a"};
    CHECK_OK(launch(&e, &far, 7, &out, &err), &err);
    refused(&e, &far, 1, ERR_INSTANCE_LIMIT);
    ec2_fini(&e);
}

TEST(partition_group_shares_no_host_between_partitions)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation out, more;
    ec2_init(&e);
    (void)make_group(&e, "parts", "partition", 2);
    const struct ec2_placement any = {.group_name = "parts"};
    CHECK_OK(launch(&e, &any, 4, &out, &err), &err);
    const char *node_of[3] = {NULL};
    for (size_t i = 0; i < 4; i++) {
        const struct found f = found(&e, out.instances.items[i].instance_id);
        CHECK_EQ(f.partition, i % 2 + 1);
        CHECK(!node_of[f.partition] || str_eq(node_of[f.partition], f.node_id));
        node_of[f.partition] = f.node_id;
    }
    CHECK(!str_eq(node_of[1], node_of[2]));
    /* Two of four fit there yet: the other partition's host is no way out. */
    const struct ec2_placement second = {
        .group_name = "parts", .partition_number = 2, .has_partition_number = true};
    refused(&e, &second, 3, ERR_INSTANCE_CAPACITY);
    CHECK_OK(launch(&e, &second, 2, &more, &err), &err);
    CHECK_STR(found(&e, more.instances.items[1].instance_id).node_id, node_of[2]);
    const struct ec2_placement third = {
        .group_name = "parts", .partition_number = 3, .has_partition_number = true};
    refused(&e, &third, 1, ERR_INVALID_PARAMETER_VALUE);
    ec2_fini(&e);
}

TEST(cluster_group_stays_in_one_segment)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation out;
    ec2_init(&e);
    hosts(&e, (struct host_spec[]){{"node-a", NULL, "s1"},
                                   {"node-b", NULL, "s2"},
                                   {"node-c", NULL, "s1"},
                                   {NULL, NULL, NULL}});
    (void)make_group(&e, "near", "cluster", 0);
    const struct ec2_placement near = {.group_name = "near"};
    CHECK_OK(launch(&e, &near, 1, &out, &err), &err);
    bool on_b = str_eq(found(&e, out.instances.items[0].instance_id).node_id, "node-b");
    CHECK(!on_b);
    CHECK_OK(launch(&e, &near, 7, &out, &err), &err);
    for (size_t i = 0; i < 7; i++) {
        CHECK(!str_eq(found(&e, out.instances.items[i].instance_id).node_id, "node-b"));
    }
    refused(&e, &near, 1, ERR_INSTANCE_CAPACITY);
    ec2_fini(&e);
}

TEST(placement_of_a_launch_is_checked)
{
    struct ec2 e;
    ec2_init(&e);
    (void)make_group(&e, "near", "cluster", 0);
    refused(&e, &(struct ec2_placement){.group_name = "no"}, 1, ERR_PLACEMENT_GROUP);
    refused(&e, &(struct ec2_placement){.group_id = "pg-0123456789abcdef0"}, 1,
            ERR_PLACEMENT_GROUP);
    refused(&e, &(struct ec2_placement){.group_id = "pg-x"}, 1, ERR_PLACEMENT_GROUP_ID);
    refused(&e,
            &(struct ec2_placement){.group_name = "near",
                                    .partition_number = 1,
                                    .has_partition_number = true},
            1, ERR_INVALID_PARAMETER_COMBINATION);
    refused(&e, &(struct ec2_placement){.host_id = "h-0123456789abcdef0"}, 1,
            ERR_INVALID_PARAMETER_COMBINATION);
    refused(
        &e,
        &(struct ec2_placement){.tenancy = "host", .host_id = "h-0123456789abcdef0"}, 1,
        ERR_HOST_NOT_FOUND);
    refused(&e, &(struct ec2_placement){.tenancy = "host", .group_name = "near"}, 1,
            ERR_INVALID_PARAMETER_COMBINATION);
    refused(&e, &(struct ec2_placement){.tenancy = "host"}, 1, ERR_HOST_FULL);
    ec2_fini(&e);
}

/* ---- tenancy ---- */

TEST(dedicated_instances_share_their_host_with_nobody)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation out;
    ec2_init(&e);
    const struct ec2_placement alone = {.tenancy = "dedicated"};
    CHECK_OK(launch(&e, &alone, 2, &out, &err), &err);
    const struct found one = found(&e, out.instances.items[0].instance_id);
    CHECK_STR(one.node_id, found(&e, out.instances.items[1].instance_id).node_id);
    CHECK_STR(out.instances.items[0].placement->tenancy, "dedicated");
    CHECK_OK(launch(&e, &(struct ec2_placement){0}, 4, &out, &err), &err);
    CHECK(!str_eq(found(&e, out.instances.items[3].instance_id).node_id, one.node_id));
    /* The rest of its host stays empty, though the other one is full. */
    refused(&e, &(struct ec2_placement){0}, 1, ERR_INSTANCE_CAPACITY);
    CHECK_OK(launch(&e, &alone, 2, &out, &err), &err);
    ec2_fini(&e);
}

static bool
allocate(struct ec2 *e, int64_t quantity, const char *type, const char *auto_placement,
         struct ec2_allocate_hosts_result *out, struct err *err)
{
    const struct ec2_allocate_hosts_request in = {.availability_zone = "us-east-1a",
                                                  .quantity = quantity,
                                                  .instance_type = type,
                                                  .auto_placement = auto_placement};
    return CALL(e, allocate_hosts, &in, out, err);
}

static size_t
standing_hosts(struct ec2 *e, struct ec2_describe_hosts_result *out)
{
    struct err err;
    struct ec2_describe_hosts_request in = {0};
    static const char *available[] = {"available"};
    static struct ec2_filter state = {.name = "state"};
    state.values.items = available;
    state.values.count = 1;
    in.filter.items = &state;
    in.filter.count = 1;
    CHECK_OK(CALL(e, describe_hosts, &in, out, &err), &err);
    return out->hosts.count;
}

TEST(dedicated_host_is_allocated_used_and_released)
{
    struct ec2 e;
    struct err err;
    struct ec2_allocate_hosts_result made;
    struct ec2_describe_hosts_result shown;
    struct ec2_reservation out;
    ec2_init(&e);
    CHECK(!allocate(&e, 1, "t3.micro", "on", &made, &err)); /* AWS has no such hosts. */
    CHECK_EQ(err.code, ERR_INVALID_PARAMETER_VALUE);
    CHECK(!allocate(&e, 3, "m5.large", "on", &made, &err));
    CHECK_EQ(err.code, ERR_HOST_LIMIT);
    CHECK_OK(allocate(&e, 1, "m5.large", "on", &made, &err), &err);
    const char *id = made.host_ids.items[0];
    CHECK(id_valid("h", id));

    CHECK_OK(launch(&e, &(struct ec2_placement){.tenancy = "host"}, 3, &out, &err),
             &err);
    CHECK_STR(out.instances.items[0].placement->host_id, id);
    CHECK_EQ(standing_hosts(&e, &shown), 1);
    const struct ec2_host *host = &shown.hosts.items[0];
    CHECK_EQ(host->instances.count, 3);
    CHECK_EQ(host->available_capacity->available_v_cpus, HOST_VCPUS - 6);
    CHECK_EQ(host->available_capacity->available_instance_capacity.items[0]
                 .available_capacity,
             1);
    refused(&e, &(struct ec2_placement){.tenancy = "host", .host_id = id}, 2,
            ERR_HOST_FULL);

    struct ec2_release_hosts_request drop = {0};
    struct ec2_release_hosts_result dropped;
    drop.host_ids.items = &id;
    drop.host_ids.count = 1;
    CHECK_OK(CALL(&e, release_hosts, &drop, &dropped, &err), &err);
    CHECK_EQ(dropped.unsuccessful.count, 1);
    CHECK_STR(dropped.unsuccessful.items[0].error->code, "Client.InvalidHost.Occupied");
    for (size_t i = 0; i < 3; i++) {
        const char *inst = out.instances.items[i].instance_id;
        struct ec2_terminate_instances_request end = {0};
        struct ec2_terminate_instances_result ended;
        end.instance_ids.items = &inst;
        end.instance_ids.count = 1;
        CHECK_OK(CALL(&e, terminate_instances, &end, &ended, &err), &err);
        ec2_node_says(&e, inst, "absent");
    }
    CHECK_OK(CALL(&e, release_hosts, &drop, &dropped, &err), &err);
    CHECK_EQ(dropped.successful.count, 1);
    CHECK_EQ(standing_hosts(&e, &shown), 0);
    /* Both hosts are everybody's again. */
    CHECK_OK(launch(&e, &(struct ec2_placement){0}, 8, &out, &err), &err);
    ec2_fini(&e);
}

TEST(dedicated_host_without_auto_placement_takes_only_who_names_it)
{
    struct ec2 e;
    struct err err;
    struct ec2_allocate_hosts_result made;
    struct ec2_reservation out;
    ec2_init(&e);
    CHECK_OK(allocate(&e, 1, "m5.large", "off", &made, &err), &err);
    const struct ec2_placement any = {.tenancy = "host"};
    const struct ec2_placement named = {
        .tenancy = "host", .host_id = made.host_ids.items[0], .affinity = "host"};
    refused(&e, &any, 1, ERR_HOST_FULL);
    CHECK_OK(launch(&e, &named, 1, &out, &err), &err);
    CHECK_STR(out.instances.items[0].placement->affinity, "host");
    e.account = STRANGER;
    refused(&e, &named, 1, ERR_HOST_NOT_FOUND);
    ec2_fini(&e);
}

/* ---- ModifyInstancePlacement ---- */

TEST(modify_instance_placement_moves_a_stopped_instance_between_groups)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation out;
    ec2_init(&e);
    const char *group = make_group(&e, "far", "spread", 0);
    CHECK_OK(launch(&e, &(struct ec2_placement){0}, 1, &out, &err), &err);
    const char *id = out.instances.items[0].instance_id;
    struct ec2_modify_instance_placement_request in = {.instance_id = id,
                                                       .group_id = group};
    struct ec2_modify_instance_placement_result done;
    CHECK(!CALL(&e, modify_instance_placement, &in, &done, &err));
    CHECK_EQ(err.code, ERR_INSTANCE_STATE);
    ec2_node_says(&e, id, "running");
    struct ec2_stop_instances_request stop = {0};
    struct ec2_stop_instances_result stopped;
    stop.instance_ids.items = &id;
    stop.instance_ids.count = 1;
    CHECK_OK(CALL(&e, stop_instances, &stop, &stopped, &err), &err);
    ec2_node_says(&e, id, "stopped");
    CHECK_OK(CALL(&e, modify_instance_placement, &in, &done, &err), &err);
    CHECK(done.return_);
    CHECK(!ec2_step(&e, "delete", delete_group, "far", NULL, 0, &err));
    in = (struct ec2_modify_instance_placement_request){.instance_id = id,
                                                        .tenancy = "dedicated"};
    CHECK(!CALL(&e, modify_instance_placement, &in, &done, &err));
    CHECK_EQ(err.code, ERR_TENANCY);
    in = (struct ec2_modify_instance_placement_request){.instance_id = id,
                                                        .group_name = ""};
    CHECK_OK(CALL(&e, modify_instance_placement, &in, &done, &err), &err);
    CHECK_OK(ec2_step(&e, "delete", delete_group, "far", NULL, 0, &err), &err);
    ec2_fini(&e);
}

/* ---- moves ---- */

static bool
choose_move(struct call *call, const void *in, void *out, struct err *err)
{
    const struct row_instance key = {.account = ACCOUNT, .id = in};
    const void *row;
    return row_get(call->txn, &row_instance_type, &key, &row, err) &&
           migration_choose(call->txn, NULL, call->config, row, NULL, out, err);
}

TEST(moved_instance_keeps_to_its_group_and_tenancy)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation spread, alone, other;
    const char *to;
    ec2_init(&e);
    hosts(&e, (struct host_spec[]){{"node-a", NULL, NULL},
                                   {"node-b", NULL, NULL},
                                   {"node-c", NULL, NULL},
                                   {NULL, NULL, NULL}});
    (void)make_group(&e, "far", "spread", 0);
    CHECK_OK(launch(&e, &(struct ec2_placement){.group_name = "far"}, 2, &spread, &err),
             &err);
    const char *first = spread.instances.items[0].instance_id;
    CHECK_OK(ec2_step(&e, "move", choose_move, first, &to, sizeof to, &err), &err);
    CHECK(!str_eq(to, found(&e, first).node_id));
    CHECK(!str_eq(to, found(&e, spread.instances.items[1].instance_id).node_id));
    /* The third host goes to somebody who is alone there: no way out is left to anyone. */
    CHECK_OK(
        launch(&e, &(struct ec2_placement){.tenancy = "dedicated"}, 1, &alone, &err),
        &err);
    CHECK(!ec2_step(&e, "move", choose_move, first, &to, sizeof to, &err));
    CHECK(!ec2_step(&e, "move", choose_move, alone.instances.items[0].instance_id, &to,
                    sizeof to, &err));
    CHECK_OK(launch(&e, &(struct ec2_placement){0}, 1, &other, &err), &err);
    CHECK_OK(ec2_step(&e, "move", choose_move, other.instances.items[0].instance_id,
                      &to, sizeof to, &err),
             &err);
    ec2_fini(&e);
}
