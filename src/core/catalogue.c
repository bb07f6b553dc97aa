/* catalogue.c - see catalogue.h. */
#include "core/catalogue.h"
#include "base/jsonio.h"
#include "base/map.h"
#include "core/catalogue_records.h"

/* The clock of the processor whose speed is 1000; node/measure.c measures likewise. */
#define REFERENCE_GHZ 3.1
#define MBPS INT64_C(1000000)
#define MIB_MAX INT64_C(67108864) /* 64 TiB. */

/* Where in which file we are, for errors. */
struct place {
    const char *file;
    size_t family, size;
};

/* A number of a size, and between what it must lie. */
static const struct bound {
    const char *name;
    size_t offset;
    int64_t min, max;
} bounds[] = {
#define BOUND(field, low, high) \
    { \
#field, offsetof(struct catalogue_size, field), low, high \
    }
    BOUND(vcpus, 1, 1024),
    BOUND(memory_mib, 16, MIB_MAX),
    BOUND(max_enis, 1, 64),
    BOUND(ips_per_eni, 1, 256),
    BOUND(network_mbps, 1, 10000000),
    BOUND(network_burst_mbps, 0, 10000000),
    BOUND(ebs_mbps, 0, 10000000),
    BOUND(ebs_burst_mbps, 0, 10000000),
    BOUND(ebs_iops, 0, 100000000),
    BOUND(ebs_burst_iops, 0, 100000000),
#undef BOUND
};

static bool
refuse(const struct place *at, const char *field, const char *why, struct err *err)
{
    return err_set(err, ERR_INVALID, "%s: families[%zu].sizes[%zu].%s: %s", at->file,
                   at->family, at->size, field, why);
}

/* Lower-case letters, digits and hyphens; the part before or after a type's dot. */
static bool
word_ok(const char *s)
{
    return str_is_plain(s, 1, 24);
}

static bool
size_check(const struct place *at, const struct catalogue_family *family,
           const struct catalogue_size *size, int64_t threads, struct err *err)
{
    if (!word_ok(size->size)) {
        return refuse(at, "size", "must be 1 to 24 of a to z, 0 to 9 and -", err);
    }
    for (size_t i = 0; i < ARRAY_LEN(bounds); i++) {
        int64_t value = *(const int64_t *)((const char *)size + bounds[i].offset);
        if (value < bounds[i].min || value > bounds[i].max) {
            char why[80];
            (void)snprintf(why, sizeof why, "must be from %" PRId64 " to %" PRId64,
                           bounds[i].min, bounds[i].max);
            return refuse(at, bounds[i].name, why, err);
        }
    }
    if (size->vcpus % threads) {
        return refuse(at, "vcpus", "must be a multiple of threads_per_core", err);
    }
    if (family->burstable != (size->baseline_percent > 0)) {
        return refuse(at, "baseline_percent",
                      "belongs to each size of a burstable family, and to no other",
                      err);
    }
    return true;
}

static bool
family_check(const struct place *at, const struct catalogue_family *family,
             struct err *err)
{
    const char *field = NULL;
    if (!word_ok(family->family)) {
        field = "family";
    } else if (!(family->clock_ghz > 0 && family->clock_ghz < 100)) {
        field = "clock_ghz";
    } else if (family->threads_per_core < 0 || family->threads_per_core > 8) {
        field = "threads_per_core";
    } else if (family->hypervisor && !str_eq(family->hypervisor, "nitro") &&
               !str_eq(family->hypervisor, "xen")) {
        field = "hypervisor";
    }
    return !field || err_set(err, ERR_INVALID, "%s: families[%zu].%s: out of range",
                             at->file, at->family, field);
}

/* "Up to 12.5 Gigabit", "25 Gigabit", as AWS words it. */
static const char *
network_words(struct arena *arena, int64_t mbps, int64_t burst_mbps)
{
    return arena_printf(arena, "%s%g Gigabit", burst_mbps > mbps ? "Up to " : "",
                        (double)MAX(mbps, burst_mbps) / 1000);
}

static struct instance_type *
type_make(struct arena *arena, const struct catalogue_family *family,
          const struct catalogue_size *size, int64_t threads)
{
    struct instance_type *type = ARENA_NEW(arena, struct instance_type);
    int64_t burst = MAX(size->network_mbps, size->network_burst_mbps);
    *type = (struct instance_type){
        .name = arena_printf(arena, "%s.%s", family->family, size->size),
        .family = family->family,
        .vcpus = size->vcpus,
        .memory_bytes = size->memory_mib * (int64_t)MIB,
        .network_bps = size->network_mbps * MBPS,
        .network_burst_bps = burst * MBPS,
        .max_enis = size->max_enis,
        .ips_per_eni = size->ips_per_eni,
        .threads_per_core = threads,
        .burstable = family->burstable,
        .current_generation = !family->previous_generation,
        .baseline_percent = size->baseline_percent,
        .network_text = size->network_text
                            ? size->network_text
                            : network_words(arena, size->network_mbps, burst),
        .manufacturer = family->manufacturer ? family->manufacturer : "Intel",
        .clock_ghz = size->clock_ghz > 0 ? size->clock_ghz : family->clock_ghz,
        .ebs_bps = size->ebs_mbps * MBPS,
        .ebs_burst_bps = MAX(size->ebs_mbps, size->ebs_burst_mbps) * MBPS,
        .ebs_iops = size->ebs_iops,
        .ebs_burst_iops = MAX(size->ebs_iops, size->ebs_burst_iops),
        .xen = str_eq(family->hypervisor, "xen"),
        .i386 = size->i386,
        .free_tier = size->free_tier,
        .hibernation = family->hibernation,
        .dedicated_hosts = family->dedicated_hosts,
        .features = {(const char *const *)family->features.items,
                     family->features.count},
        .encryption_in_transit = family->encryption_in_transit,
        .cluster_placement = !family->no_cluster,
    };
    type->promised_speed =
        type->burstable ? 0 : (int64_t)(type->clock_ghz * 1000 / REFERENCE_GHZ);
    return type;
}

static bool
family_read(struct arena *arena, struct place *at,
            const struct catalogue_family *family, struct map *by_name, struct err *err)
{
    if (!family_check(at, family, err)) {
        return false;
    }
    int64_t threads = family->threads_per_core ? family->threads_per_core : 2;
    for (at->size = 0; at->size < family->sizes.count; at->size++) {
        const struct catalogue_size *size = &family->sizes.items[at->size];
        if (!size_check(at, family, size, threads, err)) {
            return false;
        }
        struct instance_type *type = type_make(arena, family, size, threads);
        map_put(by_name, type->name, type);
    }
    return true;
}

static int
type_order(const void *a, const void *b)
{
    return strcmp(((const struct instance_type *)a)->name,
                  ((const struct instance_type *)b)->name);
}

bool
catalogue_read(struct arena *arena, const struct catalogue_text *texts, size_t count,
               const struct instance_type **out_types, size_t *out_count,
               struct err *err)
{
    AUTO(map) struct map *by_name = map_create(NULL);
    for (size_t i = 0; i < count; i++) {
        struct catalogue_file file = {0};
        struct place at = {.file = texts[i].name};
        if (!json_read_text(&catalogue_file_desc, texts[i].text, texts[i].len,
                            JSONIO_STRICT, arena, &file, err)) {
            return err_wrap(err, "%s", at.file);
        }
        for (at.family = 0; at.family < file.families.count; at.family++) {
            if (!family_read(arena, &at, &file.families.items[at.family], by_name,
                             err)) {
                return false;
            }
        }
    }
    struct instance_type *types =
        ARENA_ARRAY(arena, map_count(by_name), struct instance_type);
    size_t n = 0, it = 0;
    const char *name;
    void *type;
    while (map_next(by_name, &it, &name, &type)) {
        types[n++] = *(const struct instance_type *)type;
    }
    qsort(types, n, sizeof *types, type_order);
    *out_types = types;
    *out_count = n;
    return true;
}
