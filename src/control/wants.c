/* wants.c - see wants.h. */
#include "control/wants.h"

#include "base/crypto.h"
#include "base/tlv.h"

#define DIGEST_LEN 16 /* Of SHA-256's 32 bytes: it tells changes apart, and no more. */

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
same_bytes(const struct blob *a, const struct blob *b)
{
    return a->len == b->len && (!a->len || memcmp(a->data, b->data, b->len) == 0);
}

static bool
same_body(const struct row_node_want *a, const struct row_node_want *b)
{
    return same_bytes(&a->body, &b->body) && same_bytes(&a->digest, &b->digest);
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

/* Whether each process that may send the record knows how to make it. */
static bool
all_make_bodies(struct txn *txn, bool *out, struct err *err)
{
    struct row_list members;
    const struct row_query all = {0};
    if (!row_list(txn, &row_control_type, &all, &members, err)) {
        return false;
    }
    *out = true;
    for (size_t i = 0; i < members.count; i++) {
        const struct row_control *member = members.rows[i];
        *out = *out && str_eq(member->version, MOLN_VERSION);
    }
    return true;
}

bool
want_put_made(struct txn *txn, const char *node_id, enum link_kind kind, const char *id,
              const char *account, const void *record, struct err *err)
{
    AUTO(buf) struct buf body = {0};
    uint8_t digest[SHA256_LEN];
    bool make;
    struct row_node_want want = {
        .node_id = node_id, .kind = kind, .id = id, .account = account};
    if (!all_make_bodies(txn, &make, err)) {
        return false;
    }
    tlv_encode(link_want_desc(kind), record, &body);
    if (make) {
        sha256(body.data, body.len, digest);
        want.digest = (struct blob){digest, DIGEST_LEN};
    } else {
        want.body = (struct blob){(const uint8_t *)body.data, body.len};
    }
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
