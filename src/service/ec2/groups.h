/* groups.h - security groups and their rules, for the files that show and change them.
 *
 * Place:    service/ec2; groups_describe.c, group_calls.c, group_rules.c, rule_read.c.
 * Threads:  the request's. */
#pragma once
#include "service/ec2/network.h"

/* A name or description of a group, or of a rule (NULL: none), as the parameter 'what':
 * at most 255 characters of ASCII, as on AWS. */
MUST_CHECK bool group_text_check(const char *text, const char *what, struct err *err);

/* A group by id, or by name in the default VPC. */
MUST_CHECK bool group_find(struct call *call, const char *id, const char *name,
                           const struct row_security_group **out, struct err *err);
MUST_CHECK bool group_rules(struct call *call, const struct row_security_group *group,
                            struct row_list *out, struct err *err);

/* The rules that a request's permissions say: one a source, checked and canonical, with
 * no ids yet. */
struct rules {
    struct row_security_group_rule *items;
    size_t count;
};

/* The old members of Authorize and Revoke: one permission spelled out flat. */
struct flat_permission {
    const char *protocol, *cidr, *group_name, *group_owner;
    bool has_from, has_to;
    int64_t from, to;
};

MUST_CHECK bool rules_read(struct call *call, const struct row_security_group *group,
                           bool egress, const struct ec2_ip_permission *items,
                           size_t count, const struct flat_permission *flat,
                           struct rules *out, struct err *err);
/* One rule as ModifySecurityGroupRules writes it, into 'rule'. */
MUST_CHECK bool rule_read_one(struct call *call, const struct row_security_group *group,
                              const struct ec2_security_group_rule_request *in,
                              struct row_security_group_rule *rule, struct err *err);
/* The same protocol, ports, direction and source. */
bool rule_same(const struct row_security_group_rule *a,
               const struct row_security_group_rule *b);
/* A rule as the answers show it. */
struct ec2_security_group_rule rule_out(struct call *call,
                                        const struct row_security_group_rule *row,
                                        struct tag_set tags);
