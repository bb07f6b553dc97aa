/* instance_types.c - DescribeInstanceTypes and DescribeInstanceTypeOfferings, from the
 * catalogue. */
#include "service/ec2/describe.h"

#define MBPS 1000000
#define BITS_PER_BYTE 8

static const char *const both_architectures[] = {"i386", "x86_64"};
static const char *const usage_classes[] = {"on-demand", "spot"};
static const char *const root_devices[] = {"ebs"};
static const char *const virtualization[] = {"hvm"};
static const char *const boot_modes[] = {"legacy-bios", "uefi"};
static const char *const strategies[] = {"cluster", "partition", "spread"};

/* A list of constant texts, from 'first' on. Items are only read. */
#define TEXTS(table, first) \
    { \
        (const char **)(uintptr_t)((table) + (first)), ARRAY_LEN(table) - (first) \
    }

static struct ec2_v_cpu_info *
vcpu_info(struct call *call, const struct instance_type *type)
{
    int64_t cores = type->vcpus / type->threads_per_core;
    struct ec2_v_cpu_info *out = ARENA_NEW(call->arena, struct ec2_v_cpu_info);
    *out = (struct ec2_v_cpu_info){
        HAS(default_v_cpus, type->vcpus),
        HAS(default_cores, cores),
        HAS(default_threads_per_core, type->threads_per_core),
    };
    if (type->xen) {
        return out; /* Their processors cannot be chosen. */
    }
    /* Even numbers of cores, or each number up to eight. */
    out->valid_cores.items = ARENA_ARRAY(call->arena, (size_t)cores, int64_t);
    for (int64_t i = 1; i <= cores; i++) {
        if (i == cores || cores <= 8 || i % 2 == 0) {
            out->valid_cores.items[out->valid_cores.count++] = i;
        }
    }
    out->valid_threads_per_core.items =
        ARENA_ARRAY(call->arena, (size_t)type->threads_per_core, int64_t);
    for (int64_t i = 1; i <= type->threads_per_core; i++) {
        out->valid_threads_per_core.items[out->valid_threads_per_core.count++] = i;
    }
    return out;
}

static struct ec2_ebs_info *
ebs_info(struct call *call, const struct instance_type *type)
{
    struct ec2_ebs_info *out = ARENA_NEW(call->arena, struct ec2_ebs_info);
    *out = (struct ec2_ebs_info){
        .ebs_optimized_support = type->ebs_bps ? "default" : "unsupported",
        .encryption_support = "supported",
        .nvme_support = type->xen ? "unsupported" : "required",
    };
    if (type->ebs_bps) {
        int64_t low = type->ebs_bps / MBPS, high = type->ebs_burst_bps / MBPS;
        out->ebs_optimized_info = ARENA_NEW(call->arena, struct ec2_ebs_optimized_info);
        *out->ebs_optimized_info = (struct ec2_ebs_optimized_info){
            HAS(baseline_bandwidth_in_mbps, low),
            HAS(baseline_throughput_in_m_bps, (double)low / BITS_PER_BYTE),
            HAS(baseline_iops, type->ebs_iops),
            HAS(maximum_bandwidth_in_mbps, high),
            HAS(maximum_throughput_in_m_bps, (double)high / BITS_PER_BYTE),
            HAS(maximum_iops, type->ebs_burst_iops),
        };
    }
    return out;
}

static struct ec2_network_info *
network_info(struct call *call, const struct instance_type *type)
{
    struct ec2_network_card_info *card =
        ARENA_NEW(call->arena, struct ec2_network_card_info);
    *card = (struct ec2_network_card_info){
        HAS(network_card_index, 0),
        .network_performance = type->network_text,
        HAS(maximum_network_interfaces, type->max_enis),
    };
    struct ec2_network_info *out = ARENA_NEW(call->arena, struct ec2_network_info);
    *out = (struct ec2_network_info){
        .network_performance = type->network_text,
        HAS(maximum_network_interfaces, type->max_enis),
        HAS(maximum_network_cards, 1),
        HAS(default_network_card_index, 0),
        .network_cards = {card, 1},
        HAS(ipv4_addresses_per_interface, type->ips_per_eni),
        HAS(ipv6_addresses_per_interface, type->ips_per_eni),
        HAS(ipv6_supported, true),
        .ena_support = type->xen ? "unsupported" : "required",
        HAS(efa_supported, false),
        HAS(encryption_in_transit_supported, type->encryption_in_transit),
        HAS(ena_srd_supported, false),
    };
    return out;
}

static struct ec2_processor_info *
processor_info(struct call *call, const struct instance_type *type)
{
    struct ec2_processor_info *out = ARENA_NEW(call->arena, struct ec2_processor_info);
    *out = (struct ec2_processor_info){
        .supported_architectures = TEXTS(both_architectures, 0),
        HAS(sustained_clock_speed_in_ghz, type->clock_ghz),
    };
    if (!type->i386) {
        out->supported_architectures.items++; /* x86_64 alone. */
        out->supported_architectures.count--;
    }
    return out;
}

static void
type_out(struct call *call, const struct instance_type *type,
         struct ec2_instance_type_info *out)
{
    struct ec2_memory_info *memory = ARENA_NEW(call->arena, struct ec2_memory_info);
    struct ec2_placement_group_info *placement =
        ARENA_NEW(call->arena, struct ec2_placement_group_info);
    *memory =
        (struct ec2_memory_info){HAS(size_in_mi_b, type->memory_bytes / (int64_t)MIB)};
    *placement = (struct ec2_placement_group_info){TEXTS(strategies, 0)};
    if (!type->cluster_placement) {
        placement->supported_strategies.items++;
        placement->supported_strategies.count--;
    }
    *out = (struct ec2_instance_type_info){
        .instance_type = type->name,
        HAS(current_generation, type->current_generation),
        HAS(free_tier_eligible, type->free_tier),
        .supported_usage_classes = TEXTS(usage_classes, 0),
        .supported_root_device_types = TEXTS(root_devices, 0),
        .supported_virtualization_types = TEXTS(virtualization, 0),
        HAS(bare_metal, false),
        .hypervisor = type->xen ? "xen" : "nitro",
        .processor_info = processor_info(call, type),
        .v_cpu_info = vcpu_info(call, type),
        .memory_info = memory,
        HAS(instance_storage_supported, false),
        .ebs_info = ebs_info(call, type),
        .network_info = network_info(call, type),
        .placement_group_info = placement,
        HAS(hibernation_supported, type->hibernation),
        HAS(burstable_performance_supported, type->burstable),
        HAS(dedicated_hosts_supported, type->dedicated_hosts),
        HAS(auto_recovery_supported, true),
        .supported_boot_modes = TEXTS(boot_modes, 0),
    };
    if (type->xen) {
        out->supported_boot_modes.count = 1; /* legacy-bios alone. */
    }
}

/* ---- filters: over the answer itself ---- */

#define TYPE_TEXT(name, path) \
    static void name##_values(const void *object, struct filter_test *test) \
    { \
        const struct ec2_instance_type_info *t = object; \
        filter_offer(test, t->path); \
    }
#define TYPE_BOOL(name, path) \
    static void name##_values(const void *object, struct filter_test *test) \
    { \
        const struct ec2_instance_type_info *t = object; \
        filter_offer_bool(test, t->path); \
    }
#define TYPE_INT(name, path) \
    static void name##_values(const void *object, struct filter_test *test) \
    { \
        const struct ec2_instance_type_info *t = object; \
        filter_offer_int(test, t->path); \
    }
#define TYPE_TEXTS(name, path) \
    static void name##_values(const void *object, struct filter_test *test) \
    { \
        const struct ec2_instance_type_info *t = object; \
        for (size_t i = 0; i < t->path.count; i++) { \
            filter_offer(test, t->path.items[i]); \
        } \
    }
#define TYPE_INTS(name, path) \
    static void name##_values(const void *object, struct filter_test *test) \
    { \
        const struct ec2_instance_type_info *t = object; \
        for (size_t i = 0; i < t->path.count; i++) { \
            filter_offer_int(test, t->path.items[i]); \
        } \
    }
/* A number that only types optimized for disks have. */
#define TYPE_EBS(name, path) \
    static void name##_values(const void *object, struct filter_test *test) \
    { \
        const struct ec2_ebs_optimized_info *e = \
            ((const struct ec2_instance_type_info *)object) \
                ->ebs_info->ebs_optimized_info; \
        if (e) { \
            offer_number(test, (double)e->path); \
        } \
    }

/* A number as AWS's filters write it: without needless digits. */
static void
offer_number(struct filter_test *test, double value)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%.10g", value);
    filter_offer(test, text);
}

TYPE_BOOL(auto_recovery, auto_recovery_supported)
TYPE_BOOL(bare_metal, bare_metal)
TYPE_BOOL(burstable, burstable_performance_supported)
TYPE_BOOL(current_generation, current_generation)
TYPE_BOOL(dedicated_hosts, dedicated_hosts_supported)
TYPE_EBS(ebs_low_mbps, baseline_bandwidth_in_mbps)
TYPE_EBS(ebs_low_iops, baseline_iops)
TYPE_EBS(ebs_low_bytes, baseline_throughput_in_m_bps)
TYPE_EBS(ebs_high_mbps, maximum_bandwidth_in_mbps)
TYPE_EBS(ebs_high_iops, maximum_iops)
TYPE_EBS(ebs_high_bytes, maximum_throughput_in_m_bps)
TYPE_TEXT(ebs_optimized, ebs_info->ebs_optimized_support)
TYPE_TEXT(ebs_encryption, ebs_info->encryption_support)
TYPE_TEXT(ebs_nvme, ebs_info->nvme_support)
TYPE_BOOL(free_tier, free_tier_eligible)
TYPE_BOOL(hibernation, hibernation_supported)
TYPE_TEXT(hypervisor, hypervisor)
TYPE_BOOL(storage, instance_storage_supported)
TYPE_TEXT(type_name, instance_type)
TYPE_INT(memory, memory_info->size_in_mi_b)
TYPE_BOOL(efa, network_info->efa_supported)
TYPE_TEXT(ena, network_info->ena_support)
TYPE_BOOL(transit, network_info->encryption_in_transit_supported)
TYPE_INT(ipv4, network_info->ipv4_addresses_per_interface)
TYPE_INT(ipv6, network_info->ipv6_addresses_per_interface)
TYPE_BOOL(ipv6_supported, network_info->ipv6_supported)
TYPE_INT(cards, network_info->maximum_network_cards)
TYPE_INT(interfaces, network_info->maximum_network_interfaces)
TYPE_TEXT(performance, network_info->network_performance)
TYPE_TEXTS(architecture, processor_info->supported_architectures)
TYPE_TEXTS(boot_mode, supported_boot_modes)
TYPE_TEXTS(root_device, supported_root_device_types)
TYPE_TEXTS(usage_class, supported_usage_classes)
TYPE_TEXTS(virtualization, supported_virtualization_types)
TYPE_INT(cores, v_cpu_info->default_cores)
TYPE_INT(threads, v_cpu_info->default_threads_per_core)
TYPE_INT(vcpus, v_cpu_info->default_v_cpus)
TYPE_INTS(valid_cores, v_cpu_info->valid_cores)
TYPE_INTS(valid_threads, v_cpu_info->valid_threads_per_core)

static void
clock_values(const void *object, struct filter_test *test)
{
    const struct ec2_instance_type_info *t = object;
    offer_number(test, t->processor_info->sustained_clock_speed_in_ghz);
}

static const struct filter_def type_filters[] = {
    {"auto-recovery-supported", auto_recovery_values},
    {"bare-metal", bare_metal_values},
    {"burstable-performance-supported", burstable_values},
    {"current-generation", current_generation_values},
    {"dedicated-hosts-supported", dedicated_hosts_values},
    {"ebs-info.ebs-optimized-info.baseline-bandwidth-in-mbps", ebs_low_mbps_values},
    {"ebs-info.ebs-optimized-info.baseline-iops", ebs_low_iops_values},
    {"ebs-info.ebs-optimized-info.baseline-throughput-in-mbps", ebs_low_bytes_values},
    {"ebs-info.ebs-optimized-info.maximum-bandwidth-in-mbps", ebs_high_mbps_values},
    {"ebs-info.ebs-optimized-info.maximum-iops", ebs_high_iops_values},
    {"ebs-info.ebs-optimized-info.maximum-throughput-in-mbps", ebs_high_bytes_values},
    {"ebs-info.ebs-optimized-support", ebs_optimized_values},
    {"ebs-info.encryption-support", ebs_encryption_values},
    {"ebs-info.nvme-support", ebs_nvme_values},
    {"free-tier-eligible", free_tier_values},
    {"hibernation-supported", hibernation_values},
    {"hypervisor", hypervisor_values},
    {"instance-storage-info.disk.count", NULL},
    {"instance-storage-info.disk.size-in-gb", NULL},
    {"instance-storage-info.disk.type", NULL},
    {"instance-storage-info.encryption-support", NULL},
    {"instance-storage-info.nvme-support", NULL},
    {"instance-storage-info.total-size-in-gb", NULL},
    {"instance-storage-supported", storage_values},
    {"instance-type", type_name_values},
    {"memory-info.size-in-mib", memory_values},
    {"network-info.efa-info.maximum-efa-interfaces", NULL},
    {"network-info.efa-supported", efa_values},
    {"network-info.ena-support", ena_values},
    {"network-info.encryption-in-transit-supported", transit_values},
    {"network-info.ipv4-addresses-per-interface", ipv4_values},
    {"network-info.ipv6-addresses-per-interface", ipv6_values},
    {"network-info.ipv6-supported", ipv6_supported_values},
    {"network-info.maximum-network-cards", cards_values},
    {"network-info.maximum-network-interfaces", interfaces_values},
    {"network-info.network-performance", performance_values},
    {"processor-info.supported-architecture", architecture_values},
    {"processor-info.sustained-clock-speed-in-ghz", clock_values},
    {"supported-boot-mode", boot_mode_values},
    {"supported-root-device-type", root_device_values},
    {"supported-usage-class", usage_class_values},
    {"supported-virtualization-type", virtualization_values},
    {"vcpu-info.default-cores", cores_values},
    {"vcpu-info.default-threads-per-core", threads_values},
    {"vcpu-info.default-vcpus", vcpus_values},
    {"vcpu-info.valid-cores", valid_cores_values},
    {"vcpu-info.valid-threads-per-core", valid_threads_values},
};

bool
ec2_describe_instance_types(struct call *call,
                            const struct ec2_describe_instance_types_request *in,
                            struct ec2_describe_instance_types_result *out,
                            struct err *err)
{
    const struct cloud_config *config = call->config;
    const struct page_ask ask = {.has_max = in->has_max_results,
                                 .max_results = in->max_results,
                                 .min = 5,
                                 .max = 100,
                                 .next_token = in->next_token,
                                 .ids = in->instance_types.count,
                                 .ids_name = "instanceTypeSet"};
    struct filters filters;
    struct page page;
    struct pick names;
    if (!filters_init(call, type_filters, ARRAY_LEN(type_filters), in->filters.items,
                      in->filters.count, &filters, err) ||
        !page_init(call, &ask, &filters, &page, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    pick_init(call, in->instance_types.items, in->instance_types.count, &names);
    struct ec2_instance_type_info *items =
        ARENA_ARRAY(call->arena, config->type_count, struct ec2_instance_type_info);
    size_t count = 0;
    for (size_t i = 0; i < config->type_count; i++) {
        struct ec2_instance_type_info *item = &items[count];
        if (!pick_take(&names, config->types[i].name)) {
            continue;
        }
        type_out(call, &config->types[i], item);
        if (filters_match(&filters, item, (struct tag_set){0}) &&
            page_take(&page, item->instance_type)) {
            count++;
        }
    }
    for (size_t i = 0; i < names.count; i++) {
        if (!names.found[i]) {
            return err_set(
                err, ERR_INSTANCE_TYPE_INVALID,
                "The following supplied instance types do not exist: [%.80s]",
                names.ids[i]);
        }
    }
    out->instance_types.items = items;
    out->instance_types.count = count;
    out->next_token = page_next_token(call, &page);
    return true;
}

/* ---- offerings: every type in every place ---- */

FILTER_TEXT(offer_type, struct ec2_instance_type_offering, instance_type)
FILTER_TEXT(offer_location, struct ec2_instance_type_offering, location)

static const struct filter_def offering_filters[] = {
    {"instance-type", offer_type_values},
    {"location", offer_location_values},
};

/* The places of a kind in the call's region. */
static const char **
locations(struct call *call, const char *kind, size_t *out_count)
{
    const struct region_config *region = config_region(call->config, call->region);
    if (!region || str_eq(kind, "region")) {
        *out_count = region ? 1 : 0;
        return one_text(call, call->region);
    }
    const char **out = ARENA_ARRAY(call->arena, region->zone_count, const char *);
    for (size_t i = 0; i < region->zone_count; i++) {
        out[i] = str_eq(kind, "availability-zone") ? region->zones[i].name
                                                   : region->zones[i].id;
    }
    *out_count = region->zone_count;
    return out;
}

bool
ec2_describe_instance_type_offerings(
    struct call *call, const struct ec2_describe_instance_type_offerings_request *in,
    struct ec2_describe_instance_type_offerings_result *out, struct err *err)
{
    const struct cloud_config *config = call->config;
    const char *kind = in->location_type ? in->location_type : "region";
    const struct page_ask ask = {.has_max = in->has_max_results,
                                 .max_results = in->max_results,
                                 .min = 5,
                                 .max = 1000,
                                 .next_token = in->next_token};
    struct filters filters;
    struct page page;
    if (!filters_init(call, offering_filters, ARRAY_LEN(offering_filters),
                      in->filters.items, in->filters.count, &filters, err) ||
        !page_init(call, &ask, &filters, &page, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    size_t place_count, count = 0;
    const char **places = locations(call, kind, &place_count);
    struct ec2_instance_type_offering *items =
        ARENA_ARRAY(call->arena, config->type_count * place_count,
                    struct ec2_instance_type_offering);
    for (size_t i = 0; i < config->type_count * place_count; i++) {
        const struct ec2_instance_type_offering item = {
            .instance_type = config->types[i / place_count].name,
            .location_type = kind,
            .location = places[i % place_count],
        };
        if (filters_match(&filters, &item, (struct tag_set){0}) &&
            page_take(&page, arena_printf(call->arena, "%06zu", i))) {
            items[count++] = item;
        }
    }
    out->instance_type_offerings.items = items;
    out->instance_type_offerings.count = count;
    out->next_token = page_next_token(call, &page);
    return true;
}
