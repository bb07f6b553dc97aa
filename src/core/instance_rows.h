/* instance_rows.h - the row changes that handlers and controllers have in common.
 *
 * Purpose:  each function makes one step of an instance's life in all the rows it
 *           touches (instance, node_claim, volume, eni, address_use), so that no caller
 *           can forget one. All are idempotent: run again on the result, they change
 *           nothing.
 * Place:    core/, over the store's transactions; decides nothing by itself. Rows:
 *           'inst' is borrowed and never changed: the new row is put, and handed back
 *           in '*out' where there is one (NULL is allowed for callers that do not need
 *           it).
 * Threads:  the transaction's. */
#pragma once
#include "store/rows.h"
#include "store/store.h"

/* Adds to (or, with negative numbers, takes from) what is promised on a node. A promise
 * never falls below zero. */
struct claim {
    int64_t vcpus, memory_bytes, disk_bytes, machines;
};
MUST_CHECK bool node_claim_add(struct txn *txn, const char *node_id,
                               const struct claim *claim, struct err *err);

/* Gives a host to one account alone, as a dedicated host where 'host_id' is not empty; or
 * back to all: 'owner' NULL. Of a host without a dedicated host's id, node_claim_add gives
 * it back when its last machine goes. */
MUST_CHECK bool node_claim_own(struct txn *txn, const char *node_id, const char *owner,
                               const char *host_id, struct err *err);

/* The same for what an account has in a region. */
struct usage {
    int64_t vcpus, instances, disk_gib;
};
MUST_CHECK bool account_usage_add(struct txn *txn, const char *account,
                                  const char *region, const struct usage *add,
                                  struct err *err);
/* Bytes of all files of the account's in the control plane's store. */
MUST_CHECK bool account_blob_bytes(struct txn *txn, const char *account, uint64_t *out,
                                   struct err *err);
MUST_CHECK bool account_usage_get(struct txn *txn, const char *account,
                                  const char *region, struct usage *out,
                                  struct err *err);

/* All instances that a node has, those that have ended too while they are shown. */
MUST_CHECK bool instances_on(struct txn *txn, const char *node_id, struct row_list *out,
                             struct err *err);

/* A new instance's row ('claimed' false): inserted, counted, and claimed on its node.
 */
MUST_CHECK bool instance_add(struct txn *txn, const struct row_instance *inst,
                             const struct row_instance **out, struct err *err);
/* A new volume's row: inserted, and counted on its node and for its account. */
MUST_CHECK bool volume_add(struct txn *txn, const struct row_volume *volume,
                           struct err *err);

/* Counts a placed instance's vCPUs and memory (with 'overhead_bytes' of the emulator)
 * on its node, and marks it claimed; nothing when it is claimed already. */
MUST_CHECK bool instance_claim(struct txn *txn, const struct row_instance *inst,
                               const struct row_instance **out, struct err *err);
/* Gives vCPUs and memory back: the instance is stopped or gone. Its disks stay counted.
 */
MUST_CHECK bool instance_unclaim(struct txn *txn, const struct row_instance *inst,
                                 const struct row_instance **out, struct err *err);

/* Changes what is wanted: want_state, want_since, generation, want_generation,
 * transition and state reasons; 'hard' skips the guest's own shutdown. 'reason_code'
 * such as "Client.UserInitiatedShutdown"; NULL clears both reasons. Nothing when it is
 * wanted so already (a terminated want never changes again). */
struct instance_want {
    const char *state; /* running, stopped, terminated */
    bool hard;
    const char *reason_code, *reason_text, *transition_reason;
};
MUST_CHECK bool instance_want(struct txn *txn, const struct row_instance *inst,
                              const struct instance_want *want, int64_t now_ns,
                              const struct row_instance **out, struct err *err);

/* ---- for the controllers, on a node's word ---- */

/* The node says the machine runs: observed_state. */
MUST_CHECK bool instance_mark_running(struct txn *txn, const struct row_instance *inst,
                                      const struct row_instance **out, struct err *err);
/* The guest shut itself down while wanted running: wanted stopped, or terminated, as
 * its shutdown behaviour says. */
MUST_CHECK bool instance_mark_guest_shutdown(struct txn *txn,
                                             const struct row_instance *inst,
                                             int64_t now_ns,
                                             const struct row_instance **out,
                                             struct err *err);
/* The node says it is stopped (or absent) as wanted: observed_state, and the claim is
 * given back. */
MUST_CHECK bool instance_mark_stopped(struct txn *txn, const struct row_instance *inst,
                                      const struct row_instance **out, struct err *err);
/* The node says the machine is absent and it was wanted terminated: sets terminated_at,
 * gives the claim back, frees addresses and deletes (or detaches) its interfaces, and
 * marks its volumes want_deleted (or detaches them). */
MUST_CHECK bool instance_mark_terminated(struct txn *txn,
                                         const struct row_instance *inst,
                                         int64_t now_ns,
                                         const struct row_instance **out,
                                         struct err *err);
/* The node says a want_deleted volume's disk is absent: the row and its tags go, and
 * its bytes are given back. */
MUST_CHECK bool volume_mark_deleted(struct txn *txn, const struct row_volume *volume,
                                    struct err *err);
/* Past its visible hour: the row and its tags go. What it did is in the audit. */
MUST_CHECK bool instance_hide(struct txn *txn, const struct row_instance *inst,
                              struct err *err);

/* A machine of a network that is placed on some node: the first in the order of nodes. */
struct vpc_machine_ask {
    const char *vpc_id;
    const char *node_id; /* On that one; NULL: on any... */
    const char *after;   /* ...behind that one; NULL: the first. */
    const char *but;     /* Not this instance; NULL: any. */
};
/* '*out' NULL: there is none. A look-up, or a few. */
MUST_CHECK bool vpc_machine(struct txn *txn, const struct vpc_machine_ask *ask,
                            const struct row_instance **out, struct err *err);

/* Its volumes, of row_volume, whatever is wanted of them. The list belongs to the transaction. */
MUST_CHECK bool instance_volumes(struct txn *txn, const char *account,
                                 const char *instance_id, struct row_list *out,
                                 struct err *err);

/* Whether an image is being made of its disk, which ties it to its node meanwhile. */
MUST_CHECK bool instance_is_copied(struct txn *txn, const struct row_instance *inst,
                                   bool *out, struct err *err);

/* What the instance calls itself: its id where its host name is of that type, else the name of
 * its address; and the same in its region's private domain. In 'arena'. */
const char *instance_hostname(struct arena *arena, const struct row_instance *inst);
const char *instance_private_name(struct arena *arena, const struct row_instance *inst);
