/* test_network_describe.c - the default VPC and all that belongs to it, as described; places
 * and types. */
#include "operation.h"

TEST(default_vpc_is_described_with_its_parts)
{
    struct ec2 e;
    struct err err;
    struct ec2_describe_vpcs_result vpcs;
    struct ec2_describe_subnets_result subnets;
    struct ec2_describe_security_groups_result groups;
    struct ec2_describe_route_tables_result tables;
    struct ec2_describe_network_acls_result acls;
    const struct ec2_describe_vpcs_request ask_vpcs = {0};
    const struct ec2_describe_subnets_request ask_subnets = {0};
    const struct ec2_describe_security_groups_request ask_groups = {
        .group_names = ONE(const char *, "default")};
    const struct ec2_describe_route_tables_request ask_tables = {0};
    const struct ec2_describe_network_acls_request ask_acls = {0};
    ec2_init(&e);
    CHECK_OK(EC2(&e, "DescribeVpcs", &ask_vpcs, &vpcs, &err), &err);
    CHECK_EQ(vpcs.vpcs.count, 1);
    CHECK(vpcs.vpcs.items[0].is_default);
    CHECK_OK(EC2(&e, "DescribeSubnets", &ask_subnets, &subnets, &err), &err);
    CHECK_EQ(subnets.subnets.count, 2);
    CHECK_EQ(subnets.subnets.items[0].available_ip_address_count, 4096 - 5);
    CHECK_OK(EC2(&e, "DescribeSecurityGroups", &ask_groups, &groups, &err), &err);
    CHECK_EQ(groups.security_groups.count, 1);
    const struct ec2_security_group *group = &groups.security_groups.items[0];
    CHECK_EQ(group->ip_permissions.count, 1);
    CHECK_STR(group->ip_permissions.items[0].user_id_group_pairs.items[0].group_id,
              group->group_id);
    CHECK_STR(group->ip_permissions_egress.items[0].ip_ranges.items[0].cidr_ip,
              "0.0.0.0/0");
    CHECK(!group->ip_permissions_egress.items[0].has_from_port);
    CHECK_OK(EC2(&e, "DescribeRouteTables", &ask_tables, &tables, &err), &err);
    CHECK_EQ(tables.route_tables.count, 1);
    CHECK_STR(tables.route_tables.items[0].vpc_id, vpcs.vpcs.items[0].vpc_id);
    CHECK_OK(EC2(&e, "DescribeNetworkAcls", &ask_acls, &acls, &err), &err);
    CHECK_EQ(acls.network_acls.items[0].associations.count, 2);
    ec2_fini(&e);
}

TEST(subnets_count_addresses_that_instances_took)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation launched;
    struct ec2_describe_subnets_result subnets;
    const struct ec2_run_instances_request run = {
        .image_id = IMAGE, .instance_type = "t3.micro", .min_count = 2, .max_count = 2};
    ec2_init(&e);
    CHECK_OK(EC2(&e, "RunInstances", &run, &launched, &err), &err);
    const struct ec2_describe_subnets_request in = {
        .subnet_ids = ONE(const char *, launched.instances.items[0].subnet_id)};
    CHECK_OK(EC2(&e, "DescribeSubnets", &in, &subnets, &err), &err);
    CHECK_EQ(subnets.subnets.items[0].available_ip_address_count, 4096 - 5 - 2);
    ec2_fini(&e);
}

TEST(zones_and_types_are_described_and_unknown_ones_refused)
{
    struct ec2 e;
    struct err err;
    struct ec2_describe_availability_zones_result zones_out;
    struct ec2_describe_instance_types_result types_out;
    struct ec2_describe_instance_type_offerings_result offers;
    const struct ec2_describe_availability_zones_request ask_zones = {0};
    const struct ec2_describe_availability_zones_request bad_zone = {
        .zone_names = ONE(const char *, "mars-1a")};
    const struct ec2_describe_instance_types_request ask_type = {
        .instance_types = ONE(const char *, "t3.micro")};
    const struct ec2_describe_instance_types_request bad_type = {
        .instance_types = ONE(const char *, "t3.huge")};
    const struct ec2_describe_instance_type_offerings_request by_zone = {
        .location_type = "availability-zone"};
    ec2_init(&e);
    CHECK_OK(EC2(&e, "DescribeAvailabilityZones", &ask_zones, &zones_out, &err), &err);
    CHECK_EQ(zones_out.availability_zones.count, 2);
    CHECK(!EC2(&e, "DescribeAvailabilityZones", &bad_zone, &zones_out, &err));
    CHECK_OK(EC2(&e, "DescribeInstanceTypes", &ask_type, &types_out, &err), &err);
    CHECK_EQ(types_out.instance_types.items[0].v_cpu_info->default_cores, 1);
    CHECK_EQ(types_out.instance_types.items[0].memory_info->size_in_mi_b, 1024);
    CHECK(!EC2(&e, "DescribeInstanceTypes", &bad_type, &types_out, &err));
    CHECK_EQ(err.code, ERR_INSTANCE_TYPE_INVALID);
    CHECK_OK(EC2(&e, "DescribeInstanceTypeOfferings", &by_zone, &offers, &err), &err);
    CHECK_EQ(offers.instance_type_offerings.count, 4);
    ec2_fini(&e);
}
