/* flow_format.h - a flow log's records in AWS's words.
 *
 * Purpose:  which fields a format may name, and one line of them. '-' stands for what does
 *           not apply, or is not known here: tcp-flags, sublocation-*, pkt-*-aws-service,
 *           traffic-path, reject-reason and the fields of ECS.
 * Place:    core/; pure. Threads: any.
 * Source:   "Flow log records" in the VPC guide of AWS. */
#pragma once
#include "base/buf.h"

#define FLOW_FORMAT_DEFAULT \
    "${version} ${account-id} ${interface-id} ${srcaddr} ${dstaddr} ${srcport} " \
    "${dstport} ${protocol} ${packets} ${bytes} ${start} ${end} ${action} " \
    "${log-status}"
#define FLOW_FORMAT_MAX 2048

/* What a line is made of. Strings NULL or empty: not known. */
struct flow_values {
    const char *account, *interface, *vpc, *subnet, *instance, *region, *zone_id;
    const char *status; /* OK, NODATA, SKIPDATA; the rest below is of OK only. */
    const char *from, *to;
    int64_t from_port, to_port, protocol, packets, bytes;
    bool egress, refused, is6;
    int64_t start_s, end_s; /* Unix seconds. */
};

/* Whether each field is one; else 'bad' names the first that is not. */
MUST_CHECK bool flow_format_ok(const char *format, char bad[64]);
/* One line, without its end. 'format' has been checked. */
void flow_format_line(const char *format, const struct flow_values *v, struct buf *out);
/* The names of its fields, as a file's first line. */
void flow_format_names(const char *format, struct buf *out);
