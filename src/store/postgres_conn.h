/* postgres_conn.h - one connection to PostgreSQL, and what is under way on it.
 *
 * Purpose:  statements without rows are sent without waiting (libpq's pipeline): a batch of
 *           changes and its COMMIT cost one round trip. What is under way is settled before
 *           anything else runs, and the first error among it is told then; from there on
 *           'failed' says that the transaction is lost.
 * Place:    inside store/, for sql_postgres.c only.
 * Owner:    the session whose connection it is. Threads: one at a time.
 * Failure:  no wait is endless: a server that does not answer within 20 s counts as gone
 *           (ERR_GONE), and a transaction that its own client forgot (a stopped process) is
 *           ended by the server after 10 s, so that its locks do not outlive it for long. */
#pragma once
#include "base/map.h"
#include "store/sql.h"
#include <libpq-fe.h>

struct pg_conn {
    struct sql_conn base;
    PGconn *pg;
    unsigned names;  /* Given to prepared statements so far. */
    unsigned queued; /* Sent, and not settled. */
    /* Names of statements whose preparation is among that. The server skips what comes after
     * an error: then they are emptied, and prepared anew when used again. */
    VEC(char *) fresh;
    bool failed; /* What was sent failed: until ROLLBACK. */
    bool gone;   /* The server has said that this connection ends. */
    int64_t changes;
};

static inline struct pg_conn *
pg_conn_of(struct sql_conn *conn)
{
    return CONTAINER_OF(conn, struct pg_conn, base);
}

/* Members of the driver: see sql.h. */
struct sql_conn *pg_open(const char *where, struct err *err);
void pg_close(struct sql_conn *conn);
bool pg_alive(const struct sql_conn *conn);
bool pg_exec(struct sql_conn *conn, const char *sql, struct err *err);
bool pg_post(struct sql_conn *conn, const char *sql, struct err *err);
bool pg_in_transaction(struct sql_conn *conn);

/* Sets the error of a result; NULL: of the connection itself. */
bool pg_fail(struct pg_conn *c, const PGresult *result, struct err *err);
bool pg_is_error(const PGresult *result);
/* Nothing on this connection counts any more. */
void pg_give_up(struct pg_conn *c);
/* Waits until a result can be had without waiting. */
MUST_CHECK bool pg_wait(struct pg_conn *c, struct err *err);

int64_t pg_mono_ms(void);

MUST_CHECK bool pg_enter_pipeline(struct pg_conn *c, struct err *err);
/* Takes the results of what is queued, up to the pipeline's mark. 'last': the SQL of the
 * last statement, where it matters. */
MUST_CHECK bool pg_take_queued(struct pg_conn *c, const char *last, struct err *err);
/* Takes the mark itself; after it the connection is as it was. */
MUST_CHECK bool pg_end_pipeline(struct pg_conn *c, struct err *err);
/* All of it: sets the mark, takes what comes. */
MUST_CHECK bool pg_settle(struct pg_conn *c, const char *last, struct err *err);
