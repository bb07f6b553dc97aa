/* transfer.h - a whole cloud from one database to another of any kind.
 *
 * Purpose:  'moln store copy': every row of every table, column by column, sealed ones as
 *           they are; then both are read again and compared, by count and digest, before
 *           the target's transaction is committed.
 * Place:    store/, for the command line.
 * Threads:  any one; the source must have no writer.
 * Failure:  ERR_EXISTS: the target has rows; ERR_CORRUPT: they differ. Either way, and
 *           when it is killed, the target stays as it was, but for empty tables. */
#pragma once
#include "store/store.h"

/* 'sha256': hex, over all rows in the order of their keys. Borrowed for the call. */
typedef void transfer_fn(void *ctx, const char *table, int64_t rows,
                         const char *sha256);

/* 'tell' is called for each table that has rows, before the commit. */
MUST_CHECK bool store_transfer(struct store *from, struct store *to, transfer_fn *tell,
                               void *ctx, struct err *err);
