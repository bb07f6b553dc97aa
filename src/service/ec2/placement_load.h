/* placement_load.h - a region's nodes as placement needs them, out of the rows.
 *
 * Place:    service/ec2; for the handlers that place (RunInstances, StartInstances).
 * Memory:   the call's arena. */
#pragma once
#include "core/placement.h"
#include "service/call.h"

struct placement_nodes {
    struct placement_node *items;
    size_t count;
    struct placement_rules rules;
};

/* The active nodes of 'region'; of 'only_node' alone where it is not NULL. */
MUST_CHECK bool placement_nodes_load(struct call *call, const char *region,
                                     const char *only_node, struct placement_nodes *out,
                                     struct err *err);
/* Fills the ask's claim on vCPUs and memory, with the emulator's overhead: what a node's
 * cgroup will let it use, or what the operator set. */
void placement_ask_machine(struct call *call, int64_t vcpus, int64_t memory_bytes,
                           struct placement_ask *ask);
/* InsufficientInstanceCapacity, in AWS's words; 'zone' NULL: it was open. */
bool err_capacity(struct err *err, const char *type, const char *zone);
