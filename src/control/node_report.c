/* node_report.c - see node_report.h. */
#include "control/node_report.h"

#include "base/log.h"
#include "control/reports.h"
#include "core/address.h"
#include "core/baseline.h"

/* Beyond these a host is a liar; sums of them fit any number of ours. */
#define VCPUS_MAX (1 << 16)
#define BYTES_MAX (INT64_C(1) << 52)
#define SPEED_MAX 100000
#define PARTS_MAX 256 /* Of one kind, kept. */
#define WORDS_MAX 16
#define MODELS_MAX 128
#define WORD_LEN_MAX 32

/* A kernel of another version counts a little more or less as its own. */
#define MEMORY_TOLERANCE_PERCENT 5

static int64_t
bounded(int64_t n, int64_t most)
{
    return MIN(MAX(n, 0), most);
}

static bool
event_note(const struct pass *pass, const char *node_id, const char *kind,
           const char *level, const char *message, struct err *err)
{
    const struct row_node_event row = {
        .node_id = node_id,
        .id = arena_printf(txn_arena(pass->txn), "%016" PRIx64 "%s",
                           (uint64_t)pass->now_ns, kind),
        .at = pass->now_ns,
        .kind = kind,
        .object = node_id,
        .message = message,
        .level = level,
    };
    log_info("node %s: %s", node_id, message);
    return row_put(pass->txn, &row_node_event_type, &row, err);
}

/* ---- name and underlay ------------------------------------------------------------- */

static bool
plain_name(const char *text)
{
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                              "0123456789.-_");
    return text[len] == '\0' && len <= 64;
}

/* An address that another node has names no host: frames for one of the two would reach the
 * other. */
static bool
underlay_is_free(const struct pass *pass, const struct row_node *node,
                 const char *address, bool *out, struct err *err)
{
    const struct row_node prefix = {.underlay = address};
    const struct row_query query = {
        .index = "by_underlay", .prefix = &prefix, .prefix_fields = 1};
    struct row_list list;
    *out = true;
    if (!row_list(pass->txn, &row_node_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_node *other = list.rows[i];
        *out &= str_eq(other->id, node->id) || !str_eq(other->state, "active");
    }
    return true;
}

static bool
underlay_tell(const struct pass *pass, const char *node_id, const char *address,
              const char *why, struct err *err)
{
    const struct link_event event = {
        .kind = "underlay",
        .object = node_id,
        .level = "error",
        .message =
            arena_printf(txn_arena(pass->txn),
                         "reports the underlay address %.40s, which %s: no other "
                         "host reaches it until its moln-node is started with an "
                         "--underlay of its own",
                         address, why)};
    return event_hourly(pass, node_id, &event, "underlay", err);
}

/* What a node names, others connect to and send guests' packets to. So it names a host that
 * is nobody else's, where the operator says that hosts are: no address at which another
 * node would speak with itself, or with what is only near it. */
static bool
take_underlay(const struct pass *pass, const char *address, struct row_node *row,
              struct err *err)
{
    const char *why = NULL;
    bool is_free = true;
    uint32_t ip;
    row->underlay = NULL;
    if (str_empty(address)) {
        return true;
    }
    if (!ipv4_parse(address, &ip) || !ipv4_is_host(ip)) {
        why = "is no address of a host";
    } else if (!config_underlay(pass->config, ip)) {
        why = "is outside of what the setting 'underlays' names";
    } else if (!underlay_is_free(pass, row, address, &is_free, err)) {
        return false;
    } else if (!is_free) {
        why = "is another node's";
    }
    if (why) {
        return underlay_tell(pass, row->id, address, why, err);
    }
    row->underlay = address;
    return true;
}

/* What a host calls itself is for people only; it may be renamed. */
static bool
describe_node(const struct pass *pass, const struct link_node_seen *r,
              struct row_node *row, struct err *err)
{
    if (!str_empty(r->hostname) && plain_name(r->hostname)) {
        row->name = r->hostname;
    }
    return take_underlay(pass, r->underlay, row, err);
}

/* ---- is it the host that was accepted? --------------------------------------------- */

/* What differs, or NULL. */
static const char *
hardware_change(struct arena *arena, const struct row_node *was,
                const struct row_node_seen *is)
{
    int64_t gap = was->hw_memory_bytes - is->memory_bytes;
    int64_t most = was->hw_memory_bytes / 100 * MEMORY_TOLERANCE_PERCENT;
    if (was->hw_vcpus != is->vcpus) {
        return arena_printf(arena, "%" PRId64 " vCPUs, not %" PRId64, is->vcpus,
                            was->hw_vcpus);
    }
    if (gap > most || -gap > most) {
        return arena_printf(arena, "%.1f GiB of memory, not %.1f",
                            (double)is->memory_bytes / (double)GIB,
                            (double)was->hw_memory_bytes / (double)GIB);
    }
    const char *model = is->cpu_model ? is->cpu_model : "";
    const char *before = was->hw_cpu_model ? was->hw_cpu_model : "";
    return str_eq(model, before)
               ? NULL
               : arena_printf(arena, "a processor '%.80s', not '%.80s'", model, before);
}

static void
accept_hardware(struct row_node *row, const struct row_node_seen *is)
{
    row->hw_vcpus = is->vcpus;
    row->hw_memory_bytes = is->memory_bytes;
    row->hw_cpu_model = is->cpu_model;
    row->quarantine = NULL;
}

/* The local node's change is its operator's own doing: noted, and accepted. Any other is
 * kept from new machines until somebody looked, or until it is again what it was. */
static bool
judge_hardware(const struct pass *pass, const struct row_node_seen *is,
               struct row_node *row, struct err *err)
{
    struct arena *arena = txn_arena(pass->txn);
    if (row->hw_vcpus == 0) {
        accept_hardware(row, is);
        return true;
    }
    const char *change = hardware_change(arena, row, is);
    if (!change) {
        bool was = !str_empty(row->quarantine);
        row->quarantine = NULL;
        return !was || event_note(pass, row->id, "hardware", "info",
                                  "is again the host that was accepted", err);
    }
    if (row->local) {
        accept_hardware(row, is);
        return event_note(pass, row->id, "hardware", "info",
                          arena_printf(arena, "now has %s", change), err);
    }
    if (str_eq(row->quarantine, change)) {
        return true;
    }
    row->quarantine = change;
    return event_note(pass, row->id, "quarantine", "error",
                      arena_printf(arena,
                                   "changed without enrolling again: it has %s. It "
                                   "takes no new machines until 'moln node accept %s'",
                                   change, row->id),
                      err);
}

/* The excess is not used; whoever set the ceiling may want to know. */
static bool
judge_ceiling(const struct pass *pass, const struct row_node *node,
              const struct row_node_seen *was, const struct row_node_seen *is,
              struct err *err)
{
    bool vcpus = node->ceiling_vcpus > 0 && is->vcpus > node->ceiling_vcpus;
    bool memory =
        node->ceiling_memory_bytes > 0 && is->memory_bytes > node->ceiling_memory_bytes;
    bool told = was && was->vcpus == is->vcpus && was->memory_bytes == is->memory_bytes;
    if ((!vcpus && !memory) || told) {
        return true;
    }
    return event_note(pass, node->id, "ceiling", "warn",
                      arena_printf(txn_arena(pass->txn),
                                   "reports %" PRId64
                                   " vCPUs and %.1f GiB, more than its ceiling "
                                   "(%" PRId64 " and %.1f): the excess is not used",
                                   is->vcpus, (double)is->memory_bytes / (double)GIB,
                                   node->ceiling_vcpus,
                                   (double)node->ceiling_memory_bytes / (double)GIB),
                      err);
}

/* ---- can it give what its zone's guests count on? ---------------------------------- */

static bool
below_note(const struct pass *pass, const struct row_node *node,
           const struct row_baseline *baseline, const char *gap, struct err *err)
{
    return event_note(
        pass, node->id, "baseline", "error",
        arena_printf(
            txn_arena(pass->txn),
            "cannot give guests what the others of %s do (%s, %s): it lacks %s. "
            "It takes no new machines. Upgrade it, or set a baseline that all "
            "can give: moln pool %s --cpu-baseline auto",
            node->zone, baseline->cpu_model, baseline->machine_type, gap, node->zone),
        err);
}

/* The first host of a zone decides; while the zone has no machines, all of them do. */
static bool
judge_baseline(const struct pass *pass, const struct row_node_seen *seen,
               struct row_node *node, struct err *err)
{
    const struct baseline_key key = {node->region, node->zone, seen->accel};
    const struct row_baseline *baseline, *renewed = NULL;
    struct arena *arena = txn_arena(pass->txn);
    bool used = false;
    if (!baseline_told(seen) || !str_eq(node->state, "active")) {
        return true;
    }
    if (!baseline_get(pass->txn, &key, &baseline, err)) {
        return false;
    }
    const char *gap = baseline_gap(arena, baseline, seen);
    if ((gap && !baseline->fixed && !baseline_in_use(pass->txn, &key, &used, err)) ||
        ((!baseline || (gap && !baseline->fixed && !used)) &&
         (!baseline_renew(pass->txn, &key, pass->now_ns, &renewed, err) ||
          (renewed && !baseline_judge_all(pass->txn, &key, node->id, err))))) {
        return false;
    }
    if (renewed) {
        log_info("baseline of %s, %s: %s, %s", key.zone, key.accel, renewed->cpu_model,
                 renewed->machine_type);
        baseline = renewed;
        gap = baseline_gap(arena, baseline, seen);
    }
    bool told = str_eq(gap ? gap : "", node->lacks ? node->lacks : "");
    bool was = !str_empty(node->lacks);
    node->lacks = gap;
    return told ||
           (gap ? below_note(pass, node, baseline, gap, err)
                : !was || event_note(pass, node->id, "baseline", "info",
                                     "gives guests what its zone's others do", err));
}

/* ---- rows -------------------------------------------------------------------------- */

/* Words of the form that types use; others are not words of ours. */
static void
take_features(struct arena *arena, const struct link_node_seen *r,
              struct row_node_seen *out)
{
    const char **words = ARENA_ARRAY(arena, WORDS_MAX, const char *);
    for (size_t i = 0; i < MIN(r->features.count, WORDS_MAX); i++) {
        const char *word = r->features.items[i];
        if (!str_empty(word) && strlen(word) <= WORD_LEN_MAX && plain_name(word)) {
            words[out->features.count++] = word;
        }
    }
    out->features.items = words;
}

/* Names of QEMU's, bounded; what is not plain could become an option. */
static void
take_names(struct arena *arena, const char **from, size_t count, size_t most,
           const char ***out, size_t *out_count)
{
    const char **names = ARENA_ARRAY(arena, most, const char *);
    *out = names;
    *out_count = 0;
    for (size_t i = 0; i < count && *out_count < most; i++) {
        const char *name = from[i];
        if (!str_empty(name) && strlen(name) <= WORD_LEN_MAX && plain_name(name)) {
            names[(*out_count)++] = name;
        }
    }
}

/* An agent that has just been started has not asked its QEMU yet: what it said before holds
 * until it has. */
static void
take_offer(struct arena *arena, const struct link_node_seen *r,
           const struct row_node_seen *old, struct row_node_seen *out)
{
    bool silent = r->cpu_models.count == 0 && r->machine_types.count == 0;
    if (silent && old && str_eq(old->version, r->version)) {
        out->qemu_version = old->qemu_version;
        out->machine_types = old->machine_types;
        out->cpu_models = old->cpu_models;
        return;
    }
    if (!str_empty(r->qemu_version) && strlen(r->qemu_version) <= WORD_LEN_MAX &&
        plain_name(r->qemu_version)) {
        out->qemu_version = r->qemu_version;
    }
    take_names(arena, r->machine_types.items, r->machine_types.count, WORDS_MAX,
               &out->machine_types.items, &out->machine_types.count);
    take_names(arena, r->cpu_models.items, r->cpu_models.count, MODELS_MAX,
               &out->cpu_models.items, &out->cpu_models.count);
}

/* "0-15,32-47": 32. What is no such list counts as far as it is one. */
static int64_t
count_cpus(const char *list)
{
    int64_t count = 0;
    for (const char *at = list ? list : ""; *at;) {
        char *end;
        int64_t first = strtoll(at, &end, 10), last = first;
        if (end == at) {
            break;
        }
        if (*end == '-') {
            at = end + 1;
            last = strtoll(at, &end, 10);
        }
        count += bounded(last - first + 1, VCPUS_MAX);
        at = *end == ',' ? end + 1 : end;
        if (*end != ',') {
            break;
        }
    }
    return bounded(count, VCPUS_MAX);
}

/* The largest of several: what fits there can have its memory beside its processors. */
static void
take_numa(const struct link_hardware *hardware, struct row_node_seen *out)
{
    size_t nodes = MIN(hardware->numa.count, PARTS_MAX);
    for (size_t i = 0; nodes > 1 && i < nodes; i++) {
        const struct link_hw_numa *n = &hardware->numa.items[i];
        int64_t vcpus = count_cpus(n->cpus);
        if (vcpus > 0 && bounded(n->memory_bytes, BYTES_MAX) > out->numa_memory_bytes) {
            out->numa_vcpus = vcpus;
            out->numa_memory_bytes = bounded(n->memory_bytes, BYTES_MAX);
        }
    }
}

static void
take_seen(const struct pass *pass, const struct link_node_seen *r,
          const struct row_node_seen *old, struct row_node_seen *out)
{
    struct arena *arena = txn_arena(pass->txn);
    *out = (struct row_node_seen){
        .at = pass->now_ns,
        .boot_id = r->boot_id,
        .version = r->version,
        .vcpus = bounded(r->vcpus, VCPUS_MAX),
        .memory_bytes = bounded(r->memory_bytes, BYTES_MAX),
        .pool_bytes = bounded(r->pool_bytes, BYTES_MAX),
        .pool_free_bytes = bounded(r->pool_free_bytes, BYTES_MAX),
        .accel = r->accel,
        .cpu_model = r->cpu_model,
        .connected = true,
        .memory_free_bytes = bounded(r->memory_free_bytes, BYTES_MAX),
        .swap_bytes = bounded(r->swap_bytes, BYTES_MAX),
        .speed = bounded(r->speed, SPEED_MAX),
        .unfit = old ? old->unfit : NULL,
        .strained = old && old->strained,
        .peak_watts = MAX(bounded(r->watts, VCPUS_MAX), old ? old->peak_watts : 0),
        .shared_pool = !str_empty(r->shared_pool) && strlen(r->shared_pool) < 48 &&
                               plain_name(r->shared_pool)
                           ? r->shared_pool
                           : NULL,
        .watts = bounded(r->watts, VCPUS_MAX),
        .post_copy = r->post_copy,
        .nat_leases = r->nat_leases,
    };
    if (r->hardware) {
        out->cores = bounded(r->hardware->cores, VCPUS_MAX);
        out->sockets = bounded(r->hardware->sockets, VCPUS_MAX);
        take_numa(r->hardware, out);
    }
    take_features(arena, r, out);
    take_offer(arena, r, old, out);
}

/* Copies the first PARTS_MAX items of a list of the report; fields have the same names. */
#define TAKE_PARTS(arena, to, from, list, ...) \
    do { \
        (to)->list.count = MIN((from)->list.count, PARTS_MAX); \
        (to)->list.items = \
            arena_array((arena), (to)->list.count, sizeof *(to)->list.items); \
        for (size_t i = 0; i < (to)->list.count; i++) { \
            (to)->list.items[i] = (__typeof__(*(to)->list.items)){__VA_ARGS__}; \
        } \
    } while (0)
#define PART(list) hardware->list.items[i]

static bool
put_hardware(const struct pass *pass, const char *node_id,
             const struct link_hardware *hardware, struct err *err)
{
    struct arena *arena = txn_arena(pass->txn);
    struct row_node_hardware row = {.id = node_id};
    const struct row_node_hardware *old;
    if (!row_get(pass->txn, &row_node_hardware_type, &row, (const void **)&old, err)) {
        return false;
    }
    row.at = old ? old->at : pass->now_ns;
    TAKE_PARTS(arena, &row, hardware, numa, .number = PART(numa).number,
               .cpus = PART(numa).cpus, .memory_bytes = PART(numa).memory_bytes);
    TAKE_PARTS(arena, &row, hardware, disks, .name = PART(disks).name,
               .size_bytes = PART(disks).size_bytes,
               .rotational = PART(disks).rotational, .model = PART(disks).model);
    TAKE_PARTS(arena, &row, hardware, nics, .name = PART(nics).name,
               .speed_mbps = PART(nics).speed_mbps);
    TAKE_PARTS(arena, &row, hardware, devices, .address = PART(devices).address,
               .kind = PART(devices).kind, .vendor = PART(devices).vendor,
               .device = PART(devices).device, .sriov = PART(devices).sriov);
    if (old && desc_equal(row_node_hardware_type.desc, old, &row)) {
        return true;
    }
    row.at = pass->now_ns;
    return row_put(pass->txn, &row_node_hardware_type, &row, err);
}

bool
node_report(const struct pass *pass, const char *node_id,
            const struct link_node_seen *r, struct err *err)
{
    const struct row_node *node;
    const struct row_node_seen *old;
    const struct row_node node_key = {.id = node_id};
    const struct row_node_seen seen_key = {.id = node_id};
    struct row_node_seen seen;
    if (!row_get(pass->txn, &row_node_type, &node_key, (const void **)&node, err) ||
        !row_get(pass->txn, &row_node_seen_type, &seen_key, (const void **)&old, err)) {
        return false;
    }
    if (!node) {
        return true; /* Removed: nothing of it is kept. */
    }
    struct row_node next = *node;
    take_seen(pass, r, old, &seen);
    seen.id = node_id;
    return describe_node(pass, r, &next, err) &&
           judge_hardware(pass, &seen, &next, err) &&
           judge_ceiling(pass, &next, old, &seen, err) &&
           row_put(pass->txn, &row_node_seen_type, &seen, err) &&
           judge_baseline(pass, &seen, &next, err) &&
           row_put_new(pass->txn, &row_node_type, &next, err) &&
           (!r->hardware || put_hardware(pass, node_id, r->hardware, err));
}
