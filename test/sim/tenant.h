/* tenant.h - who uses the cloud: launches, stops, starts, reboots, terminates, describes,
 * and asks again with the same token when an answer was lost.
 *
 * Purpose:  the load of a run, drawn from the seed; what the tenant was told goes into the
 *           history.
 * Threads:  one. */
#pragma once
#include "cloud.h"

struct tenant_config {
    struct cloud *cloud;
    unsigned servers_max; /* At once. */
    int64_t pause_ns;     /* Between two calls, up to this. */
};

void tenant_begin(const struct tenant_config *config);
/* Makes no new calls of its own; 'clean' terminates everything, until that is told. */
void tenant_end(bool clean);
unsigned tenant_launched(void); /* Servers, so far. */
