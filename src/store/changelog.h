/* changelog.h - what commits on a shared database have changed, in the one order they
 * came.
 *
 * Purpose:  processes that share a database each hold its rows in memory. Who writes
 *           locks the log's head, so that writers come one after another, each on the
 *           state that the one before left; what it changed goes into the log under the
 *           next number. Who is behind reads the log from where it stands.
 * Place:    inside store/ only. SQL of PostgreSQL alone: SQLite has one process.
 * Owner:    none: functions over a session that is in the right kind of transaction.
 * Failure:  as in sql.h. */
#pragma once
#include "store/own.h"
#include "store/session.h"

#define CHANGELOG_KEPT 20000 /* Commits; who is further behind reads everything anew. */
#define CHANGELOG_CHANNEL "moln_log"

/* Makes the head row, in the transaction that shapes the tables. */
MUST_CHECK bool changelog_prepare(struct session *session, struct err *err);
/* Number of the last commit. */
MUST_CHECK bool changelog_head(struct session *session, int64_t *out, struct err *err);
/* Begins a writing transaction, waits until it is the only one, and gives the head. */
MUST_CHECK bool changelog_lock(struct session *session, int64_t *out, struct err *err);
/* The same without waiting, for who knows the head already: what is posted after it runs only
 * if it is 'head' still, and else fails with ERR_CONFLICT. */
MUST_CHECK bool changelog_expect(struct session *session, int64_t head,
                                 struct err *err);
/* Moves the locked head on without a word of what changed: who follows reads everything
 * anew. Posted. */
MUST_CHECK bool changelog_skip(struct session *session, int64_t head, struct err *err);
/* Notes the locked transaction's changes as commit 'row->seq', moves the head, and wakes
 * the others when it commits, with 'row->origin' for its own sake. Posted (sql.h). */
MUST_CHECK bool changelog_append(struct session *session, const struct table *log,
                                 const struct own_store_log *row, struct arena *scratch,
                                 struct err *err);
/* The commits after 'after', oldest first. */
MUST_CHECK bool changelog_read(struct session *session, const struct table *log,
                               int64_t after, struct arena *arena, struct row_list *out,
                               struct err *err);
/* A row's key as the log has it, and back: a row of its table with only its key set;
 * NULL when it is not one. */
struct own_log_change changelog_change(const struct table *table, const void *row,
                                       struct arena *arena);
const void *changelog_key(const struct table *table,
                          const struct own_log_change *change, struct arena *arena);
