/* txn.c - what a transaction's function may do: rows by key, by index, and counters. */
#include "store/block.h"
#include "store/commit.h"
#include "store/own.h"

struct arena *
txn_arena(struct txn *txn)
{
    return txn->arena;
}

bool
txn_writable(const struct txn *txn)
{
    return txn->writable;
}

/* ---- from outside ---------------------------------------------------------------- */

void
txn_init(struct txn *txn, struct store *store, struct arena *arena,
         struct version *version)
{
    *txn = (struct txn){.store = store, .arena = arena, .version = version};
    version_pin(version);
    arena_defer(arena, version_unpin, version);
}

/* What was put off so far, by those before it and by itself: a cold table is read as they
 * left it. */
static bool
send_put_off(struct txn *txn, struct err *err)
{
    const struct batch *batch = txn->batch;
    for (const struct txn *t = batch->txns; t < txn; t++) {
        if (!commit_send_cold(txn->store, t, err)) {
            return false;
        }
    }
    return session_post(txn->session, "SAVEPOINT one", err);
}

/* A writer comes to its turn when nothing waits to be committed, and begins the
 * transaction of all that its batch does. */
static bool
begin_in_batch(struct txn *txn, struct err *err)
{
    struct batch *batch = txn->batch;
    if (!batch->began) {
        commit_settle(txn->store);
        batch->began = session_exec(txn->session, txn->store->driver->begin_write, err);
    }
    txn->began = batch->began && send_put_off(txn, err);
    return txn->began && commit_send_cold(txn->store, txn, err);
}

/* Readers begin when they first need the database. Writers share one transaction, in
 * which each has a savepoint of its own. */
bool
txn_session(struct txn *txn, struct session **out, struct err *err)
{
    const struct sql_driver *driver = txn->store->driver;
    if (txn->writable && txn->store->follow && !txn->batch->began) {
        txn->batch->lost = true; /* The session is the committer's now. */
        return err_set(err, ERR_CONFLICT, "the database's turn is needed");
    }
    if (!txn->session) {
        txn->session = reader_take(txn->store, err);
    }
    if (!txn->session) {
        return false;
    }
    if (!txn->began && !txn->writable) {
        txn->began = session_exec(txn->session, driver->begin_read, err);
    } else if (!txn->began && !begin_in_batch(txn, err)) {
        return false;
    }
    *out = txn->session;
    return txn->began;
}

/* The database's part of a writing transaction: true when its changes stay in the
 * batch. */
static bool
settle_savepoint(struct txn *txn, bool keep, struct err *err)
{
    struct sql_conn *conn = txn->session->conn;
    struct err ignored;
    if (keep && session_post(txn->session, "RELEASE one", err)) {
        return true;
    }
    (void)session_exec(txn->session, "ROLLBACK TO one", &ignored);
    (void)session_exec(txn->session, "RELEASE one", &ignored);
    txn->batch->lost = !conn->driver->in_transaction(conn);
    return false;
}

/* A writing transaction with nothing of its own to undo: is what others did there? */
static bool
still_there(struct txn *txn, struct err *err)
{
    struct sql_conn *conn = txn->session->conn;
    txn->batch->lost = !conn->driver->in_transaction(conn);
    return !txn->batch->lost || err_set(err, ERR_GONE, "the database gave it up");
}

/* The batch's version is again as the transactions before left it. */
static void
step_back(struct txn *txn)
{
    while (txn->back.count > 0) {
        const struct step_back *b = &txn->back.items[--txn->back.count];
        version_undo(txn->version, b->table, b->row, b->old);
    }
}

bool
txn_settle(struct txn *txn, bool keep, struct err *err)
{
    bool ok = keep;
    struct err ignored;
    if (txn->began && txn->writable) {
        ok = settle_savepoint(txn, ok, err);
    } else if (txn->writable && txn->batch->began) {
        ok = still_there(txn, err) && ok;
    } else if (txn->began) {
        (void)session_exec(txn->session, "ROLLBACK", &ignored);
    }
    txn->began = false;
    if (!ok) {
        step_back(txn);
        txn->changes.count = 0;
    } else if (txn->writable) {
        txn->batch->changed |= txn->changes.count > 0;
    }
    return ok || !keep;
}

void
txn_fini(struct txn *txn)
{
    if (txn->session && !txn->writable) {
        reader_return(txn->store, txn->session);
    }
    VEC_FREE(&txn->changes);
    VEC_FREE(&txn->back);
}

/* ---- rows ------------------------------------------------------------------------ */

static const struct table *
table_of(const struct txn *txn, const struct row_type *type, struct err *err)
{
    const struct store *store = txn->store;
    if (type->id >= store->table_count || store->tables[type->id].type != type) {
        err_set(err, ERR_INVALID, "table %s is not in this store", type->name);
        return NULL;
    }
    return &store->tables[type->id];
}

uint64_t
row_stamp(struct txn *txn, const struct row_type *type, const void *row)
{
    struct err ignored;
    const struct table *table = table_of(txn, type, &ignored);
    return table && table->hot ? block_stamp(row) : 0;
}

static bool
get(struct txn *txn, const struct table *table, const void *key, const void **out,
    struct err *err)
{
    struct session *session;
    if (table->hot) {
        *out = version_get(txn->version, table, key);
        return true;
    }
    return txn_session(txn, &session, err) &&
           session_get(session, table, key, txn->arena, out, err);
}

/* Adds to the changes; a row that has changed before keeps its place among them. */
static void
note_change(struct txn *txn, struct change c, const void *old)
{
    uint32_t at = old ? block_mark(old) : UINT32_MAX;
    if (at < txn->changes.count && txn->changes.items[at].row == old) {
        txn->changes.items[at] = c;
    } else {
        at = (uint32_t)txn->changes.count;
        VEC_PUSH(&txn->changes, c);
    }
    if (!c.deleted) {
        block_set_mark(c.row, at);
    }
}

/* The batch's own version, made at its first change. */
static struct version *
own_version(struct txn *txn)
{
    struct batch *batch = txn->batch;
    if (!batch->forked) {
        struct version *own = version_fork(batch->tip);
        version_unpin(batch->tip);
        batch->tip = txn->version = own;
        batch->forked = true;
        version_pin(own); /* For the arena's sake, as txn_init. */
        arena_defer(txn->arena, version_unpin, own);
    }
    return txn->version;
}

static bool
change_hot(struct txn *txn, const struct table *table, enum table_op op,
           const void *row, struct err *err)
{
    const void *old = NULL;
    if (op == TABLE_DELETE) {
        old = version_del(own_version(txn), table, row);
        if (old) {
            note_change(txn, (struct change){table, old, true, false}, old);
            VEC_PUSH(&txn->back, ((struct step_back){table, NULL, old}));
        }
        return true;
    }
    if ((op == TABLE_INSERT && version_get(txn->version, table, row)) ||
        version_rival(txn->version, table, row)) {
        return table_taken(table, row, err);
    }
    const void *fresh = version_put(own_version(txn), table, row, &old);
    note_change(txn, (struct change){table, fresh, false, false}, old);
    VEC_PUSH(&txn->back, ((struct step_back){table, fresh, old}));
    return true;
}

/* At once where the transaction has begun, or the answer must be known. */
static bool
change_cold(struct txn *txn, const struct table *table, enum table_op op,
            const void *row, struct err *err)
{
    struct session *session;
    struct change c = {.table = table, .deleted = op == TABLE_DELETE};
    if (txn->began || !session_may_post(table, op)) {
        if (!txn_session(txn, &session, err) ||
            !session_change(session, table, op, row, txn->arena, err)) {
            return false;
        }
        c.sent = true;
    }
    c.row = desc_copy(table->type->desc, row, txn->arena);
    VEC_PUSH(&txn->changes, c);
    return true;
}

static bool
change(struct txn *txn, const struct table *table, enum table_op op, const void *row,
       struct err *err)
{
    if (!txn->writable) {
        return err_set(err, ERR_INVALID, "a write to %s in a transaction that reads",
                       table->type->name);
    }
    if (op != TABLE_DELETE && !row_may_seal(table, &txn->store->vault, row, err)) {
        return false;
    }
    return table->hot ? change_hot(txn, table, op, row, err)
                      : change_cold(txn, table, op, row, err);
}

/* Hands out 'rows' of those that are left. */
static bool
spend(struct txn *txn, size_t rows, struct err *err)
{
    if (!txn->brief) {
        return true;
    }
    if (txn->spent || rows > txn->left) {
        txn->spent = true;
        return err_set(err, ERR_BUSY, "a transaction reads more than it may");
    }
    txn->left -= rows;
    return true;
}

bool
row_get(struct txn *txn, const struct row_type *type, const void *key, const void **out,
        struct err *err)
{
    const struct table *table = table_of(txn, type, err);
    return table && spend(txn, 1, err) && get(txn, table, key, out, err);
}

bool
row_insert(struct txn *txn, const struct row_type *type, const void *row,
           struct err *err)
{
    const struct table *table = table_of(txn, type, err);
    return table && change(txn, table, TABLE_INSERT, row, err);
}

bool
row_put(struct txn *txn, const struct row_type *type, const void *row, struct err *err)
{
    const struct table *table = table_of(txn, type, err);
    return table && change(txn, table, TABLE_PUT, row, err);
}

bool
row_delete(struct txn *txn, const struct row_type *type, const void *key,
           struct err *err)
{
    const struct table *table = table_of(txn, type, err);
    return table && change(txn, table, TABLE_DELETE, key, err);
}

static bool
list_hot(struct txn *txn, const struct table *table, const struct row_query *query,
         struct row_list *out, struct err *err)
{
    struct row_query few = *query;
    struct row_list list;
    if (txn->brief && (!few.limit || few.limit > txn->left)) {
        few.limit = txn->left + 1; /* One tells of more. */
    }
    version_list(txn->version, table, &few, txn->arena, &list);
    if (!spend(txn, list.count, err)) {
        return false;
    }
    *out = list;
    return true;
}

bool
row_list(struct txn *txn, const struct row_type *type, const struct row_query *query,
         struct row_list *out, struct err *err)
{
    const struct table *table = table_of(txn, type, err);
    if (!table) {
        return false;
    }
    const struct order *order = table_order(table, query->index);
    if (!order || query->prefix_fields > order->count) {
        return err_set(err, ERR_INVALID, "table %s has no index %s over %u fields",
                       type->name, query->index ? query->index : "of its key",
                       query->prefix_fields);
    }
    if (table->hot) {
        return list_hot(txn, table, query, out, err);
    }
    struct session *session;
    return txn_session(txn, &session, err) &&
           session_list(session, table, query, txn->arena, out, err);
}

bool
txn_next(struct txn *txn, const char *name, int64_t *out, struct err *err)
{
    const struct table *counters = store_counters(txn->store);
    struct own_store_counter row = {.name = name};
    const void *found;
    if (!get(txn, counters, &row, &found, err)) {
        return false;
    }
    row.value = found ? ((const struct own_store_counter *)found)->value : 0;
    row.value++;
    if (!change(txn, counters, TABLE_PUT, &row, err)) {
        return false;
    }
    *out = row.value;
    return true;
}
