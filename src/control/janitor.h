/* janitor.h - what only time changes: things past their hour.
 *
 * Purpose:  hides instances that ended an hour ago, forgets client tokens, tickets,
 * join tokens and old records, and removes the files of blobs that are to go. Place:
 * control/. A round a minute, and one at the start. Threads:  the loop's; each round's
 * changes are transactions of their own. */
#pragma once
#include "control/nodes.h"

struct janitor;

MUST_CHECK struct janitor *janitor_create(const struct nodes_config *config);
/* Events that are past their time, a batch of them; in the caller's transaction. */
MUST_CHECK bool janitor_forget_events(struct txn *txn, int64_t now_ns, struct err *err);
/* NULL is a no-op. The loop must run on until it is empty. */
void janitor_close(struct janitor *janitor);
