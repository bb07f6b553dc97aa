/* wants.h - what is wanted of nodes: the rows behind the link's wanted records.
 *
 * Purpose:  put, take down and forget records of one node, each change under the node's
 *           next revision, and nothing written when nothing changed.
 * Place:    control/, inside a caller's transaction.
 * Threads:  the thread that runs the transaction. Life of a record: want_put ...
 *           want_take_down (deleted, still there) ... the node reports it absent ...
 *           want_forget. */
#pragma once
#include "link/link.h"
#include "store/rows.h"
#include "store/store.h"

/* Wants 'record' (of link_want_desc(kind)) on the node. A record that is being taken
 * down is wanted again. 'account' may be empty for what belongs to the cloud. */
MUST_CHECK bool want_put(struct txn *txn, const char *node_id, enum link_kind kind,
                         const char *id, const char *account, const void *record,
                         struct err *err);
/* The same, of a record that was encoded already: 'want' names node, kind, id, account,
 * scope and body. What is borrowed need only live for the call. */
MUST_CHECK bool want_put_body(struct txn *txn, const struct row_node_want *want,
                              struct err *err);
/* The same, of a record that is made anew from other rows when it is sent
 * (instance_metadata.h): a digest is kept, and not the body. While a control process of
 * another version serves the cloud too, the body is: it may know of no digests. */
MUST_CHECK bool want_put_made(struct txn *txn, const char *node_id, enum link_kind kind,
                              const char *id, const char *account, const void *record,
                              struct err *err);
/* Marks it deleted; there being none, or marked already, is success. */
MUST_CHECK bool want_take_down(struct txn *txn, const char *node_id,
                               enum link_kind kind, const char *id, struct err *err);
/* Removes a row that the node reported absent, if it was marked deleted. */
MUST_CHECK bool want_forget(struct txn *txn, const char *node_id, enum link_kind kind,
                            const char *id, struct err *err);
/* '*out' is NULL when nothing is wanted under that id. */
MUST_CHECK bool want_get(struct txn *txn, const char *node_id, enum link_kind kind,
                         const char *id, const struct row_node_want **out,
                         struct err *err);
