/* instances_load.c - instances with what belongs to them, in as few listings as it
 * takes. */
#include "base/map.h"
#include "service/ec2/instances.h"
#include "service/ec2/interfaces.h"

/* Up to here, rows are fetched one by one; beyond it whole listings are cheaper. */
#define FEW 16
#define PAGE_ROWS 1000 /* Read at a time, for a page. */

struct view_list {
    struct instance_view *items;
    size_t count, cap;
};

/* Listings by instance id, loaded when many instances are asked for. */
struct neighbours {
    bool many;
    struct row_list enis, volumes;
    struct tags tags;
};

static int
by_reservation(const void *a, const void *b)
{
    const struct row_instance *x = *(const struct row_instance *const *)a;
    const struct row_instance *y = *(const struct row_instance *const *)b;
    int order = strcmp(x->reservation_id, y->reservation_id);
    return order ? order : strcmp(x->id, y->id);
}

/* The rows that 'ids' name, each once, sorted as a listing would be. */
static bool
load_named(struct call *call, const char *const *ids, size_t count,
           struct row_list *out, struct err *err)
{
    if (!ids_check("i", ids, count, ERR_INSTANCE_MALFORMED, err)) {
        return false;
    }
    const struct row_instance **rows =
        ARENA_ARRAY(call->arena, count, const struct row_instance *);
    const char **missing = ARENA_ARRAY(call->arena, count, const char *);
    size_t found = 0, lost = 0;
    for (size_t i = 0; i < count; i++) {
        const struct row_instance key = {.account = call->account, .id = ids[i]};
        const void *row;
        if (!row_get(call->txn, &row_instance_type, &key, &row, err)) {
            return false;
        }
        const struct row_instance *inst = row;
        if (inst && str_eq(inst->region, call->region) &&
            instance_visible(inst, call->now_ns)) {
            rows[found++] = inst;
        } else {
            missing[lost++] = ids[i];
        }
    }
    if (lost) {
        return err_no_such_ids(err, ERR_INSTANCE_NOT_FOUND, "instance ID", missing,
                               lost);
    }
    qsort(rows, found, sizeof(const struct row_instance *), by_reservation);
    size_t kept = 0;
    for (size_t i = 0; i < found; i++) {
        if (kept == 0 || strcmp(rows[kept - 1]->id, rows[i]->id) != 0) {
            rows[kept++] = rows[i];
        }
    }
    *out = (struct row_list){(const void **)rows, kept};
    return true;
}

static bool
load_all(struct call *call, const char *reservation, struct row_list *out,
         struct err *err)
{
    const struct row_instance prefix = {.account = call->account,
                                        .reservation_id = reservation};
    const struct row_query query = {.index = "by_reservation",
                                    .prefix = &prefix,
                                    .prefix_fields = reservation ? 2 : 1};
    return row_list(call->txn, &row_instance_type, &query, out, err);
}

static bool
neighbours_load(struct call *call, unsigned parts, struct neighbours *out,
                struct err *err)
{
    const struct row_eni eni = {.account = call->account};
    const struct row_query enis = {
        .index = "by_instance", .prefix = &eni, .prefix_fields = 1};
    const struct row_volume volume = {.account = call->account};
    const struct row_query volumes = {
        .index = "by_instance", .prefix = &volume, .prefix_fields = 1};
    out->many = true;
    return (!(parts & VIEW_ENI) ||
            row_list(call->txn, &row_eni_type, &enis, &out->enis, err)) &&
           (!(parts & VIEW_ROOT) ||
            row_list(call->txn, &row_volume_type, &volumes, &out->volumes, err)) &&
           (!(parts & VIEW_TAGS) || tags_load_all(call, &out->tags, err));
}

/* The first interface of an instance in a listing by instance. */
static const struct row_eni *
eni_in(const struct row_list *list, const char *id)
{
    size_t low = 0, high = list->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct row_eni *eni = list->rows[middle];
        if (strcmp(eni->instance_id ? eni->instance_id : "", id) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    const struct row_eni *eni = low < list->count ? list->rows[low] : NULL;
    return eni && str_eq(eni->instance_id, id) ? eni : NULL;
}

static const struct row_volume *
root_in(const struct row_list *list, const struct row_instance *inst)
{
    size_t low = 0, high = list->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct row_volume *v = list->rows[middle];
        if (strcmp(v->instance_id ? v->instance_id : "", inst->id) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (; low < list->count; low++) {
        const struct row_volume *v = list->rows[low];
        if (!str_eq(v->instance_id, inst->id)) {
            break;
        }
        if (str_eq(v->id, inst->root_volume_id)) {
            return v;
        }
    }
    return NULL;
}

static bool
fetch_neighbours(struct call *call, unsigned parts, struct instance_view *view,
                 struct err *err)
{
    const struct row_instance *inst = view->inst;
    const void *row;
    if ((parts & VIEW_ENI) && inst->eni_ids.count > 0) {
        const struct row_eni key = {.account = inst->account,
                                    .id = inst->eni_ids.items[0]};
        if (!row_get(call->txn, &row_eni_type, &key, &row, err)) {
            return false;
        }
        view->eni = row;
    }
    if ((parts & VIEW_ROOT) && !str_empty(inst->root_volume_id)) {
        const struct row_volume key = {.account = inst->account,
                                       .id = inst->root_volume_id};
        if (!row_get(call->txn, &row_volume_type, &key, &row, err)) {
            return false;
        }
        view->root = row;
    }
    return !(parts & VIEW_TAGS) || tags_load_one(call, inst->id, &view->tags, err);
}

static int
by_place(const void *a, const void *b)
{
    const struct row_eni *x = *(const struct row_eni *const *)a;
    const struct row_eni *y = *(const struct row_eni *const *)b;
    return (x->device_index > y->device_index) - (x->device_index < y->device_index);
}

/* Every interface of the instance, as it is shown. */
static bool
nics_fill(struct call *call, struct instance_view *view, struct err *err)
{
    const struct row_eni prefix = {.account = view->inst->account,
                                   .instance_id = view->inst->id};
    struct row_list list;
    if (!rows_by(call, &row_eni_type, "by_instance", 2, &prefix, &list, err)) {
        return false;
    }
    if (list.count > 1) {
        qsort(list.rows, list.count, sizeof(const void *), by_place);
    }
    struct ec2_network_interface *nics =
        ARENA_ARRAY(call->arena, list.count, struct ec2_network_interface);
    for (size_t i = 0; i < list.count; i++) {
        if (!eni_out(call, list.rows[i], (struct tag_set){0}, &nics[i], err)) {
            return false;
        }
    }
    view->nics = nics;
    view->nic_count = list.count;
    return true;
}

static bool
view_fill(struct call *call, const struct neighbours *near, unsigned parts,
          struct instance_view *view, struct err *err)
{
    const struct row_instance *inst = view->inst;
    if ((parts & VIEW_SEEN) || instance_state_needs_seen(inst)) {
        const struct row_machine_seen key = {.id = inst->id};
        const void *row;
        if (!row_get(call->txn, &row_machine_seen_type, &key, &row, err)) {
            return false;
        }
        view->seen = row;
    }
    view->state = instance_state_of(inst, view->seen);
    if (!near->many) {
        if (!fetch_neighbours(call, parts, view, err)) {
            return false;
        }
    } else {
        view->eni = eni_in(&near->enis, inst->id);
        view->root = root_in(&near->volumes, inst);
        view->tags = tags_of(&near->tags, inst->id);
    }
    /* What is about to go, or was detached, is no longer this instance's. */
    if (view->eni && !str_eq(view->eni->instance_id, inst->id)) {
        view->eni = NULL;
    }
    if (view->root && (!str_eq(view->root->instance_id, inst->id) ||
                       view->state == INSTANCE_TERMINATED)) {
        view->root = NULL;
    }
    return !(parts & VIEW_NICS) || nics_fill(call, view, err);
}

/* 'few': of what the account has; else all that lies around it is read at once. */
static bool
views_of(struct call *call, const struct row_list *rows, bool few, unsigned parts,
         struct instance_views *out, struct err *err)
{
    struct neighbours near = {0};
    if (!few && !neighbours_load(call, parts, &near, err)) {
        return false;
    }
    struct instance_view *views =
        ARENA_ARRAY(call->arena, rows->count, struct instance_view);
    size_t count = 0;
    for (size_t i = 0; i < rows->count; i++) {
        const struct row_instance *inst = rows->rows[i];
        if (!str_eq(inst->region, call->region) ||
            !instance_visible(inst, call->now_ns)) {
            continue;
        }
        views[count].inst = inst;
        if (!view_fill(call, &near, parts, &views[count++], err)) {
            return false;
        }
    }
    *out = (struct instance_views){views, count};
    return true;
}

bool
instance_views_load(struct call *call, const char *const *ids, size_t id_count,
                    unsigned parts, struct instance_views *out, struct err *err)
{
    struct row_list rows;
    bool ok = id_count ? load_named(call, ids, id_count, &rows, err)
                       : load_all(call, NULL, &rows, err);
    return ok && views_of(call, &rows, rows.count <= FEW, parts, out, err);
}

/* The next rows by reservation after a page's key, "r-.../i-..."; or from the beginning. */
static bool
load_after(struct call *call, const char *key, size_t limit, struct row_list *out,
           struct err *err)
{
    struct row_instance after = {.account = call->account};
    const struct row_query query = {.index = "by_reservation",
                                    .prefix = &after,
                                    .prefix_fields = 1,
                                    .after = key ? &after : NULL,
                                    .limit = limit};
    if (key) {
        size_t len = strcspn(key, "/");
        after.reservation_id = arena_strndup(call->arena, key, len);
        after.id = key[len] ? key + len + 1 : "";
    }
    return row_list(call->txn, &row_instance_type, &query, out, err);
}

bool
instance_rows_exceed(struct call *call, size_t limit, bool *out, struct err *err)
{
    struct row_list rows;
    if (!load_after(call, NULL, limit + 1, &rows, err)) {
        return false;
    }
    *out = rows.count > limit;
    return true;
}

/* Of the rows those that pass and belong on the page. First only what the filters look at
 * is read, so that a filter that few pass costs little for all others. */
static bool
take_rows(struct call *call, const struct row_list *rows, const struct filters *filters,
          struct page *page, unsigned parts, struct view_list *out, struct err *err)
{
    const struct neighbours none = {0};
    unsigned looks = filters_parts(filters, VIEW_TAGS);
    for (size_t i = 0; i < rows->count && !page->more; i++) {
        struct instance_view v = {.inst = rows->rows[i]};
        if (!str_eq(v.inst->region, call->region) ||
            !instance_visible(v.inst, call->now_ns)) {
            continue;
        }
        if (!view_fill(call, &none, looks, &v, err)) {
            return false;
        }
        if (filters_match(filters, &v, v.tags) &&
            page_take(page, instance_page_key(call, &v))) {
            if (!view_fill(call, &none, parts, &v, err)) {
                return false;
            }
            VEC_PUSH(out, v);
        }
    }
    return true;
}

bool
instance_views_page(struct call *call, const struct filters *filters, struct page *page,
                    unsigned parts, struct instance_views *out, struct err *err)
{
    struct view_list all = {0};
    const char *after = page->after;
    bool ok = true, more = true;
    while (ok && more && !page->more) {
        struct row_list rows;
        size_t limit = filters->count ? PAGE_ROWS : MIN(page->left, PAGE_ROWS) + FEW;
        ok = load_after(call, after, limit, &rows, err) &&
             take_rows(call, &rows, filters, page, parts, &all, err);
        more = ok && rows.count == limit;
        if (more) {
            const struct row_instance *last = rows.rows[rows.count - 1];
            after = arena_printf(call->arena, "%s/%s", last->reservation_id, last->id);
        }
    }
    if (ok) {
        out->items =
            arena_memdup(call->arena, all.items, all.count * sizeof *all.items);
        out->count = all.count;
    }
    VEC_FREE(&all);
    return ok;
}

bool
instance_view_load(struct call *call, const struct row_instance *inst, unsigned parts,
                   struct instance_view *out, struct err *err)
{
    const struct neighbours none = {0};
    *out = (struct instance_view){.inst = inst};
    return view_fill(call, &none, parts, out, err);
}

static int
by_launch_index(const void *a, const void *b)
{
    const struct instance_view *x = a, *y = b;
    return (x->inst->launch_index > y->inst->launch_index) -
           (x->inst->launch_index < y->inst->launch_index);
}

bool
instance_views_of_reservation(struct call *call, const char *reservation,
                              struct instance_views *out, struct err *err)
{
    struct row_list rows;
    if (!load_all(call, reservation, &rows, err) ||
        !views_of(call, &rows, rows.count <= FEW, VIEW_ALL, out, err)) {
        return false;
    }
    qsort(out->items, out->count, sizeof *out->items, by_launch_index);
    return true;
}

bool
quotas_load(struct call *call, struct quotas *out, struct err *err)
{
    const struct cloud_config *c = call->config;
    const struct row_account key = {.id = call->account};
    const void *row;
    if (!row_get(call->txn, &row_account_type, &key, &row, err)) {
        return false;
    }
    const struct row_account none = {0};
    const struct row_account *a = row ? row : &none;
    *out = (struct quotas){
        .vcpus = a->quota_vcpus ? a->quota_vcpus : c->default_quota_vcpus,
        .instances =
            a->quota_instances ? a->quota_instances : c->default_quota_instances,
        .disk_gib = a->quota_disk_gib ? a->quota_disk_gib : c->default_quota_disk_gib,
    };
    return true;
}

bool
err_vcpu_limit(struct err *err, int64_t limit)
{
    return err_set(
        err, ERR_VCPU_LIMIT,
        "You have requested more vCPU capacity than your current vCPU limit of "
        "%" PRId64 " allows for the instance bucket that the specified instance "
        "type belongs to. Ask the operator of this cloud to adjust the limit.",
        limit);
}
