/* postgres_conn.c - see postgres_conn.h. */
#include "store/postgres_conn.h"
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#define PATIENCE_MS 20000
#define OLDEST_SERVER 130000

/* ---- errors ---------------------------------------------------------------------- */

static const struct {
    const char *state; /* SQLSTATE, or the class that it begins with. */
    enum err_code code;
} states[] = {
    {"40", ERR_CONFLICT},     /* serialization_failure, deadlock_detected */
    {"55P03", ERR_CONFLICT},  /* lock_not_available: lock_timeout */
    {"22012", ERR_CONFLICT},  /* division_by_zero: changelog_expect */
    {"23505", ERR_EXISTS},    /* unique_violation */
    {"53100", ERR_NO_SPACE},  /* disk_full */
    {"53", ERR_GONE},         /* too many connections, out of memory */
    {"57P", ERR_GONE},        /* shutdown, or terminated by an administrator */
    {"25P03", ERR_GONE},      /* idle_in_transaction_session_timeout */
    {"25006", ERR_GONE},      /* read_only_sql_transaction: not the primary any more */
    {"08", ERR_GONE},         /* connection exceptions */
    {"28", ERR_DENIED},       /* who are you? */
    {"42501", ERR_DENIED},    /* insufficient_privilege */
    {"3D000", ERR_NOT_FOUND}, /* no such database */
    {"XX", ERR_CORRUPT},
};

/* libpq's messages end with a line break, and may have several. */
static bool
set_message(struct err *err, enum err_code code, const char *message)
{
    err_set(err, code, "database: %s", str_empty(message) ? "no answer" : message);
    for (char *c = err->msg; *c; c++) {
        if (*c == '\n') {
            *c = c[1] ? ' ' : '\0';
        }
    }
    return false;
}

bool
pg_fail(struct pg_conn *c, const PGresult *result, struct err *err)
{
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    enum err_code code = ERR_SYSTEM;
    for (size_t i = 0; state && i < ARRAY_LEN(states); i++) {
        if (str_starts(state, states[i].state)) {
            code = states[i].code;
            break;
        }
    }
    if (PQstatus(c->pg) != CONNECTION_OK && code != ERR_DENIED) {
        code = ERR_GONE;
    }
    c->gone |= code == ERR_GONE;
    const char *message =
        result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    return set_message(err, code, message ? message : PQerrorMessage(c->pg));
}

/* ---- results --------------------------------------------------------------------- */

int64_t
pg_mono_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

void
pg_give_up(struct pg_conn *c)
{
    int fd = PQsocket(c->pg);
    if (fd >= 0) {
        (void)shutdown(fd, SHUT_RDWR);
    }
    (void)PQconsumeInput(c->pg);
}

bool
pg_wait(struct pg_conn *c, struct err *err)
{
    int64_t end = pg_mono_ms() + PATIENCE_MS;
    while (PQisBusy(c->pg)) {
        struct pollfd p = {.fd = PQsocket(c->pg), .events = POLLIN};
        int64_t left = end - pg_mono_ms();
        int n = left > 0 ? poll(&p, 1, (int)left) : 0;
        if (n == 0) {
            pg_give_up(c);
            return err_set(err, ERR_GONE, "database: no answer within %d s",
                           PATIENCE_MS / 1000);
        }
        if ((n < 0 && errno != EINTR) || !PQconsumeInput(c->pg)) {
            return pg_fail(c, NULL, err);
        }
    }
    return true;
}

bool
pg_is_error(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    return status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK &&
           status != PGRES_SINGLE_TUPLE && status != PGRES_PIPELINE_SYNC;
}

/* A COMMIT that the server turned into a ROLLBACK succeeds as a statement. */
static bool
check_commit(struct pg_conn *c, const char *sql, PGresult *result, struct err *err)
{
    bool lost = sql && str_eq(sql, "COMMIT") && !str_eq(PQcmdStatus(result), sql);
    c->failed = c->failed || lost;
    return !lost ||
           err_set(err, ERR_CONFLICT, "database: the transaction was rolled back");
}

static bool
take_results(struct pg_conn *c, const char *last, struct err *err)
{
    bool ok = true;
    struct err second;
    for (unsigned left = c->queued; left > 0;) {
        struct err *why = ok ? err : &second;
        if (!pg_wait(c, why)) {
            return false;
        }
        PGresult *result = PQgetResult(c->pg);
        if (!result) {
            left--; /* Each statement's results end so. */
            if (PQstatus(c->pg) != CONNECTION_OK) {
                return pg_fail(c, NULL, why);
            }
            continue;
        }
        ok = (pg_is_error(result)
                  ? pg_fail(c, result, why)
                  : check_commit(c, left == 1 ? last : NULL, result, why)) &&
             ok;
        PQclear(result);
    }
    return ok;
}

bool
pg_take_queued(struct pg_conn *c, const char *last, struct err *err)
{
    bool ok = take_results(c, last, err);
    for (size_t i = 0; !ok && i < c->fresh.count; i++) {
        c->fresh.items[i][0] = '\0'; /* Perhaps prepared, perhaps skipped. */
    }
    c->fresh.count = 0;
    return ok;
}

bool
pg_end_pipeline(struct pg_conn *c, struct err *err)
{
    c->queued = 0;
    if (!pg_wait(c, err)) {
        return false;
    }
    PGresult *mark = PQgetResult(c->pg);
    bool ok = mark && PQresultStatus(mark) == PGRES_PIPELINE_SYNC &&
              PQexitPipelineMode(c->pg) == 1;
    PQclear(mark);
    if (!ok) {
        pg_give_up(c);
        return set_message(err, ERR_GONE, PQerrorMessage(c->pg));
    }
    return true;
}

bool
pg_settle(struct pg_conn *c, const char *last, struct err *err)
{
    if (!c->queued) {
        return true;
    }
    struct err second;
    bool ok = (PQpipelineSync(c->pg) == 1 || pg_fail(c, NULL, err)) &&
              pg_take_queued(c, last, err);
    if (PQstatus(c->pg) == CONNECTION_OK && !pg_end_pipeline(c, ok ? err : &second)) {
        ok = false;
    }
    c->queued = 0;
    c->failed = c->failed || !ok;
    return ok;
}

bool
pg_enter_pipeline(struct pg_conn *c, struct err *err)
{
    return c->queued || PQenterPipelineMode(c->pg) == 1 || pg_fail(c, NULL, err);
}

bool
pg_post(struct sql_conn *conn, const char *sql, struct err *err)
{
    struct pg_conn *c = pg_conn_of(conn);
    if (!pg_enter_pipeline(c, err)) {
        return false;
    }
    if (PQsendQueryParams(c->pg, sql, 0, NULL, NULL, NULL, NULL, 1) != 1) {
        return pg_fail(c, NULL, err);
    }
    c->queued++;
    return true;
}

bool
pg_exec(struct sql_conn *conn, const char *sql, struct err *err)
{
    struct pg_conn *c = pg_conn_of(conn);
    bool back = strcmp(sql, "ROLLBACK") == 0;
    if (c->queued && !back) {
        return pg_post(conn, sql, err) && pg_settle(c, sql, err);
    }
    struct err ignored;
    (void)!pg_settle(c, NULL, &ignored);
    bool ok = PQsendQuery(c->pg, sql) == 1 || pg_fail(c, NULL, err);
    while (ok && (ok = pg_wait(c, err))) {
        PGresult *result = PQgetResult(c->pg);
        if (!result) {
            break;
        }
        ok = pg_is_error(result) ? pg_fail(c, result, err)
                                 : check_commit(c, sql, result, err);
        PQclear(result);
        while (!ok && (result = PQgetResult(c->pg)) != NULL) {
            PQclear(result);
        }
    }
    c->failed = c->failed && !(ok && back);
    return ok;
}

/* ---- life ------------------------------------------------------------------------ */

static void
ignore_notice(void *ctx UNUSED, const char *message UNUSED)
{
}

void
pg_close(struct sql_conn *conn)
{
    struct pg_conn *c = pg_conn_of(conn);
    PQfinish(c->pg);
    VEC_FREE(&c->fresh);
    free(c);
}

static bool
prepare_conn(struct pg_conn *c, struct err *err)
{
    if (PQstatus(c->pg) != CONNECTION_OK) {
        return set_message(err, ERR_GONE, PQerrorMessage(c->pg));
    }
    const char *encoding = PQparameterStatus(c->pg, "server_encoding");
    if (PQserverVersion(c->pg) < OLDEST_SERVER || !str_eq(encoding, "UTF8")) {
        return err_set(err, ERR_UNSUPPORTED,
                       "database: a server of version %d with encoding %s; needed are "
                       "%d or later and UTF8",
                       PQserverVersion(c->pg) / 10000, encoding, OLDEST_SERVER / 10000);
    }
    (void)PQsetNoticeProcessor(c->pg, ignore_notice, NULL);
    /* What is acknowledged is on the disk, whatever the server's own default is. */
    return pg_exec(&c->base,
                   "SELECT set_config('synchronous_commit', 'on', false)"
                   " WHERE current_setting('synchronous_commit') = 'off';"
                   "SET idle_in_transaction_session_timeout = '10s';"
                   "SET lock_timeout = '15s'",
                   err);
}

struct sql_conn *
pg_open(const char *where, struct err *err)
{
    AUTO(free) char *url = xasprintf("%s%s", sql_postgres.scheme, where);
    /* What comes after dbname has the last word; the URL overrides what comes before. */
    const char *const keys[] = {"fallback_application_name",
                                "connect_timeout",
                                "tcp_user_timeout",
                                "keepalives_idle",
                                "dbname",
                                "client_encoding",
                                NULL};
    const char *const values[] = {"moln", "5", "10000", "10", url, "UTF8", NULL};
    struct pg_conn *c = xcalloc(1, sizeof *c);
    c->base.driver = &sql_postgres;
    c->pg = PQconnectdbParams(keys, values, 1);
    if (!prepare_conn(c, err)) {
        pg_close(&c->base);
        return NULL;
    }
    return &c->base;
}

bool
pg_alive(const struct sql_conn *conn)
{
    const struct pg_conn *c =
        CONTAINER_OF((struct sql_conn *)(uintptr_t)conn, struct pg_conn, base);
    return PQstatus(c->pg) == CONNECTION_OK && !c->failed && !c->gone;
}

bool
pg_in_transaction(struct sql_conn *conn)
{
    struct pg_conn *c = pg_conn_of(conn);
    return !c->failed &&
           (c->queued > 0 || PQtransactionStatus(c->pg) == PQTRANS_INTRANS);
}
