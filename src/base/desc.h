/* desc.h - descriptors: what a struct looks like, for code that reads any struct.
 *
 * Purpose:  one mechanism for four schemas: AWS wire formats, the link, the database rows
 *           and the configuration. Generated at build time with the structs they
 *           describe (tools/); nobody writes marshalling by hand.
 * Place:    base; codecs over it live in base/ (tlv, json) and wire/ (query, ec2, xml).
 * Owner:    descriptors are constant data. Decoded values live in the arena they were
 *           decoded into.
 * Threads:  any.
 *
 * How a field lies in its struct:
 *   BOOL  bool            INT   int64_t          F64   double
 *   TIME  int64_t, nanoseconds since 1970 UTC
 *   STR   const char *, NULL when absent
 *   BLOB  struct blob, data NULL when absent
 *   STRUCT  pointer to the struct, NULL when absent
 *   LIST  struct desc_list's layout: items are contiguous values of 'item_kind' (a list of
 *         structures holds the structures themselves); items NULL when absent
 *   MAP   a LIST whose items are struct desc_pair (text to text)
 * Scalars (BOOL, INT, F64, TIME) of AWS structs have a 'bool has_NAME' beside them at
 * 'has_offset'; in rows, link records and configuration they have none (has_offset ==
 * DESC_ALWAYS) and zero is their absence. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"

enum desc_kind {
    DESC_BOOL = 1,
    DESC_INT,
    DESC_F64,
    DESC_TIME,
    DESC_STR,
    DESC_BLOB,
    DESC_STRUCT,
    DESC_LIST,
    DESC_MAP,
};

struct blob {
    const uint8_t *data;
    size_t len;
};

struct desc_list {
    void *items;
    size_t count;
};

struct desc_pair {
    const char *key, *value;
};

/* A typed list with struct desc_list's layout. */
#define LIST_OF(type) \
    struct { \
        type *items; \
        size_t count; \
    }

#define DESC_ALWAYS UINT32_MAX

enum desc_flags {
    DESC_REQUIRED = 1 << 0,
    DESC_SEALED = 1 << 1,    /* Secret: sealed in rows, starred out in logs. */
    DESC_KEY = 1 << 2,       /* Rows: part of the primary key, in field order. */
    DESC_FLATTENED = 1 << 3, /* AWS: list without a wrapping element. */
    DESC_HAS_RANGE = 1 << 4, /* 'min' and 'max' bind (value, or length of STR/LIST). */
    DESC_IN_HEADER = 1 << 5, /* rest-json, rest-xml: where the member travels. */
    DESC_IN_QUERY = 1 << 6,
    DESC_IN_PATH = 1 << 7,
    DESC_PAYLOAD = 1 << 8,
    DESC_LIST_ALWAYS = 1 << 9, /* AWS answers: an empty list is written all the same. */
};

struct desc;

struct desc_field {
    const char *name; /* In the model: "InstanceId"; JSON key, column, config word. */
    const char *in_name;   /* Request parameter in query and ec2, where it differs... */
    const char *out_name;  /* ...and response element; NULL: the same as 'name'. */
    const char *item_name; /* Of a list's items in XML and query: "item", "member". */
    const struct desc *type;   /* Of STRUCT, or of a LIST's items when STRUCT. */
    const char *const *values; /* Permitted text, NULL-terminated; NULL: any. */
    const char *pattern;       /* POSIX-compatible regular expression; NULL: any. */
    int64_t min, max;
    uint32_t offset, has_offset;
    uint16_t number; /* Link and rows: never reused. */
    uint16_t since;  /* Schema version that brought it. */
    uint16_t flags;
    uint8_t kind, item_kind;
    uint8_t out_len,
        item_len; /* AWS: of out_name (else name) and item_name, in bytes. */
};

struct desc {
    const char *name;
    const struct desc_field *fields;
    uint32_t field_count;
    uint32_t size; /* Of the struct. */
    /* AWS answers: where a 'struct blob' lies that, when it is not empty, holds the
     * members' XML made already; 0: there is none. */
    uint32_t ready_offset;
};

/* The field called 'name', or NULL. */
const struct desc_field *desc_find(const struct desc *desc, const char *name);
const struct desc_field *desc_find_number(const struct desc *desc, uint16_t number);

static inline void *
desc_at(const struct desc_field *f, const void *object)
{
    return (char *)(uintptr_t)object + f->offset;
}

/* Whether the field is present (for scalars without has_: non-zero). */
bool desc_present(const struct desc_field *f, const void *object);
void desc_set_present(const struct desc_field *f, void *object);
size_t desc_kind_size(enum desc_kind kind, const struct desc *type);
/* What a field takes in its struct, without its flag of presence. */
size_t desc_field_size(const struct desc_field *field);

/* A deep copy into 'arena'. */
void *desc_copy(const struct desc *desc, const void *object, struct arena *arena);
/* Cuts every text of 'object', whose texts are its own to change, to at most 'most_bytes',
 * between characters of UTF-8; the shorter ones lie in 'arena'. */
void desc_shorten(const struct desc *desc, void *object, size_t most_bytes,
                  struct arena *arena);
/* Deep equality of what is present. */
bool desc_equal(const struct desc *desc, const void *a, const void *b);
