/* jsonio.c - see jsonio.h. */
#include "base/jsonio.h"
#include "base/crypto.h"
#include "base/timefmt.h"
#include <math.h>

/* ---- writing --------------------------------------------------------------------- */

size_t
json_utf8_len(const unsigned char *s, size_t left)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80           ? 1
               : (s[0] >> 5) == 0x06 ? 2
               : (s[0] >> 4) == 0x0e ? 3
               : (s[0] >> 3) == 0x1e ? 4
                                     : 0;
    if (n < 2 || n > left) {
        return n == 1;
    }
    uint32_t c = s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
        c = c << 6 | (s[i] & 0x3f);
    }
    bool surrogate = c >= 0xd800 && c <= 0xdfff;
    return c >= smallest[n] && c <= 0x10ffff && !surrogate ? n : 0;
}

static void
put_escape(struct buf *out, unsigned char c)
{
    static const char *const shorts[0x20] = {
        ['\b'] = "\\b", ['\f'] = "\\f", ['\n'] = "\\n", ['\r'] = "\\r", ['\t'] = "\\t"};
    if (c < 0x20 && shorts[c]) {
        buf_puts(out, shorts[c]);
    } else if (c < 0x20) {
        buf_printf(out, "\\u%04x", c);
    } else {
        buf_putc(out, '\\');
        buf_putc(out, (char)c);
    }
}

void
json_put_string(struct buf *out, const char *s, size_t len)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t start = 0, i = 0;
    buf_putc(out, '"');
    while (i < len) {
        bool plain = p[i] >= 0x20 && p[i] < 0x80 && p[i] != '"' && p[i] != '\\';
        size_t n = plain ? 1 : p[i] < 0x80 ? 0 : json_utf8_len(p + i, len - i);
        if (n) {
            i += n;
            continue;
        }
        buf_put(out, s + start, i - start);
        if (p[i] < 0x80) {
            put_escape(out, p[i]);
        } else {
            buf_puts(out, "\xef\xbf\xbd");
        }
        start = ++i;
    }
    buf_put(out, s + start, len - start);
    buf_putc(out, '"');
}

static void
write_text(struct buf *out, const char *s)
{
    if (s) {
        json_put_string(out, s, strlen(s));
    } else {
        buf_puts(out, "null");
    }
}

static void
write_f64(struct buf *out, double v)
{
    if (isfinite(v)) {
        buf_printf(out, "%.17g", v);
    } else {
        buf_puts(out, "null"); /* JSON has no word for it. */
    }
}

/* Fraction of a second with as many digits as it needs: "", ".5", ".000000001". */
static void
write_fraction(struct buf *out, int64_t rest_ns)
{
    char digits[16];
    (void)snprintf(digits, sizeof digits, ".%09d", (int)rest_ns);
    size_t len = strlen(digits);
    while (digits[len - 1] == '0') {
        len--;
    }
    buf_put(out, digits, len == 1 ? 0 : len);
}

static void
write_time(struct buf *out, int64_t ns, unsigned flags)
{
    int64_t s = ns / NS_PER_S, rest = ns % NS_PER_S;
    if (!(flags & JSONIO_TIME_TEXT)) {
        buf_printf(out, "%s%" PRId64, ns < 0 && s == 0 ? "-" : "", s);
        write_fraction(out, rest < 0 ? -rest : rest);
        return;
    }
    char text[TIME_TEXT_LEN];
    time_iso(ns, text);
    if (rest % NS_PER_MS != 0) { /* Rows keep what milliseconds would lose. */
        text[strlen(text) - 5] = '\0';
        buf_printf(out, "\"%s", text);
        write_fraction(out, rest < 0 ? rest + NS_PER_S : rest);
        buf_puts(out, "Z\"");
    } else {
        buf_printf(out, "\"%s\"", text);
    }
}

static void
write_blob(struct buf *out, const struct blob *b)
{
    AUTO(arena) struct arena *arena = arena_create();
    buf_putc(out, '"');
    buf_puts(out, base64_encode(arena, b->data, b->len));
    buf_putc(out, '"');
}

static void
write_value(enum desc_kind kind, const struct desc *type, const void *at,
            unsigned flags, struct buf *out)
{
    switch (kind) {
    case DESC_BOOL:
        buf_puts(out, *(const bool *)at ? "true" : "false");
        break;
    case DESC_INT:
        buf_printf(out, "%" PRId64, *(const int64_t *)at);
        break;
    case DESC_F64:
        write_f64(out, *(const double *)at);
        break;
    case DESC_TIME:
        write_time(out, *(const int64_t *)at, flags);
        break;
    case DESC_STR:
        write_text(out, *(const char *const *)at);
        break;
    case DESC_BLOB:
        write_blob(out, at);
        break;
    case DESC_STRUCT:
        json_write(type, at, flags, out);
        break;
    case DESC_LIST:
    case DESC_MAP:
        break;
    }
}

static void
write_list(const struct desc_field *f, const struct desc_list *list, unsigned flags,
           struct buf *out)
{
    size_t size = desc_kind_size((enum desc_kind)f->item_kind, f->type);
    buf_putc(out, '[');
    for (size_t i = 0; i < list->count; i++) {
        if (i) {
            buf_putc(out, ',');
        }
        write_value((enum desc_kind)f->item_kind, f->type,
                    (const char *)list->items + i * size, flags, out);
    }
    buf_putc(out, ']');
}

static void
write_map(const struct desc_list *list, struct buf *out)
{
    const struct desc_pair *pairs = list->items;
    buf_putc(out, '{');
    for (size_t i = 0; i < list->count; i++) {
        if (i) {
            buf_putc(out, ',');
        }
        json_put_string(out, pairs[i].key, strlen(pairs[i].key));
        buf_putc(out, ':');
        write_text(out, pairs[i].value);
    }
    buf_putc(out, '}');
}

static bool
wanted(const struct desc_field *f, const void *object, unsigned flags)
{
    bool many = f->kind == DESC_LIST || f->kind == DESC_MAP;
    return desc_present(f, object) &&
           (!many || (flags & JSONIO_KEEP_EMPTY) ||
            ((const struct desc_list *)desc_at(f, object))->count);
}

void
json_write(const struct desc *desc, const void *object, unsigned flags, struct buf *out)
{
    bool first = true;
    buf_putc(out, '{');
    for (uint32_t i = 0; i < desc->field_count; i++) {
        const struct desc_field *f = &desc->fields[i];
        const void *at = desc_at(f, object);
        if (!wanted(f, object, flags)) {
            continue;
        }
        if (!first) {
            buf_putc(out, ',');
        }
        first = false;
        json_put_string(out, f->name, strlen(f->name));
        buf_putc(out, ':');
        if (f->kind == DESC_LIST) {
            write_list(f, at, flags, out);
        } else if (f->kind == DESC_MAP) {
            write_map(at, out);
        } else {
            write_value((enum desc_kind)f->kind, f->type,
                        f->kind == DESC_STRUCT ? *(const void *const *)at : at, flags,
                        out);
        }
    }
    buf_putc(out, '}');
}

/* ---- reading --------------------------------------------------------------------- */

/* Where in the document we are, for errors; lives on the stack of the recursion. */
struct place {
    const struct place *up;
    const char *name; /* NULL: item 'index' of a list. */
    size_t index;
};

struct reading {
    unsigned flags;
    struct arena *arena;
    struct err *err;
};

static void
put_place(struct buf *out, const struct place *place)
{
    if (!place) {
        return;
    }
    put_place(out, place->up);
    if (!place->name) {
        buf_printf(out, "[%zu]", place->index);
    } else {
        buf_printf(out, "%s%s", out->len ? "." : "", place->name);
    }
}

static bool
fail(struct reading *r, const struct place *place, const char *what)
{
    AUTO(buf) struct buf path = {.limit = 300};
    put_place(&path, place);
    return err_set(r->err, ERR_SERIALIZATION, "%s: %s",
                   path.len ? buf_str(&path) : "document", what);
}

static bool read_object(struct reading *r, const struct desc *desc, json_t *json,
                        const struct place *place, void *object);

static bool
read_time(struct reading *r, json_t *json, const struct place *place, int64_t *out)
{
    if (json_is_integer(json)) {
        if (__builtin_mul_overflow((int64_t)json_integer_value(json), NS_PER_S, out)) {
            return fail(r, place, "time out of range");
        }
        return true;
    }
    if (json_is_real(json)) {
        double s = json_real_value(json);
        if (!(s > -9e9 && s < 9e9)) {
            return fail(r, place, "time out of range");
        }
        /* A double holds about a quarter of a microsecond at this size: no more is
         * kept. */
        *out = (int64_t)(s * 1e6 + (s < 0 ? -0.5 : 0.5)) * NS_PER_US;
        return true;
    }
    if (!json_is_string(json) || !time_parse(json_string_value(json), out)) {
        return fail(r, place, "must be a time");
    }
    return true;
}

static bool
read_str(struct reading *r, json_t *json, const struct place *place, const char **out)
{
    if (!json_is_string(json)) {
        return fail(r, place, "must be a string");
    }
    if (strlen(json_string_value(json)) != json_string_length(json)) {
        return fail(r, place, "must not contain NUL");
    }
    *out = arena_strdup(r->arena, json_string_value(json));
    return true;
}

static bool
read_blob(struct reading *r, json_t *json, const struct place *place, struct blob *out)
{
    uint8_t *data;
    struct err why;
    if (!json_is_string(json) ||
        !base64_decode(r->arena, json_string_value(json), json_string_length(json),
                       &data, &out->len, &why)) {
        return fail(r, place, "must be base64 text");
    }
    out->data = data;
    return true;
}

static bool
read_value(struct reading *r, enum desc_kind kind, const struct desc *type,
           json_t *json, const struct place *place, void *at)
{
    switch (kind) {
    case DESC_BOOL:
        *(bool *)at = json_is_true(json);
        return json_is_boolean(json) || fail(r, place, "must be true or false");
    case DESC_INT:
        *(int64_t *)at = json_integer_value(json);
        return json_is_integer(json) || fail(r, place, "must be a whole number");
    case DESC_F64:
        *(double *)at = json_number_value(json);
        return json_is_number(json) || fail(r, place, "must be a number");
    case DESC_TIME:
        return read_time(r, json, place, at);
    case DESC_STR:
        return read_str(r, json, place, at);
    case DESC_BLOB:
        return read_blob(r, json, place, at);
    case DESC_STRUCT:
        return read_object(r, type, json, place, at);
    case DESC_LIST:
    case DESC_MAP:
        break;
    }
    return fail(r, place, "a list of lists");
}

static bool
read_list(struct reading *r, const struct desc_field *f, json_t *json,
          const struct place *place, struct desc_list *out)
{
    if (!json_is_array(json)) {
        return fail(r, place, "must be a list");
    }
    size_t count = json_array_size(json);
    size_t size = desc_kind_size((enum desc_kind)f->item_kind, f->type);
    char *items = arena_array(r->arena, count, size);
    for (size_t i = 0; i < count; i++) {
        struct place here = {.up = place, .index = i};
        if (!read_value(r, (enum desc_kind)f->item_kind, f->type,
                        json_array_get(json, i), &here, items + i * size)) {
            return false;
        }
    }
    *out = (struct desc_list){items, count};
    return true;
}

static bool
read_map(struct reading *r, json_t *json, const struct place *place,
         struct desc_list *out)
{
    if (!json_is_object(json)) {
        return fail(r, place, "must be an object");
    }
    size_t n = 0;
    struct desc_pair *pairs =
        ARENA_ARRAY(r->arena, json_object_size(json), struct desc_pair);
    const char *key;
    json_t *value;
    json_object_foreach(json, key, value)
    {
        struct place here = {.up = place, .name = key};
        pairs[n].key = arena_strdup(r->arena, key);
        if (!read_str(r, value, &here, &pairs[n++].value)) {
            return false;
        }
    }
    *out = (struct desc_list){pairs, n};
    return true;
}

static bool
read_field(struct reading *r, const struct desc_field *f, json_t *json,
           const struct place *place, void *object)
{
    void *at = desc_at(f, object);
    desc_set_present(f, object);
    if (f->kind == DESC_LIST) {
        return read_list(r, f, json, place, at);
    }
    if (f->kind == DESC_MAP) {
        return read_map(r, json, place, at);
    }
    if (f->kind == DESC_STRUCT) {
        void **p = at;
        at = *p = arena_alloc(r->arena, f->type->size);
    }
    return read_value(r, (enum desc_kind)f->kind, f->type, json, place, at);
}

static bool
read_object(struct reading *r, const struct desc *desc, json_t *json,
            const struct place *place, void *object)
{
    if (!json_is_object(json)) {
        return fail(r, place, "must be an object");
    }
    const char *key;
    json_t *value;
    json_object_foreach(json, key, value)
    {
        struct place here = {.up = place, .name = key};
        const struct desc_field *f = desc_find(desc, key);
        if (!f && (r->flags & JSONIO_STRICT)) {
            return fail(r, &here, "is not known");
        }
        if (f && !json_is_null(value) && !read_field(r, f, value, &here, object)) {
            return false;
        }
    }
    return true;
}

bool
json_read(const struct desc *desc, json_t *json, unsigned flags, struct arena *arena,
          void *out_object, struct err *err)
{
    struct reading r = {.flags = flags, .arena = arena, .err = err};
    memset(out_object, 0, desc->size);
    return read_object(&r, desc, json, NULL, out_object);
}

bool
json_read_text(const struct desc *desc, const char *text, size_t len, unsigned flags,
               struct arena *arena, void *out_object, struct err *err)
{
    json_error_t why;
    AUTO(json) json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    if (!json) {
        return err_set(err, ERR_SERIALIZATION, "not JSON: %s (line %d)", why.text,
                       why.line);
    }
    return json_read(desc, json, flags, arena, out_object, err);
}
