/* test_vpc.c - VPCs and what lies in them, in the order in which Terraform makes and
 * destroys them, and the errors that AWS has on the way. */
#include "operation.h"

static struct ec2_filter
where(const char *name, const char **value)
{
    return (struct ec2_filter){.name = name, .values = {value, 1}};
}

static const char *
make_vpc(struct ec2 *e, const char *cidr, bool six)
{
    struct err err;
    struct ec2_create_vpc_result out;
    const struct ec2_create_vpc_request in = {.cidr_block = cidr,
                                              .amazon_provided_ipv6_cidr_block = six,
                                              .has_amazon_provided_ipv6_cidr_block =
                                                  six};
    CHECK_OK(EC2(e, "CreateVpc", &in, &out, &err), &err);
    return out.vpc->vpc_id;
}

static const char *
make_subnet(struct ec2 *e, const char *vpc, const char *cidr)
{
    struct err err;
    struct ec2_create_subnet_result out;
    const struct ec2_create_subnet_request in = {.vpc_id = vpc, .cidr_block = cidr};
    CHECK_OK(EC2(e, "CreateSubnet", &in, &out, &err), &err);
    return out.subnet->subnet_id;
}

static const char *
make_gateway(struct ec2 *e, const char *vpc)
{
    struct err err;
    struct ec2_create_internet_gateway_result out;
    const struct ec2_create_internet_gateway_request in = {0};
    CHECK_OK(EC2(e, "CreateInternetGateway", &in, &out, &err), &err);
    const struct ec2_attach_internet_gateway_request attach = {
        .internet_gateway_id = out.internet_gateway->internet_gateway_id,
        .vpc_id = vpc};
    CHECK_OK(EC2_DO(e, "AttachInternetGateway", &attach, &err), &err);
    return attach.internet_gateway_id;
}

static const char *
allocate(struct ec2 *e)
{
    struct err err;
    struct ec2_allocate_address_result out;
    const struct ec2_allocate_address_request in = {.domain = "vpc"};
    CHECK_OK(EC2(e, "AllocateAddress", &in, &out, &err), &err);
    return out.allocation_id;
}

static const char *
make_table(struct ec2 *e, const char *vpc)
{
    struct err err;
    struct ec2_create_route_table_result out;
    const struct ec2_create_route_table_request in = {.vpc_id = vpc};
    CHECK_OK(EC2(e, "CreateRouteTable", &in, &out, &err), &err);
    return out.route_table->route_table_id;
}

static struct ec2_route_table
table_of(struct ec2 *e, const char *id)
{
    struct err err;
    struct ec2_describe_route_tables_result out;
    const struct ec2_describe_route_tables_request in = {.route_table_ids =
                                                             ONE(const char *, id)};
    CHECK_OK(EC2(e, "DescribeRouteTables", &in, &out, &err), &err);
    CHECK_EQ(out.route_tables.count, 1);
    return out.route_tables.items[0];
}

/* ---- the whole of it ---- */

TEST(vpc_is_made_and_destroyed_as_terraform_does)
{
    struct ec2 e;
    struct err err;
    ec2_init(&e);
    const char *vpc = make_vpc(&e, "10.0.0.0/16", false);
    const char *subnet = make_subnet(&e, vpc, "10.0.1.0/24");
    const char *gateway = make_gateway(&e, vpc);
    const char *table = make_table(&e, vpc);

    struct ec2_create_route_result routed;
    const struct ec2_create_route_request route = {.route_table_id = table,
                                                   .destination_cidr_block =
                                                       "0.0.0.0/0",
                                                   .gateway_id = gateway};
    CHECK_OK(EC2(&e, "CreateRoute", &route, &routed, &err), &err);
    struct ec2_associate_route_table_result associated;
    const struct ec2_associate_route_table_request associate = {.route_table_id = table,
                                                                .subnet_id = subnet};
    CHECK_OK(EC2(&e, "AssociateRouteTable", &associate, &associated, &err), &err);

    const struct ec2_delete_route_request delete_local = {
        .route_table_id = table, .destination_cidr_block = "10.0.0.0/16"};
    CHECK(!EC2_DO(&e, "DeleteRoute", &delete_local, &err));
    CHECK_EQ(err.code, ERR_INVALID_PARAMETER_VALUE);

    struct ec2_route_table shown = table_of(&e, table);
    CHECK_EQ(shown.routes.count, 2);
    CHECK_STR(shown.routes.items[0].gateway_id, "local");
    CHECK_STR(shown.routes.items[1].gateway_id, gateway);
    CHECK_STR(shown.routes.items[1].state, "active");
    CHECK_EQ(shown.associations.count, 1);
    CHECK_STR(shown.associations.items[0].subnet_id, subnet);

    const struct ec2_delete_vpc_request delete_vpc = {.vpc_id = vpc};
    const struct ec2_delete_route_table_request delete_table = {.route_table_id =
                                                                    table};
    const struct ec2_delete_internet_gateway_request delete_gateway = {
        .internet_gateway_id = gateway};
    CHECK(!EC2_DO(&e, "DeleteVpc", &delete_vpc, &err));
    CHECK_EQ(err.code, ERR_DEPENDENCY);
    CHECK(!EC2_DO(&e, "DeleteRouteTable", &delete_table, &err));
    CHECK_EQ(err.code, ERR_DEPENDENCY);
    CHECK(!EC2_DO(&e, "DeleteInternetGateway", &delete_gateway, &err));
    CHECK_EQ(err.code, ERR_DEPENDENCY);

    const struct ec2_disassociate_route_table_request part = {
        .association_id = associated.association_id};
    const struct ec2_detach_internet_gateway_request detach = {
        .internet_gateway_id = gateway, .vpc_id = vpc};
    const struct ec2_delete_subnet_request delete_subnet = {.subnet_id = subnet};
    CHECK_OK(EC2_DO(&e, "DisassociateRouteTable", &part, &err), &err);
    CHECK_OK(EC2_DO(&e, "DetachInternetGateway", &detach, &err), &err);
    shown = table_of(&e, table);
    CHECK_STR(shown.routes.items[1].state, "blackhole");
    CHECK_OK(EC2_DO(&e, "DeleteInternetGateway", &delete_gateway, &err), &err);
    CHECK_OK(EC2_DO(&e, "DeleteRouteTable", &delete_table, &err), &err);
    CHECK_OK(EC2_DO(&e, "DeleteSubnet", &delete_subnet, &err), &err);
    CHECK_OK(EC2_DO(&e, "DeleteVpc", &delete_vpc, &err), &err);
    CHECK(!EC2_DO(&e, "DeleteVpc", &delete_vpc, &err));
    CHECK_EQ(err.code, ERR_VPC_NOT_FOUND);
    ec2_fini(&e);
}

TEST(vpc_attributes_are_described_as_modified)
{
    struct ec2 e;
    struct err err;
    struct ec2_describe_vpc_attribute_result out;
    struct ec2_attribute_boolean_value on = {.value = true, .has_value = true};
    ec2_init(&e);
    const char *vpc = make_vpc(&e, "10.0.0.0/16", false);
    const struct ec2_describe_vpc_attribute_request ask = {
        .vpc_id = vpc, .attribute = "enableDnsHostnames"};
    const struct ec2_modify_vpc_attribute_request modify = {
        .vpc_id = vpc, .enable_dns_hostnames = &on};
    CHECK_OK(EC2(&e, "DescribeVpcAttribute", &ask, &out, &err), &err);
    CHECK(!out.enable_dns_hostnames->value);
    CHECK_OK(EC2_DO(&e, "ModifyVpcAttribute", &modify, &err), &err);
    CHECK_OK(EC2(&e, "DescribeVpcAttribute", &ask, &out, &err), &err);
    CHECK(out.enable_dns_hostnames->value);
    ec2_fini(&e);
}

TEST(blocks_out_of_range_or_in_conflict_are_refused)
{
    struct ec2 e;
    struct err err;
    struct ec2_create_vpc_result vpc_out;
    struct ec2_create_subnet_result subnet_out;
    struct ec2_associate_vpc_cidr_block_result more;
    ec2_init(&e);
    const char *vpc = make_vpc(&e, "10.0.0.0/16", false);
    make_subnet(&e, vpc, "10.0.1.0/24");
    const struct ec2_create_vpc_request huge = {.cidr_block = "10.0.0.0/8"};
    const struct ec2_create_subnet_request outside = {.vpc_id = vpc,
                                                      .cidr_block = "10.1.0.0/24"};
    const struct ec2_create_subnet_request again = {.vpc_id = vpc,
                                                    .cidr_block = "10.0.1.128/25"};
    const struct ec2_associate_vpc_cidr_block_request overlap = {
        .vpc_id = vpc, .cidr_block = "10.0.0.0/16"};
    const struct ec2_associate_vpc_cidr_block_request second = {
        .vpc_id = vpc, .cidr_block = "10.1.0.0/16"};
    CHECK(!EC2(&e, "CreateVpc", &huge, &vpc_out, &err));
    CHECK_EQ(err.code, ERR_VPC_RANGE);
    CHECK(!EC2(&e, "CreateSubnet", &outside, &subnet_out, &err));
    CHECK_EQ(err.code, ERR_SUBNET_RANGE);
    CHECK(!EC2(&e, "CreateSubnet", &again, &subnet_out, &err));
    CHECK_EQ(err.code, ERR_SUBNET_CONFLICT);
    CHECK(!EC2(&e, "AssociateVpcCidrBlock", &overlap, &more, &err));
    CHECK_EQ(err.code, ERR_VPC_RANGE);
    CHECK_OK(EC2(&e, "AssociateVpcCidrBlock", &second, &more, &err), &err);
    CHECK_OK(EC2(&e, "CreateSubnet", &outside, &subnet_out, &err), &err);

    struct ec2_disassociate_vpc_cidr_block_result gone;
    const struct ec2_disassociate_vpc_cidr_block_request drop = {
        .association_id = more.cidr_block_association->association_id};
    CHECK(!EC2(&e, "DisassociateVpcCidrBlock", &drop, &gone, &err));
    CHECK_EQ(err.code, ERR_DEPENDENCY);
    ec2_fini(&e);
}

TEST(default_vpc_can_be_deleted_and_made_again)
{
    struct ec2 e;
    struct err err;
    struct ec2_describe_vpcs_result vpcs;
    struct ec2_describe_subnets_result subnets;
    struct ec2_describe_internet_gateways_result gateways;
    struct ec2_create_default_vpc_result made;
    struct ec2_reservation launched;
    const struct ec2_describe_vpcs_request all_vpcs = {0};
    const struct ec2_describe_subnets_request all_subnets = {0};
    const struct ec2_describe_internet_gateways_request all_gateways = {0};
    const struct ec2_create_default_vpc_request make = {0};
    const struct ec2_run_instances_request run = {
        .image_id = IMAGE, .instance_type = "t3.micro", .min_count = 1, .max_count = 1};
    ec2_init(&e);
    CHECK(!EC2(&e, "CreateDefaultVpc", &make, &made, &err));
    CHECK_EQ(err.code, ERR_DEFAULT_VPC_EXISTS);
    CHECK_OK(EC2(&e, "DescribeVpcs", &all_vpcs, &vpcs, &err), &err);
    CHECK_OK(EC2(&e, "DescribeSubnets", &all_subnets, &subnets, &err), &err);
    CHECK_OK(EC2(&e, "DescribeInternetGateways", &all_gateways, &gateways, &err), &err);
    CHECK_EQ(gateways.internet_gateways.count, 1);
    const struct ec2_delete_vpc_request delete_vpc = {.vpc_id =
                                                          vpcs.vpcs.items[0].vpc_id};
    const struct ec2_detach_internet_gateway_request detach = {
        .vpc_id = delete_vpc.vpc_id,
        .internet_gateway_id = gateways.internet_gateways.items[0].internet_gateway_id};
    CHECK_OK(EC2_DO(&e, "DetachInternetGateway", &detach, &err), &err);
    for (size_t i = 0; i < subnets.subnets.count; i++) {
        const struct ec2_delete_subnet_request in = {
            .subnet_id = subnets.subnets.items[i].subnet_id};
        CHECK_OK(EC2_DO(&e, "DeleteSubnet", &in, &err), &err);
    }
    CHECK_OK(EC2_DO(&e, "DeleteVpc", &delete_vpc, &err), &err);
    CHECK(!EC2(&e, "RunInstances", &run, &launched, &err));
    CHECK_EQ(err.code, ERR_VPC_DEFAULT_NOT_FOUND);
    CHECK_OK(EC2(&e, "CreateDefaultVpc", &make, &made, &err), &err);
    CHECK_OK(EC2(&e, "RunInstances", &run, &launched, &err), &err);
    ec2_fini(&e);
}

/* ---- routes ---- */

TEST(routes_are_checked_and_the_main_table_can_be_replaced)
{
    struct ec2 e;
    struct err err;
    struct ec2_create_route_result done;
    struct ec2_replace_route_table_association_result replaced;
    ec2_init(&e);
    const char *vpc = make_vpc(&e, "10.0.0.0/16", false);
    const char *other = make_vpc(&e, "10.1.0.0/16", false);
    const char *gateway = make_gateway(&e, vpc);
    const char *table = make_table(&e, vpc), *foreign = make_table(&e, other);
    struct ec2_create_route_request route = {.route_table_id = foreign,
                                             .destination_cidr_block = "0.0.0.0/0",
                                             .gateway_id = gateway};
    CHECK(!EC2(&e, "CreateRoute", &route, &done, &err));
    CHECK_EQ(err.code, ERR_INVALID_PARAMETER_VALUE);
    route.route_table_id = table;
    CHECK_OK(EC2(&e, "CreateRoute", &route, &done, &err), &err);
    route.gateway_id = make_gateway(&e, other);
    CHECK(!EC2(&e, "CreateRoute", &route, &done, &err));
    const struct ec2_delete_route_request missing = {
        .route_table_id = table, .destination_cidr_block = "1.2.3.0/24"};
    CHECK(!EC2_DO(&e, "DeleteRoute", &missing, &err));
    CHECK_EQ(err.code, ERR_ROUTE_NOT_FOUND);

    struct ec2_describe_route_tables_result tables;
    const struct ec2_filter filters[] = {
        where("vpc-id", (const char *[]){vpc}),
        where("association.main", (const char *[]){"true"})};
    const struct ec2_describe_route_tables_request main_table = {
        .filters = {(struct ec2_filter *)filters, 2}};
    CHECK_OK(EC2(&e, "DescribeRouteTables", &main_table, &tables, &err), &err);
    CHECK_EQ(tables.route_tables.count, 1);
    const struct ec2_replace_route_table_association_request replace = {
        .route_table_id = table,
        .association_id = tables.route_tables.items[0]
                              .associations.items[0]
                              .route_table_association_id};
    const struct ec2_delete_route_table_request old_main = {
        .route_table_id = tables.route_tables.items[0].route_table_id};
    CHECK(!EC2_DO(&e, "DeleteRouteTable", &old_main, &err));
    CHECK_OK(EC2(&e, "ReplaceRouteTableAssociation", &replace, &replaced, &err), &err);
    CHECK(table_of(&e, table).associations.items[0].main);
    CHECK_OK(EC2_DO(&e, "DeleteRouteTable", &old_main, &err), &err);
    ec2_fini(&e);
}

/* ---- NAT gateways and Elastic IPs ---- */

TEST(nat_gateway_holds_its_address_and_its_subnet)
{
    struct ec2 e;
    struct err err;
    struct ec2_create_nat_gateway_result made;
    struct ec2_delete_nat_gateway_result gone;
    ec2_init(&e);
    const char *vpc = make_vpc(&e, "10.0.0.0/16", false);
    const char *subnet = make_subnet(&e, vpc, "10.0.0.0/24");
    struct ec2_create_nat_gateway_request in = {.subnet_id = subnet};
    CHECK(!EC2(&e, "CreateNatGateway", &in, &made, &err));
    CHECK_EQ(err.code, ERR_MISSING_PARAMETER);
    in.allocation_id = allocate(&e);
    CHECK(!EC2(&e, "CreateNatGateway", &in, &made, &err));
    CHECK_EQ(err.code, ERR_GATEWAY_NOT_ATTACHED);
    const char *gateway = make_gateway(&e, vpc);
    CHECK_OK(EC2(&e, "CreateNatGateway", &in, &made, &err), &err);
    CHECK_STR(made.nat_gateway->state, "pending");
    CHECK_STR(made.nat_gateway->nat_gateway_addresses.items[0].private_ip, "10.0.0.4");

    const struct ec2_release_address_request release = {.allocation_id =
                                                            in.allocation_id};
    const struct ec2_delete_subnet_request delete_subnet = {.subnet_id = subnet};
    const struct ec2_detach_internet_gateway_request detach = {
        .internet_gateway_id = gateway, .vpc_id = vpc};
    const struct ec2_delete_network_interface_request delete_eni = {
        .network_interface_id =
            made.nat_gateway->nat_gateway_addresses.items[0].network_interface_id};
    CHECK(!EC2_DO(&e, "ReleaseAddress", &release, &err));
    CHECK_EQ(err.code, ERR_ADDRESS_IN_USE);
    CHECK(!EC2_DO(&e, "DeleteSubnet", &delete_subnet, &err));
    CHECK_EQ(err.code, ERR_DEPENDENCY);
    CHECK(!EC2_DO(&e, "DetachInternetGateway", &detach, &err));
    CHECK_EQ(err.code, ERR_DEPENDENCY);
    CHECK(!EC2_DO(&e, "DeleteNetworkInterface", &delete_eni, &err));
    CHECK_EQ(err.code, ERR_OPERATION_NOT_PERMITTED);
    const struct ec2_delete_nat_gateway_request delete_nat = {
        .nat_gateway_id = made.nat_gateway->nat_gateway_id};
    CHECK_OK(EC2(&e, "DeleteNatGateway", &delete_nat, &gone, &err), &err);
    ec2_fini(&e);
}

TEST(addresses_are_associated_moved_and_released)
{
    struct ec2 e;
    struct err err;
    struct ec2_create_network_interface_result first, second;
    struct ec2_associate_address_result joined;
    struct ec2_describe_addresses_result shown;
    ec2_init(&e);
    const char *vpc = make_vpc(&e, "10.0.0.0/16", false);
    const char *subnet = make_subnet(&e, vpc, "10.0.0.0/24");
    const struct ec2_create_network_interface_request make = {.subnet_id = subnet};
    CHECK_OK(EC2(&e, "CreateNetworkInterface", &make, &first, &err), &err);
    CHECK_OK(EC2(&e, "CreateNetworkInterface", &make, &second, &err), &err);
    struct ec2_associate_address_request join = {
        .allocation_id = allocate(&e),
        .network_interface_id = first.network_interface->network_interface_id};
    CHECK(!EC2(&e, "AssociateAddress", &join, &joined, &err));
    CHECK_EQ(err.code, ERR_GATEWAY_NOT_ATTACHED);
    make_gateway(&e, vpc);
    CHECK_OK(EC2(&e, "AssociateAddress", &join, &joined, &err), &err);
    join.network_interface_id = second.network_interface->network_interface_id;
    CHECK(!EC2(&e, "AssociateAddress", &join, &joined, &err));
    CHECK_EQ(err.code, ERR_ADDRESS_ASSOCIATED);
    join.allow_reassociation = join.has_allow_reassociation = true;
    CHECK_OK(EC2(&e, "AssociateAddress", &join, &joined, &err), &err);
    const struct ec2_describe_addresses_request ask = {
        .allocation_ids = ONE(const char *, join.allocation_id)};
    CHECK_OK(EC2(&e, "DescribeAddresses", &ask, &shown, &err), &err);
    CHECK_STR(shown.addresses.items[0].network_interface_id, join.network_interface_id);
    const struct ec2_disassociate_address_request part = {.association_id =
                                                              joined.association_id};
    const struct ec2_release_address_request release = {.allocation_id =
                                                            join.allocation_id};
    CHECK_OK(EC2_DO(&e, "DisassociateAddress", &part, &err), &err);
    CHECK_OK(EC2_DO(&e, "ReleaseAddress", &release, &err), &err);
    CHECK(!EC2(&e, "DescribeAddresses", &ask, &shown, &err));
    CHECK_EQ(err.code, ERR_ALLOCATION_NOT_FOUND);
    ec2_fini(&e);
}

/* ---- interfaces ---- */

TEST(interface_addresses_come_and_go_in_both_families)
{
    struct ec2 e;
    struct err err;
    struct ec2_create_network_interface_result made;
    struct ec2_assign_private_ip_addresses_result four;
    struct ec2_assign_ipv6_addresses_result six;
    struct ec2_describe_vpcs_result vpcs;
    struct ec2_associate_subnet_cidr_block_result block;
    struct ec2_unassign_ipv6_addresses_result gone;
    ec2_init(&e);
    const char *vpc = make_vpc(&e, "10.0.0.0/16", true);
    const char *subnet = make_subnet(&e, vpc, "10.0.0.0/24");
    const struct ec2_describe_vpcs_request ask = {.vpc_ids = ONE(const char *, vpc)};
    CHECK_OK(EC2(&e, "DescribeVpcs", &ask, &vpcs, &err), &err);
    char text[64];
    (void)snprintf(
        text, sizeof text, "%.*s/64",
        (int)strcspn(
            vpcs.vpcs.items[0].ipv6_cidr_block_association_set.items[0].ipv6_cidr_block,
            "/"),
        vpcs.vpcs.items[0].ipv6_cidr_block_association_set.items[0].ipv6_cidr_block);
    const struct ec2_associate_subnet_cidr_block_request give = {
        .subnet_id = subnet, .ipv6_cidr_block = text};
    CHECK_OK(EC2(&e, "AssociateSubnetCidrBlock", &give, &block, &err), &err);

    const struct ec2_create_network_interface_request make = {
        .subnet_id = subnet, .private_ip_address = "10.0.0.10"};
    CHECK_OK(EC2(&e, "CreateNetworkInterface", &make, &made, &err), &err);
    const char *eni = made.network_interface->network_interface_id;
    CHECK(!EC2(&e, "CreateNetworkInterface", &make, &made, &err));
    CHECK_EQ(err.code, ERR_ADDRESS_IN_USE);
    const struct ec2_assign_private_ip_addresses_request more = {
        .network_interface_id = eni,
        .secondary_private_ip_address_count = 2,
        .has_secondary_private_ip_address_count = true};
    CHECK_OK(EC2(&e, "AssignPrivateIpAddresses", &more, &four, &err), &err);
    CHECK_EQ(four.assigned_private_ip_addresses.count, 2);
    const struct ec2_assign_ipv6_addresses_request more6 = {.network_interface_id =
                                                                eni};
    CHECK_OK(EC2(&e, "AssignIpv6Addresses", &more6, &six, &err), &err);
    CHECK_EQ(six.assigned_ipv6_addresses.count, 1);
    const struct ec2_unassign_ipv6_addresses_request less6 = {
        .network_interface_id = eni,
        .ipv6_addresses = ONE(const char *, six.assigned_ipv6_addresses.items[0])};
    CHECK_OK(EC2(&e, "UnassignIpv6Addresses", &less6, &gone, &err), &err);
    const struct ec2_delete_network_interface_request drop = {.network_interface_id =
                                                                  eni};
    const struct ec2_delete_subnet_request delete_subnet = {.subnet_id = subnet};
    CHECK(!EC2_DO(&e, "DeleteSubnet", &delete_subnet, &err));
    CHECK_OK(EC2_DO(&e, "DeleteNetworkInterface", &drop, &err), &err);
    CHECK_OK(EC2_DO(&e, "DeleteSubnet", &delete_subnet, &err), &err);
    ec2_fini(&e);
}

TEST(interface_is_attached_hot_and_detached)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation launched;
    struct ec2_create_network_interface_result made;
    struct ec2_attach_network_interface_result attached;
    const struct ec2_run_instances_request run = {
        .image_id = IMAGE, .instance_type = "t3.micro", .min_count = 1, .max_count = 1};
    ec2_init(&e);
    CHECK_OK(EC2(&e, "RunInstances", &run, &launched, &err), &err);
    const struct ec2_instance *instance = &launched.instances.items[0];
    const struct ec2_create_network_interface_request make = {.subnet_id =
                                                                  instance->subnet_id};
    CHECK_OK(EC2(&e, "CreateNetworkInterface", &make, &made, &err), &err);
    const struct ec2_attach_network_interface_request attach = {
        .instance_id = instance->instance_id,
        .network_interface_id = made.network_interface->network_interface_id,
        .device_index = 1,
        .has_device_index = true};
    CHECK_OK(EC2(&e, "AttachNetworkInterface", &attach, &attached, &err), &err);
    CHECK(!EC2(&e, "AttachNetworkInterface", &attach, &attached, &err));
    CHECK_EQ(err.code, ERR_ENI_IN_USE);
    const struct row_instance key = {.account = ACCOUNT, .id = instance->instance_id};
    const struct row_instance *row = get_row(&e, &row_instance_type, &key);
    CHECK_EQ(row->eni_ids.count, 2);
    const struct row_eni eni_key = {.account = ACCOUNT,
                                    .id = attach.network_interface_id};
    const struct row_eni *eni = get_row(&e, &row_eni_type, &eni_key);
    const struct ec2_delete_network_interface_request drop = {.network_interface_id =
                                                                  eni->id};
    CHECK(!EC2_DO(&e, "DeleteNetworkInterface", &drop, &err));
    CHECK_EQ(err.code, ERR_ENI_IN_USE);
    const struct ec2_detach_network_interface_request detach = {.attachment_id =
                                                                    eni->attachment_id};
    CHECK_OK(EC2_DO(&e, "DetachNetworkInterface", &detach, &err), &err);
    row = get_row(&e, &row_instance_type, &key);
    CHECK_EQ(row->eni_ids.count, 1);
    CHECK_OK(EC2_DO(&e, "DeleteNetworkInterface", &drop, &err), &err);
    ec2_fini(&e);
}
