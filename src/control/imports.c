/* imports.c - an upload becomes an image: jobs.h. */
#include "control/jobs_impl.h"

#include "base/log.h"
#include "control/wants.h"
#include "core/id.h"

#define ROOT_DEVICE "/dev/xvda"

static int64_t
whole_gib(int64_t bytes)
{
    return MAX(1, (bytes + (int64_t)GIB - 1) / (int64_t)GIB);
}

/* An upload that was used up goes; its file follows (janitor.c). */
static bool
blob_release(const struct pass *pass, const char *blob_id, struct err *err)
{
    const struct row_blob *old;
    struct row_blob key = {.id = blob_id};
    if (str_empty(blob_id) ||
        !row_get(pass->txn, &row_blob_type, &key, (const void **)&old, err)) {
        return str_empty(blob_id);
    }
    if (!old || str_eq(old->state, "deleting")) {
        return true;
    }
    struct row_blob row = *old;
    row.state = "deleting";
    return row_put(pass->txn, &row_blob_type, &row, err);
}

/* Any connected node of the region can do it; '*out' is NULL while there is none. */
static bool
job_node(const struct pass *pass, const char *region, const char **out, struct err *err)
{
    struct row_node prefix = {.region = region};
    struct row_query query = {
        .index = "by_zone", .prefix = &prefix, .prefix_fields = 1};
    struct row_list nodes;
    *out = NULL;
    if (!row_list(pass->txn, &row_node_type, &query, &nodes, err)) {
        return false;
    }
    for (size_t i = 0; i < nodes.count && !*out; i++) {
        const struct row_node *node = nodes.rows[i];
        const struct row_node_seen *seen;
        struct row_node_seen key = {.id = node->id};
        if (!row_get(pass->txn, &row_node_seen_type, &key, (const void **)&seen, err)) {
            return false;
        }
        if (seen && seen->connected && str_eq(node->state, "active")) {
            *out = node->id;
        }
    }
    return true;
}

/* The largest disk that an account may bring in; the platform's images are bounded by
 * the cloud's own default. */
static bool
disk_quota_bytes(const struct pass *pass, const char *account, int64_t *out,
                 struct err *err)
{
    const struct row_account *row;
    struct row_account key = {.id = account};
    if (!row_get(pass->txn, &row_account_type, &key, (const void **)&row, err)) {
        return false;
    }
    int64_t gib = row && row->quota_disk_gib ? row->quota_disk_gib
                                             : pass->config->default_quota_disk_gib;
    *out = gib * (int64_t)GIB;
    return true;
}

static bool
import_start(const struct pass *pass, const struct row_import_task *old,
             struct err *err)
{
    struct row_import_task task = *old;
    if (str_empty(task.node_id)) {
        if (!job_node(pass, task.region, &task.node_id, err)) {
            return false;
        }
        if (!task.node_id) {
            return true; /* A node that comes makes the next pass (control.c). */
        }
        task.target_blob = id_new(txn_arena(pass->txn), pass->rng, "blob");
        if (!row_put(pass->txn, &row_import_task_type, &task, err)) {
            return false;
        }
    }
    const struct row_blob *source;
    struct row_blob key = {.id = task.blob_id};
    if (!row_get(pass->txn, &row_blob_type, &key, (const void **)&source, err)) {
        return false;
    }
    int64_t quota_bytes;
    if (!disk_quota_bytes(pass, task.account, &quota_bytes, err)) {
        return false;
    }
    struct link_blob_job job = {
        .id = task.id,
        .kind = "import",
        .source_blob = task.blob_id,
        .target_blob = task.target_blob,
        .declared_format = task.format,
        .max_virtual_bytes = quota_bytes,
        .source_bytes = source ? source->size_bytes : 0,
    };
    return want_put(pass->txn, task.node_id, LINK_BLOB_JOB, task.id, task.account, &job,
                    err);
}

/* The image a task makes: the pending one that it names, or a new one. */
static bool
import_image(const struct pass *pass, const struct row_import_task *task,
             const struct row_job_seen *seen, const char **out_id, struct err *err)
{
    struct arena *arena = txn_arena(pass->txn);
    const struct row_image *pending = NULL;
    struct row_image image = {.id = task->image_id};
    if (!str_empty(task->image_id) &&
        !row_get(pass->txn, &row_image_type, &image, (const void **)&pending, err)) {
        return false;
    }
    if (pending) {
        image = *pending;
    } else {
        image = (struct row_image){
            .id = str_empty(task->image_id) ? id_new(arena, pass->rng, "ami")
                                            : task->image_id,
            .account = task->account,
            .region = task->region,
            .name = task->id,
            .description = task->description,
            .architecture = "x86_64",
            .root_device = ROOT_DEVICE,
            .created_at = pass->now_ns,
            .ena = true,
        };
    }
    struct row_block_mapping *mapping = ARENA_NEW(arena, struct row_block_mapping);
    *mapping = (struct row_block_mapping){
        .device = str_empty(image.root_device) ? ROOT_DEVICE : image.root_device,
        .snapshot_id = id_new(arena, pass->rng, "snap"),
        .blob_id = task->target_blob,
        .size_gib = whole_gib(seen->virtual_bytes),
        .delete_on_termination = true,
        .volume_type = "gp2",
    };
    image.mappings.items = mapping;
    image.mappings.count = 1;
    image.snapshot_id = mapping->snapshot_id;
    image.state = "available";
    if (str_empty(image.firmware)) {
        image.firmware = str_eq(task->boot_mode, "uefi")          ? "uefi"
                         : str_eq(task->boot_mode, "legacy-bios") ? "bios"
                         : str_eq(seen->firmware, "uefi")         ? "uefi"
                                                                  : "bios";
    }
    *out_id = image.id;
    return row_put(pass->txn, &row_image_type, &image, err);
}

static bool
import_end(const struct pass *pass, const struct row_import_task *old,
           const struct row_job_seen *seen, struct err *err)
{
    struct row_import_task task = *old;
    bool arrived = job_arrived(pass, task.target_blob);
    if (str_eq(seen->state, "done") && arrived) {
        if (!job_blob_made(pass, task.account, task.target_blob, seen, err) ||
            !import_image(pass, &task, seen, &task.image_id, err)) {
            return false;
        }
        task.state = "completed";
        task.message = "";
        task.percent = 100;
        if (str_empty(task.format)) {
            task.format = seen->format;
        }
    } else {
        task.state = "deleted";
        task.message = arena_printf(txn_arena(pass->txn), "ClientError: %s",
                                    !str_empty(seen->message) ? seen->message
                                    : str_eq(seen->state, "done")
                                        ? "the converted disk did not arrive"
                                        : "the import failed");
        struct row_image key = {.id = task.image_id};
        const struct row_image *pending = NULL;
        if (!str_empty(task.image_id) &&
            !row_get(pass->txn, &row_image_type, &key, (const void **)&pending, err)) {
            return false;
        }
        if (pending) {
            struct row_image failed = *pending;
            failed.state = "failed";
            failed.state_reason = task.message;
            if (!row_put(pass->txn, &row_image_type, &failed, err)) {
                return false;
            }
        }
    }
    log_info("import %s: %s %s", task.id, task.state, task.message);
    return row_put(pass->txn, &row_import_task_type, &task, err) &&
           want_take_down(pass->txn, task.node_id, LINK_BLOB_JOB, task.id, err) &&
           blob_release(pass, task.blob_id, err);
}

static bool
import_cancel(const struct pass *pass, const struct row_import_task *old,
              struct err *err)
{
    struct row_import_task task = *old;
    task.state = "deleted";
    if (!str_empty(task.node_id) &&
        !want_take_down(pass->txn, task.node_id, LINK_BLOB_JOB, task.id, err)) {
        return false;
    }
    return row_put(pass->txn, &row_import_task_type, &task, err) &&
           blob_release(pass, task.blob_id, err);
}

bool
import_pass(const struct pass *pass, const struct row_import_task *task,
            struct err *err)
{
    const struct row_job_seen *seen;
    if (str_eq(task->state, "deleting")) {
        return import_cancel(pass, task, err);
    }
    if (!str_eq(task->state, "active")) {
        return true;
    }
    if (!job_seen(pass, task->id, &seen, err)) {
        return false;
    }
    if (!seen || str_eq(seen->state, "absent")) {
        return import_start(pass, task, err);
    }
    if (!str_eq(seen->state, "running")) {
        return import_end(pass, task, seen, err);
    }
    struct row_import_task next = *task;
    next.percent = seen->percent;
    next.message = "converting";
    return row_put(pass->txn, &row_import_task_type, &next, err);
}
