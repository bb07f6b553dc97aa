/* groups_describe.c - DescribeSecurityGroups and DescribeSecurityGroupRules. */
#include "service/ec2/groups.h"

/* ---- permissions: rules gathered by protocol and ports ---- */

static bool
any_protocol(const struct row_security_group_rule *rule)
{
    return str_eq(rule->protocol, "-1");
}

/* Whether a rule belongs into a permission. */
static bool
permission_fits(const struct ec2_ip_permission *p,
                const struct row_security_group_rule *rule)
{
    return str_eq(p->ip_protocol, rule->protocol) &&
           (any_protocol(rule) ||
            (p->from_port == rule->from_port && p->to_port == rule->to_port));
}

/* An empty permission of the rule's protocol and ports. AWS shows each of its lists, the
 * empty ones too. */
static struct ec2_ip_permission
permission_make(struct call *call, size_t room,
                const struct row_security_group_rule *rule)
{
    struct arena *arena = call->arena;
    bool ports = !any_protocol(rule);
    return (struct ec2_ip_permission){
        .ip_protocol = rule->protocol,
        .from_port = rule->from_port,
        .has_from_port = ports,
        .to_port = rule->to_port,
        .has_to_port = ports,
        .ip_ranges = {ARENA_ARRAY(arena, room, struct ec2_ip_range), 0},
        .ipv6_ranges = {ARENA_ARRAY(arena, room, struct ec2_ipv6_range), 0},
        .prefix_list_ids = {ARENA_ARRAY(arena, room, struct ec2_prefix_list_id), 0},
        .user_id_group_pairs = {ARENA_ARRAY(arena, room, struct ec2_user_id_group_pair),
                                0},
    };
}

static void
permission_add(struct ec2_ip_permission *p, const struct row_security_group_rule *rule)
{
    const char *description = str_empty(rule->description) ? NULL : rule->description;
    if (!str_empty(rule->cidr4)) {
        p->ip_ranges.items[p->ip_ranges.count++] =
            (struct ec2_ip_range){.cidr_ip = rule->cidr4, .description = description};
    } else if (!str_empty(rule->cidr6)) {
        p->ipv6_ranges.items[p->ipv6_ranges.count++] = (struct ec2_ipv6_range){
            .cidr_ipv6 = rule->cidr6, .description = description};
    } else if (!str_empty(rule->prefix_list_id)) {
        p->prefix_list_ids.items[p->prefix_list_ids.count++] =
            (struct ec2_prefix_list_id){.prefix_list_id = rule->prefix_list_id,
                                        .description = description};
    } else if (!str_empty(rule->peer_group)) {
        p->user_id_group_pairs.items[p->user_id_group_pairs.count++] =
            (struct ec2_user_id_group_pair){.group_id = rule->peer_group,
                                            .user_id = rule->peer_account,
                                            .description = description};
    }
}

/* The rules of one direction as permissions; '*out_count' of them. */
static struct ec2_ip_permission *
permissions_out(struct call *call, const struct row_list *rules, bool egress,
                size_t *out_count)
{
    struct ec2_ip_permission *out =
        ARENA_ARRAY(call->arena, rules->count, struct ec2_ip_permission);
    size_t count = 0;
    for (size_t i = 0; i < rules->count; i++) {
        const struct row_security_group_rule *rule = rules->rows[i];
        size_t at = 0;
        if (rule->egress != egress) {
            continue;
        }
        while (at < count && !permission_fits(&out[at], rule)) {
            at++;
        }
        if (at == count) {
            out[count++] = permission_make(call, rules->count, rule);
        }
        permission_add(&out[at], rule);
    }
    *out_count = count;
    return out;
}

/* ---- filters over the answer ---- */

FILTER_TEXT(group_description, struct ec2_security_group, description)
FILTER_TEXT(group_id, struct ec2_security_group, group_id)
FILTER_TEXT(group_name, struct ec2_security_group, group_name)
FILTER_TEXT(group_owner, struct ec2_security_group, owner_id)
FILTER_TEXT(group_vpc, struct ec2_security_group, vpc_id)

/* Defines two functions that offer something of each permission, in and out; 'p' is the
 * permission. */
#define PERMISSION(name, offer) \
    static void in_##name##_values(const void *object, struct filter_test *test) \
    { \
        const struct ec2_security_group *g = object; \
        for (size_t i = 0; i < g->ip_permissions.count; i++) { \
            const struct ec2_ip_permission *p = &g->ip_permissions.items[i]; \
            offer; \
        } \
    } \
    static void out_##name##_values(const void *object, struct filter_test *test) \
    { \
        const struct ec2_security_group *g = object; \
        for (size_t i = 0; i < g->ip_permissions_egress.count; i++) { \
            const struct ec2_ip_permission *p = &g->ip_permissions_egress.items[i]; \
            offer; \
        } \
    }

static void
offer_cidrs(struct filter_test *test, const struct ec2_ip_permission *p)
{
    for (size_t i = 0; i < p->ip_ranges.count; i++) {
        filter_offer(test, p->ip_ranges.items[i].cidr_ip);
    }
}

static void
offer_cidrs6(struct filter_test *test, const struct ec2_ip_permission *p)
{
    for (size_t i = 0; i < p->ipv6_ranges.count; i++) {
        filter_offer(test, p->ipv6_ranges.items[i].cidr_ipv6);
    }
}

static void
offer_peers(struct filter_test *test, const struct ec2_ip_permission *p, bool account)
{
    for (size_t i = 0; i < p->user_id_group_pairs.count; i++) {
        const struct ec2_user_id_group_pair *pair = &p->user_id_group_pairs.items[i];
        filter_offer(test, account ? pair->user_id : pair->group_id);
    }
}

static void
offer_port(struct filter_test *test, bool has, int64_t port)
{
    if (has) {
        filter_offer_int(test, port);
    }
}

static void
offer_lists(struct filter_test *test, const struct ec2_ip_permission *p)
{
    for (size_t i = 0; i < p->prefix_list_ids.count; i++) {
        filter_offer(test, p->prefix_list_ids.items[i].prefix_list_id);
    }
}

PERMISSION(list, offer_lists(test, p))
PERMISSION(cidr, offer_cidrs(test, p))
PERMISSION(cidr6, offer_cidrs6(test, p))
PERMISSION(from, offer_port(test, p->has_from_port, p->from_port))
PERMISSION(to, offer_port(test, p->has_to_port, p->to_port))
PERMISSION(protocol, filter_offer(test, p->ip_protocol))
PERMISSION(peer, offer_peers(test, p, false))
PERMISSION(user, offer_peers(test, p, true))

static const struct filter_def group_filters[] = {
    {"description", group_description_values},
    {"egress.ip-permission.cidr", out_cidr_values},
    {"egress.ip-permission.from-port", out_from_values},
    {"egress.ip-permission.group-id", out_peer_values},
    {"egress.ip-permission.group-name", NULL},
    {"egress.ip-permission.ipv6-cidr", out_cidr6_values},
    {"egress.ip-permission.prefix-list-id", out_list_values},
    {"egress.ip-permission.protocol", out_protocol_values},
    {"egress.ip-permission.to-port", out_to_values},
    {"egress.ip-permission.user-id", out_user_values},
    {"group-id", group_id_values},
    {"group-name", group_name_values},
    {"ip-permission.cidr", in_cidr_values},
    {"ip-permission.from-port", in_from_values},
    {"ip-permission.group-id", in_peer_values},
    {"ip-permission.group-name", NULL},
    {"ip-permission.ipv6-cidr", in_cidr6_values},
    {"ip-permission.prefix-list-id", in_list_values},
    {"ip-permission.protocol", in_protocol_values},
    {"ip-permission.to-port", in_to_values},
    {"ip-permission.user-id", in_user_values},
    {"owner-id", group_owner_values},
    {"vpc-id", group_vpc_values},
};

/* ---- groups ---- */

static bool
group_out(struct call *call, const struct row_security_group *row, struct tag_set tags,
          struct ec2_security_group *out, struct err *err)
{
    const struct row_security_group_rule prefix = {.account = row->account,
                                                   .group_id = row->id};
    const struct row_query query = {
        .index = "by_group", .prefix = &prefix, .prefix_fields = 2};
    struct row_list rules;
    size_t in_count, out_count;
    if (!row_list(call->txn, &row_security_group_rule_type, &query, &rules, err)) {
        return false;
    }
    struct ec2_ip_permission *ingress = permissions_out(call, &rules, false, &in_count);
    struct ec2_ip_permission *egress = permissions_out(call, &rules, true, &out_count);
    *out = (struct ec2_security_group){
        .group_id = row->id,
        .group_name = row->name,
        .description = row->description,
        .owner_id = row->account,
        .vpc_id = row->vpc_id,
        .ip_permissions = {ingress, in_count},
        .ip_permissions_egress = {egress, out_count},
        .tags = {tags_out(call, tags), tags.count},
    };
    return true;
}

/* Names mean groups of the default VPC alone. */
static bool
name_taken(struct pick *names, const struct row_security_group *row,
           const char *default_vpc)
{
    return names->count == 0 ||
           (str_eq(row->vpc_id, default_vpc) && pick_take(names, row->name));
}

static bool
names_missing(const struct pick *names, const char *default_vpc, struct err *err)
{
    for (size_t i = 0; i < names->count; i++) {
        if (!names->found[i]) {
            return err_set(err, ERR_GROUP_NOT_FOUND,
                           "The security group '%.255s' does not exist in default VPC "
                           "'%s'",
                           names->ids[i], default_vpc ? default_vpc : "none");
        }
    }
    return true;
}

bool
ec2_describe_security_groups(struct call *call,
                             const struct ec2_describe_security_groups_request *in,
                             struct ec2_describe_security_groups_result *out,
                             struct err *err)
{
    const struct page_ask ask = {.has_max = in->has_max_results,
                                 .max_results = in->max_results,
                                 .min = 5,
                                 .max = 1000,
                                 .next_token = in->next_token,
                                 .ids = in->group_ids.count + in->group_names.count,
                                 .ids_name = "securityGroupIds"};
    const struct row_security_group prefix = {.account = call->account,
                                              .region = call->region};
    struct filters filters;
    struct row_list list;
    struct page page;
    struct pick ids, names;
    struct tags tags;
    const char *default_vpc;
    if (!filters_init(call, group_filters, ARRAY_LEN(group_filters), in->filters.items,
                      in->filters.count, &filters, err) ||
        !ids_check("sg", in->group_ids.items, in->group_ids.count,
                   ERR_GROUP_ID_MALFORMED, err) ||
        !page_init(call, &ask, &filters, &page, err) ||
        !dry_run_check(in->dry_run, err) || !tags_load_all(call, &tags, err) ||
        !default_vpc_find(call, &default_vpc, err) ||
        !rows_of_region(call, &row_security_group_type, &prefix, &list, err)) {
        return false;
    }
    pick_init(call, in->group_ids.items, in->group_ids.count, &ids);
    pick_init(call, in->group_names.items, in->group_names.count, &names);
    struct ec2_security_group *items =
        ARENA_ARRAY(call->arena, list.count, struct ec2_security_group);
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_security_group *row = list.rows[i];
        struct tag_set set = tags_of(&tags, row->id);
        bool named = name_taken(&names, row, default_vpc);
        if (!pick_take(&ids, row->id) || !named) {
            continue;
        }
        if (!group_out(call, row, set, &items[count], err)) {
            return false;
        }
        if (filters_match(&filters, &items[count], set) && page_take(&page, row->id)) {
            count++;
        }
    }
    out->security_groups.items = items;
    out->security_groups.count = count;
    out->next_token = page_next_token(call, &page);
    return pick_check(call, &ids, ERR_GROUP_NOT_FOUND, "security group", err) &&
           names_missing(&names, default_vpc, err);
}

/* ---- rules ---- */

FILTER_TEXT(rule_group, struct ec2_security_group_rule, group_id)
FILTER_TEXT(rule_id, struct ec2_security_group_rule, security_group_rule_id)

static const struct filter_def rule_filters[] = {
    {"group-id", rule_group_values},
    {"security-group-rule-id", rule_id_values},
};

struct ec2_security_group_rule
rule_out(struct call *call, const struct row_security_group_rule *row,
         struct tag_set tags)
{
    struct ec2_security_group_rule out = {
        .security_group_rule_id = row->id,
        .group_id = row->group_id,
        .group_owner_id = row->account,
        HAS(is_egress, row->egress),
        .ip_protocol = row->protocol,
        HAS(from_port, row->from_port),
        HAS(to_port, row->to_port),
        .cidr_ipv4 = str_empty(row->cidr4) ? NULL : row->cidr4,
        .cidr_ipv6 = str_empty(row->cidr6) ? NULL : row->cidr6,
        .prefix_list_id = str_empty(row->prefix_list_id) ? NULL : row->prefix_list_id,
        .description = str_empty(row->description) ? NULL : row->description,
        .tags = {tags_out(call, tags), tags.count},
    };
    if (!str_empty(row->peer_group)) {
        out.referenced_group_info =
            ARENA_NEW(call->arena, struct ec2_referenced_security_group);
        *out.referenced_group_info = (struct ec2_referenced_security_group){
            .group_id = row->peer_group, .user_id = row->peer_account};
    }
    return out;
}

bool
ec2_describe_security_group_rules(
    struct call *call, const struct ec2_describe_security_group_rules_request *in,
    struct ec2_describe_security_group_rules_result *out, struct err *err)
{
    const struct page_ask ask = {.has_max = in->has_max_results,
                                 .max_results = in->max_results,
                                 .min = 5,
                                 .max = 1000,
                                 .next_token = in->next_token,
                                 .ids = in->security_group_rule_ids.count,
                                 .ids_name = "securityGroupRuleIds"};
    const struct row_security_group_rule prefix = {.account = call->account};
    struct filters filters;
    struct row_list list;
    struct page page;
    struct pick ids;
    struct tags tags;
    if (!filters_init(call, rule_filters, ARRAY_LEN(rule_filters), in->filters.items,
                      in->filters.count, &filters, err) ||
        !ids_check("sgr", in->security_group_rule_ids.items,
                   in->security_group_rule_ids.count, ERR_GROUP_RULE_MALFORMED, err) ||
        !page_init(call, &ask, &filters, &page, err) ||
        !dry_run_check(in->dry_run, err) || !tags_load_all(call, &tags, err) ||
        !rows_of_account(call, &row_security_group_rule_type, &prefix, &list, err)) {
        return false;
    }
    pick_init(call, in->security_group_rule_ids.items,
              in->security_group_rule_ids.count, &ids);
    struct ec2_security_group_rule *items =
        ARENA_ARRAY(call->arena, list.count, struct ec2_security_group_rule);
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_security_group_rule *row = list.rows[i];
        struct tag_set set = tags_of(&tags, row->id);
        const struct ec2_security_group_rule rule = rule_out(call, row, set);
        if (str_eq(row->region, call->region) && pick_take(&ids, row->id) &&
            filters_match(&filters, &rule, set) && page_take(&page, row->id)) {
            items[count++] = rule;
        }
    }
    out->security_group_rules.items = items;
    out->security_group_rules.count = count;
    out->next_token = page_next_token(call, &page);
    return pick_check(call, &ids, ERR_GROUP_RULE_NOT_FOUND, "security group rule ID",
                      err);
}
