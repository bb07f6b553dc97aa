/* places.h - places for instances, as their placement groups, tenancy and types allow.
 *
 * Purpose:  everything that puts an instance somewhere (a launch, a start, a move, a
 *           recovery) asks here, so that none of them forgets a rule.
 * Place:    core/, over pool.h. Writes nothing: who asked claims what was answered.
 * Memory:   the transaction's arena.
 * Threads:  the transaction's. */
#pragma once
#include "core/pool.h"

/* Where an instance is to be, beside its zone. */
struct place_terms {
    const struct row_placement_group *group; /* NULL: none. */
    int64_t partition;                       /* Of a partition group; 0: any. */
    const char *tenancy;                     /* default, dedicated, host */
    const char *host_id;  /* Tenancy host: that one; NULL: any of the account's. */
    const char *affinity; /* "host", or NULL. */
};
/* What an instance was launched with, or has been modified to. */
MUST_CHECK bool place_terms_of(struct txn *txn, const struct row_instance *inst,
                               struct place_terms *out, struct err *err);

/* Machines alike that need places in one zone. */
struct place_want {
    const char *account, *region, *zone;
    const struct place_terms *terms;
    const struct instance_type *type; /* NULL: no longer in the catalogue. */
    int64_t vcpus, memory_bytes, disk_bytes;
    /* What its emulator takes beside that, by class: link/overhead.h. */
    int64_t overhead_bytes[PLACEMENT_CLASSES];
    const char *instance_id;      /* Of one that is there already; NULL: new ones. */
    struct placement_words among; /* Node ids: nowhere but on these; none: anywhere. */
    const char *not_node;         /* Anywhere but there; NULL: anywhere. */
    const char
        *vpc_id; /* Whose machines elsewhere must reach it; NULL: it does not matter. */
    int64_t lent_cards; /* Local network interfaces of each. */
    size_t count;
};

/* Places for them: fewer than asked for is success. */
struct places_found {
    struct pool_pick *picks;
    int64_t *partitions; /* Of each; 0: none. */
    size_t count;
    struct placement_ask ask; /* What was asked: for explanations. */
};
/* InvalidPlacementGroup.InUse for a cluster group that is in another zone,
 * InvalidHostConfiguration for a named host that does not take the type there,
 * InstanceLimitExceeded for a spread group that is full. */
MUST_CHECK bool places_find(struct pool *pool, struct txn *txn,
                            const struct cloud_config *config,
                            const struct place_want *want, struct places_found *out,
                            struct err *err);

/* What a type requires of its host: hardware, labels, speed. */
void places_ask_type(const struct cloud_config *config,
                     const struct instance_type *type, struct placement_ask *ask);
/* Of an instance of tenancy host: sets the dedicated host that its node is. */
MUST_CHECK bool host_of_node(struct txn *txn, struct row_instance *inst,
                             struct err *err);
