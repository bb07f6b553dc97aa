/* launch_disks.c - BlockDeviceMappings of RunInstances: the root disk's size and kind.
 */
#include "service/ec2/launch.h"

struct volume_kind {
    const char *name;
    int64_t max_gib;
    int64_t min_iops, max_iops; /* What may be asked for; 0, 0: nothing may. */
    int64_t default_iops, default_throughput, max_throughput;
    bool iops_required;
};

/* Limits as EC2 documents them. */
static const struct volume_kind kinds[] = {
    {.name = "gp2", .max_gib = 16384},
    {.name = "gp3",
     .max_gib = 16384,
     .min_iops = 3000,
     .max_iops = 16000,
     .default_iops = 3000,
     .default_throughput = 125,
     .max_throughput = 1000},
    {.name = "io1",
     .max_gib = 16384,
     .min_iops = 100,
     .max_iops = 64000,
     .iops_required = true},
    {.name = "io2",
     .max_gib = 16384,
     .min_iops = 100,
     .max_iops = 64000,
     .iops_required = true},
    {.name = "standard", .max_gib = 1024},
};

static const struct volume_kind *
kind_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return &kinds[i];
        }
    }
    return NULL;
}

/* 3 a GiB, from 100 to 16,000: gp2's own rule. */
static int64_t
gp2_iops(int64_t size_gib)
{
    return MIN(MAX(size_gib * 3, 100), 16000);
}

static bool
check_speed(struct launch_disk *d, const struct ec2_ebs_block_device *ebs,
            const struct volume_kind *kind, struct err *err)
{
    if (ebs && ebs->has_iops) {
        if (kind->max_iops == 0) {
            return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                           "The parameter iops is not supported for %s volumes.",
                           kind->name);
        }
        if (ebs->iops < kind->min_iops || ebs->iops > kind->max_iops) {
            return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                           "Volume iops of %" PRId64 " is not between %" PRId64
                           " and %" PRId64 " for %s volumes.",
                           ebs->iops, kind->min_iops, kind->max_iops, kind->name);
        }
        d->iops = ebs->iops;
    } else if (kind->iops_required && d->iops == 0) {
        return err_set(err, ERR_MISSING_PARAMETER,
                       "The parameter iops must be specified for %s volumes.",
                       kind->name);
    }
    if (ebs && ebs->has_throughput) {
        if (kind->max_throughput == 0) {
            return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                           "The parameter throughput is not supported for %s volumes.",
                           kind->name);
        }
        if (ebs->throughput < 125 || ebs->throughput > kind->max_throughput) {
            return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                           "Throughput of %" PRId64 " is not between 125 and %" PRId64
                           ".",
                           ebs->throughput, kind->max_throughput);
        }
        d->throughput = ebs->throughput;
    }
    if (strcmp(kind->name, "gp2") == 0) {
        d->iops = gp2_iops(d->size_gib);
    } else if (d->iops == 0) {
        d->iops = kind->default_iops;
    }
    if (d->throughput == 0 || kind->max_throughput == 0) {
        d->throughput = kind->default_throughput;
    }
    return true;
}

static bool
check_size(struct launch_disk *d, int64_t size_gib, const struct volume_kind *kind,
           struct err *err)
{
    if (size_gib < d->size_gib) {
        return err_set(err, ERR_BLOCK_MAPPING,
                       "Volume of size %" PRId64
                       "GB is smaller than snapshot '%s', expect "
                       "size >= %" PRId64 "GB",
                       size_gib, d->snapshot_id ? d->snapshot_id : "", d->size_gib);
    }
    if (size_gib > kind->max_gib) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Volume of %" PRId64
                       "GiB is too large for volume type %s; maximum "
                       "is %" PRId64 "GiB",
                       size_gib, kind->name, kind->max_gib);
    }
    d->size_gib = size_gib;
    return true;
}

/* The request's word on the root disk, over the image's. */
static bool
apply_root(struct launch_disk *d, const struct ec2_ebs_block_device *ebs,
           struct err *err)
{
    const char *type = ebs && ebs->volume_type ? ebs->volume_type : d->type;
    const struct volume_kind *kind = kind_of(type);
    if (!kind) {
        return err_set(err, ERR_BLOCK_MAPPING,
                       "The volume type '%s' cannot be used for a root device.", type);
    }
    if (ebs && ebs->encrypted) {
        return err_unsupported(err, "encrypted volumes");
    }
    if (ebs && ebs->snapshot_id && !str_eq(ebs->snapshot_id, d->snapshot_id)) {
        return err_set(err, ERR_BLOCK_MAPPING,
                       "snapshotId cannot be modified on root device");
    }
    if (!str_eq(type, d->type)) {
        d->iops = d->throughput = 0; /* The image's figures were for its own type. */
    }
    d->type = kind->name;
    if (ebs && ebs->has_delete_on_termination) {
        d->delete_on_termination = ebs->delete_on_termination;
    }
    return check_size(d, ebs && ebs->has_volume_size ? ebs->volume_size : d->size_gib,
                      kind, err) &&
           check_speed(d, ebs, kind, err);
}

static bool
image_root(const struct row_image *image, struct launch_disk *out, struct err *err)
{
    for (size_t i = 0; i < image->mappings.count; i++) {
        const struct row_block_mapping *m = &image->mappings.items[i];
        if (str_eq(m->device, image->root_device) && !str_empty(m->blob_id)) {
            *out = (struct launch_disk){
                .device = m->device,
                .type = str_empty(m->volume_type) ? "gp2" : m->volume_type,
                .snapshot_id = m->snapshot_id,
                .base_blob = m->blob_id,
                .size_gib = MAX(m->size_gib, 1),
                .iops = m->iops,
                .throughput = m->throughput,
                .delete_on_termination = m->delete_on_termination,
            };
            return true;
        }
    }
    return err_set(err, ERR_IMAGE_UNAVAILABLE, "The image '%s' has no root disk",
                   image->id);
}

bool
launch_disks(struct call *call, struct launch *l, struct err *err)
{
    const struct ec2_ebs_block_device *root = NULL;
    if (!image_root(l->image, &l->disk, err)) {
        return false;
    }
    bool seen = false;
    for (size_t i = 0; i < l->in->block_device_mappings.count; i++) {
        const struct ec2_block_device_mapping *m =
            &l->in->block_device_mappings.items[i];
        if (str_empty(m->device_name)) {
            return err_set(err, ERR_MISSING_PARAMETER,
                           "The request must contain the parameter deviceName");
        }
        if (m->virtual_name && str_starts(m->virtual_name, "ephemeral")) {
            continue; /* As EC2 does for types without instance store. */
        }
        if (!str_eq(m->device_name, l->disk.device)) {
            return err_unsupported(err, "block devices besides the root device");
        }
        if (seen) {
            return err_set(
                err, ERR_BLOCK_MAPPING,
                "The device '%s' is used in more than one block-device mapping",
                m->device_name);
        }
        if (m->no_device) {
            return err_set(err, ERR_BLOCK_MAPPING,
                           "The root device '%s' cannot be left out", m->device_name);
        }
        seen = true;
        root = m->ebs;
    }
    return apply_root(&l->disk, root, err);
}
