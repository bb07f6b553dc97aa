/* network_interface.h - one interface, as nodes other than its own know it.
 *
 * Purpose:  an interface that came, moved, changed or went is told to the nodes that have
 *           its VPC: as a member of its groups and by its names everywhere, and as a
 *           neighbour where it is not at home; its public addresses by outside.h. What it costs follows from how many nodes have the VPC, and not
 *           from how many interfaces do.
 * Place:    control/, inside the caller's transaction; beside network_plan.h, which tells
 *           one node of all interfaces.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"
#include "link/link.h"

/* Brings every node up to date about the interface; one that was deleted is looked up in
 * row_eni_gone. To be called when it changes, and when its machine moves. */
MUST_CHECK bool interface_tell(const struct pass *pass, const char *account,
                               const char *id, struct err *err);
/* The node of the machine or NAT gateway that has it; NULL: it is nowhere. */
MUST_CHECK bool interface_home(const struct pass *pass, const struct row_eni *eni,
                               const char **out, struct err *err);
/* The underlay address of an active node; NULL: it names none. */
MUST_CHECK bool underlay_of(const struct pass *pass, const char *node_id,
                            const char **out, struct err *err);
/* What 'node_id' must know of the interface as a neighbour. '*wanted' is false where it is
 * at home, is nowhere, or where one of the two nodes names no underlay. */
MUST_CHECK bool neighbour_for(const struct pass *pass, const struct row_eni *eni,
                              const char *node_id, struct link_neighbour *out,
                              bool *wanted, struct err *err);
