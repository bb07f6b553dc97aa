/* members.h - which control processes serve this cloud, and which of them does what.
 *
 * Purpose:  each process has a row with a lease that it renews; who finds another's lease
 *           run out removes that row. The work is divided by the rows alone: each key
 *           belongs to the member for which a hash of both is highest, so that a member
 *           that comes or goes moves only its own share.
 * Fencing:  members_holds() asks the rows inside the very transaction that does the work.
 *           A process that was stopped for a while and lost its row can begin a pass but
 *           not commit one, whatever its clock says: clocks only decide when a row is
 *           removed, never whether a write is good.
 * Place:    control/; control.c owns one.
 * Threads:  the loop's; members_owns and members_changed from any.
 * Failure:  a lease that cannot be renewed (the store is away) is tried again; a process
 *           that is taken for dead meanwhile comes back as soon as it can. One whose state
 *           folder was copied finds another run under its id, says so, and has no work. */
#pragma once
#include "base/world.h"
#include "store/store.h"
#include <uv.h>

struct members;

struct members_config {
    uv_loop_t *loop;
    struct store *store;
    const struct clock *clock;
    const struct rng *rng;
    const char *id; /* NULL: "control", for a process that is alone. */
    bool alone;     /* The store has one process: no lease is needed. */
    /* Members came or went; on the loop. False: not dealt with, ask again. */
    bool (*changed)(void *ctx);
    void *ctx;
};

/* Takes its place among the members, and that of an earlier run under the same id. */
MUST_CHECK struct members *members_create(const struct members_config *config,
                                          struct err *err);
/* Gives up its place. The loop must run on until it is empty. NULL is a no-op. */
void members_close(struct members *members);

const char *members_id(const struct members *members);
/* Of this start of this process. */
const char *members_run(const struct members *members);
/* Tells the others and the nodes where this process is reached: row_control.link. */
MUST_CHECK bool members_set_link(struct members *members, const char *link,
                                 struct err *err);
/* The links of all members, ours first: for nodes, which come back to another when theirs
 * is gone. */
MUST_CHECK bool members_links(struct members *members, struct txn *txn,
                              struct desc_list *out, struct err *err);
/* A row of row_control has changed. */
void members_changed(struct members *members);
/* Whether a key's work is ours, as far as we know: what is not is told to its owner by
 * the same change of rows. */
bool members_owns(struct members *members, const char *key);
/* The same, by the transaction's rows: for who is about to do the work. */
MUST_CHECK bool members_holds(struct members *members, struct txn *txn, const char *key,
                              bool *out, struct err *err);
size_t members_count(struct members *members);
