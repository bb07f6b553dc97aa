/* policy.h - what a VPC's security groups, prefix lists and network ACLs say, as chains.
 *
 * Purpose:  keeps the records of one network, and writes the chains that rules.h's maps name:
 *           per group two (in, out), per combination of groups that some port has two
 *           (a profile), per ACL two. Members of groups are elements of sets.
 * Apply:    a want only notes; policy_flush writes all that changed in one transaction. After
 *           a failure the kernel has the old rules, and the next flush tries again.
 * Closed:   a group or list that nobody has told of yet has empty chains and sets: it lets
 *           nothing through.
 * Owner:    a network holds one. Threads: those of the network. */
#pragma once
#include "base/buf.h"
#include "node/net/elems.h"

struct policy;
struct link_group;
struct link_group_member;
struct link_prefix_list;
struct link_acl;

#define POLICY_GROUPS_MAX 16 /* Of one port. */
#define POLICY_RULES_MAX 4096
#define POLICY_LIST_MAX 4096

struct policy *policy_create(void);
void policy_destroy(struct policy *policy); /* NULL is a no-op. */

MUST_CHECK bool policy_want_group(struct policy *policy, const struct link_group *want,
                                  struct err *err);
MUST_CHECK bool policy_want_list(struct policy *policy,
                                 const struct link_prefix_list *want, struct err *err);
MUST_CHECK bool policy_want_acl(struct policy *policy, const struct link_acl *want,
                                struct err *err);
/* Changes elements at once, where the group's sets are there; else the flush does. */
MUST_CHECK bool policy_want_member(struct policy *policy, struct elems *elems,
                                   const struct link_group_member *want,
                                   struct err *err);
void policy_drop_group(struct policy *policy, const char *id);
void policy_drop_list(struct policy *policy, const char *id);
void policy_drop_acl(struct policy *policy, const char *id);
MUST_CHECK bool policy_drop_member(struct policy *policy, struct elems *elems,
                                   const char *id, struct err *err);

/* The name of the chains for a port with these groups, less "_in" and "_out": valid while
 * the policy is. "nothing" is not among them: no groups give NULL. */
const char *policy_profile(struct policy *policy, const char *const *group_ids,
                           size_t count);
/* The chain of an ACL, for one direction; it exists after the next flush. */
void policy_acl_chain(struct policy *policy, const char *acl_id, bool egress,
                      char out[ELEM_CHAIN_MAX]);

/* What has been told; NULL: nothing. Borrowed until it is told anew. */
const struct link_group *policy_group(const struct policy *policy, const char *id);
const struct link_prefix_list *policy_list(const struct policy *policy, const char *id);
/* IPv4 as IPv6 writes it (::ffff:10.0.0.5). */
bool policy_is_member(const struct policy *policy, const char *group_id,
                      const struct in6_addr *ip);

/* Rises with each flush that wrote; never 0. */
uint64_t policy_revision(const struct policy *policy);
/* Rises with each change of what was told, members included; never 0. */
uint64_t policy_changes(const struct policy *policy);
/* Whether a flush has anything to do. */
bool policy_dirty(const struct policy *policy);
/* In the namespace 'ns_fd'; then the members of new sets, through 'elems'. */
MUST_CHECK bool policy_flush(struct policy *policy, int ns_fd, struct elems *elems,
                             struct err *err);
/* Everything is written anew at the next flush: what stands in the kernel is not it. */
void policy_distrust(struct policy *policy);
/* Every member's elements, and the sets they lie in, for elems_sync. */
typedef void policy_elem_fn(void *ctx, const struct elem *elem);
void policy_each_member(const struct policy *policy, policy_elem_fn *fn, void *ctx);
void policy_each_set(const struct policy *policy, policy_elem_fn *fn, void *ctx);

/* The chains of these groups, with the sets that their rules name, written into another
 * table, "netdev NAME": for a port that is on no bridge. It has a chain 'passed'. */
void policy_put_groups(const struct policy *policy, const char *table,
                       const char *const *group_ids, size_t count, struct buf *out);

/* policy_text.c: pure, for golden tests. Records must have been checked. Tables are named
 * with their family. */
#define POLICY_TABLE "inet moln"
void policy_group_text(const char *table, const struct link_group *group,
                       struct buf *out);
void policy_group_declare(const char *table, const char *group_id, struct buf *out);
void policy_list_declare(const char *table, const char *list_id, struct buf *out);
void policy_list_text(const char *table, const struct link_prefix_list *list,
                      struct buf *out);
void policy_profile_text(const char *profile, const char *const *group_ids,
                         size_t count, struct buf *out);
void policy_acl_text(const struct link_acl *acl, struct buf *out);
MUST_CHECK bool policy_group_ok(const struct link_group *group, struct err *err);
MUST_CHECK bool policy_list_ok(const struct link_prefix_list *list, struct err *err);
MUST_CHECK bool policy_acl_ok(const struct link_acl *acl, struct err *err);
