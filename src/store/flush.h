/* flush.h - the last step of a commit: onto the disk, and out to readers.
 *
 * Purpose:  where the database lets commits end before they are on the disk (sql.h), a
 *           thread syncs all that ended meanwhile, publishes the last version among them, and
 *           answers; the committer sends the next rows at the same time. So who writes waits
 *           for one sync that begins after his rows are sent, and not for others' rows too.
 * Place:    inside store/, below commit.c.
 * Owner:    the store. Where commits end durable there is no such thread.
 * Threads:  the committer's, where nothing else is said. Lock: the store's.
 * Failure:  after a sync that failed nobody knows what is on the disk, and another would not
 *           tell (the kernel reports it once). What waited is answered with the error, and
 *           nothing is written any more until the store is opened again. */
#pragma once
#include "store/inside.h"

MUST_CHECK bool flush_start(struct store *store, struct err *err);
void flush_stop(struct store *store); /* After all that was handed over. */
/* Whether commits are to be handed over to it. Any thread. */
bool flush_runs(const struct store *store);
/* Whether a sync has failed. */
MUST_CHECK bool flush_failed(struct store *store, struct err *err);
/* Takes over batches that the database has committed. */
void flush_hand_over(struct store *store, struct batch *first);
/* With the lock held: whether nothing waits for a sync; and returns when that is so. The
 * second lets go of the lock while it waits. */
bool flush_is_idle(const struct store *store);
void flush_settle(struct store *store);
