/* network_places.h - on which nodes a VPC is.
 *
 * Purpose:  keeps row_vpc_node: a row for each node that has machines of the VPC, or of one
 *           that is peered with it, since a peer's packets are routed into the VPC where
 *           they start. Whoever plans what nodes must know asks here, and never looks at
 *           all nodes or all machines.
 * Place:    control/, inside the caller's transaction; below network_loop.h, which hears
 *           of new rows by the store's watch and then tells the node what it must know.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"

/* The VPC's rows, by node. */
MUST_CHECK bool vpc_places(const struct pass *pass, const char *vpc_id,
                           struct row_list *out, struct err *err);
MUST_CHECK bool vpc_is_on(const struct pass *pass, const char *vpc_id,
                          const char *node_id, bool *out, struct err *err);
/* The active peerings of a VPC, asked for by it or of it. */
MUST_CHECK bool vpc_peerings(const struct pass *pass, const char *vpc_id,
                             struct row_list *out, struct err *err);
/* The other side's id. */
const char *peer_of(const struct row_vpc_peering *peering, const char *vpc_id);

/* A machine of the VPC is, or is to be, on the node: the VPC comes there, and its peers
 * with it. Nothing when it is there. */
MUST_CHECK bool vpc_arrives(const struct pass *pass, const struct row_vpc *vpc,
                            const char *node_id, struct err *err);
/* Peerings came or went: the VPC, and its peers, are brought to where they are needed now,
 * and taken off where they are not. */
MUST_CHECK bool vpc_settle(const struct pass *pass, const struct row_vpc *vpc,
                           struct err *err);
/* Takes the VPC, and peers that were there for its sake, off a node where no machine needs
 * them any more. */
MUST_CHECK bool network_release(const struct pass *pass, const char *node_id,
                                const struct row_vpc *vpc, struct err *err);
/* The same whether it is needed or not: the VPC is gone, or the node is. */
MUST_CHECK bool vpc_leaves(const struct pass *pass, const char *vpc_id,
                           const char *node_id, struct err *err);
/* Asks for a look at all that the node must know of the VPC. */
MUST_CHECK bool vpc_look_again(const struct pass *pass, const struct row_vpc_node *row,
                               struct err *err);
