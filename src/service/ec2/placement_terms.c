/* placement_terms.c - Placement, as requests and instances name it: group, partition,
 * tenancy, dedicated host. */
#include "service/ec2/network.h"
#include "service/ec2/placement_load.h"

static bool
err_no_group(struct err *err, const char *name)
{
    return err_set(err, ERR_PLACEMENT_GROUP, "The Placement Group '%.255s' is unknown.",
                   name);
}

static bool
group_named(struct call *call, const char *name, const struct row_placement_group **out,
            struct err *err)
{
    const struct row_placement_group prefix = {
        .account = call->account, .region = call->region, .name = name};
    struct row_list list;
    if (!rows_by(call, &row_placement_group_type, "by_name", 3, &prefix, &list, err)) {
        return false;
    }
    *out = list.count ? list.rows[0] : NULL;
    return list.count || err_no_group(err, name);
}

bool
placement_group_find(struct call *call, const char *name, const char *id,
                     const struct row_placement_group **out, struct err *err)
{
    if (!str_empty(name) && !str_empty(id)) {
        return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                       "GroupName and GroupId may not be specified together");
    }
    if (!str_empty(name)) {
        return group_named(call, name, out, err);
    }
    const struct row_placement_group key = {.account = call->account, .id = id};
    const void *row;
    if (!ids_check("pg", &id, 1, ERR_PLACEMENT_GROUP_ID, err) ||
        !row_get(call->txn, &row_placement_group_type, &key, &row, err)) {
        return false;
    }
    *out = row;
    return (row && str_eq((*out)->region, call->region)) || err_no_group(err, id);
}

static bool
read_group(struct call *call, const struct ec2_placement *in, struct place_terms *out,
           struct err *err)
{
    bool grouped = !str_empty(in->group_name) || !str_empty(in->group_id);
    if (grouped &&
        !placement_group_find(call, in->group_name, in->group_id, &out->group, err)) {
        return false;
    }
    if (!in->has_partition_number) {
        return true;
    }
    if (!out->group || !str_eq(out->group->strategy, "partition")) {
        return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                       "PartitionNumber may be specified only with a placement group "
                       "whose strategy is partition");
    }
    out->partition = in->partition_number;
    return (out->partition >= 1 && out->partition <= out->group->partition_count) ||
           err_set(err, ERR_INVALID_PARAMETER_VALUE,
                   "Value (%" PRId64 ") for parameter PartitionNumber is invalid: "
                   "placement group '%s' has partitions 1 to %" PRId64 ".",
                   out->partition, out->group->name, out->group->partition_count);
}

/* A VPC may be for dedicated instances only. */
static bool
default_tenancy(struct call *call, const char *vpc_id, const char **out,
                struct err *err)
{
    const struct row_vpc key = {.account = call->account, .id = vpc_id};
    const void *row;
    if (!row_get(call->txn, &row_vpc_type, &key, &row, err)) {
        return false;
    }
    const struct row_vpc *vpc = row;
    *out = vpc && str_eq(vpc->tenancy, "dedicated") ? "dedicated" : "default";
    return true;
}

static bool
read_host(struct call *call, const struct ec2_placement *in, struct place_terms *out,
          struct err *err)
{
    const struct row_dedicated_host *host;
    bool on_host = str_eq(out->tenancy, "host");
    bool affine = str_eq(in->affinity, "host");
    if (!str_empty(in->affinity) && !affine && !str_eq(in->affinity, "default")) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Invalid value '%.40s' for Affinity.", in->affinity);
    }
    if ((affine || !str_empty(in->host_id)) && !on_host) {
        return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                       "HostId and Affinity require a tenancy of host");
    }
    if (on_host && out->group) {
        return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                       "Instances on a Dedicated Host may not be in a placement group");
    }
    out->affinity = affine ? "host" : NULL;
    if (str_empty(in->host_id)) {
        return true;
    }
    if (!FIND(call, kind_host, in->host_id, &host, err)) {
        return false;
    }
    out->host_id = host->id;
    return !host->released_at ||
           err_no_such(err, ERR_HOST_NOT_FOUND, "Dedicated host ID", in->host_id);
}

bool
place_terms_read(struct call *call, const struct ec2_placement *in, const char *vpc_id,
                 struct place_terms *out, struct err *err)
{
    *out = (struct place_terms){0};
    if (!default_tenancy(call, vpc_id, &out->tenancy, err) || !in) {
        return !err->code;
    }
    if (!str_empty(in->host_resource_group_arn) || !str_empty(in->spread_domain)) {
        return err_set(err, ERR_UNSUPPORTED,
                       "The requested configuration is currently not supported: host "
                       "resource groups and spread domains.");
    }
    if (!str_empty(in->tenancy) && !str_eq(in->tenancy, "default")) {
        out->tenancy = in->tenancy;
    }
    return read_group(call, in, out, err) && read_host(call, in, out, err);
}
