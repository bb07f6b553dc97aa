/* block.c - see block.h. */
#include "store/block.h"
#include <stdatomic.h>

struct head {
    uint64_t stamp;
    uint32_t refs;
    uint32_t mark;
    uint32_t size;
    bool secret; /* Wiped before it is freed. */
    _Alignas(max_align_t) char row[];
};

static atomic_uint_fast64_t stamps; /* Given so far. */

/* Lays values out one after another; the first time only to learn how much room they
 * take ('at' NULL), the second time in earnest. */
struct packer {
    char *at;
    size_t used;
};

static void *
pack(struct packer *p, const void *from, size_t len, size_t align)
{
    p->used = (p->used + align - 1) & ~(align - 1);
    void *to = p->at ? p->at + p->used : NULL;
    if (to && len) {
        memcpy(to, from, len);
    }
    p->used += len;
    return to;
}

static void pack_fields(struct packer *p, const struct desc *desc, const void *from,
                        void *to);

/* 'to', when not NULL, holds a shallow copy of the value at 'from'. */
static void
pack_value(struct packer *p, enum desc_kind kind, const struct desc *type,
           const void *from, void *to)
{
    if (kind == DESC_STR) {
        const char *s = *(const char *const *)from;
        const char *copy = s ? pack(p, s, strlen(s) + 1, 1) : NULL;
        if (to) {
            *(const char **)to = copy;
        }
    } else if (kind == DESC_BLOB) {
        const struct blob *b = from;
        const uint8_t *copy = b->data ? pack(p, b->data, b->len, 1) : NULL;
        if (to) {
            ((struct blob *)to)->data = copy;
        }
    } else if (kind == DESC_STRUCT) {
        pack_fields(p, type, from, to);
    }
}

static void
pack_list(struct packer *p, const struct desc_field *f, const struct desc_list *from,
          struct desc_list *to)
{
    size_t size = desc_kind_size((enum desc_kind)f->item_kind, f->type);
    if (!from->items) {
        return;
    }
    char *items = pack(p, from->items, from->count * size, _Alignof(max_align_t));
    if (to) {
        to->items = items;
    }
    for (size_t i = 0; i < from->count; i++) {
        pack_value(p, (enum desc_kind)f->item_kind, f->type,
                   (const char *)from->items + i * size,
                   items ? items + i * size : NULL);
    }
}

static void
pack_fields(struct packer *p, const struct desc *desc, const void *from, void *to)
{
    for (uint32_t i = 0; i < desc->field_count; i++) {
        const struct desc_field *f = &desc->fields[i];
        const void *at = desc_at(f, from);
        void *into = to ? desc_at(f, to) : NULL;
        if (f->kind == DESC_LIST) {
            pack_list(p, f, at, into);
        } else if (f->kind == DESC_STRUCT) {
            const void *inner = *(const void *const *)at;
            void *copy =
                inner ? pack(p, inner, f->type->size, _Alignof(max_align_t)) : NULL;
            if (into) {
                *(void **)into = copy;
            }
            if (inner) {
                pack_fields(p, f->type, inner, copy);
            }
        } else {
            pack_value(p, (enum desc_kind)f->kind, f->type, at, into);
        }
    }
}

static struct head *
head_of(const void *row)
{
    return CONTAINER_OF(row, struct head, row);
}

static void
empty_to_null(const struct table *table, void *row)
{
    const struct desc *desc = table->type->desc;
    for (uint32_t i = 0; i < desc->field_count; i++) {
        const char **s = desc_at(&desc->fields[i], row);
        if (table->sorted[i] && desc->fields[i].kind == DESC_STR && str_empty(*s)) {
            *s = NULL;
        }
    }
}

const void *
block_new(const struct table *table, const void *row)
{
    const struct desc *desc = table->type->desc;
    struct packer p = {.used = desc->size};
    pack_fields(&p, desc, row, NULL);
    struct head *head = xmalloc(sizeof *head + p.used);
    *head = (struct head){.stamp = atomic_fetch_add(&stamps, 1) + 1,
                          .refs = 1,
                          .size = (uint32_t)p.used,
                          .secret = table->secret};
    p = (struct packer){.at = head->row, .used = desc->size};
    memcpy(head->row, row, desc->size);
    pack_fields(&p, desc, row, head->row);
    empty_to_null(table, head->row);
    return head->row;
}

void
block_ref(const void *row)
{
    head_of(row)->refs++;
}

void
block_unref(const void *row)
{
    struct head *head = head_of(row);
    if (--head->refs == 0) {
        if (head->secret) {
            explicit_bzero(head->row, head->size);
        }
        free(head);
    }
}

uint64_t
block_stamp(const void *row)
{
    return head_of(row)->stamp;
}

uint32_t
block_mark(const void *row)
{
    return head_of(row)->mark;
}

void
block_set_mark(const void *row, uint32_t mark)
{
    head_of(row)->mark = mark;
}
