/* follow.h - keeps the rows in memory abreast of what other processes commit.
 *
 * Purpose:  on a shared database every process holds the rows in memory, as on SQLite.
 *           Here is what makes that true: who writes first takes the change log's lock
 *           and catches up; who reads first asks for the log's head, and waits until
 *           memory is there. A thread listens, so that changes are seen unasked.
 * Place:    inside store/ only; over changelog.h.
 * Owner:    the store, when its database is shared.
 * Threads:  fresh: any. enter and leave: the committer's, or the writer's while nothing
 *           waits to be committed. The watchers of other processes'
 *           changes are called on the follower's thread or on those, before the
 *           next transaction runs here: what they keep is never behind it.
 * Failure:  ERR_GONE while the database cannot be had. Connecting is tried once by who
 *           needs it; when that fails, only the follower goes on trying, and all others
 *           wait for it in the first seconds, and fail at once after that. Rows are never
 *           served from a memory that was not compared with the database after the call
 *           began. */
#pragma once
#include "store/inside.h"

/* Loads the rows, and starts to follow: by a thread, or, in a store that has none
 * (store.h), when it is told to look. */
MUST_CHECK bool follow_start(struct store *store, struct err *err);
void follow_stop(struct store *store); /* Without one it is a no-op. */

/* Returns when memory holds all that was committed before the call. */
MUST_CHECK bool follow_fresh(struct store *store, struct err *err);

/* The same in a store without a thread, whose follower is whoever calls this. */
MUST_CHECK bool follow_take_in(struct store *store, struct err *err);

/* Begins the database's transaction on '*session' (opened anew when it is dead), locked
 * against every other writer, with memory caught up. On success memory is the caller's
 * to change until follow_leave. '*out_head': the last commit. */
MUST_CHECK bool follow_enter(struct store *store, struct session **session,
                             int64_t *out_head, struct err *err);
/* The same without a wait, for who bets that nobody else has written: what is sent in the
 * transaction fails with ERR_CONFLICT if one has. */
MUST_CHECK bool follow_enter_at_once(struct store *store, struct session **session,
                                     int64_t *out_head, struct err *err);
/* The transaction has ended; 'head' is the commit that memory has now. */
void follow_leave(struct store *store, int64_t head);
/* Puts what was sent of the batches' changes into the log as commit 'seq'. */
MUST_CHECK bool follow_append(struct store *store, struct session *session, int64_t seq,
                              const struct batch *first, bool rekeyed, struct err *err);
/* Whether commit 'seq' is this process's own; in an entered transaction. */
MUST_CHECK bool follow_is_ours(struct store *store, struct session *session,
                               int64_t seq, bool *out, struct err *err);
/* The commit that memory has, while it may not change; and moving it, for catch_up.c. */
int64_t follow_applied(const struct store *store);
void follow_set_applied(struct store *store, int64_t head);
/* A new session, for reading; see above for when it cannot be had. */
MUST_CHECK struct session *follow_session(struct store *store, struct err *err);
