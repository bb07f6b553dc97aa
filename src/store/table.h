/* table.h - a row type, prepared for use: its orders and its SQL.
 *
 * Place:    inside store/ only.
 * Owner:    the store; constant after it is opened, so any thread may read it.
 *
 * Text that is part of a key or an index is the same empty and absent: '' in the
 * database and NULL in rows, so that both databases sort and compare it alike. */
#pragma once
#include "store/store.h"

#define ORDER_FIELDS_MAX 16

/* What rows are sorted by: an index's fields, then those of the key not among them. */
struct order {
    unsigned count;
    unsigned own; /* Fields of the index itself. */
    bool unique;
    struct order_field {
        uint16_t position; /* In desc->fields. */
        uint8_t kind;      /* enum desc_kind */
        uint32_t offset;
    } fields[ORDER_FIELDS_MAX];
};

enum table_op {
    TABLE_GET,
    TABLE_INSERT,
    TABLE_PUT,
    TABLE_DELETE,
    TABLE_PUT_MANY, /* Its SQL is the database's own: table_put_sql. */
    TABLE_OPS
};

struct table {
    const struct row_type *type;
    struct order *orders; /* The primary key's, then each index's in turn. */
    unsigned order_count;
    bool *sorted; /* By field: part of a key or an index. */
    bool hot;     /* Served from memory. */
    bool secret;  /* Has sealed columns. */
    char *select; /* "SELECT ... FROM ..." with every column. */
    char *sql[TABLE_OPS];
};

/* Fails on a type that breaks the rules above. */
MUST_CHECK bool table_init(struct table *table, const struct row_type *type, bool hot,
                           struct err *err);
void table_fini(struct table *table);

/* The order of 'index' (NULL: the primary key's), or NULL. */
const struct order *table_order(const struct table *table, const char *index);
/* Compares rows by the first 'count' fields of the order: <0, 0, >0. */
int order_compare(const struct order *order, unsigned count, const void *a,
                  const void *b);
/* Whether every field of the index itself is non-empty: only then is it unique. */
bool order_filled(const struct order *order, const void *row);
/* "SELECT ... WHERE first 'prefix' fields = ... AND (all fields) > (...) ORDER BY ...".
 */
void table_list_sql(const struct table *table, const struct order *order,
                    unsigned prefix, bool after, struct buf *out);
/* "SELECT ... WHERE (key = ...) OR (key = ...) ...", of 'count' keys. */
void table_many_sql(const struct table *table, unsigned count, struct buf *out);
/* "INSERT INTO ... 'source' ON CONFLICT ...": inserts or replaces what comes from there. */
void table_put_sql(const struct table *table, const char *source, struct buf *out);
/* "SELECT ... ORDER BY key": every row. */
void table_ordered_sql(const struct table *table, struct buf *out);
/* The table's name and the row's key, for errors. */
void table_describe(const struct table *table, const void *row, struct buf *out);
/* Sets ERR_EXISTS for the row. */
bool table_taken(const struct table *table, const void *row, struct err *err);
