/* sql_sqlite.c - the dialect of SQLite: one file, one process, write-ahead log. */
#include "store/checkpoint.h"
#include "store/sql.h"
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>

#define BUSY_WAIT_MS 5000

struct sqlite_conn {
    struct sql_conn base;
    sqlite3 *db;
    struct checkpointer
        *checkpointer; /* Made when the log is long for the first time. */
    int log_fd;        /* To sync it by; -1: commits do. */
};

static sqlite3 *
db_of(struct sql_conn *conn)
{
    return CONTAINER_OF(conn, struct sqlite_conn, base)->db;
}

static sqlite3_stmt *
stmt_of(struct sql_stmt *stmt)
{
    return (sqlite3_stmt *)(void *)stmt;
}

static bool
fail(struct err *err, sqlite3 *db, int rc)
{
    enum err_code code = ERR_SYSTEM;
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        code = ERR_CONFLICT;
        break;
    case SQLITE_CONSTRAINT:
        code = ERR_EXISTS;
        break;
    case SQLITE_FULL:
        code = ERR_NO_SPACE;
        break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        code = ERR_CORRUPT;
        break;
    default:
        break;
    }
    return err_set(err, code, "database: %s",
                   db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
}

static bool
lite_exec(struct sql_conn *conn, const char *sql, struct err *err)
{
    int rc = sqlite3_exec(db_of(conn), sql, NULL, NULL, NULL);
    return rc == SQLITE_OK || fail(err, db_of(conn), rc);
}

static bool
lite_alive(const struct sql_conn *conn UNUSED)
{
    return true;
}

static void
lite_close(struct sql_conn *conn)
{
    struct sqlite_conn *c = CONTAINER_OF(conn, struct sqlite_conn, base);
    checkpoint_stop(c->checkpointer);
    (void)sqlite3_close(c->db);
    auto_fd(&c->log_fd);
    free(c);
}

/* After each commit: the log has 'pages'. Only a connection that writes gets here. */
static int
on_commit(void *ctx, sqlite3 *db, const char *name UNUSED, int pages)
{
    struct sqlite_conn *c = ctx;
    if (pages < CHECKPOINT_PAGES) {
        return SQLITE_OK;
    }
    if (!c->checkpointer) {
        c->checkpointer = checkpoint_start(sqlite3_db_filename(db, NULL));
    }
    if (!c->checkpointer || checkpoint_wanted(c->checkpointer, pages)) {
        (void)sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL,
                                        NULL);
    }
    return SQLITE_OK;
}

static struct sql_conn *
lite_open(const char *where, struct err *err)
{
    struct sqlite_conn *c = xcalloc(1, sizeof *c);
    c->base.driver = &sql_sqlite;
    c->log_fd = -1;
    int rc = sqlite3_open_v2(
        where, &c->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
        NULL);
    bool ok = rc == SQLITE_OK || fail(err, c->db, rc);
    if (ok) {
        (void)sqlite3_busy_timeout(c->db, BUSY_WAIT_MS);
        (void)sqlite3_wal_hook(c->db, on_commit, c);
        /* FULL: the log is on the disk before a commit returns. */
        ok = lite_exec(&c->base,
                       "PRAGMA journal_mode=WAL;"
                       "PRAGMA synchronous=FULL;"
                       "PRAGMA cache_size=-1024;"
                       "PRAGMA journal_size_limit=8388608;",
                       err);
    }
    if (!ok) {
        err_wrap(err, "opening %s", where);
        lite_close(&c->base);
        return NULL;
    }
    return &c->base;
}

/* NORMAL: the log is synced before it is moved, and where it begins anew, so that the
 * database is always whole; a commit only appends to it. What a sync of the file has brought
 * to the disk is found there by checksums, up to the first commit that is not. */
static bool
lite_put_off(struct sql_conn *conn, struct err *err)
{
    struct sqlite_conn *c = CONTAINER_OF(conn, struct sqlite_conn, base);
    const char *path = sqlite3_filename_wal(sqlite3_db_filename(c->db, NULL));
    c->log_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (c->log_fd < 0) {
        return err_sys(err, errno, "opening %s", path);
    }
    return lite_exec(conn, "PRAGMA synchronous=NORMAL", err);
}

static bool
lite_sync(struct sql_conn *conn, struct err *err)
{
    struct sqlite_conn *c = CONTAINER_OF(conn, struct sqlite_conn, base);
    return fdatasync(c->log_fd) == 0 ||
           err_sys(err, errno, "syncing the database's log");
}

static struct sql_stmt *
lite_prepare(struct sql_conn *conn, const char *sql, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v3(db_of(conn), sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt,
                                NULL);
    if (rc != SQLITE_OK) {
        fail(err, db_of(conn), rc);
        return NULL;
    }
    return (struct sql_stmt *)(void *)stmt;
}

static void
lite_finish(struct sql_stmt *stmt)
{
    (void)sqlite3_finalize(stmt_of(stmt));
}

static int
bind(sqlite3_stmt *stmt, int at, const struct sql_value *v)
{
    switch (v->kind) {
    case SQL_INT:
        return sqlite3_bind_int64(stmt, at, v->number);
    case SQL_F64:
        return sqlite3_bind_double(stmt, at, v->real);
    case SQL_TEXT:
        return sqlite3_bind_text64(stmt, at, v->data, v->len, SQLITE_STATIC,
                                   SQLITE_UTF8);
    case SQL_BLOB:
        return sqlite3_bind_blob64(stmt, at, v->data, v->len, SQLITE_STATIC);
    case SQL_NULL:
        break;
    }
    return sqlite3_bind_null(stmt, at);
}

static bool
lite_start(struct sql_stmt *stmt, const struct sql_value *params, size_t count,
           struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        int rc = bind(stmt_of(stmt), (int)i + 1, &params[i]);
        if (rc != SQLITE_OK) {
            return fail(err, sqlite3_db_handle(stmt_of(stmt)), rc);
        }
    }
    return true;
}

static bool
lite_step(struct sql_stmt *stmt, bool *out_row, struct err *err)
{
    int rc = sqlite3_step(stmt_of(stmt));
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        return fail(err, sqlite3_db_handle(stmt_of(stmt)), rc);
    }
    *out_row = rc == SQLITE_ROW;
    return true;
}

static void
lite_reset(struct sql_stmt *stmt)
{
    (void)sqlite3_reset(stmt_of(stmt));
    (void)sqlite3_clear_bindings(stmt_of(stmt));
}

static bool
lite_send(struct sql_stmt *stmt, const struct sql_value *params, size_t count,
          struct err *err)
{
    bool row;
    bool ok = lite_start(stmt, params, count, err) && lite_step(stmt, &row, err);
    lite_reset(stmt);
    return ok;
}

static void
lite_column(struct sql_stmt *stmt, unsigned i, struct sql_value *out)
{
    sqlite3_stmt *s = stmt_of(stmt);
    int at = (int)i;
    switch (sqlite3_column_type(s, at)) {
    case SQLITE_INTEGER:
        *out = sql_int(sqlite3_column_int64(s, at));
        break;
    case SQLITE_FLOAT:
        *out =
            (struct sql_value){.kind = SQL_F64, .real = sqlite3_column_double(s, at)};
        break;
    case SQLITE_TEXT:
        *out = (struct sql_value){.kind = SQL_TEXT, .data = sqlite3_column_text(s, at)};
        out->len = (size_t)sqlite3_column_bytes(s, at);
        break;
    case SQLITE_BLOB: {
        const void *p = sqlite3_column_blob(s, at); /* NULL when it has no bytes. */
        *out = sql_blob(p ? p : "", (size_t)sqlite3_column_bytes(s, at));
        break;
    }
    default:
        *out = (struct sql_value){.kind = SQL_NULL};
    }
}

static bool
lite_in_transaction(struct sql_conn *conn)
{
    return !sqlite3_get_autocommit(db_of(conn));
}

static int64_t
lite_changes(struct sql_conn *conn)
{
    return sqlite3_changes64(db_of(conn));
}

static bool
lite_columns(struct sql_conn *conn, const char *table, sql_name_fn *fn, void *ctx,
             struct err *err)
{
    struct sql_stmt *stmt =
        lite_prepare(conn, "SELECT name FROM pragma_table_info($1)", err);
    struct sql_value param = sql_text(table), name;
    bool row = false;
    bool ok = stmt && lite_start(stmt, &param, 1, err);
    while (ok && (ok = lite_step(stmt, &row, err)) && row) {
        lite_column(stmt, 0, &name);
        fn(ctx, name.data);
    }
    lite_finish(stmt);
    return ok;
}

/* The copy is made beside its place, synced, and moved there whole. */
static bool
lite_backup(struct sql_conn *conn, const char *path, struct err *err)
{
    AUTO(free) char *part = xasprintf("%s.part", path);
    (void)unlink(part);
    struct sql_stmt *stmt = lite_prepare(conn, "VACUUM INTO $1", err);
    struct sql_value param = sql_text(part);
    bool row;
    bool ok = stmt && lite_start(stmt, &param, 1, err) && lite_step(stmt, &row, err);
    lite_finish(stmt);
    AUTO(fd) int fd = ok ? open(part, O_RDWR | O_CLOEXEC) : -1;
    if (ok && (fd < 0 || fchmod(fd, 0600) != 0 || fsync(fd) != 0 ||
               rename(part, path) != 0)) {
        ok = err_sys(err, errno, "writing %s", path);
    }
    if (!ok) {
        (void)unlink(part);
    }
    return ok;
}

const struct sql_driver sql_sqlite = {
    .scheme = "sqlite:",
    .int_type = "BIGINT",
    .real_type = "DOUBLE PRECISION",
    .text_type = "TEXT",
    .blob_type = "BLOB",
    .begin_read = "BEGIN",
    .begin_write = "BEGIN IMMEDIATE",
    .begin_shape = "BEGIN IMMEDIATE",
    .open = lite_open,
    .close = lite_close,
    .alive = lite_alive,
    .exec = lite_exec,
    .put_off = lite_put_off,
    .sync = lite_sync,
    .post = lite_exec,
    .prepare = lite_prepare,
    .finish = lite_finish,
    .start = lite_start,
    .send = lite_send,
    .step = lite_step,
    .column = lite_column,
    .reset = lite_reset,
    .in_transaction = lite_in_transaction,
    .changes = lite_changes,
    .columns = lite_columns,
    .backup = lite_backup,
};
