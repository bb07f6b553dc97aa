/* xml.c - structs as the answers of the ec2 and query protocols. */
#include "base/crypto.h"
#include "wire/protocol.h"
#include "wire/text.h"

static void put_struct(struct buf *out, const struct desc *desc, const void *object);

static void
open_tag(struct buf *out, const char *name, size_t len)
{
    char *at = buf_room(out, len + 2);
    if (at) {
        at[0] = '<';
        memcpy(at + 1, name, len);
        at[len + 1] = '>';
        out->len += len + 2;
    }
}

static void
close_tag(struct buf *out, const char *name, size_t len)
{
    char *at = buf_room(out, len + 3);
    if (at) {
        at[0] = '<';
        at[1] = '/';
        memcpy(at + 2, name, len);
        at[len + 2] = '>';
        out->len += len + 3;
    }
}

static void
put_int(struct buf *out, int64_t value)
{
    char text[24], *at = text + sizeof text;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (value < 0) {
        *--at = '-';
    }
    buf_put(out, at, (size_t)(text + sizeof text - at));
}

static void
put_base64(struct buf *out, const struct blob *blob)
{
    AUTO(arena) struct arena *arena = arena_create();
    buf_puts(out, base64_encode(arena, blob->data, blob->len));
}

static void
put_value(struct buf *out, enum desc_kind kind, const struct desc *type, const void *at)
{
    switch (kind) {
    case DESC_BOOL:
        buf_puts(out, *(const bool *)at ? "true" : "false");
        break;
    case DESC_INT:
        put_int(out, *(const int64_t *)at);
        break;
    case DESC_F64:
        buf_printf(out, "%.15g", *(const double *)at);
        break;
    case DESC_TIME:
        text_put_time(out, *(const int64_t *)at);
        break;
    case DESC_STR:
        if (*(const char *const *)at) {
            text_put_xml(out, *(const char *const *)at);
        }
        break;
    case DESC_BLOB:
        put_base64(out, at);
        break;
    case DESC_STRUCT: /* A list's item: it lies here itself. */
        put_struct(out, type, at);
        break;
    default:
        break;
    }
}

static void
put_list(struct buf *out, const struct desc_field *f, const struct desc_list *list,
         const char *name, size_t len)
{
    bool flat = (f->flags & DESC_FLATTENED) != 0;
    const char *item = flat ? name : f->item_name;
    size_t item_len = flat ? len : f->item_len;
    size_t size = desc_kind_size(f->item_kind, f->type);
    if (!flat && !list->count) {
        buf_printf(out, "<%s/>", name);
        return;
    }
    if (!flat) {
        open_tag(out, name, len);
    }
    for (size_t i = 0; i < list->count; i++) {
        open_tag(out, item, item_len);
        put_value(out, f->item_kind, f->type, (const char *)list->items + i * size);
        close_tag(out, item, item_len);
    }
    if (!flat) {
        close_tag(out, name, len);
    }
}

static void
put_map(struct buf *out, const struct desc_field *f, const struct desc_list *map,
        const char *name)
{
    bool flat = (f->flags & DESC_FLATTENED) != 0;
    const struct desc_pair *pairs = map->items;
    if (!flat) {
        buf_printf(out, "<%s>", name);
    }
    for (size_t i = 0; i < map->count; i++) {
        buf_printf(out, "<%s><key>", flat ? name : "entry");
        text_put_xml(out, pairs[i].key);
        buf_puts(out, "</key><value>");
        text_put_xml(out, pairs[i].value ? pairs[i].value : "");
        buf_printf(out, "</value></%s>", flat ? name : "entry");
    }
    if (!flat) {
        buf_printf(out, "</%s>", name);
    }
}

static void
put_field(struct buf *out, const struct desc_field *f, const void *object)
{
    const void *at = desc_at(f, object);
    const char *name = f->out_name ? f->out_name : f->name;
    size_t len = f->out_len;
    if (f->kind == DESC_LIST) {
        put_list(out, f, at, name, len);
        return;
    }
    if (f->kind == DESC_MAP) {
        put_map(out, f, at, name);
        return;
    }
    open_tag(out, name, len);
    if (f->kind == DESC_STRUCT) {
        put_struct(out, f->type, *(void *const *)at);
    } else {
        put_value(out, f->kind, NULL, at);
    }
    close_tag(out, name, len);
}

/* As desc_present, which is too far away for a loop as hot as this. */
static bool
present(const struct desc_field *f, const void *object)
{
    if (f->has_offset != DESC_ALWAYS) {
        return *((const bool *)object + f->has_offset);
    }
    /* Text, structures, lists and blobs all begin with a pointer. */
    return *(void *const *)desc_at(f, object) || (f->flags & DESC_LIST_ALWAYS);
}

static void
put_struct(struct buf *out, const struct desc *desc, const void *object)
{
    if (desc->ready_offset) {
        const struct blob *ready =
            (const void *)((const char *)object + desc->ready_offset);
        if (ready->len) {
            buf_put(out, ready->data, ready->len);
            return;
        }
    }
    for (uint32_t i = 0; i < desc->field_count; i++) {
        const struct desc_field *f = &desc->fields[i];
        if (present(f, object)) {
            put_field(out, f, object);
        }
    }
}

void
xml_encode_members(const struct desc *desc, const void *object, struct buf *out)
{
    put_struct(out, desc, object);
}

void
xml_encode(enum protocol protocol, const struct answer *answer, const struct desc *desc,
           const void *object, struct buf *out)
{
    buf_puts(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    buf_printf(out, "<%sResponse", answer->operation);
    if (answer->xml_namespace) {
        buf_printf(out, " xmlns=\"%s\"", answer->xml_namespace);
    }
    buf_putc(out, '>');
    if (protocol == PROTOCOL_EC2) {
        buf_printf(out, "<requestId>%s</requestId>", answer->request_id);
        if (desc) {
            put_struct(out, desc, object);
        } else {
            buf_puts(out, "<return>true</return>");
        }
    } else {
        if (answer->result_wrapper) {
            buf_printf(out, "<%s>", answer->result_wrapper);
        }
        if (desc) {
            put_struct(out, desc, object);
        }
        if (answer->result_wrapper) {
            buf_printf(out, "</%s>", answer->result_wrapper);
        }
        buf_printf(out,
                   "<ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata>",
                   answer->request_id);
    }
    buf_printf(out, "</%sResponse>\n", answer->operation);
}
