/* placement_load.h - what EC2 asks of placement, and its words when there is no place.
 *
 * Place:    service/ec2; for the handlers that place (RunInstances, StartInstances).
 * Memory:   the call's arena. */
#pragma once
#include "core/pool.h"
#include "service/call.h"

/* Fills the ask's claim on vCPUs and memory, with the emulator's overhead: what a node's
 * cgroup will let it use, or what the operator set. */
void placement_ask_machine(struct call *call, int64_t vcpus, int64_t memory_bytes,
                           struct placement_ask *ask);
/* InsufficientInstanceCapacity, in AWS's words; 'zone' NULL: it was open. A tenant is not
 * told what others use: why the hosts do not take the machine goes into the audit. */
bool err_capacity(struct call *call, const struct placement_ask *ask, const char *type,
                  const char *zone, struct err *err);
