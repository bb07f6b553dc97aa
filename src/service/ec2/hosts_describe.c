/* hosts_describe.c - DescribeHosts. */
#include "core/lifecycle.h"
#include "core/pool.h"
#include "service/ec2/hosts.h"

bool
host_instances(struct call *call, const struct row_dedicated_host *host,
               struct row_list *out, struct err *err)
{
    const struct row_instance prefix = {.node_id = host->node_id};
    size_t kept = 0;
    if (!rows_by(call, &row_instance_type, "by_node", 1, &prefix, out, err)) {
        return false;
    }
    const void **rows = ARENA_ARRAY(call->arena, out->count, const void *);
    for (size_t i = 0; i < out->count; i++) {
        const struct row_instance *inst = out->rows[i];
        if (str_eq(inst->account, call->account) && str_eq(inst->host_id, host->id) &&
            !inst->terminated_at && (inst->claimed || str_eq(inst->affinity, "host"))) {
            rows[kept++] = inst;
        }
    }
    *out = (struct row_list){rows, kept};
    return true;
}

static const char *
state_of(const struct row_dedicated_host *row, const struct placement_rows *rows)
{
    if (row->released_at) {
        return "released";
    }
    bool well = rows->node && str_eq(rows->node->state, "active") && rows->seen &&
                rows->seen->connected && str_empty(rows->node->quarantine);
    return well ? "available" : "under-assessment";
}

/* How many more of a type the host takes, and how many it would take when empty. */
static void
capacity_of(const struct placement_host *host, const struct instance_type *type,
            struct ec2_instance_capacity *out)
{
    int64_t vcpus = host->ceiling.vcpus, bytes = host->ceiling.memory_bytes;
    int64_t free_vcpus = MAX(vcpus - host->claimed.vcpus, 0);
    int64_t free_bytes = MAX(bytes - host->claimed.memory_bytes, 0);
    *out = (struct ec2_instance_capacity){
        .instance_type = type->name,
        HAS(available_capacity,
            MIN(free_vcpus / type->vcpus, free_bytes / type->memory_bytes)),
        HAS(total_capacity, MIN(vcpus / type->vcpus, bytes / type->memory_bytes)),
    };
}

static struct ec2_available_capacity *
available_out(struct call *call, const struct row_dedicated_host *row,
              const struct placement_host *host)
{
    struct ec2_available_capacity *out =
        ARENA_NEW(call->arena, struct ec2_available_capacity);
    const struct cloud_config *config = call->config;
    struct ec2_instance_capacity *items =
        ARENA_ARRAY(call->arena, config->type_count, struct ec2_instance_capacity);
    for (size_t i = 0; i < config->type_count; i++) {
        const struct instance_type *type = &config->types[i];
        if (str_empty(row->type) ? str_eq(type->family, row->family)
                                 : str_eq(type->name, row->type)) {
            capacity_of(host, type, &items[out->available_instance_capacity.count++]);
        }
    }
    out->available_instance_capacity.items = items;
    out->available_v_cpus = MAX(host->ceiling.vcpus - host->claimed.vcpus, 0);
    out->has_available_v_cpus = true;
    return out;
}

static struct ec2_host_properties *
properties_out(struct call *call, const struct row_dedicated_host *row,
               const struct placement_rows *rows, const struct placement_host *host)
{
    struct ec2_host_properties *out =
        ARENA_NEW(call->arena, struct ec2_host_properties);
    *out = (struct ec2_host_properties){
        .instance_family = row->family,
        .instance_type = str_empty(row->type) ? NULL : row->type,
        HAS(total_v_cpus, host->ceiling.vcpus),
    };
    if (rows->seen) {
        out->cores = rows->seen->cores;
        out->sockets = rows->seen->sockets;
        out->has_cores = out->cores > 0;
        out->has_sockets = out->sockets > 0;
    }
    return out;
}

static bool
instances_out(struct call *call, const struct row_dedicated_host *row,
              struct ec2_host *out, struct err *err)
{
    struct row_list list;
    if (!host_instances(call, row, &list, err)) {
        return false;
    }
    struct ec2_host_instance *items =
        ARENA_ARRAY(call->arena, list.count, struct ec2_host_instance);
    for (size_t i = 0; i < list.count; i++) {
        const struct row_instance *inst = list.rows[i];
        items[i] = (struct ec2_host_instance){.instance_id = inst->id,
                                              .instance_type = inst->type,
                                              .owner_id = inst->account};
    }
    out->instances.items = items;
    out->instances.count = list.count;
    return true;
}

static bool
host_out(struct call *call, const struct row_dedicated_host *row, struct tag_set tags,
         struct ec2_host *out, struct err *err)
{
    struct placement_rows rows;
    if (!pool_rows(call->txn, row->node_id, &rows, err)) {
        return false;
    }
    const struct row_node gone = {.id = row->node_id};
    rows.node = rows.node ? rows.node : &gone;
    const struct placement_rules rules = placement_rules_of(call->config);
    const struct placement_host host = placement_host_of(&rows, &rules);
    const struct zone_config *zone = config_zone(call->config, row->zone);
    *out = (struct ec2_host){
        .host_id = row->id,
        .owner_id = row->account,
        .auto_placement = row->auto_placement,
        .host_recovery = "off",
        .availability_zone = row->zone,
        .availability_zone_id = zone ? zone->id : NULL,
        .state = state_of(row, &rows),
        .allows_multiple_instance_types = str_empty(row->type) ? "on" : "off",
        .client_token = str_empty(row->client_token) ? NULL : row->client_token,
        HAS(allocation_time, row->created_at),
        .release_time = row->released_at,
        .has_release_time = row->released_at != 0,
        .available_capacity = row->released_at ? NULL : available_out(call, row, &host),
        .host_properties = properties_out(call, row, &rows, &host),
        .tags = {tags_out(call, tags), tags.count},
    };
    return row->released_at || instances_out(call, row, out, err);
}

FILTER_TEXT(host_auto, struct ec2_host, auto_placement)
FILTER_TEXT(host_zone, struct ec2_host, availability_zone)
FILTER_TEXT(host_token, struct ec2_host, client_token)
FILTER_TEXT(host_state, struct ec2_host, state)
FILTER_TEXT(host_type, struct ec2_host, host_properties->instance_type)

static const struct filter_def host_filters[] = {
    {"auto-placement", host_auto_values}, {"availability-zone", host_zone_values},
    {"client-token", host_token_values},  {"host-reservation-id", NULL},
    {"instance-type", host_type_values},  {"state", host_state_values},
};

bool
ec2_describe_hosts(struct call *call, const struct ec2_describe_hosts_request *in,
                   struct ec2_describe_hosts_result *out, struct err *err)
{
    const struct row_dedicated_host prefix = {.account = call->account,
                                              .region = call->region};
    const struct listing_ask ask = {
        .kind = &kind_host,
        .prefix = &prefix,
        .defs = host_filters,
        .def_count = ARRAY_LEN(host_filters),
        .filters = in->filter.items,
        .filter_count = in->filter.count,
        .ids = in->host_ids.items,
        .page = {.has_max = in->has_max_results,
                 .max_results = in->max_results,
                 .min = 5,
                 .max = 500,
                 .next_token = in->next_token,
                 .ids = in->host_ids.count,
                 .ids_name = "hostIds"},
    };
    struct listing listing;
    if (!listing_open(call, &ask, &listing, err)) {
        return false;
    }
    struct ec2_host *items =
        ARENA_ARRAY(call->arena, listing.rows.count, struct ec2_host);
    out->hosts.items = items;
    for (size_t i = 0; i < listing.rows.count; i++) {
        const struct row_dedicated_host *row = listing.rows.rows[i];
        struct ec2_host *item = &items[out->hosts.count];
        if (row->released_at && call->now_ns >= row->released_at + HOST_VISIBLE_NS) {
            continue;
        }
        if (!host_out(call, row, tags_of(&listing.tags, row->id), item, err)) {
            return false;
        }
        out->hosts.count += listing_accepts(&listing, row->id, item);
    }
    return listing_close(call, &listing, &out->next_token, err);
}
