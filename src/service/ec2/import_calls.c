/* import_calls.c - ImportImage, DescribeImportImageTasks, CancelImportTask.
 *
 * A task is a row that the controllers carry to its end (control/jobs.c): a node
 * inspects the upload, converts it, and the image appears. */
#include "service/ec2/images.h"

#define UPLOAD_SCHEME "moln-upload://"
#define IMPORTS_MAX 20 /* At once: AWS's quota. */

static const char *const taggable[] = {"import-image-task", NULL};

/* ---- ImportImage ---- */

/* Formats are named as AWS does, in any case; what a node is told of them. */
static const struct {
    const char *ask, *told;
} formats[] = {{"RAW", "raw"}, {"VMDK", "vmdk"}, {"QCOW2", "qcow2"}};

static bool
format_of(const char *ask, const char **out, struct err *err)
{
    *out = "";
    if (str_empty(ask)) {
        return true; /* Found out on the node. */
    }
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (strcasecmp(ask, formats[i].ask) == 0) {
            *out = formats[i].told;
            return true;
        }
    }
    return err_set(
        err, ERR_INVALID_PARAMETER,
        "The disk image format '%.80s' is not supported; RAW, VMDK and QCOW2 "
        "are",
        ask);
}

static bool
container_check(struct call *call, const struct ec2_import_image_request *in,
                const struct row_blob **out, const char **out_format, struct err *err)
{
    if (in->disk_containers.count != 1) {
        return err_set(err, ERR_INVALID_PARAMETER,
                       "The request must contain exactly one disk container");
    }
    const struct ec2_image_disk_container *disk = &in->disk_containers.items[0];
    if (disk->snapshot_id || disk->user_bucket) {
        return err_set(err, ERR_INVALID_PARAMETER,
                       "Snapshots and buckets cannot be imported: upload the disk and "
                       "give its Url");
    }
    if (!disk->url) {
        return err_set(err, ERR_MISSING_PARAMETER,
                       "The request must contain the parameter DiskContainer.Url");
    }
    if (!str_starts(disk->url, UPLOAD_SCHEME)) {
        return err_set(err, ERR_INVALID_PARAMETER,
                       "The URL '%.120s' is not supported: upload the disk with 'moln "
                       "image import' and give its " UPLOAD_SCHEME "ID",
                       disk->url);
    }
    return format_of(disk->format, out_format, err) &&
           upload_find(call, call->account, disk->url + strlen(UPLOAD_SCHEME), out,
                       err);
}

static bool
import_check(const struct ec2_import_image_request *in, struct err *err)
{
    if (in->architecture && !str_eq(in->architecture, "x86_64")) {
        return err_set(err, ERR_INVALID_PARAMETER,
                       "The architecture '%.80s' is not supported", in->architecture);
    }
    if (in->encrypted || in->kms_key_id) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "Encrypted images are not supported");
    }
    if (in->platform && !str_eq(in->platform, "Linux") &&
        !str_eq(in->platform, "Windows")) {
        return err_set(err, ERR_INVALID_PARAMETER, "The platform '%.80s' is not known",
                       in->platform);
    }
    return tag_specs_check(in->tag_specifications.items, in->tag_specifications.count,
                           taggable, err);
}

static void
import_out(const struct row_import_task *task, struct ec2_import_image_result *out)
{
    out->import_task_id = task->id;
    out->architecture = task->architecture;
    out->description = str_empty(task->description) ? NULL : task->description;
    out->license_type = str_empty(task->license) ? NULL : task->license;
    out->platform = task->platform;
    out->progress = "1";
    out->status = "active";
    out->status_message = "pending";
}

/* Each is a conversion on some node, and another copy of the disk. */
static bool
check_under_way(struct call *call, struct err *err)
{
    const struct row_import_task prefix = {.account = call->account};
    struct row_list list;
    size_t count = 0;
    if (!rows_of_account(call, &row_import_task_type, &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        count +=
            str_eq(((const struct row_import_task *)list.rows[i])->state, "active");
    }
    return count < IMPORTS_MAX ||
           err_set(err, ERR_RESOURCE_LIMIT,
                   "%d import tasks are active, as many as there may be at once.",
                   IMPORTS_MAX);
}

/* The task that the same ClientToken made before. */
static bool
import_again(struct call *call, const char *id, struct ec2_import_image_result *out,
             struct err *err)
{
    const struct row_import_task key = {.account = call->account, .id = id};
    const void *row;
    if (!row_get(call->txn, &row_import_task_type, &key, &row, err)) {
        return false;
    }
    if (row) {
        import_out(row, out);
    }
    return row || err_set(err, ERR_IMPORT_TASK_NOT_FOUND,
                          "The import task ID '%s' does not exist", id);
}

bool
ec2_import_image(struct call *call, const struct ec2_import_image_request *in,
                 struct ec2_import_image_result *out, struct err *err)
{
    const char *digest = request_digest(call, &ec2_import_image_request_desc, in);
    const struct row_blob *upload;
    const char *before, *format = NULL;
    if (!import_check(in, err) ||
        !token_get(call, in->client_token, digest, &before, err)) {
        return false;
    }
    if (before) {
        return import_again(call, before, out, err);
    }
    if (!container_check(call, in, &upload, &format, err) ||
        !check_under_way(call, err) ||
        !image_room(call, 0, err) || /* The upload is counted, and goes. */
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    const struct row_import_task task = {
        .account = call->account,
        .id = id_new(call->arena, call->rng, "import-ami"),
        .region = call->region,
        .state = "active",
        .description = in->description,
        .blob_id = upload->id,
        .format = format,
        .architecture = "x86_64",
        .created_at = call->now_ns,
        .boot_mode = in->boot_mode,
        .license = in->license_type,
        .platform = in->platform ? in->platform : "Linux",
    };
    struct tag_set tags;
    import_out(&task, out);
    if (!row_insert(call->txn, &row_import_task_type, &task, err) ||
        !token_put(call, in->client_token, digest, task.id, err) ||
        !tag_specs_put(call, in->tag_specifications.items, in->tag_specifications.count,
                       taggable[0], task.id, err) ||
        !tags_load_one(call, task.id, &tags, err)) {
        return false;
    }
    out->tags.items = tags_out(call, tags);
    out->tags.count = tags.count;
    return true;
}

/* ---- DescribeImportImageTasks ---- */

FILTER_TEXT(task_state, struct row_import_task, state)

static const struct filter_def task_filters[] = {
    {"task-state", task_state_values},
};

static struct ec2_import_image_task
task_out(struct call *call, const struct row_import_task *row, struct tag_set tags)
{
    bool active = str_eq(row->state, "active");
    bool done = str_eq(row->state, "completed");
    struct ec2_snapshot_detail *disk =
        ARENA_NEW(call->arena, struct ec2_snapshot_detail);
    *disk = (struct ec2_snapshot_detail){
        .format = str_empty(row->format) ? NULL : row->format,
        .status = done ? "completed" : row->state,
        .url = arena_printf(call->arena, UPLOAD_SCHEME "%s", row->blob_id),
    };
    return (struct ec2_import_image_task){
        .import_task_id = row->id,
        .architecture = row->architecture,
        .description = str_empty(row->description) ? NULL : row->description,
        .image_id = done ? row->image_id : NULL,
        .license_type = str_empty(row->license) ? NULL : row->license,
        .platform = row->platform,
        .progress =
            active ? arena_printf(call->arena, "%" PRId64, MAX(row->percent, 1)) : NULL,
        .snapshot_details = {disk, 1},
        .status = row->state,
        .status_message = !str_empty(row->message) ? row->message
                          : active                 ? "pending"
                                                   : NULL,
        .boot_mode = str_empty(row->boot_mode) ? NULL : row->boot_mode,
        .tags = {tags_out(call, tags), tags.count},
    };
}

bool
ec2_describe_import_image_tasks(
    struct call *call, const struct ec2_describe_import_image_tasks_request *in,
    struct ec2_describe_import_image_tasks_result *out, struct err *err)
{
    const struct page_ask ask = {.has_max = in->has_max_results,
                                 .max_results = in->max_results,
                                 .min = 1,
                                 .max = 1000,
                                 .next_token = in->next_token,
                                 .ids = in->import_task_ids.count,
                                 .ids_name = "importTaskIds"};
    const struct row_import_task prefix = {.account = call->account};
    struct filters filters;
    struct row_list list;
    struct page page;
    struct pick ids;
    struct tags tags;
    if (!filters_init(call, task_filters, ARRAY_LEN(task_filters), in->filters.items,
                      in->filters.count, &filters, err) ||
        !ids_check("import-ami", in->import_task_ids.items, in->import_task_ids.count,
                   ERR_IMPORT_TASK_NOT_FOUND, err) ||
        !page_init(call, &ask, &filters, &page, err) ||
        !dry_run_check(in->dry_run, err) || !tags_load_all(call, &tags, err) ||
        !rows_of_account(call, &row_import_task_type, &prefix, &list, err)) {
        return false;
    }
    pick_init(call, in->import_task_ids.items, in->import_task_ids.count, &ids);
    struct ec2_import_image_task *items =
        ARENA_ARRAY(call->arena, list.count, struct ec2_import_image_task);
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_import_task *row = list.rows[i];
        struct tag_set set = tags_of(&tags, row->id);
        if (str_eq(row->region, call->region) && pick_take(&ids, row->id) &&
            filters_match(&filters, row, set) && page_take(&page, row->id)) {
            items[count++] = task_out(call, row, set);
        }
    }
    out->import_image_tasks.items = items;
    out->import_image_tasks.count = count;
    out->next_token = page_next_token(call, &page);
    return pick_check(call, &ids, ERR_IMPORT_TASK_NOT_FOUND, "import task ID", err);
}

/* ---- CancelImportTask ---- */

bool
ec2_cancel_import_task(struct call *call,
                       const struct ec2_cancel_import_task_request *in,
                       struct ec2_cancel_import_task_result *out, struct err *err)
{
    const struct row_import_task key = {.account = call->account,
                                        .id = in->import_task_id};
    const void *row;
    if (str_empty(in->import_task_id)) {
        return err_set(err, ERR_MISSING_PARAMETER,
                       "The request must contain the parameter ImportTaskId");
    }
    if (!row_get(call->txn, &row_import_task_type, &key, &row, err)) {
        return false;
    }
    const struct row_import_task *task = row;
    if (!task || !str_eq(task->region, call->region)) {
        return err_set(err, ERR_IMPORT_TASK_NOT_FOUND,
                       "The import task ID '%.80s' does not exist", in->import_task_id);
    }
    if (!str_eq(task->state, "active")) {
        return err_set(err, ERR_INCORRECT_STATE,
                       "The import task '%s' is %s and cannot be cancelled", task->id,
                       task->state);
    }
    if (!dry_run_check(in->dry_run, err)) {
        return false;
    }
    struct row_import_task next = *task;
    next.state = "deleting";
    next.message = str_empty(in->cancel_reason) ? "cancelled" : in->cancel_reason;
    out->import_task_id = task->id;
    out->previous_state = task->state;
    out->state = next.state;
    return row_put(call->txn, &row_import_task_type, &next, err);
}
