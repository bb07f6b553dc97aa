/* network_rows6.c - what a VPC's defaults say of IPv6; see network_rows.h. */
#include "core/network_rows.h"

#include "core/id.h"

#define EVERYTHING6 "::/0"
#define RULE4 100 /* The default ACL's entry for IPv4... */
#define RULE6 101 /* ...and for IPv6, as AWS numbers it. */

static bool
list_by(struct txn *txn, const struct row_type *type, const char *index,
        const void *prefix, struct row_list *out, struct err *err)
{
    const struct row_query query = {
        .index = index, .prefix = prefix, .prefix_fields = 2};
    return row_list(txn, type, &query, out, err);
}

static bool
open_acl(struct txn *txn, const struct row_network_acl *acl, struct err *err)
{
    const struct row_network_acl_entry prefix = {.account = acl->account,
                                                 .acl_id = acl->id};
    struct row_list list;
    if (!list_by(txn, &row_network_acl_entry_type, NULL, &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_network_acl_entry *entry = list.rows[i];
        if (entry->number != RULE4 || !entry->allow) {
            return true; /* Somebody has changed it: it stays his. */
        }
    }
    for (int64_t egress = 0; list.count == 2 && egress < 2; egress++) {
        const struct row_network_acl_entry entry = {.account = acl->account,
                                                    .acl_id = acl->id,
                                                    .egress = egress,
                                                    .number = RULE6,
                                                    .protocol = "-1",
                                                    .allow = true,
                                                    .cidr6 = EVERYTHING6};
        if (!row_insert(txn, &row_network_acl_entry_type, &entry, err)) {
            return false;
        }
    }
    return true;
}

bool
group_open6(struct txn *txn, const struct rng *rng,
            const struct row_security_group *group, struct err *err)
{
    const struct row_security_group_rule prefix = {.account = group->account,
                                                   .group_id = group->id};
    struct row_list list;
    bool open4 = false;
    if (!list_by(txn, &row_security_group_rule_type, "by_group", &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_security_group_rule *rule = list.rows[i];
        if (rule->egress && !str_empty(rule->cidr6)) {
            return true;
        }
        open4 = open4 || (rule->egress && str_eq(rule->protocol, "-1") &&
                          str_eq(rule->cidr4, "0.0.0.0/0"));
    }
    const struct row_security_group_rule to_all = {
        .account = group->account,
        .id = id_new(txn_arena(txn), rng, "sgr"),
        .group_id = group->id,
        .egress = true,
        .protocol = "-1",
        .from_port = -1,
        .to_port = -1,
        .cidr6 = EVERYTHING6,
        .region = group->region,
        .vpc_id = group->vpc_id};
    return !open4 || row_insert(txn, &row_security_group_rule_type, &to_all, err);
}

bool
vpc_open6(struct txn *txn, const struct rng *rng, const struct row_vpc *vpc,
          struct err *err)
{
    const struct row_network_acl acls = {.account = vpc->account, .vpc_id = vpc->id};
    const struct row_security_group groups = {.account = vpc->account,
                                              .vpc_id = vpc->id};
    struct row_list list;
    if (!list_by(txn, &row_network_acl_type, "by_vpc", &acls, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_network_acl *acl = list.rows[i];
        if (acl->is_default && !open_acl(txn, acl, err)) {
            return false;
        }
    }
    if (!list_by(txn, &row_security_group_type, "by_vpc", &groups, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_security_group *group = list.rows[i];
        if (str_eq(group->name, "default") && !group_open6(txn, rng, group, err)) {
            return false;
        }
    }
    return true;
}
