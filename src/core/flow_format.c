/* flow_format.c - see flow_format.h. */
#include "core/flow_format.h"
#include <ctype.h>

static void
put_text(struct buf *out, const char *text)
{
    buf_puts(out, str_empty(text) ? "-" : text);
}

static void
put_int(struct buf *out, int64_t value)
{
    buf_printf(out, "%" PRId64, value);
}

#define TEXT(name, member) \
    static void name(struct buf *out, const struct flow_values *v) \
    { \
        put_text(out, v->member); \
    }
#define NUMBER(name, member) \
    static void name(struct buf *out, const struct flow_values *v) \
    { \
        put_int(out, v->member); \
    }

TEXT(put_account, account)
TEXT(put_interface, interface)
TEXT(put_vpc, vpc)
TEXT(put_subnet, subnet)
TEXT(put_instance, instance)
TEXT(put_region, region)
TEXT(put_zone, zone_id)
TEXT(put_status, status)
TEXT(put_from, from)
TEXT(put_to, to)
TEXT(put_type, is6 ? "IPv6" : "IPv4")
TEXT(put_way, egress ? "egress" : "ingress")
TEXT(put_action, refused ? "REJECT" : "ACCEPT")
NUMBER(put_from_port, from_port)
NUMBER(put_to_port, to_port)
NUMBER(put_protocol, protocol)
NUMBER(put_packets, packets)
NUMBER(put_bytes, bytes)
NUMBER(put_start, start_s)
NUMBER(put_end, end_s)

static const struct field {
    const char *name;
    int version; /* Of records that have it. */
    bool always; /* Of an interval without traffic too. */
    void (*put)(struct buf *out,
                const struct flow_values *v); /* NULL: not known here. */
} fields[] = {
    {"version", 2, true, NULL},
    {"account-id", 2, true, put_account},
    {"interface-id", 2, true, put_interface},
    {"srcaddr", 2, false, put_from},
    {"dstaddr", 2, false, put_to},
    {"srcport", 2, false, put_from_port},
    {"dstport", 2, false, put_to_port},
    {"protocol", 2, false, put_protocol},
    {"packets", 2, false, put_packets},
    {"bytes", 2, false, put_bytes},
    {"start", 2, true, put_start},
    {"end", 2, true, put_end},
    {"action", 2, false, put_action},
    {"log-status", 2, true, put_status},
    {"vpc-id", 3, true, put_vpc},
    {"subnet-id", 3, true, put_subnet},
    {"instance-id", 3, true, put_instance},
    {"tcp-flags", 3, false, NULL},
    {"type", 3, false, put_type},
    {"pkt-srcaddr", 3, false, put_from},
    {"pkt-dstaddr", 3, false, put_to},
    {"region", 4, true, put_region},
    {"az-id", 4, true, put_zone},
    {"sublocation-type", 4, true, NULL},
    {"sublocation-id", 4, true, NULL},
    {"pkt-src-aws-service", 5, false, NULL},
    {"pkt-dst-aws-service", 5, false, NULL},
    {"flow-direction", 5, false, put_way},
    {"traffic-path", 5, false, NULL},
    {"ecs-cluster-arn", 7, true, NULL},
    {"ecs-cluster-name", 7, true, NULL},
    {"ecs-container-instance-arn", 7, true, NULL},
    {"ecs-container-instance-id", 7, true, NULL},
    {"ecs-container-id", 7, true, NULL},
    {"ecs-second-container-id", 7, true, NULL},
    {"ecs-service-name", 7, true, NULL},
    {"ecs-task-definition-arn", 7, true, NULL},
    {"ecs-task-arn", 7, true, NULL},
    {"ecs-task-id", 7, true, NULL},
    {"reject-reason", 8, false, NULL},
};

/* The next "${name}" of 'at', which is moved behind it; false at the end. '*out' NULL: it is no
 * field; then 'word' says what stood there. */
static bool
next_field(const char **at, const struct field **out, char word[64])
{
    const char *p = *at;
    while (isspace((unsigned char)*p) || *p == ',') {
        p++;
    }
    if (*p == '\0') {
        return false;
    }
    size_t len = strcspn(p, " \t\n,");
    (void)snprintf(word, 64, "%.*s", (int)MIN(len, (size_t)63), p);
    *at = p + len;
    *out = NULL;
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        size_t name = strlen(fields[i].name);
        if (len == name + 3 && p[0] == '$' && p[1] == '{' && p[len - 1] == '}' &&
            memcmp(p + 2, fields[i].name, name) == 0) {
            *out = &fields[i];
        }
    }
    return true;
}

bool
flow_format_ok(const char *format, char bad[64])
{
    const struct field *field;
    char word[64];
    size_t count = 0;
    while (next_field(&format, &field, word)) {
        count++;
        if (!field) {
            memcpy(bad, word, sizeof word);
            return false;
        }
    }
    (void)snprintf(bad, 64, "%s", "");
    return count > 0;
}

void
flow_format_line(const char *format, const struct flow_values *v, struct buf *out)
{
    const struct field *field;
    char word[64];
    int version = 2;
    bool ok = str_eq(v->status, "OK");
    for (const char *at = format; next_field(&at, &field, word);) {
        version = field ? MAX(version, field->version) : version;
    }
    const char *before = "";
    for (const char *at = format; next_field(&at, &field, word);) {
        buf_puts(out, before);
        before = " ";
        if (field == &fields[0]) {
            put_int(out, version);
        } else if (!field || !field->put || (!ok && !field->always)) {
            put_text(out, NULL);
        } else {
            field->put(out, v);
        }
    }
}

void
flow_format_names(const char *format, struct buf *out)
{
    const struct field *field;
    char word[64];
    const char *before = "";
    while (next_field(&format, &field, word)) {
        buf_printf(out, "%s%s", before, field ? field->name : "-");
        before = " ";
    }
}
