/* root_volume.c - see root_volume.h. */
#include "core/root_volume.h"

static bool
copy_tags(struct txn *txn, const struct row_volume *from, const char *to,
          struct err *err)
{
    const struct row_tag prefix = {
        .account = from->account, .region = from->region, .resource_id = from->id};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 3};
    struct row_list list;
    if (!row_list(txn, &row_tag_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        struct row_tag tag = *(const struct row_tag *)list.rows[i];
        tag.resource_id = to;
        if (!row_put(txn, &row_tag_type, &tag, err)) {
            return false;
        }
    }
    return true;
}

bool
root_volume_replace(struct txn *txn, const struct row_volume *old,
                    const struct root_change *change, int64_t now_ns, struct err *err)
{
    struct row_volume made = *old, left = *old;
    made.id = change->volume_id;
    made.node_id = change->node_id;
    made.base_blob = change->base_blob;
    made.image_id = change->image_id;
    made.snapshot_id = change->snapshot_id;
    made.generation = 1;
    made.made = false;
    made.created_at = made.attached_at = now_ns;
    left.want_deleted = change->delete_old;
    left.generation++;
    left.instance_id = left.device = NULL;
    left.attached_at = 0;
    return volume_add(txn, &made, err) && copy_tags(txn, old, made.id, err) &&
           row_put(txn, &row_volume_type, &left, err);
}
