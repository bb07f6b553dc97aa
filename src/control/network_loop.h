/* network_loop.h - makes VPCs so: from their rows to records on the nodes that have
 * machines in them, or in VPCs peered with them.
 *
 * Purpose:  one pass a kind of change, each about no more than what it touches: a VPC's
 *           structure, one of its groups, one of its interfaces, one node where it is.
 * Place:    control/, inside the caller's transaction; beside instance_loop.h, which wants
 *           ports, and the network and subnet they need. nat_loop.h ends NAT gateways.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"

/* A VPC's own row changed, as it does with each change of subnets, tables, ACLs, gateways,
 * peerings: all of its nodes, but for members and neighbours. */
MUST_CHECK bool network_pass(const struct pass *pass, const char *account,
                             const char *id, struct err *err);
/* A VPC came to a node, or is to be looked at there: everything the node must know. 'vpc_id'
 * stands where other passes have the account. */
MUST_CHECK bool place_pass(const struct pass *pass, const char *vpc_id,
                           const char *node_id, struct err *err);
/* A security group's rules changed. */
MUST_CHECK bool group_pass(const struct pass *pass, const char *account, const char *id,
                           struct err *err);
/* A rule came or changed: its group. */
MUST_CHECK bool rule_pass(const struct pass *pass, const char *account, const char *id,
                          struct err *err);
/* A prefix list changed: the VPCs whose groups and routes name it. */
MUST_CHECK bool prefix_list_pass(const struct pass *pass, const char *account,
                                 const char *id, struct err *err);
/* An interface changed: its instance gets a look, and nodes hear of it. */
MUST_CHECK bool interface_pass(const struct pass *pass, const char *account,
                               const char *id, struct err *err);
/* A node named its underlay, or was revoked: it, and those that share VPCs with it. */
MUST_CHECK bool node_pass(const struct pass *pass, const char *account, const char *id,
                          struct err *err);
/* The network and one subnet, as a port needs them first. */
MUST_CHECK bool network_want_base(const struct pass *pass, const char *node_id,
                                  const struct row_vpc *vpc,
                                  const struct row_subnet *subnet, struct err *err);
