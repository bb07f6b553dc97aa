/* blob_sweep.c - see blob_sweep.h. */
#include "control/blob_sweep.h"

#include "base/log.h"
#include "base/map.h"
#include "control/wants.h"

/* A blob may be a moment older than the row that will name it. */
#define FRESH_NS (600 * NS_PER_S)
#define UPLOAD_KEPT_NS (24 * 3600 * NS_PER_S)

static void
keep(struct map *kept, const char *blob_id)
{
    if (!str_empty(blob_id)) {
        map_put(kept, blob_id, kept);
    }
}

static void
keep_image(struct map *kept, const void *row)
{
    const struct row_image *image = row;
    if (str_eq(image->state, "deregistered") || str_eq(image->state, "failed")) {
        return;
    }
    keep(kept, image->kernel_blob);
    keep(kept, image->initrd_blob);
    for (size_t i = 0; i < image->mappings.count; i++) {
        keep(kept, image->mappings.items[i].blob_id);
    }
}

static void
keep_volume(struct map *kept, const void *row)
{
    keep(kept, ((const struct row_volume *)row)->base_blob);
}

static void
keep_instance(struct map *kept, const void *row)
{
    const struct row_instance *instance = row;
    if (!instance->terminated_at) {
        keep(kept, instance->kernel_blob);
        keep(kept, instance->initrd_blob);
    }
}

static void
keep_task(struct map *kept, const void *row)
{
    const struct row_import_task *task = row;
    if (str_eq(task->state, "active")) {
        keep(kept, task->blob_id);
        keep(kept, task->target_blob);
    }
}

static const struct {
    const struct row_type *type;
    void (*keep)(struct map *kept, const void *row);
} holders[] = {
    {&row_image_type, keep_image},
    {&row_volume_type, keep_volume},
    {&row_instance_type, keep_instance},
    {&row_import_task_type, keep_task},
};

static bool
list_all(struct txn *txn, const struct row_type *type, struct row_list *out,
         struct err *err)
{
    struct row_query query = {0};
    return row_list(txn, type, &query, out, err);
}

static bool
drop_from_nodes(struct txn *txn, const struct row_list *nodes, const char *blob_id,
                struct err *err)
{
    for (size_t i = 0; i < nodes->count; i++) {
        const struct row_node *node = nodes->rows[i];
        if (!want_take_down(txn, node->id, LINK_BLOB, blob_id, err)) {
            return false;
        }
    }
    return true;
}

static bool
is_dead(const struct map *kept, const struct row_blob *blob, int64_t now_ns)
{
    int64_t age_ns = now_ns - blob->created_at;
    return str_eq(blob->state, "ready") && !map_get(kept, blob->id) &&
           age_ns > (blob->upload ? UPLOAD_KEPT_NS : FRESH_NS);
}

bool
blob_sweep(struct txn *txn, int64_t now_ns, struct err *err)
{
    AUTO(map) struct map *kept = map_create(NULL);
    struct row_list rows, nodes;
    for (size_t h = 0; h < ARRAY_LEN(holders); h++) {
        if (!list_all(txn, holders[h].type, &rows, err)) {
            return false;
        }
        for (size_t i = 0; i < rows.count; i++) {
            holders[h].keep(kept, rows.rows[i]);
        }
    }
    if (!list_all(txn, &row_blob_type, &rows, err) ||
        !list_all(txn, &row_node_type, &nodes, err)) {
        return false;
    }
    for (size_t i = 0; i < rows.count; i++) {
        const struct row_blob *blob = rows.rows[i];
        if (!is_dead(kept, blob, now_ns)) {
            continue;
        }
        log_info("blob %s: nothing refers to it any more", blob->id);
        struct row_blob dead = *blob;
        dead.state = "deleting";
        if (!row_put(txn, &row_blob_type, &dead, err) ||
            !drop_from_nodes(txn, &nodes, blob->id, err)) {
            return false;
        }
    }
    return true;
}
