/* ready.h - CPU ready time: how long a machine's processors waited for one of the host's.
 *
 * Purpose:  the share of the last minute's seconds, by their 95th percentile: one sample a
 *           second of what the scheduler made the vCPUs wait, less what the machine's own
 *           limit made them wait. And when a host should take no more: its guests wait,
 *           though few of the vCPUs that it promised are busy at all.
 * Place:    node/meter; pure.
 * Threads:  any. */
#pragma once
#include "base/base.h"

#define READY_SAMPLES 60
#define READY_ENOUGH 20         /* Fewer samples say nothing. */
#define READY_LIMIT_PERMILLE 40 /* 4 % */
#define READY_IDLE_PERMILLE 250 /* At most a quarter of the promise is busy. */

struct ready_window {
    uint16_t samples[READY_SAMPLES]; /* Thousandths. */
    unsigned count, next;
};

/* All of 'vcpus' together waited 'waited_ns', of which 'throttled_ns' by their own limit,
 * in 'elapsed_ns'. */
void ready_add(struct ready_window *window, int64_t vcpus, int64_t waited_ns,
               int64_t throttled_ns, int64_t elapsed_ns);
/* Thousandths; 0 while there are too few samples. */
int64_t ready_p95(const struct ready_window *window);
/* 'worst' is the highest ready_p95 of the host's machines. */
bool ready_is_bad(int64_t worst_permille, int64_t busy_vcpus_milli,
                  int64_t promised_vcpus);
