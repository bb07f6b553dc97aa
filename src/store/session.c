/* session.c - see session.h. */
#include "store/session.h"
#include "base/map.h"

struct session *
session_open(const struct sql_driver *driver, const char *where, size_t table_count,
             const struct vault *vault, struct err *err)
{
    struct sql_conn *conn = driver->open(where, err);
    if (!conn) {
        return NULL;
    }
    struct session *s = xcalloc(1, sizeof *s);
    s->conn = conn;
    s->vault = vault;
    s->stmt_count = table_count * TABLE_OPS;
    s->stmts = xcalloc(s->stmt_count, sizeof *s->stmts);
    s->lists = map_create(NULL);
    return s;
}

void
session_close(struct session *s)
{
    if (!s) {
        return;
    }
    const struct sql_driver *driver = s->conn->driver;
    const char *sql;
    void *stmt;
    for (size_t i = 0; i < s->stmt_count; i++) {
        if (s->stmts[i]) {
            driver->finish(s->stmts[i]);
        }
    }
    for (size_t it = 0; map_next(s->lists, &it, &sql, &stmt);) {
        driver->finish(stmt);
    }
    map_destroy(s->lists);
    driver->close(s->conn);
    free(s->stmts);
    free(s);
}

bool
session_exec(struct session *s, const char *sql, struct err *err)
{
    return s->conn->driver->exec(s->conn, sql, err);
}

bool
session_post(struct session *s, const char *sql, struct err *err)
{
    return s->conn->driver->post(s->conn, sql, err);
}

static struct sql_stmt **
stmt_slot(struct session *s, const struct table *table, enum table_op op)
{
    return &s->stmts[(size_t)table->type->id * TABLE_OPS + op];
}

static struct sql_stmt *
stmt_get(struct session *s, const struct table *table, enum table_op op,
         struct err *err)
{
    struct sql_stmt **slot = stmt_slot(s, table, op);
    if (!*slot) {
        *slot = s->conn->driver->prepare(s->conn, table->sql[op], err);
    }
    return *slot;
}

struct sql_stmt *
session_statement(struct session *s, const char *sql, struct err *err)
{
    struct sql_stmt *stmt = map_get(s->lists, sql);
    if (!stmt) {
        stmt = s->conn->driver->prepare(s->conn, sql, err);
        if (stmt) {
            map_put(s->lists, sql, stmt);
        }
    }
    return stmt;
}

static void
bind_order(const struct order *order, unsigned count, const void *row,
           struct sql_value *out)
{
    for (unsigned i = 0; i < count; i++) {
        out[i] = row_order_value(&order->fields[i], row);
    }
}

bool
session_get(struct session *s, const struct table *table, const void *key,
            struct arena *arena, const void **out, struct err *err)
{
    const struct sql_driver *driver = s->conn->driver;
    struct sql_stmt *stmt = stmt_get(s, table, TABLE_GET, err);
    struct sql_value params[ORDER_FIELDS_MAX];
    bool found = false;
    if (!stmt) {
        return false;
    }
    bind_order(&table->orders[0], table->orders[0].count, key, params);
    void *row = NULL;
    bool ok = driver->start(stmt, params, table->orders[0].count, err) &&
              driver->step(stmt, &found, err);
    if (ok && found) {
        row = arena_alloc(arena, table->type->desc->size);
        ok = row_decode(table, s->vault, driver, stmt, arena, row, err);
    }
    driver->reset(stmt);
    if (ok) {
        *out = row;
    }
    return ok;
}

/* Whether the database itself may refuse a row because of an index. */
static bool
has_unique(const struct table *table)
{
    for (unsigned i = 1; !table->hot && i < table->order_count; i++) {
        if (table->orders[i].unique) {
            return true;
        }
    }
    return false;
}

bool
session_may_post(const struct table *table, enum table_op op)
{
    return op == TABLE_DELETE || (op == TABLE_PUT && !has_unique(table));
}

bool
session_change(struct session *s, const struct table *table, enum table_op op,
               const void *row, struct arena *scratch, struct err *err)
{
    const struct sql_driver *driver = s->conn->driver;
    struct sql_stmt *stmt = stmt_get(s, table, op, err);
    size_t count =
        op == TABLE_DELETE ? table->orders[0].count : table->type->desc->field_count;
    struct sql_value *params = ARENA_ARRAY(scratch, count, struct sql_value);
    bool row_came;
    if (!stmt) {
        return false;
    }
    if (op == TABLE_DELETE) {
        bind_order(&table->orders[0], table->orders[0].count, row, params);
    } else if (!row_encode(table, s->vault, row, scratch, params, err)) {
        return false;
    }
    if (session_may_post(table, op)) {
        return driver->send(stmt, params, count, err);
    }
    bool ok =
        driver->start(stmt, params, count, err) && driver->step(stmt, &row_came, err);
    bool taken = ok && op == TABLE_INSERT && driver->changes(s->conn) == 0;
    driver->reset(stmt);
    return taken || (!ok && err->code == ERR_EXISTS) ? table_taken(table, row, err)
                                                     : ok;
}

bool
session_puts_many(const struct session *s)
{
    return s->conn->driver->send_many != NULL;
}

static struct sql_stmt *
put_many_stmt(struct session *s, const struct table *table, const enum sql_kind *kinds,
              struct err *err)
{
    struct sql_stmt **slot = stmt_slot(s, table, TABLE_PUT_MANY);
    if (!*slot) {
        AUTO(buf) struct buf source = {0};
        AUTO(buf) struct buf sql = {0};
        s->conn->driver->put_source(kinds, table->type->desc->field_count, &source);
        table_put_sql(table, buf_str(&source), &sql);
        *slot = s->conn->driver->prepare(s->conn, buf_str(&sql), err);
    }
    return *slot;
}

bool
session_put_many(struct session *s, const struct table *table, const void *const *rows,
                 size_t count, struct arena *scratch, struct err *err)
{
    const struct desc *desc = table->type->desc;
    unsigned columns = desc->field_count;
    enum sql_kind *kinds = ARENA_ARRAY(scratch, columns, enum sql_kind);
    struct sql_value *values = ARENA_ARRAY(scratch, count * columns, struct sql_value);
    for (unsigned i = 0; i < columns; i++) {
        kinds[i] = column_kind(&desc->fields[i]);
    }
    struct sql_stmt *stmt = put_many_stmt(s, table, kinds, err);
    for (size_t i = 0; stmt && i < count; i++) {
        if (!row_encode(table, s->vault, rows[i], scratch, values + i * columns, err)) {
            return false;
        }
    }
    return stmt && s->conn->driver->send_many(stmt, kinds, columns, values, count, err);
}

static bool
fetch_all(struct session *s, const struct table *table, struct sql_stmt *stmt,
          struct arena *arena, struct row_list *out, struct err *err)
{
    VEC(const void *) rows = {0};
    bool found = false, ok;
    while ((ok = s->conn->driver->step(stmt, &found, err)) && found) {
        void *row = arena_alloc(arena, table->type->desc->size);
        ok = row_decode(table, s->vault, s->conn->driver, stmt, arena, row, err);
        if (!ok) {
            break;
        }
        VEC_PUSH(&rows, row);
    }
    if (ok) {
        out->rows = arena_memdup(arena, rows.items, rows.count * sizeof *rows.items);
        out->count = rows.count;
    }
    VEC_FREE(&rows);
    return ok;
}

bool
session_list(struct session *s, const struct table *table,
             const struct row_query *query, struct arena *arena, struct row_list *out,
             struct err *err)
{
    const struct order *order = table_order(table, query->index);
    AUTO(buf) struct buf sql = {0};
    struct sql_value params[2 * ORDER_FIELDS_MAX + 1];
    size_t count = query->prefix_fields;
    table_list_sql(table, order, query->prefix_fields, query->after != NULL, &sql);
    struct sql_stmt *stmt = session_statement(s, buf_str(&sql), err);
    if (!stmt) {
        return false;
    }
    bind_order(order, query->prefix_fields, query->prefix, params);
    if (query->after) {
        bind_order(order, order->count, query->after, params + count);
        count += order->count;
    }
    params[count++] =
        sql_int(query->limit ? (int64_t)MIN(query->limit, INT64_MAX) : INT64_MAX);
    bool ok = s->conn->driver->start(stmt, params, count, err) &&
              fetch_all(s, table, stmt, arena, out, err);
    s->conn->driver->reset(stmt);
    return ok;
}

bool
session_get_many(struct session *s, const struct table *table, const void *const *keys,
                 size_t count, struct arena *arena, struct row_list *out,
                 struct err *err)
{
    const struct order *order = &table->orders[0];
    struct sql_value params[SESSION_MANY_MAX * ORDER_FIELDS_MAX];
    AUTO(buf) struct buf sql = {0};
    size_t places = 1; /* Few different statements: the last key fills up. */
    while (places < count) {
        places *= 2;
    }
    table_many_sql(table, (unsigned)places, &sql);
    struct sql_stmt *stmt = session_statement(s, buf_str(&sql), err);
    if (!stmt) {
        return false;
    }
    for (size_t i = 0; i < places; i++) {
        bind_order(order, order->count, keys[MIN(i, count - 1)],
                   params + i * order->count);
    }
    bool ok = s->conn->driver->start(stmt, params, places * order->count, err) &&
              fetch_all(s, table, stmt, arena, out, err);
    s->conn->driver->reset(stmt);
    return ok;
}

bool
session_scan(struct session *s, const struct table *table, session_row_fn *fn,
             void *ctx, struct err *err)
{
    const struct sql_driver *driver = s->conn->driver;
    struct sql_stmt *stmt = driver->prepare(s->conn, table->select, err);
    AUTO(arena) struct arena *arena = arena_create();
    bool found = false;
    bool ok = stmt && driver->start(stmt, NULL, 0, err);
    while (ok && (ok = driver->step(stmt, &found, err)) && found) {
        void *row = arena_alloc(arena, table->type->desc->size);
        ok = row_decode(table, s->vault, driver, stmt, arena, row, err) &&
             fn(ctx, table, row, err);
        arena_reset(arena);
    }
    if (stmt) {
        driver->finish(stmt);
    }
    return ok;
}
