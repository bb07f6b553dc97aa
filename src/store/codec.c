/* codec.c - see codec.h. */
#include "store/codec.h"
#include "base/crypto.h"
#include "base/jsonio.h"

#define JSON_FLAGS (JSONIO_TIME_TEXT | JSONIO_KEEP_EMPTY)

/* Where a sealed value belongs: each part with its length, so that none can be shifted.
 */
static void
put_place(const struct table *table, const struct desc_field *f, const void *row,
          struct buf *out)
{
    buf_printf(out, "%s/%s", table->type->name, f->name);
    for (unsigned i = 0; i < table->orders[0].count; i++) {
        struct sql_value v = row_order_value(&table->orders[0].fields[i], row);
        if (v.kind == SQL_TEXT) {
            buf_printf(out, "/%zu:%s", v.len, (const char *)v.data);
        } else {
            buf_printf(out, "/%" PRId64, v.number);
        }
    }
}

struct sql_value
row_order_value(const struct order_field *field, const void *row)
{
    const void *at = (const char *)row + field->offset;
    if (field->kind == DESC_STR) {
        const char *s = *(const char *const *)at;
        return sql_text(s ? s : "");
    }
    return sql_int(field->kind == DESC_BOOL ? *(const bool *)at : *(const int64_t *)at);
}

enum sql_kind
column_kind(const struct desc_field *field)
{
    if ((field->flags & DESC_SEALED) || field->kind == DESC_BLOB) {
        return SQL_BLOB;
    }
    if (field->kind == DESC_BOOL || field->kind == DESC_INT ||
        field->kind == DESC_TIME) {
        return SQL_INT;
    }
    return field->kind == DESC_F64 ? SQL_F64 : SQL_TEXT;
}

/* ---- to columns ------------------------------------------------------------------ */

bool
row_may_seal(const struct table *table, const struct vault *vault, const void *row,
             struct err *err)
{
    const struct desc *desc = table->type->desc;
    for (uint32_t i = 0; table->secret && !vault->has_key && i < desc->field_count;
         i++) {
        const struct desc_field *f = &desc->fields[i];
        if ((f->flags & DESC_SEALED) && desc_present(f, row)) {
            return err_set(err, ERR_INVALID,
                           "%s.%s is sealed, and there is no master key",
                           table->type->name, f->name);
        }
    }
    return true;
}

static void
encode_sealed(const struct table *table, const struct vault *vault,
              const struct desc_field *f, const void *row, struct arena *arena,
              struct sql_value *value)
{
    AUTO(buf) struct buf place = {0};
    put_place(table, f, row, &place);
    uint8_t *sealed = arena_alloc(arena, value->len + SEAL_OVERHEAD);
    seal(vault->key, vault->rng, buf_str(&place), value->data, value->len, sealed);
    *value = sql_blob(sealed, value->len + SEAL_OVERHEAD);
}

/* A column's JSON is the member's value alone: what json_write puts after {"name": */
static struct sql_value
encode_json(const struct desc_field *f, const void *row, struct arena *arena)
{
    struct desc one = {.name = f->name, .fields = f, .field_count = 1};
    AUTO(buf) struct buf text = {0};
    size_t head = strlen(f->name) + 4;
    json_write(&one, row, JSON_FLAGS, &text);
    return sql_text(arena_strndup(arena, text.data + head, text.len - head - 1));
}

static struct sql_value
encode_field(const struct desc_field *f, const void *row, struct arena *arena)
{
    const void *at = desc_at(f, row);
    switch ((enum desc_kind)f->kind) {
    case DESC_BOOL:
        return sql_int(*(const bool *)at);
    case DESC_INT:
    case DESC_TIME:
        return sql_int(*(const int64_t *)at);
    case DESC_F64:
        return (struct sql_value){.kind = SQL_F64, .real = *(const double *)at};
    case DESC_STR:
        return sql_text(*(const char *const *)at);
    case DESC_BLOB:
        return sql_blob(((const struct blob *)at)->data,
                        ((const struct blob *)at)->len);
    case DESC_STRUCT:
    case DESC_LIST:
    case DESC_MAP:
        return encode_json(f, row, arena);
    }
    return (struct sql_value){.kind = SQL_NULL};
}

bool
row_encode(const struct table *table, const struct vault *vault, const void *row,
           struct arena *arena, struct sql_value *out, struct err *err)
{
    const struct desc *desc = table->type->desc;
    if (!row_may_seal(table, vault, row, err)) {
        return false;
    }
    for (uint32_t i = 0; i < desc->field_count; i++) {
        const struct desc_field *f = &desc->fields[i];
        bool present = desc_present(f, row);
        out[i] = (struct sql_value){.kind = SQL_NULL};
        if (present) {
            out[i] = encode_field(f, row, arena);
        } else if (table->sorted[i]) {
            out[i] = f->kind == DESC_STR ? sql_text("") : sql_int(0);
        }
        if (present && (f->flags & DESC_SEALED)) {
            encode_sealed(table, vault, f, row, arena, &out[i]);
        }
    }
    return true;
}

/* ---- from columns ---------------------------------------------------------------- */

static bool
decode_json(const struct desc_field *f, const struct sql_value *v, struct arena *arena,
            void *row, struct err *err)
{
    struct desc one = {.name = f->name,
                       .fields = f,
                       .field_count = 1,
                       .size = (uint32_t)(f->offset + sizeof(struct desc_list))};
    AUTO(arena) struct arena *scratch = arena_create();
    AUTO(buf) struct buf text = {0};
    buf_printf(&text, "{\"%s\":", f->name);
    buf_put(&text, v->data, v->len);
    buf_putc(&text, '}');
    void *object = arena_alloc(scratch, one.size);
    if (!json_read_text(&one, text.data, text.len, JSON_FLAGS, arena, object, err)) {
        return false;
    }
    memcpy(desc_at(f, row), desc_at(f, object),
           f->kind == DESC_STRUCT ? sizeof(void *) : sizeof(struct desc_list));
    return true;
}

static void
decode_bytes(const struct desc_field *f, const void *data, size_t len,
             struct arena *arena, void *row)
{
    if (f->kind == DESC_STR) {
        *(const char **)desc_at(f, row) = arena_strndup(arena, data, len);
    } else {
        *(struct blob *)desc_at(f, row) =
            (struct blob){arena_memdup(arena, data, len), len};
    }
}

static bool
decode_sealed(const struct table *table, const struct vault *vault,
              const struct desc_field *f, const struct sql_value *v,
              struct arena *arena, void *row, struct err *err)
{
    AUTO(buf) struct buf place = {0};
    if (!vault->has_key || v->kind != SQL_BLOB || v->len < SEAL_OVERHEAD) {
        return err_set(err, ERR_CORRUPT, "%s",
                       vault->has_key ? "not a sealed value"
                                      : "there is no master key");
    }
    put_place(table, f, row, &place);
    size_t len = v->len - SEAL_OVERHEAD;
    uint8_t *plain = arena_alloc(arena, len + 1);
    if (!unseal(vault->key, buf_str(&place), v->data, v->len, plain, err)) {
        return false;
    }
    if (f->kind == DESC_STR) {
        *(const char **)desc_at(f, row) = (const char *)plain;
    } else {
        *(struct blob *)desc_at(f, row) = (struct blob){plain, len};
    }
    return true;
}

static bool
decode_field(const struct desc_field *f, const struct sql_value *v, bool sorted,
             struct arena *arena, void *row, struct err *err)
{
    void *at = desc_at(f, row);
    bool number = v->kind == SQL_INT;
    bool bytes = v->kind == SQL_TEXT || v->kind == SQL_BLOB;
    switch ((enum desc_kind)f->kind) {
    case DESC_BOOL:
        *(bool *)at = v->number != 0;
        break;
    case DESC_INT:
    case DESC_TIME:
        *(int64_t *)at = v->number;
        break;
    case DESC_F64:
        *(double *)at = number ? (double)v->number : v->real;
        number = number || v->kind == SQL_F64;
        break;
    case DESC_STR:
    case DESC_BLOB:
        if (bytes && (!sorted || v->len)) {
            decode_bytes(f, v->data, v->len, arena, row);
        }
        return bytes || err_set(err, ERR_CORRUPT, "not text");
    case DESC_STRUCT:
    case DESC_LIST:
    case DESC_MAP:
        return bytes ? decode_json(f, v, arena, row, err)
                     : err_set(err, ERR_CORRUPT, "not JSON");
    }
    return number || err_set(err, ERR_CORRUPT, "not a number");
}

bool
row_decode(const struct table *table, const struct vault *vault,
           const struct sql_driver *driver, struct sql_stmt *stmt, struct arena *arena,
           void *out_row, struct err *err)
{
    const struct desc *desc = table->type->desc;
    /* Sealed columns last: what they are bound to is the row's key. */
    for (unsigned sealed = 0; sealed <= (table->secret ? 1u : 0u); sealed++) {
        for (uint32_t i = 0; i < desc->field_count; i++) {
            const struct desc_field *f = &desc->fields[i];
            struct sql_value v;
            if (((f->flags & DESC_SEALED) != 0) != (sealed != 0)) {
                continue;
            }
            driver->column(stmt, i, &v);
            bool ok =
                v.kind == SQL_NULL ||
                (sealed ? decode_sealed(table, vault, f, &v, arena, out_row, err)
                        : decode_field(f, &v, table->sorted[i], arena, out_row, err));
            if (!ok) {
                AUTO(buf) struct buf what = {.limit = 200};
                table_describe(table, out_row, &what);
                err->code = ERR_CORRUPT;
                return err_wrap(err, "%s, column %s", buf_str(&what), f->name);
            }
        }
    }
    return true;
}
