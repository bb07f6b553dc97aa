/* group_rules.c - rules authorized, revoked, modified and described anew. */
#include "service/ec2/groups.h"

/* ---- Authorize ---- */

/* What the four calls have in common; out and in differ by direction only. */
struct rule_ask {
    const char *group_id, *group_name;
    bool egress, dry_run;
    const struct ec2_ip_permission *permissions;
    size_t permission_count;
    struct flat_permission flat;
    const char *const *rule_ids;
    size_t rule_id_count;
};

#define FLAT(in) \
    { \
        .protocol = (in)->ip_protocol, .cidr = (in)->cidr_ip, \
        .group_name = (in)->source_security_group_name, \
        .group_owner = (in)->source_security_group_owner_id, \
        .has_from = (in)->has_from_port, .from = (in)->from_port, \
        .has_to = (in)->has_to_port, .to = (in)->to_port \
    }
#define RULE_ASK(in, out_) \
    .group_id = (in)->group_id, .egress = (out_), .dry_run = (in)->dry_run, \
    .permissions = (in)->ip_permissions.items, \
    .permission_count = (in)->ip_permissions.count, .flat = FLAT(in)

static const struct row_security_group_rule *
find_same(const struct row_list *rules, const struct row_security_group_rule *rule)
{
    for (size_t i = 0; i < rules->count; i++) {
        if (rule_same(rules->rows[i], rule)) {
            return rules->rows[i];
        }
    }
    return NULL;
}

static bool
err_duplicate(struct err *err, const struct row_security_group_rule *rule)
{
    const char *peer = !str_empty(rule->cidr4)            ? rule->cidr4
                       : !str_empty(rule->cidr6)          ? rule->cidr6
                       : !str_empty(rule->prefix_list_id) ? rule->prefix_list_id
                                                          : rule->peer_group;
    const char *protocol = str_eq(rule->protocol, "-1") ? "ALL" : rule->protocol;
    return err_set(err, ERR_PERMISSION_DUPLICATE,
                   "the specified rule \"peer: %s, %s, from port: %" PRId64
                   ", to port: %" PRId64 ", ALLOW\" already exists",
                   peer, protocol, rule->from_port, rule->to_port);
}

static size_t
count_way(const struct row_list *rules, bool egress)
{
    size_t count = 0;
    for (size_t i = 0; i < rules->count; i++) {
        count +=
            ((const struct row_security_group_rule *)rules->rows[i])->egress == egress;
    }
    return count;
}

static bool
rules_authorize(struct call *call, const struct rule_ask *ask,
                const struct ec2_tag_specification *specs, size_t spec_count,
                struct ec2_security_group_rule **out, size_t *out_count,
                struct err *err)
{
    const struct row_security_group *group;
    struct row_list old;
    struct rules rules;
    struct tag_set tags;
    if (!group_find(call, ask->group_id, ask->group_name, &group, err) ||
        !rules_read(call, group, ask->egress, ask->permissions, ask->permission_count,
                    &ask->flat, &rules, err) ||
        !new_tags_check(&kind_group_rule, specs, spec_count, err) ||
        !group_rules(call, group, &old, err)) {
        return false;
    }
    for (size_t i = 0; i < rules.count; i++) {
        if (find_same(&old, &rules.items[i])) {
            return err_duplicate(err, &rules.items[i]);
        }
    }
    if (count_way(&old, ask->egress) + rules.count > RULES_MAX) {
        return err_set(err, ERR_RULES_LIMIT,
                       "The maximum number of rules per security group has been "
                       "reached.");
    }
    if (!dry_run_check(ask->dry_run, err)) {
        return false;
    }
    *out = ARENA_ARRAY(call->arena, rules.count, struct ec2_security_group_rule);
    for (size_t i = 0; i < rules.count; i++) {
        struct row_security_group_rule *rule = &rules.items[i];
        rule->id = id_new(call->arena, call->rng, "sgr");
        if (!row_insert(call->txn, &row_security_group_rule_type, rule, err) ||
            !new_tags_put(call, &kind_group_rule, specs, spec_count, rule->id, err) ||
            !tags_shown(call, rule->id, &tags, err)) {
            return false;
        }
        (*out)[i] = rule_out(call, rule, tags);
    }
    *out_count = rules.count;
    return true;
}

bool
ec2_authorize_security_group_ingress(
    struct call *call, const struct ec2_authorize_security_group_ingress_request *in,
    struct ec2_authorize_security_group_ingress_result *out, struct err *err)
{
    const struct rule_ask ask = {RULE_ASK(in, false), .group_name = in->group_name};
    out->return_ = out->has_return_ = true;
    return rules_authorize(
        call, &ask, in->tag_specifications.items, in->tag_specifications.count,
        &out->security_group_rules.items, &out->security_group_rules.count, err);
}

bool
ec2_authorize_security_group_egress(
    struct call *call, const struct ec2_authorize_security_group_egress_request *in,
    struct ec2_authorize_security_group_egress_result *out, struct err *err)
{
    const struct rule_ask ask = {RULE_ASK(in, true)};
    out->return_ = out->has_return_ = true;
    return rules_authorize(
        call, &ask, in->tag_specifications.items, in->tag_specifications.count,
        &out->security_group_rules.items, &out->security_group_rules.count, err);
}

/* ---- Revoke ---- */

/* The group's rule with that id, in that direction. */
static bool
rule_of(struct call *call, const struct row_security_group *group, const char *id,
        bool egress, const struct row_security_group_rule **out, struct err *err)
{
    if (!FIND(call, kind_group_rule, id, out, err)) {
        return false;
    }
    return (str_eq((*out)->group_id, group->id) && (*out)->egress == egress) ||
           err_no_such(err, ERR_GROUP_RULE_NOT_FOUND, kind_group_rule.what, id);
}

static bool
revoke_named(struct call *call, const struct row_security_group *group,
             const struct rule_ask *ask, struct err *err)
{
    for (size_t i = 0; i < ask->rule_id_count; i++) {
        const struct row_security_group_rule *rule;
        if (!rule_of(call, group, ask->rule_ids[i], ask->egress, &rule, err)) {
            return false;
        }
    }
    if (!dry_run_check(ask->dry_run, err)) {
        return false;
    }
    for (size_t i = 0; i < ask->rule_id_count; i++) {
        const struct row_security_group_rule *rule;
        if (!rule_of(call, group, ask->rule_ids[i], ask->egress, &rule, err) ||
            !object_delete(call, &kind_group_rule, rule, err)) {
            return false;
        }
    }
    return true;
}

static bool
rules_revoke(struct call *call, const struct rule_ask *ask, struct err *err)
{
    const struct row_security_group *group;
    struct row_list old;
    struct rules rules;
    if (!group_find(call, ask->group_id, ask->group_name, &group, err)) {
        return false;
    }
    if (ask->rule_id_count) {
        return revoke_named(call, group, ask, err);
    }
    if (!rules_read(call, group, ask->egress, ask->permissions, ask->permission_count,
                    &ask->flat, &rules, err) ||
        !group_rules(call, group, &old, err)) {
        return false;
    }
    for (size_t i = 0; i < rules.count; i++) {
        if (!find_same(&old, &rules.items[i])) {
            return err_set(err, ERR_PERMISSION_NOT_FOUND,
                           "The specified rule does not exist in this security group.");
        }
    }
    if (!dry_run_check(ask->dry_run, err)) {
        return false;
    }
    for (size_t i = 0; i < rules.count; i++) {
        if (!object_delete(call, &kind_group_rule, find_same(&old, &rules.items[i]),
                           err)) {
            return false;
        }
    }
    return true;
}

bool
ec2_revoke_security_group_ingress(
    struct call *call, const struct ec2_revoke_security_group_ingress_request *in,
    struct ec2_revoke_security_group_ingress_result *out, struct err *err)
{
    const struct rule_ask ask = {RULE_ASK(in, false), .group_name = in->group_name,
                                 .rule_ids = in->security_group_rule_ids.items,
                                 .rule_id_count = in->security_group_rule_ids.count};
    out->return_ = out->has_return_ = true;
    return rules_revoke(call, &ask, err);
}

bool
ec2_revoke_security_group_egress(
    struct call *call, const struct ec2_revoke_security_group_egress_request *in,
    struct ec2_revoke_security_group_egress_result *out, struct err *err)
{
    const struct rule_ask ask = {RULE_ASK(in, true),
                                 .rule_ids = in->security_group_rule_ids.items,
                                 .rule_id_count = in->security_group_rule_ids.count};
    out->return_ = out->has_return_ = true;
    return rules_revoke(call, &ask, err);
}

/* ---- ModifySecurityGroupRules ---- */

static bool
modify_one(struct call *call, const struct row_security_group *group,
           const struct ec2_security_group_rule_update *update, struct err *err)
{
    const struct row_security_group_rule *old;
    struct row_list rules;
    if (!FIND(call, kind_group_rule, update->security_group_rule_id, &old, err)) {
        return false;
    }
    if (!str_eq(old->group_id, group->id)) {
        return err_no_such(err, ERR_GROUP_RULE_NOT_FOUND, kind_group_rule.what,
                           old->id);
    }
    if (!update->security_group_rule) {
        return need(NULL, "SecurityGroupRule", err);
    }
    struct row_security_group_rule next = *old;
    if (!rule_read_one(call, group, update->security_group_rule, &next, err) ||
        !group_rules(call, group, &rules, err)) {
        return false;
    }
    const struct row_security_group_rule *same = find_same(&rules, &next);
    if (same && !str_eq(same->id, old->id)) {
        return err_duplicate(err, &next);
    }
    return row_put(call->txn, &row_security_group_rule_type, &next, err);
}

bool
ec2_modify_security_group_rules(
    struct call *call, const struct ec2_modify_security_group_rules_request *in,
    struct ec2_modify_security_group_rules_result *out, struct err *err)
{
    const struct row_security_group *group;
    if (!FIND(call, kind_group, in->group_id, &group, err)) {
        return false;
    }
    for (size_t i = 0; i < in->security_group_rules.count; i++) {
        if (!modify_one(call, group, &in->security_group_rules.items[i], err)) {
            return false;
        }
    }
    out->return_ = out->has_return_ = true;
    return dry_run_check(in->dry_run, err);
}

/* ---- descriptions ---- */

static bool
describe_named(struct call *call, const struct row_security_group *group, bool egress,
               const struct ec2_security_group_rule_description *items, size_t count,
               struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct row_security_group_rule *rule;
        if (!group_text_check(items[i].description, "description", err) ||
            !rule_of(call, group, items[i].security_group_rule_id, egress, &rule,
                     err)) {
            return false;
        }
        struct row_security_group_rule next = *rule;
        next.description = items[i].description;
        if (!row_put(call->txn, &row_security_group_rule_type, &next, err)) {
            return false;
        }
    }
    return true;
}

static bool
update_descriptions(struct call *call, const struct rule_ask *ask,
                    const struct ec2_security_group_rule_description *items,
                    size_t count, struct err *err)
{
    const struct row_security_group *group;
    struct row_list old;
    struct rules rules;
    if (!group_find(call, ask->group_id, ask->group_name, &group, err)) {
        return false;
    }
    if (count) {
        return describe_named(call, group, ask->egress, items, count, err) &&
               dry_run_check(ask->dry_run, err);
    }
    if (!rules_read(call, group, ask->egress, ask->permissions, ask->permission_count,
                    &ask->flat, &rules, err) ||
        !group_rules(call, group, &old, err)) {
        return false;
    }
    for (size_t i = 0; i < rules.count; i++) {
        const struct row_security_group_rule *same = find_same(&old, &rules.items[i]);
        if (!same) {
            return err_set(err, ERR_PERMISSION_NOT_FOUND,
                           "The specified rule does not exist in this security group.");
        }
        struct row_security_group_rule next = *same;
        next.description = rules.items[i].description;
        if (!row_put(call->txn, &row_security_group_rule_type, &next, err)) {
            return false;
        }
    }
    return dry_run_check(ask->dry_run, err);
}

#define DESCRIPTION_ASK(in, out_) \
    { \
        .group_id = (in)->group_id, .group_name = (in)->group_name, .egress = (out_), \
        .dry_run = (in)->dry_run, .permissions = (in)->ip_permissions.items, \
        .permission_count = (in)->ip_permissions.count \
    }

bool
ec2_update_security_group_rule_descriptions_ingress(
    struct call *call,
    const struct ec2_update_security_group_rule_descriptions_ingress_request *in,
    struct ec2_update_security_group_rule_descriptions_ingress_result *out,
    struct err *err)
{
    const struct rule_ask ask = DESCRIPTION_ASK(in, false);
    out->return_ = out->has_return_ = true;
    return update_descriptions(call, &ask, in->security_group_rule_descriptions.items,
                               in->security_group_rule_descriptions.count, err);
}

bool
ec2_update_security_group_rule_descriptions_egress(
    struct call *call,
    const struct ec2_update_security_group_rule_descriptions_egress_request *in,
    struct ec2_update_security_group_rule_descriptions_egress_result *out,
    struct err *err)
{
    const struct rule_ask ask = DESCRIPTION_ASK(in, true);
    out->return_ = out->has_return_ = true;
    return update_descriptions(call, &ask, in->security_group_rule_descriptions.items,
                               in->security_group_rule_descriptions.count, err);
}
