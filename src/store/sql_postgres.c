/* sql_postgres.c - the dialect of PostgreSQL, through libpq.
 *
 * Statements without rows are sent without waiting (libpq's pipeline): a batch of changes
 * and its COMMIT cost one round trip. What is under way is settled before anything else
 * runs on the connection, and the first error among it is told then; from there on
 * 'failed' says that the transaction is lost.
 *
 * No wait is endless: a server that does not answer within PATIENCE_MS counts as gone, and
 * a transaction that its own client forgot (a stopped process) is ended by the server
 * after IDLE_LIMIT, so that its locks never outlive it for long. */
#include "base/jsonio.h"
#include "store/sql.h"
#include <endian.h>
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#define PATIENCE_MS 20000
#define OLDEST_SERVER 130000
#define PARAMS_MAX 512
#define QUEUE_MAX 2000 /* Statements whose results libpq keeps for us. */

/* Types of columns (catalog/pg_type.dat); everything travels in its binary form. */
enum { OID_BYTEA = 17, OID_INT8 = 20, OID_FLOAT8 = 701 };

struct pg_conn {
    struct sql_conn base;
    PGconn *pg;
    unsigned names;  /* Given to prepared statements so far. */
    unsigned queued; /* Sent, and not settled. */
    bool failed;     /* What was sent failed: until ROLLBACK. */
    bool gone;       /* The server has said that this connection ends. */
    int64_t changes;
};

struct pg_stmt {
    struct pg_conn *conn;
    char *sql;
    char name[16]; /* "": not prepared. */
    PGresult *result;
    int row;       /* In 'result'. */
    bool running;  /* Results are still to come... */
    bool in_queue; /* ...within a pipeline. */
};

static struct pg_conn *
conn_of(struct sql_conn *conn)
{
    return CONTAINER_OF(conn, struct pg_conn, base);
}

static struct pg_stmt *
stmt_of(struct sql_stmt *stmt)
{
    return (struct pg_stmt *)(void *)stmt;
}

/* ---- errors ---------------------------------------------------------------------- */

static const struct {
    const char *state; /* SQLSTATE, or the class that it begins with. */
    enum err_code code;
} states[] = {
    {"40", ERR_CONFLICT},     /* serialization_failure, deadlock_detected */
    {"55P03", ERR_CONFLICT},  /* lock_not_available: lock_timeout */
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

/* 'result' may be NULL: the connection itself failed. */
static bool
fail(struct pg_conn *c, const PGresult *result, struct err *err)
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

static int64_t
mono_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* A server that does not speak any more: nothing on this connection counts. */
static void
give_up(struct pg_conn *c)
{
    int fd = PQsocket(c->pg);
    if (fd >= 0) {
        (void)shutdown(fd, SHUT_RDWR);
    }
    (void)PQconsumeInput(c->pg);
}

/* Waits until a result can be had without waiting. */
static bool
wait_result(struct pg_conn *c, struct err *err)
{
    int64_t end = mono_ms() + PATIENCE_MS;
    while (PQisBusy(c->pg)) {
        struct pollfd p = {.fd = PQsocket(c->pg), .events = POLLIN};
        int64_t left = end - mono_ms();
        int n = left > 0 ? poll(&p, 1, (int)left) : 0;
        if (n == 0) {
            give_up(c);
            return err_set(err, ERR_GONE, "database: no answer within %d s",
                           PATIENCE_MS / 1000);
        }
        if ((n < 0 && errno != EINTR) || !PQconsumeInput(c->pg)) {
            return fail(c, NULL, err);
        }
    }
    return true;
}

static bool
is_error(const PGresult *result)
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

/* Takes the results of what was sent, up to the pipeline's mark. 'last': the SQL of the
 * last statement, where it matters. */
static bool
take_queued(struct pg_conn *c, const char *last, struct err *err)
{
    bool ok = true;
    struct err second;
    for (unsigned left = c->queued; left > 0;) {
        struct err *why = ok ? err : &second;
        if (!wait_result(c, why)) {
            return false;
        }
        PGresult *result = PQgetResult(c->pg);
        if (!result) {
            left--; /* Each statement's results end so. */
            if (PQstatus(c->pg) != CONNECTION_OK) {
                return fail(c, NULL, why);
            }
            continue;
        }
        ok = (is_error(result)
                  ? fail(c, result, why)
                  : check_commit(c, left == 1 ? last : NULL, result, why)) &&
             ok;
        PQclear(result);
    }
    return ok;
}

/* The mark itself; after it the connection is as it was. */
static bool
end_pipeline(struct pg_conn *c, struct err *err)
{
    c->queued = 0;
    if (!wait_result(c, err)) {
        return false;
    }
    PGresult *mark = PQgetResult(c->pg);
    bool ok = mark && PQresultStatus(mark) == PGRES_PIPELINE_SYNC &&
              PQexitPipelineMode(c->pg) == 1;
    PQclear(mark);
    if (!ok) {
        give_up(c);
        return set_message(err, ERR_GONE, PQerrorMessage(c->pg));
    }
    return true;
}

/* Settles what was sent. */
static bool
settle(struct pg_conn *c, const char *last, struct err *err)
{
    if (!c->queued) {
        return true;
    }
    struct err second;
    bool ok =
        (PQpipelineSync(c->pg) == 1 || fail(c, NULL, err)) && take_queued(c, last, err);
    if (PQstatus(c->pg) == CONNECTION_OK && !end_pipeline(c, ok ? err : &second)) {
        ok = false;
    }
    c->queued = 0;
    c->failed = c->failed || !ok;
    return ok;
}

static bool
enter_pipeline(struct pg_conn *c, struct err *err)
{
    return c->queued || PQenterPipelineMode(c->pg) == 1 || fail(c, NULL, err);
}

static bool
pg_post(struct sql_conn *conn, const char *sql, struct err *err)
{
    struct pg_conn *c = conn_of(conn);
    if (!enter_pipeline(c, err)) {
        return false;
    }
    if (PQsendQueryParams(c->pg, sql, 0, NULL, NULL, NULL, NULL, 1) != 1) {
        return fail(c, NULL, err);
    }
    c->queued++;
    return true;
}

static bool
pg_exec(struct sql_conn *conn, const char *sql, struct err *err)
{
    struct pg_conn *c = conn_of(conn);
    bool back = strcmp(sql, "ROLLBACK") == 0;
    if (c->queued && !back) {
        return pg_post(conn, sql, err) && settle(c, sql, err);
    }
    struct err ignored;
    (void)settle(c, NULL, &ignored);
    bool ok = PQsendQuery(c->pg, sql) == 1 || fail(c, NULL, err);
    while (ok && (ok = wait_result(c, err))) {
        PGresult *result = PQgetResult(c->pg);
        if (!result) {
            break;
        }
        ok =
            is_error(result) ? fail(c, result, err) : check_commit(c, sql, result, err);
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

static void
pg_close(struct sql_conn *conn)
{
    struct pg_conn *c = conn_of(conn);
    PQfinish(c->pg);
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

static struct sql_conn *
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

static bool
pg_alive(const struct sql_conn *conn)
{
    const struct pg_conn *c =
        CONTAINER_OF((struct sql_conn *)(uintptr_t)conn, struct pg_conn, base);
    return PQstatus(c->pg) == CONNECTION_OK && !c->failed && !c->gone;
}

static bool
pg_in_transaction(struct sql_conn *conn)
{
    struct pg_conn *c = conn_of(conn);
    return !c->failed &&
           (c->queued > 0 || PQtransactionStatus(c->pg) == PQTRANS_INTRANS);
}

/* ---- statements ------------------------------------------------------------------ */

static struct sql_stmt *
pg_prepare(struct sql_conn *conn, const char *sql, struct err *err UNUSED)
{
    struct pg_stmt *s = xcalloc(1, sizeof *s); /* Prepared when first used. */
    s->conn = conn_of(conn);
    s->sql = xstrdup(sql);
    return (struct sql_stmt *)(void *)s;
}

static void
pg_reset(struct sql_stmt *stmt)
{
    struct pg_stmt *s = stmt_of(stmt);
    struct err ignored;
    PQclear(s->result);
    s->result = NULL;
    while (s->running && wait_result(s->conn, &ignored)) {
        PGresult *rest = PQgetResult(s->conn->pg);
        s->running = rest != NULL;
        PQclear(rest);
    }
    s->running = false;
    if (s->in_queue) {
        s->in_queue = false;
        (void)end_pipeline(s->conn, &ignored);
    }
}

static void
pg_finish(struct sql_stmt *stmt)
{
    struct pg_stmt *s = stmt_of(stmt);
    if (s) {
        PQclear(s->result);
        free(s->sql);
        free(s);
    }
}

/* Text must be UTF-8: what is not is replaced, as in answers to clients. */
static const char *
repair_text(const struct sql_value *v, struct buf *room, size_t *out_len)
{
    const unsigned char *p = v->data;
    size_t i = 0, n;
    while (i < v->len && p[i] && (n = json_utf8_len(p + i, v->len - i)) != 0) {
        i += n;
    }
    if (i == v->len) {
        *out_len = v->len;
        return v->data;
    }
    size_t start = room->len;
    for (i = 0; i < v->len; i += MAX(n, 1)) {
        n = p[i] ? json_utf8_len(p + i, v->len - i) : 0;
        buf_put(room, n ? (const char *)p + i : "\xef\xbf\xbd", n ? n : 3);
    }
    *out_len = room->len - start;
    return NULL; /* At 'start' of the room, which may still move. */
}

struct bound {
    const char *values[PARAMS_MAX];
    int lengths[PARAMS_MAX], formats[PARAMS_MAX];
    uint64_t numbers[PARAMS_MAX];
};

static void
bind_all(struct bound *b, const struct sql_value *params, size_t count,
         struct buf *room)
{
    static const char repaired;
    for (size_t i = 0; i < count; i++) {
        const struct sql_value *v = &params[i];
        size_t len = v->len;
        b->formats[i] = 1;
        b->values[i] = v->data;
        if (v->kind == SQL_INT || v->kind == SQL_F64) {
            uint64_t bits;
            memcpy(&bits, v->kind == SQL_INT ? (const void *)&v->number : &v->real,
                   sizeof bits);
            b->numbers[i] = htobe64(bits);
            b->values[i] = (const char *)&b->numbers[i];
            len = sizeof bits;
        } else if (v->kind == SQL_NULL) {
            b->values[i] = NULL;
        } else if (v->kind == SQL_TEXT) {
            const char *text = repair_text(v, room, &len);
            b->values[i] = text ? text : &repaired;
        }
        b->lengths[i] = (int)len;
    }
    for (size_t i = 0, at = 0; i < count; i++) {
        if (b->values[i] == &repaired) {
            b->values[i] = room->data + at;
            at += (size_t)b->lengths[i];
        }
    }
}

/* Within a pipeline the server reads PREPARE and EXECUTE in one go. */
static bool
make_prepared(struct pg_stmt *s, struct err *err)
{
    struct pg_conn *c = s->conn;
    if (s->name[0]) {
        return true;
    }
    (void)snprintf(s->name, sizeof s->name, "s%u", ++c->names);
    if (PQsendPrepare(c->pg, s->name, s->sql, 0, NULL) != 1) {
        return fail(c, NULL, err);
    }
    c->queued++;
    return true;
}

static bool
send_prepared(struct pg_stmt *s, const struct sql_value *params, size_t count,
              struct err *err)
{
    AUTO(buf) struct buf room = {0};
    struct bound b;
    if (count > PARAMS_MAX) {
        return err_set(err, ERR_INVALID, "a statement with %zu parameters", count);
    }
    bind_all(&b, params, count, &room);
    return PQsendQueryPrepared(s->conn->pg, s->name, (int)count, b.values, b.lengths,
                               b.formats, 1) == 1 ||
           fail(s->conn, NULL, err);
}

static bool
pg_send(struct sql_stmt *stmt, const struct sql_value *params, size_t count,
        struct err *err)
{
    struct pg_stmt *s = stmt_of(stmt);
    if (!enter_pipeline(s->conn, err) || !make_prepared(s, err) ||
        !send_prepared(s, params, count, err)) {
        return false;
    }
    s->conn->queued++;
    return s->conn->queued < QUEUE_MAX || settle(s->conn, NULL, err);
}

/* The first of its kind: prepared at the cost of a round trip. */
static bool
prepare_now(struct pg_stmt *s, struct err *err)
{
    bool ok = enter_pipeline(s->conn, err) && make_prepared(s, err) &&
              settle(s->conn, NULL, err);
    if (!ok) {
        s->name[0] = '\0';
    }
    return ok;
}

/* Goes with the statements that wait to be settled. */
static bool
start_queued(struct pg_stmt *s, const struct sql_value *params, size_t count,
             struct err *err)
{
    struct pg_conn *c = s->conn;
    if (!make_prepared(s, err) || !send_prepared(s, params, count, err) ||
        (PQpipelineSync(c->pg) != 1 && !fail(c, NULL, err))) {
        give_up(c);
        return false;
    }
    s->in_queue = s->running = true;
    if (!take_queued(c, NULL, err)) {
        c->failed = true;
        s->name[0] = '\0'; /* Perhaps prepared, perhaps skipped. */
        return false;
    }
    return true;
}

/* Rows come one by one, so that a whole table is never held in memory twice. */
static bool
pg_start(struct sql_stmt *stmt, const struct sql_value *params, size_t count,
         struct err *err)
{
    struct pg_stmt *s = stmt_of(stmt);
    struct pg_conn *c = s->conn;
    s->row = -1;
    if (c->queued) {
        return start_queued(s, params, count, err);
    }
    if (!s->name[0] && !prepare_now(s, err)) {
        return false;
    }
    s->running = send_prepared(s, params, count, err);
    return s->running && (PQsetSingleRowMode(c->pg) == 1 || fail(c, NULL, err));
}

static bool
pg_step(struct sql_stmt *stmt, bool *out_row, struct err *err)
{
    struct pg_stmt *s = stmt_of(stmt);
    struct pg_conn *c = s->conn;
    while (!s->result || ++s->row >= PQntuples(s->result)) {
        PQclear(s->result);
        s->result = NULL;
        if (!s->running) {
            *out_row = false;
            return true;
        }
        if (!wait_result(c, err)) {
            s->running = false;
            return false;
        }
        s->result = PQgetResult(c->pg);
        s->row = -1;
        s->running = s->result != NULL;
        if (s->result && is_error(s->result)) {
            return fail(c, s->result, err);
        }
        if (s->result && PQresultStatus(s->result) == PGRES_COMMAND_OK) {
            c->changes = strtoll(PQcmdTuples(s->result), NULL, 10);
        }
    }
    *out_row = true;
    return true;
}

static void
pg_column(struct sql_stmt *stmt, unsigned i, struct sql_value *out)
{
    struct pg_stmt *s = stmt_of(stmt);
    int at = (int)i;
    const char *data = PQgetvalue(s->result, s->row, at);
    size_t len = (size_t)PQgetlength(s->result, s->row, at);
    uint64_t bits = 0;
    if (PQgetisnull(s->result, s->row, at)) {
        *out = (struct sql_value){.kind = SQL_NULL};
        return;
    }
    switch (PQftype(s->result, at)) {
    case OID_INT8:
    case OID_FLOAT8:
        memcpy(&bits, data, MIN(len, sizeof bits));
        bits = be64toh(bits);
        *out = sql_int((int64_t)bits);
        if (PQftype(s->result, at) == OID_FLOAT8) {
            out->kind = SQL_F64;
            memcpy(&out->real, &bits, sizeof bits);
        }
        break;
    case OID_BYTEA:
        *out = sql_blob(data, len);
        break;
    default:
        *out = (struct sql_value){.kind = SQL_TEXT, .data = data, .len = len};
    }
}

static int64_t
pg_changes(struct sql_conn *conn)
{
    return conn_of(conn)->changes;
}

/* ---- the rest -------------------------------------------------------------------- */

static bool
pg_columns(struct sql_conn *conn, const char *table, sql_name_fn *fn, void *ctx,
           struct err *err)
{
    struct sql_stmt *stmt =
        pg_prepare(conn,
                   "SELECT attname::text FROM pg_attribute WHERE attrelid ="
                   " to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped",
                   err);
    struct sql_value param = sql_text(table), name;
    bool row = false;
    bool ok = pg_start(stmt, &param, 1, err);
    while (ok && (ok = pg_step(stmt, &row, err)) && row) {
        pg_column(stmt, 0, &name);
        AUTO(free)
        char *copy = xasprintf("%.*s", (int)name.len, (const char *)name.data);
        fn(ctx, copy);
    }
    pg_reset(stmt);
    pg_finish(stmt);
    return ok;
}

static bool
pg_backup(struct sql_conn *conn UNUSED, const char *path UNUSED, struct err *err)
{
    return err_set(err, ERR_UNSUPPORTED,
                   "a copy of PostgreSQL is made with pg_dump, not as a file");
}

static bool
pg_listen(struct sql_conn *conn, const char *channel, struct err *err)
{
    AUTO(free) char *sql = xasprintf("LISTEN %s", channel);
    return pg_exec(conn, sql, err);
}

static bool
take_news(struct pg_conn *c)
{
    bool any = false;
    PGnotify *news;
    while ((news = PQnotifies(c->pg)) != NULL) {
        PQfreemem(news);
        any = true;
    }
    return any;
}

static bool
pg_await(struct sql_conn *conn, int wake_fd, int timeout_ms, struct err *err)
{
    struct pg_conn *c = conn_of(conn);
    struct pollfd p[] = {{.fd = PQsocket(c->pg), .events = POLLIN},
                         {.fd = wake_fd, .events = POLLIN}};
    if (take_news(c)) {
        return true;
    }
    if (poll(p, ARRAY_LEN(p), timeout_ms) < 0 && errno != EINTR) {
        return err_sys(err, errno, "waiting for the database");
    }
    if (PQconsumeInput(c->pg) != 1) {
        return fail(c, NULL, err);
    }
    (void)take_news(c);
    return true;
}

const struct sql_driver sql_postgres = {
    .scheme = "postgresql:",
    .shared = true,
    .int_type = "BIGINT",
    .real_type = "DOUBLE PRECISION",
    .text_type = "TEXT COLLATE \"C\"", /* Sorts as memory does, and SQLite. */
    .blob_type = "BYTEA",
    .begin_read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    /* Writers come one after another (changelog.h); each statement sees what was
     * committed before the lock was had. */
    .begin_write = "BEGIN ISOLATION LEVEL READ COMMITTED",
    .begin_shape = "BEGIN; SELECT pg_advisory_xact_lock(1836018798)",
    .open = pg_open,
    .close = pg_close,
    .alive = pg_alive,
    .exec = pg_exec,
    .post = pg_post,
    .prepare = pg_prepare,
    .finish = pg_finish,
    .start = pg_start,
    .send = pg_send,
    .step = pg_step,
    .column = pg_column,
    .reset = pg_reset,
    .in_transaction = pg_in_transaction,
    .changes = pg_changes,
    .columns = pg_columns,
    .backup = pg_backup,
    .listen = pg_listen,
    .await = pg_await,
};
