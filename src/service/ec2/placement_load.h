/* placement_load.h - what EC2 asks of placement, and its words when there is no place.
 *
 * Place:    service/ec2; for the handlers that place (RunInstances, StartInstances).
 * Memory:   the call's arena. */
#pragma once
#include "core/pool.h"
#include "service/ec2/common.h"

/* Where an instance is to be, beside its zone. */
struct place_terms {
    const struct row_placement_group *group; /* NULL: none. */
    int64_t partition;                       /* Of a partition group; 0: any. */
    const char *tenancy;                     /* default, dedicated, host */
    const char *host_id;  /* Tenancy host; NULL: any of the account's. */
    const char *affinity; /* "host", or NULL. */
};

/* Checks what a request says (NULL: nothing), over what its VPC has. */
MUST_CHECK bool place_terms_read(struct call *call, const struct ec2_placement *in,
                                 const char *vpc_id, struct place_terms *out,
                                 struct err *err);
/* What an instance was launched with, or has been modified to. */
MUST_CHECK bool place_terms_of(struct call *call, const struct row_instance *inst,
                               struct place_terms *out, struct err *err);
/* The group of that name or id; InvalidPlacementGroup.Unknown. */
MUST_CHECK bool placement_group_find(struct call *call, const char *name,
                                     const char *id,
                                     const struct row_placement_group **out,
                                     struct err *err);

/* Machines alike that need places in one zone. */
struct place_want {
    const struct place_terms *terms;
    const struct instance_type *type; /* NULL: no longer in the catalogue. */
    const char *zone;
    int64_t vcpus, memory_bytes, disk_bytes;
    const char *instance_id; /* Of one that is started again; NULL: new ones. */
    const char *node_id;     /* Where its disk lies; NULL: anywhere. */
    size_t count;
};

/* Places for them: fewer than asked for is success. */
struct places_found {
    struct pool_pick *picks;
    int64_t *partitions; /* Of each; 0: none. */
    size_t count;
    struct placement_ask ask; /* What was asked last: for err_capacity. */
};
MUST_CHECK bool places_find(struct call *call, const struct place_want *want,
                            struct places_found *out, struct err *err);

/* Of an instance of tenancy host: sets the dedicated host that its node is. */
MUST_CHECK bool host_of_node(struct call *call, struct row_instance *inst,
                             struct err *err);

/* Fills the ask's claim on vCPUs and memory, with the emulator's overhead: what a node's
 * cgroup will let it use, or what the operator set. */
void placement_ask_machine(struct call *call, int64_t vcpus, int64_t memory_bytes,
                           struct placement_ask *ask);
/* What a type requires of its host: hardware, labels, speed. */
void placement_ask_type(struct call *call, const struct instance_type *type,
                        struct placement_ask *ask);
/* InsufficientInstanceCapacity (on dedicated hosts InsufficientCapacityOnHost), in AWS's
 * words; 'zone' NULL: it was open. A tenant is not told what others use: why the hosts do
 * not take the machine goes into the audit. */
bool err_capacity(struct call *call, const struct placement_ask *ask, const char *type,
                  const char *zone, struct err *err);
