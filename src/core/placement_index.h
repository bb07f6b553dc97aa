/* placement_index.h - which of many hosts gets a machine, in microseconds.
 *
 * Purpose:  keeps hosts where a good one is found without looking at each: by what they
 *           are (a cell), and in each cell by the vCPUs and memory that are free (a grid
 *           of buckets, with bitmaps of those that are not empty).
 * Policy:   docs/decisions/0005-placement-packs-in-rounds.md. Real processors before
 *           emulated ones; hosts that have no trouble with what they have; those where the
 *           machine fits on one NUMA node; hosts whose processors are promised less often; hosts with the
 *           fewest features beyond those asked for, then cheap ones; among these the
 *           one that is left with the least, and the least lopsided, room (pack), or with
 *           the most (spread); of two alike the one whose processors draw less.
 * Place:    core/; pure. The rule whether a host fits is placement.h's alone.
 * Memory:   copies the hosts.
 * Threads:  one at a time. The same calls in the same order give the same answers. */
#pragma once
#include "base/buf.h"
#include "core/placement.h"

struct placement_index;

enum placement_policy { PLACEMENT_PACK, PLACEMENT_SPREAD };

MUST_CHECK struct placement_index *placement_index_create(enum placement_policy policy);
void placement_index_destroy(struct placement_index *index); /* NULL is a no-op. */
AUTO_DEFINE(placement_index, struct placement_index *, placement_index_destroy)

/* Adds a host, or replaces the one with its id. */
void placement_index_put(struct placement_index *index,
                         const struct placement_host *host);
void placement_index_drop(struct placement_index *index, const char *id);
/* Sets what is promised of a host; success when there is no such host. */
void placement_index_claim(struct placement_index *index, const char *id,
                           const struct claim *claimed);
/* NULL: there is none. Borrowed until the index changes. */
const struct placement_host *placement_index_host(const struct placement_index *index,
                                                  const char *id);

/* The host that should get the machine, or NULL: none takes it. Borrowed until the index
 * changes. Promises nothing: placement_index_claim() does. */
const struct placement_host *placement_index_pick(const struct placement_index *index,
                                                  const struct placement_ask *ask);

/* How much of a zone's processors and memory is promised, of the two the larger part:
 * 0 to 1; 1 where it has no open hosts. */
double placement_index_load(const struct placement_index *index, const char *zone);

/* For operators: says of all hosts of the region, class by class, why they do not take
 * the machine: "us-east-1a: 3 kvm hosts: 2 lack memory (by 1.2 GiB at least), 1
 * cordoned". Looks at each host. */
void placement_index_explain(const struct placement_index *index,
                             const struct placement_ask *ask, struct buf *out);
/* What spoke for a host that gets it, or against: "kvm, processors promised up to twice, cost 3,
 * 14.2 W a processor at most, on one of its NUMA nodes". */
void placement_host_text(const struct placement_host *host,
                         const struct placement_ask *ask, struct buf *out);
