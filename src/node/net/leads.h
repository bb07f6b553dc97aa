/* leads.h - which public addresses lead from the outside into a network.
 *
 * Purpose:  in the operator's namespace each public address is a route by the network's own
 *           link, and a neighbour that is the network's router. An address that went to
 *           another network, or another node, leads here no more. Addresses on other nodes lead
 *           there by the link of an uplink of mode overlay.
 * Place:    part of gateway.c's work.
 * Threads:  those of 'struct links'. Idempotent. */
#pragma once
#include "node/net/links.h"

struct lead {
    uint32_t public;
    uint8_t mac[6]; /* Of whom it leads to. */
};

/* By the link 'index' of 'outside' these lead on, and no others. */
MUST_CHECK bool leads_set(struct links *outside, int index, const struct lead *leads,
                          size_t count, struct err *err);
