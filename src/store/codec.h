/* codec.h - rows to and from the columns of a database, secrets sealed on the way.
 *
 * Columns:  BOOL, INT and TIME are BIGINT; F64 a double; STR text; BLOB bytes; STRUCT
 * and LIST the text of their JSON; sealed ones bytes, bound to table, column and key.
 *           Absent is NULL, but for text in keys and indexes (table.h).
 * Place:    inside store/ only.
 * Threads:  any; 'vault' is constant while rows go through it. */
#pragma once
#include "store/sql.h"
#include "store/table.h"

/* What seals and unseals. */
struct vault {
    bool has_key;
    uint8_t key[32];
    const struct rng *rng;
};

/* Whether there is a key for what the row has to be sealed. */
MUST_CHECK bool row_may_seal(const struct table *table, const struct vault *vault,
                             const void *row, struct err *err);
/* One value a field; they borrow from 'row' and 'arena'. */
MUST_CHECK bool row_encode(const struct table *table, const struct vault *vault,
                           const void *row, struct arena *arena, struct sql_value *out,
                           struct err *err);
/* The statement's present row; all of it is copied into 'arena'. */
MUST_CHECK bool row_decode(const struct table *table, const struct vault *vault,
                           const struct sql_driver *driver, struct sql_stmt *stmt,
                           struct arena *arena, void *out_row, struct err *err);
/* What a column holds that is not NULL. */
enum sql_kind column_kind(const struct desc_field *field);
/* The value of one ordering field, as the database compares it. */
struct sql_value row_order_value(const struct order_field *field, const void *row);
