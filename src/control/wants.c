/* wants.c - see wants.h. */
#include "control/wants.h"

#include "base/tlv.h"

static bool
want_write(struct txn *txn, struct row_node_want *row, struct err *err)
{
    char *counter = arena_printf(txn_arena(txn), "want/%s", row->node_id);
    return txn_next(txn, counter, &row->revision, err) &&
           row_put(txn, &row_node_want_type, row, err);
}

bool
want_get(struct txn *txn, const char *node_id, enum link_kind kind, const char *id,
         const struct row_node_want **out, struct err *err)
{
    struct row_node_want key = {.node_id = node_id, .kind = kind, .id = id};
    return row_get(txn, &row_node_want_type, &key, (const void **)out, err);
}

static bool
same_body(const struct row_node_want *a, const struct row_node_want *b)
{
    return a->body.len == b->body.len &&
           memcmp(a->body.data, b->body.data, b->body.len) == 0;
}

bool
want_put_body(struct txn *txn, const struct row_node_want *want, struct err *err)
{
    const struct row_node_want *old;
    if (!want_get(txn, want->node_id, (enum link_kind)want->kind, want->id, &old,
                  err)) {
        return false;
    }
    if (old && !old->deleted && same_body(old, want) &&
        str_eq(old->scope, want->scope)) {
        return true;
    }
    struct row_node_want row = *want;
    return want_write(txn, &row, err);
}

bool
want_put(struct txn *txn, const char *node_id, enum link_kind kind, const char *id,
         const char *account, const void *record, struct err *err)
{
    AUTO(buf) struct buf body = {0};
    tlv_encode(link_want_desc(kind), record, &body);
    const struct row_node_want want = {
        .node_id = node_id,
        .kind = kind,
        .id = id,
        .account = account,
        .body = {(const uint8_t *)body.data, body.len},
    };
    return want_put_body(txn, &want, err);
}

bool
want_take_down(struct txn *txn, const char *node_id, enum link_kind kind,
               const char *id, struct err *err)
{
    const struct row_node_want *old;
    if (!want_get(txn, node_id, kind, id, &old, err)) {
        return false;
    }
    if (!old || old->deleted) {
        return true;
    }
    struct row_node_want row = *old;
    row.deleted = true;
    return want_write(txn, &row, err);
}

bool
want_forget(struct txn *txn, const char *node_id, enum link_kind kind, const char *id,
            struct err *err)
{
    const struct row_node_want *old;
    if (!want_get(txn, node_id, kind, id, &old, err)) {
        return false;
    }
    return !old || !old->deleted || row_delete(txn, &row_node_want_type, old, err);
}
