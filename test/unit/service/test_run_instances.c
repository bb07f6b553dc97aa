/* test_run_instances.c - RunInstances and what it refuses. */
#include "ec2_fixture.h"

static struct ec2_run_instances_request
ask(int64_t min, int64_t max)
{
    return (struct ec2_run_instances_request){.image_id = IMAGE,
                                              .instance_type = "t3.micro",
                                              .min_count = min,
                                              .has_min_count = true,
                                              .max_count = max,
                                              .has_max_count = true};
}

/* Refused with 'code'; nothing is left behind. */
static void
check_refused(struct ec2 *e, const struct ec2_run_instances_request *in,
              enum err_code code)
{
    struct err err;
    struct ec2_reservation out;
    struct ec2_describe_instances_request all = {0};
    struct ec2_describe_instances_result left;
    CHECK(!CALL(e, run_instances, in, &out, &err));
    if (err.code != code) {
        fail_msg("%s: %s", err_info(err.code)->name, err.msg);
    }
    CHECK_OK(CALL(e, describe_instances, &all, &left, &err), &err);
    CHECK_EQ(left.reservations.count, 0);
}

TEST(run_instances_makes_one_that_is_pending)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation out;
    ec2_init(&e);
    struct ec2_run_instances_request in = ask(1, 1);
    CHECK_OK(CALL(&e, run_instances, &in, &out, &err), &err);

    CHECK_EQ(out.instances.count, 1);
    const struct ec2_instance *i = &out.instances.items[0];
    CHECK(id_valid("i", i->instance_id));
    CHECK_STR(i->state->name, "pending");
    CHECK_STR(i->private_ip_address, "172.31.0.4");
    CHECK_STR(i->private_dns_name, "ip-172-31-0-4.ec2.internal");
    CHECK_EQ(i->network_interfaces.count, 1);
    CHECK_EQ(i->network_interfaces.items[0].attachment->device_index, 0);
    CHECK_EQ(i->block_device_mappings.count, 1);
    CHECK_STR(i->security_groups.items[0].group_name, "default");

    ec2_node_says(&e, i->instance_id, "running");
    struct ec2_describe_instances_request all = {0};
    struct ec2_describe_instances_result seen;
    CHECK_OK(CALL(&e, describe_instances, &all, &seen, &err), &err);
    CHECK_STR(seen.reservations.items[0].instances.items[0].state->name, "running");
    ec2_fini(&e);
}

TEST(run_instances_answers_the_same_token_with_the_same_reservation)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation first, second;
    ec2_init(&e);
    struct ec2_run_instances_request in = ask(2, 2);
    in.client_token = "token-1";
    CHECK_OK(CALL(&e, run_instances, &in, &first, &err), &err);
    CHECK_OK(CALL(&e, run_instances, &in, &second, &err), &err);
    CHECK_STR(first.reservation_id, second.reservation_id);
    CHECK_EQ(second.instances.count, 2);
    CHECK_STR(first.instances.items[1].instance_id,
              second.instances.items[1].instance_id);

    in.max_count = 3;
    CHECK(!CALL(&e, run_instances, &in, &second, &err));
    CHECK_EQ(err.code, ERR_IDEMPOTENT_MISMATCH);
    ec2_fini(&e);
}

TEST(run_instances_starts_as_many_as_fit_but_never_fewer_than_min)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation out;
    ec2_init(&e);
    /* Two hosts of 8 vCPUs hold eight of 2. */
    struct ec2_run_instances_request in = ask(9, 9);
    check_refused(&e, &in, ERR_INSTANCE_CAPACITY);
    in = ask(1, 12);
    CHECK_OK(CALL(&e, run_instances, &in, &out, &err), &err);
    CHECK_EQ(out.instances.count, 8);
    ec2_fini(&e);
}

static bool
set_quota(struct call *call, const void *in, void *out, struct err *err)
{
    return row_put(call->txn, &row_account_type, in, err);
}

TEST(run_instances_obeys_quotas)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation out;
    struct ec2_run_instances_request in = ask(2, 2);
    struct row_account account = {.id = ACCOUNT, .state = "active", .quota_vcpus = 3};
    ec2_init(&e);
    CHECK_OK(ec2_step(&e, "q", set_quota, &account, NULL, 0, &err), &err);
    check_refused(&e, &in, ERR_VCPU_LIMIT);

    account = (struct row_account){.id = ACCOUNT, .quota_instances = 1};
    CHECK_OK(ec2_step(&e, "q", set_quota, &account, NULL, 0, &err), &err);
    check_refused(&e, &in, ERR_INSTANCE_LIMIT);

    account = (struct row_account){.id = ACCOUNT, .quota_disk_gib = 3};
    CHECK_OK(ec2_step(&e, "q", set_quota, &account, NULL, 0, &err), &err);
    check_refused(&e, &in, ERR_VOLUME_LIMIT);

    /* Between Min and Max the quota cuts. */
    in = ask(1, 2);
    CHECK_OK(CALL(&e, run_instances, &in, &out, &err), &err);
    CHECK_EQ(out.instances.count, 1);
    ec2_fini(&e);
}

TEST(run_instances_refuses_bad_input_and_changes_nothing)
{
    struct ec2 e;
    ec2_init(&e);
    struct ec2_run_instances_request in = ask(1, 1);
    in.has_dry_run = in.dry_run = true;
    check_refused(&e, &in, ERR_DRY_RUN);
    in = ask(0, 1);
    check_refused(&e, &in, ERR_INVALID_PARAMETER_VALUE);
    in = ask(2, 1);
    check_refused(&e, &in, ERR_INVALID_PARAMETER_VALUE);
    in = ask(1, 1);
    in.image_id = NULL;
    check_refused(&e, &in, ERR_MISSING_PARAMETER);
    in.image_id = "ami-nonsense";
    check_refused(&e, &in, ERR_IMAGE_MALFORMED);
    in.image_id = "ami-00000000000000000";
    check_refused(&e, &in, ERR_IMAGE_NOT_FOUND);
    in = ask(1, 1);
    in.instance_type = "x9.huge";
    check_refused(&e, &in, ERR_INVALID_PARAMETER_VALUE);
    in = ask(1, 1);
    in.key_name = "nobody";
    check_refused(&e, &in, ERR_KEY_PAIR_NOT_FOUND);
    in = ask(1, 1);
    in.user_data = "%%%";
    check_refused(&e, &in, ERR_USER_DATA_MALFORMED);
    in = ask(1, 1);
    in.subnet_id = "subnet-00000000000000000";
    check_refused(&e, &in, ERR_SUBNET_NOT_FOUND);
    const char *const groups[] = {"sg-00000000000000000"};
    in = ask(1, 1);
    in.security_group_ids.items = (const char **)(uintptr_t)groups;
    in.security_group_ids.count = 1;
    check_refused(&e, &in, ERR_GROUP_NOT_FOUND);
    in = ask(1, 1);
    in.private_ip_address = "172.31.0.2";
    check_refused(&e, &in, ERR_INVALID_PARAMETER_VALUE);
    in.private_ip_address = "10.0.0.9";
    check_refused(&e, &in, ERR_INVALID_PARAMETER_VALUE);
    struct ec2_credit_specification_request credit = {.cpu_credits = "unlimited"};
    in = ask(1, 1);
    in.instance_type = "m5.large";
    in.credit_specification = &credit;
    check_refused(&e, &in, ERR_CREDIT_UNSUPPORTED);
    ec2_fini(&e);
}

TEST(run_instances_gives_the_root_disk_the_size_asked_for_or_refuses)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation out;
    ec2_init(&e);
    struct ec2_ebs_block_device ebs = {.volume_size = 1, .has_volume_size = true};
    struct ec2_block_device_mapping mapping = {.device_name = "/dev/xvda", .ebs = &ebs};
    struct ec2_run_instances_request in = ask(1, 1);
    in.block_device_mappings.items = &mapping;
    in.block_device_mappings.count = 1;
    check_refused(&e, &in, ERR_BLOCK_MAPPING);
    mapping.device_name = "/dev/xvdb";
    check_refused(&e, &in, ERR_UNSUPPORTED);

    mapping.device_name = "/dev/xvda";
    ebs = (struct ec2_ebs_block_device){.volume_size = 10,
                                        .has_volume_size = true,
                                        .volume_type = "gp3",
                                        .has_delete_on_termination = true};
    CHECK_OK(CALL(&e, run_instances, &in, &out, &err), &err);
    struct ec2_describe_volumes_request all = {0};
    struct ec2_describe_volumes_result volumes;
    CHECK_OK(CALL(&e, describe_volumes, &all, &volumes, &err), &err);
    CHECK_EQ(volumes.volumes.count, 1);
    CHECK_EQ(volumes.volumes.items[0].size, 10);
    CHECK_EQ(volumes.volumes.items[0].iops, 3000);
    CHECK_STR(volumes.volumes.items[0].volume_type, "gp3");
    CHECK(!volumes.volumes.items[0].attachments.items[0].delete_on_termination);
    ec2_fini(&e);
}

TEST(run_instances_refuses_an_address_in_use)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation out;
    ec2_init(&e);
    struct ec2_run_instances_request in = ask(1, 1);
    in.private_ip_address = "172.31.0.77";
    CHECK_OK(CALL(&e, run_instances, &in, &out, &err), &err);
    CHECK_STR(out.instances.items[0].private_ip_address, "172.31.0.77");
    CHECK(!CALL(&e, run_instances, &in, &out, &err));
    CHECK_EQ(err.code, ERR_ADDRESS_IN_USE);
    ec2_fini(&e);
}

TEST(run_instances_takes_from_a_template_what_the_request_leaves_out)
{
    struct ec2 e;
    struct err err;
    struct ec2_create_launch_template_result made;
    struct ec2_create_launch_template_version_result second;
    struct ec2_reservation out;
    ec2_init(&e);
    struct ec2_launch_template_placement_request place = {.availability_zone =
                                                              "us-east-1a"};
    struct ec2_request_launch_template_data data = {.image_id = IMAGE,
                                                    .instance_type = "m5.large",
                                                    .user_data = "aGVsbG8=",
                                                    .placement = &place};
    struct ec2_create_launch_template_request create = {.launch_template_name = "web",
                                                        .launch_template_data = &data};
    CHECK_OK(CALL(&e, create_launch_template, &create, &made, &err), &err);
    CHECK(!CALL(&e, create_launch_template, &create, &made, &err));
    CHECK_EQ(err.code, ERR_TEMPLATE_NAME_EXISTS);

    struct ec2_request_launch_template_data change = {.instance_type = "t3.micro"};
    struct ec2_create_launch_template_version_request version = {
        .launch_template_name = "web",
        .source_version = "1",
        .launch_template_data = &change};
    CHECK_OK(CALL(&e, create_launch_template_version, &version, &second, &err), &err);
    CHECK_EQ(second.launch_template_version->version_number, 2);
    CHECK_STR(second.launch_template_version->launch_template_data->image_id, IMAGE);

    struct ec2_launch_template_specification spec = {.launch_template_name = "web"};
    struct ec2_run_instances_request in = {.min_count = 1,
                                           .has_min_count = true,
                                           .max_count = 1,
                                           .has_max_count = true,
                                           .launch_template = &spec};
    CHECK_OK(CALL(&e, run_instances, &in, &out, &err), &err);
    CHECK_STR(out.instances.items[0].instance_type, "m5.large");
    spec.version = "$Latest";
    CHECK_OK(CALL(&e, run_instances, &in, &out, &err), &err);
    CHECK_STR(out.instances.items[0].instance_type, "t3.micro");
    in.instance_type = "m5.large";
    CHECK_OK(CALL(&e, run_instances, &in, &out, &err), &err);
    CHECK_STR(out.instances.items[0].instance_type, "m5.large");
    spec.version = "9";
    CHECK(!CALL(&e, run_instances, &in, &out, &err));
    CHECK_EQ(err.code, ERR_TEMPLATE_VERSION);
    ec2_fini(&e);
}

TEST(run_instances_hides_templates_and_images_of_others)
{
    struct ec2 e;
    struct err err;
    struct ec2_create_launch_template_result made;
    struct ec2_reservation out;
    ec2_init(&e);
    struct ec2_request_launch_template_data data = {.image_id = IMAGE};
    struct ec2_create_launch_template_request create = {.launch_template_name = "mine",
                                                        .launch_template_data = &data};
    CHECK_OK(CALL(&e, create_launch_template, &create, &made, &err), &err);
    e.account = STRANGER;
    struct ec2_launch_template_specification spec = {
        .launch_template_id = made.launch_template->launch_template_id};
    struct ec2_run_instances_request in = ask(1, 1);
    in.launch_template = &spec;
    CHECK(!CALL(&e, run_instances, &in, &out, &err));
    CHECK_EQ(err.code, ERR_TEMPLATE_NOT_FOUND);
    ec2_fini(&e);
}
