/* sql.h - the dialect layer: what the store needs of a database, as a struct of hooks.
 *
 * Purpose:  SQLite and PostgreSQL behind one door. Statements are written once, in SQL
 * that both understand: "quoted" names, parameters $1, $2, ... in order of their first
 *           appearance, ON CONFLICT, row values, LIMIT. What differs is a member here.
 * Place:    inside store/ only.
 * Owner:    whoever opened a connection; its statements end before it does.
 * Threads:  a connection and its statements belong to one thread at a time.
 * Failure:  ERR_CONFLICT: run the transaction again; ERR_EXISTS: a key is taken;
 *           ERR_GONE: the connection is lost, and what it had begun rolled back, but
 *           that a commit may have been done; ERR_DENIED, ERR_NO_SPACE, ERR_CORRUPT,
 *           ERR_SYSTEM. */
#pragma once
#include "base/buf.h"

enum sql_kind { SQL_NULL, SQL_INT, SQL_F64, SQL_TEXT, SQL_BLOB };

/* A parameter or a column. 'data' is borrowed: of a column, until the next step. */
struct sql_value {
    enum sql_kind kind;
    int64_t number;
    double real;
    const void *data;
    size_t len;
};

struct sql_conn {
    const struct sql_driver *driver;
};

struct sql_stmt; /* The driver's own. */

typedef void sql_name_fn(void *ctx, const char *name);

struct sql_driver {
    const char *scheme; /* How its URLs begin. */
    bool shared;        /* Other processes write too (changelog.h). */
    const char *int_type, *real_type, *text_type, *blob_type;
    const char *begin_read, *begin_write;
    const char *begin_shape; /* For who changes tables: one at a time. */

    /* 'where': the URL after the scheme. */
    struct sql_conn *(*open)(const char *where, struct err *err);
    void (*close)(struct sql_conn *conn);
    /* False once nothing more can come of it: close it and open another. */
    bool (*alive)(const struct sql_conn *conn);
    bool (*exec)(struct sql_conn *conn, const char *sql, struct err *err);
    /* NULL where a commit ends when it is on the disk. Else put_off lets this connection's
     * end before that, and sync, from any thread, brings there all that ended before the
     * call. Whatever is lost without it are the last of them. */
    bool (*put_off)(struct sql_conn *conn, struct err *err);
    bool (*sync)(struct sql_conn *conn, struct err *err);
    /* One statement, without a wait where the database is far: what goes wrong then is
     * told by a later call, and in_transaction is false from there on. */
    bool (*post)(struct sql_conn *conn, const char *sql, struct err *err);
    struct sql_stmt *(*prepare)(struct sql_conn *conn, const char *sql,
                                struct err *err);
    void (*finish)(struct sql_stmt *stmt);
    /* Binds by position and is ready to step. Ended by reset. */
    bool (*start)(struct sql_stmt *stmt, const struct sql_value *params, size_t count,
                  struct err *err);
    /* start, step and reset of a statement without rows, as post. */
    bool (*send)(struct sql_stmt *stmt, const struct sql_value *params, size_t count,
                 struct err *err);
    /* NULL where many rows are best put one by one. Else: what stands in place of VALUES
     * in an INSERT of as many rows as come, of columns of these kinds; and send for such a
     * statement, with the columns of one row after those of the other. */
    void (*put_source)(const enum sql_kind *kinds, unsigned columns, struct buf *out);
    bool (*send_many)(struct sql_stmt *stmt, const enum sql_kind *kinds,
                      unsigned columns, const struct sql_value *values, size_t rows,
                      struct err *err);
    bool (*step)(struct sql_stmt *stmt, bool *out_row, struct err *err);
    void (*column)(struct sql_stmt *stmt, unsigned i, struct sql_value *out);
    void (*reset)(struct sql_stmt *stmt);
    /* False after an error (a full disk) that made the database roll all of it back. */
    bool (*in_transaction)(struct sql_conn *conn);
    /* Rows that the last statement changed; of one that was stepped. */
    int64_t (*changes)(struct sql_conn *conn);
    /* Calls 'fn' with each column of a table; none when there is no such table. */
    bool (*columns)(struct sql_conn *conn, const char *table, sql_name_fn *fn,
                    void *ctx, struct err *err);
    /* Only of files. */
    bool (*backup)(struct sql_conn *conn, const char *path, struct err *err);
    /* Only of shared ones. listen subscribes to what is posted as NOTIFY 'channel'; await
     * returns when some came with another text than 'own', 'wake_fd' is readable, or
     * 'timeout_ms' are over. */
    bool (*listen)(struct sql_conn *conn, const char *channel, struct err *err);
    bool (*await)(struct sql_conn *conn, const char *own, int wake_fd, int timeout_ms,
                  struct err *err);
};

extern const struct sql_driver sql_sqlite, sql_postgres;

static inline struct sql_value
sql_int(int64_t v)
{
    return (struct sql_value){.kind = SQL_INT, .number = v};
}

static inline struct sql_value
sql_text(const char *s)
{
    return (struct sql_value){
        .kind = s ? SQL_TEXT : SQL_NULL, .data = s, .len = s ? strlen(s) : 0};
}

static inline struct sql_value
sql_blob(const void *p, size_t len)
{
    return (struct sql_value){.kind = p ? SQL_BLOB : SQL_NULL, .data = p, .len = len};
}
