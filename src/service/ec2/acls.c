/* acls.c - network ACLs: shown, made, deleted, their entries and associations. */
#include "service/ec2/network.h"

#define LAST_RULE 32767 /* AWS's "*": what no other rule matched is refused. */
#define RULE_MAX 32766

/* ---- shown ---- */

static struct ec2_network_acl_entry
last_entry(bool egress, bool six)
{
    return (struct ec2_network_acl_entry){
        .cidr_block = six ? NULL : "0.0.0.0/0",
        .ipv6_cidr_block = six ? "::/0" : NULL,
        HAS(egress, egress),
        .protocol = "-1",
        .rule_action = "deny",
        HAS(rule_number, six ? LAST_RULE + 1 : LAST_RULE),
    };
}

static struct ec2_network_acl_entry
entry_out(struct call *call, const struct row_network_acl_entry *row)
{
    bool icmp = str_eq(row->protocol, "1") || str_eq(row->protocol, "58");
    bool ported = str_eq(row->protocol, "6") || str_eq(row->protocol, "17");
    struct ec2_network_acl_entry out = {
        .cidr_block = str_empty(row->cidr4) ? NULL : row->cidr4,
        .ipv6_cidr_block = str_empty(row->cidr6) ? NULL : row->cidr6,
        HAS(egress, row->egress != 0),
        .protocol = row->protocol,
        .rule_action = row->allow ? "allow" : "deny",
        HAS(rule_number, row->number),
    };
    if (icmp) {
        out.icmp_type_code = ARENA_NEW(call->arena, struct ec2_icmp_type_code);
        *out.icmp_type_code = (struct ec2_icmp_type_code){HAS(type, row->from_port),
                                                          HAS(code, row->to_port)};
    } else if (ported) {
        out.port_range = ARENA_NEW(call->arena, struct ec2_port_range);
        *out.port_range =
            (struct ec2_port_range){HAS(from, row->from_port), HAS(to, row->to_port)};
    }
    return out;
}

static bool
entries_of(struct call *call, const struct row_network_acl *acl, struct row_list *out,
           struct err *err)
{
    const struct row_network_acl_entry prefix = {.account = acl->account,
                                                 .acl_id = acl->id};
    return rows_by(call, &row_network_acl_entry_type, NULL, 2, &prefix, out, err);
}

/* AWS lists those for traffic out first, each way by number and with its last. */
static bool
entries_out(struct call *call, const struct row_network_acl *acl,
            struct ec2_network_acl *out, struct err *err)
{
    struct row_list rows;
    const struct row_vpc key = {.account = acl->account, .id = acl->vpc_id};
    const void *vpc;
    if (!entries_of(call, acl, &rows, err) ||
        !row_get(call->txn, &row_vpc_type, &key, &vpc, err)) {
        return false;
    }
    bool six = vpc && ((const struct row_vpc *)vpc)->blocks6.count > 0;
    struct ec2_network_acl_entry *items =
        ARENA_ARRAY(call->arena, rows.count + 4, struct ec2_network_acl_entry);
    size_t count = 0;
    for (int egress = 1; egress >= 0; egress--) {
        for (size_t i = 0; i < rows.count; i++) {
            const struct row_network_acl_entry *row = rows.rows[i];
            if (row->egress == egress) {
                items[count++] = entry_out(call, row);
            }
        }
        items[count++] = last_entry(egress, false);
        if (six) {
            items[count++] = last_entry(egress, true);
        }
    }
    out->entries.items = items;
    out->entries.count = count;
    return true;
}

/* The subnets that an ACL guards: for the default one, all that name no other. */
static bool
subnets_of(struct call *call, const struct row_network_acl *acl, struct row_list *out,
           struct err *err)
{
    const struct row_subnet prefix = {.account = acl->account, .vpc_id = acl->vpc_id};
    size_t count = 0;
    if (!rows_by(call, &row_subnet_type, "by_vpc", 2, &prefix, out, err)) {
        return false;
    }
    for (size_t i = 0; i < out->count; i++) {
        const struct row_subnet *subnet = out->rows[i];
        if (str_empty(subnet->acl_id) ? acl->is_default
                                      : str_eq(subnet->acl_id, acl->id)) {
            out->rows[count++] = subnet;
        }
    }
    out->count = count;
    return true;
}

static bool
acl_out(struct call *call, const struct row_network_acl *acl, struct tag_set tags,
        struct ec2_network_acl *out, struct err *err)
{
    struct row_list subnets;
    if (!subnets_of(call, acl, &subnets, err)) {
        return false;
    }
    *out = (struct ec2_network_acl){
        .network_acl_id = acl->id,
        .vpc_id = acl->vpc_id,
        .owner_id = acl->account,
        HAS(is_default, acl->is_default),
        .associations = {ARENA_ARRAY(call->arena, subnets.count + 1,
                                     struct ec2_network_acl_association),
                         subnets.count},
        .tags = {tags_out(call, tags), tags.count},
    };
    for (size_t i = 0; i < subnets.count; i++) {
        const struct row_subnet *subnet = subnets.rows[i];
        out->associations.items[i] = (struct ec2_network_acl_association){
            .network_acl_association_id = subnet->acl_association_id,
            .network_acl_id = acl->id,
            .subnet_id = subnet->id};
    }
    return entries_out(call, acl, out, err);
}

#define ACL struct ec2_network_acl

FILTER_TEXT(acl_id, ACL, network_acl_id)
FILTER_TEXT(acl_owner, ACL, owner_id)
FILTER_TEXT(acl_vpc, ACL, vpc_id)
FILTER_BOOL(acl_default, ACL, is_default)
FILTER_EACH(acl_subnet, ACL, associations, subnet_id)
FILTER_EACH(acl_association, ACL, associations, network_acl_association_id)
FILTER_EACH(entry_cidr, ACL, entries, cidr_block)
FILTER_EACH(entry_cidr6, ACL, entries, ipv6_cidr_block)
FILTER_EACH(entry_protocol, ACL, entries, protocol)
FILTER_EACH(entry_action, ACL, entries, rule_action)

static void
entry_egress_values(const void *object, struct filter_test *test)
{
    const ACL *acl = object;
    for (size_t i = 0; i < acl->entries.count; i++) {
        filter_offer_bool(test, acl->entries.items[i].egress);
    }
}

static void
entry_number_values(const void *object, struct filter_test *test)
{
    const ACL *acl = object;
    for (size_t i = 0; i < acl->entries.count; i++) {
        filter_offer_int(test, acl->entries.items[i].rule_number);
    }
}

static const struct filter_def acl_filters[] = {
    {"association.association-id", acl_association_values},
    {"association.network-acl-id", acl_id_values},
    {"association.subnet-id", acl_subnet_values},
    {"default", acl_default_values},
    {"entry.cidr", entry_cidr_values},
    {"entry.egress", entry_egress_values},
    {"entry.ipv6-cidr", entry_cidr6_values},
    {"entry.protocol", entry_protocol_values},
    {"entry.rule-action", entry_action_values},
    {"entry.rule-number", entry_number_values},
    {"network-acl-id", acl_id_values},
    {"owner-id", acl_owner_values},
    {"vpc-id", acl_vpc_values},
};

bool
ec2_describe_network_acls(struct call *call,
                          const struct ec2_describe_network_acls_request *in,
                          struct ec2_describe_network_acls_result *out, struct err *err)
{
    const struct row_network_acl prefix = {.account = call->account,
                                           .region = call->region};
    const struct listing_ask ask = LISTING_ASK(
        in, network_acl_ids, filters, "networkAclIds", kind_acl, acl_filters, &prefix);
    struct listing listing;
    if (!listing_open(call, &ask, &listing, err)) {
        return false;
    }
    struct ec2_network_acl *items =
        ARENA_ARRAY(call->arena, listing.rows.count, struct ec2_network_acl);
    size_t count = 0;
    for (size_t i = 0; i < listing.rows.count; i++) {
        const struct row_network_acl *acl = listing.rows.rows[i];
        if (!acl_out(call, acl, tags_of(&listing.tags, acl->id), &items[count], err)) {
            return false;
        }
        count += listing_accepts(&listing, acl->id, &items[count]);
    }
    out->network_acls.items = items;
    out->network_acls.count = count;
    return listing_close(call, &listing, &out->next_token, err);
}

/* ---- made and deleted ---- */

bool
ec2_create_network_acl(struct call *call,
                       const struct ec2_create_network_acl_request *in,
                       struct ec2_create_network_acl_result *out, struct err *err)
{
    const struct row_network_acl acl = {.account = call->account,
                                        .id = id_new(call->arena, call->rng, "acl"),
                                        .region = call->region,
                                        .vpc_id = in->vpc_id,
                                        .created_at = call->now_ns};
    const struct row_vpc *vpc;
    struct row_list list;
    struct tag_set tags;
    if (!FIND(call, kind_vpc, in->vpc_id, &vpc, err) ||
        !new_tags_check(&kind_acl, in->tag_specifications.items,
                        in->tag_specifications.count, err) ||
        !rows_by(call, &row_network_acl_type, "by_vpc", 2, &acl, &list, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    if (list.count >= ACLS_MAX) {
        return err_set(err, ERR_ACL_LIMIT,
                       "The maximum number of network ACLs has been reached.");
    }
    out->network_acl = ARENA_NEW(call->arena, struct ec2_network_acl);
    return row_insert(call->txn, &row_network_acl_type, &acl, err) &&
           new_tags_put(call, &kind_acl, in->tag_specifications.items,
                        in->tag_specifications.count, acl.id, err) &&
           tags_shown(call, acl.id, &tags, err) &&
           acl_out(call, &acl, tags, out->network_acl, err);
}

bool
acl_remove(struct call *call, const struct row_network_acl *acl, struct err *err)
{
    struct row_list entries;
    if (!entries_of(call, acl, &entries, err)) {
        return false;
    }
    for (size_t i = 0; i < entries.count; i++) {
        if (!row_delete(call->txn, &row_network_acl_entry_type, entries.rows[i], err)) {
            return false;
        }
    }
    return object_delete(call, &kind_acl, acl, err);
}

bool
ec2_delete_network_acl(struct call *call,
                       const struct ec2_delete_network_acl_request *in, struct err *err)
{
    const struct row_network_acl *acl;
    struct row_list subnets;
    if (!FIND(call, kind_acl, in->network_acl_id, &acl, err) ||
        !subnets_of(call, acl, &subnets, err)) {
        return false;
    }
    if (acl->is_default) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "cannot delete default network ACL %s", acl->id);
    }
    if (subnets.count) {
        return err_depends(err, "networkAcl", acl->id);
    }
    return dry_run_check(in->dry_run, err) && acl_remove(call, acl, err);
}

bool
ec2_replace_network_acl_association(
    struct call *call, const struct ec2_replace_network_acl_association_request *in,
    struct ec2_replace_network_acl_association_result *out, struct err *err)
{
    const struct row_network_acl *acl;
    const struct row_subnet *found = NULL;
    const struct row_subnet prefix = {.account = call->account, .region = call->region};
    struct row_list subnets;
    if (!FIND(call, kind_acl, in->network_acl_id, &acl, err) ||
        !rows_of_region(call, &row_subnet_type, &prefix, &subnets, err)) {
        return false;
    }
    for (size_t i = 0; i < subnets.count && !str_empty(in->association_id); i++) {
        const struct row_subnet *subnet = subnets.rows[i];
        found = str_eq(subnet->acl_association_id, in->association_id) ? subnet : found;
    }
    if (!found) {
        return err_no_such(err, ERR_ASSOCIATION_NOT_FOUND, "association ID",
                           text_or_empty(in->association_id));
    }
    if (!str_eq(found->vpc_id, acl->vpc_id)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Network ACL %s and subnet %s belong to different networks",
                       acl->id, found->id);
    }
    struct row_subnet next = *found;
    next.acl_id = acl->is_default ? NULL : acl->id;
    next.acl_association_id = id_new(call->arena, call->rng, "aclassoc");
    out->new_association_id = next.acl_association_id;
    return dry_run_check(in->dry_run, err) &&
           row_put(call->txn, &row_subnet_type, &next, err) &&
           vpc_touch(call, acl->vpc_id, err);
}

/* ---- entries ---- */

/* The same members, of Create- and ReplaceNetworkAclEntry. */
struct entry_ask {
    const char *acl_id, *cidr, *cidr6, *protocol, *action;
    bool egress, dry_run;
    int64_t number;
    const struct ec2_icmp_type_code *icmp;
    const struct ec2_port_range *ports;
};

#define ENTRY_ASK(in) \
    { \
        .acl_id = (in)->network_acl_id, .cidr = (in)->cidr_block, \
        .cidr6 = (in)->ipv6_cidr_block, .protocol = (in)->protocol, \
        .action = (in)->rule_action, .egress = (in)->egress, .dry_run = (in)->dry_run, \
        .number = (in)->rule_number, .icmp = (in)->icmp_type_code, \
        .ports = (in)->port_range \
    }

static bool
protocol_number(const char *text, const char **out, struct err *err)
{
    static const char *const names[][2] = {
        {"tcp", "6"}, {"udp", "17"}, {"icmp", "1"}, {"icmpv6", "58"}, {"all", "-1"}};
    char *end;
    for (size_t i = 0; text && i < ARRAY_LEN(names); i++) {
        if (strcasecmp(text, names[i][0]) == 0) {
            *out = names[i][1];
            return true;
        }
    }
    long number = text ? strtol(text, &end, 10) : -2;
    *out = text;
    return (text && end != text && !*end && number >= -1 && number <= 255) ||
           err_set(err, ERR_INVALID_PARAMETER_VALUE, "Invalid protocol: '%.40s'",
                   text_or_empty(text));
}

static bool
entry_ports(const struct entry_ask *ask, struct row_network_acl_entry *out,
            struct err *err)
{
    bool icmp = str_eq(out->protocol, "1") || str_eq(out->protocol, "58");
    bool ported = str_eq(out->protocol, "6") || str_eq(out->protocol, "17");
    if (icmp && !ask->icmp) {
        return err_set(err, ERR_MISSING_PARAMETER,
                       "The request must contain the parameter icmpTypeCode");
    }
    if (ported && !ask->ports) {
        return err_set(err, ERR_MISSING_PARAMETER,
                       "The request must contain the parameter portRange");
    }
    if (icmp) {
        out->from_port = ask->icmp->type;
        out->to_port = ask->icmp->code;
    } else if (ported) {
        out->from_port = ask->ports->from;
        out->to_port = ask->ports->to;
        if (out->from_port < 0 || out->to_port > UINT16_MAX ||
            out->from_port > out->to_port) {
            return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                           "Invalid port range: %" PRId64 "-%" PRId64, out->from_port,
                           out->to_port);
        }
    }
    return true;
}

static bool
entry_read(struct call *call, const struct entry_ask *ask,
           struct row_network_acl_entry *out, const void **out_old, struct err *err)
{
    *out = (struct row_network_acl_entry){
        .account = call->account,
        .acl_id = ask->acl_id,
        .egress = ask->egress,
        .number = ask->number,
        .allow = str_eq(ask->action, "allow"),
    };
    if (ask->number < 1 || ask->number > RULE_MAX) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "The rule number must be between 1 and %d.", RULE_MAX);
    }
    if (!out->allow && !str_eq(ask->action, "deny")) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE, "Invalid rule action: '%.40s'",
                       text_or_empty(ask->action));
    }
    if (!!ask->cidr == !!ask->cidr6) {
        return err_set(
            err, ask->cidr ? ERR_INVALID_PARAMETER_COMBINATION : ERR_MISSING_PARAMETER,
            "The request must contain exactly one of cidrBlock and "
            "ipv6CidrBlock.");
    }
    return protocol_number(ask->protocol, &out->protocol, err) &&
           entry_ports(ask, out, err) &&
           (ask->cidr ? block_canonical(call, ask->cidr, "cidrBlock", &out->cidr4, err)
                      : block6_canonical(call, ask->cidr6, "ipv6CidrBlock", &out->cidr6,
                                         err)) &&
           row_get(call->txn, &row_network_acl_entry_type, out, out_old, err);
}

static bool
check_room(struct call *call, const struct row_network_acl *acl, bool egress,
           struct err *err)
{
    struct row_list entries;
    size_t count = 0;
    if (!entries_of(call, acl, &entries, err)) {
        return false;
    }
    for (size_t i = 0; i < entries.count; i++) {
        count +=
            ((const struct row_network_acl_entry *)entries.rows[i])->egress == egress;
    }
    return count < ENTRIES_MAX ||
           err_set(err, ERR_ACL_ENTRY_LIMIT,
                   "The maximum number of network ACL entries has been reached.");
}

bool
ec2_create_network_acl_entry(struct call *call,
                             const struct ec2_create_network_acl_entry_request *in,
                             struct err *err)
{
    const struct entry_ask ask = ENTRY_ASK(in);
    const struct row_network_acl *acl;
    struct row_network_acl_entry entry;
    const void *old;
    if (!FIND(call, kind_acl, ask.acl_id, &acl, err) ||
        !entry_read(call, &ask, &entry, &old, err)) {
        return false;
    }
    if (old) {
        return err_set(err, ERR_ACL_ENTRY_EXISTS,
                       "The network acl entry identified by %" PRId64
                       " already exists.",
                       entry.number);
    }
    return check_room(call, acl, ask.egress, err) && dry_run_check(ask.dry_run, err) &&
           row_insert(call->txn, &row_network_acl_entry_type, &entry, err) &&
           vpc_touch(call, acl->vpc_id, err);
}

static bool
err_no_entry(struct err *err, int64_t number, const char *acl_id)
{
    return err_set(err, ERR_ACL_ENTRY_NOT_FOUND,
                   "The rule number %" PRId64 " in the network acl '%s' does not exist",
                   number, acl_id);
}

bool
ec2_replace_network_acl_entry(struct call *call,
                              const struct ec2_replace_network_acl_entry_request *in,
                              struct err *err)
{
    const struct entry_ask ask = ENTRY_ASK(in);
    const struct row_network_acl *acl;
    struct row_network_acl_entry entry;
    const void *old;
    if (!FIND(call, kind_acl, ask.acl_id, &acl, err) ||
        !entry_read(call, &ask, &entry, &old, err)) {
        return false;
    }
    if (!old) {
        return err_no_entry(err, entry.number, acl->id);
    }
    return dry_run_check(ask.dry_run, err) &&
           row_put(call->txn, &row_network_acl_entry_type, &entry, err) &&
           vpc_touch(call, acl->vpc_id, err);
}

bool
ec2_delete_network_acl_entry(struct call *call,
                             const struct ec2_delete_network_acl_entry_request *in,
                             struct err *err)
{
    const struct row_network_acl_entry key = {.account = call->account,
                                              .acl_id = in->network_acl_id,
                                              .egress = in->egress,
                                              .number = in->rule_number};
    const struct row_network_acl *acl;
    const void *old;
    if (!FIND(call, kind_acl, in->network_acl_id, &acl, err) ||
        !row_get(call->txn, &row_network_acl_entry_type, &key, &old, err)) {
        return false;
    }
    if (!old) {
        return err_no_entry(err, key.number, acl->id);
    }
    return dry_run_check(in->dry_run, err) &&
           row_delete(call->txn, &row_network_acl_entry_type, &key, err) &&
           vpc_touch(call, acl->vpc_id, err);
}
