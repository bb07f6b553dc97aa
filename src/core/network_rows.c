/* network_rows.c - see network_rows.h: VPCs with their parts. */
#include "core/network_rows.h"

#include "core/id.h"

#define VNI_FIRST 4096
#define VNI_LAST 0xffffff

bool
vni_take(struct txn *txn, int64_t *out, struct err *err)
{
    int64_t number;
    if (!txn_next(txn, "vni", &number, err)) {
        return false;
    }
    if (number > VNI_LAST - VNI_FIRST) {
        return err_set(err, ERR_UNSUPPORTED,
                       "This cloud has no VXLAN identifier left for one more network.");
    }
    *out = VNI_FIRST + number;
    return true;
}

#define FIRST_RULE 100 /* The number of the default ACL's one entry. */

/* ---- the parts ---- */

static bool
add_entry(struct txn *txn, const struct row_network_acl *acl, int64_t egress,
          int64_t number, const char *cidr4, const char *cidr6, struct err *err)
{
    const struct row_network_acl_entry entry = {.account = acl->account,
                                                .acl_id = acl->id,
                                                .egress = egress,
                                                .number = number,
                                                .protocol = "-1",
                                                .allow = true,
                                                .cidr4 = cidr4,
                                                .cidr6 = cidr6};
    return row_insert(txn, &row_network_acl_entry_type, &entry, err);
}

static bool
add_acl(struct txn *txn, const struct rng *rng, const struct row_vpc *vpc,
        int64_t now_ns, struct err *err)
{
    const struct row_network_acl acl = {.account = vpc->account,
                                        .id = id_new(txn_arena(txn), rng, "acl"),
                                        .region = vpc->region,
                                        .vpc_id = vpc->id,
                                        .is_default = true,
                                        .created_at = now_ns};
    return row_insert(txn, &row_network_acl_type, &acl, err) &&
           add_entry(txn, &acl, 0, FIRST_RULE, "0.0.0.0/0", NULL, err) &&
           add_entry(txn, &acl, 1, FIRST_RULE, "0.0.0.0/0", NULL, err);
}

static bool
add_group(struct txn *txn, const struct rng *rng, const struct row_vpc *vpc,
          int64_t now_ns, struct err *err)
{
    struct arena *arena = txn_arena(txn);
    const char *id = id_new(arena, rng, "sg");
    const struct row_security_group group = {.account = vpc->account,
                                             .id = id,
                                             .region = vpc->region,
                                             .vpc_id = vpc->id,
                                             .name = "default",
                                             .description =
                                                 "default VPC security group",
                                             .created_at = now_ns};
    struct row_security_group_rule from_members = {.account = vpc->account,
                                                   .id = id_new(arena, rng, "sgr"),
                                                   .group_id = id,
                                                   .protocol = "-1",
                                                   .from_port = -1,
                                                   .to_port = -1,
                                                   .peer_group = id,
                                                   .peer_account = vpc->account,
                                                   .region = vpc->region,
                                                   .vpc_id = vpc->id};
    struct row_security_group_rule to_all = from_members;
    to_all.id = id_new(arena, rng, "sgr");
    to_all.egress = true;
    to_all.peer_group = to_all.peer_account = NULL;
    to_all.cidr4 = "0.0.0.0/0";
    return row_insert(txn, &row_security_group_type, &group, err) &&
           row_insert(txn, &row_security_group_rule_type, &from_members, err) &&
           row_insert(txn, &row_security_group_rule_type, &to_all, err);
}

static bool
add_main_table(struct txn *txn, const struct rng *rng, struct row_vpc *vpc,
               int64_t now_ns, struct err *err)
{
    struct arena *arena = txn_arena(txn);
    const struct row_route_table table = {.account = vpc->account,
                                          .id = id_new(arena, rng, "rtb"),
                                          .region = vpc->region,
                                          .vpc_id = vpc->id,
                                          .created_at = now_ns};
    vpc->main_table_id = table.id;
    vpc->main_association_id = id_new(arena, rng, "rtbassoc");
    return row_insert(txn, &row_route_table_type, &table, err);
}

static bool
put_vpc(struct txn *txn, const struct row_vpc *vpc, const struct row_vpc **out,
        struct err *err)
{
    if (!row_put(txn, &row_vpc_type, vpc, err)) {
        return false;
    }
    if (out) {
        *out = arena_memdup(txn_arena(txn), vpc, sizeof *vpc);
    }
    return true;
}

bool
vpc_add(struct txn *txn, const struct rng *rng, const struct row_vpc *vpc,
        const struct row_vpc **out, struct err *err)
{
    struct row_vpc next = *vpc;
    next.generation = 1;
    return add_main_table(txn, rng, &next, vpc->created_at, err) &&
           add_acl(txn, rng, vpc, vpc->created_at, err) &&
           add_group(txn, rng, vpc, vpc->created_at, err) &&
           (vpc->blocks6.count == 0 || vpc_open6(txn, rng, vpc, err)) &&
           put_vpc(txn, &next, out, err);
}

static bool
complete_subnets(struct txn *txn, const struct rng *rng, const struct row_vpc *vpc,
                 struct err *err)
{
    const struct row_subnet prefix = {.account = vpc->account, .vpc_id = vpc->id};
    const struct row_query query = {
        .index = "by_vpc", .prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    if (!row_list(txn, &row_subnet_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        struct row_subnet next = *(const struct row_subnet *)list.rows[i];
        next.acl_association_id = id_new(txn_arena(txn), rng, "aclassoc");
        next.map_public_ip = next.default_for_az;
        if (!row_put(txn, &row_subnet_type, &next, err)) {
            return false;
        }
    }
    return true;
}

bool
vpc_complete(struct txn *txn, const struct rng *rng, const struct row_vpc *vpc,
             int64_t now_ns, const struct row_vpc **out, struct err *err)
{
    struct row_vpc next = *vpc;
    if (!str_empty(vpc->main_table_id)) {
        if (out) {
            *out = vpc;
        }
        return true;
    }
    next.generation++;
    return dhcp_default(txn, rng, vpc->account, vpc->region, now_ns,
                        &next.dhcp_options_id, err) &&
           add_main_table(txn, rng, &next, now_ns, err) &&
           add_acl(txn, rng, vpc, now_ns, err) &&
           complete_subnets(txn, rng, vpc, err) && put_vpc(txn, &next, out, err) &&
           (!vpc->is_default || vpc_open(txn, rng, &next, now_ns, err));
}

bool
vpc_open(struct txn *txn, const struct rng *rng, const struct row_vpc *vpc,
         int64_t now_ns, struct err *err)
{
    const struct row_internet_gateway gateway = {.account = vpc->account,
                                                 .id =
                                                     id_new(txn_arena(txn), rng, "igw"),
                                                 .region = vpc->region,
                                                 .vpc_id = vpc->id,
                                                 .created_at = now_ns};
    const struct row_route route = {.account = vpc->account,
                                    .table_id = vpc->main_table_id,
                                    .destination = "0.0.0.0/0",
                                    .target = gateway.id,
                                    .vpc_id = vpc->id,
                                    .region = vpc->region,
                                    .created_at = now_ns};
    return row_insert(txn, &row_internet_gateway_type, &gateway, err) &&
           row_insert(txn, &row_route_type, &route, err);
}

/* ---- DHCP options ---- */

/* What dhcp_default() made: recognized by its contents, as any other set that says the
 * same would do as well. */
static bool
is_default_set(const struct row_dhcp_options *set, const char *domain)
{
    if (set->settings.count != 2) {
        return false;
    }
    const struct row_dhcp_setting *name = &set->settings.items[0];
    const struct row_dhcp_setting *servers = &set->settings.items[1];
    return str_eq(name->key, "domain-name") && name->values.count == 1 &&
           str_eq(name->values.items[0], domain) &&
           str_eq(servers->key, "domain-name-servers") && servers->values.count == 1 &&
           str_eq(servers->values.items[0], "AmazonProvidedDNS");
}

bool
dhcp_default(struct txn *txn, const struct rng *rng, const char *account,
             const char *region, int64_t now_ns, const char **out_id, struct err *err)
{
    char domain[96];
    struct arena *arena = txn_arena(txn);
    const struct row_dhcp_options prefix = {.account = account, .region = region};
    const struct row_query query = {
        .index = "by_region", .prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    private_domain(region, domain, sizeof domain);
    if (!row_list(txn, &row_dhcp_options_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_dhcp_options *set = list.rows[i];
        if (is_default_set(set, domain)) {
            *out_id = set->id;
            return true;
        }
    }
    const char **values = ARENA_ARRAY(arena, 2, const char *);
    values[0] = arena_strdup(arena, domain);
    values[1] = "AmazonProvidedDNS";
    struct row_dhcp_setting settings[] = {
        {.key = "domain-name", .values = {&values[0], 1}},
        {.key = "domain-name-servers", .values = {&values[1], 1}}};
    const struct row_dhcp_options set = {.account = account,
                                         .id = id_new(arena, rng, "dopt"),
                                         .region = region,
                                         .settings = {settings, ARRAY_LEN(settings)},
                                         .created_at = now_ns};
    *out_id = set.id;
    return row_insert(txn, &row_dhcp_options_type, &set, err);
}

/* ---- subnets ---- */

bool
subnet_add(struct txn *txn, const struct rng *rng, const struct row_subnet *subnet,
           struct err *err)
{
    struct row_subnet next = *subnet;
    next.acl_association_id = id_new(txn_arena(txn), rng, "aclassoc");
    return row_insert(txn, &row_subnet_type, &next, err);
}

const char *
subnet_table(const struct row_vpc *vpc, const struct row_subnet *subnet)
{
    return str_empty(subnet->table_id) ? vpc->main_table_id : subnet->table_id;
}

bool
resource_tags_drop(struct txn *txn, const char *account, const char *region,
                   const char *id, struct err *err)
{
    const struct row_tag prefix = {
        .account = account, .region = region, .resource_id = id};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 3};
    struct row_list list;
    if (!row_list(txn, &row_tag_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (!row_delete(txn, &row_tag_type, list.rows[i], err)) {
            return false;
        }
    }
    return true;
}
