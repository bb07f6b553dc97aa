/* images_common.c - see images.h. */
#include "base/timefmt.h"
#include "core/instance_rows.h"
#include "service/ec2/images.h"
#include "service/ec2/instances.h"

#define NAME_MIN 3
#define NAME_MAX_LEN 128
#define IMAGES_MAX 10000 /* An account, in a region. */

bool
image_name_check(const char *name, struct err *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789()[] ./-'@_";
    size_t len = name ? strlen(name) : 0;
    if (len >= NAME_MIN && len <= NAME_MAX_LEN && strspn(name, allowed) == len) {
        return true;
    }
    return err_set(
        err, ERR_IMAGE_NAME_MALFORMED,
        "AMI names must be between 3 and 128 characters long, and may contain "
        "letters, numbers, spaces, '(', ')', '[', ']', '.', '-', '/', '@', "
        "''' and '_'");
}

bool
images_of(struct call *call, const char *account, struct row_list *out, struct err *err)
{
    const struct row_image prefix = {.account = account, .region = call->region};
    const struct row_query query = {
        .index = "by_account", .prefix = &prefix, .prefix_fields = 2};
    return row_list(call->txn, &row_image_type, &query, out, err);
}

bool
image_name_free(struct call *call, const char *account, const char *name,
                struct err *err)
{
    struct row_list list;
    if (!images_of(call, account, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_image *image = list.rows[i];
        bool gone =
            str_eq(image->state, "deregistered") || str_eq(image->state, "failed");
        if (!gone && str_eq(image->name, name)) {
            return err_set(err, ERR_IMAGE_NAME_DUPLICATE,
                           "AMI name %s is already in use by AMI %s", name, image->id);
        }
    }
    return true;
}

/* GiB of the disks that are being copied for images of the account. */
static bool
pending_gib(struct call *call, int64_t *out, struct err *err)
{
    struct row_list list;
    if (!images_of(call, call->account, &list, err)) {
        return false;
    }
    *out = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_image *image = list.rows[i];
        bool counts = str_eq(image->state, "pending") && image->mappings.count;
        *out += counts ? image->mappings.items[0].size_gib : 0;
    }
    return true;
}

bool
image_room(struct call *call, int64_t more_gib, struct err *err)
{
    struct quotas quotas;
    uint64_t bytes;
    int64_t pending;
    if (!room_for_one(call, &row_image_type, "by_account", IMAGES_MAX,
                      ERR_RESOURCE_LIMIT, "images", err) ||
        !quotas_load(call, &quotas, err) || !pending_gib(call, &pending, err) ||
        !account_blob_bytes(call->txn, call->account, &bytes, err)) {
        return false;
    }
    int64_t used_gib = (int64_t)(bytes / GIB) + pending;
    return used_gib + more_gib <= quotas.disk_gib ||
           err_set(err, ERR_SNAPSHOT_LIMIT,
                   "A disk of %" PRId64 " GiB more does not fit into the %" PRId64
                   " GiB that your images and uploads may take, of which %" PRId64
                   " are in use. Ask the operator of this cloud to adjust the limit.",
                   more_gib, quotas.disk_gib, used_gib);
}

bool
image_owned(struct call *call, const char *image_id, const struct row_image **out,
            struct err *err)
{
    const struct row_image *image;
    if (!ids_check("ami", &image_id, 1, ERR_IMAGE_MALFORMED, err) ||
        !image_visible(call, image_id, &image, err)) {
        return false;
    }
    if (!image) {
        return err_set(err, ERR_IMAGE_NOT_FOUND, "The image id '[%s]' does not exist",
                       image_id);
    }
    if (!str_eq(image->account, call->account)) {
        return err_set(err, ERR_AUTH_FAILURE, "Not authorized for image:%s", image_id);
    }
    *out = image;
    return true;
}

bool
image_shared_with(const struct row_image *image, const char *account)
{
    for (size_t i = 0; i < image->launch_accounts.count; i++) {
        if (str_eq(image->launch_accounts.items[i], account)) {
            return true;
        }
    }
    return false;
}

struct ec2_block_device_mapping *
image_mappings_out(struct call *call, const struct row_image *row)
{
    struct ec2_block_device_mapping *out =
        ARENA_ARRAY(call->arena, row->mappings.count, struct ec2_block_device_mapping);
    for (size_t i = 0; i < row->mappings.count; i++) {
        const struct row_block_mapping *m = &row->mappings.items[i];
        struct ec2_ebs_block_device *ebs =
            ARENA_NEW(call->arena, struct ec2_ebs_block_device);
        *ebs = (struct ec2_ebs_block_device){
            HAS(delete_on_termination, m->delete_on_termination),
            .snapshot_id = m->snapshot_id,
            .volume_size = m->size_gib,
            .has_volume_size = m->size_gib != 0,
            .volume_type = m->volume_type ? m->volume_type : "gp2",
            .iops = m->iops,
            .has_iops = m->iops != 0,
            .throughput = m->throughput,
            .has_throughput = m->throughput != 0,
            HAS(encrypted, m->encrypted),
        };
        out[i] =
            (struct ec2_block_device_mapping){.device_name = m->device, .ebs = ebs};
    }
    return out;
}

static const char *
boot_mode_out(const struct row_image *row)
{
    return str_eq(row->firmware, "uefi") ? "uefi" : "legacy-bios";
}

struct ec2_image
image_out(struct call *call, const struct row_image *row, struct tag_set tags)
{
    char created[TIME_TEXT_LEN];
    bool direct = !str_empty(row->kernel_blob);
    time_iso(row->created_at, created);
    struct ec2_image out = {
        .image_id = row->id,
        .name = row->name,
        .description = str_empty(row->description) ? NULL : row->description,
        .state = row->state,
        .owner_id = row->account,
        .image_owner_alias = str_empty(row->alias) ? NULL : row->alias,
        HAS(public, row->public),
        .architecture = row->architecture,
        .creation_date = arena_strdup(call->arena, created),
        .image_location = arena_printf(call->arena, "%s/%s", row->account, row->name),
        .image_type = "machine",
        .kernel_id = direct ? derived_id(call, "aki", row->kernel_blob) : NULL,
        .ramdisk_id = str_empty(row->initrd_blob)
                          ? NULL
                          : derived_id(call, "ari", row->initrd_blob),
        .platform_details = "Linux/UNIX",
        .usage_operation = "RunInstances",
        .hypervisor = "xen", /* As AWS says of each of its own. */
        .virtualization_type = "hvm",
        .root_device_type = "ebs",
        .root_device_name = row->root_device,
        .block_device_mappings = {image_mappings_out(call, row), row->mappings.count},
        HAS(ena_support, row->ena),
        .boot_mode = boot_mode_out(row),
        .imds_support = row->imds_v2 ? "v2.0" : NULL,
        .tags = {tags_out(call, tags), tags.count},
    };
    if (!str_empty(row->state_reason)) {
        out.state_reason = ARENA_NEW(call->arena, struct ec2_state_reason);
        *out.state_reason = (struct ec2_state_reason){.code = "Server.InternalError",
                                                      .message = row->state_reason};
    }
    return out;
}

/* Whether a task that is under way reads the upload. */
static bool
upload_in_use(struct call *call, const char *account, const char *blob_id, bool *out,
              struct err *err)
{
    /* Operators' uploads are imported by the platform's account. */
    const struct row_import_task prefix = {
        .account = str_eq(account, "operator") ? PLATFORM_ACCOUNT : account};
    struct row_list list;
    if (!rows_of_account(call, &row_import_task_type, &prefix, &list, err)) {
        return false;
    }
    *out = false;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_import_task *task = list.rows[i];
        *out |= str_eq(task->state, "active") && str_eq(task->blob_id, blob_id);
    }
    return true;
}

bool
upload_find(struct call *call, const char *account, const char *blob_id,
            const struct row_blob **out, struct err *err)
{
    const struct row_blob key = {.id = blob_id};
    const void *row;
    bool in_use;
    if (!row_get(call->txn, &row_blob_type, &key, &row, err) ||
        !upload_in_use(call, account, blob_id, &in_use, err)) {
        return false;
    }
    const struct row_blob *blob = row;
    if (!blob || !blob->upload || !str_eq(blob->account, account) ||
        !str_eq(blob->state, "ready")) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "There is no finished upload '%.80s'", blob_id);
    }
    if (in_use) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "The upload '%s' is being imported already", blob_id);
    }
    *out = blob;
    return true;
}
