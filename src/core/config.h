/* config.h - what the operator set, as services and controllers see it: regions, zones,
 * the catalogue of instance types, limits. Read once at start; constant afterwards; any
 * thread. */
#pragma once
#include "base/base.h"
#include "core/address.h"

struct instance_type {
    const char *name;   /* "t3.micro" */
    const char *family; /* "t3" */
    int64_t vcpus;
    int64_t memory_bytes;
    int64_t network_bps;       /* Promised bandwidth. */
    int64_t network_burst_bps; /* "Up to"; the same where there is no burst. */
    int64_t max_enis;
    int64_t ips_per_eni;
    int64_t threads_per_core;
    bool burstable;
    bool current_generation;
    double baseline_percent; /* Of one vCPU, burstable types. */

    /* What clients are told of the hardware. */
    const char *network_text; /* "Up to 5 Gigabit" */
    const char *manufacturer; /* "Intel" */
    double clock_ghz;
    int64_t ebs_bps, ebs_burst_bps; /* Dedicated to disks; 0: not optimized for them. */
    int64_t ebs_iops, ebs_burst_iops;
    bool xen;  /* The generation before Nitro. */
    bool i386; /* Also runs 32-bit guests. */
    bool free_tier;
    bool hibernation;
    bool dedicated_hosts;
    bool encryption_in_transit;
    bool cluster_placement;
    /* Of one processor, 1000 being the reference (a thread of 3.1 GHz); 0: burstable types
     * promise a share. Counts where processors are real. */
    int64_t promised_speed;
    struct {
        const char *const *items;
        size_t count;
    } features; /* Hardware or labels that its hosts must have. */
};

struct zone_config {
    const char *name; /* "us-east-1a" */
    const char *id;   /* "use1-az1" */
};

struct region_config {
    const char *name;     /* "us-east-1" */
    const char *endpoint; /* Host name told by DescribeRegions. */
    const struct zone_config *zones;
    size_t zone_count;
};

struct cloud_config {
    const struct region_config *regions;
    size_t region_count;
    const struct instance_type *types; /* Sorted by name. */
    size_t type_count;
    int64_t default_quota_hosts; /* Dedicated hosts of one family. */
    int64_t default_quota_vcpus, default_quota_instances, default_quota_disk_gib;
    double cpu_overcommit; /* vCPUs promised per host processor. */
    double memory_overcommit;
    /* The same for hosts of one class; 0: as above. */
    double kvm_cpu_overcommit, kvm_memory_overcommit;
    double tcg_cpu_overcommit, tcg_memory_overcommit;
    /* Of each host's memory, for the host itself; at most a sixteenth of it. */
    int64_t host_reserve_bytes;
    int64_t speed_percent; /* Of promised_speed that a host must have; 0: 100. */
    bool placement_spread; /* Hosts with the most room first; false: with the least. */
    /* Added to a machine's memory when it is placed; 0: what its node lets its emulator
     * use (link/overhead.h). */
    int64_t emulator_overhead_bytes;
    /* Of a move that nobody gave another limit; 0: none. */
    int64_t migration_bps;
    int64_t drain_at_once; /* Moves from one host that drains; 0: MIGRATIONS_AT_ONCE. */
    /* How long a node may run leased machines without a renewal; how long it may take to
     * end them; and what two clocks since boot may differ by in the meantime. */
    int64_t lease_ns, lease_stop_ns, lease_margin_ns;
    const struct cidr *underlays; /* Where nodes' underlay addresses lie... */
    size_t underlay_count;        /* ...0: anywhere that is a host's. */
    const char *flow_logs_dir;    /* Where flow logs' files lie; NULL: none are kept. */
    const char *cloud_id;
    const char *endpoint_url; /* "http://127.0.0.1:6656" */
    const char *ca_sha256;    /* Hex, of the control CA: what node tokens carry. */
};

/* Each gives NULL where there is no such name. */
const struct instance_type *config_type(const struct cloud_config *c, const char *name);
const struct region_config *config_region(const struct cloud_config *c,
                                          const char *name);
const struct zone_config *config_zone(const struct cloud_config *c, const char *zone);
/* Whether a node may have it for its underlay address. */
bool config_underlay(const struct cloud_config *c, uint32_t ip);
