/* images_describe.c - DescribeImages and DescribeSnapshots of images' roots. */
#include "service/ec2/images.h"

/* ---- filters: over the row and what is answered of it ---- */

struct view {
    const struct row_image *row;
    struct ec2_image out;
};

#define VIEW_TEXT(name, path) \
    static void name##_values(const void *object, struct filter_test *test) \
    { \
        filter_offer(test, ((const struct view *)object)->path); \
    }
#define VIEW_BOOL(name, path) \
    static void name##_values(const void *object, struct filter_test *test) \
    { \
        filter_offer_bool(test, ((const struct view *)object)->path); \
    }
/* A text, number or flag of each of the image's disks. */
#define VIEW_DISK(name, offer, path) \
    static void name##_values(const void *object, struct filter_test *test) \
    { \
        const struct row_image *row = ((const struct view *)object)->row; \
        for (size_t i = 0; i < row->mappings.count; i++) { \
            offer(test, row->mappings.items[i].path); \
        } \
    }

VIEW_TEXT(architecture, out.architecture)
VIEW_DISK(disk_delete, filter_offer_bool, delete_on_termination)
VIEW_DISK(disk_device, filter_offer, device)
VIEW_DISK(disk_snapshot, filter_offer, snapshot_id)
VIEW_DISK(disk_size, filter_offer_int, size_gib)
VIEW_DISK(disk_type, filter_offer, volume_type)
VIEW_DISK(disk_encrypted, filter_offer_bool, encrypted)
VIEW_TEXT(boot_mode, out.boot_mode)
VIEW_TEXT(creation_date, out.creation_date)
VIEW_TEXT(description, out.description)
VIEW_BOOL(ena, out.ena_support)
VIEW_TEXT(hypervisor, out.hypervisor)
VIEW_TEXT(image_id, out.image_id)
VIEW_TEXT(image_type, out.image_type)
VIEW_TEXT(imds, out.imds_support)
VIEW_BOOL(is_public, out.public)
VIEW_TEXT(kernel, out.kernel_id)
VIEW_TEXT(location, out.image_location)
VIEW_TEXT(image_name, out.name)
VIEW_TEXT(alias, out.image_owner_alias)
VIEW_TEXT(owner, out.owner_id)
VIEW_TEXT(ramdisk, out.ramdisk_id)
VIEW_TEXT(root_name, out.root_device_name)
VIEW_TEXT(root_type, out.root_device_type)
VIEW_TEXT(source_instance, row->source_instance)
VIEW_TEXT(state, out.state)
VIEW_TEXT(reason, row->state_reason)
VIEW_TEXT(virtualization, out.virtualization_type)

static void
reason_code_values(const void *object, struct filter_test *test)
{
    const struct view *view = object;
    filter_offer(test, view->out.state_reason ? view->out.state_reason->code : NULL);
}

static const struct filter_def image_filters[] = {
    {"architecture", architecture_values},
    {"block-device-mapping.delete-on-termination", disk_delete_values},
    {"block-device-mapping.device-name", disk_device_values},
    {"block-device-mapping.encrypted", disk_encrypted_values},
    {"block-device-mapping.snapshot-id", disk_snapshot_values},
    {"block-device-mapping.volume-size", disk_size_values},
    {"block-device-mapping.volume-type", disk_type_values},
    {"boot-mode", boot_mode_values},
    {"creation-date", creation_date_values},
    {"description", description_values},
    {"ena-support", ena_values},
    {"hypervisor", hypervisor_values},
    {"image-id", image_id_values},
    {"image-type", image_type_values},
    {"imds-support", imds_values},
    {"is-public", is_public_values},
    {"kernel-id", kernel_values},
    {"manifest-location", location_values},
    {"name", image_name_values},
    {"owner-alias", alias_values},
    {"owner-id", owner_values},
    {"platform", NULL},
    {"product-code", NULL},
    {"product-code.type", NULL},
    {"ramdisk-id", ramdisk_values},
    {"root-device-name", root_name_values},
    {"root-device-type", root_type_values},
    {"source-instance-id", source_instance_values},
    {"sriov-net-support", NULL},
    {"state", state_values},
    {"state-reason-code", reason_code_values},
    {"state-reason-message", reason_values},
    {"tpm-support", NULL},
    {"virtualization-type", virtualization_values},
};

/* ---- which images ---- */

/* The account's own, public ones, and those shared with it; others' only when they can
 * be launched. */
static bool
visible(const struct call *call, const struct row_image *image)
{
    if (str_eq(image->state, "deregistered")) {
        return false;
    }
    return str_eq(image->account, call->account) ||
           (str_eq(image->state, "available") &&
            (image->public || image_shared_with(image, call->account)));
}

/* Owners: account ids, "self", and aliases. None: anybody. */
static bool
owned_by(const struct call *call, const struct row_image *image,
         const char *const *owners, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *owner = str_eq(owners[i], "self") ? call->account : owners[i];
        if (str_eq(image->account, owner) ||
            (!str_empty(image->alias) && str_eq(image->alias, owner))) {
            return true;
        }
    }
    return count == 0;
}

/* ExecutableUsers: "all" are public images, "self" and account ids those that name the
 * account. None: any. */
static bool
executable_by(const struct call *call, const struct row_image *image,
              const char *const *users, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *user = str_eq(users[i], "self") ? call->account : users[i];
        if (str_eq(user, "all") ? image->public : image_shared_with(image, user)) {
            return true;
        }
    }
    return count == 0;
}

static bool
owners_check(const char *const *owners, size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        const char *owner = owners[i];
        bool number = strlen(owner) == 12 && strspn(owner, "0123456789") == 12;
        if (!number && !str_eq(owner, "self") && !str_eq(owner, "amazon") &&
            !str_eq(owner, "aws-marketplace") && !str_eq(owner, "aws-backup-vault")) {
            return err_set(err, ERR_USER_ID_MALFORMED, "Invalid user id: \"%.80s\"",
                           owner);
        }
    }
    return true;
}

/* AWS puts the ids of images in square brackets. */
static bool
images_missing(const struct call *call, const struct pick *pick, struct err *err)
{
    AUTO(buf) struct buf list = {.limit = 400};
    size_t count = 0;
    (void)call;
    for (size_t i = 0; i < pick->count; i++) {
        if (!pick->found[i]) {
            buf_printf(&list, "%s%s", count++ ? ", " : "", pick->ids[i]);
        }
    }
    return count == 0 ||
           err_set(err, ERR_IMAGE_NOT_FOUND, "The image id%s '[%s]' do%s not exist",
                   count > 1 ? "s" : "", buf_str(&list), count > 1 ? "" : "es");
}

bool
ec2_describe_images(struct call *call, const struct ec2_describe_images_request *in,
                    struct ec2_describe_images_result *out, struct err *err)
{
    const struct row_image prefix = {.region = call->region};
    const struct row_query query = {
        .index = "by_region", .prefix = &prefix, .prefix_fields = 1};
    struct filters filters;
    struct row_list list;
    struct tags tags;
    struct pick ids;
    if (!filters_init(call, image_filters, ARRAY_LEN(image_filters), in->filters.items,
                      in->filters.count, &filters, err) ||
        !owners_check(in->owners.items, in->owners.count, err) ||
        !ids_check("ami", in->image_ids.items, in->image_ids.count, ERR_IMAGE_MALFORMED,
                   err) ||
        !dry_run_check(in->dry_run, err) || !tags_load_all(call, &tags, err) ||
        !row_list(call->txn, &row_image_type, &query, &list, err)) {
        return false;
    }
    pick_init(call, in->image_ids.items, in->image_ids.count, &ids);
    struct ec2_image *items = ARENA_ARRAY(call->arena, list.count, struct ec2_image);
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_image *row = list.rows[i];
        if (!visible(call, row) || !pick_take(&ids, row->id) ||
            !owned_by(call, row, in->owners.items, in->owners.count) ||
            !executable_by(call, row, in->executable_users.items,
                           in->executable_users.count)) {
            continue;
        }
        struct tag_set set = tags_of(&tags, row->id);
        const struct view view = {.row = row, .out = image_out(call, row, set)};
        if (filters_match(&filters, &view, set)) {
            items[count++] = view.out;
        }
    }
    out->images.items = items;
    out->images.count = count;
    return images_missing(call, &ids, err);
}

/* ---- snapshots: the roots of the account's own images ---- */

FILTER_TEXT(snap_description, struct ec2_snapshot, description)
FILTER_BOOL(snap_encrypted, struct ec2_snapshot, encrypted)
FILTER_TEXT(snap_alias, struct ec2_snapshot, owner_alias)
FILTER_TEXT(snap_owner, struct ec2_snapshot, owner_id)
FILTER_TEXT(snap_progress, struct ec2_snapshot, progress)
FILTER_TEXT(snap_id, struct ec2_snapshot, snapshot_id)
FILTER_TIME(snap_start, struct ec2_snapshot, start_time)
FILTER_TEXT(snap_state, struct ec2_snapshot, state)
FILTER_TEXT(snap_tier, struct ec2_snapshot, storage_tier)
FILTER_TEXT(snap_volume, struct ec2_snapshot, volume_id)
FILTER_INT(snap_size, struct ec2_snapshot, volume_size)

static const struct filter_def snapshot_filters[] = {
    {"description", snap_description_values}, {"encrypted", snap_encrypted_values},
    {"owner-alias", snap_alias_values},       {"owner-id", snap_owner_values},
    {"progress", snap_progress_values},       {"snapshot-id", snap_id_values},
    {"start-time", snap_start_values},        {"status", snap_state_values},
    {"storage-tier", snap_tier_values},       {"volume-id", snap_volume_values},
    {"volume-size", snap_size_values},
};

static struct ec2_snapshot
snapshot_out(struct call *call, const struct row_image *image,
             const struct row_block_mapping *m, struct tag_set tags)
{
    bool ready = str_eq(image->state, "available");
    return (struct ec2_snapshot){
        .snapshot_id = m->snapshot_id,
        .owner_id = image->account,
        .owner_alias = str_empty(image->alias) ? NULL : image->alias,
        .description = arena_printf(call->arena, "Created for %s", image->id),
        HAS(encrypted, m->encrypted),
        HAS(start_time, image->created_at),
        .state = ready                             ? "completed"
                 : str_eq(image->state, "pending") ? "pending"
                                                   : "error",
        .progress = ready ? "100%" : "0%",
        .volume_id = "vol-ffffffff", /* AWS's own word for a volume that is no more. */
        HAS(volume_size, m->size_gib),
        .storage_tier = "standard",
        .tags = {tags_out(call, tags), tags.count},
    };
}

static bool
snapshot_wanted(const struct call *call, const struct row_image *image,
                const struct ec2_describe_snapshots_request *in)
{
    bool restorable = in->restorable_by_user_ids.count == 0;
    for (size_t i = 0; i < in->restorable_by_user_ids.count; i++) {
        const char *user = in->restorable_by_user_ids.items[i];
        restorable |= str_eq(user, "self") || str_eq(user, call->account);
    }
    return restorable && str_eq(image->account, call->account) &&
           !str_eq(image->state, "deregistered") &&
           owned_by(call, image, in->owner_ids.items, in->owner_ids.count);
}

static int
snapshot_order(const void *a, const void *b)
{
    return strcmp(((const struct ec2_snapshot *)a)->snapshot_id,
                  ((const struct ec2_snapshot *)b)->snapshot_id);
}

/* Every snapshot that the request could mean, by id: each once, whatever number of
 * images was registered from it. */
static bool
snapshots_load(struct call *call, const struct ec2_describe_snapshots_request *in,
               const struct tags *tags, struct ec2_snapshot **out, size_t *out_count,
               struct err *err)
{
    struct row_list list;
    if (!images_of(call, call->account, &list, err)) {
        return false;
    }
    struct ec2_snapshot *items =
        ARENA_ARRAY(call->arena, list.count, struct ec2_snapshot);
    size_t count = 0, kept = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_image *image = list.rows[i];
        if (image->mappings.count && !str_empty(image->mappings.items[0].snapshot_id) &&
            snapshot_wanted(call, image, in)) {
            const struct row_block_mapping *m = &image->mappings.items[0];
            items[count++] =
                snapshot_out(call, image, m, tags_of(tags, m->snapshot_id));
        }
    }
    if (count) {
        qsort(items, count, sizeof *items, snapshot_order);
    }
    for (size_t i = 0; i < count; i++) {
        if (!kept || snapshot_order(&items[kept - 1], &items[i]) != 0) {
            items[kept++] = items[i];
        }
    }
    *out = items;
    *out_count = kept;
    return true;
}

bool
ec2_describe_snapshots(struct call *call,
                       const struct ec2_describe_snapshots_request *in,
                       struct ec2_describe_snapshots_result *out, struct err *err)
{
    const struct page_ask ask = {.has_max = in->has_max_results,
                                 .max_results = in->max_results,
                                 .min = 5,
                                 .max = 1000,
                                 .next_token = in->next_token,
                                 .ids = in->snapshot_ids.count,
                                 .ids_name = "snapshotSet"};
    struct filters filters;
    struct page page;
    struct pick ids;
    struct tags tags;
    struct ec2_snapshot *items;
    size_t count, kept = 0;
    if (!filters_init(call, snapshot_filters, ARRAY_LEN(snapshot_filters),
                      in->filters.items, in->filters.count, &filters, err) ||
        !ids_check("snap", in->snapshot_ids.items, in->snapshot_ids.count,
                   ERR_SNAPSHOT_MALFORMED, err) ||
        !page_init(call, &ask, &filters, &page, err) ||
        !dry_run_check(in->dry_run, err) || !tags_load_all(call, &tags, err) ||
        !snapshots_load(call, in, &tags, &items, &count, err)) {
        return false;
    }
    pick_init(call, in->snapshot_ids.items, in->snapshot_ids.count, &ids);
    for (size_t i = 0; i < count; i++) {
        const struct ec2_snapshot item = items[i];
        if (pick_take(&ids, item.snapshot_id) &&
            filters_match(&filters, &item, tags_of(&tags, item.snapshot_id)) &&
            page_take(&page, item.snapshot_id)) {
            items[kept++] = item;
        }
    }
    out->snapshots.items = items;
    out->snapshots.count = kept;
    out->next_token = page_next_token(call, &page);
    return pick_check(call, &ids, ERR_SNAPSHOT_NOT_FOUND, "snapshot", err);
}
