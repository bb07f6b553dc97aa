/* desc.c - see desc.h. */
#include "base/desc.h"

const struct desc_field *
desc_find(const struct desc *desc, const char *name)
{
    for (uint32_t i = 0; i < desc->field_count; i++) {
        if (strcmp(desc->fields[i].name, name) == 0) {
            return &desc->fields[i];
        }
    }
    return NULL;
}

const struct desc_field *
desc_find_number(const struct desc *desc, uint16_t number)
{
    /* Numbers mostly run without a gap: look there first. */
    if (number && number <= desc->field_count &&
        desc->fields[number - 1].number == number) {
        return &desc->fields[number - 1];
    }
    for (uint32_t i = 0; i < desc->field_count; i++) {
        if (desc->fields[i].number == number) {
            return &desc->fields[i];
        }
    }
    return NULL;
}

bool
desc_present(const struct desc_field *f, const void *object)
{
    const void *at = desc_at(f, object);
    switch ((enum desc_kind)f->kind) {
    case DESC_BOOL:
    case DESC_INT:
    case DESC_F64:
    case DESC_TIME:
        if (f->has_offset != DESC_ALWAYS) {
            return *(const bool *)((const char *)object + f->has_offset);
        }
        return f->kind == DESC_BOOL  ? *(const bool *)at
               : f->kind == DESC_F64 ? *(const double *)at != 0
                                     : *(const int64_t *)at != 0;
    case DESC_STR:
    case DESC_STRUCT:
        return *(const void *const *)at != NULL;
    case DESC_BLOB:
        return ((const struct blob *)at)->data != NULL;
    case DESC_LIST:
    case DESC_MAP:
        return ((const struct desc_list *)at)->items != NULL;
    }
    return false;
}

void
desc_set_present(const struct desc_field *f, void *object)
{
    if (f->has_offset != DESC_ALWAYS && f->kind <= DESC_TIME) {
        *(bool *)((char *)object + f->has_offset) = true;
    }
}

size_t
desc_kind_size(enum desc_kind kind, const struct desc *type)
{
    switch (kind) {
    case DESC_BOOL:
        return sizeof(bool);
    case DESC_INT:
    case DESC_TIME:
        return sizeof(int64_t);
    case DESC_F64:
        return sizeof(double);
    case DESC_STR:
        return sizeof(const char *);
    case DESC_BLOB:
        return sizeof(struct blob);
    case DESC_STRUCT:
        return type->size;
    case DESC_LIST:
        return sizeof(struct desc_list);
    case DESC_MAP:
        return sizeof(struct desc_pair);
    }
    return 0;
}

size_t
desc_field_size(const struct desc_field *f)
{
    return f->kind == DESC_STRUCT ? sizeof(void *)
           : f->kind == DESC_MAP  ? sizeof(struct desc_list)
                                  : desc_kind_size((enum desc_kind)f->kind, f->type);
}

/* ---- copies ---------------------------------------------------------------------- */

static void copy_fields(const struct desc *desc, void *object, struct arena *arena);

/* 'at' holds a shallow copy of a value of this kind: makes what it points at its own.
 */
static void
copy_value(enum desc_kind kind, const struct desc *type, void *at, struct arena *arena)
{
    if (kind == DESC_STR) {
        const char **s = at;
        *s = arena_strdup(arena, *s);
    } else if (kind == DESC_BLOB) {
        struct blob *b = at;
        b->data = b->data ? arena_memdup(arena, b->data, b->len) : NULL;
    } else if (kind == DESC_STRUCT) {
        copy_fields(type, at, arena);
    } else if (kind == DESC_MAP) {
        struct desc_pair *pair = at;
        pair->key = arena_strdup(arena, pair->key);
        pair->value = arena_strdup(arena, pair->value);
    }
}

static void
copy_list(const struct desc_field *f, struct desc_list *list, struct arena *arena)
{
    enum desc_kind kind = f->kind == DESC_MAP ? DESC_MAP : (enum desc_kind)f->item_kind;
    if (!list->items) {
        return;
    }
    size_t size = desc_kind_size(kind, f->type);
    list->items = arena_memdup(arena, list->items, list->count * size);
    for (size_t i = 0; i < list->count; i++) {
        copy_value(kind, f->type, (char *)list->items + i * size, arena);
    }
}

static void
copy_fields(const struct desc *desc, void *object, struct arena *arena)
{
    for (uint32_t i = 0; i < desc->field_count; i++) {
        const struct desc_field *f = &desc->fields[i];
        void *at = desc_at(f, object);
        if (f->kind == DESC_LIST || f->kind == DESC_MAP) {
            copy_list(f, at, arena);
        } else if (f->kind == DESC_STRUCT) {
            void **p = at;
            *p = *p ? desc_copy(f->type, *p, arena) : NULL;
        } else {
            copy_value((enum desc_kind)f->kind, f->type, at, arena);
        }
    }
}

void *
desc_copy(const struct desc *desc, const void *object, struct arena *arena)
{
    void *out = arena_memdup(arena, object, desc->size);
    copy_fields(desc, out, arena);
    return out;
}

/* ---- shorter texts --------------------------------------------------------------- */

static const char *
shorter(const char *text, size_t most, struct arena *arena)
{
    if (!text || strnlen(text, most + 1) <= most) {
        return text;
    }
    while (most > 0 && ((unsigned char)text[most] & 0xc0) == 0x80) {
        most--; /* The rest of a character that does not fit. */
    }
    return arena_strndup(arena, text, most);
}

static void
shorten_value(enum desc_kind kind, const struct desc *type, void *at, size_t most,
              struct arena *arena)
{
    if (kind == DESC_STR) {
        const char **text = at;
        *text = shorter(*text, most, arena);
    } else if (kind == DESC_STRUCT) {
        desc_shorten(type, at, most, arena);
    } else if (kind == DESC_MAP) {
        struct desc_pair *pair = at;
        pair->key = shorter(pair->key, most, arena);
        pair->value = shorter(pair->value, most, arena);
    }
}

void
desc_shorten(const struct desc *desc, void *object, size_t most_bytes,
             struct arena *arena)
{
    for (uint32_t i = 0; i < desc->field_count; i++) {
        const struct desc_field *f = &desc->fields[i];
        void *at = desc_at(f, object);
        if (f->kind == DESC_LIST || f->kind == DESC_MAP) {
            enum desc_kind kind =
                f->kind == DESC_MAP ? DESC_MAP : (enum desc_kind)f->item_kind;
            const struct desc_list *list = at;
            size_t size = desc_kind_size(kind, f->type);
            for (size_t k = 0; k < list->count; k++) {
                shorten_value(kind, f->type, (char *)list->items + k * size, most_bytes,
                              arena);
            }
        } else if (f->kind == DESC_STRUCT) {
            void **part = at;
            if (*part) {
                desc_shorten(f->type, *part, most_bytes, arena);
            }
        } else {
            shorten_value((enum desc_kind)f->kind, f->type, at, most_bytes, arena);
        }
    }
}

/* ---- equality -------------------------------------------------------------------- */

static bool
equal_value(enum desc_kind kind, const struct desc *type, const void *a, const void *b)
{
    switch (kind) {
    case DESC_BOOL:
        return *(const bool *)a == *(const bool *)b;
    case DESC_INT:
    case DESC_TIME:
        return *(const int64_t *)a == *(const int64_t *)b;
    case DESC_F64:
        return memcmp(a, b, sizeof(double)) == 0;
    case DESC_STR:
        return str_eq(*(const char *const *)a, *(const char *const *)b);
    case DESC_BLOB: {
        const struct blob *x = a, *y = b;
        return x->len == y->len && (!x->len || memcmp(x->data, y->data, x->len) == 0);
    }
    case DESC_STRUCT:
        return desc_equal(type, a, b);
    case DESC_MAP: {
        const struct desc_pair *x = a, *y = b;
        return str_eq(x->key, y->key) && str_eq(x->value, y->value);
    }
    case DESC_LIST:
        break;
    }
    return false;
}

static bool
equal_field(const struct desc_field *f, const void *a, const void *b)
{
    if (f->kind == DESC_STRUCT) {
        return desc_equal(f->type, *(const void *const *)a, *(const void *const *)b);
    }
    if (f->kind != DESC_LIST && f->kind != DESC_MAP) {
        return equal_value((enum desc_kind)f->kind, f->type, a, b);
    }
    const struct desc_list *x = a, *y = b;
    enum desc_kind kind = f->kind == DESC_MAP ? DESC_MAP : (enum desc_kind)f->item_kind;
    size_t size = desc_kind_size(kind, f->type);
    bool same = x->count == y->count;
    for (size_t i = 0; same && i < x->count; i++) {
        same = equal_value(kind, f->type, (const char *)x->items + i * size,
                           (const char *)y->items + i * size);
    }
    return same;
}

bool
desc_equal(const struct desc *desc, const void *a, const void *b)
{
    for (uint32_t i = 0; i < desc->field_count; i++) {
        const struct desc_field *f = &desc->fields[i];
        bool in_a = desc_present(f, a);
        if (in_a != desc_present(f, b) ||
            (in_a && !equal_field(f, desc_at(f, a), desc_at(f, b)))) {
            return false;
        }
    }
    return true;
}
