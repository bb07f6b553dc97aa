/* block.h - a row in memory: one allocation with all it points at, shared by count.
 *
 * Place:    inside store/ only.
 * Owner:    every tree of every version that has the row holds a share.
 * Threads:  blocks are never changed, so any thread may read one that a version it has
 *           pinned holds; the count belongs to the writer thread. */
#pragma once
#include "store/table.h"

/* A deep copy of 'row', with one share; text in keys and indexes that is empty becomes
 * NULL (table.h). What is handed around is the row itself; its head lies before it. */
MUST_CHECK const void *block_new(const struct table *table, const void *row);
void block_ref(const void *row);
void block_unref(const void *row);
/* A number that no other row has, had or will have in this process; never 0. Any
 * thread. */
uint64_t block_stamp(const void *row);
/* A number that the writer may keep with a row. */
uint32_t block_mark(const void *row);
void block_set_mark(const void *row, uint32_t mark);
