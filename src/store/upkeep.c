/* upkeep.c - copies of the database, and a new master key for its secrets. */
#include "store/inside.h"
#include <errno.h>

#define REKEY_ROWS 200

bool
store_copy(const char *from, const char *path, struct err *err)
{
    if (access(from, R_OK) != 0) {
        return err_sys(err, errno, "open %s", from);
    }
    struct sql_conn *conn = sql_sqlite.open(from, err);
    if (!conn) {
        return false;
    }
    bool ok = sql_sqlite.backup(conn, path, err);
    sql_sqlite.close(conn);
    return ok || err_wrap(err, "backup of %s to %s", from, path);
}

struct rekey {
    struct vault vault; /* With the new key. */
};

/* Reads a page of rows under the old key and writes it back under the new one. */
static bool
rekey_page(struct session *session, const struct table *table,
           const struct vault *fresh, struct arena *arena, const void **last,
           struct err *err)
{
    struct row_query query = {.after = *last, .limit = REKEY_ROWS};
    const struct vault *old = session->vault;
    struct row_list rows;
    if (!session_list(session, table, &query, arena, &rows, err)) {
        return false;
    }
    session->vault = fresh;
    bool ok = true;
    for (size_t i = 0; ok && i < rows.count; i++) {
        ok = session_change(session, table, TABLE_PUT, rows.rows[i], arena, err);
    }
    session->vault = old;
    *last = rows.count == REKEY_ROWS ? rows.rows[rows.count - 1] : NULL;
    return ok;
}

/* Pages alternate between two arenas: a page begins after the last row of the one
 * before. */
static bool
rekey_table(struct session *session, const struct table *table,
            const struct vault *fresh, struct err *err)
{
    AUTO(arena) struct arena *here = arena_create();
    AUTO(arena) struct arena *before = arena_create();
    const void *last = NULL;
    do {
        struct arena *swap = here;
        here = before;
        before = swap;
        arena_reset(here);
        if (!rekey_page(session, table, fresh, here, &last, err)) {
            return false;
        }
    } while (last);
    return true;
}

static bool
rekey_run(struct txn *txn, void *ctx, struct err *err)
{
    const struct rekey *rekey = ctx;
    struct session *session;
    if (!txn_session(txn, &session, err)) {
        return false;
    }
    txn->batch->changed = true; /* By the session, past the transaction's own changes. */
    for (size_t i = 0; i < txn->store->table_count; i++) {
        const struct table *table = &txn->store->tables[i];
        if (table->secret && !rekey_table(session, table, &rekey->vault, err)) {
            return false;
        }
    }
    return true;
}

static void
rekey_committed(struct store *store, void *ctx)
{
    store->vault = ((struct rekey *)ctx)->vault;
}

bool
store_rekey(struct store *store, const uint8_t new_key[32], struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct rekey rekey = {.vault = {.has_key = true, .rng = store->vault.rng}};
    memcpy(rekey.vault.key, new_key, sizeof rekey.vault.key);
    struct request r = {.fn = rekey_run,
                        .ctx = &rekey,
                        .arena = arena,
                        .alone = true,
                        .committed = rekey_committed};
    bool ok = writer_run(store, &r, err);
    explicit_bzero(&rekey, sizeof rekey);
    return ok;
}
