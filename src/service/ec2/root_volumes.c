/* root_volumes.c - CreateReplaceRootVolumeTask, DescribeReplaceRootVolumeTasks.
 *
 * A running instance gets a root volume made anew: on what its own was launched from, on
 * the copy of it that an image holds, or on another image. Its machine is powered off and
 * started again with the new one, which takes seconds: what the old one held is given up
 * anyway. The old volume stays, attached to nothing, unless it is to be deleted. */
#include "base/timefmt.h"
#include "core/root_volume.h"
#include "service/ec2/images.h"
#include "service/ec2/instances.h"

static const char *const taggable[] = {"replace-root-volume-task", NULL};

/* What the new volume stands on. */
struct base {
    const char *blob, *image_id, *snapshot_id;
    const struct row_image *image; /* NULL: as the instance was launched. */
};

/* ---- out ---- */

static const char *
time_text(struct call *call, int64_t ns)
{
    char text[TIME_TEXT_LEN];
    if (ns == 0) {
        return NULL;
    }
    time_iso(ns, text);
    return arena_strdup(call->arena, text);
}

static struct ec2_replace_root_volume_task
task_out(struct call *call, const struct row_root_task *row, struct tag_set tags)
{
    return (struct ec2_replace_root_volume_task){
        .replace_root_volume_task_id = row->id,
        .instance_id = row->instance_id,
        .task_state =
            row->completed_at ? row->failed ? "failed" : "succeeded" : "in-progress",
        .start_time = time_text(call, row->started_at),
        .complete_time = time_text(call, row->completed_at),
        .image_id = row->image_id,
        .snapshot_id = row->snapshot_id,
        HAS(delete_replaced_root_volume, row->delete_replaced),
        .tags = {tags_out(call, tags), tags.count},
    };
}

static bool
answer(struct call *call, const char *id,
       struct ec2_create_replace_root_volume_task_result *out, struct err *err)
{
    const struct row_root_task key = {.account = call->account, .id = id};
    const void *row;
    struct tag_set tags;
    if (!row_get(call->txn, &row_root_task_type, &key, &row, err) ||
        !tags_load_one(call, id, &tags, err)) {
        return false;
    }
    if (!row) {
        return err_no_such(err, ERR_ROOT_TASK_NOT_FOUND, "replace root volume task",
                           id);
    }
    out->replace_root_volume_task =
        ARENA_NEW(call->arena, struct ec2_replace_root_volume_task);
    *out->replace_root_volume_task = task_out(call, row, tags);
    return true;
}

/* ---- from what ---- */

static const struct row_block_mapping *
root_mapping(const struct row_image *image)
{
    for (size_t i = 0; i < image->mappings.count; i++) {
        const struct row_block_mapping *m = &image->mappings.items[i];
        if (str_eq(m->device, image->root_device) && !str_empty(m->blob_id)) {
            return m;
        }
    }
    return NULL;
}

static bool
base_of_image(const struct row_image *image, const struct row_instance *inst,
              const struct row_volume *root, struct base *out, struct err *err)
{
    const struct row_block_mapping *m = root_mapping(image);
    if (!m || !str_eq(image->state, "available")) {
        return err_set(err, ERR_IMAGE_UNAVAILABLE,
                       "The image '%s' is not available, or has no root disk",
                       image->id);
    }
    if (!str_eq(image->firmware, inst->firmware)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "The image '%s' boots in another way than instance '%s' does",
                       image->id, inst->id);
    }
    if (m->size_gib > root->size_gib) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "The image '%s' needs %" PRId64
                       " GiB; the root volume has %" PRId64,
                       image->id, m->size_gib, root->size_gib);
    }
    *out = (struct base){m->blob_id, image->id, m->snapshot_id, image};
    return true;
}

static bool
base_named(struct call *call, const char *image_id, const struct row_instance *inst,
           const struct row_volume *root, struct base *out, struct err *err)
{
    const struct row_image *image;
    if (!ids_check("ami", &image_id, 1, ERR_IMAGE_MALFORMED, err) ||
        !image_visible(call, image_id, &image, err)) {
        return false;
    }
    return image ? base_of_image(image, inst, root, out, err)
                 : err_set(err, ERR_IMAGE_NOT_FOUND,
                           "The image id '[%s]' does not exist", image_id);
}

/* A snapshot must be of this instance's own root, as AWS has it: an image of it holds
 * one. */
static bool
base_of_snapshot(struct call *call, const char *snapshot_id,
                 const struct row_instance *inst, const struct row_volume *root,
                 struct base *out, struct err *err)
{
    struct row_list list;
    if (!ids_check("snap", &snapshot_id, 1, ERR_SNAPSHOT_NOT_FOUND, err) ||
        !images_of(call, call->account, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_image *image = list.rows[i];
        if (str_eq(image->snapshot_id, snapshot_id)) {
            return str_eq(image->source_instance, inst->id)
                       ? base_of_image(image, inst, root, out, err)
                       : err_set(err, ERR_INVALID_PARAMETER_VALUE,
                                 "The snapshot '%s' is not one of the root volume of "
                                 "instance '%s'",
                                 snapshot_id, inst->id);
        }
    }
    return err_set(err, ERR_SNAPSHOT_NOT_FOUND, "The snapshot '%s' does not exist.",
                   snapshot_id);
}

static bool
find_base(struct call *call,
          const struct ec2_create_replace_root_volume_task_request *in,
          const struct row_instance *inst, const struct row_volume *root,
          struct base *out, struct err *err)
{
    if (in->snapshot_id && in->image_id) {
        return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                       "SnapshotId and ImageId may not be specified together");
    }
    *out = (struct base){root->base_blob, root->image_id, root->snapshot_id, NULL};
    return in->image_id ? base_named(call, in->image_id, inst, root, out, err)
           : in->snapshot_id
               ? base_of_snapshot(call, in->snapshot_id, inst, root, out, err)
               : true;
}

/* ---- the task ---- */

static bool
check_quota(struct call *call, const struct row_volume *root, struct err *err)
{
    struct quotas quotas;
    struct usage usage;
    if (!quotas_load(call, &quotas, err) ||
        !account_usage_get(call->txn, call->account, call->region, &usage, err)) {
        return false;
    }
    return usage.disk_gib + root->size_gib <= quotas.disk_gib ||
           err_set(err, ERR_VOLUME_LIMIT,
                   "You have exceeded your maximum storage limit of %" PRId64
                   " GiB in this region. Ask the operator of this cloud to adjust the "
                   "limit.",
                   quotas.disk_gib);
}

static bool
find_running(struct call *call, const char *id, const struct row_instance **out,
             const struct row_volume **out_root, struct err *err)
{
    const struct row_instance *inst;
    enum instance_state state;
    if (!instance_find_changeable(call, id, &inst, &state, err)) {
        return false;
    }
    if (state != INSTANCE_RUNNING || !str_empty(inst->held_by)) {
        return err_set(err, ERR_INSTANCE_STATE,
                       "The instance '%s' is not in the 'running' state, or its root "
                       "volume is being copied.",
                       id);
    }
    if (!str_empty(inst->root_task_id)) {
        return err_set(err, ERR_INSTANCE_STATE,
                       "The root volume of instance '%s' is being replaced already.",
                       id);
    }
    const struct row_volume key = {.account = call->account,
                                   .id = inst->root_volume_id};
    if (!row_get(call->txn, &row_volume_type, &key, (const void **)out_root, err)) {
        return false;
    }
    *out = inst;
    return *out_root ||
           err_set(err, ERR_INTERNAL, "instance %s has lost its root volume", id);
}

static bool
replace(struct call *call, const struct row_instance *inst,
        const struct row_volume *root, const struct base *base,
        const struct row_root_task *task, struct err *err)
{
    const struct root_change change = {
        .volume_id = id_new(call->arena, call->rng, "vol"),
        .node_id = inst->node_id,
        .base_blob = base->blob,
        .image_id = base->image_id,
        .snapshot_id = base->snapshot_id,
        .delete_old = task->delete_replaced,
    };
    struct row_instance next = *inst;
    next.root_volume_id = change.volume_id;
    next.root_task_id = task->id;
    next.generation++;
    next.reboot_count++;
    next.stop_hard = true;
    if (base->image) { /* A kernel beside the disk goes with it. */
        next.kernel_blob = base->image->kernel_blob;
        next.initrd_blob = base->image->initrd_blob;
        next.cmdline = base->image->cmdline;
    }
    return root_volume_replace(call->txn, root, &change, call->now_ns, err) &&
           row_put(call->txn, &row_instance_type, &next, err) &&
           row_insert(call->txn, &row_root_task_type, task, err);
}

bool
ec2_create_replace_root_volume_task(
    struct call *call, const struct ec2_create_replace_root_volume_task_request *in,
    struct ec2_create_replace_root_volume_task_result *out, struct err *err)
{
    const char *digest =
        request_digest(call, &ec2_create_replace_root_volume_task_request_desc, in);
    const struct row_instance *inst = NULL;
    const struct row_volume *root = NULL;
    const char *before;
    struct base base;
    if (!token_get(call, in->client_token, digest, &before, err)) {
        return false;
    }
    if (before) {
        return answer(call, before, out, err);
    }
    if (!tag_specs_check(in->tag_specifications.items, in->tag_specifications.count,
                         taggable, err) ||
        !find_running(call, in->instance_id, &inst, &root, err) ||
        !find_base(call, in, inst, root, &base, err) || !check_quota(call, root, err) ||
        !dry_run_check(in->has_dry_run && in->dry_run, err)) {
        return false;
    }
    const struct row_root_task task = {
        .account = call->account,
        .id = id_new(call->arena, call->rng, "replacevol"),
        .region = call->region,
        .instance_id = inst->id,
        .started_at = call->now_ns,
        .image_id = in->image_id,
        .snapshot_id = in->snapshot_id,
        .delete_replaced =
            in->has_delete_replaced_root_volume && in->delete_replaced_root_volume,
    };
    return replace(call, inst, root, &base, &task, err) &&
           token_put(call, in->client_token, digest, task.id, err) &&
           tag_specs_put(call, in->tag_specifications.items,
                         in->tag_specifications.count, taggable[0], task.id, err) &&
           answer(call, task.id, out, err);
}

/* ---- DescribeReplaceRootVolumeTasks ---- */

FILTER_TEXT(instance_id, struct row_root_task, instance_id)

static const struct filter_def task_filters[] = {
    {"instance-id", instance_id_values},
};

bool
ec2_describe_replace_root_volume_tasks(
    struct call *call, const struct ec2_describe_replace_root_volume_tasks_request *in,
    struct ec2_describe_replace_root_volume_tasks_result *out, struct err *err)
{
    const struct page_ask ask = {.has_max = in->has_max_results,
                                 .max_results = in->max_results,
                                 .min = 1,
                                 .max = 50,
                                 .next_token = in->next_token,
                                 .ids = in->replace_root_volume_task_ids.count,
                                 .ids_name = "replaceRootVolumeTaskIds"};
    const struct row_root_task prefix = {.account = call->account,
                                         .region = call->region};
    struct filters filters;
    struct row_list list;
    struct page page;
    struct pick ids;
    struct tags tags;
    if (!filters_init(call, task_filters, ARRAY_LEN(task_filters), in->filters.items,
                      in->filters.count, &filters, err) ||
        !ids_check("replacevol", in->replace_root_volume_task_ids.items,
                   in->replace_root_volume_task_ids.count, ERR_ROOT_TASK_NOT_FOUND,
                   err) ||
        !page_init(call, &ask, &filters, &page, err) ||
        !dry_run_check(in->has_dry_run && in->dry_run, err) ||
        !tags_load_all(call, &tags, err) ||
        !rows_of_region(call, &row_root_task_type, &prefix, &list, err)) {
        return false;
    }
    pick_init(call, in->replace_root_volume_task_ids.items,
              in->replace_root_volume_task_ids.count, &ids);
    struct ec2_replace_root_volume_task *items =
        ARENA_ARRAY(call->arena, list.count, struct ec2_replace_root_volume_task);
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_root_task *row = list.rows[i];
        struct tag_set set = tags_of(&tags, row->id);
        if (pick_take(&ids, row->id) && filters_match(&filters, row, set) &&
            page_take(&page, row->id)) {
            items[count++] = task_out(call, row, set);
        }
    }
    out->replace_root_volume_tasks.items = items;
    out->replace_root_volume_tasks.count = count;
    out->next_token = page_next_token(call, &page);
    return pick_check(call, &ids, ERR_ROOT_TASK_NOT_FOUND,
                      "replace root volume task ID", err);
}
