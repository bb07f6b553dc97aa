/* launch_network.c - where a launch's instances sit: subnet, security groups, address, and
 * their network cards. */
#include "service/ec2/launch.h"

#define NICS_MAX 64 /* Before the type's own limit is looked at. */

typedef struct ec2_instance_network_interface_specification nic_spec;

/* The first card's wishes, whether they came at the instance's level or in
 * NetworkInterfaces. */
struct net_ask {
    const char *subnet_id, *address;
    const char *const *group_ids;
    size_t group_id_count;
    const char *const *group_names;
    size_t group_name_count;
};

static bool
nic_unsupported(const nic_spec *n, struct err *err)
{
    if (n->associate_carrier_ip_address) {
        return err_unsupported(err, "carrier addresses");
    }
    if (n->ipv4_prefixes.count || n->ipv4_prefix_count || n->ipv6_prefixes.count ||
        n->ipv6_prefix_count) {
        return err_unsupported(err, "prefixes delegated to interfaces");
    }
    if (n->interface_type && !str_eq(n->interface_type, "interface")) {
        return err_unsupported(err, "network interfaces other than 'interface'");
    }
    return true;
}

/* An interface that is there goes to one instance, and says everything by itself. */
static bool
nic_existing(struct call *call, const nic_spec *n, int64_t instances,
             struct launch_nic *out, struct err *err)
{
    if (!FIND(call, kind_eni, n->network_interface_id, &out->existing, err) ||
        !eni_check_own(out->existing, err)) {
        return false;
    }
    if (instances != 1) {
        return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                       "Network interface IDs can be used with one instance only.");
    }
    if (n->subnet_id || n->groups.count || n->private_ip_address ||
        n->private_ip_addresses.count) {
        return err_set(
            err, ERR_INVALID_PARAMETER_COMBINATION,
            "A network interface may not specify both a network interface ID "
            "and a subnet, groups or addresses");
    }
    return str_empty(out->existing->instance_id) ||
           err_set(err, ERR_ENI_IN_USE, "Interface: [%s] in use.", out->existing->id);
}

/* A card but for its subnet and groups. */
static bool
nic_read(struct call *call, const nic_spec *n, int64_t instances,
         struct launch_nic *out, struct err *err)
{
    *out = (struct launch_nic){
        .index = n->device_index,
        .delete_on_termination = n->has_delete_on_termination
                                     ? n->delete_on_termination
                                     : !n->network_interface_id,
        .has_public = n->has_associate_public_ip_address,
        .public = n->associate_public_ip_address,
        .ask = {.address = n->private_ip_address,
                .description = n->description,
                .more_any = n->secondary_private_ip_address_count,
                .ipv6 =
                    ipv6_texts(call, n->ipv6_addresses.items, n->ipv6_addresses.count),
                .ipv6_count = n->ipv6_addresses.count,
                .ipv6_any = n->ipv6_address_count},
    };
    if (!n->has_device_index && !n->network_interface_id) {
        return err_set(err, ERR_MISSING_PARAMETER,
                       "Each network interface requires a device index.");
    }
    return nic_unsupported(n, err) &&
           private_addresses_read(call, n->private_ip_addresses.items,
                                  n->private_ip_addresses.count, &out->ask, err) &&
           (!n->network_interface_id || nic_existing(call, n, instances, out, err));
}

static bool
check_level(const struct ec2_run_instances_request *in, struct err *err)
{
    const char *with = in->subnet_id                  ? "subnet ID"
                       : in->security_group_ids.count ? "security groups"
                       : in->security_groups.count    ? "security groups"
                       : in->private_ip_address       ? "private IP address"
                                                      : NULL;
    return !with || err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                            "Network interfaces and an instance-level %s may not be "
                            "specified on the same request",
                            with);
}

/* Each card has its own place, and the first place is taken. */
static bool
check_places(const struct ec2_run_instances_request *in, struct err *err)
{
    bool first = false;
    for (size_t i = 0; i < in->network_interfaces.count; i++) {
        const nic_spec *n = &in->network_interfaces.items[i];
        first |= n->device_index == 0;
        for (size_t k = 0; k < i; k++) {
            if (in->network_interfaces.items[k].device_index == n->device_index) {
                return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                               "Duplicate device index: %" PRId64 ".", n->device_index);
            }
        }
        if (n->associate_public_ip_address && in->network_interfaces.count > 1) {
            return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                           "The associatePublicIPAddress parameter cannot be specified "
                           "when launching with multiple network interfaces.");
        }
    }
    return first || err_set(err, ERR_INVALID_PARAMETER_VALUE,
                            "The first network interface must have device index 0");
}

static bool
ask_from_nics(struct call *call, struct launch *l, struct net_ask *out, struct err *err)
{
    const struct ec2_run_instances_request *in = l->in;
    size_t count = in->network_interfaces.count;
    if (!check_level(in, err) || !check_places(in, err)) {
        return false;
    }
    if (count > NICS_MAX || (l->type->max_enis && (int64_t)count > l->type->max_enis)) {
        return err_set(err, ERR_ATTACHMENT_LIMIT,
                       "Interface count %zu exceeds the limit for %s", count,
                       l->type->name);
    }
    l->net.more = ARENA_ARRAY(call->arena, count, struct launch_nic);
    for (size_t i = 0; i < count; i++) {
        const nic_spec *n = &in->network_interfaces.items[i];
        bool first = n->device_index == 0;
        struct launch_nic *nic =
            first ? &l->net.first : &l->net.more[l->net.more_count++];
        if (!nic_read(call, n, in->max_count, nic, err)) {
            return false;
        }
        if (first) {
            *out = (struct net_ask){.subnet_id = n->subnet_id,
                                    .address = nic->ask.address,
                                    .group_ids = n->groups.items,
                                    .group_id_count = n->groups.count};
        }
        if (nic->existing && first) {
            out->subnet_id = nic->existing->subnet_id;
            out->group_ids = nic->existing->group_ids.items;
            out->group_id_count = nic->existing->group_ids.count;
        }
    }
    return true;
}

static bool
ask_from_request(struct call *call, struct launch *l, struct net_ask *out,
                 struct err *err)
{
    const struct ec2_run_instances_request *in = l->in;
    if (in->network_interfaces.count) {
        return ask_from_nics(call, l, out, err);
    }
    l->net.first = (struct launch_nic){
        .delete_on_termination = true,
        .ask = {.ipv6 = ipv6_texts(call, in->ipv6_addresses.items,
                                   in->ipv6_addresses.count),
                .ipv6_count = in->ipv6_addresses.count,
                .ipv6_any = in->ipv6_address_count},
    };
    *out = (struct net_ask){
        .subnet_id = in->subnet_id,
        .address = in->private_ip_address,
        .group_ids = in->security_group_ids.items,
        .group_id_count = in->security_group_ids.count,
        .group_names = in->security_groups.items,
        .group_name_count = in->security_groups.count,
    };
    return true;
}

/* The other cards' subnets and groups: in the first one's zone and VPC. */
static bool
settle_more(struct call *call, struct launch *l, struct err *err)
{
    for (size_t i = 0, at = 0; i < l->in->network_interfaces.count; i++) {
        const nic_spec *n = &l->in->network_interfaces.items[i];
        if (n->device_index == 0) {
            continue;
        }
        struct launch_nic *nic = &l->net.more[at++];
        const char *subnet_id = nic->existing ? nic->existing->subnet_id : n->subnet_id;
        nic->ask.subnet = l->net.subnets[0];
        if (subnet_id && !FIND(call, kind_subnet, subnet_id, &nic->ask.subnet, err)) {
            return false;
        }
        if (!str_eq(nic->ask.subnet->vpc_id, l->net.vpc_id) ||
            !str_eq(nic->ask.subnet->zone, l->net.subnets[0]->zone)) {
            return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                           "You may not attach network interfaces of several "
                           "availability zones or networks to an instance");
        }
        if (!lni_check(call, nic->ask.subnet, nic->index, NULL, err)) {
            return false;
        }
        if (!nic->existing &&
            !eni_groups_check(call, l->net.vpc_id, n->groups.items, n->groups.count,
                              &nic->ask.group_ids, &nic->ask.group_count, err)) {
            return false;
        }
    }
    if (l->net.more_count) {
        l->net.subnet_count = 1; /* All cards share the first one's zone. */
    }
    return true;
}

static const char *
zone_asked(const struct launch *l)
{
    const struct ec2_placement *p = l->in->placement;
    return p && !str_empty(p->availability_zone) ? p->availability_zone : NULL;
}

static bool
zone_check(struct call *call, const char *zone, struct err *err)
{
    const struct region_config *region = config_region(call->config, call->region);
    for (size_t i = 0; zone && region && i < region->zone_count; i++) {
        if (str_eq(region->zones[i].name, zone)) {
            return true;
        }
    }
    return !zone ||
           err_set(err, ERR_ZONE_INVALID, "Invalid availability zone: [%.100s]", zone);
}

static bool
use_named_subnet(struct call *call, const struct net_ask *ask, const char *zone,
                 struct launch_net *out, struct err *err)
{
    const struct row_subnet key = {.account = call->account, .id = ask->subnet_id};
    const void *row;
    if (!ids_check("subnet", &ask->subnet_id, 1, ERR_SUBNET_MALFORMED, err) ||
        !row_get(call->txn, &row_subnet_type, &key, &row, err)) {
        return false;
    }
    const struct row_subnet *subnet = row;
    if (!subnet || !str_eq(subnet->region, call->region)) {
        return err_no_such(err, ERR_SUBNET_NOT_FOUND, "subnet ID", ask->subnet_id);
    }
    if (zone && !str_eq(zone, subnet->zone)) {
        return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                       "The availability zone '%s' is not that of subnet '%s' ('%s').",
                       zone, subnet->id, subnet->zone);
    }
    out->vpc_id = subnet->vpc_id;
    out->subnets = ARENA_ARRAY(call->arena, 1, const struct row_subnet *);
    out->subnets[0] = subnet;
    out->subnet_count = 1;
    return true;
}

static bool
use_default_subnets(struct call *call, const char *zone, struct launch_net *out,
                    struct err *err)
{
    const struct row_subnet prefix = {.account = call->account, .region = call->region};
    const struct row_query query = {
        .index = "by_region", .prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    if (!default_vpc_ensure(call, call->account, call->region, &out->vpc_id, err) ||
        !row_list(call->txn, &row_subnet_type, &query, &list, err)) {
        return false;
    }
    if (!out->vpc_id) {
        return err_set(err, ERR_VPC_DEFAULT_NOT_FOUND,
                       "No default VPC for this user. GroupName is only supported for "
                       "EC2-Classic and default VPC.");
    }
    out->subnets = ARENA_ARRAY(call->arena, list.count, const struct row_subnet *);
    for (size_t i = 0; i < list.count; i++) {
        const struct row_subnet *s = list.rows[i];
        if (s->default_for_az && str_eq(s->vpc_id, out->vpc_id) &&
            (!zone || str_eq(s->zone, zone))) {
            out->subnets[out->subnet_count++] = s;
        }
    }
    if (out->subnet_count == 0) {
        return err_set(err, ERR_MISSING_INPUT,
                       "No default subnet for availability zone: '%s'.",
                       zone ? zone : "null");
    }
    return true;
}

bool
groups_by_id(struct call *call, const char *vpc_id, const char *const *ids,
             size_t count, struct row_instance_group **out, size_t *out_count,
             struct err *err)
{
    if (count > ENI_GROUPS_MAX) {
        return err_set(err, ERR_GROUPS_PER_INTERFACE,
                       "You have exceeded the maximum number of security groups (%d) "
                       "allowed per network interface.",
                       ENI_GROUPS_MAX);
    }
    if (!ids_check("sg", ids, count, ERR_GROUP_ID_MALFORMED, err)) {
        return false;
    }
    struct row_instance_group *groups =
        ARENA_ARRAY(call->arena, count, struct row_instance_group);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        const struct row_security_group key = {.account = call->account, .id = ids[i]};
        const void *row;
        if (!row_get(call->txn, &row_security_group_type, &key, &row, err)) {
            return false;
        }
        const struct row_security_group *g = row;
        if (!g || !str_eq(g->region, call->region)) {
            return err_no_such(err, ERR_GROUP_NOT_FOUND, "security group", ids[i]);
        }
        if (!str_eq(g->vpc_id, vpc_id)) {
            return err_set(
                err, ERR_INVALID_PARAMETER,
                "Security group %s and the subnet belong to different networks.",
                ids[i]);
        }
        bool again = false;
        for (size_t k = 0; k < kept; k++) {
            again |= str_eq(groups[k].id, g->id);
        }
        if (!again) {
            groups[kept++] = (struct row_instance_group){.id = g->id, .name = g->name};
        }
    }
    *out = groups;
    *out_count = kept;
    return true;
}

/* Groups by name, in one VPC; with no names, its group called "default". */
static bool
groups_by_name(struct call *call, const struct net_ask *ask, struct launch_net *net,
               struct err *err)
{
    static const char *const fallback[] = {"default"};
    const char *const *names = ask->group_name_count ? ask->group_names : fallback;
    size_t count = ask->group_name_count ? ask->group_name_count : 1;
    const struct row_security_group prefix = {.account = call->account,
                                              .region = call->region};
    const struct row_query query = {
        .index = "by_region", .prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    if (!row_list(call->txn, &row_security_group_type, &query, &list, err)) {
        return false;
    }
    const char **ids = ARENA_ARRAY(call->arena, count, const char *);
    for (size_t n = 0; n < count; n++) {
        for (size_t i = 0; i < list.count && !ids[n]; i++) {
            const struct row_security_group *g = list.rows[i];
            if (str_eq(g->vpc_id, net->vpc_id) && str_eq(g->name, names[n])) {
                ids[n] = g->id;
            }
        }
        if (!ids[n]) {
            return err_set(
                err, ERR_GROUP_NOT_FOUND,
                "The security group '%.255s' does not exist in default VPC '%s'",
                names[n], net->vpc_id);
        }
    }
    return groups_by_id(call, net->vpc_id, ids, count, &net->groups, &net->group_count,
                        err);
}

static bool
check_groups(struct call *call, const struct net_ask *ask, struct launch_net *net,
             struct err *err)
{
    if (ask->group_id_count && ask->group_name_count) {
        return err_set(
            err, ERR_INVALID_PARAMETER_COMBINATION,
            "The parameter groupName cannot be used with the parameter groupId");
    }
    if (ask->group_name_count && !str_empty(ask->subnet_id)) {
        return err_set(
            err, ERR_INVALID_PARAMETER_COMBINATION,
            "The parameter groupName cannot be used with the parameter subnet");
    }
    return ask->group_id_count
               ? groups_by_id(call, net->vpc_id, ask->group_ids, ask->group_id_count,
                              &net->groups, &net->group_count, err)
               : groups_by_name(call, ask, net, err);
}

static bool
check_address(const struct launch *l, const struct net_ask *ask, struct launch_net *net,
              struct err *err)
{
    struct cidr block;
    if (str_empty(ask->address)) {
        return true;
    }
    if (!ipv4_parse(ask->address, &net->address)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE, "Invalid address: '%.40s'",
                       ask->address);
    }
    if (l->in->max_count != 1) {
        return err_set(
            err, ERR_INVALID_PARAMETER_COMBINATION,
            "Multiple instances creation doesn't support specific private IP "
            "address.");
    }
    /* Without a subnet, only the default one whose block holds the address remains. */
    for (size_t i = 0; i < net->subnet_count; i++) {
        if (cidr_parse(net->subnets[i]->cidr, &block) &&
            cidr_contains(&block, net->address)) {
            net->subnets[0] = net->subnets[i];
            net->subnet_count = 1;
            net->has_address = true;
        }
    }
    if (!net->has_address) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Address %s does not fall within the subnet's address range",
                       ask->address);
    }
    if (!cidr_parse(net->subnets[0]->cidr, &block) ||
        subnet_reserves(&block, net->address)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Address %s is in subnet's reserved address range",
                       ask->address);
    }
    return true;
}

bool
launch_network(struct call *call, struct launch *l, struct err *err)
{
    struct net_ask ask;
    const char *zone = zone_asked(l);
    if (!ask_from_request(call, l, &ask, err) || !zone_check(call, zone, err)) {
        return false;
    }
    bool found = str_empty(ask.subnet_id)
                     ? use_default_subnets(call, zone, &l->net, err)
                     : use_named_subnet(call, &ask, zone, &l->net, err);
    if (!found || !check_groups(call, &ask, &l->net, err) ||
        !check_address(l, &ask, &l->net, err)) {
        return false;
    }
    return settle_more(call, l, err);
}
