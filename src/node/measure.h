/* measure.h - what this host is: read from the kernel, and for its speed, measured.
 *
 * Purpose:  unequal and second-hand hosts are used for what they are worth.
 * Place:    node/; main/ measures once, before the agent starts, which tells it with each
 *           report.
 * Threads:  any; reading blocks for a moment, the speed takes MEASURE_SPEED_NS of the
 *           processor's time.
 * Failure:  none: what the kernel does not tell is left out. */
#pragma once
#include "link/link.h"

#define MEASURE_SPEED_NS (60 * NS_PER_MS)

/* What does not change while the host runs. */
struct measured {
    struct link_hardware hardware;
    const char **features;
    size_t feature_count;
    int64_t speed, swap_bytes;
};
/* All of the below; lives in 'arena'. */
void measure_host(struct arena *arena, struct measured *out);

/* Reads sockets, cores, NUMA nodes, disks, network interfaces and PCI devices below
 * 'root' ("" but in tests); the kernel's own numbers, bounded. Lives in 'arena'. */
void measure_hardware(struct arena *arena, const char *root, struct link_hardware *out);
/* Words for what types may require: "gpu", "accelerator", "sriov", "nvme"; sorted. */
void measure_features(struct arena *arena, const struct link_hardware *hardware,
                      const char ***out, size_t *out_count);
/* How fast one processor runs a short mix of arithmetic, loads and branches; 1000 is a
 * thread of 3.1 GHz as clouds sell it. The best of several tries: what disturbs only slows
 * down. */
int64_t measure_speed(void);
int64_t measure_swap_bytes(const char *root);

/* What the host draws, by the processors' own meters (RAPL), between two calls. */
struct measure_power {
    int64_t at_ns, energy_uj; /* Of the last call; 0: none yet. */
};
/* Watts since the last call; 0: not known (no meter, or it has turned over). */
int64_t measure_watts(const char *root, int64_t now_ns, struct measure_power *power);

/* Whether a user without privileges, as emulators have, may take in memory that follows a
 * guest: userfaultfd, for what the kernel itself touches too. */
bool measure_post_copy(const char *root);
