/* janitor.h - what only time changes: things past their hour.
 *
 * Purpose:  forgets instances that ended an hour ago and whatever else has ended (ended.h),
 *           client tokens, tickets, join tokens and old records; removes the files of blobs
 *           that are to go.
 * Place:    control/. A round a minute, and one at the start.
 * Threads:  the loop's; a round works on one of its workers, in transactions of its own. */
#pragma once
#include "control/nodes.h"

struct janitor;

MUST_CHECK struct janitor *janitor_create(const struct nodes_config *config);
/* All rows that are past their time, a batch a transaction; blocks until it is done. */
MUST_CHECK bool janitor_forget(struct store *store, int64_t now_ns, struct err *err);
/* NULL is a no-op. The loop must run on until it is empty. */
void janitor_close(struct janitor *janitor);
