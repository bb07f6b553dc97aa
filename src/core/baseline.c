/* baseline.c - see baseline.h. */
#include "core/baseline.h"

/* From the best down. Of what hosts have in common the first counts: models of one maker
 * have all that its processors need against each other's flaws, so they come before the
 * levels, which are any maker's. An emulated host offers levels and old models only. */
static const char *const ladder[] = {
    "SapphireRapids",
    "EPYC-Genoa",
    "EPYC-Milan",
    "EPYC-Rome",
    "EPYC-IBPB",
    "Icelake-Server-noTSX",
    "Cascadelake-Server-noTSX",
    "Skylake-Server-noTSX-IBRS",
    "Skylake-Client-noTSX-IBRS",
    "Broadwell-noTSX-IBRS",
    "Haswell-noTSX-IBRS",
    "x86-64-v3",
    "IvyBridge-IBRS",
    "SandyBridge-IBRS",
    "Westmere-IBRS",
    "x86-64-v2-AES",
    "Nehalem",
    "qemu64",
};

static bool
has_word(const char *const *items, size_t count, const char *word)
{
    for (size_t i = 0; i < count; i++) {
        if (str_eq(items[i], word)) {
            return true;
        }
    }
    return false;
}

bool
baseline_get(struct txn *txn, const struct baseline_key *key,
             const struct row_baseline **out, struct err *err)
{
    const struct row_baseline row = {
        .region = key->region, .zone = key->zone, .accel = key->accel};
    if (str_empty(key->zone) || str_empty(key->accel)) {
        *out = NULL;
        return true;
    }
    return row_get(txn, &row_baseline_type, &row, (const void **)out, err);
}

bool
baseline_told(const struct row_node_seen *seen)
{
    return seen && seen->cpu_models.count > 0 && seen->machine_types.count > 0;
}

static bool
offers_cpu(const struct row_node_seen *seen, const char *name)
{
    return has_word(seen->cpu_models.items, seen->cpu_models.count, name);
}

static bool
offers_machine(const struct row_node_seen *seen, const char *name)
{
    return has_word(seen->machine_types.items, seen->machine_types.count, name);
}

bool
baseline_offers(const struct row_node_seen *seen, const char *cpu_model,
                const char *machine_type)
{
    return (str_empty(cpu_model) || offers_cpu(seen, cpu_model)) &&
           (str_empty(machine_type) || offers_machine(seen, machine_type));
}

const char *
baseline_gap(struct arena *arena, const struct row_baseline *baseline,
             const struct row_node_seen *seen)
{
    if (!baseline || !baseline_told(seen) ||
        baseline_offers(seen, baseline->cpu_model, baseline->machine_type)) {
        return NULL;
    }
    return offers_cpu(seen, baseline->cpu_model)
               ? arena_printf(arena, "machine type %s (QEMU %s)",
                              baseline->machine_type,
                              seen->qemu_version ? seen->qemu_version : "?")
               : arena_printf(arena, "processor %s", baseline->cpu_model);
}

bool
baseline_pick(const struct row_node_seen *const *hosts, size_t count,
              const char **out_cpu_model, const char **out_machine_type)
{
    const char *cpu = NULL, *machine = NULL;
    for (size_t l = 0; count > 0 && !cpu && l < ARRAY_LEN(ladder); l++) {
        size_t have = 0;
        while (have < count && offers_cpu(hosts[have], ladder[l])) {
            have++;
        }
        cpu = have == count ? ladder[l] : NULL;
    }
    /* Each names its newest first. */
    for (size_t t = 0; count > 0 && !machine && t < hosts[0]->machine_types.count;
         t++) {
        const char *type = hosts[0]->machine_types.items[t];
        size_t have = 0;
        while (have < count && offers_machine(hosts[have], type)) {
            have++;
        }
        machine = have == count ? type : NULL;
    }
    if (!cpu || !machine) {
        return false;
    }
    *out_cpu_model = cpu;
    *out_machine_type = machine;
    return true;
}

/* ---- a zone's hosts --------------------------------------------------------------------- */

bool
baseline_hosts(struct txn *txn, const struct baseline_key *key,
               struct baseline_hosts *out, struct err *err)
{
    const struct row_node prefix = {.region = key->region, .zone = key->zone};
    const struct row_query query = {
        .index = "by_zone", .prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    if (!row_list(txn, &row_node_type, &query, &list, err)) {
        return false;
    }
    *out = (struct baseline_hosts){
        ARENA_ARRAY(txn_arena(txn), list.count, struct baseline_host), 0};
    for (size_t i = 0; i < list.count; i++) {
        const struct row_node *node = list.rows[i];
        const struct row_node_seen seen_key = {.id = node->id};
        const struct row_node_seen *seen;
        if (!row_get(txn, &row_node_seen_type, &seen_key, (const void **)&seen, err)) {
            return false;
        }
        if (seen && str_eq(seen->accel, key->accel) && str_eq(node->state, "active")) {
            out->items[out->count++] = (struct baseline_host){node, seen};
        }
    }
    return true;
}

bool
baseline_renew(struct txn *txn, const struct baseline_key *key, int64_t now_ns,
               const struct row_baseline **out, struct err *err)
{
    struct baseline_hosts hosts;
    if (!baseline_hosts(txn, key, &hosts, err)) {
        return false;
    }
    struct arena *arena = txn_arena(txn);
    const struct row_node_seen **seen =
        ARENA_ARRAY(arena, hosts.count, const struct row_node_seen *);
    size_t count = 0;
    for (size_t i = 0; i < hosts.count; i++) {
        if (baseline_told(hosts.items[i].seen)) {
            seen[count++] = hosts.items[i].seen;
        }
    }
    struct row_baseline row = {.region = key->region,
                               .zone = key->zone,
                               .accel = key->accel,
                               .chosen_at = now_ns};
    *out = NULL;
    if (!baseline_pick(seen, count, &row.cpu_model, &row.machine_type)) {
        return true;
    }
    *out = arena_memdup(arena, &row, sizeof row);
    return row_put(txn, &row_baseline_type, &row, err);
}

bool
baseline_in_use(struct txn *txn, const struct baseline_key *key, bool *out,
                struct err *err)
{
    struct baseline_hosts hosts;
    if (!baseline_hosts(txn, key, &hosts, err)) {
        return false;
    }
    *out = false;
    for (size_t i = 0; i < hosts.count && !*out; i++) {
        const struct row_node_claim claim_key = {.id = hosts.items[i].node->id};
        const struct row_node_claim *claim;
        if (!row_get(txn, &row_node_claim_type, &claim_key, (const void **)&claim,
                     err)) {
            return false;
        }
        *out = claim && claim->machines > 0;
    }
    return true;
}

bool
baseline_judge_all(struct txn *txn, const struct baseline_key *key, const char *except,
                   struct err *err)
{
    const struct row_baseline *baseline;
    struct baseline_hosts hosts;
    if (!baseline_get(txn, key, &baseline, err) ||
        !baseline_hosts(txn, key, &hosts, err)) {
        return false;
    }
    for (size_t i = 0; i < hosts.count; i++) {
        struct row_node next = *hosts.items[i].node;
        const char *gap = baseline_gap(txn_arena(txn), baseline, hosts.items[i].seen);
        bool same = str_eq(gap ? gap : "", next.lacks ? next.lacks : "");
        next.lacks = gap;
        if (!same && !str_eq(next.id, except) &&
            !row_put(txn, &row_node_type, &next, err)) {
            return false;
        }
    }
    return true;
}
