/* endpoints_describe.c - VPC endpoints as they are shown, and the services behind them. */
#include "core/endpoint_names.h"
#include "service/ec2/endpoints.h"

static const char *const services[] = {"ec2", "sts"};

const char *
endpoint_service(struct call *call, size_t i)
{
    return i < ARRAY_LEN(services) ? arena_printf(call->arena, "com.amazonaws.%s.%s",
                                                  call->region, services[i])
                                   : NULL;
}

/* ---- endpoints ---- */

static bool
dns_out(struct call *call, const struct row_vpc_endpoint *row,
        struct ec2_vpc_endpoint *out, struct err *err)
{
    struct endpoint_names names;
    if (!endpoint_names(call->txn, row, &names, err)) {
        return false;
    }
    out->dns_entries.items =
        ARENA_ARRAY(call->arena, names.count, struct ec2_dns_entry);
    out->dns_entries.count = names.count;
    for (size_t i = 0; i < names.count; i++) {
        out->dns_entries.items[i].dns_name = names.items[i].name;
    }
    return true;
}

static bool
groups_out(struct call *call, const struct row_vpc_endpoint *row,
           struct ec2_vpc_endpoint *out, struct err *err)
{
    const struct row_eni names = {
        .account = row->account,
        .group_ids = {row->group_ids.items, row->group_ids.count}};
    struct ec2_group_identifier *groups;
    size_t count;
    if (!eni_groups_out(call, &names, &groups, &count, err)) {
        return false;
    }
    out->groups.items =
        ARENA_ARRAY(call->arena, count, struct ec2_security_group_identifier);
    out->groups.count = count;
    for (size_t i = 0; i < count; i++) {
        out->groups.items[i].group_id = groups[i].group_id;
        out->groups.items[i].group_name = groups[i].group_name;
    }
    return true;
}

bool
endpoint_out(struct call *call, const struct row_vpc_endpoint *row, struct tag_set tags,
             struct ec2_vpc_endpoint *out, struct err *err)
{
    *out = (struct ec2_vpc_endpoint){
        .vpc_endpoint_id = row->id,
        .vpc_endpoint_type = row->type,
        .vpc_id = row->vpc_id,
        .service_name = row->service,
        .state = "available",
        .policy_document = row->policy,
        .ip_address_type = "ipv4",
        .dns_options = ARENA_NEW(call->arena, struct ec2_dns_options),
        .subnet_ids = {row->subnet_ids.items, row->subnet_ids.count},
        .network_interface_ids = {row->eni_ids.items, row->eni_ids.count},
        HAS(private_dns_enabled, row->private_dns),
        HAS(requester_managed, false),
        HAS(creation_timestamp, row->created_at),
        .owner_id = row->account,
        .tags = {tags_out(call, tags), tags.count},
    };
    out->dns_options->dns_record_ip_type = "ipv4";
    return groups_out(call, row, out, err) && dns_out(call, row, out, err);
}

FILTER_TEXT(endpoint_id, struct ec2_vpc_endpoint, vpc_endpoint_id)
FILTER_TEXT(endpoint_service, struct ec2_vpc_endpoint, service_name)
FILTER_TEXT(endpoint_state, struct ec2_vpc_endpoint, state)
FILTER_TEXT(endpoint_type, struct ec2_vpc_endpoint, vpc_endpoint_type)
FILTER_TEXT(endpoint_vpc, struct ec2_vpc_endpoint, vpc_id)

static const struct filter_def endpoint_filters[] = {
    {"service-name", endpoint_service_values},
    {"vpc-endpoint-id", endpoint_id_values},
    {"vpc-endpoint-state", endpoint_state_values},
    {"vpc-endpoint-type", endpoint_type_values},
    {"vpc-id", endpoint_vpc_values},
};

bool
ec2_describe_vpc_endpoints(struct call *call,
                           const struct ec2_describe_vpc_endpoints_request *in,
                           struct ec2_describe_vpc_endpoints_result *out,
                           struct err *err)
{
    const struct row_vpc_endpoint prefix = {.account = call->account,
                                            .region = call->region};
    const struct listing_ask ask =
        LISTING_ASK(in, vpc_endpoint_ids, filters, "vpcEndpointIds", kind_endpoint,
                    endpoint_filters, &prefix);
    struct listing listing;
    if (!listing_open(call, &ask, &listing, err)) {
        return false;
    }
    struct ec2_vpc_endpoint *items =
        ARENA_ARRAY(call->arena, listing.rows.count, struct ec2_vpc_endpoint);
    size_t count = 0;
    for (size_t i = 0; i < listing.rows.count; i++) {
        const struct row_vpc_endpoint *row = listing.rows.rows[i];
        if (!endpoint_out(call, row, tags_of(&listing.tags, row->id), &items[count],
                          err)) {
            return false;
        }
        count += listing_accepts(&listing, row->id, &items[count]);
    }
    out->vpc_endpoints.items = items;
    out->vpc_endpoints.count = count;
    return listing_close(call, &listing, &out->next_token, err);
}

/* ---- services ---- */

static void
service_out(struct call *call, size_t i, struct ec2_service_detail *out)
{
    const char *name = endpoint_service(call, i);
    const char **base = ARENA_NEW(call->arena, const char *);
    const char **family = ARENA_NEW(call->arena, const char *);
    struct ec2_service_type_detail *type =
        ARENA_NEW(call->arena, struct ec2_service_type_detail);
    struct ec2_private_dns_details *private =
        ARENA_NEW(call->arena, struct ec2_private_dns_details);
    type->service_type = "Interface";
    private->private_dns_name = endpoint_private_name(call->arena, name, call->region);
    *base = arena_printf(call->arena, "%s.%s.vpce.amazonaws.com", services[i],
                         call->region);
    *family = "ipv4";
    *out = (struct ec2_service_detail){
        .service_name = name,
        .service_type = {type, 1},
        .base_endpoint_dns_names = {base, 1},
        .private_dns_name = private->private_dns_name,
        .private_dns_names = {private, 1},
        .private_dns_name_verification_state = "verified",
        .supported_ip_address_types = {family, 1},
        .owner = "amazon",
        HAS(acceptance_required, false),
        HAS(manages_vpc_endpoints, false),
        HAS(vpc_endpoint_policy_supported, false),
    };
}

FILTER_TEXT(service_name, struct ec2_service_detail, service_name)
FILTER_TEXT(service_owner, struct ec2_service_detail, owner)

static void
service_type_values(const void *object, struct filter_test *test)
{
    filter_offer(test, ((const struct ec2_service_detail *)object)
                           ->service_type.items[0]
                           .service_type);
}

static const struct filter_def service_filters[] = {
    {"owner", service_owner_values},
    {"service-name", service_name_values},
    {"service-type", service_type_values},
};

bool
ec2_describe_vpc_endpoint_services(
    struct call *call, const struct ec2_describe_vpc_endpoint_services_request *in,
    struct ec2_describe_vpc_endpoint_services_result *out, struct err *err)
{
    struct filters used;
    struct pick names;
    pick_init(call, in->service_names.items, in->service_names.count, &names);
    if (!filters_init(call, service_filters, ARRAY_LEN(service_filters),
                      in->filters.items, in->filters.count, &used, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    out->service_names.items =
        ARENA_ARRAY(call->arena, ARRAY_LEN(services), const char *);
    out->service_details.items =
        ARENA_ARRAY(call->arena, ARRAY_LEN(services), struct ec2_service_detail);
    for (size_t i = 0; i < ARRAY_LEN(services); i++) {
        struct ec2_service_detail *detail =
            &out->service_details.items[out->service_details.count];
        service_out(call, i, detail);
        if (pick_take(&names, detail->service_name) &&
            filters_match(&used, detail, (struct tag_set){0})) {
            out->service_names.items[out->service_names.count++] = detail->service_name;
            out->service_details.count++;
        }
    }
    for (size_t i = 0; i < names.count; i++) {
        if (!names.found[i]) {
            return err_set(err, ERR_SERVICE_NAME,
                           "The Vpc Endpoint Service '%.100s' does not exist",
                           names.ids[i]);
        }
    }
    return true;
}
