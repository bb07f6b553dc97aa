/* rule_read.c - the rules that a request writes as permissions: checked and canonical. */
#include "service/ec2/groups.h"

#define TEXT_MAX_LEN 255

#define ICMP "icmp"
#define ICMP6 "icmpv6"

/* ---- protocol and ports ---- */

static const struct {
    const char *name, *number;
} protocols[] = {{"tcp", "6"}, {"udp", "17"}, {ICMP, "1"}, {ICMP6, "58"}, {"-1", "-1"}};

static bool
protocol_read(struct call *call, const char *text, const char **out, struct err *err)
{
    if (!need(text, "ipProtocol", err)) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(protocols); i++) {
        if (strcasecmp(text, protocols[i].name) == 0 ||
            str_eq(text, protocols[i].number)) {
            *out = protocols[i].name;
            return true;
        }
    }
    char *end;
    long number = strtol(text, &end, 10);
    if (*end || end == text || number < 0 || number > 255) {
        return strcasecmp(text, "all") == 0
                   ? (*out = "-1", true)
                   : err_set(err, ERR_INVALID_PARAMETER_VALUE,
                             "Invalid value '%.40s' for IP protocol. Unknown protocol.",
                             text);
    }
    *out = arena_printf(call->arena, "%ld", number);
    return true;
}

static bool
ports_read(struct row_security_group_rule *rule, bool has_from, int64_t from,
           bool has_to, int64_t to, struct err *err)
{
    bool icmp = str_eq(rule->protocol, ICMP) || str_eq(rule->protocol, ICMP6);
    bool ported = str_eq(rule->protocol, "tcp") || str_eq(rule->protocol, "udp");
    rule->from_port = rule->to_port = -1;
    if (icmp) {
        rule->from_port = has_from ? from : -1;
        rule->to_port = has_to ? to : -1;
        return (rule->from_port >= -1 && rule->from_port <= 255 &&
                rule->to_port >= -1 && rule->to_port <= 255) ||
               err_set(err, ERR_PERMISSION_MALFORMED,
                       "ICMP code (%" PRId64 ") out of range", rule->to_port);
    }
    if (!ported) {
        return true; /* AWS takes no ports for the others: all. */
    }
    if (!has_from || !has_to) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Invalid value 'Must specify both from and to ports with "
                       "TCP/UDP.' for portRange.");
    }
    if (from == -1 && to == -1) {
        from = 0;
        to = UINT16_MAX;
    }
    if (from < 0 || to > UINT16_MAX || from > to) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Invalid value '%" PRId64 "-%" PRId64
                       "' for portRange. Must be between 0 and 65535, low to high.",
                       from, to);
    }
    rule->from_port = from;
    rule->to_port = to;
    return true;
}

/* ---- sources ---- */

/* A group of the same VPC, or of one that a peering joins with it. */
static bool
peer_check(struct call *call, const struct row_security_group *group, const char *id,
           const char *account, struct err *err)
{
    const struct row_security_group key = {.account = account, .id = id};
    const void *row;
    bool joined = false;
    if (!ids_check("sg", &id, 1, ERR_GROUP_ID_MALFORMED, err) ||
        !row_get(call->txn, &row_security_group_type, &key, &row, err)) {
        return false;
    }
    const struct row_security_group *peer = row;
    if (!peer || !str_eq(peer->region, call->region)) {
        return err_no_such(err, ERR_GROUP_NOT_FOUND, "security group", id);
    }
    if (str_eq(peer->vpc_id, group->vpc_id)) {
        return true;
    }
    return vpcs_peered(call, group->vpc_id, peer->vpc_id, &joined, err) &&
           (joined || err_set(err, ERR_GROUP_NOT_FOUND,
                              "You have specified two resources that belong to "
                              "different networks."));
}

static bool
peer_read(struct call *call, const struct row_security_group *group,
          const struct ec2_user_id_group_pair *pair,
          struct row_security_group_rule *rule, struct err *err)
{
    const struct row_security_group *named;
    rule->peer_account = str_empty(pair->user_id) ? call->account : pair->user_id;
    rule->peer_group = pair->group_id;
    if (str_empty(pair->group_id)) {
        if (!group_find(call, NULL, pair->group_name, &named, err)) {
            return false;
        }
        rule->peer_group = named->id;
    }
    return peer_check(call, group, rule->peer_group, rule->peer_account, err);
}

bool
group_text_check(const char *text, const char *what, struct err *err)
{
    bool ascii = true;
    for (const char *p = text ? text : ""; *p; p++) {
        ascii = ascii && *p >= ' ' && *p < 0x7f;
    }
    if (!ascii) {
        return err_set(
            err, ERR_INVALID_PARAMETER_VALUE,
            "Value (%.80s) for parameter %s is invalid. Character sets beyond "
            "ASCII are not supported.",
            text, what);
    }
    return !text || strlen(text) <= TEXT_MAX_LEN ||
           err_set(err, ERR_INVALID_PARAMETER_VALUE,
                   "Value for parameter %s is invalid. Character count must be %d at "
                   "most.",
                   what, TEXT_MAX_LEN);
}

static bool
description_read(const char *text, const char **out, struct err *err)
{
    *out = text;
    return group_text_check(text, "description", err);
}

static bool
list_read(struct call *call, const char *id, struct row_security_group_rule *rule,
          struct err *err)
{
    const struct row_prefix_list *list;
    rule->prefix_list_id = id;
    return FIND(call, kind_prefix_list, id, &list, err);
}

/* ---- permissions ---- */

/* Adds one rule for each source of a permission. */
static bool
permission_read(struct call *call, const struct row_security_group *group,
                const struct row_security_group_rule *base,
                const struct ec2_ip_permission *p, struct rules *out, struct err *err)
{
    for (size_t i = 0; i < p->ip_ranges.count; i++) {
        struct row_security_group_rule *rule = &out->items[out->count++];
        *rule = *base;
        if (!block_canonical(call, p->ip_ranges.items[i].cidr_ip, "cidrIp",
                             &rule->cidr4, err) ||
            !description_read(p->ip_ranges.items[i].description, &rule->description,
                              err)) {
            return false;
        }
    }
    for (size_t i = 0; i < p->ipv6_ranges.count; i++) {
        struct row_security_group_rule *rule = &out->items[out->count++];
        *rule = *base;
        if (!block6_canonical(call, p->ipv6_ranges.items[i].cidr_ipv6, "cidrIpv6",
                              &rule->cidr6, err) ||
            !description_read(p->ipv6_ranges.items[i].description, &rule->description,
                              err)) {
            return false;
        }
    }
    for (size_t i = 0; i < p->prefix_list_ids.count; i++) {
        struct row_security_group_rule *rule = &out->items[out->count++];
        *rule = *base;
        if (!list_read(call, p->prefix_list_ids.items[i].prefix_list_id, rule, err) ||
            !description_read(p->prefix_list_ids.items[i].description,
                              &rule->description, err)) {
            return false;
        }
    }
    for (size_t i = 0; i < p->user_id_group_pairs.count; i++) {
        struct row_security_group_rule *rule = &out->items[out->count++];
        *rule = *base;
        if (!peer_read(call, group, &p->user_id_group_pairs.items[i], rule, err) ||
            !description_read(p->user_id_group_pairs.items[i].description,
                              &rule->description, err)) {
            return false;
        }
    }
    return true;
}

static size_t
sources(const struct ec2_ip_permission *p)
{
    return p->ip_ranges.count + p->ipv6_ranges.count + p->prefix_list_ids.count +
           p->user_id_group_pairs.count;
}

/* The flat members as one permission. */
static const struct ec2_ip_permission *
flat_out(struct call *call, const struct flat_permission *flat)
{
    struct ec2_ip_permission *p = ARENA_NEW(call->arena, struct ec2_ip_permission);
    struct ec2_ip_range *range = ARENA_NEW(call->arena, struct ec2_ip_range);
    struct ec2_user_id_group_pair *pair =
        ARENA_NEW(call->arena, struct ec2_user_id_group_pair);
    range->cidr_ip = flat->cidr;
    pair->group_name = flat->group_name;
    pair->user_id = flat->group_owner;
    *p = (struct ec2_ip_permission){
        .ip_protocol = flat->protocol     ? flat->protocol
                       : flat->group_name ? "-1"
                                          : NULL,
        .has_from_port = flat->has_from,
        .from_port = flat->from,
        .has_to_port = flat->has_to,
        .to_port = flat->to,
        .ip_ranges = {range, flat->cidr != NULL},
        .user_id_group_pairs = {pair, flat->group_name != NULL},
    };
    return p;
}

static bool
check_repeats(const struct rules *rules, struct err *err)
{
    for (size_t i = 0; i < rules->count; i++) {
        for (size_t k = 0; k < i; k++) {
            if (rule_same(&rules->items[i], &rules->items[k])) {
                return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                               "The same permission must not appear multiple times");
            }
        }
    }
    return true;
}

bool
rules_read(struct call *call, const struct row_security_group *group, bool egress,
           const struct ec2_ip_permission *items, size_t count,
           const struct flat_permission *flat, struct rules *out, struct err *err)
{
    size_t room = 0;
    if (!count && (flat->protocol || flat->cidr || flat->group_name)) {
        items = flat_out(call, flat);
        count = 1;
    }
    for (size_t i = 0; i < count; i++) {
        room += sources(&items[i]);
    }
    if (room == 0 || room > RULES_MAX) {
        return err_set(err, room ? ERR_RULES_LIMIT : ERR_MISSING_PARAMETER,
                       room ? "The maximum number of rules per security group has been "
                              "reached."
                            : "Missing source specification: include source security "
                              "group or CIDR information");
    }
    *out = (struct rules){
        .items = ARENA_ARRAY(call->arena, room, struct row_security_group_rule)};
    for (size_t i = 0; i < count; i++) {
        const struct ec2_ip_permission *p = &items[i];
        struct row_security_group_rule base = {.account = call->account,
                                               .group_id = group->id,
                                               .egress = egress,
                                               .region = call->region,
                                               .vpc_id = group->vpc_id};
        if (!protocol_read(call, p->ip_protocol, &base.protocol, err) ||
            !ports_read(&base, p->has_from_port, p->from_port, p->has_to_port,
                        p->to_port, err) ||
            !permission_read(call, group, &base, p, out, err)) {
            return false;
        }
    }
    return check_repeats(out, err);
}

bool
rule_read_one(struct call *call, const struct row_security_group *group,
              const struct ec2_security_group_rule_request *in,
              struct row_security_group_rule *rule, struct err *err)
{
    int count = !!in->cidr_ipv4 + !!in->cidr_ipv6 + !!in->prefix_list_id +
                !!in->referenced_group_id;
    if (count != 1) {
        return err_set(
            err, count ? ERR_INVALID_PARAMETER_COMBINATION : ERR_MISSING_PARAMETER,
            "A rule needs exactly one source or destination.");
    }
    rule->cidr4 = rule->cidr6 = rule->prefix_list_id = NULL;
    rule->peer_group = rule->peer_account = NULL;
    if (!protocol_read(call, in->ip_protocol, &rule->protocol, err) ||
        !ports_read(rule, in->has_from_port, in->from_port, in->has_to_port,
                    in->to_port, err) ||
        !description_read(in->description, &rule->description, err)) {
        return false;
    }
    const struct ec2_user_id_group_pair pair = {.group_id = in->referenced_group_id};
    return in->cidr_ipv4
               ? block_canonical(call, in->cidr_ipv4, "cidrIpv4", &rule->cidr4, err)
           : in->cidr_ipv6
               ? block6_canonical(call, in->cidr_ipv6, "cidrIpv6", &rule->cidr6, err)
           : in->prefix_list_id ? list_read(call, in->prefix_list_id, rule, err)
                                : peer_read(call, group, &pair, rule, err);
}

bool
rule_same(const struct row_security_group_rule *a,
          const struct row_security_group_rule *b)
{
    return a->egress == b->egress && a->from_port == b->from_port &&
           a->to_port == b->to_port && str_eq(a->protocol, b->protocol) &&
           str_eq(text_or_empty(a->cidr4), text_or_empty(b->cidr4)) &&
           str_eq(text_or_empty(a->cidr6), text_or_empty(b->cidr6)) &&
           str_eq(text_or_empty(a->prefix_list_id), text_or_empty(b->prefix_list_id)) &&
           str_eq(text_or_empty(a->peer_group), text_or_empty(b->peer_group));
}
