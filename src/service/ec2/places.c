/* places.c - DescribeRegions, DescribeAvailabilityZones, DescribeAccountAttributes. */
#include "service/ec2/describe.h"

#define NOT_OPTED "opt-in-not-required" /* Nothing here has to be asked for. */

/* ---- regions ---- */

FILTER_TEXT(region_name, struct ec2_region, region_name)
FILTER_TEXT(region_endpoint, struct ec2_region, endpoint)
FILTER_TEXT(region_opt_in, struct ec2_region, opt_in_status)

static const struct filter_def region_filters[] = {
    {"endpoint", region_endpoint_values},
    {"opt-in-status", region_opt_in_values},
    {"region-name", region_name_values},
};

/* The first name that was not found, in AWS's sentence about one. */
static bool
names_check(const struct pick *pick, const char *what, struct err *err)
{
    for (size_t i = 0; i < pick->count; i++) {
        if (!pick->found[i]) {
            return err_set(err, ERR_INVALID_PARAMETER_VALUE, "Invalid %s: [%.80s]",
                           what, pick->ids[i]);
        }
    }
    return true;
}

bool
ec2_describe_regions(struct call *call, const struct ec2_describe_regions_request *in,
                     struct ec2_describe_regions_result *out, struct err *err)
{
    const struct cloud_config *config = call->config;
    struct filters filters;
    struct pick names;
    if (!filters_init(call, region_filters, ARRAY_LEN(region_filters),
                      in->filters.items, in->filters.count, &filters, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    pick_init(call, in->region_names.items, in->region_names.count, &names);
    struct ec2_region *items =
        ARENA_ARRAY(call->arena, config->region_count, struct ec2_region);
    size_t count = 0;
    for (size_t i = 0; i < config->region_count; i++) {
        const struct ec2_region region = {
            .region_name = config->regions[i].name,
            .endpoint = config->regions[i].endpoint,
            .opt_in_status = NOT_OPTED,
        };
        if (pick_take(&names, region.region_name) &&
            filters_match(&filters, &region, (struct tag_set){0})) {
            items[count++] = region;
        }
    }
    out->regions.items = items;
    out->regions.count = count;
    return names_check(&names, "region", err);
}

/* ---- zones ---- */

FILTER_TEXT(zone_group, struct ec2_availability_zone, group_name)
FILTER_TEXT(zone_opt_in, struct ec2_availability_zone, opt_in_status)
FILTER_TEXT(zone_region, struct ec2_availability_zone, region_name)
FILTER_TEXT(zone_state, struct ec2_availability_zone, state)
FILTER_TEXT(zone_id, struct ec2_availability_zone, zone_id)
FILTER_TEXT(zone_name, struct ec2_availability_zone, zone_name)
FILTER_TEXT(zone_type, struct ec2_availability_zone, zone_type)

static const struct filter_def zone_filters[] = {
    {"group-name", zone_group_values},
    {"message", NULL},
    {"network-border-group", zone_region_values},
    {"opt-in-status", zone_opt_in_values},
    {"parent-zone-id", NULL},
    {"parent-zone-name", NULL},
    {"region-name", zone_region_values},
    {"state", zone_state_values},
    {"zone-id", zone_id_values},
    {"zone-name", zone_name_values},
    {"zone-type", zone_type_values},
};

bool
ec2_describe_availability_zones(
    struct call *call, const struct ec2_describe_availability_zones_request *in,
    struct ec2_describe_availability_zones_result *out, struct err *err)
{
    const struct region_config *region = config_region(call->config, call->region);
    size_t zone_count = region ? region->zone_count : 0, count = 0;
    struct filters filters;
    struct pick names, ids;
    if (!filters_init(call, zone_filters, ARRAY_LEN(zone_filters), in->filters.items,
                      in->filters.count, &filters, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    pick_init(call, in->zone_names.items, in->zone_names.count, &names);
    pick_init(call, in->zone_ids.items, in->zone_ids.count, &ids);
    struct ec2_availability_zone *items =
        ARENA_ARRAY(call->arena, zone_count, struct ec2_availability_zone);
    for (size_t i = 0; i < zone_count; i++) {
        const struct ec2_availability_zone zone = {
            .state = "available",
            .opt_in_status = NOT_OPTED,
            .region_name = region->name,
            .zone_name = region->zones[i].name,
            .zone_id = region->zones[i].id,
            .group_name = region->name,
            .network_border_group = region->name,
            .zone_type = "availability-zone",
            .messages = NO_ITEMS(call, struct ec2_availability_zone_message),
        };
        bool named = pick_take(&names, zone.zone_name);
        if (pick_take(&ids, zone.zone_id) && named &&
            filters_match(&filters, &zone, (struct tag_set){0})) {
            items[count++] = zone;
        }
    }
    out->availability_zones.items = items;
    out->availability_zones.count = count;
    return names_check(&names, "availability zone", err) &&
           names_check(&ids, "availability zone-id", err);
}

/* ---- account attributes ---- */

/* The account's limit of instances: its own, or the cloud's. */
static bool
instance_limit(struct call *call, const char **out, struct err *err)
{
    const struct row_account key = {.id = call->account};
    const void *row;
    if (!row_get(call->txn, &row_account_type, &key, &row, err)) {
        return false;
    }
    const struct row_account *account = row;
    int64_t limit = account && account->quota_instances
                        ? account->quota_instances
                        : call->config->default_quota_instances;
    *out = arena_printf(call->arena, "%" PRId64, limit);
    return true;
}

bool
ec2_describe_account_attributes(
    struct call *call, const struct ec2_describe_account_attributes_request *in,
    struct ec2_describe_account_attributes_result *out, struct err *err)
{
    const char *vpc_id, *instances;
    struct pick names;
    if (!dry_run_check(in->dry_run, err) || !default_vpc_find(call, &vpc_id, err) ||
        !instance_limit(call, &instances, err)) {
        return false;
    }
    const struct {
        const char *name, *value;
    } attributes[] = {
        {"supported-platforms", "VPC"}, {"vpc-max-security-groups-per-interface", "5"},
        {"max-elastic-ips", "5"},       {"max-instances", instances},
        {"vpc-max-elastic-ips", "5"},   {"default-vpc", vpc_id ? vpc_id : "none"},
    };
    pick_init(call, in->attribute_names.items, in->attribute_names.count, &names);
    struct ec2_account_attribute *items =
        ARENA_ARRAY(call->arena, ARRAY_LEN(attributes), struct ec2_account_attribute);
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
        if (!pick_take(&names, attributes[i].name)) {
            continue;
        }
        struct ec2_account_attribute_value *value =
            ARENA_NEW(call->arena, struct ec2_account_attribute_value);
        value->attribute_value = attributes[i].value;
        items[count++] = (struct ec2_account_attribute){
            .attribute_name = attributes[i].name, .attribute_values = {value, 1}};
    }
    out->account_attributes.items = items;
    out->account_attributes.count = count;
    return names_check(&names, "attribute name", err);
}
