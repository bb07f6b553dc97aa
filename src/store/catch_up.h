/* catch_up.h - brings the rows in memory to what the database has.
 *
 * Purpose:  reads the change log from where memory stands, then the rows that it names, and
 *           publishes them as one version; when the log does not reach back that far,
 *           everything. Tells the watchers before it returns.
 * Place:    inside store/, for follow.c, which orders who does it when.
 * Threads:  whoever may change the image (follow.c's 'turn'), in a transaction of 'session'
 *           that sees one state. */
#pragma once
#include "store/inside.h"

/* To commit 'head', the newest that the transaction sees. */
MUST_CHECK bool catch_up(struct store *store, struct session *session, int64_t head,
                         struct err *err);
/* Everything, into an image that has nothing yet; no watcher is told. */
MUST_CHECK bool catch_up_load(struct store *store, struct session *session,
                              struct err *err);
