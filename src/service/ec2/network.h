/* network.h - what the handlers of the VPC's families share.
 *
 * Purpose:  objects found by id with AWS's errors, listings that filter and page, address
 *           bookkeeping, and the questions "who uses this?" that deletions ask.
 * Place:    service/ec2, above describe.h and core/network_rows.h. One family a file:
 *           vpcs, subnets, route_tables, routes, gateways, nat_gateways, addresses,
 *           interfaces, groups, acls, peerings, dhcp, prefix_lists, flow_logs, endpoints.
 * Memory:   the call's arena.
 * Threads:  the request's. */
#pragma once
#include "core/address.h"
#include "core/address6.h"
#include "core/network_rows.h"
#include "service/ec2/describe.h"

/* ---- objects ---- */

/* A kind of object, keyed by account and id, with a region. */
struct kind {
    const struct row_type *type;
    const char *prefix; /* "rtb" */
    enum err_code malformed, not_found;
    const char *what;          /* "routeTable ID": in AWS's sentence. */
    const char *resource_type; /* "route-table": in tag specifications. */
};

extern const struct kind kind_vpc, kind_subnet, kind_route_table, kind_internet_gateway,
    kind_egress_gateway, kind_nat_gateway, kind_address, kind_eni, kind_group,
    kind_group_rule, kind_acl, kind_dhcp_options, kind_prefix_list, kind_flow_log,
    kind_endpoint, kind_placement_group, kind_host;

/* The account's object in the region; a malformed or missing id is the kind's error. */
MUST_CHECK bool object_find(struct call *call, const struct kind *kind, const char *id,
                            const void **out, struct err *err);
#define FIND(call, kind_, id, out, err) \
    object_find((call), &(kind_), (id), (const void **)(out), (err))
/* A deletion's last steps: tags and row go, and nodes hear of it. */
MUST_CHECK bool object_delete(struct call *call, const struct kind *kind,
                              const void *row, struct err *err);
/* The rows of 'type' whose first 'fields' fields of 'index' are those of 'prefix'. */
MUST_CHECK bool rows_by(struct call *call, const struct row_type *type,
                        const char *index, unsigned fields, const void *prefix,
                        struct row_list *out, struct err *err);
/* The tags that a request gives a new object: checked first (with nothing written),
 * put later. */
MUST_CHECK bool new_tags_check(const struct kind *kind,
                               const struct ec2_tag_specification *specs, size_t count,
                               struct err *err);
MUST_CHECK bool new_tags_put(struct call *call, const struct kind *kind,
                             const struct ec2_tag_specification *specs, size_t count,
                             const char *id, struct err *err);
/* "The request must contain the parameter X". */
MUST_CHECK bool need(const char *value, const char *name, struct err *err);
/* "The vpc 'vpc-1' has dependencies and cannot be deleted." */
bool err_depends(struct err *err, const char *what, const char *id);
const char *text_or_empty(const char *text);

/* ---- listings: a Describe call over one table ---- */

struct listing_ask {
    const struct kind *kind;
    const void *prefix; /* A row with account and region. */
    const struct filter_def *defs;
    size_t def_count;
    const struct ec2_filter *filters;
    size_t filter_count;
    struct page_ask page;
    const char *const *ids;
    bool dry_run;
};

struct listing {
    const struct listing_ask *ask;
    struct filters filters;
    struct page page;
    struct pick ids;
    struct tags tags;
    struct row_list rows;
};

/* In an initializer, the parts that every request has; 'list' is its member of ids, and
 * 'filter_list' the one of filters. */
#define LISTING_ASK(in, list, filter_list, ids_word, kind_, defs_, row) \
    { \
        .kind = &(kind_), .prefix = (row), .defs = (defs_), \
        .def_count = ARRAY_LEN(defs_), .filters = (in)->filter_list.items, \
        .filter_count = (in)->filter_list.count, .ids = (in)->list.items, \
        .dry_run = (in)->dry_run, \
        .page = { \
            .has_max = (in)->has_max_results, \
            .max_results = (in)->max_results, \
            .min = 5, \
            .max = 1000, \
            .next_token = (in)->next_token, \
            .ids = (in)->list.count, \
            .ids_name = (ids_word), \
        }, \
    }

MUST_CHECK bool listing_open(struct call *call, const struct listing_ask *ask,
                             struct listing *out, struct err *err);
/* Whether the object belongs into the answer: asked for, matching, and on this page. */
bool listing_accepts(struct listing *listing, const char *id, const void *object);
/* The next page's token, and the error for ids that were not found. */
MUST_CHECK bool listing_close(struct call *call, struct listing *listing,
                              const char **out_next, struct err *err);

/* Defines NAME_values(): 'value' of each item of a shown object's list. */
#define FILTER_EACH(NAME, type, list, value) \
    static void NAME##_values(const void *object, struct filter_test *test) \
    { \
        const type *shown = object; \
        for (size_t i = 0; i < shown->list.count; i++) { \
            filter_offer(test, shown->list.items[i].value); \
        } \
    }

/* The tags of one new object, for the answer of its Create. */
MUST_CHECK bool tags_shown(struct call *call, const char *id, struct tag_set *out,
                           struct err *err);

/* ---- VPCs ---- */

/* The default VPC anew, for an account that has none. */
MUST_CHECK bool default_vpc_make(struct call *call, const char **out_id,
                                 struct err *err);
/* A VPC that somebody changed: its generation rises, so that nodes hear of it. */
MUST_CHECK bool vpc_touch(struct call *call, const char *vpc_id, struct err *err);
/* The same of a security group whose rules changed. */
MUST_CHECK bool group_touch(struct call *call, const char *group_id, struct err *err);
/* Every IPv4 block of a VPC; '*out' in the arena. */
size_t vpc_blocks(struct call *call, const struct row_vpc *vpc, const char ***out);
/* The network interfaces of a subnet, or of a VPC. */
MUST_CHECK bool enis_in(struct call *call, const char *index, const struct row_eni *of,
                        struct row_list *out, struct err *err);

struct ec2_vpc vpc_out(struct call *call, const struct row_vpc *row,
                       struct tag_set tags);
struct ec2_vpc_ipv6_cidr_block_association
vpc_block6_out(struct call *call, const struct row_cidr_block *block,
               const char *state);
/* The id of the association of a VPC's first block: it follows from the VPC's. */
const char *vpc_primary_association(struct call *call, const struct row_vpc *row);
/* A VPC's new block: canonical, and of a size that AWS has (InvalidVpc.Range). */
MUST_CHECK bool vpc_block_check(struct call *call, const char *text, const char **out,
                                struct err *err);
MUST_CHECK bool vpc_block6_make(struct call *call, struct row_cidr_block *out,
                                struct err *err);

/* ---- subnets ---- */

/* A subnet's new IPv6 block: a /64 of the VPC's, apart from the other subnets'. */
MUST_CHECK bool subnet_block6_check(struct call *call, const struct row_vpc *vpc,
                                    const char *asked, const char **out,
                                    struct err *err);
struct ec2_subnet_ipv6_cidr_block_association
subnet_block6_out(struct call *call, const struct row_subnet *row, const char *state);

/* ---- interfaces that handlers make; more of them in interfaces.h ---- */

struct new_eni {
    const struct row_subnet *subnet;
    const char *address;     /* The primary one; NULL: any. */
    const char *const *more; /* Secondary ones, by name... */
    size_t more_count;
    int64_t more_any; /* ...and as many besides. */
    const char *const *ipv6;
    size_t ipv6_count;
    int64_t ipv6_any;
    const char *const *group_ids; /* Checked already. */
    size_t group_count;
    const char *description;
    const char *type, *owner_id; /* Of the cloud's own; NULL: a tenant's. */
};

/* Takes its addresses and inserts its row. Attaching it is the caller's. */
MUST_CHECK bool eni_make(struct call *call, const struct new_eni *ask,
                         const struct row_eni **out, struct err *err);

/* ---- peerings ---- */

/* The peering, as either of its two accounts sees it; NULL: to this one there is none. */
MUST_CHECK bool peering_get(struct call *call, const char *id,
                            const struct row_vpc_peering **out, struct err *err);

/* The active peering of two VPCs, or NULL. */
MUST_CHECK bool peering_between(struct call *call, const char *vpc_id,
                                const char *other_id,
                                const struct row_vpc_peering **out, struct err *err);
MUST_CHECK bool vpcs_peered(struct call *call, const char *vpc_id, const char *other_id,
                            bool *out, struct err *err);

/* ---- what goes with its owner: rows and tags, nothing is checked ---- */

MUST_CHECK bool group_remove(struct call *call, const struct row_security_group *group,
                             struct err *err);
MUST_CHECK bool acl_remove(struct call *call, const struct row_network_acl *acl,
                           struct err *err);
MUST_CHECK bool route_table_remove(struct call *call,
                                   const struct row_route_table *table,
                                   struct err *err);
MUST_CHECK bool peerings_end(struct call *call, const struct row_vpc *vpc,
                             struct err *err);
MUST_CHECK bool flow_logs_end(struct call *call, const char *resource_id,
                              struct err *err);

/* ---- quotas: AWS's words; what a tenant of a cloud of its own may want ---- */

enum network_limit {
    VPCS_MAX = 100,
    SUBNETS_MAX = 200,          /* A VPC. */
    TABLES_MAX = 200,           /* A VPC. */
    ROUTES_MAX = 1000,          /* A table. */
    GROUPS_MAX = 2500,          /* A region. */
    RULES_MAX = 1000,           /* A group, each way. */
    ACLS_MAX = 200,             /* A VPC. */
    ENTRIES_MAX = 40,           /* An ACL, each way. */
    GATEWAYS_MAX = 100,         /* A region. */
    NATS_MAX = 100,             /* A VPC. */
    ADDRESSES_MAX = 100,        /* A region. */
    ENIS_MAX = 5000,            /* A region. */
    ENI_GROUPS_MAX = 5,         /* An interface. */
    DHCP_OPTIONS_MAX = 1000,    /* A region. */
    PREFIX_LISTS_MAX = 100,     /* A region. */
    PREFIX_VERSIONS_KEPT = 100, /* A prefix list; the oldest goes. */
    FLOW_LOGS_MAX = 10,         /* A VPC, subnet or interface. */
    PEERINGS_ASKED_MAX = 25,    /* A VPC: nobody has accepted them. */
    PEERINGS_MAX = 125,         /* A VPC. */
};

/* ---- IPv4 and IPv6 text ---- */

/* A block in canonical spelling: host bits are cleared, as AWS does. */
MUST_CHECK bool block_canonical(struct call *call, const char *text, const char *name,
                                const char **out, struct err *err);
MUST_CHECK bool block6_canonical(struct call *call, const char *text, const char *name,
                                 const char **out, struct err *err);
