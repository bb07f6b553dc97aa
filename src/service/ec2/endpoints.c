/* endpoints.c - VPC endpoints made, changed and deleted: see endpoints.h. */
#include "service/ec2/endpoints.h"
#include "core/endpoint_names.h"

#define FULL_POLICY \
    "{\"Version\":\"2008-10-17\",\"Statement\":[{\"Effect\":\"Allow\"," \
    "\"Principal\":\"*\",\"Action\":\"*\",\"Resource\":\"*\"}]}"

/* ---- checks ---- */

static bool
check_service(struct call *call, const struct ec2_create_vpc_endpoint_request *in,
              struct err *err)
{
    const char *type = in->vpc_endpoint_type ? in->vpc_endpoint_type : "Gateway";
    const char *name;
    for (size_t i = 0; (name = endpoint_service(call, i)); i++) {
        if (str_eq(name, in->service_name)) {
            return str_eq(type, "Interface") ||
                   err_set(err, ERR_INVALID_PARAMETER,
                           "Endpoint type (%.32s) does not match available service "
                           "types ([Interface]).",
                           type);
        }
    }
    return err_set(err, ERR_SERVICE_NAME,
                   "The Vpc Endpoint Service '%.100s' does not exist",
                   text_or_empty(in->service_name));
}

/* What no interface endpoint has. */
static bool
check_rest(size_t tables, const char *address_type,
           const struct ec2_dns_options_specification *dns, struct err *err)
{
    if (tables) {
        return err_set(err, ERR_INVALID_PARAMETER,
                       "Route table IDs are only supported for Gateway type VPC "
                       "Endpoint.");
    }
    if ((address_type && !str_eq(address_type, "ipv4")) ||
        (dns && dns->dns_record_ip_type && !str_eq(dns->dns_record_ip_type, "ipv4"))) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "Endpoints have IPv4 addresses only.");
    }
    return true;
}

/* One of a service's endpoints in a VPC may have the service's own name there. */
static bool
check_private_dns(struct call *call, const struct row_vpc *vpc,
                  const struct row_vpc_endpoint *row, struct err *err)
{
    const struct row_vpc_endpoint prefix = {.account = row->account, .vpc_id = vpc->id};
    struct row_list list;
    if (!row->private_dns) {
        return true;
    }
    if (!vpc->dns_support || !vpc->dns_hostnames) {
        return err_set(err, ERR_INVALID_PARAMETER,
                       "Enabling private DNS requires both enableDnsSupport and "
                       "enableDnsHostnames VPC attributes set to true for %s",
                       vpc->id);
    }
    if (!rows_by(call, &row_vpc_endpoint_type, "by_vpc", 2, &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_vpc_endpoint *other = list.rows[i];
        if (other->private_dns && str_eq(other->service, row->service) &&
            !str_eq(other->id, row->id)) {
            return err_set(
                err, ERR_INVALID_PARAMETER,
                "private-dns-enabled cannot be set because there is already "
                "a conflicting DNS domain for %s in the VPC %s",
                endpoint_private_name(call->arena, row->service, row->region), vpc->id);
        }
    }
    return true;
}

static bool
check_limit(struct call *call, const char *vpc_id, struct err *err)
{
    const struct row_vpc_endpoint prefix = {.account = call->account, .vpc_id = vpc_id};
    struct row_list list;
    return rows_by(call, &row_vpc_endpoint_type, "by_vpc", 2, &prefix, &list, err) &&
           (list.count < ENDPOINTS_MAX ||
            err_set(err, ERR_ENDPOINT_LIMIT,
                    "The maximum number of VPC endpoints for %s has been reached.",
                    vpc_id));
}

/* ---- its interfaces ---- */

/* A subnet of the VPC whose zone has no interface of the endpoint yet. */
static bool
check_subnet(struct call *call, const struct row_vpc_endpoint *row, const char *id,
             const struct row_subnet **out, struct err *err)
{
    if (!FIND(call, kind_subnet, id, out, err)) {
        return false;
    }
    if (!str_eq((*out)->vpc_id, row->vpc_id)) {
        return err_set(err, ERR_INVALID_PARAMETER,
                       "Subnet %s belongs to another network.", (*out)->id);
    }
    for (size_t i = 0; i < row->subnet_ids.count; i++) {
        const struct row_subnet *other;
        if (!FIND(call, kind_subnet, row->subnet_ids.items[i], &other, err)) {
            return false;
        }
        if (str_eq(other->zone, (*out)->zone)) {
            return err_set(err, ERR_SAME_ZONE,
                           "Found another VPC endpoint subnet in the availability zone "
                           "of %s",
                           (*out)->id);
        }
    }
    return true;
}

/* Adds one in the subnet to those that the row names; its lists have room. */
static bool
add_eni(struct call *call, struct row_vpc_endpoint *row, const char *subnet_id,
        struct err *err)
{
    const struct row_eni *eni;
    struct new_eni ask = {
        .group_ids = row->group_ids.items,
        .group_count = row->group_ids.count,
        .description = arena_printf(call->arena, "VPC Endpoint Interface %s", row->id),
        .type = "vpc_endpoint",
        .owner_id = row->id,
    };
    if (!check_subnet(call, row, subnet_id, &ask.subnet, err) ||
        !eni_make(call, &ask, &eni, err)) {
        return false;
    }
    row->subnet_ids.items[row->subnet_ids.count++] = ask.subnet->id;
    row->eni_ids.items[row->eni_ids.count++] = eni->id;
    return true;
}

static bool
add_enis(struct call *call, struct row_vpc_endpoint *row, const char *const *subnet_ids,
         size_t count, struct err *err)
{
    size_t had = row->subnet_ids.count;
    const char **subnets = ARENA_ARRAY(call->arena, had + count, const char *);
    const char **enis = ARENA_ARRAY(call->arena, had + count, const char *);
    for (size_t i = 0; i < had; i++) {
        subnets[i] = row->subnet_ids.items[i];
        enis[i] = row->eni_ids.items[i];
    }
    row->subnet_ids.items = subnets;
    row->eni_ids.items = enis;
    for (size_t i = 0; i < count; i++) {
        if (!add_eni(call, row, subnet_ids[i], err)) {
            return false;
        }
    }
    return true;
}

static bool
remove_eni(struct call *call, const struct row_vpc_endpoint *row, size_t i,
           struct err *err)
{
    const struct row_eni key = {.account = row->account, .id = row->eni_ids.items[i]};
    const void *eni;
    return row_get(call->txn, &row_eni_type, &key, &eni, err) &&
           (!eni || eni_remove(call->txn, eni, err));
}

/* Those in the subnets, which the endpoint must have. */
static bool
remove_enis(struct call *call, struct row_vpc_endpoint *row,
            const char *const *subnet_ids, size_t count, struct err *err)
{
    for (size_t k = 0; k < count; k++) {
        size_t i = 0;
        while (i < row->subnet_ids.count &&
               !str_eq(row->subnet_ids.items[i], subnet_ids[k])) {
            i++;
        }
        if (i == row->subnet_ids.count) {
            return err_set(err, ERR_INVALID_PARAMETER,
                           "Subnet %.64s is not one of the endpoint's.", subnet_ids[k]);
        }
        if (!remove_eni(call, row, i, err)) {
            return false;
        }
        row->subnet_ids.count--;
        row->eni_ids.count--;
        for (; i < row->subnet_ids.count; i++) {
            row->subnet_ids.items[i] = row->subnet_ids.items[i + 1];
            row->eni_ids.items[i] = row->eni_ids.items[i + 1];
        }
    }
    return true;
}

/* Of the endpoint, and of each of its interfaces. */
static bool
set_groups(struct call *call, struct row_vpc_endpoint *row, const char *const *ids,
           size_t count, struct err *err)
{
    const char *const *groups;
    if (!eni_groups_check(call, row->vpc_id, ids, count, &groups, &row->group_ids.count,
                          err)) {
        return false;
    }
    row->group_ids.items = ARENA_ARRAY(call->arena, row->group_ids.count, const char *);
    for (size_t i = 0; i < row->group_ids.count; i++) {
        row->group_ids.items[i] = groups[i];
    }
    for (size_t i = 0; i < row->eni_ids.count; i++) {
        const struct row_eni *eni;
        if (!FIND(call, kind_eni, row->eni_ids.items[i], &eni, err) ||
            !eni_groups_set(call, eni, groups, row->group_ids.count, err)) {
            return false;
        }
    }
    return true;
}

/* ---- made ---- */

static bool
answer(struct call *call, const char *id, struct ec2_create_vpc_endpoint_result *out,
       struct err *err)
{
    const struct row_vpc_endpoint *row;
    struct tag_set tags;
    out->vpc_endpoint = ARENA_NEW(call->arena, struct ec2_vpc_endpoint);
    return FIND(call, kind_endpoint, id, &row, err) &&
           tags_shown(call, id, &tags, err) &&
           endpoint_out(call, row, tags, out->vpc_endpoint, err);
}

static bool
check_create(struct call *call, const struct ec2_create_vpc_endpoint_request *in,
             const struct row_vpc *vpc, const struct row_vpc_endpoint *row,
             struct err *err)
{
    return check_service(call, in, err) &&
           check_rest(in->route_table_ids.count, in->ip_address_type, in->dns_options,
                      err) &&
           endpoint_policy_check(in->policy_document, err) &&
           check_private_dns(call, vpc, row, err) && check_limit(call, vpc->id, err) &&
           new_tags_check(&kind_endpoint, in->tag_specifications.items,
                          in->tag_specifications.count, err);
}

bool
ec2_create_vpc_endpoint(struct call *call,
                        const struct ec2_create_vpc_endpoint_request *in,
                        struct ec2_create_vpc_endpoint_result *out, struct err *err)
{
    const char *digest =
        request_digest(call, &ec2_create_vpc_endpoint_request_desc, in);
    const struct row_vpc *vpc;
    const char *before;
    struct row_vpc_endpoint row = {
        .account = call->account,
        .id = id_new(call->arena, call->rng, "vpce"),
        .region = call->region,
        .vpc_id = in->vpc_id,
        .service = in->service_name,
        .type = "Interface",
        .policy = in->policy_document ? in->policy_document : FULL_POLICY,
        .private_dns = !in->has_private_dns_enabled || in->private_dns_enabled,
        .created_at = call->now_ns};
    out->client_token = in->client_token;
    if (!token_get(call, in->client_token, digest, &before, err)) {
        return false;
    }
    if (before) {
        return answer(call, before, out, err);
    }
    return FIND(call, kind_vpc, in->vpc_id, &vpc, err) &&
           check_create(call, in, vpc, &row, err) &&
           set_groups(call, &row, in->security_group_ids.items,
                      in->security_group_ids.count, err) &&
           add_enis(call, &row, in->subnet_ids.items, in->subnet_ids.count, err) &&
           dry_run_check(in->dry_run, err) && /* What was done is undone with it. */
           row_insert(call->txn, &row_vpc_endpoint_type, &row, err) &&
           new_tags_put(call, &kind_endpoint, in->tag_specifications.items,
                        in->tag_specifications.count, row.id, err) &&
           token_put(call, in->client_token, digest, row.id, err) &&
           vpc_touch(call, vpc->id, err) && answer(call, row.id, out, err);
}

/* ---- changed and deleted ---- */

/* A list without 'removed' and with 'added'. */
static void
texts_change(struct call *call, const char *const *added, size_t added_count,
             const char *const *removed, size_t removed_count, const char ***items,
             size_t *count)
{
    const char **next = ARENA_ARRAY(call->arena, *count + added_count, const char *);
    size_t kept = 0;
    for (size_t i = 0; i < *count + added_count; i++) {
        const char *text = i < *count ? (*items)[i] : added[i - *count];
        bool drop = false;
        for (size_t k = 0; k < removed_count; k++) {
            drop |= str_eq(removed[k], text);
        }
        for (size_t k = 0; k < kept; k++) {
            drop |= str_eq(next[k], text);
        }
        if (!drop) {
            next[kept++] = text;
        }
    }
    *items = next;
    *count = kept;
}

/* Each is a group, and the endpoint's. */
static bool
check_removed(struct call *call, const struct row_vpc_endpoint *row,
              const char *const *ids, size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct row_security_group *group;
        bool has = false;
        if (!FIND(call, kind_group, ids[i], &group, err)) {
            return false;
        }
        for (size_t k = 0; k < row->group_ids.count; k++) {
            has |= str_eq(row->group_ids.items[k], ids[i]);
        }
        if (!has) {
            return err_set(err, ERR_INVALID_PARAMETER,
                           "Security group %s is not one of the endpoint's.", ids[i]);
        }
    }
    return true;
}

static bool
change_groups(struct call *call, const struct ec2_modify_vpc_endpoint_request *in,
              struct row_vpc_endpoint *next, struct err *err)
{
    const char **ids = next->group_ids.items;
    size_t count = next->group_ids.count;
    if (in->add_security_group_ids.count + in->remove_security_group_ids.count == 0) {
        return true;
    }
    if (!check_removed(call, next, in->remove_security_group_ids.items,
                       in->remove_security_group_ids.count, err)) {
        return false;
    }
    texts_change(call, in->add_security_group_ids.items,
                 in->add_security_group_ids.count, in->remove_security_group_ids.items,
                 in->remove_security_group_ids.count, &ids, &count);
    return count > 0 ? set_groups(call, next, ids, count, err)
                     : err_set(err, ERR_INVALID_PARAMETER,
                               "An endpoint keeps at least one security group.");
}

bool
ec2_modify_vpc_endpoint(struct call *call,
                        const struct ec2_modify_vpc_endpoint_request *in,
                        struct ec2_modify_vpc_endpoint_result *out, struct err *err)
{
    const struct row_vpc_endpoint *row;
    const struct row_vpc *vpc;
    if (!FIND(call, kind_endpoint, in->vpc_endpoint_id, &row, err) ||
        !FIND(call, kind_vpc, row->vpc_id, &vpc, err) ||
        !check_rest(in->add_route_table_ids.count + in->remove_route_table_ids.count,
                    in->ip_address_type, in->dns_options, err) ||
        !endpoint_policy_check(in->policy_document, err)) {
        return false;
    }
    struct row_vpc_endpoint next = *row;
    next.policy = in->reset_policy      ? FULL_POLICY
                  : in->policy_document ? in->policy_document
                                        : row->policy;
    next.private_dns =
        in->has_private_dns_enabled ? in->private_dns_enabled : row->private_dns;
    out->return_ = out->has_return_ = true;
    return check_private_dns(call, vpc, &next, err) &&
           add_enis(call, &next, NULL, 0, err) /* Lists of its own. */ &&
           remove_enis(call, &next, in->remove_subnet_ids.items,
                       in->remove_subnet_ids.count, err) &&
           add_enis(call, &next, in->add_subnet_ids.items, in->add_subnet_ids.count,
                    err) &&
           change_groups(call, in, &next, err) && dry_run_check(in->dry_run, err) &&
           row_put(call->txn, &row_vpc_endpoint_type, &next, err) &&
           vpc_touch(call, row->vpc_id, err);
}

static bool
endpoint_delete(struct call *call, const char *id, struct err *err)
{
    const struct row_vpc_endpoint *row;
    if (!FIND(call, kind_endpoint, id, &row, err)) {
        return false;
    }
    for (size_t i = 0; i < row->eni_ids.count; i++) {
        if (!remove_eni(call, row, i, err)) {
            return false;
        }
    }
    return object_delete(call, &kind_endpoint, row, err) &&
           vpc_touch(call, row->vpc_id, err);
}

bool
ec2_delete_vpc_endpoints(struct call *call,
                         const struct ec2_delete_vpc_endpoints_request *in,
                         struct ec2_delete_vpc_endpoints_result *out, struct err *err)
{
    if (!dry_run_check(in->dry_run, err)) {
        return false;
    }
    out->unsuccessful.items = ARENA_ARRAY(call->arena, in->vpc_endpoint_ids.count,
                                          struct ec2_unsuccessful_item);
    for (size_t i = 0; i < in->vpc_endpoint_ids.count; i++) {
        const char *id = in->vpc_endpoint_ids.items[i];
        if (endpoint_delete(call, id, err)) {
            continue;
        }
        if (err->code != kind_endpoint.not_found) {
            return false;
        }
        /* AWS goes on, and says which were not there. */
        struct ec2_unsuccessful_item *item =
            &out->unsuccessful.items[out->unsuccessful.count++];
        item->resource_id = id;
        item->error = ARENA_NEW(call->arena, struct ec2_unsuccessful_item_error);
        item->error->code = err_info(err->code)->aws;
        item->error->message = arena_strdup(call->arena, err->msg);
        err_clear(err);
    }
    return true;
}
