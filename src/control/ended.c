/* ended.c - see ended.h. */
#include "control/ended.h"

#include "control/wants.h"
#include "core/lifecycle.h"
#include "core/network_rows.h"

#define TASKS_KEPT_NS (7 * 24 * 3600 * NS_PER_S) /* Imports and replacements. */

/* Whether a row is past its time. */
typedef bool past_fn(struct txn *txn, const void *row, int64_t now_ns, bool *out,
                     struct err *err);

static bool
peering_is_past(struct txn *txn UNUSED, const void *row, int64_t now_ns, bool *out,
                struct err *err UNUSED)
{
    const struct row_vpc_peering *p = row;
    *out = str_eq(p->state, "pending-acceptance")
               ? now_ns >= p->expires_at + PEERING_EXPIRED_VISIBLE_NS
               : p->ended_at && now_ns >= p->ended_at + PEERING_VISIBLE_NS;
    return true;
}

static bool
host_is_past(struct txn *txn UNUSED, const void *row, int64_t now_ns, bool *out,
             struct err *err UNUSED)
{
    const struct row_dedicated_host *host = row;
    *out = host->released_at && now_ns >= host->released_at + HOST_VISIBLE_NS;
    return true;
}

static bool
root_task_is_past(struct txn *txn UNUSED, const void *row, int64_t now_ns, bool *out,
                  struct err *err UNUSED)
{
    const struct row_root_task *task = row;
    *out = task->completed_at && now_ns >= task->completed_at + TASKS_KEPT_NS;
    return true;
}

static bool
import_is_past(struct txn *txn UNUSED, const void *row, int64_t now_ns, bool *out,
               struct err *err UNUSED)
{
    const struct row_import_task *task = row;
    bool over = str_eq(task->state, "completed") || str_eq(task->state, "deleted");
    *out = over && now_ns >= task->created_at + TASKS_KEPT_NS;
    return true;
}

/* A deregistered image is shown to nobody. Its row stays while an instance is held for its
 * copy, or a node has the job that makes it (captures.c). */
static bool
image_is_past(struct txn *txn, const void *row, int64_t now_ns UNUSED, bool *out,
              struct err *err)
{
    const struct row_image *image = row;
    const struct row_instance key = {.account = image->account,
                                     .id = image->source_instance};
    const struct row_node_want *job = NULL;
    const void *inst = NULL;
    *out = false;
    if (!str_eq(image->state, "deregistered")) {
        return true;
    }
    if ((!str_empty(image->source_instance) &&
         !row_get(txn, &row_instance_type, &key, &inst, err)) ||
        (!str_empty(image->job_node) &&
         !want_get(txn, image->job_node, LINK_BLOB_JOB, image->job_id, &job, err))) {
        return false;
    }
    const struct row_instance *source = inst;
    *out = !job && !(source && str_eq(source->held_by, image->id));
    return true;
}

static const struct {
    const struct row_type *type;
    past_fn *is_past;
    const char *other; /* The field of who else has tags on it; NULL: nobody. */
} kinds[] = {
    {&row_vpc_peering_type, peering_is_past, "peer_account"},
    {&row_dedicated_host_type, host_is_past, NULL},
    {&row_root_task_type, root_task_is_past, NULL},
    {&row_import_task_type, import_is_past, NULL},
    {&row_image_type, image_is_past, NULL},
};

static const char *
text_of(const struct row_type *type, const void *row, const char *name)
{
    return *(const char *const *)desc_at(desc_find(type->desc, name), row);
}

static bool
forget(struct txn *txn, size_t kind, const void *row, struct err *err)
{
    const struct row_type *type = kinds[kind].type;
    const char *id = text_of(type, row, "id");
    const char *region = text_of(type, row, "region"); /* Peers are of one region. */
    const char *owners[] = {text_of(type, row, "account"),
                            kinds[kind].other ? text_of(type, row, kinds[kind].other)
                                              : NULL};
    for (size_t i = 0; i < ARRAY_LEN(owners); i++) {
        if (owners[i] && !resource_tags_drop(txn, owners[i], region, id, err)) {
            return false;
        }
    }
    return row_delete(txn, type, row, err);
}

bool
ended_forget(struct txn *txn, int64_t now_ns, size_t most, bool *out_more,
             struct err *err)
{
    const struct row_query all = {0};
    size_t count = 0;
    for (size_t kind = 0; kind < ARRAY_LEN(kinds); kind++) {
        struct row_list list;
        if (!row_list(txn, kinds[kind].type, &all, &list, err)) {
            return false;
        }
        for (size_t i = 0; i < list.count && count < most; i++) {
            bool past;
            if (!kinds[kind].is_past(txn, list.rows[i], now_ns, &past, err) ||
                (past && !forget(txn, kind, list.rows[i], err))) {
                return false;
            }
            count += past;
        }
    }
    *out_more = count == most;
    return true;
}
