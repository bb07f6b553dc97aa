/* platform_images.c - the images that the operator offers to every account.
 *
 * Such an image is a pending row of the platform's own account and an import task of
 * that account that names it: the controllers treat it as any tenant's import. */
#include "service/ec2/images.h"
#include "service/moln/operators.h"

#define ROOT_DEVICE "/dev/xvda"

/* ---- what is answered ---- */

static struct moln_platform_image
image_view(const struct row_image *row, int64_t percent)
{
    return (struct moln_platform_image){
        .image_id = row->id,
        .name = row->name,
        .description = str_empty(row->description) ? NULL : row->description,
        .region = row->region,
        .state = row->state,
        .state_reason = str_empty(row->state_reason) ? NULL : row->state_reason,
        HAS(percent, str_eq(row->state, "available") ? 100 : percent),
        .boot_mode = str_empty(row->firmware) ? NULL : row->firmware,
        .root_device_name = row->root_device,
        HAS(size_gi_b, row->mappings.count ? row->mappings.items[0].size_gib : 0),
        HAS(created_at, row->created_at),
    };
}

/* The task that makes an image: NULL when there is none. */
static const struct row_import_task *
task_of(const struct row_list *tasks, const char *image_id)
{
    for (size_t i = 0; i < tasks->count; i++) {
        const struct row_import_task *task = tasks->rows[i];
        if (str_eq(task->image_id, image_id)) {
            return task;
        }
    }
    return NULL;
}

static bool
tasks_load(struct call *call, struct row_list *out, struct err *err)
{
    const struct row_import_task prefix = {.account = PLATFORM_ACCOUNT};
    return rows_of_account(call, &row_import_task_type, &prefix, out, err);
}

/* ---- ImportPlatformImage ---- */

/* Takes an upload of an operator's over to the platform's account; kernels and RAM
 * disks are kept as they came. */
static bool
upload_take(struct call *call, const char *id, bool keep, struct err *err)
{
    const struct row_blob *blob;
    if (!upload_find(call, OPERATOR_ACCOUNT, id, &blob, err)) {
        if (err->code == ERR_INVALID_PARAMETER_VALUE) {
            err->code = ERR_RESOURCE_NOT_FOUND;
        }
        return false;
    }
    struct row_blob taken = *blob;
    taken.account = PLATFORM_ACCOUNT;
    if (keep) {
        taken.upload = false;
        taken.format = "raw";
        taken.virtual_bytes = blob->size_bytes;
    }
    return row_put(call->txn, &row_blob_type, &taken, err);
}

static bool
boot_check(const struct moln_import_platform_image_request *in, struct err *err)
{
    bool direct =
        in->boot_mode ? str_eq(in->boot_mode, "direct") : in->kernel_upload != NULL;
    if (direct && !in->kernel_upload) {
        return err_set(err, ERR_VALIDATION, "BootMode direct needs KernelUpload");
    }
    if (!direct && (in->kernel_upload || in->ramdisk_upload || in->command_line)) {
        return err_set(err, ERR_VALIDATION,
                       "KernelUpload, RamdiskUpload and CommandLine go with BootMode "
                       "direct alone");
    }
    return true;
}

static bool
name_check(struct call *call, const char *name, struct err *err)
{
    if (image_name_free(call, PLATFORM_ACCOUNT, name, err)) {
        return true;
    }
    if (err->code == ERR_IMAGE_NAME_DUPLICATE) {
        err->code = ERR_RESOURCE_IN_USE;
    }
    return false;
}

static bool
uploads_take(struct call *call, const struct moln_import_platform_image_request *in,
             struct err *err)
{
    return upload_take(call, in->disk_upload, false, err) &&
           (!in->kernel_upload || upload_take(call, in->kernel_upload, true, err)) &&
           (!in->ramdisk_upload || upload_take(call, in->ramdisk_upload, true, err));
}

bool
moln_import_platform_image(struct call *call,
                           const struct moln_import_platform_image_request *in,
                           struct moln_import_platform_image_response *out,
                           struct err *err)
{
    if (!boot_check(in, err) || !name_check(call, in->name, err) ||
        !uploads_take(call, in, err)) {
        return false;
    }
    const struct row_image image = {
        .id = id_new(call->arena, call->rng, "ami"),
        .account = PLATFORM_ACCOUNT,
        .region = call->region,
        .name = in->name,
        .description = in->description,
        .state = "pending",
        .public = true,
        .architecture = "x86_64",
        .root_device = in->root_device_name ? in->root_device_name : ROOT_DEVICE,
        .firmware = in->kernel_upload ? "direct" : in->boot_mode,
        .kernel_blob = in->kernel_upload,
        .initrd_blob = in->ramdisk_upload,
        .cmdline = in->command_line,
        .created_at = call->now_ns,
        .alias = PLATFORM_ALIAS,
        .ena = true,
    };
    const struct row_import_task task = {
        .account = PLATFORM_ACCOUNT,
        .id = id_new(call->arena, call->rng, "import-ami"),
        .region = call->region,
        .state = "active",
        .image_id = image.id,
        .description = in->description,
        .blob_id = in->disk_upload,
        .format = in->format,
        .architecture = image.architecture,
        .created_at = call->now_ns,
        .boot_mode = str_eq(in->boot_mode, "uefi") ? "uefi" : NULL,
        .platform = "Linux",
    };
    out->image = ARENA_NEW(call->arena, struct moln_platform_image);
    *out->image = image_view(&image, 0);
    return row_insert(call->txn, &row_image_type, &image, err) &&
           row_insert(call->txn, &row_import_task_type, &task, err);
}

/* ---- ListPlatformImages, DeregisterPlatformImage ---- */

bool
moln_list_platform_images(struct call *call,
                          const struct moln_list_platform_images_request *in,
                          struct moln_list_platform_images_response *out,
                          struct err *err)
{
    const struct row_image prefix = {.account = PLATFORM_ACCOUNT,
                                     .region = call->region};
    const struct row_query query = {
        .index = "by_account", .prefix = &prefix, .prefix_fields = 2};
    struct listing listing;
    struct row_list list, tasks;
    if (!listing_init(call, in->has_max_results, in->max_results, in->next_token,
                      in->name, &listing, err) ||
        !row_list(call->txn, &row_image_type, &query, &list, err) ||
        !tasks_load(call, &tasks, err)) {
        return false;
    }
    struct moln_platform_image *items =
        ARENA_ARRAY(call->arena, list.count, struct moln_platform_image);
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_image *row = list.rows[i];
        if (str_eq(row->state, "deregistered") ||
            (in->name && !str_eq(row->name, in->name)) ||
            !listing_take(&listing, row->id)) {
            continue;
        }
        const struct row_import_task *task = task_of(&tasks, row->id);
        items[count++] = image_view(row, task ? task->percent : 0);
    }
    out->images.items = items;
    out->images.count = count;
    out->next_token = listing_next(call, &listing);
    return true;
}

bool
moln_deregister_platform_image(struct call *call,
                               const struct moln_deregister_platform_image_request *in,
                               struct moln_deregister_platform_image_response *out,
                               struct err *err)
{
    const struct row_image key = {.id = in->image_id};
    const void *row;
    struct row_list tasks;
    (void)out;
    if (!row_get(call->txn, &row_image_type, &key, &row, err) ||
        !tasks_load(call, &tasks, err)) {
        return false;
    }
    const struct row_image *image = row;
    if (!image || !str_eq(image->account, PLATFORM_ACCOUNT) ||
        str_eq(image->state, "deregistered")) {
        return err_no(err, "platform image", in->image_id);
    }
    const struct row_import_task *task = task_of(&tasks, image->id);
    if (task && str_eq(task->state, "active")) {
        struct row_import_task ended = *task;
        ended.state = "deleting";
        if (!row_put(call->txn, &row_import_task_type, &ended, err)) {
            return false;
        }
    }
    struct row_image gone = *image;
    gone.state = "deregistered";
    return row_put(call->txn, &row_image_type, &gone, err);
}
