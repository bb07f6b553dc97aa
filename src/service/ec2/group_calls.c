/* group_calls.c - security groups made and deleted, and who refers to them. */
#include "service/ec2/groups.h"

static bool
groups_of_vpc(struct call *call, const char *vpc_id, struct row_list *out,
              struct err *err)
{
    const struct row_security_group prefix = {.account = call->account,
                                              .vpc_id = vpc_id};
    return rows_by(call, &row_security_group_type, "by_vpc", 2, &prefix, out, err);
}

bool
group_find(struct call *call, const char *id, const char *name,
           const struct row_security_group **out, struct err *err)
{
    const char *vpc_id;
    struct row_list list;
    if (!str_empty(id)) {
        return FIND(call, kind_group, id, out, err);
    }
    if (!need(name, "groupId", err) || !default_vpc_find(call, &vpc_id, err) ||
        !groups_of_vpc(call, vpc_id, &list, err)) {
        return false;
    }
    for (size_t i = 0; vpc_id && i < list.count; i++) {
        const struct row_security_group *group = list.rows[i];
        if (str_eq(group->name, name)) {
            *out = group;
            return true;
        }
    }
    return err_set(err, ERR_GROUP_NOT_FOUND,
                   "The security group '%.255s' does not exist in default VPC '%s'",
                   name, vpc_id ? vpc_id : "none");
}

/* ---- made ---- */

static bool
check_names(const struct ec2_create_security_group_request *in, struct err *err)
{
    if (!need(in->group_name, "groupName", err) ||
        !need(in->description, "groupDescription", err) ||
        !group_text_check(in->group_name, "groupName", err) ||
        !group_text_check(in->description, "groupDescription", err)) {
        return false;
    }
    if (str_starts(in->group_name, "sg-")) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%.80s) for parameter groupName is invalid. Group names "
                       "may not be in the format sg-*.",
                       in->group_name);
    }
    return !str_eq(in->group_name, "default") ||
           err_set(err, ERR_INVALID_PARAMETER_VALUE,
                   "Cannot use reserved security group name: default");
}

static bool
check_new(struct call *call, const struct row_security_group *group, bool *out_six,
          struct err *err)
{
    const struct row_security_group all = {.account = call->account,
                                           .region = call->region};
    const struct row_vpc *vpc;
    struct row_list list;
    if (!FIND(call, kind_vpc, group->vpc_id, &vpc, err) ||
        !groups_of_vpc(call, vpc->id, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (str_eq(((const struct row_security_group *)list.rows[i])->name,
                   group->name)) {
            return err_set(err, ERR_GROUP_DUPLICATE,
                           "The security group '%s' already exists for VPC '%s'",
                           group->name, vpc->id);
        }
    }
    *out_six = vpc->blocks6.count > 0;
    return rows_of_region(call, &row_security_group_type, &all, &list, err) &&
           (list.count < GROUPS_MAX ||
            err_set(err, ERR_GROUP_LIMIT,
                    "The maximum number of security groups has been reached."));
}

bool
ec2_create_security_group(struct call *call,
                          const struct ec2_create_security_group_request *in,
                          struct ec2_create_security_group_result *out, struct err *err)
{
    struct row_security_group group = {.account = call->account,
                                       .id = id_new(call->arena, call->rng, "sg"),
                                       .region = call->region,
                                       .vpc_id = in->vpc_id,
                                       .name = in->group_name,
                                       .description = in->description,
                                       .created_at = call->now_ns};
    const struct row_security_group_rule to_all = {
        .account = call->account,
        .id = id_new(call->arena, call->rng, "sgr"),
        .group_id = group.id,
        .egress = true,
        .protocol = "-1",
        .from_port = -1,
        .to_port = -1,
        .cidr4 = "0.0.0.0/0",
        .region = call->region,
        .vpc_id = group.vpc_id};
    struct tag_set tags;
    if (!check_names(in, err) ||
        (str_empty(in->vpc_id) && !default_vpc_find(call, &group.vpc_id, err))) {
        return false;
    }
    if (str_empty(group.vpc_id)) {
        return err_set(err, ERR_VPC_DEFAULT_NOT_FOUND, "No default VPC for this user");
    }
    bool six = false;
    if (!check_new(call, &group, &six, err) ||
        !new_tags_check(&kind_group, in->tag_specifications.items,
                        in->tag_specifications.count, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    struct row_security_group_rule rule = to_all;
    rule.vpc_id = group.vpc_id;
    if (!row_insert(call->txn, &row_security_group_type, &group, err) ||
        !row_insert(call->txn, &row_security_group_rule_type, &rule, err) ||
        (six && !group_open6(call->txn, call->rng, &group, err)) ||
        !new_tags_put(call, &kind_group, in->tag_specifications.items,
                      in->tag_specifications.count, group.id, err) ||
        !tags_shown(call, group.id, &tags, err)) {
        return false;
    }
    out->group_id = group.id;
    out->tags.items = tags_out(call, tags);
    out->tags.count = tags.count;
    return true;
}

/* ---- deleted ---- */

bool
group_rules(struct call *call, const struct row_security_group *group,
            struct row_list *out, struct err *err)
{
    const struct row_security_group_rule prefix = {.account = group->account,
                                                   .group_id = group->id};
    return rows_by(call, &row_security_group_rule_type, "by_group", 2, &prefix, out,
                   err);
}

bool
group_remove(struct call *call, const struct row_security_group *group, struct err *err)
{
    struct row_list rules;
    if (!group_rules(call, group, &rules, err)) {
        return false;
    }
    for (size_t i = 0; i < rules.count; i++) {
        if (!object_delete(call, &kind_group_rule, rules.rows[i], err)) {
            return false;
        }
    }
    return object_delete(call, &kind_group, group, err);
}

/* No interface is in it, and no other group's rule names it (of peers' rules that do, AWS
 * keeps stale ones). */
static bool
check_unused(struct call *call, const struct row_security_group *group, struct err *err)
{
    const struct row_eni of = {.account = group->account, .vpc_id = group->vpc_id};
    const struct row_security_group_rule prefix = {.account = group->account};
    struct row_list enis, rules;
    if (!enis_in(call, "by_vpc", &of, &enis, err) ||
        !rows_of_account(call, &row_security_group_rule_type, &prefix, &rules, err)) {
        return false;
    }
    bool used = false;
    for (size_t i = 0; i < enis.count; i++) {
        const struct row_eni *eni = enis.rows[i];
        for (size_t k = 0; k < eni->group_ids.count; k++) {
            used |= str_eq(eni->group_ids.items[k], group->id);
        }
    }
    for (size_t i = 0; i < rules.count; i++) {
        const struct row_security_group_rule *rule = rules.rows[i];
        used |= str_eq(rule->peer_group, group->id) &&
                !str_eq(rule->group_id, group->id) &&
                str_eq(rule->vpc_id, group->vpc_id);
    }
    return !used || err_set(err, ERR_DEPENDENCY, "resource %s has a dependent object",
                            group->id);
}

bool
ec2_delete_security_group(struct call *call,
                          const struct ec2_delete_security_group_request *in,
                          struct err *err)
{
    const struct row_security_group *group;
    if (!group_find(call, in->group_id, in->group_name, &group, err)) {
        return false;
    }
    if (str_eq(group->name, "default")) {
        return err_set(
            err, ERR_CANNOT_DELETE,
            "the specified group: \"%s\" name: \"default\" cannot be deleted "
            "by a user",
            group->id);
    }
    return check_unused(call, group, err) && dry_run_check(in->dry_run, err) &&
           group_remove(call, group, err);
}

/* ---- references ---- */

bool
ec2_describe_security_group_references(
    struct call *call, const struct ec2_describe_security_group_references_request *in,
    struct ec2_describe_security_group_references_result *out, struct err *err)
{
    const struct row_vpc_peering *peering;
    struct row_list rules;
    if (!rows_by(call, &row_security_group_rule_type, NULL, 0, NULL, &rules, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    out->security_group_reference_set.items =
        ARENA_ARRAY(call->arena, rules.count, struct ec2_security_group_reference);
    for (size_t g = 0; g < in->group_id.count; g++) {
        const struct row_security_group *group;
        if (!FIND(call, kind_group, in->group_id.items[g], &group, err)) {
            return false;
        }
        for (size_t i = 0; i < rules.count; i++) {
            const struct row_security_group_rule *rule = rules.rows[i];
            if (!str_eq(rule->peer_group, group->id) ||
                str_eq(rule->vpc_id, group->vpc_id)) {
                continue;
            }
            if (!peering_between(call, group->vpc_id, rule->vpc_id, &peering, err)) {
                return false;
            }
            out->security_group_reference_set
                .items[out->security_group_reference_set.count++] =
                (struct ec2_security_group_reference){
                    .group_id = group->id,
                    .referencing_vpc_id = rule->vpc_id,
                    .vpc_peering_connection_id = peering ? peering->id : NULL,
                };
        }
    }
    return true;
}
