/* rebalance.h - which machines to move so that hosts are promised alike.
 *
 * Purpose:  a pure function: again and again from the fullest host to the emptiest of its
 *           kind, the machine whose move leaves the fuller of the two the least full; until
 *           no move is worth its while.
 * Place:    core/; the caller brings hosts and machines, and moves them.
 * Threads:  any. The same input gives the same answer. */
#pragma once
#include "core/instance_rows.h"

/* A move must bring its fullest host down by this part of what it may promise. */
#define REBALANCE_GAIN 0.02

struct rebalance_host {
    const char *id;
    const char *kind; /* Machines move among hosts of one kind only. */
    bool open;        /* Takes machines. */
    struct claim ceiling, claimed;
};

struct rebalance_machine {
    size_t host; /* Where it is. */
    struct claim claim;
};

struct rebalance_move {
    size_t machine, to;
};

/* How full a host is, of vCPUs and memory the larger part. */
double rebalance_load(const struct rebalance_host *host);
/* At most 'max' moves into 'out', in order; their number. 'hosts' and 'machines' become
 * what they would be afterwards. No machine moves twice. */
size_t rebalance_plan(struct rebalance_host *hosts, size_t host_count,
                      struct rebalance_machine *machines, size_t machine_count,
                      size_t max, struct rebalance_move *out);
