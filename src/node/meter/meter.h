/* meter.h - what each guest used, each second, and what the host suffers.
 *
 * Purpose:  samples the vCPUs' run and ready time, keeps CPU credits and holds those who
 *           have none to their baseline, watches the kernel's pressure and relieves it;
 *           says all of it once a minute.
 * Place:    node/meter, over machine/: reads /proc and cgroups, drives limits through
 *           machine.h.
 * Owner:    the agent holds one. What must outlive it (credits) is in 'path', written once
 *           a minute.
 * Threads:  the loop's; a round takes some reads of /proc a guest.
 * Failure:  what cannot be read counts as nothing used; a file that cannot be written is
 *           tried again a minute later. */
#pragma once
#include "node/machine/machine.h"

struct meter;

struct meter_config {
    uv_loop_t *loop;
    struct machines *machines;
    const char *path; /* STATE/node/meter.json */
    const char *boot_id;
    const struct clock *clock;
    bool real_processors; /* Guests are not emulated. */
    /* Once a minute, and when a host begins or ceases to be fit. Borrowed. */
    void (*report)(void *ctx, const struct link_meter *meter);
    void (*event)(void *ctx, const char *kind, const char *object, const char *level,
                  const char *message);
    void *ctx;
};

MUST_CHECK struct meter *meter_open(const struct meter_config *config);
/* Credits are saved. Before the machines are closed; the loop must run on until it is
 * empty. NULL is a no-op. */
void meter_close(struct meter *meter);
