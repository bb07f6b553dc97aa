/* table.c - see table.h. */
#include "store/table.h"

/* ---- orders ---------------------------------------------------------------------- */

static bool
order_add(struct order *order, const struct row_type *type, uint16_t position,
          struct err *err)
{
    for (unsigned i = 0; i < order->count; i++) {
        if (order->fields[i].position == position) {
            return true;
        }
    }
    const struct desc_field *f = &type->desc->fields[position];
    bool fit = f->kind == DESC_STR || f->kind == DESC_INT || f->kind == DESC_TIME ||
               f->kind == DESC_BOOL;
    if (!fit || (f->flags & DESC_SEALED) || order->count == ORDER_FIELDS_MAX) {
        return err_set(err, ERR_INVALID, "%s.%s cannot be in a key or index",
                       type->name, f->name);
    }
    order->fields[order->count++] = (struct order_field){
        .position = position, .kind = f->kind, .offset = f->offset};
    return true;
}

static bool
order_init(struct order *order, const struct row_type *type, const uint16_t *fields,
           struct err *err)
{
    for (; *fields != UINT16_MAX; fields++) {
        if (!order_add(order, type, *fields, err)) {
            return false;
        }
    }
    order->own = order->count;
    for (const uint16_t *key = type->key; *key != UINT16_MAX; key++) {
        if (!order_add(order, type, *key, err)) {
            return false;
        }
    }
    return true;
}

static int
compare_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "");
}

int
order_compare(const struct order *order, unsigned count, const void *a, const void *b)
{
    for (unsigned i = 0; i < count; i++) {
        const struct order_field *f = &order->fields[i];
        const void *x = (const char *)a + f->offset, *y = (const char *)b + f->offset;
        int c;
        if (f->kind == DESC_STR) {
            c = compare_text(*(const char *const *)x, *(const char *const *)y);
        } else if (f->kind == DESC_BOOL) {
            c = *(const bool *)x - *(const bool *)y;
        } else {
            int64_t m = *(const int64_t *)x, n = *(const int64_t *)y;
            c = (m > n) - (m < n);
        }
        if (c) {
            return c;
        }
    }
    return 0;
}

bool
order_filled(const struct order *order, const void *row)
{
    for (unsigned i = 0; i < order->own; i++) {
        const struct order_field *f = &order->fields[i];
        const void *at = (const char *)row + f->offset;
        bool filled = f->kind == DESC_STR    ? !str_empty(*(const char *const *)at)
                      : f->kind == DESC_BOOL ? *(const bool *)at
                                             : *(const int64_t *)at != 0;
        if (!filled) {
            return false;
        }
    }
    return true;
}

const struct order *
table_order(const struct table *table, const char *index)
{
    for (unsigned i = 0; index && i < table->type->index_count; i++) {
        if (strcmp(table->type->indexes[i].name, index) == 0) {
            return &table->orders[i + 1];
        }
    }
    return index ? NULL : &table->orders[0];
}

/* ---- SQL ------------------------------------------------------------------------- */

static const char *
name_of(const struct table *table, const struct order_field *f)
{
    return table->type->desc->fields[f->position].name;
}

/* "a" = $N AND "b" = $N+1 ... */
static void
put_equal(const struct table *table, const struct order *order, unsigned count,
          unsigned first, struct buf *out)
{
    for (unsigned i = 0; i < count; i++) {
        buf_printf(out, "%s\"%s\" = $%u", i ? " AND " : "",
                   name_of(table, &order->fields[i]), first + i);
    }
}

static void
put_order_names(const struct table *table, const struct order *order, unsigned count,
                struct buf *out)
{
    for (unsigned i = 0; i < count; i++) {
        buf_printf(out, "%s\"%s\"", i ? ", " : "", name_of(table, &order->fields[i]));
    }
}

static void
put_numbers(unsigned first, unsigned count, struct buf *out)
{
    for (unsigned i = 0; i < count; i++) {
        buf_printf(out, "%s$%u", i ? ", " : "", first + i);
    }
}

void
table_list_sql(const struct table *table, const struct order *order, unsigned prefix,
               bool after, struct buf *out)
{
    buf_puts(out, table->select);
    if (prefix || after) {
        buf_puts(out, " WHERE ");
    }
    put_equal(table, order, prefix, 1, out);
    if (after) {
        buf_puts(out, prefix ? " AND (" : "(");
        put_order_names(table, order, order->count, out);
        buf_puts(out, ") > (");
        put_numbers(prefix + 1, order->count, out);
        buf_puts(out, ")");
    }
    buf_puts(out, " ORDER BY ");
    put_order_names(table, order, order->count, out);
    buf_printf(out, " LIMIT $%u", prefix + (after ? order->count : 0) + 1);
}

void
table_many_sql(const struct table *table, unsigned count, struct buf *out)
{
    const struct order *key = &table->orders[0];
    buf_printf(out, "%s WHERE ", table->select);
    for (unsigned i = 0; i < count; i++) {
        buf_puts(out, i ? " OR (" : "(");
        put_equal(table, key, key->count, 1 + i * key->count, out);
        buf_puts(out, ")");
    }
}

static void
put_columns(const struct desc *desc, struct buf *out)
{
    for (uint32_t i = 0; i < desc->field_count; i++) {
        buf_printf(out, "%s\"%s\"", i ? ", " : "", desc->fields[i].name);
    }
}

void
table_ordered_sql(const struct table *table, struct buf *out)
{
    buf_printf(out, "%s ORDER BY ", table->select);
    put_order_names(table, &table->orders[0], table->orders[0].count, out);
}

static bool
in_key(const struct table *table, uint32_t position)
{
    for (unsigned i = 0; i < table->orders[0].count; i++) {
        if (table->orders[0].fields[i].position == position) {
            return true;
        }
    }
    return false;
}

/* "ON CONFLICT (key) DO UPDATE SET ...", or DO NOTHING when the key is all there is. */
static void
put_upsert(const struct table *table, struct buf *out)
{
    const struct desc *desc = table->type->desc;
    bool any = false;
    buf_puts(out, " ON CONFLICT (");
    put_order_names(table, &table->orders[0], table->orders[0].count, out);
    buf_puts(out, ") DO ");
    for (uint32_t i = 0; i < desc->field_count; i++) {
        if (!in_key(table, i)) {
            const char *name = desc->fields[i].name;
            buf_printf(out, "%s\"%s\" = excluded.\"%s\"", any ? ", " : "UPDATE SET ",
                       name, name);
            any = true;
        }
    }
    buf_puts(out, any ? "" : "NOTHING");
}

/* Up to where the rows come from. */
static void
put_insert(const struct table *table, struct buf *out)
{
    buf_printf(out, "INSERT INTO \"%s\" (", table->type->name);
    put_columns(table->type->desc, out);
    buf_puts(out, ") ");
}

void
table_put_sql(const struct table *table, const char *source, struct buf *out)
{
    put_insert(table, out);
    buf_puts(out, source);
    put_upsert(table, out);
}

static void
write_sql(struct table *table)
{
    const struct desc *desc = table->type->desc;
    const struct order *key = &table->orders[0];
    AUTO(buf) struct buf b = {0};

    buf_puts(&b, "SELECT ");
    put_columns(desc, &b);
    buf_printf(&b, " FROM \"%s\"", table->type->name);
    table->select = buf_take(&b);

    buf_printf(&b, "%s WHERE ", table->select);
    put_equal(table, key, key->count, 1, &b);
    table->sql[TABLE_GET] = buf_take(&b);

    buf_printf(&b, "DELETE FROM \"%s\" WHERE ", table->type->name);
    put_equal(table, key, key->count, 1, &b);
    table->sql[TABLE_DELETE] = buf_take(&b);

    buf_puts(&b, "VALUES (");
    put_numbers(1, desc->field_count, &b);
    buf_puts(&b, ")");
    AUTO(free) char *values = buf_take(&b);

    put_insert(table, &b);
    buf_printf(&b, "%s ON CONFLICT DO NOTHING", values);
    table->sql[TABLE_INSERT] = buf_take(&b);

    table_put_sql(table, values, &b);
    table->sql[TABLE_PUT] = buf_take(&b);
}

void
table_describe(const struct table *table, const void *row, struct buf *out)
{
    buf_puts(out, table->type->name);
    for (unsigned i = 0; i < table->orders[0].count; i++) {
        const struct order_field *f = &table->orders[0].fields[i];
        const void *at = (const char *)row + f->offset;
        if (f->kind == DESC_STR) {
            const char *s = *(const char *const *)at;
            buf_printf(out, " %s", s ? s : "''");
        } else if (f->kind == DESC_BOOL) {
            buf_puts(out, *(const bool *)at ? " true" : " false");
        } else {
            buf_printf(out, " %" PRId64, *(const int64_t *)at);
        }
    }
}

bool
table_taken(const struct table *table, const void *row, struct err *err)
{
    AUTO(buf) struct buf what = {.limit = 200};
    table_describe(table, row, &what);
    return err_set(err, ERR_EXISTS, "%s: its key is taken", buf_str(&what));
}

/* ---- life ------------------------------------------------------------------------ */

bool
table_init(struct table *table, const struct row_type *type, bool hot, struct err *err)
{
    *table = (struct table){.type = type, .hot = hot && !type->cold};
    table->order_count = 1u + type->index_count;
    table->orders = xcalloc(table->order_count, sizeof *table->orders);
    table->sorted = xcalloc(type->desc->field_count, sizeof *table->sorted);
    bool ok = order_init(&table->orders[0], type, type->key, err);
    for (unsigned i = 0; ok && i < type->index_count; i++) {
        ok = order_init(&table->orders[i + 1], type, type->indexes[i].fields, err);
        table->orders[i + 1].unique = type->indexes[i].unique;
    }
    if (!ok) {
        table_fini(table);
        return false;
    }
    for (unsigned i = 0; i < table->order_count; i++) {
        for (unsigned j = 0; j < table->orders[i].count; j++) {
            table->sorted[table->orders[i].fields[j].position] = true;
        }
    }
    for (uint32_t i = 0; i < type->desc->field_count; i++) {
        table->secret |= (type->desc->fields[i].flags & DESC_SEALED) != 0;
    }
    write_sql(table);
    return true;
}

void
table_fini(struct table *table)
{
    free(table->orders);
    free(table->sorted);
    free(table->select);
    for (unsigned i = 0; i < TABLE_OPS; i++) {
        free(table->sql[i]);
    }
    *table = (struct table){0};
}
