/* migration_cold.h - what is different where the instance is stopped: the files of its disks
 * are all that moves, and no guest must be let go of.
 *
 * Rule:     while they are copied its machine stays off at the giver, whatever is wanted of
 *           it: migration_is_held(). So the copy is whole once the receiver has all of it,
 *           and the owner changes in one compare and set, without another word of the
 *           giver's. A start ends the migration first, unless it began it, or joined it: what
 *           the giver had no room for stays off there until it is stopped again.
 * Promises: the receiver's disk only; for one that starts its vCPUs and memory too, which the
 *           account's quota counts from the start on.
 * Place:    core/, beside migration_rows.h, which begins and ends these too.
 * Threads:  the transaction's. */
#pragma once
#include "core/migration_rows.h"

/* Whether its machine must not run at the giver for now. */
bool migration_is_held(const struct row_migration *m);

/* Whether a stopped instance may be moved now; ERR_RESOURCE_IN_USE says why not. */
MUST_CHECK bool migration_cold_may_begin(struct txn *txn,
                                         const struct row_instance *inst,
                                         const struct row_machine_seen *seen,
                                         struct err *err);
/* What it promises of the receiver, beside its disks. */
void migration_cold_hold(const struct row_instance *inst, struct row_migration *m);
/* The receiver has all of it: makes it the owner of the instance and its disks. False in
 * '*out_done' when they are not what the row says any more. */
MUST_CHECK bool migration_cold_own(struct txn *txn, struct row_migration *m,
                                   bool *out_done, struct err *err);
/* It has begun: an account's quota counts what starts. */
MUST_CHECK bool migration_cold_begun(struct txn *txn, const struct row_migration *m,
                                     struct err *err);
/* It ends: an account whose instance did not start after all has its vCPUs back. */
MUST_CHECK bool migration_cold_end(struct txn *txn, const struct row_migration *m,
                                   struct err *err);
/* A start finds its instance on the way by 'm': it starts there, on what 'memory_bytes' with
 * its emulator takes of the receiver. The caller has seen that there is room. */
MUST_CHECK bool migration_cold_join(struct txn *txn, struct row_migration *m,
                                    const struct row_instance *inst,
                                    int64_t memory_bytes, struct err *err);
