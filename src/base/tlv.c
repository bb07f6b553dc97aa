/* tlv.c - see tlv.h. */
#include "base/tlv.h"
#include "base/buf.h"

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

#define DEEPEST 32
/* Decoding may take this many times the input's length (structs are larger than their
 * encoding), and as much besides. */
#define BLOWUP 64
#define BLOWUP_FLOOR ((size_t)64 << 10)

/* ---- encoding -------------------------------------------------------------------- */

static void
put_varint(struct buf *out, uint64_t v)
{
    while (v >= 0x80) {
        buf_putc(out, (char)(v | 0x80));
        v >>= 7;
    }
    buf_putc(out, (char)v);
}

static void
put_key(struct buf *out, unsigned number, enum wire wire)
{
    put_varint(out, (uint64_t)number << 3 | wire);
}

static void
put_bytes(struct buf *out, unsigned number, const void *p, size_t len)
{
    put_key(out, number, WIRE_BYTES);
    put_varint(out, len);
    buf_put(out, p, len);
}

static void
put_struct(struct buf *out, unsigned number, const struct desc *type,
           const void *object)
{
    AUTO(buf) struct buf inner = {0};
    tlv_encode(type, object, &inner);
    put_bytes(out, number, inner.data, inner.len);
}

static void
put_pair(struct buf *out, unsigned number, const struct desc_pair *pair)
{
    AUTO(buf) struct buf inner = {0};
    put_bytes(&inner, 1, pair->key, strlen(pair->key));
    put_bytes(&inner, 2, pair->value, strlen(pair->value));
    put_bytes(out, number, inner.data, inner.len);
}

static void
put_value(struct buf *out, unsigned number, enum desc_kind kind,
          const struct desc *type, const void *at)
{
    switch (kind) {
    case DESC_BOOL:
        put_key(out, number, WIRE_VARINT);
        put_varint(out, *(const bool *)at);
        break;
    case DESC_INT:
    case DESC_TIME: {
        int64_t v = *(const int64_t *)at;
        put_key(out, number, WIRE_VARINT);
        put_varint(out, (uint64_t)v << 1 ^ (v < 0 ? UINT64_MAX : 0));
        break;
    }
    case DESC_F64: {
        uint64_t bits;
        memcpy(&bits, at, sizeof bits);
        put_key(out, number, WIRE_64);
        for (unsigned i = 0; i < 64; i += 8) {
            buf_putc(out, (char)(bits >> i));
        }
        break;
    }
    case DESC_STR: {
        const char *s = *(const char *const *)at;
        put_bytes(out, number, s, s ? strlen(s) : 0);
        break;
    }
    case DESC_BLOB:
        put_bytes(out, number, ((const struct blob *)at)->data,
                  ((const struct blob *)at)->len);
        break;
    case DESC_STRUCT:
        put_struct(out, number, type, at);
        break;
    case DESC_MAP:
        put_pair(out, number, at);
        break;
    case DESC_LIST:
        break;
    }
}

void
tlv_encode(const struct desc *desc, const void *object, struct buf *out)
{
    for (uint32_t i = 0; i < desc->field_count; i++) {
        const struct desc_field *f = &desc->fields[i];
        const void *at = desc_at(f, object);
        if (!desc_present(f, object)) {
            continue;
        }
        if (f->kind == DESC_LIST || f->kind == DESC_MAP) {
            enum desc_kind kind =
                f->kind == DESC_MAP ? DESC_MAP : (enum desc_kind)f->item_kind;
            const struct desc_list *list = at;
            size_t size = desc_kind_size(kind, f->type);
            for (size_t j = 0; j < list->count; j++) {
                put_value(out, f->number, kind, f->type,
                          (const char *)list->items + j * size);
            }
        } else {
            put_value(out, f->number, (enum desc_kind)f->kind, f->type,
                      f->kind == DESC_STRUCT ? *(const void *const *)at : at);
        }
    }
}

/* ---- decoding -------------------------------------------------------------------- */

struct reader {
    const uint8_t *p, *end;
};

/* One decoding as a whole: where values go, and how much they may still take. */
struct decoder {
    struct arena *arena;
    size_t budget;
    struct err *err;
};

/* One field as it lies in the input; 'bytes' for WIRE_BYTES, 'number' for the rest. */
struct item {
    uint64_t field;
    enum wire wire;
    uint64_t number;
    struct reader bytes;
};

static bool
get_varint(struct reader *r, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && r->p < r->end; shift += 7) {
        uint8_t b = *r->p++;
        if (shift == 63 && b > 1) {
            return false;
        }
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *out = v;
            return true;
        }
    }
    return false;
}

static bool
get_fixed(struct reader *r, unsigned len, uint64_t *out)
{
    if ((size_t)(r->end - r->p) < len) {
        return false;
    }
    *out = 0;
    for (unsigned i = 0; i < len; i++) {
        *out |= (uint64_t)*r->p++ << (8 * i);
    }
    return true;
}

static bool
get_item(struct reader *r, struct item *out)
{
    uint64_t key, len;
    if (!get_varint(r, &key)) {
        return false;
    }
    out->field = key >> 3;
    out->wire = (enum wire)(key & 7);
    switch (out->wire) {
    case WIRE_VARINT:
        return get_varint(r, &out->number);
    case WIRE_64:
        return get_fixed(r, 8, &out->number);
    case WIRE_32:
        return get_fixed(r, 4, &out->number);
    case WIRE_BYTES:
        if (!get_varint(r, &len) || len > (uint64_t)(r->end - r->p)) {
            return false;
        }
        out->bytes = (struct reader){r->p, r->p + len};
        r->p += len;
        return true;
    }
    return false;
}

static enum wire
wire_of(enum desc_kind kind)
{
    return kind == DESC_F64 ? WIRE_64 : kind <= DESC_TIME ? WIRE_VARINT : WIRE_BYTES;
}

static void *
spend(struct decoder *d, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total) || total > d->budget) {
        err_set(d->err, ERR_TOO_LARGE, "record would take too much memory");
        return NULL;
    }
    d->budget -= total;
    return arena_alloc(d->arena, total);
}

static bool decode(struct decoder *d, const struct desc *desc, struct reader in,
                   int depth, void *object);

static bool
decode_str(struct decoder *d, struct reader in, const char **out)
{
    size_t len = (size_t)(in.end - in.p);
    if (memchr(in.p, '\0', len)) {
        return err_set(d->err, ERR_CORRUPT, "text with a NUL in it");
    }
    *out = arena_strndup(d->arena, (const char *)in.p, len);
    return true;
}

static bool
decode_pair(struct decoder *d, struct reader in, struct desc_pair *out)
{
    struct item item;
    out->key = out->value = "";
    while (in.p < in.end) {
        if (!get_item(&in, &item)) {
            return err_set(d->err, ERR_CORRUPT, "pair cut short");
        }
        bool mine = item.wire == WIRE_BYTES && (item.field == 1 || item.field == 2);
        if (mine &&
            !decode_str(d, item.bytes, item.field == 1 ? &out->key : &out->value)) {
            return false;
        }
    }
    return true;
}

static bool
decode_value(struct decoder *d, const struct item *item, enum desc_kind kind,
             const struct desc *type, int depth, void *at)
{
    switch (kind) {
    case DESC_BOOL:
        *(bool *)at = item->number != 0;
        return true;
    case DESC_INT:
    case DESC_TIME:
        *(int64_t *)at = (int64_t)(item->number >> 1 ^ (0 - (item->number & 1)));
        return true;
    case DESC_F64:
        memcpy(at, &item->number, sizeof(double));
        return true;
    case DESC_STR:
        return decode_str(d, item->bytes, at);
    case DESC_BLOB: {
        struct blob *b = at;
        b->len = (size_t)(item->bytes.end - item->bytes.p);
        b->data = arena_memdup(d->arena, item->bytes.p, b->len);
        return true;
    }
    case DESC_STRUCT:
        return decode(d, type, item->bytes, depth + 1, at);
    case DESC_MAP:
        return decode_pair(d, item->bytes, at);
    case DESC_LIST:
        break;
    }
    return err_set(d->err, ERR_CORRUPT, "a list of lists");
}

/* How often 'number' comes in what is left of the input, this one included. */
static size_t
count_items(struct reader rest, uint64_t number)
{
    size_t n = 1;
    struct item item;
    while (rest.p < rest.end && get_item(&rest, &item)) {
        n += item.field == number;
    }
    return n;
}

/* The place for a list's next item. The list is made at its first one, in the size that
 * the rest of the input calls for. */
static void *
list_slot(struct decoder *d, struct desc_list *list, size_t size, struct reader rest,
          uint64_t number)
{
    if (!list->items) {
        list->items = spend(d, count_items(rest, number), size);
        if (!list->items) {
            return NULL;
        }
    }
    return (char *)list->items + list->count++ * size;
}

static bool
decode_field(struct decoder *d, const struct desc_field *f, const struct item *item,
             struct reader rest, int depth, void *object)
{
    void *at = desc_at(f, object);
    bool many = f->kind == DESC_LIST || f->kind == DESC_MAP;
    enum desc_kind kind =
        (enum desc_kind)(f->kind == DESC_LIST ? f->item_kind : f->kind);
    if (item->wire != wire_of(kind)) {
        return err_set(d->err, ERR_CORRUPT, "field %s of another type", f->name);
    }
    if (many) {
        at = list_slot(d, at, desc_kind_size(kind, f->type), rest, item->field);
    } else if (kind == DESC_STRUCT) {
        void **p = at;
        at = *p = spend(d, 1, f->type->size);
    }
    if (!at) {
        return false;
    }
    desc_set_present(f, object);
    return decode_value(d, item, kind, f->type, depth, at);
}

static bool
decode(struct decoder *d, const struct desc *desc, struct reader in, int depth,
       void *object)
{
    struct item item;
    if (depth > DEEPEST) {
        return err_set(d->err, ERR_CORRUPT, "%s: nested too deep", desc->name);
    }
    while (in.p < in.end) {
        if (!get_item(&in, &item)) {
            return err_set(d->err, ERR_CORRUPT, "%s: cut short or malformed",
                           desc->name);
        }
        const struct desc_field *f = item.field <= UINT16_MAX
                                         ? desc_find_number(desc, (uint16_t)item.field)
                                         : NULL;
        if (f && !decode_field(d, f, &item, in, depth, object)) {
            return err_wrap(d->err, "%s", desc->name);
        }
    }
    for (uint32_t i = 0; i < desc->field_count; i++) {
        const struct desc_field *f = &desc->fields[i];
        if ((f->flags & DESC_REQUIRED) && !desc_present(f, object)) {
            return err_set(d->err, ERR_CORRUPT, "%s: %s is missing", desc->name,
                           f->name);
        }
    }
    return true;
}

bool
tlv_decode(const struct desc *desc, const void *data, size_t len, struct arena *arena,
           void *out_object, struct err *err)
{
    struct decoder d = {
        .arena = arena, .budget = len * BLOWUP + BLOWUP_FLOOR, .err = err};
    const uint8_t *p = len ? data : (const uint8_t *)"";
    memset(out_object, 0, desc->size);
    return decode(&d, desc, (struct reader){p, p + len}, 0, out_object);
}
