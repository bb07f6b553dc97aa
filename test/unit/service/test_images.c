/* test_images.c - who sees which image, sharing, images from instances, imports. */
#include "operation.h"

#define THIRD "777788889999"

static struct row_image
own_image(const char *id, const char *name)
{
    static struct row_block_mapping root = {.device = "/dev/xvda",
                                            .snapshot_id = "snap-00000000000000001",
                                            .blob_id = "blob-00000000000000001",
                                            .size_gib = 3,
                                            .delete_on_termination = true};
    return (struct row_image){.id = id,
                              .account = ACCOUNT,
                              .region = "us-east-1",
                              .name = name,
                              .state = "available",
                              .architecture = "x86_64",
                              .root_device = "/dev/xvda",
                              .snapshot_id = root.snapshot_id,
                              .mappings = {&root, 1},
                              .ena = true};
}

#define MINE "ami-00000000000000001"

static size_t
count_images(struct ec2 *e, const struct ec2_describe_images_request *in)
{
    struct err err;
    struct ec2_describe_images_result out;
    CHECK_OK(EC2(e, "DescribeImages", in, &out, &err), &err);
    return out.images.count;
}

static void
init(struct ec2 *e)
{
    ec2_init(e);
    const struct row_image mine = own_image(MINE, "mine");
    put_row(e, &row_image_type, &mine);
}

static void
share(struct ec2 *e, const char *account, bool add)
{
    struct err err;
    struct ec2_launch_permission to = {.user_id = account};
    struct ec2_launch_permission_modifications change = {0};
    if (add) {
        change.add.items = &to;
        change.add.count = 1;
    } else {
        change.remove.items = &to;
        change.remove.count = 1;
    }
    const struct ec2_modify_image_attribute_request in = {.image_id = MINE,
                                                          .launch_permission = &change};
    CHECK_OK(EC2_DO(e, "ModifyImageAttribute", &in, &err), &err);
}

TEST(images_are_seen_by_owner_public_and_those_shared_with)
{
    struct ec2 e;
    struct err err;
    struct ec2_describe_images_result out;
    const struct ec2_describe_images_request all = {0};
    const struct ec2_describe_images_request self = {.owners =
                                                         ONE(const char *, "self")};
    const struct ec2_describe_images_request executable = {
        .executable_users = ONE(const char *, "self")};
    const struct ec2_describe_images_request mine = {.image_ids =
                                                         ONE(const char *, MINE)};
    init(&e);
    CHECK_EQ(count_images(&e, &all), 2);
    CHECK_EQ(count_images(&e, &self), 1);
    e.account = STRANGER;
    CHECK_EQ(count_images(&e, &all), 1);
    CHECK_EQ(count_images(&e, &self), 0);
    CHECK(!EC2(&e, "DescribeImages", &mine, &out, &err));
    CHECK_EQ(err.code, ERR_IMAGE_NOT_FOUND);
    CHECK_STR(err.msg, "The image id '[" MINE "]' does not exist");

    e.account = ACCOUNT;
    share(&e, STRANGER, true);
    e.account = STRANGER;
    CHECK_EQ(count_images(&e, &all), 2);
    CHECK_EQ(count_images(&e, &executable), 1);
    e.account = THIRD;
    CHECK_EQ(count_images(&e, &all), 1);

    e.account = ACCOUNT;
    share(&e, STRANGER, false);
    e.account = STRANGER;
    CHECK_EQ(count_images(&e, &all), 1);
    ec2_fini(&e);
}

TEST(images_show_root_device_snapshot_and_dates)
{
    struct ec2 e;
    struct err err;
    struct ec2_describe_images_result out;
    const struct ec2_describe_images_request in = {.image_ids =
                                                       ONE(const char *, MINE)};
    init(&e);
    CHECK_OK(EC2(&e, "DescribeImages", &in, &out, &err), &err);
    const struct ec2_image *image = &out.images.items[0];
    CHECK_STR(image->root_device_name, "/dev/xvda");
    CHECK_STR(image->block_device_mappings.items[0].ebs->snapshot_id,
              "snap-00000000000000001");
    CHECK_EQ(image->block_device_mappings.items[0].ebs->volume_size, 3);
    CHECK_STR(image->owner_id, ACCOUNT);
    CHECK(image->has_public && !image->public);
    ec2_fini(&e);
}

TEST(images_are_changed_by_their_owner_alone)
{
    struct ec2 e;
    struct err err;
    struct ec2_attribute_value text = {"words"};
    const struct ec2_modify_image_attribute_request in = {.image_id = MINE,
                                                          .description = &text};
    const struct ec2_deregister_image_request away = {.image_id = MINE};
    struct ec2_image_attribute shown;
    init(&e);
    share(&e, STRANGER, true);
    e.account = STRANGER;
    CHECK(!EC2_DO(&e, "ModifyImageAttribute", &in, &err));
    CHECK_EQ(err.code, ERR_AUTH_FAILURE);
    CHECK(!EC2_DO(&e, "DeregisterImage", &away, &err));
    CHECK_EQ(err.code, ERR_AUTH_FAILURE);
    e.account = THIRD;
    CHECK(!EC2_DO(&e, "DeregisterImage", &away, &err));
    CHECK_EQ(err.code, ERR_IMAGE_NOT_FOUND);

    e.account = ACCOUNT;
    CHECK_OK(EC2_DO(&e, "ModifyImageAttribute", &in, &err), &err);
    const struct ec2_describe_image_attribute_request ask = {
        .image_id = MINE, .attribute = "description"};
    CHECK_OK(EC2(&e, "DescribeImageAttribute", &ask, &shown, &err), &err);
    CHECK_STR(shown.description->value, "words");
    CHECK_OK(EC2_DO(&e, "DeregisterImage", &away, &err), &err);
    CHECK(!EC2_DO(&e, "DeregisterImage", &away, &err));
    CHECK_EQ(err.code, ERR_IMAGE_NOT_FOUND);
    ec2_fini(&e);
}

TEST(register_image_stands_on_the_snapshot_and_refuses_a_taken_name)
{
    struct ec2 e;
    struct err err;
    struct ec2_register_image_result out;
    struct ec2_ebs_block_device ebs = {.snapshot_id = "snap-00000000000000001"};
    struct ec2_block_device_mapping root = {.device_name = "/dev/sda1", .ebs = &ebs};
    struct ec2_register_image_request in = {
        .name = "second",
        .root_device_name = "/dev/sda1",
        .block_device_mappings = {&root, 1},
    };
    init(&e);
    CHECK_OK(EC2(&e, "RegisterImage", &in, &out, &err), &err);
    const struct row_image key = {.id = out.image_id};
    const struct row_image *made = get_row(&e, &row_image_type, &key);
    CHECK_STR(made->mappings.items[0].blob_id, "blob-00000000000000001");
    CHECK_STR(made->root_device, "/dev/sda1");
    in.name = "mine";
    CHECK(!EC2(&e, "RegisterImage", &in, &out, &err));
    CHECK_EQ(err.code, ERR_IMAGE_NAME_DUPLICATE);
    in.name = "x";
    CHECK(!EC2(&e, "RegisterImage", &in, &out, &err));
    CHECK_EQ(err.code, ERR_IMAGE_NAME_MALFORMED);
    ec2_fini(&e);
}

TEST(create_image_waits_for_running_and_leaves_a_pending_row)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation launched;
    struct ec2_create_image_result out;
    const struct ec2_run_instances_request run = {
        .image_id = IMAGE, .instance_type = "t3.micro", .min_count = 1, .max_count = 1};
    init(&e);
    CHECK_OK(EC2(&e, "RunInstances", &run, &launched, &err), &err);
    const char *id = launched.instances.items[0].instance_id;
    struct ec2_create_image_request in = {.name = "copy", .instance_id = id};
    CHECK(!EC2(&e, "CreateImage", &in, &out, &err));
    CHECK_EQ(err.code, ERR_INSTANCE_STATE);

    ec2_node_says(&e, id, "running");
    CHECK_OK(EC2(&e, "CreateImage", &in, &out, &err), &err);
    const struct row_image key = {.id = out.image_id};
    const struct row_image *made = get_row(&e, &row_image_type, &key);
    CHECK_STR(made->state, "pending");
    CHECK_STR(made->source_instance, id);
    CHECK_STR(made->job_id, made->id);
    CHECK_STR(made->firmware, "direct");
    CHECK(made->quiesce);
    in.name = "copy-2";
    in.no_reboot = in.has_no_reboot = true;
    CHECK_OK(EC2(&e, "CreateImage", &in, &out, &err), &err);
    const struct row_image key_2 = {.id = out.image_id};
    CHECK(!((const struct row_image *)get_row(&e, &row_image_type, &key_2))->quiesce);
    ec2_fini(&e);
}

static bool
import(struct ec2 *e, const char *url, const char *format,
       struct ec2_import_image_result *out, struct err *err)
{
    struct ec2_image_disk_container disk = {.url = url, .format = format};
    const struct ec2_import_image_request in = {.disk_containers = {&disk, 1}};
    return EC2(e, "ImportImage", &in, out, err);
}

#define UPLOAD "blob-0000000000000000a"

TEST(import_image_takes_an_upload_once_and_no_other_url)
{
    struct ec2 e;
    struct err err;
    struct ec2_import_image_result out;
    struct ec2_cancel_import_task_result cancelled;
    const struct row_blob upload = {.id = UPLOAD,
                                    .account = ACCOUNT,
                                    .state = "ready",
                                    .upload = true,
                                    .size_bytes = 1000};
    init(&e);
    put_row(&e, &row_blob_type, &upload);
    CHECK(!import(&e, "s3://bucket/disk", "RAW", &out, &err));
    CHECK_EQ(err.code, ERR_INVALID_PARAMETER);
    CHECK(!import(&e, "moln-upload://" UPLOAD, "OVA", &out, &err));
    CHECK(!import(&e, "moln-upload://blob-0000000000000000b", "RAW", &out, &err));
    e.account = STRANGER;
    CHECK(!import(&e, "moln-upload://" UPLOAD, "RAW", &out, &err));
    e.account = ACCOUNT;
    CHECK_OK(import(&e, "moln-upload://" UPLOAD, "vmdk", &out, &err), &err);
    CHECK_STR(out.status, "active");
    const struct row_import_task key = {.account = ACCOUNT, .id = out.import_task_id};
    const struct row_import_task *task = get_row(&e, &row_import_task_type, &key);
    CHECK_STR(task->blob_id, UPLOAD);
    CHECK_STR(task->format, "vmdk");
    struct ec2_import_image_result second;
    CHECK(!import(&e, "moln-upload://" UPLOAD, "RAW", &second, &err));

    const struct ec2_cancel_import_task_request cancel = {.import_task_id = task->id};
    CHECK_OK(EC2(&e, "CancelImportTask", &cancel, &cancelled, &err), &err);
    CHECK_STR(cancelled.previous_state, "active");
    CHECK(!EC2(&e, "CancelImportTask", &cancel, &cancelled, &err));
    CHECK_EQ(err.code, ERR_INCORRECT_STATE);
    ec2_fini(&e);
}

TEST(snapshots_are_the_roots_of_own_images)
{
    struct ec2 e;
    struct err err;
    struct ec2_describe_snapshots_result out;
    const struct ec2_describe_snapshots_request in = {0};
    init(&e);
    CHECK_OK(EC2(&e, "DescribeSnapshots", &in, &out, &err), &err);
    CHECK_EQ(out.snapshots.count, 1);
    CHECK_STR(out.snapshots.items[0].state, "completed");
    ec2_fini(&e);
}
