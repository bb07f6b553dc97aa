/* uplink_rows.h - which uplinks a node has, and which interfaces stand on one.
 *
 * Purpose:  an uplink of mode passthrough is lent to an account. An interface of a subnet with
 *           an index for local network interfaces (AWS's EnableLniAtDeviceIndex), attached at
 *           that index, is a card on it: on the provider's network, not on the VPC's.
 * Place:    core/, over the store's transactions.
 * Threads:  the transaction's. Rows handed out live in its arena. */
#pragma once
#include "store/rows.h"
#include "store/store.h"

/* What the mode is called in rows, records and calls. */
#define UPLINK_PASSTHROUGH_MODE "passthrough"

#define UPLINK_OVERLAY_MODE "overlay"

bool uplink_is_overlay(const struct row_uplink *uplink);
bool uplink_is_lent(const struct row_uplink *uplink);
/* Whether an interface of the subnet, at that place, is a local network interface. */
bool lni_at(const struct row_subnet *subnet, int64_t device_index);
/* Whether the account has been lent one anywhere in the zone. */
MUST_CHECK bool uplink_lent_somewhere(struct txn *txn, const char *account,
                                      const char *zone, bool *out, struct err *err);
/* The uplink that an account has been lent on a node, the node's own before its zone's;
 * 'node_id' NULL: one that each node of the zone has. '*out' NULL: none. */
MUST_CHECK bool uplink_lent(struct txn *txn, const char *account, const char *zone,
                            const char *node_id, const struct row_uplink **out,
                            struct err *err);
/* Which of a zone's addresses the node has on a bridge: one is taken for it where it has none.
 * What a node holds that is active no more may be taken. '*out' -1: none is left. */
MUST_CHECK bool uplink_place_take(struct txn *txn, const struct row_uplink *uplink,
                                  const char *node_id, int64_t *out, struct err *err);
MUST_CHECK bool uplink_place_give_back(struct txn *txn, const char *uplink_id,
                                       const char *node_id, struct err *err);
/* '*out' -1: it has none. */
MUST_CHECK bool uplink_place_of(struct txn *txn, const char *uplink_id,
                                const char *node_id, int64_t *out, struct err *err);
/* Of all nodes: the uplink goes. */
MUST_CHECK bool uplink_places_drop(struct txn *txn, const char *uplink_id,
                                   struct err *err);
/* The node's addresses with their prefixes, at its place; NULL where the uplink has none of
 * that family. */
const char *uplink_address_at(struct arena *arena, const struct row_uplink *uplink,
                              int64_t place);
const char *uplink_address6_at(struct arena *arena, const struct row_uplink *uplink,
                               int64_t place);
/* The node's number on an overlay, given once; and the address of its external namespace that
 * follows from it: of 100.88.0.0/13, the same for no two nodes. */
MUST_CHECK bool uplink_number_take(struct txn *txn, const struct row_uplink *uplink,
                                   const char *node_id, int64_t *out, struct err *err);
const char *uplink_overlay_address(struct arena *arena, int64_t number);
/* How many of an instance's cards are local network interfaces, and the first; NULL: none. */
MUST_CHECK bool lni_cards(struct txn *txn, const struct row_instance *inst,
                          const struct row_eni **out_first, int64_t *out_count,
                          struct err *err);
/* An attached local network interface of the account in the zone (of the subnet, where
 * 'subnet_id' is not NULL); '*out' NULL: there is none. */
MUST_CHECK bool lni_any(struct txn *txn, const char *account, const char *region,
                        const char *zone, const char *subnet_id,
                        const struct row_eni **out, struct err *err);
