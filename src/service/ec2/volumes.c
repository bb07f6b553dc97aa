/* volumes.c - DescribeVolumes, DeleteVolume: the root disks of instances, and what is
 * left of them. */
#include "service/ec2/common.h"

static const char *
volume_state(const struct row_volume *v)
{
    return v->want_deleted             ? "deleting"
           : str_empty(v->instance_id) ? "available"
                                       : "in-use";
}

/* Attached, as the filters 'attachment.*' see it. */
static const struct row_volume *
attached(const void *object)
{
    const struct row_volume *v = object;
    return str_empty(v->instance_id) ? NULL : v;
}

static void
attach_time(const void *object, struct filter_test *test)
{
    filter_offer_time(test, attached(object) ? attached(object)->attached_at : 0);
}

static void
attach_delete(const void *object, struct filter_test *test)
{
    if (attached(object)) {
        filter_offer_bool(test, attached(object)->delete_on_termination);
    }
}

static void
attach_device(const void *object, struct filter_test *test)
{
    filter_offer(test, attached(object) ? attached(object)->device : NULL);
}

static void
attach_instance(const void *object, struct filter_test *test)
{
    filter_offer(test, attached(object) ? attached(object)->instance_id : NULL);
}

static void
attach_status(const void *object, struct filter_test *test)
{
    filter_offer(test, attached(object) ? "attached" : NULL);
}

static void
status(const void *object, struct filter_test *test)
{
    filter_offer(test, volume_state(object));
}

static void
never(const void *object, struct filter_test *test)
{
    filter_offer_bool(test, false);
}

FILTER_TEXT(zone, struct row_volume, zone)
FILTER_TEXT(volume_id, struct row_volume, id)
FILTER_TEXT(volume_type, struct row_volume, type)
FILTER_TEXT(snapshot_id, struct row_volume, snapshot_id)
FILTER_INT(size, struct row_volume, size_gib)
FILTER_BOOL(encrypted, struct row_volume, encrypted)
FILTER_TIME(create_time, struct row_volume, created_at)

static const struct filter_def volume_filters[] = {
    {"attachment.attach-time", attach_time},
    {"attachment.delete-on-termination", attach_delete},
    {"attachment.device", attach_device},
    {"attachment.instance-id", attach_instance},
    {"attachment.status", attach_status},
    {"availability-zone", zone_values},
    {"create-time", create_time_values},
    {"encrypted", encrypted_values},
    {"fast-restored", never},
    {"multi-attach-enabled", never},
    {"size", size_values},
    {"snapshot-id", snapshot_id_values},
    {"status", status},
    {"volume-id", volume_id_values},
    {"volume-type", volume_type_values},
};

static int
volume_order(const void *a, const void *b)
{
    const struct row_volume *x = *(const struct row_volume *const *)a;
    const struct row_volume *y = *(const struct row_volume *const *)b;
    return strcmp(x->id, y->id);
}

static bool
load_named(struct call *call, const char *const *ids, size_t count,
           struct row_list *out, struct err *err)
{
    const void **rows = ARENA_ARRAY(call->arena, count, const void *);
    size_t kept = 0;
    if (!ids_check("vol", ids, count, ERR_VOLUME_MALFORMED, err)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const struct row_volume key = {.account = call->account, .id = ids[i]};
        if (!row_get(call->txn, &row_volume_type, &key, &rows[i], err)) {
            return false;
        }
        const struct row_volume *v = rows[i];
        if (!v || !str_eq(v->region, call->region)) {
            return err_no_such(err, ERR_VOLUME_NOT_FOUND, "volume", ids[i]);
        }
    }
    qsort(rows, count, sizeof *rows, volume_order);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || volume_order(&rows[kept - 1], &rows[i]) != 0) {
            rows[kept++] = rows[i];
        }
    }
    *out = (struct row_list){rows, kept};
    return true;
}

static bool
load_all(struct call *call, struct row_list *out, struct err *err)
{
    const struct row_volume prefix = {.account = call->account, .region = call->region};
    const struct row_query query = {
        .index = "by_region", .prefix = &prefix, .prefix_fields = 2};
    return row_list(call->txn, &row_volume_type, &query, out, err);
}

static void
volume_out(struct call *call, const struct row_volume *v, struct tag_set tags,
           struct ec2_volume *out)
{
    struct ec2_volume_attachment *a =
        ARENA_NEW(call->arena, struct ec2_volume_attachment);
    *out = (struct ec2_volume){
        .availability_zone = v->zone,
        .create_time = v->created_at,
        .has_create_time = true,
        .encrypted = v->encrypted,
        .has_encrypted = true,
        .size = v->size_gib,
        .has_size = true,
        .snapshot_id = v->snapshot_id ? v->snapshot_id : "",
        .state = volume_state(v),
        .volume_id = v->id,
        .iops = v->iops,
        .has_iops = v->iops != 0,
        .volume_type = v->type,
        .has_multi_attach_enabled = true,
        .throughput = v->throughput,
        .has_throughput = v->throughput != 0,
    };
    out->attachments.items = a;
    if (attached(v)) {
        *a = (struct ec2_volume_attachment){
            .attach_time = v->attached_at,
            .has_attach_time = v->attached_at != 0,
            .device = v->device,
            .instance_id = v->instance_id,
            .state = v->want_deleted ? "detaching" : "attached",
            .volume_id = v->id,
            .delete_on_termination = v->delete_on_termination,
            .has_delete_on_termination = true,
        };
        out->attachments.count = 1;
    }
    if (tags.count) {
        out->tags.items = tags_out(call, tags);
        out->tags.count = tags.count;
    }
}

/* A larger MaxResults means this many: DescribeVolumes' own rule. */
#define VOLUMES_MAX 500

bool
ec2_describe_volumes(struct call *call, const struct ec2_describe_volumes_request *in,
                     struct ec2_describe_volumes_result *out, struct err *err)
{
    struct filters filters;
    struct page page;
    struct row_list list;
    struct tags tags;
    const struct page_ask ask = {
        .has_max = in->has_max_results,
        .max_results = MIN(in->max_results, VOLUMES_MAX),
        .min = 5,
        .max = VOLUMES_MAX,
        .next_token = in->next_token,
        .ids = in->volume_ids.count,
        .ids_name = "volumesSet",
    };
    if (!filters_init(call, volume_filters, ARRAY_LEN(volume_filters),
                      in->filters.items, in->filters.count, &filters, err) ||
        !page_init(call, &ask, &filters, &page, err) ||
        !(in->volume_ids.count
              ? load_named(call, in->volume_ids.items, in->volume_ids.count, &list, err)
              : load_all(call, &list, err)) ||
        !tags_load_all(call, &tags, err) ||
        !dry_run_check(in->has_dry_run && in->dry_run, err)) {
        return false;
    }
    out->volumes.items = ARENA_ARRAY(call->arena, list.count, struct ec2_volume);
    for (size_t i = 0; i < list.count; i++) {
        const struct row_volume *v = list.rows[i];
        struct tag_set set = tags_of(&tags, v->id);
        if (filters_match(&filters, v, set) && page_take(&page, v->id)) {
            volume_out(call, v, set, &out->volumes.items[out->volumes.count++]);
        }
    }
    out->next_token = page_next_token(call, &page);
    return true;
}

/* ---- DeleteVolume ---- */

bool
ec2_delete_volume(struct call *call, const struct ec2_delete_volume_request *in,
                  struct err *err)
{
    struct row_list found;
    if (!load_named(call, &in->volume_id, 1, &found, err)) {
        return false;
    }
    struct row_volume next = *(const struct row_volume *)found.rows[0];
    if (attached(&next)) {
        return err_set(err, ERR_VOLUME_IN_USE,
                       "Volume %s is currently attached to %s", next.id,
                       next.instance_id);
    }
    if (!dry_run_check(in->has_dry_run && in->dry_run, err)) {
        return false;
    }
    next.want_deleted = true;
    next.generation++;
    return row_put(call->txn, &row_volume_type, &next, err);
}
