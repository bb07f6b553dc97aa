/* migration_rows.h - the row changes of a migration: its beginning, who owns the guest, its
 * end.
 *
 * Purpose:  each function makes one step in all the rows it touches (migration, instance,
 *           volumes, node_claim). A migration holds a promise of its own on the node that
 *           the instance's claim does not count: the receiver before the switch, the giver
 *           after it.
 * Place:    core/, over the store's transactions; decides nothing by itself.
 * Threads:  the transaction's. */
#pragma once
#include "base/world.h"
#include "core/instance_rows.h"
#include "core/migration_way.h"
#include "core/places.h"

/* Under way from one node that is emptied, unless the operator set another number. */
#define MIGRATIONS_AT_ONCE 2
size_t migrations_at_once(const struct cloud_config *config);

/* Whether it has not ended. */
bool migration_is_open(const struct row_migration *m);
/* Whether the receiver owns the guest. */
bool migration_has_switched(const struct row_migration *m);

/* Sets '*out' where an open migration of the VPC (NULL: of any) has a side on the node;
 * else leaves it. */
MUST_CHECK bool migration_uses(struct txn *txn, const char *vpc_id, const char *node_id,
                               bool *out, struct err *err);

/* Whether what migration_choose or migration_begin has against a move now may pass: the
 * instance stays where it is, and whoever moves many goes on with the next. */
bool migration_waits(const struct err *err);

/* Whether an instance, which runs or is stopped, may be moved now; ERR_RESOURCE_IN_USE says why
 * not. */
MUST_CHECK bool migration_may_begin(struct txn *txn, const struct row_instance *inst,
                                    struct err *err);
/* A new migration of one that may. ERR_RESOURCE_IN_USE: not in this way (migration_way.h). */
MUST_CHECK bool migration_begin(struct txn *txn, const struct row_instance *inst,
                                const struct migration_ask *ask, const struct rng *rng,
                                int64_t now_ns, const struct row_migration **out,
                                struct err *err);
/* The node where the instance would go: of its zone, of the same accelerator, not its own;
 * 'to_node' NULL: the best of all that do. ERR_INSTANCE_CAPACITY: none does. */
MUST_CHECK bool migration_choose(struct txn *txn, struct pool *pool,
                                 const struct cloud_config *config,
                                 const struct row_instance *inst, const char *to_node,
                                 const char **out, struct err *err);
/* The same for 'ask', whose 'to_node' is set: where on the best node the move would never end,
 * and memory may follow the instance, the best of those whose emulators can take that in. */
MUST_CHECK bool migration_choose_for(struct txn *txn, struct pool *pool,
                                     const struct cloud_config *config,
                                     const struct row_instance *inst,
                                     struct migration_ask *ask, struct err *err);
/* '*out' NULL: none, or it is gone. */
MUST_CHECK bool migration_get(struct txn *txn, const char *id,
                              const struct row_migration **out, struct err *err);

/* Makes 'node_id' the owner of the instance and its volumes, if 'm' is what the row says
 * and the other node owns it now: one compare and set. False in '*out_done' otherwise. */
MUST_CHECK bool migration_own(struct txn *txn, struct row_migration *m,
                              const char *node_id, bool *out_done, struct err *err);
/* It has ended, one way or the other: the promise is given back, the instance free. */
MUST_CHECK bool migration_end(struct txn *txn, struct row_migration *m,
                              const char *state, int64_t now_ns, struct err *err);

/* How long one that has ended is kept, and how many of them. */
#define MIGRATION_KEPT_NS (30 * 86400 * NS_PER_S)
#define MIGRATIONS_KEPT 1000
/* Removes those beyond either, the oldest first, 'most' at a time. */
MUST_CHECK bool migrations_prune(struct txn *txn, int64_t now_ns, size_t most,
                                 struct err *err);
