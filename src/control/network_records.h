/* network_records.h - a VPC's rows as link records.
 *
 * Place:    control/, over a transaction's rows; writes nothing.
 * Memory:   the transaction's arena.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"
#include "link/link.h"

/* A network's ACL without a name of its own, and its routing, follow from the VPC. */
MUST_CHECK bool network_record(struct txn *txn, const struct row_vpc *vpc,
                               struct link_network *out, struct err *err);
/* The VPC's set of DHCP options; '*there' false: it has none. Its id names the network too,
 * since several networks of one node may have the same set. */
MUST_CHECK bool dhcp_record(struct txn *txn, const struct row_vpc *vpc,
                            struct link_dhcp_options *out, bool *there,
                            struct err *err);
void flow_log_record(const struct row_flow_log *log, struct link_flow_log *out);
MUST_CHECK bool subnet_record(struct txn *txn, const struct row_vpc *vpc,
                              const struct row_subnet *subnet, struct link_subnet *out,
                              struct err *err);
MUST_CHECK bool route_table_record(struct txn *txn, const struct row_route_table *table,
                                   struct link_route_table *out, struct err *err);
MUST_CHECK bool acl_record(struct txn *txn, const struct row_network_acl *acl,
                           struct link_acl *out, struct err *err);
MUST_CHECK bool group_record(struct txn *txn, const struct row_security_group *group,
                             struct link_group *out, struct err *err);
/* The interface's private addresses, the primary one first. */
void eni_addresses(struct arena *arena, const struct row_eni *eni, const char ***out,
                   size_t *out_count);
/* 'network_id' is the network whose rules speak of the group. */
void member_record(struct txn *txn, const char *network_id, const char *group_id,
                   const struct row_eni *eni, struct link_group_member *out);
MUST_CHECK bool prefix_list_record(struct txn *txn, const char *network_id,
                                   const struct row_prefix_list *list,
                                   struct link_prefix_list *out, struct err *err);
MUST_CHECK bool port_publics(struct txn *txn, const struct row_eni *eni,
                             struct link_port *out, struct err *err);
/* The current entries of a list; '*out' NULL when it is gone. */
MUST_CHECK bool prefix_list_now(struct txn *txn, const char *account, const char *id,
                                const struct row_prefix_list_version **out,
                                struct err *err);
