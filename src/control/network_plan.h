/* network_plan.h - what a node must know of a VPC, as records ready to be wanted.
 *
 * Purpose:  a plan gathers records, each encoded once, and is then applied to one node or
 *           many: what is not there, or differs, is written; what a plan that covers it
 *           does not name any more is taken down.
 * Place:    control/, over network_records.h and wants.h; inside the caller's transaction.
 * Cost:     of the structure by its size; of members and neighbours by how many interfaces
 *           the VPC has. One interface that changed is network_interface.h's, which needs
 *           no plan.
 * Memory:   the plan is the caller's, what it names is the transaction's.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "base/map.h"
#include "control/instance_loop.h"
#include "link/link.h"

struct plan_item {
    enum link_kind kind;
    const char *id;
    const char
        *scope; /* The VPC that it goes with: of a peering, the one that asked. */
    const char *peer_id; /* A peering: the other VPC, which must be on the node too. */
    struct blob body;
};

struct network_plan {
    const struct pass *pass;
    const struct row_vpc *vpc;
    VEC(struct plan_item) items;
    struct map *kept; /* "KIND/ID" of each. */
    bool has_members; /* Members, neighbours and interfaces' names are in it: those it
                       * lacks go. */
};

void network_plan_init(struct network_plan *plan, const struct pass *pass,
                       const struct row_vpc *vpc);
void network_plan_fini(struct network_plan *plan);

/* The network and one subnet: what a port cannot do without. */
MUST_CHECK bool network_plan_base(struct network_plan *plan,
                                  const struct row_subnet *subnet, struct err *err);
/* The network itself, subnets, route tables, ACLs, groups with what they name, NAT gateways,
 * peerings and endpoints: the same on each node. */
MUST_CHECK bool network_plan_structure(struct network_plan *plan, struct err *err);
/* One group, with the prefix lists and the peers' members that its rules name. */
MUST_CHECK bool network_plan_group(struct network_plan *plan,
                                   const struct row_security_group *group,
                                   struct err *err);
/* The VPC's interfaces as group members, with their names, and, as neighbours, those on nodes
 * other than this one. */
MUST_CHECK bool network_plan_members(struct network_plan *plan, const char *node_id,
                                     struct err *err);

/* Wants the plan's records on a node that has the VPC. */
MUST_CHECK bool network_plan_want(const struct network_plan *plan, const char *node_id,
                                  struct err *err);
/* Takes down, on the node, what the VPC has there and the plan does not name. */
MUST_CHECK bool network_plan_sweep(const struct network_plan *plan, const char *node_id,
                                   struct err *err);
