/* one_instance.h - a stage with an instance, its network, and two nodes of which it has one. */
#pragma once
#include "stage.h"

#include "control/reports.h"
#include "control/wants.h"
#include "core/lifecycle.h"
#include "store/rows.h"

#define ACCOUNT "123456789012"
#define NODE "node-00000000000000001"
#define OTHER_NODE "node-00000000000000002"
#define INSTANCE "i-00000000000000001"
#define VOLUME "vol-00000000000000001"
#define ENI "eni-00000000000000001"
#define SUBNET "subnet-00000000000000001"
#define VPC "vpc-00000000000000001"

static inline bool
put_rows(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const char *enis[] = {ENI};
    struct row_instance instance = {
        .account = ACCOUNT, .id = INSTANCE, .region = "us-east-1", .zone = "us-east-1a",
        .type = "t3.nano", .vcpus = 2, .memory_bytes = 512 * (int64_t)MIB,
        .want_state = "running", .generation = 1, .node_id = NODE, .claimed = true,
        .subnet_id = SUBNET, .vpc_id = VPC, .root_volume_id = VOLUME,
        .root_device = "/dev/xvda", .private_dns = "ip-172-31-0-5.ec2.internal",
        .shutdown_behavior = "stop", .eni_ids = {enis, 1},
    };
    struct row_volume volume = {.account = ACCOUNT, .id = VOLUME, .size_gib = 8,
                                .instance_id = INSTANCE, .node_id = NODE, .generation = 1,
                                .delete_on_termination = true, .region = "us-east-1"};
    struct row_eni eni = {.account = ACCOUNT, .id = ENI, .subnet_id = SUBNET, .vpc_id = VPC,
                          .mac = "02:00:00:00:00:01", .ipv4 = "172.31.0.5",
                          .instance_id = INSTANCE, .delete_on_termination = true,
                          .region = "us-east-1"};
    struct row_subnet subnet = {.account = ACCOUNT, .id = SUBNET, .vpc_id = VPC,
                                .cidr = "172.31.0.0/20", .region = "us-east-1"};
    struct row_vpc vpc = {.account = ACCOUNT, .id = VPC, .cidr = "172.31.0.0/16", .vni = 100,
                          .region = "us-east-1"};
    struct row_node node = {.id = NODE, .region = "us-east-1", .zone = "us-east-1a",
                            .state = "active"};
    struct row_node other = node;
    other.id = OTHER_NODE;
    struct row_node_claim claim = {.id = NODE, .vcpus = 2, .machines = 1,
                                   .memory_bytes = 512 * (int64_t)MIB};
    struct txn *t = pass->txn;
    return row_put(t, &row_instance_type, &instance, err) &&
           row_put(t, &row_volume_type, &volume, err) &&
           row_put(t, &row_eni_type, &eni, err) &&
           row_put(t, &row_subnet_type, &subnet, err) &&
           row_put(t, &row_vpc_type, &vpc, err) && row_put(t, &row_node_type, &node, err) &&
           row_put(t, &row_node_type, &other, err) &&
           row_put(t, &row_node_claim_type, &claim, err);
}

static inline void
setup(struct stage *s)
{
    stage_open(s);
    s->config.lease_ns = 60 * NS_PER_S;
    stage_run(s, put_rows, NULL);
}
