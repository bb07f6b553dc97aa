/* captures.c - an instance's disk becomes an image: jobs.h.
 *
 * Unless the tenant asked for NoReboot, a running instance is held for the copy: its machine
 * is wanted off while instance.held_by names the image, and on again afterwards. EC2 shows
 * it running all the while, as during any reboot.
 *
 * An image is of the moment at which it was asked for: an instance that is terminated, or
 * gets another root volume, meanwhile leaves the disk until it is copied (volume_pass). */
#include "control/jobs_impl.h"

#include "base/log.h"
#include "control/wants.h"
#include "core/id.h"

static bool
capture_source(const struct pass *pass, const struct row_image *image,
               const struct row_instance **out, struct err *err)
{
    struct row_instance key = {.account = image->account, .id = image->source_instance};
    return row_get(pass->txn, &row_instance_type, &key, (const void **)out, err);
}

static bool
set_held(const struct pass *pass, const struct row_instance *old, const char *by,
         struct err *err)
{
    struct row_instance instance = *old;
    instance.held_by = by;
    instance.generation++;
    return row_put(pass->txn, &row_instance_type, &instance, err);
}

/* The disk that is copied, or NULL. */
static bool
capture_volume(const struct pass *pass, const struct row_image *image,
               const struct row_instance *instance, const struct row_volume **out,
               struct err *err)
{
    const char *id = !str_empty(image->source_volume) ? image->source_volume
                     : instance                       ? instance->root_volume_id
                                                      : NULL;
    const struct row_volume key = {.account = image->account, .id = id};
    *out = NULL;
    return str_empty(id) ||
           row_get(pass->txn, &row_volume_type, &key, (const void **)out, err);
}

/* Holds the instance if its copy asks for that. '*out_ready': its disk is at rest, or
 * nobody asked. */
static bool
capture_hold(const struct pass *pass, const struct row_image *image,
             const struct row_instance *instance, bool *out_ready, struct err *err)
{
    *out_ready =
        !image->quiesce || !instance || !str_eq(instance->want_state, "running");
    if (*out_ready) {
        return true;
    }
    if (str_empty(instance->held_by)) {
        return set_held(pass, instance, image->id, err);
    }
    const struct row_machine_seen *seen;
    struct row_machine_seen key = {.id = instance->id};
    if (!row_get(pass->txn, &row_machine_seen_type, &key, (const void **)&seen, err)) {
        return false;
    }
    *out_ready = str_eq(instance->held_by, image->id) && seen &&
                 seen->generation >= instance->generation &&
                 str_eq(seen->state, "stopped");
    return true;
}

/* The copy is over, well or not: the instance may go on, and its disk go. */
static bool
capture_let_go(const struct pass *pass, const struct row_image *image, struct err *err)
{
    const struct row_instance *instance;
    if (!capture_source(pass, image, &instance, err)) {
        return false;
    }
    bool held = instance && str_eq(instance->held_by, image->id);
    return (!held || set_held(pass, instance, "", err)) &&
           (str_empty(image->source_volume) ||
            volume_pass(pass, image->account, image->source_volume, err));
}

static bool
capture_fail(const struct pass *pass, const struct row_image *old, const char *why,
             struct err *err)
{
    struct row_image image = *old;
    image.state = "failed";
    image.state_reason = str_empty(why) ? "the copy failed" : why;
    log_warn("image %s: %s", image.id, image.state_reason);
    return row_put(pass->txn, &row_image_type, &image, err) &&
           capture_let_go(pass, &image, err) &&
           (str_empty(image.job_node) ||
            want_take_down(pass->txn, image.job_node, LINK_BLOB_JOB, image.job_id,
                           err));
}

static bool
capture_start(const struct pass *pass, const struct row_image *old, struct err *err)
{
    struct arena *arena = txn_arena(pass->txn);
    const struct row_instance *instance;
    if (!capture_source(pass, old, &instance, err)) {
        return false;
    }
    const struct row_volume *root;
    if (!capture_volume(pass, old, instance, &root, err)) {
        return false;
    }
    if (!root || str_empty(root->node_id)) {
        return capture_fail(pass, old, "the instance's root volume is gone", err);
    }
    bool ready;
    if (!capture_hold(pass, old, instance, &ready, err) || !ready) {
        return err->code == ERR_NONE;
    }
    struct row_image image = *old;
    if (str_empty(image.job_node)) {
        struct row_block_mapping *mapping = ARENA_NEW(arena, struct row_block_mapping);
        if (image.mappings.count) {
            *mapping = image.mappings.items[0];
        }
        mapping->blob_id = id_new(arena, pass->rng, "blob");
        mapping->size_gib = root->size_gib;
        if (str_empty(mapping->device)) {
            mapping->device = root->device;
        }
        image.mappings.items = mapping;
        image.mappings.count = 1;
        image.job_node = root->node_id;
        if (!row_put(pass->txn, &row_image_type, &image, err)) {
            return false;
        }
    }
    struct link_blob_job job = {
        .id = image.job_id,
        .kind = "capture",
        .source_disk = root->id,
        .target_blob = image.mappings.items[0].blob_id,
    };
    return want_put(pass->txn, image.job_node, LINK_BLOB_JOB, job.id, image.account,
                    &job, err);
}

/* Its word will never come. */
static bool
node_is_gone(const struct pass *pass, const char *node_id, bool *out, struct err *err)
{
    const struct row_node key = {.id = node_id};
    const struct row_node *node;
    *out = false;
    if (str_empty(node_id)) {
        return true;
    }
    if (!row_get(pass->txn, &row_node_type, &key, (const void **)&node, err)) {
        return false;
    }
    *out = !node || !str_eq(node->state, "active");
    return true;
}

bool
capture_of(const struct pass *pass, const struct row_volume *volume,
           const struct row_image **out, struct err *err)
{
    const struct row_image prefix = {.account = volume->account,
                                     .region = volume->region};
    const struct row_query query = {
        .index = "by_account", .prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    *out = NULL;
    if (!row_list(pass->txn, &row_image_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count && !*out; i++) {
        const struct row_image *image = list.rows[i];
        bool copies =
            str_eq(image->state, "pending") && str_eq(image->source_volume, volume->id);
        *out = copies ? image : NULL;
    }
    return true;
}

bool
capture_pass(const struct pass *pass, const struct row_image *old, struct err *err)
{
    const struct row_job_seen *seen;
    if (str_eq(old->state, "deregistered") && !str_empty(old->source_instance)) {
        return capture_let_go(pass, old, err) &&
               (str_empty(old->job_node) ||
                want_take_down(pass->txn, old->job_node, LINK_BLOB_JOB, old->job_id,
                               err));
    }
    if (!str_eq(old->state, "pending") || str_empty(old->source_instance)) {
        return true;
    }
    bool gone;
    if (!job_seen(pass, old->job_id, &seen, err) ||
        !node_is_gone(pass, old->job_node, &gone, err)) {
        return false;
    }
    if (gone) {
        return capture_fail(pass, old, "the host that copied the disk is gone", err);
    }
    if (!seen || str_eq(seen->state, "absent")) {
        return capture_start(pass, old, err);
    }
    if (str_eq(seen->state, "failed")) {
        return capture_fail(pass, old, seen->message, err);
    }
    if (!str_eq(seen->state, "done") || old->mappings.count == 0) {
        return true;
    }
    if (!job_arrived(pass, old->mappings.items[0].blob_id)) {
        return capture_fail(pass, old, "the copied disk did not arrive", err);
    }
    struct row_image image = *old;
    image.state = "available";
    log_info("image %s: captured from %s", image.id, image.source_instance);
    return job_blob_made(pass, image.account, image.mappings.items[0].blob_id, seen,
                         err) &&
           row_put(pass->txn, &row_image_type, &image, err) &&
           capture_let_go(pass, &image, err) &&
           want_take_down(pass->txn, image.job_node, LINK_BLOB_JOB, image.job_id, err);
}
