/* link.c - see link.h. */
#include "link/link.h"

static const struct {
    const struct desc *want, *seen;
} kinds[LINK_KINDS] = {
    [LINK_MACHINE] = {&link_machine_desc, &link_machine_seen_desc},
    [LINK_DISK] = {&link_disk_desc, &link_disk_seen_desc},
    [LINK_BLOB] = {&link_blob_desc, &link_blob_seen_desc},
    [LINK_BLOB_JOB] = {&link_blob_job_desc, &link_blob_job_seen_desc},
    [LINK_NETWORK] = {&link_network_desc, &link_network_seen_desc},
    [LINK_SUBNET] = {&link_subnet_desc, &link_network_seen_desc},
    [LINK_PORT] = {&link_port_desc, &link_port_seen_desc},
    [LINK_METADATA] = {&link_metadata_desc, &link_port_seen_desc},
    [LINK_GROUP] = {&link_group_desc, &link_network_seen_desc},
    [LINK_GROUP_MEMBER] = {&link_group_member_desc, &link_network_seen_desc},
    [LINK_PREFIX_LIST] = {&link_prefix_list_desc, &link_network_seen_desc},
    [LINK_ROUTE_TABLE] = {&link_route_table_desc, &link_network_seen_desc},
    [LINK_ACL] = {&link_acl_desc, &link_network_seen_desc},
    [LINK_PEERING] = {&link_peering_desc, &link_network_seen_desc},
    [LINK_NAT_GATEWAY] = {&link_nat_gateway_desc, &link_network_seen_desc},
    [LINK_DHCP_OPTIONS] = {&link_dhcp_options_desc, &link_network_seen_desc},
    [LINK_FLOW_LOG] = {&link_flow_log_desc, &link_network_seen_desc},
    [LINK_UPLINK] = {&link_uplink_desc, &link_network_seen_desc},
    [LINK_UNDERLAY] = {&link_underlay_desc, &link_network_seen_desc},
    [LINK_NEIGHBOUR] = {&link_neighbour_desc, &link_network_seen_desc},
    [LINK_MIGRATION] = {&link_migration_desc, &link_migration_seen_desc},
    [LINK_NAME] = {&link_name_desc, &link_network_seen_desc},
    [LINK_PUBLIC] = {&link_public_desc, &link_network_seen_desc},
    [LINK_ENDPOINT] = {&link_endpoint_desc, &link_network_seen_desc},
    [LINK_NODE] = {NULL, &link_node_seen_desc},
    [LINK_EVENT] = {NULL, &link_event_desc},
    [LINK_FLOWS] = {NULL, &link_flow_batch_desc},
    [LINK_METER] = {NULL, &link_meter_desc},
};

const struct desc *
link_want_desc(enum link_kind kind)
{
    return (unsigned)kind < LINK_KINDS ? kinds[kind].want : NULL;
}

const struct desc *
link_seen_desc(enum link_kind kind)
{
    return (unsigned)kind < LINK_KINDS ? kinds[kind].seen : NULL;
}
