/* placement.h - which node gets a machine.
 *
 * Purpose:  filter (zone, connected, not cordoned, room), then score (spread: the most
 * room left in the scarcest resource wins), deterministic: ties go to the lower id.
 * Place:    core/; pure: the caller loads the nodes and writes the claims.
 * Threads:  any. */
#pragma once
#include "core/instance_rows.h"

/* One host, as placement sees it. Any row may be NULL but 'node'. */
struct placement_node {
    const struct row_node *node;
    const struct row_node_seen *seen;
    struct claim claimed; /* Promised so far; placement_take() adds to it. */
};

struct placement_rules {
    double cpu_overcommit, memory_overcommit;
};

struct placement_ask {
    const char *region, *zone; /* 'zone' NULL: any zone of the region. */
    const char *only_node; /* NULL, or the one node it must be (its disk lies there). */
    struct claim claim;    /* Of the guest itself. */
    /* What its emulator takes beside that, where processors run it and where not. */
    int64_t overhead_kvm_bytes, overhead_emulated_bytes;
};

/* What the machine takes of 'node', its emulator included. */
struct claim placement_claim(const struct placement_node *node,
                             const struct placement_ask *ask);

/* What a node may promise in all; zero when it may promise nothing. */
struct claim placement_ceiling(const struct placement_node *node,
                               const struct placement_rules *rules);
/* The index of the best node, or -1: no room anywhere. */
int placement_pick(const struct placement_node *nodes, size_t count,
                   const struct placement_rules *rules,
                   const struct placement_ask *ask);
void placement_take(struct placement_node *node, const struct claim *claim);
