/* share.c - see share.h. */
#include "core/share.h"

const struct share_loop share_loops[] = {
    {"drains", "drains - -"},
    {"janitor", "janitor"},
    {"migrations", "migrations - -"},
    {"nat gateways", "nats - -"},
    {"uplinks", "uplinks - -"},
    {"waiting jobs", "waiting-jobs - -"},
    {NULL, NULL},
};

/* FNV-1a, with the finalizer of MurmurHash3 so that near ids fall far apart. */
static uint64_t
weight(const char *id, const char *key)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    const char *const parts[] = {id, "\n", key};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        for (const char *c = parts[i]; *c; c++) {
            h = (h ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
        }
    }
    h = (h ^ (h >> 33)) * UINT64_C(0xff51afd7ed558ccd);
    h = (h ^ (h >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ (h >> 33);
}

bool
share_outweighs(const char *id, const char *best, const char *key)
{
    if (!best) {
        return true;
    }
    uint64_t a = weight(id, key), b = weight(best, key);
    return a > b || (a == b && strcmp(id, best) > 0);
}

size_t
share_limit(size_t members, size_t nodes)
{
    return members ? (nodes + members - 1) / members : nodes;
}

void
share_streams(const char *const *members, size_t member_count, const char *const *nodes,
              size_t node_count, size_t *out)
{
    size_t limit = share_limit(member_count, node_count);
    size_t *taken = xcalloc(member_count + 1, sizeof *taken);
    for (size_t n = 0; n < node_count; n++) {
        size_t best = SIZE_MAX;
        for (size_t m = 0; m < member_count; m++) {
            if (taken[m] < limit &&
                share_outweighs(members[m], best == SIZE_MAX ? NULL : members[best],
                                nodes[n])) {
                best = m;
            }
        }
        out[n] = best;
        taken[best]++;
    }
    free(taken);
}
