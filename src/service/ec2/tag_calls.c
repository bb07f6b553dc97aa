/* tag_calls.c - CreateTags, DeleteTags, DescribeTags, on every kind of resource. */
#include "service/ec2/network.h"

#define RESOURCES_MAX 1000

/* Whether the account may tag the resource. */
typedef bool exists_fn(struct call *call, const struct row_type *type, const char *id,
                       bool *out, struct err *err);

static exists_fn owned_exists, image_exists, key_exists, snapshot_exists,
    instance_exists, peering_exists;

static const struct tag_kind {
    const char *prefix, *resource_type;
    const struct row_type *type; /* Keyed by account and id; NULL: 'exists' knows. */
    exists_fn *exists;           /* NULL: we have none of these. */
    enum err_code not_found;
    const char *before, *after; /* The id, in AWS's sentence about one that is not. */
} kinds[] = {
    {"i", "instance", &row_instance_type, instance_exists, ERR_INSTANCE_NOT_FOUND,
     "The instance ID '", "' does not exist"},
    {"vol", "volume", &row_volume_type, owned_exists, ERR_VOLUME_NOT_FOUND,
     "The volume '", "' does not exist."},
    {"eni", "network-interface", &row_eni_type, owned_exists, ERR_ENI_NOT_FOUND,
     "The networkInterface ID '", "' does not exist"},
    {"ami", "image", NULL, image_exists, ERR_IMAGE_NOT_FOUND, "The image id '[",
     "]' does not exist"},
    {"snap", "snapshot", NULL, snapshot_exists, ERR_SNAPSHOT_NOT_FOUND,
     "The snapshot '", "' does not exist."},
    {"key", "key-pair", NULL, key_exists, ERR_KEY_PAIR_NOT_FOUND, "The key pair ID '",
     "' does not exist"},
    {"sg", "security-group", &row_security_group_type, owned_exists,
     ERR_GROUP_NOT_FOUND, "The security group ID '", "' does not exist"},
    {"sgr", "security-group-rule", &row_security_group_rule_type, owned_exists,
     ERR_GROUP_RULE_NOT_FOUND, "The security group rule ID '", "' does not exist"},
    {"subnet", "subnet", &row_subnet_type, owned_exists, ERR_SUBNET_NOT_FOUND,
     "The subnet ID '", "' does not exist"},
    {"vpc", "vpc", &row_vpc_type, owned_exists, ERR_VPC_NOT_FOUND, "The vpc ID '",
     "' does not exist"},
    {"lt", "launch-template", &row_launch_template_type, owned_exists,
     ERR_TEMPLATE_NOT_FOUND, "The launch template ID '", "' does not exist"},
    {"import-ami", "import-image-task", &row_import_task_type, owned_exists,
     ERR_IMPORT_TASK_NOT_FOUND, "The import task ID '", "' does not exist"},
    {"replacevol", "replace-root-volume-task", &row_root_task_type, owned_exists,
     ERR_ROOT_TASK_NOT_FOUND, "The replace root volume task ID '", "' does not exist"},
    {"rtb", "route-table", &row_route_table_type, owned_exists,
     ERR_ROUTE_TABLE_NOT_FOUND, "The routeTable ID '", "' does not exist"},
    {"igw", "internet-gateway", &row_internet_gateway_type, owned_exists,
     ERR_GATEWAY_NOT_FOUND, "The internetGateway ID '", "' does not exist"},
    {"eigw", "egress-only-internet-gateway", &row_egress_gateway_type, owned_exists,
     ERR_EGRESS_GATEWAY_NOT_FOUND, "The egressOnlyInternetGateway ID '",
     "' does not exist"},
    {"nat", "natgateway", &row_nat_gateway_type, owned_exists, ERR_NAT_NOT_FOUND,
     "The natGateway ID '", "' does not exist"},
    {"acl", "network-acl", &row_network_acl_type, owned_exists, ERR_ACL_NOT_FOUND,
     "The networkAcl ID '", "' does not exist"},
    {"dopt", "dhcp-options", &row_dhcp_options_type, owned_exists,
     ERR_DHCP_OPTIONS_NOT_FOUND, "The dhcpOption ID '", "' does not exist"},
    {"eipalloc", "elastic-ip", &row_address_type, owned_exists,
     ERR_ALLOCATION_NOT_FOUND, "The allocation ID '", "' does not exist"},
    {"pcx", "vpc-peering-connection", NULL, peering_exists, ERR_PEERING_NOT_FOUND,
     "The vpcPeeringConnection ID '", "' does not exist"},
    {"pl", "prefix-list", &row_prefix_list_type, owned_exists,
     ERR_PREFIX_LIST_NOT_FOUND, "The prefix list ID '", "' does not exist"},
    {"fl", "vpc-flow-log", &row_flow_log_type, owned_exists, ERR_FLOW_LOG_NOT_FOUND,
     "The flow log ID '", "' does not exist"},
    {"vpce", "vpc-endpoint", &row_vpc_endpoint_type, owned_exists,
     ERR_ENDPOINT_NOT_FOUND, "The Vpc Endpoint Id '", "' does not exist"},
    {"pg", "placement-group", &row_placement_group_type, owned_exists,
     ERR_PLACEMENT_GROUP, "The placement group ID '", "' does not exist"},
    {"h", "dedicated-host", &row_dedicated_host_type, owned_exists, ERR_HOST_NOT_FOUND,
     "The Dedicated host ID '", "' does not exist"},
};

/* ---- which resources there are ---- */

/* Where a row keeps the text called 'name'. */
static const char **
text_at(const struct row_type *type, const void *row, const char *name)
{
    return desc_at(desc_find(type->desc, name), row);
}

static bool
owned_exists(struct call *call, const struct row_type *type, const char *id, bool *out,
             struct err *err)
{
    void *key = arena_alloc(call->arena, type->desc->size);
    const void *row;
    *text_at(type, key, "account") = call->account;
    *text_at(type, key, "id") = id;
    if (!row_get(call->txn, type, key, &row, err)) {
        return false;
    }
    *out = row && str_eq(*text_at(type, row, "region"), call->region);
    return true;
}

static bool
instance_exists(struct call *call, const struct row_type *type, const char *id,
                bool *out, struct err *err)
{
    const struct row_instance *inst;
    (void)type;
    *out = instance_find(call, id, &inst, err);
    return *out || err->code == ERR_INSTANCE_NOT_FOUND;
}

static bool
image_exists(struct call *call, const struct row_type *type, const char *id, bool *out,
             struct err *err)
{
    const struct row_image *image;
    (void)type;
    if (!image_visible(call, id, &image, err)) {
        return false;
    }
    *out = image != NULL;
    return true;
}

static bool
peering_exists(struct call *call, const struct row_type *type, const char *id,
               bool *out, struct err *err)
{
    const struct row_vpc_peering *peering;
    (void)type;
    if (!peering_get(call, id, &peering, err)) {
        return false;
    }
    *out = peering != NULL;
    return true;
}

static bool
snapshot_exists(struct call *call, const struct row_type *type, const char *id,
                bool *out, struct err *err)
{
    const struct row_image prefix = {.account = call->account, .region = call->region};
    struct row_list list;
    (void)type;
    const struct row_query query = {
        .index = "by_account", .prefix = &prefix, .prefix_fields = 2};
    if (!row_list(call->txn, &row_image_type, &query, &list, err)) {
        return false;
    }
    *out = false;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_image *image = list.rows[i];
        *out |= str_eq(image->snapshot_id, id) && !str_eq(image->state, "deregistered");
    }
    return true;
}

static bool
key_exists(struct call *call, const struct row_type *type, const char *id, bool *out,
           struct err *err)
{
    const struct row_key_pair prefix = {
        .account = call->account, .region = call->region, .id = id};
    const struct row_query query = {
        .index = "by_id", .prefix = &prefix, .prefix_fields = 3, .limit = 1};
    struct row_list list;
    (void)type;
    if (!row_list(call->txn, &row_key_pair_type, &query, &list, err)) {
        return false;
    }
    *out = list.count > 0;
    return true;
}

/* The kind of 'id', which exists; an error otherwise. */
static bool
resource_find(struct call *call, const char *id, const struct tag_kind **out,
              struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        const struct tag_kind *kind = &kinds[i];
        bool exists = false;
        if (!id_valid(kind->prefix, id)) {
            continue;
        }
        if (kind->exists && !kind->exists(call, kind->type, id, &exists, err)) {
            return false;
        }
        *out = kind;
        return exists ||
               err_set(err, kind->not_found, "%s%s%s", kind->before, id, kind->after);
    }
    return err_set(err, ERR_RESOURCE_ID_INVALID, "The ID '%.80s' is not valid", id);
}

/* ---- CreateTags ---- */

static bool
tags_check(const struct ec2_tag *tags, size_t count, struct err *err)
{
    if (count > TAGS_MAX) {
        return err_set(err, ERR_TAG_LIMIT,
                       "The maximum number of Tags for a resource has been reached.");
    }
    for (size_t i = 0; i < count; i++) {
        if (!tag_check(tags[i].key, tags[i].value, err)) {
            return false;
        }
        for (size_t k = 0; k < i; k++) {
            if (str_eq(tags[k].key, tags[i].key)) {
                return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                               "Duplicate tag key '%s' specified.", tags[i].key);
            }
        }
    }
    return true;
}

static bool
resources_check(size_t count, struct err *err)
{
    if (count == 0) {
        return err_set(err, ERR_MISSING_PARAMETER,
                       "The request must contain the parameter resourceIdSet");
    }
    return count <= RESOURCES_MAX ||
           err_set(err, ERR_INVALID_PARAMETER_VALUE,
                   "The number of resources is %zu; at most %d can be named.", count,
                   RESOURCES_MAX);
}

/* There is room for those of 'tags' that the resource does not have yet. */
static bool
room_check(struct call *call, const char *id, const struct ec2_tag *tags, size_t count,
           struct err *err)
{
    struct tag_set set;
    if (!tags_load_one(call, id, &set, err)) {
        return false;
    }
    size_t total = set.count;
    for (size_t i = 0; i < count; i++) {
        total += !tag_value(set, tags[i].key);
    }
    return total <= TAGS_MAX ||
           err_set(err, ERR_TAG_LIMIT,
                   "The maximum number of Tags for a resource has been reached.");
}

bool
ec2_create_tags(struct call *call, const struct ec2_create_tags_request *in,
                struct err *err)
{
    size_t count = in->resources.count;
    const struct tag_kind **found =
        ARENA_ARRAY(call->arena, count, const struct tag_kind *);
    if (!resources_check(count, err)) {
        return false;
    }
    if (!in->tags.count) {
        return err_set(err, ERR_MISSING_PARAMETER,
                       "The request must contain the parameter tagSet");
    }
    if (!tags_check(in->tags.items, in->tags.count, err)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const char *id = in->resources.items[i];
        if (!resource_find(call, id, &found[i], err) ||
            !room_check(call, id, in->tags.items, in->tags.count, err)) {
            return false;
        }
    }
    if (!dry_run_check(in->dry_run, err)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const struct ec2_tag_specification spec = {
            .resource_type = found[i]->resource_type,
            .tags = {in->tags.items, in->tags.count},
        };
        if (!tag_specs_put(call, &spec, 1, spec.resource_type, in->resources.items[i],
                           err)) {
            return false;
        }
    }
    return true;
}

/* ---- DeleteTags ---- */

/* Whether a tag is named: by its key alone, or by key and value. No names: all are. */
static bool
named(const struct row_tag *row, const struct ec2_tag *tags, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (str_eq(tags[i].key, row->tag_key) &&
            (!tags[i].value || str_eq(tags[i].value, row->value ? row->value : ""))) {
            return true;
        }
    }
    return count == 0;
}

static bool
tags_remove(struct call *call, const char *id, const struct ec2_tag *tags, size_t count,
            struct err *err)
{
    struct tag_set set;
    if (!tags_load_one(call, id, &set, err)) {
        return false;
    }
    for (size_t i = 0; i < set.count; i++) {
        if (named(set.rows[i], tags, count) &&
            !row_delete(call->txn, &row_tag_type, set.rows[i], err)) {
            return false;
        }
    }
    return true;
}

bool
ec2_delete_tags(struct call *call, const struct ec2_delete_tags_request *in,
                struct err *err)
{
    const struct tag_kind *kind;
    if (!resources_check(in->resources.count, err) ||
        !tags_check(in->tags.items, in->tags.count, err)) {
        return false;
    }
    for (size_t i = 0; i < in->resources.count; i++) {
        if (!resource_find(call, in->resources.items[i], &kind, err)) {
            return false;
        }
    }
    if (!dry_run_check(in->dry_run, err)) {
        return false;
    }
    for (size_t i = 0; i < in->resources.count; i++) {
        if (!tags_remove(call, in->resources.items[i], in->tags.items, in->tags.count,
                         err)) {
            return false;
        }
    }
    return true;
}

/* ---- DescribeTags ---- */

FILTER_TEXT(filter_key, struct row_tag, tag_key)
FILTER_TEXT(filter_resource_id, struct row_tag, resource_id)
FILTER_TEXT(filter_resource_type, struct row_tag, resource_type)

static void
filter_value_values(const void *object, struct filter_test *test)
{
    const struct row_tag *row = object;
    filter_offer(test, row->value ? row->value : "");
}

static const struct filter_def tag_filters[] = {
    {"key", filter_key_values},
    {"resource-id", filter_resource_id_values},
    {"resource-type", filter_resource_type_values},
    {"value", filter_value_values},
};

bool
ec2_describe_tags(struct call *call, const struct ec2_describe_tags_request *in,
                  struct ec2_describe_tags_result *out, struct err *err)
{
    struct filters filters;
    struct page page;
    struct tags tags;
    const struct page_ask ask = {.has_max = in->has_max_results,
                                 .max_results = in->max_results,
                                 .min = 5,
                                 .max = 1000,
                                 .next_token = in->next_token};
    if (!filters_init(call, tag_filters, ARRAY_LEN(tag_filters), in->filters.items,
                      in->filters.count, &filters, err) ||
        !page_init(call, &ask, &filters, &page, err) ||
        !dry_run_check(in->dry_run, err) || !tags_load_all(call, &tags, err)) {
        return false;
    }
    const struct row_tag *const *rows = (const struct row_tag *const *)tags.rows.rows;
    struct ec2_tag_description *items =
        ARENA_ARRAY(call->arena, tags.rows.count, struct ec2_tag_description);
    size_t count = 0;
    for (size_t i = 0; i < tags.rows.count; i++) {
        const struct row_tag *row = rows[i];
        if (!filters_match(&filters, row, (struct tag_set){&rows[i], 1}) ||
            !page_take(&page, arena_printf(call->arena, "%s/%s", row->resource_id,
                                           row->tag_key))) {
            continue;
        }
        items[count++] = (struct ec2_tag_description){
            .key = row->tag_key,
            .value = row->value ? row->value : "",
            .resource_id = row->resource_id,
            .resource_type = row->resource_type,
        };
    }
    out->tags.items = items;
    out->tags.count = count;
    out->next_token = page_next_token(call, &page);
    return true;
}
