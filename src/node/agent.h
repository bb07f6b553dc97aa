/* agent.h - the node agent: makes what the control plane wants of this host so.
 *
 * Purpose:  keeps the wanted records on the node's own disk, gives them to the modules in
 *           order (network, subnet, port, metadata, blob, disk, machine, blob job), makes
 *           passes over them, and reports what was seen.
 * Place:    the top of node/. Knows nothing of AWS.
 * Owner:    main/ makes one a process.
 * Threads:  everything on the thread that runs 'loop'.
 * Failure:  what one record asks may fail without harm to the others; it is tried again
 *           and its seen record says why. The control plane may be away for any time. */
#pragma once
#include "base/base.h"
#include "base/world.h"
#include <uv.h>

struct agent;
struct measured;
struct offer;

struct agent_config {
    uv_loop_t *loop;
    const struct clock *clock;
    const struct rng *rng;
    const char *state_dir; /* node/ and link.sock lie in it. */
    const char
        *join; /* "HOST:PORT,..."; NULL: STATE/link.sock, or where it was last. */
    const char *shared_pool; /* A folder that other nodes see too; NULL: none. */
    const char *token; /* Text, for joining; NULL otherwise. */
    /* This host's IPv4 address on the network between hosts, remembered from then on;
     * "none" forgets it, NULL leaves it as it was. */
    const char *underlay;
    const char *version;
    struct measured *measured; /* Of the host (measure.h); NULL: nothing is told. */
};

/* Finds running guests, starts what is wanted, connects. ERR_BUSY: an agent runs here. */
MUST_CHECK struct agent *agent_create(const struct agent_config *config,
                                      struct err *err);
/* What its QEMU offers (machine/offer.h), told from now on; borrowed while the agent lives. */
void agent_offer(struct agent *agent, const struct offer *offer);
/* The agent ends; guests and networks go on. NULL is a no-op. */
void agent_destroy(struct agent *agent);

/* Shuts every guest of the node down, and removes namespaces and cgroups; disks and wanted
 * records stay. Ends an agent that runs. Blocks; needs no control plane. */
MUST_CHECK bool agent_power_off(const struct agent_config *config, struct err *err);
/* The same at once, and STATE/node with all disks goes too. */
MUST_CHECK bool agent_purge(const struct agent_config *config, struct err *err);
