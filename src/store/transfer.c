/* transfer.c - see transfer.h. */
#include "store/transfer.h"
#include "base/crypto.h"
#include "base/jsonio.h"
#include "store/changelog.h"
#include "store/inside.h"
#include <nettle/sha2.h>

/* Rows of one table, as a number and a digest. */
struct tally {
    int64_t rows;
    char sha256[SHA256_HEX_LEN];
};

/* ---- digests --------------------------------------------------------------------- */

/* As PostgreSQL has it, which takes only UTF-8 (sql_postgres.c, repair_text). */
static void
digest_text(struct sha256_ctx *sha, const struct sql_value *v)
{
    const unsigned char *p = v->data;
    for (size_t i = 0, n; i < v->len; i += MAX(n, 1)) {
        n = p[i] ? json_utf8_len(p + i, v->len - i) : 0;
        sha256_update(sha, n ? n : 3, n ? p + i : (const uint8_t *)"\xef\xbf\xbd");
    }
}

static void
digest_value(struct sha256_ctx *sha, const struct sql_value *v)
{
    char head[48];
    int n = snprintf(head, sizeof head, "%d:%zu:", v->kind, v->len);
    if (v->kind == SQL_INT) {
        n = snprintf(head, sizeof head, "i%" PRId64 ";", v->number);
    } else if (v->kind == SQL_F64) {
        n = snprintf(head, sizeof head, "f%a;", v->real);
    } else if (v->kind == SQL_TEXT) {
        n = snprintf(head, sizeof head, "t");
    }
    sha256_update(sha, (size_t)n, (const uint8_t *)head);
    if (v->kind == SQL_TEXT) {
        digest_text(sha, v);
        sha256_update(sha, 1, (const uint8_t *)"");
    } else if (v->kind == SQL_BLOB) {
        sha256_update(sha, v->len, v->data);
    }
}

/* ---- rows ------------------------------------------------------------------------ */

/* Every row of the table in the order of its key: counted, and sent on when 'put' is not
 * NULL. */
static bool
read_table(struct session *session, const struct table *table, struct sql_stmt *put,
           const struct sql_driver *put_driver, struct tally *out, struct err *err)
{
    const struct sql_driver *driver = session->conn->driver;
    const size_t columns = table->type->desc->field_count;
    AUTO(arena) struct arena *arena = arena_create();
    struct sql_value *values = ARENA_ARRAY(arena, columns, struct sql_value);
    AUTO(buf) struct buf sql = {0};
    struct sha256_ctx sha;
    struct tally tally = {0};
    bool row = false;
    table_ordered_sql(table, &sql);
    struct sql_stmt *stmt = session_statement(session, buf_str(&sql), err);
    bool ok = stmt && driver->start(stmt, NULL, 0, err);
    sha256_init(&sha);
    while (ok && (ok = driver->step(stmt, &row, err)) && row) {
        for (unsigned i = 0; i < columns; i++) {
            driver->column(stmt, i, &values[i]);
            digest_value(&sha, &values[i]);
        }
        tally.rows++;
        ok = !put || put_driver->send(put, values, columns, err);
    }
    if (stmt) {
        driver->reset(stmt);
    }
    if (!ok) {
        return false;
    }
    uint8_t digest[SHA256_LEN];
    sha256_digest(&sha, sizeof digest, digest);
    hex_encode(digest, sizeof digest, tally.sha256);
    *out = tally;
    return true;
}

static bool
copy_table(struct session *from, struct session *to, const struct table *table,
           struct tally *out, struct err *err)
{
    const struct sql_driver *driver = to->conn->driver;
    struct tally there;
    struct sql_stmt *put = driver->prepare(to->conn, table->sql[TABLE_PUT], err);
    bool ok = put && read_table(from, table, put, driver, out, err) &&
              read_table(to, table, NULL, NULL, &there, err);
    driver->finish(put);
    if (ok && (there.rows != out->rows || !str_eq(there.sha256, out->sha256))) {
        return err_set(err, ERR_CORRUPT,
                       "%" PRId64 " rows were read, and %" PRId64
                       " others came out: nothing was copied",
                       out->rows, there.rows);
    }
    return ok;
}

/* What each database keeps for itself stays: its version and key's proof, its log. */
static bool
is_copied(const struct store *store, const struct table *table)
{
    return table != store_meta(store) && table != store_log(store);
}

static bool
check_empty(struct store *to, struct session *session, struct err *err)
{
    for (size_t i = 0; i < to->table_count; i++) {
        struct tally tally = {0};
        if (is_copied(to, &to->tables[i]) &&
            !read_table(session, &to->tables[i], NULL, NULL, &tally, err)) {
            return false;
        }
        if (tally.rows > 0) {
            return err_set(err, ERR_EXISTS,
                           "the target has rows already (%s): copy into a new database",
                           to->tables[i].type->name);
        }
    }
    return true;
}

/* ---- all of it ------------------------------------------------------------------- */

static bool
copy_all(struct store *from, struct session *source, struct store *to,
         struct session *target, transfer_fn *tell, void *ctx, struct err *err)
{
    for (size_t i = 0; i < from->table_count; i++) {
        const struct table *table = &from->tables[i];
        struct tally tally;
        if (!is_copied(from, table)) {
            continue;
        }
        if (!copy_table(source, target, &to->tables[i], &tally, err)) {
            return err_wrap(err, "table %s", table->type->name);
        }
        if (tally.rows > 0) {
            tell(ctx, table->type->name, tally.rows, tally.sha256);
        }
    }
    return true;
}

/* Locked against other writers; processes that have it open read everything anew. */
static bool
begin_target(struct session *target, struct err *err)
{
    int64_t head;
    return target->conn->driver->shared
               ? changelog_lock(target, &head, err) && changelog_skip(target, head, err)
               : session_exec(target, target->conn->driver->begin_write, err);
}

bool
store_transfer(struct store *from, struct store *to, transfer_fn *tell, void *ctx,
               struct err *err)
{
    struct err ignored;
    /* Of their own: one that is given back would be used again. */
    AUTO(session)
    struct session *source =
        session_open(from->driver, from->where, from->table_count, &from->vault, err);
    AUTO(session)
    struct session *target =
        !source ? NULL
                : session_open(to->driver, to->where, to->table_count, &to->vault, err);
    bool ok = target && session_exec(source, from->driver->begin_read, err) &&
              begin_target(target, err) && check_empty(to, target, err) &&
              copy_all(from, source, to, target, tell, ctx, err) &&
              session_exec(target, "COMMIT", err);
    if (target && !ok) {
        (void)session_exec(target, "ROLLBACK", &ignored);
    }
    if (source) {
        (void)session_exec(source, "ROLLBACK", &ignored);
    }
    return ok;
}
