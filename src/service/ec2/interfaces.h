/* interfaces.h - network interfaces, for the handlers that make, show or change them.
 *
 * Place:    service/ec2; interface*.c, instances_view.c and the gateways' files.
 * Memory:   the call's arena.
 * Threads:  the request's. */
#pragma once
#include "service/ec2/network.h"

/* An interface's group ids with their names. */
MUST_CHECK bool eni_groups_out(struct call *call, const struct row_eni *eni,
                               struct ec2_group_identifier **out, size_t *out_count,
                               struct err *err);
/* Groups of the VPC, by id, checked; with none named, its group called "default". */
MUST_CHECK bool eni_groups_check(struct call *call, const char *vpc_id,
                                 const char *const *ids, size_t count,
                                 const char *const **out, size_t *out_count,
                                 struct err *err);
/* The public side of one of an interface's addresses: Elastic or automatic. */
struct eni_public {
    const char *ip, *allocation_id, *association_id, *owner_id;
};
/* '*out' has no 'ip' when there is none. */
MUST_CHECK bool eni_public_of(struct call *call, const struct row_eni *eni,
                              const char *private_ip, struct eni_public *out,
                              struct err *err);
/* "ec2-203-0-113-5.compute-1.amazonaws.com", AWS's public name; "" without a VPC that
 * has names. */
const char *public_dns_name(struct call *call, const char *ip);
MUST_CHECK bool eni_out(struct call *call, const struct row_eni *eni,
                        struct tag_set tags, struct ec2_network_interface *out,
                        struct err *err);
/* An interface of the subnet may be attached at that place, on the node or (NULL) on any of
 * the zone's: one that becomes a local network interface has to stand on something. */
MUST_CHECK bool lni_check(struct call *call, const struct row_subnet *subnet,
                          int64_t device_index, const char *node_id, struct err *err);
/* Refuses what a tenant may not do with the cloud's own interfaces. */
MUST_CHECK bool eni_check_own(const struct row_eni *eni, struct err *err);
/* Addresses added to an interface: those named, and 'any' more. */
MUST_CHECK bool eni_add_ipv4(struct call *call, struct row_eni *eni,
                             const char *const *named, size_t count, int64_t any,
                             struct err *err);
MUST_CHECK bool eni_add_ipv6(struct call *call, struct row_eni *eni,
                             const struct row_subnet *subnet, const char *const *named,
                             size_t count, int64_t any, struct err *err);
/* PrivateIpAddresses of a request, into the ask's primary and secondary addresses. */
MUST_CHECK bool
private_addresses_read(struct call *call,
                       const struct ec2_private_ip_address_specification *items,
                       size_t count, struct new_eni *out, struct err *err);
const char *const *ipv6_texts(struct call *call,
                              const struct ec2_instance_ipv6_address *items,
                              size_t count);
/* An interface's new groups, told to its instance too where it is the first. */
MUST_CHECK bool eni_groups_set(struct call *call, const struct row_eni *eni,
                               const char *const *ids, size_t count, struct err *err);
