/* schema.c - see schema.h. */
#include "store/schema.h"
#include "base/map.h"
#include "store/changelog.h"

/* What is sealed under the master key to know it again. */
static const char proof_text[] = "moln";

/* ---- tables, columns, indexes ---------------------------------------------------- */

static void
put_column(const struct table *table, uint32_t i, const struct sql_driver *driver,
           struct buf *sql)
{
    const struct desc_field *f = &table->type->desc->fields[i];
    bool text = f->kind == DESC_STR;
    enum sql_kind kind = column_kind(f);
    const char *type = kind == SQL_BLOB  ? driver->blob_type
                       : kind == SQL_INT ? driver->int_type
                       : kind == SQL_F64 ? driver->real_type
                                         : driver->text_type;
    buf_printf(sql, "\"%s\" %s", f->name, type);
    if (table->sorted[i]) {
        buf_printf(sql, " NOT NULL DEFAULT %s", text ? "''" : "0");
    }
}

static bool
create_table(struct session *session, const struct table *table, struct err *err)
{
    AUTO(buf) struct buf sql = {0};
    buf_printf(&sql, "CREATE TABLE \"%s\" (", table->type->name);
    for (uint32_t i = 0; i < table->type->desc->field_count; i++) {
        put_column(table, i, session->conn->driver, &sql);
        buf_puts(&sql, ", ");
    }
    buf_puts(&sql, "PRIMARY KEY (");
    for (unsigned i = 0; i < table->orders[0].count; i++) {
        uint16_t position = table->orders[0].fields[i].position;
        buf_printf(&sql, "%s\"%s\"", i ? ", " : "",
                   table->type->desc->fields[position].name);
    }
    buf_puts(&sql, "))");
    return session_exec(session, buf_str(&sql), err);
}

static bool
add_column(struct session *session, const struct table *table, uint32_t i,
           struct err *err)
{
    AUTO(buf) struct buf sql = {0};
    buf_printf(&sql, "ALTER TABLE \"%s\" ADD COLUMN ", table->type->name);
    put_column(table, i, session->conn->driver, &sql);
    return session_exec(session, buf_str(&sql), err);
}

/* A unique index holds only rows whose every field is filled. What is served from
 * memory needs no index in the database: the image keeps order and uniqueness. */
static bool
create_index(struct session *session, const struct table *table, unsigned n,
             struct err *err)
{
    const struct order *order = &table->orders[n + 1];
    if (table->hot) {
        return true;
    }
    AUTO(buf) struct buf sql = {0};
    AUTO(buf) struct buf filled = {0};
    buf_printf(&sql, "CREATE %s IF NOT EXISTS \"%s_%s\" ON \"%s\" (",
               order->unique ? "UNIQUE INDEX" : "INDEX", table->type->name,
               table->type->indexes[n].name, table->type->name);
    unsigned count = order->unique ? order->own : order->count;
    for (unsigned i = 0; i < count; i++) {
        const struct order_field *f = &order->fields[i];
        const char *name = table->type->desc->fields[f->position].name;
        buf_printf(&sql, "%s\"%s\"", i ? ", " : "", name);
        buf_printf(&filled, "%s\"%s\" <> %s", i ? " AND " : " WHERE ", name,
                   f->kind == DESC_STR ? "''" : "0");
    }
    buf_printf(&sql, ")%s", order->unique ? buf_str(&filled) : "");
    return session_exec(session, buf_str(&sql), err);
}

static void
note_column(void *ctx, const char *name)
{
    static char present;
    map_put(ctx, name, &present);
}

static bool
shape_table(struct session *session, const struct table *table, struct err *err)
{
    const struct desc *desc = table->type->desc;
    AUTO(map) struct map *present = map_create(NULL);
    if (!session->conn->driver->columns(session->conn, table->type->name, note_column,
                                        present, err)) {
        return false;
    }
    if (map_count(present) == 0 && !create_table(session, table, err)) {
        return false;
    }
    for (uint32_t i = 0; map_count(present) && i < desc->field_count; i++) {
        if (!map_get(present, desc->fields[i].name) &&
            !add_column(session, table, i, err)) {
            return false;
        }
    }
    for (unsigned i = 0; i < table->type->index_count; i++) {
        if (!create_index(session, table, i, err)) {
            return false;
        }
    }
    return true;
}

/* ---- versions -------------------------------------------------------------------- */

/* steps[N] brings the data from version N to N + 1, inside the opening transaction;
 * NULL: new tables and columns were all it took. */
typedef bool step_fn(struct session *session, struct err *err);
static step_fn *const steps[SCHEMA_VERSION] = {NULL};

static bool
migrate(struct session *session, int64_t from, struct err *err)
{
    for (int64_t at = from; at < SCHEMA_VERSION; at++) {
        if (steps[at] && !steps[at](session, err)) {
            return err_wrap(err, "migration from version %" PRId64, at);
        }
    }
    return true;
}

/* Reads what the database says of itself; a fresh one says 0. */
static bool
check_meta(struct session *session, const struct table *meta, int64_t *out_version,
           bool *out_proven, struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct own_store_meta key = {.name = "schema"};
    const void *row;
    if (!session_get(session, meta, &key, arena, &row, err)) {
        if (err->code == ERR_CORRUPT) {
            return err_set(err, ERR_DENIED, "the master key is not this database's");
        }
        return false;
    }
    const struct own_store_meta *m = row;
    *out_version = m ? m->value : 0;
    *out_proven = m && m->proof.data;
    if (*out_version > SCHEMA_VERSION) {
        return err_set(err, ERR_UNSUPPORTED,
                       "the database is of version %" PRId64
                       ", made by a newer program",
                       *out_version);
    }
    return true;
}

static bool
write_meta(struct session *session, const struct table *meta, struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct own_store_meta row = {.name = "schema", .value = SCHEMA_VERSION};
    if (session->vault->has_key) {
        row.proof = (struct blob){(const uint8_t *)proof_text, sizeof proof_text};
    }
    return session_change(session, meta, TABLE_PUT, &row, arena, err);
}

static bool
prepare(struct session *session, const struct table *tables, size_t count,
        const struct table *meta, struct err *err)
{
    int64_t version = 0;
    bool proven = false;
    if (!shape_table(session, meta, err) ||
        !check_meta(session, meta, &version, &proven, err)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!shape_table(session, &tables[i], err)) {
            return err_wrap(err, "table %s", tables[i].type->name);
        }
    }
    if (session->conn->driver->shared && !changelog_prepare(session, err)) {
        return false;
    }
    bool stale = version < SCHEMA_VERSION || (!proven && session->vault->has_key);
    return migrate(session, version, err) && (!stale || write_meta(session, meta, err));
}

bool
schema_prepare(struct session *session, const struct table *tables, size_t count,
               const struct table *meta, struct err *err)
{
    if (!session_exec(session, session->conn->driver->begin_shape, err)) {
        return false;
    }
    struct err ignored;
    bool ok = prepare(session, tables, count, meta, err) &&
              session_exec(session, "COMMIT", err);
    if (!ok) {
        (void)session_exec(session, "ROLLBACK", &ignored);
    }
    return ok;
}
