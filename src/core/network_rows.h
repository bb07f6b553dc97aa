/* network_rows.h - the row changes of networks that handlers and controllers share.
 *
 * Purpose:  each function makes one step in all the rows it touches (interface, addresses
 *           in use, Elastic IPs, tags), so that no caller can forget one; the sibling of
 *           instance_rows.h. Taking back what is not taken is success.
 * Place:    core/, over the store's transactions; checks only that addresses are free.
 * Rows:     rows handed in are borrowed and never changed; what is handed out lives in the
 *           transaction's arena.
 * Threads:  the transaction's. */
#pragma once
#include "base/world.h"
#include "core/address.h"
#include "core/address6.h"
#include "store/rows.h"
#include "store/store.h"

/* ---- VPCs and their parts ---- */

/* A VXLAN identifier that was never used: none is used twice, since a node may hold an old
 * one still. ERR_UNSUPPORTED when all 16 million are gone. */
MUST_CHECK bool vni_take(struct txn *txn, int64_t *out, struct err *err);

/* Inserts 'vpc' with what AWS gives every new one: a main route table, a default network
 * ACL that lets all pass, and a security group named "default". 'vpc' names account, id,
 * region and block; '*out' is the row as it was put. */
MUST_CHECK bool vpc_add(struct txn *txn, const struct rng *rng,
                        const struct row_vpc *vpc, const struct row_vpc **out,
                        struct err *err);
/* Lets IPv6 pass as IPv4 does by default, once the VPC has a block of it: in its default ACL
 * and out of its group "default", unless somebody has changed those. */
MUST_CHECK bool vpc_open6(struct txn *txn, const struct rng *rng,
                          const struct row_vpc *vpc, struct err *err);
/* The same for one group that lets all IPv4 out. */
MUST_CHECK bool group_open6(struct txn *txn, const struct rng *rng,
                            const struct row_security_group *group, struct err *err);
/* The parts that 'vpc' lacks: for VPCs made before these were rows. */
MUST_CHECK bool vpc_complete(struct txn *txn, const struct rng *rng,
                             const struct row_vpc *vpc, int64_t now_ns,
                             const struct row_vpc **out, struct err *err);
/* An internet gateway on 'vpc' with a default route to it: what makes a VPC AWS's
 * default one. */
MUST_CHECK bool vpc_open(struct txn *txn, const struct rng *rng,
                         const struct row_vpc *vpc, int64_t now_ns, struct err *err);
/* The set of DHCP options that an account has by itself in a region, made when it is
 * missing. */
MUST_CHECK bool dhcp_default(struct txn *txn, const struct rng *rng,
                             const char *account, const char *region, int64_t now_ns,
                             const char **out_id, struct err *err);
/* A subnet's row, with the id of its association with an ACL. */
MUST_CHECK bool subnet_add(struct txn *txn, const struct rng *rng,
                           const struct row_subnet *subnet, struct err *err);
/* The subnet's own table, or its VPC's main one. */
const char *subnet_table(const struct row_vpc *vpc, const struct row_subnet *subnet);

#define VPC_BLOCK6_BITS 56
/* A block for a VPC of one of the operator's IPv6 pools in the region, which no VPC has;
 * '*out' NULL: there is no such pool. ERR_ADDRESS_CAPACITY when they are all taken. */
MUST_CHECK bool vpc_block6_take(struct txn *txn, const char *region, const char **out,
                                struct err *err);

/* ---- addresses of a subnet ---- */

/* Takes a free address for an interface: 'wanted', or (0) the next free one from where
 * the last search ended, so that one just given back rests for a while.
 * ERR_ADDRESS_IN_USE, ERR_SUBNET_FULL, ERR_INVALID_PARAMETER_VALUE (outside, or
 * reserved). */
MUST_CHECK bool ipv4_take(struct txn *txn, const char *account, const char *subnet_id,
                          const char *eni_id, uint32_t wanted, const char **out,
                          struct err *err);
MUST_CHECK bool ipv4_give_back(struct txn *txn, const char *account,
                               const char *subnet_id, const char *ip, struct err *err);
/* The same for IPv6; 'wanted' NULL: a random one. */
MUST_CHECK bool ipv6_take(struct txn *txn, const struct rng *rng,
                          const struct row_subnet *subnet, const char *eni_id,
                          const char *wanted, const char **out, struct err *err);
MUST_CHECK bool ipv6_give_back(struct txn *txn, const char *account,
                               const char *subnet_id, const char *ip, struct err *err);

/* ---- public addresses ---- */

/* Takes one of the region's pools: 'wanted', or (NULL) the next free one. 'owner' says
 * account and allocation or interface. ERR_ADDRESS_CAPACITY when there is none;
 * ERR_ADDRESS_NOT_FOUND when 'wanted' lies in no pool, or is taken. */
MUST_CHECK bool public_take(struct txn *txn, const struct row_public_use *owner,
                            const char *wanted, int64_t now_ns, const char **out,
                            struct err *err);
MUST_CHECK bool public_give_back(struct txn *txn, const char *region, const char *ip,
                                 struct err *err);
/* Associates an Elastic IP, which is free, with an address of an interface. Its automatic
 * public address, if it has one there, goes. */
MUST_CHECK bool address_join(struct txn *txn, const struct rng *rng,
                             const struct row_address *address,
                             const struct row_eni *eni, const char *private_ip,
                             const struct row_address **out, struct err *err);
MUST_CHECK bool address_part(struct txn *txn, const struct row_address *address,
                             struct err *err);
/* The Elastic IP that stands for one of an interface's addresses, or NULL. */
MUST_CHECK bool address_of(struct txn *txn, const struct row_eni *eni,
                           const char *private_ip, const struct row_address **out,
                           struct err *err);

/* ---- interfaces ---- */

/* Puts a changed interface, with its generation one higher. */
MUST_CHECK bool eni_put(struct txn *txn, const struct row_eni *eni, struct err *err);
/* Its instance starts or stops: the automatic public address comes or goes. */
MUST_CHECK bool eni_public_start(struct txn *txn, const struct row_eni *eni,
                                 int64_t now_ns, struct err *err);
MUST_CHECK bool eni_public_stop(struct txn *txn, const struct row_eni *eni,
                                struct err *err);
/* For each interface of an instance: its start, or its stop. */
MUST_CHECK bool enis_public(struct txn *txn, const struct row_instance *inst,
                            bool start, int64_t now_ns, struct err *err);
/* Off its instance; the instance's own list is the caller's. */
MUST_CHECK bool eni_detach(struct txn *txn, const struct row_eni *eni, struct err *err);
/* Gives all its addresses back, frees its Elastic IPs, and deletes row and tags. */
MUST_CHECK bool eni_remove(struct txn *txn, const struct row_eni *eni, struct err *err);
MUST_CHECK bool resource_tags_drop(struct txn *txn, const char *account,
                                   const char *region, const char *id, struct err *err);
