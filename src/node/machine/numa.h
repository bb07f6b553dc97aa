/* numa.h - which NUMA node of a host a guest is kept on: pure functions.
 *
 * Purpose:  memory beside one's processors is quicker than another node's. A guest that fits on
 *           one node has its threads there, and its memory as long as there is some: a
 *           promise of memory comes before its place.
 * Place:    part of machine/; what carries it out is the jail (processors) and QEMU (memory).
 * Threads:  any. */
#pragma once
#include "link/link.h"
#include <sched.h>

/* Promised to guests that are kept on a node, or asked for. */
struct numa_load {
    int64_t vcpus, memory_bytes;
};

/* The node, of 'count', that 'want' is kept on: one where it fits beside what is there, whose
 * processors are promised least; of those alike the one with the least memory left, so that
 * room for large guests stays. -1: none, or the host has but one. */
int numa_choose(const struct link_hw_numa *nodes, const struct numa_load *loads,
                size_t count, const struct numa_load *want);
/* "0-15,32-47" as the kernel writes it; false, and '*out' untouched: it is no such list, or
 * empty. */
bool numa_cpus(const char *list, cpu_set_t *out);
