/* placement.c - see placement.h. */
#include "core/placement.h"

/* A processor measured a little slower than promised is as good: a measurement on a busy
 * host says that of its twin. */
#define SPEED_TOLERANCE_PERCENT 15
/* Of a small host's memory, that it has for itself at most. */
#define HOST_RESERVE_PART 16

static const char *const no_texts[PLACEMENT_NOS] = {
    [PLACEMENT_FITS] = "would take it",
    [PLACEMENT_AWAY] = "away",
    [PLACEMENT_REVOKED] = "revoked",
    [PLACEMENT_QUARANTINED] = "quarantined (moln node accept)",
    [PLACEMENT_CORDONED] = "cordoned",
    [PLACEMENT_BELOW] = "below the zone's baseline (moln pool)",
    [PLACEMENT_UNFIT] = "under pressure",
    [PLACEMENT_POOL_FULL] = "without room for disks",
    [PLACEMENT_OTHER] = "not asked for",
    [PLACEMENT_OWNED] = "another account's alone",
    [PLACEMENT_SHARED] = "shared with other accounts",
    [PLACEMENT_FEATURE] = "lack hardware or a label that the type requires",
    [PLACEMENT_SLOW] = "slower than the type promises",
    [PLACEMENT_GROUP] = "kept apart by the placement group",
    [PLACEMENT_SEGMENT] = "outside the placement group's network segment",
    [PLACEMENT_REACH] = "without an underlay to the other hosts of its network",
    [PLACEMENT_LENT] = "without a free interface that is lent to the account",
    [PLACEMENT_VCPUS] = "lack vCPUs",
    [PLACEMENT_MEMORY] = "lack memory",
};

const char *
placement_no_text(enum placement_no no)
{
    return no_texts[no];
}

bool
placement_words_have(struct placement_words words, const char *word)
{
    for (size_t i = 0; !str_empty(word) && i < words.count; i++) {
        if (str_eq(words.items[i], word)) {
            return true;
        }
    }
    return false;
}

void
placement_words_add(struct arena *arena, struct placement_words *words,
                    const char *word)
{
    const char **items = ARENA_ARRAY(arena, words->count + 1, const char *);
    if (words->count > 0) {
        memcpy(items, words->items, words->count * sizeof *items);
    }
    items[words->count] = word;
    *words = (struct placement_words){items, words->count + 1};
}

/* ---- hosts ----------------------------------------------------------------------- */

struct placement_rules
placement_rules_of(const struct cloud_config *config)
{
    const struct placement_ratio all = {config->cpu_overcommit,
                                        config->memory_overcommit};
    struct placement_rules rules = {{all, all}, config->host_reserve_bytes};
    for (int i = 0; i < PLACEMENT_CLASSES; i++) {
        double cpu = i == PLACEMENT_KVM ? config->kvm_cpu_overcommit
                                        : config->tcg_cpu_overcommit;
        double memory = i == PLACEMENT_KVM ? config->kvm_memory_overcommit
                                           : config->tcg_memory_overcommit;
        rules.of[i].cpu = cpu > 0 ? cpu : all.cpu;
        rules.of[i].memory = memory > 0 ? memory : all.memory;
    }
    return rules;
}

static enum placement_class
class_of(const struct row_node_seen *seen)
{
    return seen && str_eq(seen->accel, "kvm") ? PLACEMENT_KVM : PLACEMENT_TCG;
}

static int64_t
times(int64_t measured, double ratio)
{
    return (int64_t)((double)measured * (ratio > 0 ? ratio : 1));
}

static int64_t
within(int64_t promise, int64_t ceiling)
{
    return ceiling > 0 ? MIN(promise, ceiling) : promise;
}

struct claim
placement_ceiling(const struct placement_rows *rows,
                  const struct placement_rules *rules)
{
    const struct row_node_seen *seen = rows->seen;
    if (!seen) {
        return (struct claim){0};
    }
    const struct placement_ratio *ratio = &rules->of[class_of(seen)];
    int64_t memory = times(seen->memory_bytes, ratio->memory);
    int64_t own =
        MIN(rules->host_reserve_bytes, seen->memory_bytes / HOST_RESERVE_PART);
    return (struct claim){
        .vcpus = within(times(seen->vcpus, ratio->cpu), rows->node->ceiling_vcpus),
        /* Promised memory can always be had: beyond what is there stands swap. */
        .memory_bytes = within(MIN(memory, seen->memory_bytes + seen->swap_bytes - own),
                               rows->node->ceiling_memory_bytes),
        .disk_bytes = seen->pool_bytes,
    };
}

static enum placement_no
closed_for(const struct placement_rows *rows)
{
    const struct row_node *node = rows->node;
    const struct row_node_seen *seen = rows->seen;
    if (!str_eq(node->state, "active")) {
        return PLACEMENT_REVOKED;
    }
    if (!seen || !seen->connected) {
        return PLACEMENT_AWAY;
    }
    if (!str_empty(node->quarantine)) {
        return PLACEMENT_QUARANTINED;
    }
    if (node->cordoned) {
        return PLACEMENT_CORDONED;
    }
    if (!str_empty(node->lacks)) {
        return PLACEMENT_BELOW;
    }
    if (!str_empty(seen->unfit)) {
        return PLACEMENT_UNFIT;
    }
    /* Overlays hold what guests wrote: what is promised may pass what lies there, but a
     * pool with no room left for any of it takes nothing new. */
    bool full = seen->pool_bytes > 0 && seen->pool_free_bytes <= 0;
    return full ? PLACEMENT_POOL_FULL : PLACEMENT_FITS;
}

struct placement_host
placement_host_of(const struct placement_rows *rows,
                  const struct placement_rules *rules)
{
    const struct row_node *node = rows->node;
    const struct row_node_seen *seen = rows->seen;
    const struct row_node_claim *claim = rows->claim;
    struct placement_host host = {
        .id = node->id,
        .region = node->region,
        .zone = node->zone,
        .rack = node->rack,
        .segment = node->segment,
        .features = {seen ? seen->features.items : NULL,
                     seen ? seen->features.count : 0},
        .labels = {node->labels.items, node->labels.count},
        .class = class_of(seen),
        .speed = seen ? seen->speed : 0,
        .cost = node->cost,
        .milliwatts =
            seen && seen->vcpus > 0 ? seen->peak_watts * 1000 / seen->vcpus : 0,
        .numa_vcpus = seen ? seen->numa_vcpus : 0,
        .numa_bytes = seen ? seen->numa_memory_bytes : 0,
        .strained = seen && seen->strained,
        .single = node->single_account,
        .joined = !str_empty(node->underlay),
        .processors = seen ? seen->vcpus : 0,
        .ceiling = placement_ceiling(rows, rules),
        .closed = closed_for(rows),
    };
    if (claim) {
        host.owner = claim->owner;
        host.host_id = claim->host_id;
        host.claimed = (struct claim){.vcpus = claim->vcpus,
                                      .memory_bytes = claim->memory_bytes,
                                      .disk_bytes = claim->disk_bytes,
                                      .machines = claim->machines};
    }
    return host;
}

/* ---- one host, one machine ------------------------------------------------------- */

struct claim
placement_claim(enum placement_class class, const struct placement_ask *ask)
{
    struct claim claim = ask->claim;
    claim.memory_bytes += ask->overhead_bytes[class];
    return claim;
}

bool
placement_spans(const struct placement_host *host, const struct placement_ask *ask)
{
    struct claim want = placement_claim(host->class, ask);
    return host->numa_vcpus > 0 &&
           (want.vcpus > host->numa_vcpus || want.memory_bytes > host->numa_bytes);
}

static enum placement_no
tenancy_why(const struct placement_host *host, const struct placement_ask *ask)
{
    if (!str_empty(host->single) && !str_eq(host->single, ask->account)) {
        return PLACEMENT_OWNED;
    }
    bool mine = !str_empty(host->owner) && str_eq(host->owner, ask->account);
    switch (ask->tenancy) {
    case PLACEMENT_HOST:
        return mine && !str_empty(host->host_id) &&
                       (!ask->host_id || str_eq(ask->host_id, host->host_id))
                   ? PLACEMENT_FITS
                   : PLACEMENT_OWNED;
    case PLACEMENT_DEDICATED:
        if (!str_empty(host->host_id) || (!mine && !str_empty(host->owner))) {
            return PLACEMENT_OWNED;
        }
        return mine || host->claimed.machines == 0 ? PLACEMENT_FITS : PLACEMENT_SHARED;
    case PLACEMENT_EMPTY:
        if (!str_empty(host->owner)) {
            return PLACEMENT_OWNED;
        }
        return host->claimed.machines == 0 ? PLACEMENT_FITS : PLACEMENT_SHARED;
    default:
        return str_empty(host->owner) ? PLACEMENT_FITS : PLACEMENT_OWNED;
    }
}

static bool
has_features(const struct placement_host *host, struct placement_words wanted)
{
    for (size_t i = 0; i < wanted.count; i++) {
        if (!placement_words_have(host->features, wanted.items[i]) &&
            !placement_words_have(host->labels, wanted.items[i])) {
            return false;
        }
    }
    return true;
}

static bool
is_slow(const struct placement_host *host, int64_t promised)
{
    return host->class == PLACEMENT_KVM && host->speed > 0 &&
           host->speed * (100 + SPEED_TOLERANCE_PERCENT) < promised * 100;
}

/* Whether the network's machines elsewhere would not reach one here, nor it them. */
static bool
is_out_of_reach(const struct placement_host *host, const struct placement_ask *ask)
{
    const struct placement_reach *r = &ask->reach;
    bool alone = !r->host || (!r->many && str_eq(r->host, host->id));
    return ask->in_network && !alone && !(host->joined && r->joined);
}

static bool
lacks_cards(const struct placement_host *host, const struct placement_lent *lent)
{
    for (size_t i = 0; i < lent->count; i++) {
        if (str_eq(lent->items[i].host, host->id)) {
            return lent->items[i].cards < lent->cards;
        }
    }
    return lent->cards > 0;
}

/* A resource that is not asked for never stands in the way. */
static bool
lacks(int64_t ceiling, int64_t claimed, int64_t want)
{
    return want > 0 && claimed + want > ceiling;
}

enum placement_no
placement_why(const struct placement_host *host, const struct placement_ask *ask)
{
    if (host->closed != PLACEMENT_FITS) {
        return host->closed;
    }
    if (!str_eq(host->region, ask->region) ||
        (ask->zone && !str_eq(host->zone, ask->zone)) ||
        (ask->among.count > 0 && !placement_words_have(ask->among, host->id))) {
        return PLACEMENT_OTHER;
    }
    enum placement_no tenancy = tenancy_why(host, ask);
    if (tenancy != PLACEMENT_FITS) {
        return tenancy;
    }
    if (!has_features(host, ask->features)) {
        return PLACEMENT_FEATURE;
    }
    if (is_slow(host, ask->speed)) {
        return PLACEMENT_SLOW;
    }
    if (placement_words_have(ask->avoid, host->id) ||
        placement_words_have(ask->avoid, host->rack)) {
        return PLACEMENT_GROUP;
    }
    if (!str_empty(ask->segment) && !str_eq(ask->segment, host->segment)) {
        return PLACEMENT_SEGMENT;
    }
    if (is_out_of_reach(host, ask)) {
        return PLACEMENT_REACH;
    }
    if (lacks_cards(host, &ask->lent)) {
        return PLACEMENT_LENT;
    }
    struct claim want = placement_claim(host->class, ask);
    if (lacks(host->ceiling.vcpus, host->claimed.vcpus, want.vcpus)) {
        return PLACEMENT_VCPUS;
    }
    return lacks(host->ceiling.memory_bytes, host->claimed.memory_bytes,
                 want.memory_bytes)
               ? PLACEMENT_MEMORY
               : PLACEMENT_FITS;
}
