#include "core/placement.h"

static int64_t
ceiling(int64_t set, int64_t measured, double ratio)
{
    return set > 0 ? set : (int64_t)((double)measured * (ratio > 0 ? ratio : 1));
}

struct claim
placement_ceiling(const struct placement_node *node,
                  const struct placement_rules *rules)
{
    const struct row_node_seen *seen = node->seen;
    if (!seen || !seen->connected || node->node->cordoned ||
        !str_eq(node->node->state, "active")) {
        return (struct claim){0};
    }
    return (struct claim){
        .vcpus = ceiling(node->node->ceiling_vcpus, seen->vcpus, rules->cpu_overcommit),
        .memory_bytes = ceiling(node->node->ceiling_memory_bytes, seen->memory_bytes,
                                rules->memory_overcommit),
        .disk_bytes = seen->pool_bytes,
    };
}

struct claim
placement_claim(const struct placement_node *node, const struct placement_ask *ask)
{
    bool kvm = node->seen && str_eq(node->seen->accel, "kvm");
    struct claim claim = ask->claim;
    claim.memory_bytes += kvm ? ask->overhead_kvm_bytes : ask->overhead_emulated_bytes;
    return claim;
}

/* The part of 'all' that stays free once 'want' is promised too; negative: no room. A
 * resource that is not asked for never stands in the way. */
static double
free_part(int64_t all, int64_t claimed, int64_t want)
{
    if (want <= 0) {
        return 1;
    }
    if (all <= 0) {
        return -1;
    }
    return (double)(all - claimed - want) / (double)all;
}

/* The scarcest resource's free part, or a negative number when the node does not do. */
static double
score(const struct placement_node *n, const struct placement_rules *rules,
      const struct placement_ask *ask)
{
    if (!str_eq(n->node->region, ask->region) ||
        (ask->zone && !str_eq(n->node->zone, ask->zone)) ||
        (ask->only_node && !str_eq(n->node->id, ask->only_node))) {
        return -1;
    }
    struct claim all = placement_ceiling(n, rules);
    if (all.vcpus == 0 && all.memory_bytes == 0) {
        return -1;
    }
    struct claim want = placement_claim(n, ask);
    double vcpus = free_part(all.vcpus, n->claimed.vcpus, want.vcpus);
    double memory =
        free_part(all.memory_bytes, n->claimed.memory_bytes, want.memory_bytes);
    /* Overlays hold what guests wrote: what is promised may pass what lies there, but a
     * pool with no room left for any of it takes nothing new. */
    bool full = n->seen->pool_bytes > 0 && n->seen->pool_free_bytes <= 0;
    double disk = want.disk_bytes > 0 && full ? -1 : 1;
    return MIN(disk, MIN(vcpus, memory));
}

int
placement_pick(const struct placement_node *nodes, size_t count,
               const struct placement_rules *rules, const struct placement_ask *ask)
{
    int best = -1;
    double best_score = -1;
    for (size_t i = 0; i < count; i++) {
        double s = score(&nodes[i], rules, ask);
        if (s < 0 || s < best_score) {
            continue;
        }
        if (best < 0 || s > best_score ||
            strcmp(nodes[i].node->id, nodes[best].node->id) < 0) {
            best = (int)i;
            best_score = s;
        }
    }
    return best;
}

void
placement_take(struct placement_node *node, const struct claim *claim)
{
    node->claimed.vcpus += claim->vcpus;
    node->claimed.memory_bytes += claim->memory_bytes;
    node->claimed.disk_bytes += claim->disk_bytes;
    node->claimed.machines += claim->machines;
}
