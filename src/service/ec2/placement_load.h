/* placement_load.h - what EC2 asks of placement, and its words when there is no place.
 *
 * Place:    service/ec2; for the handlers that place (RunInstances, StartInstances).
 * Memory:   the call's arena. */
#pragma once
#include "core/places.h"
#include "service/ec2/common.h"

/* Checks what a request says (NULL: nothing), over what its VPC has. */
MUST_CHECK bool place_terms_read(struct call *call, const struct ec2_placement *in,
                                 const char *vpc_id, struct place_terms *out,
                                 struct err *err);
/* The group of that name or id; InvalidPlacementGroup.Unknown. */
MUST_CHECK bool placement_group_find(struct call *call, const char *name,
                                     const char *id,
                                     const struct row_placement_group **out,
                                     struct err *err);

/* Fills in the caller's account and region, and the emulator's overhead. */
void place_want_fill(struct call *call, struct place_want *want);

/* Fills the ask's claim on vCPUs and memory, with the emulator's overhead: what a node's
 * cgroup will let it use, or what the operator set. */
void placement_ask_machine(struct call *call, int64_t vcpus, int64_t memory_bytes,
                           struct placement_ask *ask);
/* InsufficientInstanceCapacity (on dedicated hosts InsufficientCapacityOnHost), in AWS's
 * words; 'zone' NULL: it was open. A tenant is not told what others use: why the hosts do
 * not take the machine goes into the audit. */
bool err_capacity(struct call *call, const struct placement_ask *ask, const char *type,
                  const char *zone, struct err *err);
