/* network_loop.h - makes VPCs so: from their rows to records on the nodes that have
 * machines in them, or in VPCs peered with them.
 *
 * Purpose:  one pass looks at all VPCs of an account whole: what a node must know of them
 *           is wanted there, what it need not know any more is taken down. Only here do
 *           NAT gateways come to life and end.
 * Place:    control/, inside the caller's transaction; beside instance_loop.h, which wants
 *           ports, and the network and subnet they need.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"

/* All VPCs of the account, and those of others that are peered with them. */
MUST_CHECK bool networks_pass(const struct pass *pass, const char *account,
                              const char *id, struct err *err);
/* Gateways that are pending or deleting, of every account. */
MUST_CHECK bool nats_pass(const struct pass *pass, const char *account, const char *id,
                          struct err *err);
/* An interface changed: its instance gets a look. */
MUST_CHECK bool interface_pass(const struct pass *pass, const char *account,
                               const char *id, struct err *err);
/* The network and one subnet, as a port needs them first. */
MUST_CHECK bool network_want_base(const struct pass *pass, const char *node_id,
                                  const struct row_vpc *vpc,
                                  const struct row_subnet *subnet, struct err *err);
/* Takes the VPC off a node where no machine needs it any more. */
MUST_CHECK bool network_release(const struct pass *pass, const char *node_id,
                                const struct row_vpc *vpc, struct err *err);
