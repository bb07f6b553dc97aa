/* network_records.c - see network_records.h. */
#include "control/network_records.h"

#include "core/network_rows.h"

#define GET(txn, name, out, err, ...) \
    row_get((txn), &row_##name##_type, &(const struct row_##name){__VA_ARGS__}, \
            (const void **)(out), (err))

static bool
list_by(struct txn *txn, const struct row_type *type, const char *index,
        const void *prefix, struct row_list *out, struct err *err)
{
    const struct row_query query = {
        .index = index, .prefix = prefix, .prefix_fields = 2};
    return row_list(txn, type, &query, out, err);
}

static int64_t
protocol_number(const char *text)
{
    static const struct {
        const char *name;
        int64_t number;
    } names[] = {{"tcp", 6}, {"udp", 17}, {"icmp", 1}, {"icmpv6", 58}};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (str_eq(names[i].name, text)) {
            return names[i].number;
        }
    }
    return text ? strtol(text, NULL, 10) : -1;
}

/* ---- networks and subnets ---- */

/* NULL: the VPC has no set, or lost it. */
static bool
dhcp_set(struct txn *txn, const struct row_vpc *vpc,
         const struct row_dhcp_options **out, struct err *err)
{
    *out = NULL;
    return str_empty(vpc->dhcp_options_id) ||
           GET(txn, dhcp_options, out, err, .account = vpc->account,
               .id = vpc->dhcp_options_id);
}

static const char *
dhcp_record_id(struct arena *arena, const struct row_dhcp_options *set,
               const struct row_vpc *vpc)
{
    return arena_printf(arena, "%s-%s", set->id, vpc->id);
}

bool
dhcp_record(struct txn *txn, const struct row_vpc *vpc, struct link_dhcp_options *out,
            bool *there, struct err *err)
{
    const struct row_dhcp_options *set;
    if (!dhcp_set(txn, vpc, &set, err)) {
        return false;
    }
    *there = set != NULL;
    if (!set) {
        return true;
    }
    *out = (struct link_dhcp_options){.id = dhcp_record_id(txn_arena(txn), set, vpc),
                                      .generation = 1};
    for (size_t i = 0; i < set->settings.count; i++) {
        const struct row_dhcp_setting *s = &set->settings.items[i];
        if (str_eq(s->key, "domain-name") && s->values.count) {
            out->domain = s->values.items[0];
        } else if (str_eq(s->key, "domain-name-servers")) {
            out->name_servers.items = s->values.items;
            out->name_servers.count = s->values.count;
        } else if (str_eq(s->key, "ntp-servers")) {
            out->ntp_servers.items = s->values.items;
            out->ntp_servers.count = s->values.count;
        } else if (str_eq(s->key, "netbios-name-servers")) {
            out->netbios_servers.items = s->values.items;
            out->netbios_servers.count = s->values.count;
        } else if (str_eq(s->key, "netbios-node-type") && s->values.count) {
            out->netbios_node_type = strtol(s->values.items[0], NULL, 10);
        }
    }
    return true;
}

void
flow_log_record(const struct row_flow_log *log, struct link_flow_log *out)
{
    *out = (struct link_flow_log){
        .id = log->id,
        .network_id = log->vpc_id,
        .resource_id = log->resource_id,
        .traffic = log->traffic,
        .interval_s = log->interval_s,
        .account = log->account,
        .generation = 1,
    };
}

bool
network_record(struct txn *txn, const struct row_vpc *vpc, struct link_network *out,
               struct err *err)
{
    struct arena *arena = txn_arena(txn);
    char domain[96], outside[96];
    const struct row_dhcp_options *options;
    if (!dhcp_set(txn, vpc, &options, err)) {
        return false;
    }
    private_domain(vpc->region, domain, sizeof domain);
    public_domain(vpc->region, outside, sizeof outside);
    *out = (struct link_network){
        .id = vpc->id,
        .generation = 1,
        .vni = vpc->vni,
        .domain = arena_strdup(arena, domain),
        .dhcp_options_id = options ? dhcp_record_id(arena, options, vpc) : NULL,
        .dns_off = !vpc->dns_support,
        .public_domain = vpc->dns_hostnames ? arena_strdup(arena, outside) : NULL,
    };
    const char **own = ARENA_ARRAY(arena, 3, const char *);
    own[0] = arena_strdup(arena, outside);
    own[1] = arena_printf(arena, "%s.vpce.amazonaws.com", vpc->region);
    own[2] = arena_printf(arena, "%s.amazonaws.com", vpc->region);
    out->own_domains.items = own;
    out->own_domains.count = 3;
    out->cidrs.count = vpc->blocks.count + 1;
    out->cidrs.items = ARENA_ARRAY(arena, out->cidrs.count, const char *);
    out->cidrs.items[0] = vpc->cidr;
    for (size_t i = 0; i < vpc->blocks.count; i++) {
        out->cidrs.items[i + 1] = vpc->blocks.items[i].cidr;
    }
    out->cidrs6.count = vpc->blocks6.count;
    out->cidrs6.items = ARENA_ARRAY(arena, vpc->blocks6.count, const char *);
    for (size_t i = 0; i < vpc->blocks6.count; i++) {
        out->cidrs6.items[i] = vpc->blocks6.items[i].cidr;
    }
    return true;
}

static bool
default_acl(struct txn *txn, const struct row_vpc *vpc, const char **out,
            struct err *err)
{
    const struct row_network_acl prefix = {.account = vpc->account, .vpc_id = vpc->id};
    struct row_list list;
    *out = NULL;
    if (!list_by(txn, &row_network_acl_type, "by_vpc", &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_network_acl *acl = list.rows[i];
        *out = acl->is_default ? acl->id : *out;
    }
    return true;
}

bool
subnet_record(struct txn *txn, const struct row_vpc *vpc,
              const struct row_subnet *subnet, struct link_subnet *out, struct err *err)
{
    const char *acl = subnet->acl_id;
    if (str_empty(acl) && !default_acl(txn, vpc, &acl, err)) {
        return false;
    }
    *out = (struct link_subnet){
        .id = subnet->id,
        .network_id = vpc->id,
        .cidr = subnet->cidr,
        .cidr6 = subnet->block6,
        .generation = 1,
        .vni = subnet->vni,
        .route_table_id = subnet_table(vpc, subnet),
        .acl_id = acl,
        .acl_off = str_empty(acl), /* Made before ACLs were rows. */
    };
    return true;
}

/* ---- routes ---- */

static bool
eni_target(struct txn *txn, const struct row_route *row, struct link_route *out,
           struct err *err)
{
    const struct row_eni *eni;
    if (!GET(txn, eni, &eni, err, .account = row->account, .id = row->target)) {
        return false;
    }
    if (eni && !str_empty(eni->instance_id)) {
        bool six = strchr(out->cidr, ':') != NULL;
        out->target = "eni";
        out->address = six ? (eni->ipv6.count ? eni->ipv6.items[0] : NULL) : eni->ipv4;
        out->subnet_id = eni->subnet_id;
    }
    return true;
}

/* Fills in a route's target; "blackhole" where that is gone. */
static bool
target_fill(struct txn *txn, const struct row_route *row, struct link_route *out,
            struct err *err)
{
    const char *id = row->target;
    const struct row_internet_gateway *gateway = NULL;
    const struct row_egress_gateway *egress = NULL;
    const struct row_nat_gateway *nat = NULL;
    out->target = "blackhole";
    out->target_id = id;
    if (str_starts(id, "eni-")) {
        return eni_target(txn, row, out, err);
    }
    if (!GET(txn, internet_gateway, &gateway, err, .account = row->account, .id = id) ||
        !GET(txn, egress_gateway, &egress, err, .account = row->account, .id = id) ||
        !GET(txn, nat_gateway, &nat, err, .account = row->account, .id = id)) {
        return false;
    }
    if (gateway && str_eq(gateway->vpc_id, row->vpc_id)) {
        out->target = "igw";
    } else if (egress && str_eq(egress->vpc_id, row->vpc_id)) {
        out->target = "egress_only";
    } else if (nat &&
               (str_eq(nat->state, "available") || str_eq(nat->state, "pending"))) {
        out->target = "nat";
    } else if (str_starts(id, "pcx-")) {
        out->target = "peering"; /* The node drops what has no peering record. */
    }
    return true;
}

static bool
add_route(struct txn *txn, const struct row_route *row, const char *cidr,
          struct link_route_table *out, struct err *err)
{
    struct link_route *route = &out->routes.items[out->routes.count++];
    *route = (struct link_route){.cidr = cidr};
    return target_fill(txn, row, route, err);
}

bool
route_table_record(struct txn *txn, const struct row_route_table *table,
                   struct link_route_table *out, struct err *err)
{
    const struct row_route prefix = {.account = table->account, .table_id = table->id};
    const struct row_prefix_list_version *entries;
    struct row_list list;
    if (!list_by(txn, &row_route_type, NULL, &prefix, &list, err)) {
        return false;
    }
    size_t room = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_route *row = list.rows[i];
        bool named = str_starts(row->destination, "pl-");
        entries = NULL;
        if (named &&
            !prefix_list_now(txn, row->account, row->destination, &entries, err)) {
            return false;
        }
        room += entries ? entries->entries.count : 1;
    }
    *out = (struct link_route_table){
        .id = table->id, .network_id = table->vpc_id, .generation = 1};
    out->routes.items = ARENA_ARRAY(txn_arena(txn), room, struct link_route);
    for (size_t i = 0; i < list.count; i++) {
        const struct row_route *row = list.rows[i];
        if (!str_starts(row->destination, "pl-")) {
            if (!add_route(txn, row, row->destination, out, err)) {
                return false;
            }
            continue;
        }
        if (!prefix_list_now(txn, row->account, row->destination, &entries, err)) {
            return false;
        }
        for (size_t k = 0; entries && k < entries->entries.count; k++) {
            if (!add_route(txn, row, entries->entries.items[k].cidr, out, err)) {
                return false;
            }
        }
    }
    return true;
}

/* ---- ACLs and groups ---- */

bool
acl_record(struct txn *txn, const struct row_network_acl *acl, struct link_acl *out,
           struct err *err)
{
    const struct row_network_acl_entry prefix = {.account = acl->account,
                                                 .acl_id = acl->id};
    struct row_list list;
    if (!list_by(txn, &row_network_acl_entry_type, NULL, &prefix, &list, err)) {
        return false;
    }
    *out = (struct link_acl){.id = acl->id, .network_id = acl->vpc_id, .generation = 1};
    out->rules.items = ARENA_ARRAY(txn_arena(txn), list.count, struct link_acl_rule);
    out->rules.count = list.count;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_network_acl_entry *row = list.rows[i];
        int64_t protocol = protocol_number(row->protocol);
        bool icmp = protocol == 1 || protocol == 58;
        out->rules.items[i] = (struct link_acl_rule){
            .number = row->number,
            .egress = row->egress != 0,
            .allow = row->allow,
            .protocol = protocol,
            .from_port = icmp ? 0 : row->from_port,
            .to_port = icmp ? 0 : row->to_port,
            .cidr = str_empty(row->cidr4) ? row->cidr6 : row->cidr4,
            .icmp_type = icmp ? row->from_port : -1,
            .icmp_code = icmp ? row->to_port : -1,
        };
    }
    return true;
}

bool
group_record(struct txn *txn, const struct row_security_group *group,
             struct link_group *out, struct err *err)
{
    const struct row_security_group_rule prefix = {.account = group->account,
                                                   .group_id = group->id};
    struct row_list list;
    if (!list_by(txn, &row_security_group_rule_type, "by_group", &prefix, &list, err)) {
        return false;
    }
    *out = (struct link_group){
        .id = group->id, .network_id = group->vpc_id, .generation = 1};
    out->rules.items = ARENA_ARRAY(txn_arena(txn), list.count, struct link_group_rule);
    out->rules.count = list.count;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_security_group_rule *row = list.rows[i];
        out->rules.items[i] = (struct link_group_rule){
            .egress = row->egress,
            .protocol = protocol_number(row->protocol),
            .from_port = row->from_port,
            .to_port = row->to_port,
            .cidr = str_empty(row->cidr4) ? row->cidr6 : row->cidr4,
            .prefix_list_id = row->prefix_list_id,
            .group_id = row->peer_group,
        };
    }
    return true;
}

void
eni_addresses(struct arena *arena, const struct row_eni *eni, const char ***out,
              size_t *out_count)
{
    const char **list =
        ARENA_ARRAY(arena, 1 + eni->more_ipv4.count + eni->ipv6.count, const char *);
    size_t count = 0;
    list[count++] = eni->ipv4;
    for (size_t i = 0; i < eni->more_ipv4.count; i++) {
        list[count++] = eni->more_ipv4.items[i];
    }
    for (size_t i = 0; i < eni->ipv6.count; i++) {
        list[count++] = eni->ipv6.items[i];
    }
    *out = list;
    *out_count = count;
}

void
member_record(struct txn *txn, const char *network_id, const char *group_id,
              const struct row_eni *eni, struct link_group_member *out)
{
    struct arena *arena = txn_arena(txn);
    bool own = str_eq(eni->vpc_id, network_id);
    *out = (struct link_group_member){
        .id = own ? arena_printf(arena, "%s.%s", eni->id, group_id)
                  : arena_printf(arena, "%s.%s.%s", eni->id, group_id, network_id),
        .network_id = network_id,
        .group_id = group_id,
        .generation = 1,
    };
    eni_addresses(arena, eni, &out->addresses.items, &out->addresses.count);
}

/* ---- lists, DHCP, public addresses ---- */

bool
prefix_list_now(struct txn *txn, const char *account, const char *id,
                const struct row_prefix_list_version **out, struct err *err)
{
    const struct row_prefix_list *list;
    *out = NULL;
    if (!GET(txn, prefix_list, &list, err, .account = account, .id = id)) {
        return false;
    }
    return !list || GET(txn, prefix_list_version, out, err, .account = account,
                        .list_id = id, .version = list->version);
}

bool
prefix_list_record(struct txn *txn, const char *network_id,
                   const struct row_prefix_list *list, struct link_prefix_list *out,
                   struct err *err)
{
    struct arena *arena = txn_arena(txn);
    const struct row_prefix_list_version *now;
    if (!prefix_list_now(txn, list->account, list->id, &now, err)) {
        return false;
    }
    size_t count = now ? now->entries.count : 0;
    *out = (struct link_prefix_list){
        .id = arena_printf(arena, "%s.%s", list->id, network_id),
        .network_id = network_id,
        .list_id = list->id,
        .generation = 1,
    };
    out->cidrs.items = ARENA_ARRAY(arena, count, const char *);
    out->cidrs.count = count;
    for (size_t i = 0; i < count; i++) {
        out->cidrs.items[i] = now->entries.items[i].cidr;
    }
    return true;
}

bool
port_publics(struct txn *txn, const struct row_eni *eni, struct link_port *out,
             struct err *err)
{
    size_t count = eni->more_ipv4.count + 1;
    out->publics.items = ARENA_ARRAY(txn_arena(txn), count, struct link_port_public);
    for (size_t i = 0; i < count; i++) {
        const char *ip = i ? eni->more_ipv4.items[i - 1] : eni->ipv4;
        const struct row_address *elastic;
        if (!address_of(txn, eni, ip, &elastic, err)) {
            return false;
        }
        const char *public = elastic ? elastic->public_ip : i ? NULL : eni->public_ip;
        if (!str_empty(public)) {
            out->publics.items[out->publics.count++] =
                (struct link_port_public){.private = ip, .public = public};
        }
    }
    return true;
}
