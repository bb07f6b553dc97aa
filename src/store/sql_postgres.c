/* sql_postgres.c - the dialect of PostgreSQL, through libpq: statements and the rest; their
 * connection is postgres_conn.h. */
#include "base/jsonio.h"
#include "store/postgres_conn.h"
#include <endian.h>
#include <errno.h>
#include <poll.h>

#define PARAMS_MAX 512
#define QUEUE_MAX 2000 /* Statements whose results libpq keeps for us. */

/* Types of columns (catalog/pg_type.dat); everything travels in its binary form. */
enum { OID_BYTEA = 17, OID_INT8 = 20, OID_TEXT = 25, OID_FLOAT8 = 701 };

struct pg_stmt {
    struct pg_conn *conn;
    char *sql;
    char name[16]; /* "": not prepared. */
    PGresult *result;
    int row;       /* In 'result'. */
    bool running;  /* Results are still to come... */
    bool in_queue; /* ...within a pipeline. */
};

static struct pg_stmt *
stmt_of(struct sql_stmt *stmt)
{
    return (struct pg_stmt *)(void *)stmt;
}

/* ---- statements ------------------------------------------------------------------ */

static struct sql_stmt *
pg_prepare(struct sql_conn *conn, const char *sql, struct err *err UNUSED)
{
    struct pg_stmt *s = xcalloc(1, sizeof *s); /* Prepared when first used. */
    s->conn = pg_conn_of(conn);
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
    while (s->running && pg_wait(s->conn, &ignored)) {
        PGresult *rest = PQgetResult(s->conn->pg);
        s->running = rest != NULL;
        PQclear(rest);
    }
    s->running = false;
    if (s->in_queue) {
        s->in_queue = false;
        (void)!pg_end_pipeline(s->conn, &ignored);
    }
}

static void
pg_finish(struct sql_stmt *stmt)
{
    struct pg_stmt *s = stmt_of(stmt);
    if (s) {
        for (size_t i = 0; i < s->conn->fresh.count; i++) {
            if (s->conn->fresh.items[i] == s->name) {
                s->conn->fresh.items[i] = s->conn->fresh.items[--s->conn->fresh.count];
            }
        }
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
        return pg_fail(c, NULL, err);
    }
    VEC_PUSH(&c->fresh, s->name);
    c->queued++;
    return true;
}

static bool
send_bound(struct pg_stmt *s, const struct bound *b, size_t count, struct err *err)
{
    return PQsendQueryPrepared(s->conn->pg, s->name, (int)count, b->values, b->lengths,
                               b->formats, 1) == 1 ||
           pg_fail(s->conn, NULL, err);
}

static bool
few_enough(size_t params, struct err *err)
{
    return params <= PARAMS_MAX ||
           err_set(err, ERR_INVALID, "a statement with %zu parameters", params);
}

static bool
send_prepared(struct pg_stmt *s, const struct sql_value *params, size_t count,
              struct err *err)
{
    AUTO(buf) struct buf room = {0};
    struct bound b;
    if (!few_enough(count, err)) {
        return false;
    }
    bind_all(&b, params, count, &room);
    return send_bound(s, &b, count, err);
}

/* One more statement under way whose result nobody waits for. */
static bool
count_sent(struct pg_conn *c, struct err *err)
{
    c->queued++;
    return c->queued < QUEUE_MAX || pg_settle(c, NULL, err);
}

static bool
pg_send(struct sql_stmt *stmt, const struct sql_value *params, size_t count,
        struct err *err)
{
    struct pg_stmt *s = stmt_of(stmt);
    return pg_enter_pipeline(s->conn, err) && make_prepared(s, err) &&
           send_prepared(s, params, count, err) && count_sent(s->conn, err);
}

/* ---- many rows in one statement -------------------------------------------------- */

static const struct {
    const char *type; /* Of a list of such values. */
    uint32_t oid;     /* Of one. */
} listed[] = {
    [SQL_INT] = {"BIGINT[]", OID_INT8},
    [SQL_F64] = {"DOUBLE PRECISION[]", OID_FLOAT8},
    [SQL_TEXT] = {"TEXT[]", OID_TEXT},
    [SQL_BLOB] = {"BYTEA[]", OID_BYTEA},
};

static void
pg_put_source(const enum sql_kind *kinds, unsigned columns, struct buf *out)
{
    buf_puts(out, "SELECT * FROM unnest(");
    for (unsigned i = 0; i < columns; i++) {
        buf_printf(out, "%s$%u::%s", i ? ", " : "", i + 1, listed[kinds[i]].type);
    }
    buf_puts(out, ")");
}

static void
put_int32(struct buf *out, uint32_t v)
{
    uint32_t bits = htobe32(v);
    buf_put(out, &bits, sizeof bits);
}

static void
put_item(struct buf *out, const struct sql_value *v, struct buf *room)
{
    uint64_t bits;
    size_t len = v->len;
    const void *data = v->data;
    if (v->kind == SQL_NULL) {
        put_int32(out, UINT32_MAX);
        return;
    }
    if (v->kind == SQL_INT || v->kind == SQL_F64) {
        memcpy(&bits, v->kind == SQL_INT ? (const void *)&v->number : &v->real,
               sizeof bits);
        bits = htobe64(bits);
        len = sizeof bits;
        data = &bits;
    } else if (v->kind == SQL_TEXT) {
        buf_clear(room);
        data = repair_text(v, room, &len);
        data = data ? data : buf_str(room);
    }
    put_int32(out, (uint32_t)len);
    buf_put(out, data, len);
}

/* One column of all rows, as PostgreSQL sends an array of one dimension. */
static void
put_column(struct buf *out, enum sql_kind kind, const struct sql_value *first,
           unsigned columns, size_t rows, struct buf *room)
{
    put_int32(out, 1);
    put_int32(out, 1); /* Some may be NULL. */
    put_int32(out, listed[kind].oid);
    put_int32(out, (uint32_t)rows);
    put_int32(out, 1);
    for (size_t i = 0; i < rows; i++) {
        put_item(out, first + i * columns, room);
    }
}

static bool
pg_send_many(struct sql_stmt *stmt, const enum sql_kind *kinds, unsigned columns,
             const struct sql_value *values, size_t rows, struct err *err)
{
    struct pg_stmt *s = stmt_of(stmt);
    AUTO(buf) struct buf text = {0};
    AUTO(buf) struct buf room = {0};
    struct bound b;
    if (!few_enough(columns, err)) {
        return false;
    }
    for (unsigned i = 0; i < columns; i++) {
        b.numbers[i] = text.len;
        put_column(&text, kinds[i], values + i, columns, rows, &room);
        b.lengths[i] = (int)(text.len - b.numbers[i]);
        b.formats[i] = 1;
    }
    if (text.full) {
        return err_set(err, ERR_TOO_LARGE, "rows of more than a GiB");
    }
    for (unsigned i = 0; i < columns; i++) {
        b.values[i] = text.data + b.numbers[i];
    }
    return pg_enter_pipeline(s->conn, err) && make_prepared(s, err) &&
           send_bound(s, &b, columns, err) && count_sent(s->conn, err);
}

/* The first of its kind: prepared at the cost of a round trip. */
static bool
prepare_now(struct pg_stmt *s, struct err *err)
{
    return pg_enter_pipeline(s->conn, err) && make_prepared(s, err) &&
           pg_settle(s->conn, NULL, err);
}

/* Goes with the statements that wait to be settled. */
static bool
start_queued(struct pg_stmt *s, const struct sql_value *params, size_t count,
             struct err *err)
{
    struct pg_conn *c = s->conn;
    if (!make_prepared(s, err) || !send_prepared(s, params, count, err) ||
        (PQpipelineSync(c->pg) != 1 && !pg_fail(c, NULL, err))) {
        pg_give_up(c);
        return false;
    }
    s->in_queue = s->running = true;
    if (!pg_take_queued(c, NULL, err)) {
        c->failed = true;
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
    return s->running && (PQsetSingleRowMode(c->pg) == 1 || pg_fail(c, NULL, err));
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
        if (!pg_wait(c, err)) {
            s->running = false;
            return false;
        }
        s->result = PQgetResult(c->pg);
        s->row = -1;
        s->running = s->result != NULL;
        if (s->result && pg_is_error(s->result)) {
            return pg_fail(c, s->result, err);
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
    return pg_conn_of(conn)->changes;
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
pg_listen(struct sql_conn *conn, const char *channel, struct err *err)
{
    AUTO(free) char *sql = xasprintf("LISTEN %s", channel);
    return pg_exec(conn, sql, err);
}

/* Whether any came from others. */
static bool
take_news(struct pg_conn *c, const char *own)
{
    bool any = false;
    PGnotify *news;
    while ((news = PQnotifies(c->pg)) != NULL) {
        any |= !str_eq(news->extra, own);
        PQfreemem(news);
    }
    return any;
}

static bool
pg_await(struct sql_conn *conn, const char *own, int wake_fd, int timeout_ms,
         struct err *err)
{
    struct pg_conn *c = pg_conn_of(conn);
    struct pollfd p[] = {{.fd = PQsocket(c->pg), .events = POLLIN},
                         {.fd = wake_fd, .events = POLLIN}};
    int64_t end = pg_mono_ms() + timeout_ms, left = timeout_ms;
    while (!take_news(c, own) && left > 0 && !(p[1].revents & POLLIN)) {
        if (poll(p, ARRAY_LEN(p), (int)left) < 0 && errno != EINTR) {
            return err_sys(err, errno, "waiting for the database");
        }
        if (PQconsumeInput(c->pg) != 1) {
            return pg_fail(c, NULL, err);
        }
        left = end - pg_mono_ms();
    }
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
    .put_source = pg_put_source,
    .send_many = pg_send_many,
    .step = pg_step,
    .column = pg_column,
    .reset = pg_reset,
    .in_transaction = pg_in_transaction,
    .changes = pg_changes,
    .columns = pg_columns,
    .listen = pg_listen,
    .await = pg_await,
};
