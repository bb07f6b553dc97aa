/* instance_metadata.h - what the metadata service says to an instance, from its rows.
 *
 * Purpose:  the record is some kilobytes, and all of it follows from other rows: of what is
 *           wanted of a node only a digest is kept, by which a change is seen, and the
 *           record is made anew whenever it is sent. It may then say more than when it was
 *           wanted, never less: what changed meanwhile has a revision of its own, later.
 * Place:    control/, inside the caller's transaction.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"
#include "link/link.h"

/* A card's name in its network; the first one's is the instance's own. */
const char *instance_card_hostname(struct arena *arena,
                                   const struct row_instance *instance,
                                   const struct row_eni *eni);
/* Wants it on the node, for each of the instance's cards. */
MUST_CHECK bool instance_metadata_want(const struct pass *pass,
                                       const struct row_instance *instance,
                                       const char *node_id, struct err *err);
/* The body of such a want, in the transaction's arena; '*out' is empty when its card is no
 * machine's any more, so that the want is about to be taken down. */
MUST_CHECK bool instance_metadata_body(const struct pass *pass,
                                       const struct row_node_want *want,
                                       struct blob *out, struct err *err);
