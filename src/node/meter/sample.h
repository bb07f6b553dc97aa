/* sample.h - the counters of a guest's vCPUs, and of the host, out of /proc.
 *
 * Place:    node/meter; reads files, keeps the ids of threads.
 * Threads:  the meter's. */
#pragma once
#include "base/base.h"
#include "node/meter/relief.h"
#include <sys/types.h>

#define SAMPLE_VCPUS_MAX 128

/* The threads of one emulator that are vCPUs; its names for them end in "/TCG", "/KVM". */
struct vcpu_threads {
    pid_t pid; /* 0: not looked for yet. */
    pid_t tids[SAMPLE_VCPUS_MAX];
    size_t count;
};

/* Since they were started, all together. */
struct vcpu_times {
    int64_t run_ns, wait_ns;
};

/* Looks for the threads of 'pid' until there are 'vcpus' of them. False: none is known. */
MUST_CHECK bool sample_vcpus(struct vcpu_threads *threads, pid_t pid, int64_t vcpus,
                             struct vcpu_times *out);
void sample_host(struct relief_facts *out);
