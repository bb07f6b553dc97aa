/* reach.h - what a machine must reach from its host: the other hosts of its network, and
 * interfaces that are lent to its account.
 *
 * Purpose:  hosts meet over their underlays. A machine whose network has machines elsewhere is
 *           of no use on a host without one; nor is one that needs a local network interface
 *           where none is lent, or free. places.h asks here, placement_why() decides.
 * Cost:     a few look-ups, however large the network; interfaces lent: a look at each host
 *           of the zone, for machines that need one.
 * Place:    core/, over the store's transactions; writes nothing.
 * Threads:  the transaction's. What is handed out lives in its arena. */
#pragma once
#include "core/placement.h"
#include "store/store.h"

/* Where the network's machines are, but for 'but' (an instance's id, or NULL). */
MUST_CHECK bool reach_of_network(struct txn *txn, const char *vpc_id, const char *but,
                                 struct placement_reach *out, struct err *err);
/* Where the zone's hosts have an interface for the account, and for how many cards yet. */
MUST_CHECK bool reach_of_lent(struct txn *txn, const char *account, const char *region,
                              const char *zone, struct placement_lent *out,
                              struct err *err);
/* A machine of the ask was placed on 'host': so is its network now, and its cards. */
void reach_placed(struct arena *arena, const struct placement_host *host,
                  struct placement_ask *ask);
