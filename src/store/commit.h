/* commit.h - what the writer ran goes to the database, and becomes what readers see.
 *
 * Purpose:  the writer runs transactions in memory, each on what the one before left, and
 *           hands them over in batches. Here a thread takes all batches that wait, sends
 *           their rows, a row that several changed once, and commits with one sync of the
 *           disk; then the last version is published and all are answered. The writer runs
 *           the next ones meanwhile.
 * Place:    inside store/, below writer.c.
 *           On a shared database the thread waits for its turn first, and gives the batches
 *           back when others have committed since they were run (follow.h).
 * Owner:    the store. A store without a thread commits each batch itself.
 * Threads:  the writer's, where nothing else is said. Lock: the store's.
 * Failure:  when a commit fails, its requests are answered with the error. What was handed
 *           over since stood on it, was not answered, and is run again by the writer on
 *           what readers see. On a shared database, whose connections break, one that may
 *           not have been done is tried again. */
#pragma once
#include "store/inside.h"

MUST_CHECK bool commit_start(struct store *store, struct err *err);
void commit_stop(struct store *store); /* After all that was handed over. */

/* Takes 'batch' over. False: a commit has failed since it was begun; it is the caller's
 * still, and to be run again. */
MUST_CHECK bool commit_hand_over(struct store *store, struct batch *batch);
/* The batch's requests are run again by the writer, after those that were before. */
void commit_take_back(struct store *store, struct batch *batch);
/* Has the watchers look anew at what a batch would have changed, and did not: some looked at
 * its transactions' rows, to place what came after them. */
void commit_untell(struct store *store, const struct batch *batch);
/* Whether nothing that was given back is to be run before the batch; else it is given back
 * too. */
MUST_CHECK bool commit_is_next(struct store *store, struct batch *batch);
/* Returns when nothing is left to be committed: the session is the writer's until it
 * hands over again. */
void commit_settle(struct store *store);
/* Whether all is settled; with the lock held. */
bool commit_is_idle(const struct store *store);
/* Commits the batches, and publishes the last one's version. Whoever has the session. */
MUST_CHECK bool commit_batches(struct store *store, struct batch *first,
                               struct err *err);

/* Takes a shared database's turn; 'doubt' is the commit that an earlier try of the same
 * batches left open (0: none): '*out_done' when it was done. On success the turn is held
 * until follow_leave; the transaction is open unless all is done. */
MUST_CHECK bool commit_enter(struct store *store, int64_t *out_head, int64_t *doubt,
                             bool *out_done, struct err *err);
/* In that transaction: commits the batches as one, publishes them, and moves '*head'. It has
 * ended either way. */
MUST_CHECK bool commit_entered(struct store *store, struct batch *first, int64_t *head,
                               int64_t *doubt, struct err *err);
/* Whether a try that failed is worth another; else 'err' is made the last word. */
bool commit_again(int64_t doubt, unsigned tries, struct err *err);

/* Sends the changes of batches to the database's open transaction. */
MUST_CHECK bool commit_send(struct store *store, struct batch *first, struct err *err);
/* A transaction's changes of cold tables that were put off, at once. */
MUST_CHECK bool commit_send_cold(struct store *store, const struct txn *txn,
                                 struct err *err);
/* Whether a change is the last word on its row as 'tip' has it. */
bool commit_is_last(const struct version *tip, const struct change *change);
/* Ends the database's transaction, and with it, on success, 'first' alone may change the
 * master key. */
MUST_CHECK bool commit_end(struct store *store, const struct request *first,
                           struct err *err);
