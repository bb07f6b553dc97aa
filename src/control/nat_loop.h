/* nat_loop.h - NAT gateways: they come to life and end here and nowhere else.
 *
 * Place:    control/, inside the caller's transaction; network_loop.h tells nodes of them.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"

/* A gateway is at home on one node of its VPC: it stays there while the node is active, has
 * the VPC, names an underlay and has not lost its lease; then another is found whose stream is
 * open, one with an uplink if there is one. Where there is none, it waits for the lost one.
 * '*moved': some went, came, or are nowhere now, and nodes must hear of it. */
MUST_CHECK bool nat_find_homes(const struct pass *pass, const struct row_vpc *vpc,
                               bool *moved, struct err *err);
/* Whether a gateway of the VPC is at home on the node. */
MUST_CHECK bool nat_is_on(const struct pass *pass, const char *account,
                          const char *vpc_id, const char *node_id, bool *out,
                          struct err *err);
/* The VPCs that have a gateway at home on the node. */
typedef bool nat_home_fn(void *ctx, const struct pass *pass,
                         const struct row_vpc_node *place, struct err *err);
MUST_CHECK bool nat_each_home(const struct pass *pass, const char *node_id,
                              nat_home_fn *fn, void *ctx, struct err *err);
/* Of how many VPCs gateways are at home on the node whose homes are leased. */
MUST_CHECK bool nats_leased_on(const struct pass *pass, const char *node_id,
                               size_t *out_count, struct err *err);
/* The node has lost its lease: its gateways' VPCs are looked at. */
MUST_CHECK bool nats_lost(const struct pass *pass, const char *node_id,
                          struct err *err);
/* Gateways that are pending or deleting, of every account. */
MUST_CHECK bool nats_pass(const struct pass *pass, const char *account, const char *id,
                          struct err *err);
