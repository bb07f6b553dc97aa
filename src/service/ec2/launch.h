/* launch.h - a RunInstances request, checked and resolved, before anything is written.
 *
 * Purpose:  RunInstances first turns its request (merged with its launch template) into
 *           a 'struct launch' in which every name is a row and every default is filled
 *           in; then it places and writes. Each launch_* function checks one part.
 * Place:    service/ec2; used by instances_run.c only.
 * Memory:   the call's arena.
 * Threads:  the request's. */
#pragma once
#include "core/address.h"
#include "service/ec2/instances.h"
#include "service/ec2/interfaces.h"
#include "service/ec2/placement_load.h"

struct launch_disk {
    const char *device, *type, *snapshot_id, *base_blob;
    int64_t size_gib, iops, throughput;
    bool delete_on_termination;
};

/* One network card of a launch: what is to be made, or an interface that is there. */
struct launch_nic {
    int64_t index;
    const struct row_eni *existing; /* NULL: 'ask' is made. */
    struct new_eni ask;
    bool delete_on_termination;
    bool has_public, public; /* A public address: asked for, or as the subnet says. */
};

struct launch_net {
    const char *vpc_id;
    /* Where the instances may go: one subnet that was named, or the default ones. */
    const struct row_subnet **subnets;
    size_t subnet_count;
    bool has_address; /* A private address was asked for. */
    uint32_t address;
    struct row_instance_group *groups;
    size_t group_count;
    struct launch_nic first; /* Its subnet, address and groups are those above. */
    struct launch_nic *more; /* The other cards. */
    size_t more_count;
};

struct launch {
    const struct ec2_run_instances_request *in; /* Merged with the template. */
    const char *template_id;
    int64_t template_version;
    const struct row_image *image;
    const struct instance_type *type;
    int64_t core_count, threads_per_core;
    const char *public_key;
    struct blob user_data;
    const char *shutdown_behavior, *credit_mode;
    const char *http_tokens, *http_endpoint, *http_tags, *http_ipv6;
    int64_t http_hop_limit;
    struct launch_disk disk;
    struct launch_net net;
    struct place_terms terms;
};

/* How many, and which node and address each gets. */
struct launch_places {
    size_t count;
    const struct row_subnet *subnet;
    const struct pool_pick *picks;
    const int64_t *partitions; /* Of a partition group; 0: none. */
    uint32_t *addresses;
    int64_t next_host; /* Of the subnet, afterwards. */
};

static inline int64_t
launch_vcpus(const struct launch *l)
{
    return l->core_count * l->threads_per_core;
}

/* ImageId, InstanceType, KeyName, UserData, and all that is neither disk nor network. */
MUST_CHECK bool launch_options(struct call *call, struct launch *l, struct err *err);
/* BlockDeviceMappings: the root disk. After launch_options. */
MUST_CHECK bool launch_disks(struct call *call, struct launch *l, struct err *err);
/* Subnet, groups, address. May make the default VPC. After launch_options. */
MUST_CHECK bool launch_network(struct call *call, struct launch *l, struct err *err);
/* Finds nodes for up to 'want' of them, all in one zone: the emptiest that holds all of
 * them, or else the one that holds the most. InsufficientInstanceCapacity when that is
 * fewer than MinCount. */
MUST_CHECK bool launch_choose_nodes(struct call *call, const struct launch *l,
                                    int64_t want, struct launch_places *out,
                                    struct err *err);
/* Shared with ModifyInstanceMetadataOptions: 1 to 64. */
MUST_CHECK bool hop_limit_check(int64_t hops, struct err *err);
/* Shared with ModifyInstanceAttribute: base64 text, at most 16 KiB of it decoded. */
MUST_CHECK bool user_data_check(size_t len, struct err *err);
/* The groups named by 'ids', in 'vpc_id'. */
MUST_CHECK bool groups_by_id(struct call *call, const char *vpc_id,
                             const char *const *ids, size_t count,
                             struct row_instance_group **out, size_t *out_count,
                             struct err *err);
/* AWS's answer to what it knows and this cloud does not do. */
bool err_unsupported(struct err *err, const char *what);

/* From launch_templates: merges the template that 'in' names (if any) under it. */
MUST_CHECK bool launch_template_merge(struct call *call,
                                      const struct ec2_run_instances_request *in,
                                      struct launch *out, struct err *err);
