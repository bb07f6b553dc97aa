/* leads.h - which public addresses lead from the outside into a network.
 *
 * Purpose:  in the operator's namespace each public address is a route by the network's own
 *           link, and a neighbour that is the network's router. An address that went to
 *           another network, or another node, leads here no more.
 * Place:    part of gateway.c's work.
 * Threads:  those of 'struct links'. Idempotent. */
#pragma once
#include "node/net/links.h"

/* By the link 'index' of 'outside' these lead to 'router', and no others. */
MUST_CHECK bool leads_set(struct links *outside, int index, const uint8_t router[6],
                          const uint32_t *publics, size_t count, struct err *err);
