/* test_groups.c - security groups, network ACLs, peerings and prefix lists: who may speak
 * with whom, as the API has it. */
#include "operation.h"

static const char *
make_vpc(struct ec2 *e, const char *cidr)
{
    struct err err;
    struct ec2_create_vpc_result out;
    const struct ec2_create_vpc_request in = {.cidr_block = cidr};
    CHECK_OK(EC2(e, "CreateVpc", &in, &out, &err), &err);
    return out.vpc->vpc_id;
}

static const char *
make_group(struct ec2 *e, const char *vpc, const char *name)
{
    struct err err;
    struct ec2_create_security_group_result out;
    const struct ec2_create_security_group_request in = {
        .vpc_id = vpc, .group_name = name, .description = "test"};
    CHECK_OK(EC2(e, "CreateSecurityGroup", &in, &out, &err), &err);
    return out.group_id;
}

static struct ec2_ip_permission
tcp(int64_t port, struct ec2_ip_range *range)
{
    return (struct ec2_ip_permission){.ip_protocol = "tcp",
                                      .has_from_port = true,
                                      .from_port = port,
                                      .has_to_port = true,
                                      .to_port = port,
                                      .ip_ranges = {range, 1}};
}

TEST(group_rules_are_authorized_once_and_revoked_once)
{
    struct ec2 e;
    struct err err;
    struct ec2_authorize_security_group_ingress_result allowed;
    struct ec2_revoke_security_group_ingress_result revoked;
    struct ec2_ip_range range = {.cidr_ip = "10.1.2.3/8", .description = "all"};
    struct ec2_ip_permission permission = tcp(22, &range);
    ec2_init(&e);
    const char *group = make_group(&e, make_vpc(&e, "10.0.0.0/16"), "web");
    const struct ec2_authorize_security_group_ingress_request allow = {
        .group_id = group, .ip_permissions = {&permission, 1}};
    const struct ec2_revoke_security_group_ingress_request revoke = {
        .group_id = group, .ip_permissions = {&permission, 1}};
    CHECK_OK(EC2(&e, "AuthorizeSecurityGroupIngress", &allow, &allowed, &err), &err);
    CHECK_EQ(allowed.security_group_rules.count, 1);
    CHECK_STR(allowed.security_group_rules.items[0].cidr_ipv4, "10.0.0.0/8");
    CHECK_STR(allowed.security_group_rules.items[0].group_id, group);
    CHECK(!EC2(&e, "AuthorizeSecurityGroupIngress", &allow, &allowed, &err));
    CHECK_STR(err_info(err.code)->aws, "InvalidPermission.Duplicate");
    CHECK_OK(EC2(&e, "RevokeSecurityGroupIngress", &revoke, &revoked, &err), &err);
    CHECK(!EC2(&e, "RevokeSecurityGroupIngress", &revoke, &revoked, &err));
    CHECK_STR(err_info(err.code)->aws, "InvalidPermission.NotFound");
    ec2_fini(&e);
}

/* Wherever a text comes from, also by a rule's id. */
TEST(group_texts_are_ascii_and_short)
{
    struct ec2 e;
    struct err err;
    struct ec2_create_security_group_result made;
    struct ec2_describe_security_group_rules_result rules;
    struct ec2_update_security_group_rule_descriptions_egress_result updated;
    ec2_init(&e);
    const char *vpc = make_vpc(&e, "10.0.0.0/16");
    struct ec2_create_security_group_request in = {
        .vpc_id = vpc, .group_name = "w\xc3\xa9\x62", .description = "test"};
    CHECK(!EC2(&e, "CreateSecurityGroup", &in, &made, &err));
    CHECK_EQ(err.code, ERR_INVALID_PARAMETER_VALUE);
    in.description = in.group_name;
    in.group_name = "web";
    CHECK(!EC2(&e, "CreateSecurityGroup", &in, &made, &err));
    CHECK_EQ(err.code, ERR_INVALID_PARAMETER_VALUE);

    const char *group = make_group(&e, vpc, "web");
    const struct ec2_describe_security_group_rules_request ask = {
        .filters = ONE(struct ec2_filter,
                       {.name = "group-id", .values = ONE(const char *, group)})};
    CHECK_OK(EC2(&e, "DescribeSecurityGroupRules", &ask, &rules, &err), &err);
    char text[257] = "";
    memset(text, 'x', 256);
    struct ec2_security_group_rule_description item = {
        .security_group_rule_id =
            rules.security_group_rules.items[0].security_group_rule_id,
        .description = text};
    const struct ec2_update_security_group_rule_descriptions_egress_request update = {
        .group_id = group, .security_group_rule_descriptions = {&item, 1}};
    CHECK(
        !EC2(&e, "UpdateSecurityGroupRuleDescriptionsEgress", &update, &updated, &err));
    CHECK_EQ(err.code, ERR_INVALID_PARAMETER_VALUE);
    text[255] = '\0';
    CHECK_OK(
        EC2(&e, "UpdateSecurityGroupRuleDescriptionsEgress", &update, &updated, &err),
        &err);
    ec2_fini(&e);
}

TEST(group_default_egress_can_be_revoked)
{
    struct ec2 e;
    struct err err;
    struct ec2_revoke_security_group_egress_result revoked;
    struct ec2_describe_security_groups_result groups;
    struct ec2_ip_range range = {.cidr_ip = "0.0.0.0/0"};
    struct ec2_ip_permission all = {.ip_protocol = "-1", .ip_ranges = {&range, 1}};
    ec2_init(&e);
    const char *group = make_group(&e, make_vpc(&e, "10.0.0.0/16"), "web");
    const struct ec2_revoke_security_group_egress_request revoke = {
        .group_id = group, .ip_permissions = {&all, 1}};
    const struct ec2_describe_security_groups_request ask = {
        .group_ids = ONE(const char *, group)};
    CHECK_OK(EC2(&e, "RevokeSecurityGroupEgress", &revoke, &revoked, &err), &err);
    CHECK_OK(EC2(&e, "DescribeSecurityGroups", &ask, &groups, &err), &err);
    CHECK_EQ(groups.security_groups.items[0].ip_permissions_egress.count, 0);
    ec2_fini(&e);
}

TEST(groups_that_are_named_or_in_use_stay)
{
    struct ec2 e;
    struct err err;
    struct ec2_authorize_security_group_ingress_result allowed;
    struct ec2_create_security_group_result again;
    ec2_init(&e);
    const char *vpc = make_vpc(&e, "10.0.0.0/16");
    const char *web = make_group(&e, vpc, "web"), *db = make_group(&e, vpc, "db");
    struct ec2_user_id_group_pair pair = {.group_id = web};
    struct ec2_ip_permission permission = {.ip_protocol = "-1",
                                           .user_id_group_pairs = {&pair, 1}};
    const struct ec2_authorize_security_group_ingress_request allow = {
        .group_id = db, .ip_permissions = {&permission, 1}};
    const struct ec2_delete_security_group_request delete_web = {.group_id = web};
    const struct ec2_delete_security_group_request delete_db = {.group_id = db};
    const struct ec2_create_security_group_request twice = {
        .vpc_id = vpc, .group_name = "web", .description = "again"};
    CHECK_OK(EC2(&e, "AuthorizeSecurityGroupIngress", &allow, &allowed, &err), &err);
    CHECK(!EC2(&e, "CreateSecurityGroup", &twice, &again, &err));
    CHECK_STR(err_info(err.code)->aws, "InvalidGroup.Duplicate");
    CHECK(!EC2_DO(&e, "DeleteSecurityGroup", &delete_web, &err));
    CHECK_STR(err_info(err.code)->aws, "DependencyViolation");
    CHECK_OK(EC2_DO(&e, "DeleteSecurityGroup", &delete_db, &err), &err);
    CHECK_OK(EC2_DO(&e, "DeleteSecurityGroup", &delete_web, &err), &err);
    ec2_fini(&e);
}

TEST(peering_is_asked_accepted_and_lets_groups_be_named)
{
    struct ec2 e;
    struct err err;
    struct ec2_create_vpc_peering_connection_result asked;
    struct ec2_accept_vpc_peering_connection_result accepted;
    struct ec2_delete_vpc_peering_connection_result gone;
    struct ec2_authorize_security_group_ingress_result allowed;
    ec2_init(&e);
    const char *mine = make_vpc(&e, "10.0.0.0/16");
    e.account = STRANGER;
    const char *theirs = make_vpc(&e, "10.1.0.0/16");
    const char *their_group = make_group(&e, theirs, "web");
    e.account = ACCOUNT;
    const char *group = make_group(&e, mine, "db");
    struct ec2_user_id_group_pair pair = {.group_id = their_group, .user_id = STRANGER};
    struct ec2_ip_permission permission = {.ip_protocol = "-1",
                                           .user_id_group_pairs = {&pair, 1}};
    const struct ec2_authorize_security_group_ingress_request allow = {
        .group_id = group, .ip_permissions = {&permission, 1}};
    CHECK(!EC2(&e, "AuthorizeSecurityGroupIngress", &allow, &allowed, &err));
    CHECK_EQ(err.code, ERR_GROUP_NOT_FOUND);

    const struct ec2_create_vpc_peering_connection_request ask = {
        .vpc_id = mine, .peer_vpc_id = theirs, .peer_owner_id = STRANGER};
    CHECK_OK(EC2(&e, "CreateVpcPeeringConnection", &ask, &asked, &err), &err);
    CHECK_STR(asked.vpc_peering_connection->status->code, "pending-acceptance");
    const struct ec2_accept_vpc_peering_connection_request accept = {
        .vpc_peering_connection_id =
            asked.vpc_peering_connection->vpc_peering_connection_id};
    CHECK(!EC2(&e, "AcceptVpcPeeringConnection", &accept, &accepted, &err));
    CHECK_EQ(err.code, ERR_OPERATION_NOT_PERMITTED);
    e.account = STRANGER;
    CHECK_OK(EC2(&e, "AcceptVpcPeeringConnection", &accept, &accepted, &err), &err);
    CHECK_STR(accepted.vpc_peering_connection->status->code, "active");
    e.account = ACCOUNT;
    CHECK_OK(EC2(&e, "AuthorizeSecurityGroupIngress", &allow, &allowed, &err), &err);
    const struct ec2_delete_vpc_peering_connection_request drop = {
        .vpc_peering_connection_id = accept.vpc_peering_connection_id};
    CHECK_OK(EC2(&e, "DeleteVpcPeeringConnection", &drop, &gone, &err), &err);
    CHECK(!EC2(&e, "DeleteVpcPeeringConnection", &drop, &gone, &err));
    CHECK_EQ(err.code, ERR_PEERING_STATE);
    ec2_fini(&e);
}

TEST(acl_entries_have_numbers_of_their_own)
{
    struct ec2 e;
    struct err err;
    struct ec2_create_network_acl_result made;
    struct ec2_port_range ports = {
        .has_from = true, .from = 80, .has_to = true, .to = 80};
    ec2_init(&e);
    const struct ec2_create_network_acl_request make = {
        .vpc_id = make_vpc(&e, "10.0.0.0/16")};
    CHECK_OK(EC2(&e, "CreateNetworkAcl", &make, &made, &err), &err);
    CHECK_EQ(made.network_acl->entries.count, 2);
    struct ec2_create_network_acl_entry_request entry = {
        .network_acl_id = made.network_acl->network_acl_id,
        .rule_number = 100,
        .protocol = "6",
        .rule_action = "allow",
        .cidr_block = "0.0.0.0/0"};
    CHECK(!EC2_DO(&e, "CreateNetworkAclEntry", &entry, &err));
    CHECK_EQ(err.code, ERR_MISSING_PARAMETER);
    entry.port_range = &ports;
    CHECK_OK(EC2_DO(&e, "CreateNetworkAclEntry", &entry, &err), &err);
    CHECK(!EC2_DO(&e, "CreateNetworkAclEntry", &entry, &err));
    CHECK_STR(err_info(err.code)->aws, "NetworkAclEntryAlreadyExists");
    entry.egress = entry.has_egress = true;
    CHECK_OK(EC2_DO(&e, "CreateNetworkAclEntry", &entry, &err), &err);
    const struct ec2_delete_network_acl_entry_request drop = {
        .network_acl_id = entry.network_acl_id, .rule_number = 200};
    CHECK(!EC2_DO(&e, "DeleteNetworkAclEntry", &drop, &err));
    CHECK_STR(err_info(err.code)->aws, "InvalidNetworkAclEntry.NotFound");
    const struct ec2_delete_network_acl_request gone = {.network_acl_id =
                                                            entry.network_acl_id};
    CHECK_OK(EC2_DO(&e, "DeleteNetworkAcl", &gone, &err), &err);
    ec2_fini(&e);
}

TEST(prefix_list_keeps_its_versions)
{
    struct ec2 e;
    struct err err;
    struct ec2_create_managed_prefix_list_result made;
    struct ec2_modify_managed_prefix_list_result changed;
    struct ec2_get_managed_prefix_list_entries_result entries;
    struct ec2_add_prefix_list_entry first = {.cidr = "10.0.0.0/8"};
    struct ec2_add_prefix_list_entry second = {.cidr = "192.168.0.0/16"};
    ec2_init(&e);
    const struct ec2_create_managed_prefix_list_request make = {
        .prefix_list_name = "private",
        .address_family = "IPv4",
        .max_entries = 2,
        .has_max_entries = true,
        .entries = {&first, 1}};
    CHECK_OK(EC2(&e, "CreateManagedPrefixList", &make, &made, &err), &err);
    struct ec2_modify_managed_prefix_list_request change = {
        .prefix_list_id = made.prefix_list->prefix_list_id,
        .current_version = 7,
        .has_current_version = true,
        .add_entries = {&second, 1}};
    CHECK(!EC2(&e, "ModifyManagedPrefixList", &change, &changed, &err));
    CHECK_EQ(err.code, ERR_PREFIX_LIST_VERSION);
    change.current_version = 1;
    CHECK_OK(EC2(&e, "ModifyManagedPrefixList", &change, &changed, &err), &err);
    CHECK_EQ(changed.prefix_list->version, 2);
    struct ec2_get_managed_prefix_list_entries_request ask = {
        .prefix_list_id = change.prefix_list_id};
    CHECK_OK(EC2(&e, "GetManagedPrefixListEntries", &ask, &entries, &err), &err);
    CHECK_EQ(entries.entries.count, 2);
    ask.target_version = 1;
    ask.has_target_version = true;
    CHECK_OK(EC2(&e, "GetManagedPrefixListEntries", &ask, &entries, &err), &err);
    CHECK_EQ(entries.entries.count, 1);
    ec2_fini(&e);
}
