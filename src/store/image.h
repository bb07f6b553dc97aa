/* image.h - the rows in memory: a chain of versions, each one committed state.
 *
 * Purpose:  reads that decode nothing and wait for nobody. A reader pins the version
 *           that is current and reads it for as long as it likes; the writer forks a
 *           version, changes the fork, and publishes it once it is durable.
 * Place:    inside store/ only; knows tables and trees, no SQL.
 * Owner:    the store. Versions still pinned when it closes the image live on until
 *           they are let go.
 * Threads:  pin and unpin: any. Reading a pinned version: any. The rest: the writer's.
 * Failure:  none. */
#pragma once
#include "store/table.h"

struct image;
struct version;

MUST_CHECK struct image *image_create(const struct table *tables, size_t count);
void image_close(struct image *image); /* NULL is a no-op. */

MUST_CHECK struct version *image_pin(struct image *image); /* The current one. */
void version_pin(struct version *version);
void version_unpin(void *version);

/* A changeable copy, pinned once. */
MUST_CHECK struct version *version_fork(const struct version *base);
MUST_CHECK struct version *version_blank(struct image *image); /* Without a row. */
/* Makes it the current one. From now on it does not change. The committer's. */
void image_publish(struct image *image, struct version *version);
/* Frees what nobody has pinned any more. */
void image_collect(struct image *image);

const void *version_get(const struct version *version, const struct table *table,
                        const void *key);
void version_list(const struct version *version, const struct table *table,
                  const struct row_query *query, struct arena *arena,
                  struct row_list *out);
/* Another row that has the same values in a unique index, or NULL. */
const void *version_rival(const struct version *version, const struct table *table,
                          const void *row);
/* Puts a copy of 'row' in and returns it; '*out_old': the row it replaced, or NULL.
 * Both live as long as the version. */
const void *version_put(struct version *version, const struct table *table,
                        const void *row, const void **out_old);
/* Undoes one change of this version's: 'row' is what was put ('old' what it replaced) or, NULL,
 * what took 'old' out. The very row is there again. */
void version_undo(struct version *version, const struct table *table, const void *row,
                  const void *old);
/* Takes a row out and returns it; it lives as long as the version. NULL: there was
 * none. */
const void *version_del(struct version *version, const struct table *table,
                        const void *key);
