/* image_calls.c - CreateImage, RegisterImage, DeregisterImage.
 *
 * An image from an instance is a pending row: the controllers have the instance's node
 * copy the root disk and make the image available (control/jobs.c). */
#include "core/lifecycle.h"
#include "service/ec2/images.h"

#define GIB_MAX 16384 /* Of a volume. */

static const char *const create_taggable[] = {"image", "snapshot", NULL};

/* ---- CreateImage ---- */

/* Changes the root disk's mapping as the request says; other disks than the root cannot
 * be made here. */
static bool
root_change(const struct ec2_block_device_mapping *ask, struct row_block_mapping *root,
            struct err *err)
{
    const struct ec2_ebs_block_device *ebs = ask->ebs;
    if (!str_eq(ask->device_name, root->device)) {
        bool nothing = ask->no_device || ask->virtual_name || !ebs;
        return nothing ||
               err_set(err, ERR_BLOCK_MAPPING,
                       "The device '%.80s' is not supported: an image has its "
                       "root device '%s' alone",
                       ask->device_name ? ask->device_name : "", root->device);
    }
    if (!ebs) {
        return err_set(err, ERR_BLOCK_MAPPING,
                       "The root device '%s' cannot be left out", root->device);
    }
    if (ebs->encrypted) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "Encrypted volumes are not supported");
    }
    if (ebs->has_volume_size &&
        (ebs->volume_size < root->size_gib || ebs->volume_size > GIB_MAX)) {
        return err_set(err, ERR_BLOCK_MAPPING,
                       "Volume of size %" PRId64 "GB is smaller than snapshot '%s', "
                       "expect size >= %" PRId64 "GB",
                       ebs->volume_size, root->snapshot_id, root->size_gib);
    }
    root->size_gib = ebs->has_volume_size ? ebs->volume_size : root->size_gib;
    root->volume_type = ebs->volume_type ? ebs->volume_type : root->volume_type;
    root->delete_on_termination = ebs->has_delete_on_termination
                                      ? ebs->delete_on_termination
                                      : root->delete_on_termination;
    return true;
}

/* The instance's root, as the image will have it. */
static bool
root_of_instance(struct call *call, const struct row_instance *inst,
                 const struct ec2_create_image_request *in,
                 struct row_block_mapping **out, struct err *err)
{
    const struct row_volume key = {.account = call->account,
                                   .id = inst->root_volume_id};
    const void *row = NULL;
    if (!str_empty(key.id) && !row_get(call->txn, &row_volume_type, &key, &row, err)) {
        return false;
    }
    const struct row_volume *volume = row;
    if (!volume) {
        return err_set(err, ERR_BLOCK_MAPPING, "The instance '%s' has no root volume",
                       inst->id);
    }
    struct row_block_mapping *root = ARENA_NEW(call->arena, struct row_block_mapping);
    *root = (struct row_block_mapping){
        .device = str_empty(inst->root_device) ? volume->device : inst->root_device,
        .snapshot_id = id_new(call->arena, call->rng, "snap"),
        .size_gib = volume->size_gib,
        .delete_on_termination = true,
        .volume_type = str_empty(volume->type) ? "gp2" : volume->type,
        .iops = volume->iops,
        .throughput = volume->throughput,
    };
    for (size_t i = 0; i < in->block_device_mappings.count; i++) {
        if (!root_change(&in->block_device_mappings.items[i], root, err)) {
            return false;
        }
    }
    *out = root;
    return true;
}

static bool
capture_allowed(struct call *call, const struct row_instance *inst, bool *out_running,
                struct err *err)
{
    int state;
    if (!instance_state_load(call, inst, &state, err)) {
        return false;
    }
    *out_running = state == INSTANCE_RUNNING;
    return state == INSTANCE_RUNNING || state == INSTANCE_STOPPED ||
           err_set(
               err, ERR_INSTANCE_STATE,
               "Instance '%s' is not in a valid state. It must be in the 'running' or "
               "'stopped' state.",
               inst->id);
}

/* What the new image takes over from the one that its instance was launched from. */
static bool
image_inherit(struct call *call, const struct row_instance *inst,
              struct row_image *image, struct err *err)
{
    const struct row_image key = {.id = inst->image_id};
    const void *row = NULL;
    if (!str_empty(key.id) && !row_get(call->txn, &row_image_type, &key, &row, err)) {
        return false;
    }
    const struct row_image *source = row;
    image->architecture =
        source && !str_empty(source->architecture) ? source->architecture : "x86_64";
    image->imds_v2 = source && source->imds_v2;
    image->ena = !source || source->ena;
    return true;
}

bool
ec2_create_image(struct call *call, const struct ec2_create_image_request *in,
                 struct ec2_create_image_result *out, struct err *err)
{
    const struct row_instance *inst;
    struct row_block_mapping *root = NULL;
    bool running;
    if (!image_name_check(in->name, err) ||
        !tag_specs_check(in->tag_specifications.items, in->tag_specifications.count,
                         create_taggable, err) ||
        !instance_find(call, in->instance_id, &inst, err) ||
        !capture_allowed(call, inst, &running, err) ||
        !image_name_free(call, call->account, in->name, err) ||
        !root_of_instance(call, inst, in, &root, err) ||
        !image_room(call, root->size_gib, err) || !dry_run_check(in->dry_run, err)) {
        return false;
    }
    struct row_image image = {
        .id = id_new(call->arena, call->rng, "ami"),
        .account = call->account,
        .region = call->region,
        .name = in->name,
        .description = in->description,
        .state = "pending",
        .root_device = root->device,
        .mappings = {root, 1},
        .firmware = inst->firmware,
        .kernel_blob = inst->kernel_blob,
        .initrd_blob = inst->initrd_blob,
        .cmdline = inst->cmdline,
        .created_at = call->now_ns,
        .source_instance = inst->id,
        .source_volume = inst->root_volume_id,
        .snapshot_id = root->snapshot_id,
        .quiesce = running && !in->no_reboot,
    };
    image.job_id = image.id;
    out->image_id = image.id;
    return image_inherit(call, inst, &image, err) &&
           row_insert(call->txn, &row_image_type, &image, err) &&
           tag_specs_put(call, in->tag_specifications.items,
                         in->tag_specifications.count, "image", image.id, err) &&
           tag_specs_put(call, in->tag_specifications.items,
                         in->tag_specifications.count, "snapshot", root->snapshot_id,
                         err);
}

/* ---- RegisterImage: from the snapshot of another image's root ---- */

/* The account's image whose root is the snapshot. */
static bool
snapshot_image(struct call *call, const char *snapshot_id, const struct row_image **out,
               struct err *err)
{
    struct row_list list;
    if (!ids_check("snap", &snapshot_id, 1, ERR_SNAPSHOT_MALFORMED, err) ||
        !images_of(call, call->account, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_image *image = list.rows[i];
        if (str_eq(image->state, "available") && image->mappings.count &&
            str_eq(image->mappings.items[0].snapshot_id, snapshot_id)) {
            *out = image;
            return true;
        }
    }
    return err_set(err, ERR_SNAPSHOT_NOT_FOUND, "The snapshot '%s' does not exist.",
                   snapshot_id);
}

static bool
register_check(const struct ec2_register_image_request *in, struct err *err)
{
    if (in->image_location) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "Images from manifests are not supported; ImportImage takes an "
                       "uploaded disk");
    }
    if (in->architecture && !str_eq(in->architecture, "x86_64")) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "The architecture '%s' is not supported", in->architecture);
    }
    if (in->virtualization_type && !str_eq(in->virtualization_type, "hvm")) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "The virtualization type '%.80s' is not supported",
                       in->virtualization_type);
    }
    if (in->kernel_id || in->ramdisk_id || in->tpm_support || in->uefi_data) {
        return err_set(
            err, ERR_UNSUPPORTED_OPERATION,
            "KernelId, RamdiskId, TpmSupport and UefiData are not supported");
    }
    if (in->block_device_mappings.count == 0) {
        return err_set(err, ERR_MISSING_PARAMETER,
                       "The request must contain the parameter BlockDeviceMapping");
    }
    return image_name_check(in->name, err);
}

/* The one mapping that a new image can have: its root, with a snapshot. */
static bool
register_root(const struct ec2_register_image_request *in,
              const struct ec2_block_device_mapping **out, struct err *err)
{
    const struct ec2_block_device_mapping *root = NULL;
    for (size_t i = 0; i < in->block_device_mappings.count; i++) {
        const struct ec2_block_device_mapping *m = &in->block_device_mappings.items[i];
        if (m->no_device || m->virtual_name) {
            continue;
        }
        if (root || !m->ebs || !m->ebs->snapshot_id || !m->device_name) {
            return err_set(err, ERR_BLOCK_MAPPING,
                           "An image has one disk: its root device, with a snapshot");
        }
        root = m;
    }
    if (!root ||
        (in->root_device_name && !str_eq(in->root_device_name, root->device_name))) {
        return err_set(err, ERR_BLOCK_MAPPING,
                       "The root device '%.80s' has no mapping with a snapshot",
                       in->root_device_name ? in->root_device_name : "");
    }
    *out = root;
    return true;
}

bool
ec2_register_image(struct call *call, const struct ec2_register_image_request *in,
                   struct ec2_register_image_result *out, struct err *err)
{
    const struct ec2_block_device_mapping *ask = NULL;
    const struct row_image *source;
    struct row_block_mapping *root = ARENA_NEW(call->arena, struct row_block_mapping);
    if (!register_check(in, err) || !register_root(in, &ask, err) ||
        !snapshot_image(call, ask->ebs->snapshot_id, &source, err) ||
        !image_name_free(call, call->account, in->name, err) ||
        !image_room(call, 0, err)) { /* It stands on the same disk. */
        return false;
    }
    *root = source->mappings.items[0];
    root->device = ask->device_name;
    if (!root_change(ask, root, err) || !dry_run_check(in->dry_run, err)) {
        return false;
    }
    struct row_image image = *source;
    image.id = id_new(call->arena, call->rng, "ami");
    image.name = in->name;
    image.description = in->description;
    image.public = false;
    image.launch_accounts.items = NULL;
    image.launch_accounts.count = 0;
    image.root_device = root->device;
    image.mappings.items = root;
    image.mappings.count = 1;
    image.created_at = call->now_ns;
    image.source_instance = image.source_volume = image.job_id = image.job_node = NULL;
    image.ena = !in->has_ena_support || in->ena_support;
    image.imds_v2 = source->imds_v2 || str_eq(in->imds_support, "v2.0");
    if (in->boot_mode && str_empty(source->kernel_blob)) {
        image.firmware = str_eq(in->boot_mode, "uefi") ? "uefi" : "bios";
    }
    out->image_id = image.id;
    return row_insert(call->txn, &row_image_type, &image, err);
}

/* ---- DeregisterImage ---- */

bool
ec2_deregister_image(struct call *call, const struct ec2_deregister_image_request *in,
                     struct err *err)
{
    const struct row_image *image;
    if (!image_owned(call, in->image_id, &image, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    struct row_image gone = *image;
    gone.state = "deregistered"; /* Its disk goes when no volume stands on it. */
    return row_put(call->txn, &row_image_type, &gone, err) &&
           tags_drop(call, image->id, err);
}

/* A snapshot lives as long as the images on it: there is none that could be deleted. */
bool
ec2_delete_snapshot(struct call *call, const struct ec2_delete_snapshot_request *in,
                    struct err *err)
{
    const struct row_image *image;
    return snapshot_image(call, in->snapshot_id, &image, err) &&
           err_set(err, ERR_SNAPSHOT_IN_USE,
                   "The snapshot %s is currently in use by %s", in->snapshot_id,
                   image->id);
}
