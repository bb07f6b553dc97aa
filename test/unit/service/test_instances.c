/* test_instances.c - instances described, filtered, paged, and moved through their
 * states. */
#include "ec2_fixture.h"

static void
launch(struct ec2 *e, int64_t count, const char *name, struct ec2_reservation *out)
{
    struct err err;
    struct ec2_tag tag = {.key = "Name", .value = name};
    struct ec2_tag_specification spec = {.resource_type = "instance"};
    spec.tags.items = &tag;
    spec.tags.count = 1;
    struct ec2_run_instances_request in = {.image_id = IMAGE,
                                           .instance_type = "t3.micro",
                                           .min_count = count,
                                           .max_count = count};
    in.tag_specifications.items = &spec;
    in.tag_specifications.count = 1;
    CHECK_OK(CALL(e, run_instances, &in, out, &err), &err);
}

static size_t
count_all(const struct ec2_describe_instances_result *r)
{
    size_t count = 0;
    for (size_t i = 0; i < r->reservations.count; i++) {
        count += r->reservations.items[i].instances.count;
    }
    return count;
}

/* How many instances pass one filter. */
static size_t
matching(struct ec2 *e, const char *name, const char *value)
{
    struct err err;
    const char *values[] = {value};
    struct ec2_filter filter = {.name = name};
    filter.values.items = values;
    filter.values.count = 1;
    struct ec2_describe_instances_request in = {0};
    struct ec2_describe_instances_result out;
    in.filters.items = &filter;
    in.filters.count = 1;
    CHECK_OK(CALL(e, describe_instances, &in, &out, &err), &err);
    return count_all(&out);
}

TEST(describe_instances_filters_by_fields_tags_and_wildcards)
{
    struct ec2 e;
    struct ec2_reservation web, db;
    ec2_init(&e);
    launch(&e, 2, "web-1", &web);
    launch(&e, 1, "db", &db);
    CHECK_EQ(matching(&e, "tag:Name", "web-1"), 2);
    CHECK_EQ(matching(&e, "tag:Name", "web*"), 2);
    CHECK_EQ(matching(&e, "tag:Name", "Web*"), 0);
    CHECK_EQ(matching(&e, "tag-key", "Name"), 3);
    CHECK_EQ(matching(&e, "tag-value", "db"), 1);
    CHECK_EQ(matching(&e, "tag:Owner", "*"), 0);
    CHECK_EQ(matching(&e, "instance-type", "t3.*"), 3);
    CHECK_EQ(matching(&e, "instance-state-code", "0"), 3);
    CHECK_EQ(matching(&e, "instance-state-name", "running"), 0);
    CHECK_EQ(matching(&e, "private-ip-address", "172.31.0.5"), 1);
    CHECK_EQ(
        matching(&e, "network-interface.addresses.private-ip-address", "172.31.0.5"),
        1);
    CHECK_EQ(matching(&e, "reservation-id", db.reservation_id), 1);
    CHECK_EQ(matching(&e, "block-device-mapping.delete-on-termination", "true"), 3);
    CHECK_EQ(matching(&e, "ip-address", "*"), 0);
    ec2_fini(&e);
}

TEST(describe_instances_refuses_unknown_filters)
{
    struct ec2 e;
    struct err err;
    const char *values[] = {"x"};
    struct ec2_filter filter = {.name = "no-such-filter"};
    struct ec2_describe_instances_request in = {0};
    struct ec2_describe_instances_result out;
    filter.values.items = values;
    filter.values.count = 1;
    in.filters.items = &filter;
    in.filters.count = 1;
    ec2_init(&e);
    CHECK(!CALL(&e, describe_instances, &in, &out, &err));
    CHECK_STR(err_info(err.code)->aws, "InvalidParameterValue");
    CHECK_STR(err.msg, "The filter 'no-such-filter' is invalid");
    ec2_fini(&e);
}

TEST(describe_instances_pages_through_all_of_them_once)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation r;
    struct ec2_describe_instances_request in = {.max_results = 5,
                                                .has_max_results = true};
    struct ec2_describe_instances_result out;
    ec2_init(&e);
    launch(&e, 3, "a", &r);
    launch(&e, 4, "b", &r);
    CHECK_OK(CALL(&e, describe_instances, &in, &out, &err), &err);
    CHECK_EQ(count_all(&out), 5);
    CHECK(out.next_token != NULL);
    in.next_token = out.next_token;
    CHECK_OK(CALL(&e, describe_instances, &in, &out, &err), &err);
    CHECK_EQ(count_all(&out), 2);
    CHECK_NULL(out.next_token);

    /* The token is good for this very query only. */
    struct ec2_describe_instances_request other = in;
    const char *values[] = {"a"};
    struct ec2_filter filter = {.name = "tag:Name"};
    filter.values.items = values;
    filter.values.count = 1;
    other.filters.items = &filter;
    other.filters.count = 1;
    CHECK(!CALL(&e, describe_instances, &other, &out, &err));
    CHECK_EQ(err.code, ERR_NEXT_TOKEN_INVALID);
    e.account = STRANGER;
    CHECK(!CALL(&e, describe_instances, &in, &out, &err));
    ec2_fini(&e);
}

/* An account, and a host, with room for many. */
static bool
make_room(struct call *call, const void *in UNUSED, void *out UNUSED, struct err *err)
{
    const struct row_account account = {.id = ACCOUNT,
                                        .state = "active",
                                        .quota_instances = 1000,
                                        .quota_vcpus = 1000,
                                        .quota_disk_gib = 10000};
    const struct row_node_seen seen = {.id = "node-a",
                                       .vcpus = 1000,
                                       .memory_bytes = 1000 * (int64_t)GIB,
                                       .connected = true};
    return row_put(call->txn, &row_account_type, &account, err) &&
           row_put(call->txn, &row_node_seen_type, &seen, err);
}

/* However many lie between those that a filter lets through, each comes once. */
TEST(describe_instances_pages_through_what_a_filter_leaves)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation r;
    const char *values[] = {"a"};
    struct ec2_filter filter = {.name = "tag:Name", .values = {values, 1}};
    struct ec2_describe_instances_request in = {
        .max_results = 5, .has_max_results = true, .filters = {&filter, 1}};
    struct ec2_describe_instances_result out = {0};
    size_t all = 0, pages = 0;
    ec2_init(&e);
    CHECK_OK(ec2_step(&e, "room", make_room, NULL, NULL, 0, &err), &err);
    for (int i = 0; i < 4; i++) {
        launch(&e, 3, "a", &r);
        launch(&e, 11, "b", &r);
    }
    do {
        in.next_token = out.next_token;
        out = (struct ec2_describe_instances_result){0};
        CHECK_OK(CALL(&e, describe_instances, &in, &out, &err), &err);
        all += count_all(&out);
        pages++;
    } while (out.next_token);
    CHECK_EQ(all, 12);
    CHECK_EQ(pages, 3);
    ec2_fini(&e);
}

#define MANY 10004

/* Rows of instances like the one in 'ctx', with other ids. */
static bool
copy_many(struct txn *txn, void *ctx, struct err *err)
{
    const struct row_instance *like = ctx;
    const void *found;
    if (!row_get(txn, &row_instance_type, like, &found, err)) {
        return false;
    }
    struct row_instance row = *(const struct row_instance *)found;
    for (unsigned i = 0; i < MANY; i++) {
        char id[24];
        (void)snprintf(id, sizeof id, "i-%017x", i);
        row.id = id;
        if (!row_put(txn, &row_instance_type, &row, err)) {
            return false;
        }
    }
    return true;
}

/* Nobody gets an answer of any size for not saying how many. */
TEST(describe_instances_without_max_results_answers_ten_thousand_and_a_token)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation r;
    struct ec2_describe_instances_request in = {0};
    struct ec2_describe_instances_result out;
    ec2_init(&e);
    launch(&e, 1, "a", &r);
    struct row_instance like = {.account = e.account,
                                .id = r.instances.items[0].instance_id};
    CHECK_OK(store_write(e.store, e.arena, copy_many, &like, &err), &err);
    CHECK_OK(CALL(&e, describe_instances, &in, &out, &err), &err);
    CHECK_EQ(count_all(&out), 10000);
    CHECK(out.next_token != NULL);
    in.next_token = out.next_token;
    CHECK_OK(CALL(&e, describe_instances, &in, &out, &err), &err);
    CHECK_EQ(count_all(&out), MANY + 1 - 10000);
    CHECK_NULL(out.next_token);
    ec2_fini(&e);
}

TEST(describe_instances_refuses_max_results_out_of_range_or_with_ids)
{
    struct ec2 e;
    struct err err;
    struct ec2_describe_instances_request in = {.max_results = 4,
                                                .has_max_results = true};
    struct ec2_describe_instances_result out;
    const char *ids[] = {"i-0123456789abcdef0"};
    ec2_init(&e);
    CHECK(!CALL(&e, describe_instances, &in, &out, &err));
    CHECK_EQ(err.code, ERR_INVALID_PARAMETER_VALUE);
    in.max_results = 1001;
    CHECK(!CALL(&e, describe_instances, &in, &out, &err));
    CHECK_EQ(err.code, ERR_INVALID_PARAMETER_VALUE);
    in.max_results = 10;
    in.instance_ids.items = ids;
    in.instance_ids.count = 1;
    CHECK(!CALL(&e, describe_instances, &in, &out, &err));
    CHECK_EQ(err.code, ERR_INVALID_PARAMETER_COMBINATION);
    ec2_fini(&e);
}

TEST(describe_instances_hides_those_of_other_accounts)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation r;
    struct ec2_describe_instances_request in = {0};
    struct ec2_describe_instances_result out;
    struct ec2_terminate_instances_request end = {0};
    struct ec2_terminate_instances_result ended;
    ec2_init(&e);
    launch(&e, 1, "mine", &r);
    const char *ids[] = {r.instances.items[0].instance_id};
    e.account = STRANGER;
    CHECK_OK(CALL(&e, describe_instances, &in, &out, &err), &err);
    CHECK_EQ(count_all(&out), 0);
    in.instance_ids.items = ids;
    in.instance_ids.count = 1;
    CHECK(!CALL(&e, describe_instances, &in, &out, &err));
    CHECK_EQ(err.code, ERR_INSTANCE_NOT_FOUND);
    end.instance_ids.items = ids;
    end.instance_ids.count = 1;
    CHECK(!CALL(&e, terminate_instances, &end, &ended, &err));
    CHECK_EQ(err.code, ERR_INSTANCE_NOT_FOUND);
    ids[0] = "i-bad";
    CHECK(!CALL(&e, describe_instances, &in, &out, &err));
    CHECK_EQ(err.code, ERR_INSTANCE_MALFORMED);
    ec2_fini(&e);
}

static struct ec2_stop_instances_request
stop_ask(const char **id)
{
    struct ec2_stop_instances_request in = {0};
    in.instance_ids.items = id;
    in.instance_ids.count = 1;
    return in;
}

TEST(instances_stop_and_start_through_their_states)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation r;
    struct ec2_stop_instances_result stopped;
    struct ec2_start_instances_result started;
    ec2_init(&e);
    launch(&e, 1, "x", &r);
    const char *ids[] = {r.instances.items[0].instance_id};
    struct ec2_stop_instances_request stop = stop_ask(ids);
    struct ec2_start_instances_request start = {0};
    start.instance_ids.items = ids;
    start.instance_ids.count = 1;

    /* Pending: it cannot be stopped yet; starting it again is nothing new. */
    CHECK(!CALL(&e, stop_instances, &stop, &stopped, &err));
    CHECK_EQ(err.code, ERR_INSTANCE_STATE);
    CHECK_OK(CALL(&e, start_instances, &start, &started, &err), &err);
    CHECK_EQ(started.starting_instances.items[0].current_state->code, 0);

    ec2_node_says(&e, ids[0], "running");
    CHECK_OK(CALL(&e, stop_instances, &stop, &stopped, &err), &err);
    CHECK_EQ(stopped.stopping_instances.items[0].previous_state->code, 16);
    CHECK_EQ(stopped.stopping_instances.items[0].current_state->code, 64);
    CHECK(!CALL(&e, start_instances, &start, &started, &err));
    CHECK_EQ(err.code, ERR_INSTANCE_STATE);

    ec2_node_says(&e, ids[0], "stopped");
    CHECK_OK(CALL(&e, stop_instances, &stop, &stopped, &err), &err);
    CHECK_EQ(stopped.stopping_instances.items[0].current_state->code, 80);
    CHECK_OK(CALL(&e, start_instances, &start, &started, &err), &err);
    CHECK_EQ(started.starting_instances.items[0].previous_state->code, 80);
    CHECK_EQ(started.starting_instances.items[0].current_state->code, 0);
    ec2_fini(&e);
}

static bool
read_usage(struct call *call, const void *in, void *out, struct err *err)
{
    return account_usage_get(call->txn, ACCOUNT, "us-east-1", out, err);
}

static struct usage
usage_now(struct ec2 *e)
{
    struct err err;
    struct usage usage;
    CHECK_OK(ec2_step(e, "usage", read_usage, NULL, &usage, sizeof usage, &err), &err);
    return usage;
}

TEST(instances_give_everything_back_when_terminated)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation r;
    struct ec2_terminate_instances_request in = {0};
    struct ec2_terminate_instances_result out;
    struct ec2_describe_instances_request all = {0};
    struct ec2_describe_instances_result seen;
    struct ec2_describe_network_interfaces_request enis = {0};
    struct ec2_describe_network_interfaces_result left;
    ec2_init(&e);
    launch(&e, 1, "x", &r);
    CHECK_EQ(usage_now(&e).vcpus, 2);
    CHECK_EQ(usage_now(&e).disk_gib, 2);
    const char *ids[] = {r.instances.items[0].instance_id};
    in.instance_ids.items = ids;
    in.instance_ids.count = 1;
    CHECK_OK(CALL(&e, terminate_instances, &in, &out, &err), &err);
    CHECK_EQ(out.terminating_instances.items[0].current_state->code, 32);
    ec2_node_says(&e, ids[0], "absent");
    ec2_node_says(&e, ids[0], "absent");
    CHECK_EQ(usage_now(&e).vcpus, 0);
    CHECK_EQ(usage_now(&e).instances, 0);
    CHECK_OK(CALL(&e, describe_network_interfaces, &enis, &left, &err), &err);
    CHECK_EQ(left.network_interfaces.count, 0);

    CHECK_OK(CALL(&e, terminate_instances, &in, &out, &err), &err);
    CHECK_EQ(out.terminating_instances.items[0].current_state->code, 48);
    CHECK_OK(CALL(&e, describe_instances, &all, &seen, &err), &err);
    CHECK_EQ(count_all(&seen), 1);
    CHECK_NULL(seen.reservations.items[0].instances.items[0].private_ip_address);
    e.now_ns += 3601 * NS_PER_S;
    CHECK_OK(CALL(&e, describe_instances, &all, &seen, &err), &err);
    CHECK_EQ(count_all(&seen), 0);
    ec2_fini(&e);
}

/* It has no answer, so its handler takes no 'out'. */
static bool
modify_attribute(struct call *call, const void *in, void *out, struct err *err)
{
    return ec2_modify_instance_attribute(call, in, err);
}

TEST(instances_protected_from_termination_and_stop_are_left_alone)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation r;
    struct ec2_terminate_instances_request in = {0};
    struct ec2_terminate_instances_result out;
    struct ec2_attribute_boolean_value yes = {.value = true, .has_value = true};
    ec2_init(&e);
    launch(&e, 2, "x", &r);
    const char *ids[] = {r.instances.items[0].instance_id,
                         r.instances.items[1].instance_id};
    struct ec2_modify_instance_attribute_request protect = {
        .instance_id = ids[1], .disable_api_termination = &yes};
    CHECK_OK(ec2_step(&e, "modify", modify_attribute, &protect, NULL, 0, &err), &err);
    in.instance_ids.items = ids;
    in.instance_ids.count = 2;
    CHECK(!CALL(&e, terminate_instances, &in, &out, &err));
    CHECK_EQ(err.code, ERR_OPERATION_NOT_PERMITTED);
    CHECK_EQ(matching(&e, "instance-state-name", "pending"), 2);
    ec2_fini(&e);
}

TEST(modify_instance_attribute_changes_the_type_of_stopped_ones_only)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation r;
    struct ec2_stop_instances_result stopped;
    struct ec2_attribute_value type = {.value = "m5.large"};
    ec2_init(&e);
    launch(&e, 1, "x", &r);
    const char *ids[] = {r.instances.items[0].instance_id};
    struct ec2_modify_instance_attribute_request in = {.instance_id = ids[0],
                                                       .instance_type = &type};
    ec2_node_says(&e, ids[0], "running");
    CHECK(!ec2_step(&e, "modify", modify_attribute, &in, NULL, 0, &err));
    CHECK_EQ(err.code, ERR_INSTANCE_STATE);
    struct ec2_stop_instances_request stop = stop_ask(ids);
    CHECK_OK(CALL(&e, stop_instances, &stop, &stopped, &err), &err);
    ec2_node_says(&e, ids[0], "stopped");
    CHECK_OK(ec2_step(&e, "modify", modify_attribute, &in, NULL, 0, &err), &err);
    CHECK_EQ(matching(&e, "instance-type", "m5.large"), 1);

    /* The older form, and one attribute at a time. */
    struct ec2_modify_instance_attribute_request old = {
        .instance_id = ids[0], .attribute = "instanceType", .value = "t3.micro"};
    CHECK_OK(ec2_step(&e, "modify", modify_attribute, &old, NULL, 0, &err), &err);
    CHECK_EQ(matching(&e, "instance-type", "t3.micro"), 1);
    struct ec2_attribute_boolean_value yes = {.value = true, .has_value = true};
    in.disable_api_stop = &yes;
    CHECK(!ec2_step(&e, "modify", modify_attribute, &in, NULL, 0, &err));
    CHECK_EQ(err.code, ERR_INVALID_PARAMETER_COMBINATION);
    ec2_fini(&e);
}
