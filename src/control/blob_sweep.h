/* blob_sweep.h - blobs that nothing refers to any more.
 *
 * Purpose:  marks a blob 'deleting' when no image, volume, instance or task names it, and
 *           takes it from the nodes that keep it; the janitor removes its file. Uploads that
 *           nobody imported go after a day.
 * Place:    control/, inside the caller's transaction.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "store/rows.h"
#include "store/store.h"

MUST_CHECK bool blob_sweep(struct txn *txn, int64_t now_ns, struct err *err);
