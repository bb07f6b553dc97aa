/* elsewhere.h - an instance goes on on another node than the one that it was on.
 *
 * Purpose:  says whether its root volume can be had elsewhere (it lies in a pool that other
 *           nodes see too, or the tenant said that it may be made anew), on which nodes, and
 *           makes that so in rows: for a lost node (control/recovery.h), and for a start
 *           whose node cannot have it (service/ec2).
 * Place:    core/, over the store's transactions. What is wanted of the node that is left
 *           goes with the instance's next pass: instance.left_node.
 * Threads:  the transaction's. */
#pragma once
#include "base/world.h"
#include "core/places.h"

/* An instance with this tag may lose its root volume when its node cannot have it. */
#define RECOVERY_TAG "moln:recovery"
#define RECOVERY_REBUILD "rebuild"

enum elsewhere {
    ELSEWHERE_NOT,     /* What it has lies on its node alone. */
    ELSEWHERE_SHARED,  /* Its root volume lies in a shared pool. */
    ELSEWHERE_REBUILT, /* Its root volume may be made anew from the image. */
};

/* How it can be had elsewhere; '*out_root' (may be NULL) is its root volume. */
MUST_CHECK bool elsewhere_how(struct txn *txn, const struct row_instance *inst,
                              enum elsewhere *out, const struct row_volume **out_root,
                              struct err *err);
/* What places_find() is to be asked: anywhere but on its node, where its root volume can
 * be. 'terms' is filled too, and borrowed; what its emulator takes is left to the caller. */
MUST_CHECK bool elsewhere_want(struct txn *txn, const struct cloud_config *config,
                               const struct row_instance *inst,
                               const struct row_volume *root, struct place_terms *terms,
                               struct place_want *out, struct err *err);
/* Brings instance, promises and root volume to where 'to' says. Nothing of it may run on
 * its old node, nor be started there: the caller has seen to that. '*out': the new row,
 * claimed, pending until it is seen there. */
MUST_CHECK bool elsewhere_move(struct txn *txn, const struct row_instance *inst,
                               const struct row_volume *root,
                               const struct pool_pick *to, const struct rng *rng,
                               int64_t now_ns, const struct row_instance **out,
                               struct err *err);
