/* session.h - one connection with its prepared statements, as rows.
 *
 * Place:    inside store/ only.
 * Owner:    the store: one for the writer, a few for reads of what is not in memory.
 * Threads:  one at a time. */
#pragma once
#include "store/codec.h"

struct session {
    struct sql_conn *conn;
    const struct vault *vault;
    struct sql_stmt **stmts; /* By table id and enum table_op; made when first used. */
    size_t stmt_count;
    struct map *lists; /* By their SQL. */
    struct session *next;
};

MUST_CHECK struct session *session_open(const struct sql_driver *driver,
                                        const char *where, size_t table_count,
                                        const struct vault *vault, struct err *err);
void session_close(struct session *session); /* NULL is a no-op. */
AUTO_DEFINE(session, struct session *, session_close)

bool session_exec(struct session *session, const char *sql, struct err *err);
bool session_post(struct session *session, const char *sql, struct err *err);
/* The prepared statement for 'sql', kept by the session. NULL on failure. */
MUST_CHECK struct sql_stmt *session_statement(struct session *session, const char *sql,
                                              struct err *err);

/* '*out' is NULL when there is none. */
MUST_CHECK bool session_get(struct session *session, const struct table *table,
                            const void *key, struct arena *arena, const void **out,
                            struct err *err);
/* Those of 'count' rows that there are, in no order. 'count' is at most
 * SESSION_MANY_MAX. */
#define SESSION_MANY_MAX 32
MUST_CHECK bool session_get_many(struct session *session, const struct table *table,
                                 const void *const *keys, size_t count,
                                 struct arena *arena, struct row_list *out,
                                 struct err *err);
/* TABLE_INSERT: ERR_EXISTS when a key is taken. TABLE_DELETE: 'row' gives the key. What
 * can only fail with the database itself is posted (sql.h). */
MUST_CHECK bool session_change(struct session *session, const struct table *table,
                               enum table_op op, const void *row, struct arena *scratch,
                               struct err *err);
/* Whether rows of a table are best put together, with session_put_many. */
bool session_puts_many(const struct session *session);
/* TABLE_PUT for 'count' rows, of which no two have the same key; posted. Only where
 * session_may_post says so of one. */
MUST_CHECK bool session_put_many(struct session *session, const struct table *table,
                                 const void *const *rows, size_t count,
                                 struct arena *scratch, struct err *err);
/* Whether a change of this kind is posted: nothing is known of it before the commit. */
bool session_may_post(const struct table *table, enum table_op op);
MUST_CHECK bool session_list(struct session *session, const struct table *table,
                             const struct row_query *query, struct arena *arena,
                             struct row_list *out, struct err *err);
/* Every row, in no order; each lives until 'fn' returns. */
typedef bool session_row_fn(void *ctx, const struct table *table, const void *row,
                            struct err *err);
MUST_CHECK bool session_scan(struct session *session, const struct table *table,
                             session_row_fn *fn, void *ctx, struct err *err);
