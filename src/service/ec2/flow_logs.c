/* flow_logs.c - flow logs of VPCs, subnets and interfaces. */
#include "core/flow_format.h"
#include "service/ec2/network.h"

#define DEFAULT_INTERVAL_S 600

/* ---- shown ---- */

static struct ec2_flow_log
log_out(struct call *call, const struct row_flow_log *row, struct tag_set tags)
{
    return (struct ec2_flow_log){
        .flow_log_id = row->id,
        .flow_log_status = "ACTIVE",
        .deliver_logs_status = "SUCCESS",
        .resource_id = row->resource_id,
        .traffic_type = row->traffic,
        .log_destination_type = row->destination_type,
        .log_destination = row->destination,
        .log_group_name = row->log_group,
        .log_format = row->format,
        .deliver_logs_permission_arn = row->role,
        HAS(creation_time, row->created_at),
        HAS(max_aggregation_interval, row->interval_s),
        .tags = {tags_out(call, tags), tags.count},
    };
}

FILTER_TEXT(log_id, struct ec2_flow_log, flow_log_id)
FILTER_TEXT(log_resource, struct ec2_flow_log, resource_id)
FILTER_TEXT(log_traffic, struct ec2_flow_log, traffic_type)
FILTER_TEXT(log_destination, struct ec2_flow_log, log_destination_type)
FILTER_TEXT(log_group, struct ec2_flow_log, log_group_name)
FILTER_TEXT(log_status, struct ec2_flow_log, deliver_logs_status)

static const struct filter_def log_filters[] = {
    {"deliver-log-status", log_status_values},
    {"flow-log-id", log_id_values},
    {"log-destination-type", log_destination_values},
    {"log-group-name", log_group_values},
    {"resource-id", log_resource_values},
    {"traffic-type", log_traffic_values},
};

bool
ec2_describe_flow_logs(struct call *call,
                       const struct ec2_describe_flow_logs_request *in,
                       struct ec2_describe_flow_logs_result *out, struct err *err)
{
    const struct row_flow_log prefix = {.account = call->account,
                                        .region = call->region};
    const struct listing_ask ask = LISTING_ASK(in, flow_log_ids, filter, "flowLogIds",
                                               kind_flow_log, log_filters, &prefix);
    struct listing listing;
    if (!listing_open(call, &ask, &listing, err)) {
        return false;
    }
    struct ec2_flow_log *items =
        ARENA_ARRAY(call->arena, listing.rows.count, struct ec2_flow_log);
    size_t count = 0;
    for (size_t i = 0; i < listing.rows.count; i++) {
        const struct row_flow_log *row = listing.rows.rows[i];
        items[count] = log_out(call, row, tags_of(&listing.tags, row->id));
        count += listing_accepts(&listing, row->id, &items[count]);
    }
    out->flow_logs.items = items;
    out->flow_logs.count = count;
    return listing_close(call, &listing, &out->next_token, err);
}

/* ---- made ---- */

static const struct {
    const char *type;
    const struct kind *kind;
} resources[] = {
    {"VPC", &kind_vpc}, {"Subnet", &kind_subnet}, {"NetworkInterface", &kind_eni}};

static const char *
vpc_of(const struct kind *kind, const void *resource)
{
    return kind == &kind_vpc      ? ((const struct row_vpc *)resource)->id
           : kind == &kind_subnet ? ((const struct row_subnet *)resource)->vpc_id
                                  : ((const struct row_eni *)resource)->vpc_id;
}

/* The request's one log, but for id and resource. */
static bool
log_read(struct call *call, const struct ec2_create_flow_logs_request *in,
         struct row_flow_log *out, struct err *err)
{
    const char *type =
        in->log_destination_type ? in->log_destination_type : "cloud-watch-logs";
    *out = (struct row_flow_log){
        .account = call->account,
        .region = call->region,
        .traffic = in->traffic_type ? in->traffic_type : "ALL",
        .destination_type = type,
        .destination = in->log_destination,
        .log_group = in->log_group_name,
        .format = in->log_format ? in->log_format : FLOW_FORMAT_DEFAULT,
        .interval_s = in->has_max_aggregation_interval ? in->max_aggregation_interval
                                                       : DEFAULT_INTERVAL_S,
        .role = in->deliver_logs_permission_arn,
        .created_at = call->now_ns,
    };
    char bad[64];
    if (strlen(out->format) > FLOW_FORMAT_MAX || !flow_format_ok(out->format, bad)) {
        return err_set(err, ERR_INVALID_PARAMETER, "Unknown fields provided: %.63s",
                       bad);
    }
    if (str_eq(type, "kinesis-data-firehose")) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "Flow logs go to log groups and to buckets only.");
    }
    if (str_eq(type, "cloud-watch-logs") && !out->log_group && !out->destination) {
        return need(NULL, "logGroupName", err);
    }
    if (str_eq(type, "s3") && !out->destination) {
        return need(NULL, "logDestination", err);
    }
    return out->interval_s == 60 || out->interval_s == DEFAULT_INTERVAL_S ||
           err_set(err, ERR_INVALID_PARAMETER_VALUE,
                   "Invalid max aggregation interval: it is 60 or 600 seconds.");
}

static bool
check_single(struct call *call, const struct row_flow_log *log, struct err *err)
{
    struct row_list list;
    if (!rows_by(call, &row_flow_log_type, "by_resource", 2, log, &list, err)) {
        return false;
    }
    if (list.count >= FLOW_LOGS_MAX) {
        return err_set(err, ERR_FLOW_LOG_LIMIT,
                       "The resource '%s' has %d flow logs, as many as it may have.",
                       log->resource_id, FLOW_LOGS_MAX);
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_flow_log *old = list.rows[i];
        if (str_eq(old->traffic, log->traffic) &&
            str_eq(text_or_empty(old->destination), text_or_empty(log->destination)) &&
            str_eq(text_or_empty(old->log_group), text_or_empty(log->log_group))) {
            return err_set(err, ERR_FLOW_LOG_EXISTS,
                           "Error. There is an existing Flow Log with the same "
                           "configuration and log destination.");
        }
    }
    return true;
}

bool
ec2_create_flow_logs(struct call *call, const struct ec2_create_flow_logs_request *in,
                     struct ec2_create_flow_logs_result *out, struct err *err)
{
    const char *digest = request_digest(call, &ec2_create_flow_logs_request_desc, in);
    const struct kind *kind = NULL;
    const char *before;
    const void *resource;
    struct row_flow_log log;
    out->client_token = in->client_token;
    if (!token_get(call, in->client_token, digest, &before, err)) {
        return false;
    }
    if (before) {
        out->flow_log_ids.items = ids_split(call, before, &out->flow_log_ids.count);
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(resources); i++) {
        kind = str_eq(resources[i].type, in->resource_type) ? resources[i].kind : kind;
    }
    if (!kind || !in->resource_ids.count) {
        return err_set(
            err, kind ? ERR_MISSING_PARAMETER : ERR_INVALID_PARAMETER_VALUE,
            "The request must name resources, of a type that has flow logs.");
    }
    if (!log_read(call, in, &log, err) ||
        !new_tags_check(&kind_flow_log, in->tag_specifications.items,
                        in->tag_specifications.count, err)) {
        return false;
    }
    out->flow_log_ids.items =
        ARENA_ARRAY(call->arena, in->resource_ids.count, const char *);
    for (size_t i = 0; i < in->resource_ids.count; i++) {
        log.id = id_new(call->arena, call->rng, "fl");
        log.resource_id = in->resource_ids.items[i];
        if (!FIND(call, *kind, log.resource_id, &resource, err)) {
            return false;
        }
        log.vpc_id = vpc_of(kind, resource);
        if (!check_single(call, &log, err) ||
            !row_insert(call->txn, &row_flow_log_type, &log, err) ||
            !vpc_touch(call, log.vpc_id, err) ||
            !new_tags_put(call, &kind_flow_log, in->tag_specifications.items,
                          in->tag_specifications.count, log.id, err)) {
            return false;
        }
        out->flow_log_ids.items[out->flow_log_ids.count++] = log.id;
    }
    return dry_run_check(in->dry_run, err) && /* All is undone with it. */
           token_put(call, in->client_token, digest,
                     ids_join(call, out->flow_log_ids.items, out->flow_log_ids.count),
                     err);
}

/* ---- deleted ---- */

bool
ec2_delete_flow_logs(struct call *call, const struct ec2_delete_flow_logs_request *in,
                     struct ec2_delete_flow_logs_result *out, struct err *err)
{
    const struct row_flow_log *log;
    (void)out; /* All are deleted, or none. */
    if (!dry_run_check(in->dry_run, err)) {
        return false;
    }
    for (size_t i = 0; i < in->flow_log_ids.count; i++) {
        if (!FIND(call, kind_flow_log, in->flow_log_ids.items[i], &log, err) ||
            !object_delete(call, &kind_flow_log, log, err)) {
            return false;
        }
    }
    return true;
}

bool
flow_logs_end(struct call *call, const char *resource_id, struct err *err)
{
    const struct row_flow_log prefix = {.account = call->account,
                                        .resource_id = resource_id};
    struct row_list list;
    if (!rows_by(call, &row_flow_log_type, "by_resource", 2, &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (!object_delete(call, &kind_flow_log, list.rows[i], err)) {
            return false;
        }
    }
    return true;
}
