/* numa.c - see numa.h. */
#include "node/machine/numa.h"

bool
numa_cpus(const char *list, cpu_set_t *out)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const char *at = list ? list : ""; *at;) {
        char *end;
        long first = strtol(at, &end, 10), last = first;
        if (end == at) {
            return false;
        }
        if (*end == '-') {
            at = end + 1;
            last = strtol(at, &end, 10);
        }
        if (end == at || first < 0 || last < first || last >= CPU_SETSIZE ||
            (*end && *end != ',')) {
            return false;
        }
        for (long cpu = first; cpu <= last; cpu++) {
            CPU_SET((size_t)cpu, &set);
        }
        at = *end ? end + 1 : end;
    }
    if (CPU_COUNT(&set) == 0) {
        return false;
    }
    *out = set;
    return true;
}

/* What would be promised of a node with the guest on it. */
struct rest {
    double busy; /* vCPUs a processor. */
    int64_t memory_bytes;
};

static bool
fits(const struct link_hw_numa *node, const struct numa_load *load,
     const struct numa_load *want, struct rest *out)
{
    cpu_set_t cpus;
    if (!numa_cpus(node->cpus, &cpus)) {
        return false; /* Memory alone. */
    }
    int count = CPU_COUNT(&cpus);
    *out = (struct rest){.busy = (double)(load->vcpus + want->vcpus) / count,
                         .memory_bytes = node->memory_bytes - load->memory_bytes -
                                         want->memory_bytes};
    return want->vcpus <= count && out->memory_bytes >= 0;
}

int
numa_choose(const struct link_hw_numa *nodes, const struct numa_load *loads,
            size_t count, const struct numa_load *want)
{
    struct rest best = {0}, rest;
    int chosen = -1;
    for (size_t i = 0; count > 1 && i < count; i++) {
        if (!fits(&nodes[i], &loads[i], want, &rest)) {
            continue;
        }
        bool better = rest.busy < best.busy || (!(rest.busy > best.busy) &&
                                                rest.memory_bytes < best.memory_bytes);
        if (chosen < 0 || better) {
            best = rest;
            chosen = (int)i;
        }
    }
    return chosen;
}
