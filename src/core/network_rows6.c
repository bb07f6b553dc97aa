/* network_rows6.c - IPv6 of VPCs: their blocks, and what their defaults say; see
 * network_rows.h. */
#include "core/network_rows.h"

#include "base/map.h"
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

/* ---- blocks of the operator's pools ---- */

/* The blocks that VPCs have, by their text. */
static bool
blocks_taken(struct txn *txn, struct map *out, struct err *err)
{
    struct row_list vpcs;
    if (!row_list(txn, &row_vpc_type, &(struct row_query){0}, &vpcs, err)) {
        return false;
    }
    for (size_t i = 0; i < vpcs.count; i++) {
        const struct row_vpc *vpc = vpcs.rows[i];
        for (size_t b = 0; b < vpc->blocks6.count; b++) {
            map_put(out, vpc->blocks6.items[b].cidr, out);
        }
    }
    return true;
}

/* The pool's next free block; '*out' NULL: there is none. */
static bool
pool6_next(struct txn *txn, const struct row_address_pool *pool,
           const struct cidr6 *whole, const struct map *taken, const char **out,
           struct err *err)
{
    uint32_t count = cidr6_children(whole, VPC_BLOCK6_BITS);
    struct row_address_pool next = *pool;
    *out = NULL;
    for (uint32_t tried = 0; tried < count && !*out; tried++) {
        struct cidr6 block;
        char text[CIDR6_TEXT_LEN];
        cidr6_child(whole, VPC_BLOCK6_BITS, (uint32_t)next.next_host % count, &block);
        cidr6_format(&block, text);
        next.next_host = (next.next_host + 1) % count;
        *out = map_get(taken, text) ? NULL : arena_strdup(txn_arena(txn), text);
    }
    return !*out || row_put(txn, &row_address_pool_type, &next, err);
}

bool
vpc_block6_take(struct txn *txn, const char *region, const char **out, struct err *err)
{
    const struct row_address_pool prefix = {.region = region};
    const struct row_query query = {
        .index = "by_region", .prefix = &prefix, .prefix_fields = 1};
    struct row_list pools;
    bool any = false;
    *out = NULL;
    AUTO(map) struct map *taken = map_create(NULL);
    if (!row_list(txn, &row_address_pool_type, &query, &pools, err)) {
        return false;
    }
    for (size_t i = 0; i < pools.count && !*out; i++) {
        const struct row_address_pool *pool = pools.rows[i];
        struct cidr6 whole;
        if (!cidr6_parse(pool->cidr, &whole)) {
            continue;
        }
        if ((!any && !blocks_taken(txn, taken, err)) ||
            (!pool->closed && !pool6_next(txn, pool, &whole, taken, out, err))) {
            return false;
        }
        any = true;
    }
    return *out || !any ||
           err_set(err, ERR_ADDRESS_CAPACITY,
                   "The region's pools have no IPv6 block left for a VPC");
}
