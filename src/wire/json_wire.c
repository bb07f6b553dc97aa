/* json_wire.c - the JSON protocols, and EC2's answers in JSON. */
#include "base/crypto.h"
#include "base/jsonio.h"
#include "wire/protocol.h"
#include "wire/text.h"

bool
json_decode(const struct desc *desc, const char *body, size_t len, struct arena *arena,
            void *out, struct err *err)
{
    if (!len) {
        memset(out, 0, desc->size);
        return true;
    }
    if (!json_read_text(desc, body, len, JSONIO_STRICT, arena, out, err)) {
        err->code = ERR_SERIALIZATION;
        return false;
    }
    return true;
}

void
json_encode(const struct desc *desc, const void *object, struct buf *out)
{
    json_write(desc, object, JSONIO_KEEP_EMPTY, out);
}

/* ---- EC2 as `aws --output json` prints it ---------------------------------------- */

static void put_struct(struct buf *out, const struct desc *desc, const void *object);

/* "2026-01-31T23:59:59+00:00", with microseconds when there are any. */
static void
put_time(struct buf *out, int64_t ns)
{
    buf_putc(out, '"');
    text_put_time(out, ns);
    bool whole = ns / NS_PER_MS % 1000 == 0;
    out->len -= out->full ? 0 : whole ? strlen(".000Z") : strlen("Z");
    buf_puts(out, whole ? "+00:00\"" : "000+00:00\"");
}

static void
put_value(struct buf *out, enum desc_kind kind, const struct desc *type, const void *at)
{
    switch (kind) {
    case DESC_BOOL:
        buf_puts(out, *(const bool *)at ? "true" : "false");
        break;
    case DESC_INT:
        buf_printf(out, "%" PRId64, *(const int64_t *)at);
        break;
    case DESC_F64: {
        double value = *(const double *)at;
        bool whole = value == (double)(int64_t)value;
        buf_printf(out, whole ? "%.1f" : "%.15g", value);
        break;
    }
    case DESC_TIME:
        put_time(out, *(const int64_t *)at);
        break;
    case DESC_STR: {
        const char *text = *(const char *const *)at;
        json_put_string(out, text ? text : "", text ? strlen(text) : 0);
        break;
    }
    case DESC_BLOB: {
        AUTO(arena) struct arena *arena = arena_create();
        const struct blob *blob = at;
        buf_printf(out, "\"%s\"", base64_encode(arena, blob->data, blob->len));
        break;
    }
    case DESC_STRUCT: /* A list's item: it lies here itself. */
        put_struct(out, type, at);
        break;
    default:
        break;
    }
}

static void
put_field(struct buf *out, const struct desc_field *f, const void *object)
{
    const void *at = desc_at(f, object);
    const struct desc_list *list = at;
    switch (f->kind) {
    case DESC_STRUCT:
        put_struct(out, f->type, *(const void *const *)at);
        break;
    case DESC_LIST: {
        size_t size = desc_kind_size(f->item_kind, f->type);
        buf_putc(out, '[');
        for (size_t i = 0; i < list->count; i++) {
            buf_puts(out, i ? ", " : "");
            put_value(out, f->item_kind, f->type, (const char *)list->items + i * size);
        }
        buf_putc(out, ']');
        break;
    }
    case DESC_MAP: {
        const struct desc_pair *pairs = list->items;
        buf_putc(out, '{');
        for (size_t i = 0; i < list->count; i++) {
            buf_puts(out, i ? ", " : "");
            put_value(out, DESC_STR, NULL, &pairs[i].key);
            buf_puts(out, ": ");
            put_value(out, DESC_STR, NULL, &pairs[i].value);
        }
        buf_putc(out, '}');
        break;
    }
    default:
        put_value(out, f->kind, NULL, at);
    }
}

static void
put_struct(struct buf *out, const struct desc *desc, const void *object)
{
    bool first = true;
    buf_putc(out, '{');
    for (uint32_t i = 0; i < desc->field_count; i++) {
        const struct desc_field *f = &desc->fields[i];
        if (!desc_present(f, object) && !(f->flags & DESC_LIST_ALWAYS)) {
            continue;
        }
        buf_puts(out, first ? "\"" : ", \"");
        buf_puts(out, f->name);
        buf_puts(out, "\": ");
        put_field(out, f, object);
        first = false;
    }
    buf_putc(out, '}');
}

void
ec2_json_encode(const struct desc *desc, const void *object, struct buf *out)
{
    if (desc) {
        put_struct(out, desc, object);
    } else {
        buf_puts(out, "{}");
    }
    buf_putc(out, '\n');
}
