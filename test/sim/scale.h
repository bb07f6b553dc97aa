/* scale.h - a hundred thousand hosts and a million instances in one process.
 *
 * Purpose:  the same placement, handlers, store, controllers and link server as in a run of
 *           faults, with hosts that speak the real link (link/client.h) and have nothing
 *           behind it: each wanted record is answered at once with the seen record that
 *           ends it well. Shows what does not grow well, and what one thing more costs.
 * Threads:  one, but for SQLite's checkpoints. */
#pragma once
#include "cloud.h"

struct scale_config {
    unsigned hosts, instances;
    unsigned per_account; /* Instances of one tenant, all in one VPC. */
    unsigned per_call;    /* Launched by one RunInstances. */
    unsigned at_once;     /* Calls under way. */
    const char *dir;      /* An empty folder. */
};

/* Prints one JSON object of figures. */
void scale_run(const struct scale_config *config);
