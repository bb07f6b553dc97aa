/* interface_calls.c - network interfaces made, attached, detached and deleted. */
#include "service/ec2/interfaces.h"

#include "core/uplink_rows.h"

#define FREE_ADDRESSES_MAX 50 /* Of an interface on no instance, each family. */

/* ---- groups ---- */

static bool
default_group(struct call *call, const char *vpc_id, const char **out, struct err *err)
{
    const struct row_security_group prefix = {.account = call->account,
                                              .vpc_id = vpc_id};
    struct row_list list;
    *out = NULL;
    if (!rows_by(call, &row_security_group_type, "by_vpc", 2, &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_security_group *group = list.rows[i];
        *out = str_eq(group->name, "default") ? group->id : *out;
    }
    return *out ||
           err_set(err, ERR_GROUP_NOT_FOUND,
                   "The security group 'default' does not exist in VPC '%s'", vpc_id);
}

bool
eni_groups_check(struct call *call, const char *vpc_id, const char *const *ids,
                 size_t count, const char *const **out, size_t *out_count,
                 struct err *err)
{
    const char **kept = ARENA_ARRAY(call->arena, count + 1, const char *);
    size_t total = 0;
    if (count > ENI_GROUPS_MAX) {
        return err_set(err, ERR_GROUPS_PER_INTERFACE,
                       "You have exceeded the maximum number of security groups (%d) "
                       "allowed per network interface.",
                       ENI_GROUPS_MAX);
    }
    if (count == 0) {
        *out = kept;
        *out_count = 1;
        return default_group(call, vpc_id, &kept[0], err);
    }
    for (size_t i = 0; i < count; i++) {
        const struct row_security_group *group;
        bool again = false;
        if (!FIND(call, kind_group, ids[i], &group, err)) {
            return false;
        }
        if (!str_eq(group->vpc_id, vpc_id)) {
            return err_set(err, ERR_INVALID_PARAMETER,
                           "Security group %s and the subnet belong to different "
                           "networks.",
                           group->id);
        }
        for (size_t k = 0; k < total; k++) {
            again |= str_eq(kept[k], ids[i]);
        }
        if (!again) {
            kept[total++] = group->id;
        }
    }
    *out = kept;
    *out_count = total;
    return true;
}

/* ---- addresses ---- */

/* How many addresses an interface may have, of each family. */
static bool
addresses_max(struct call *call, const struct row_eni *eni, int64_t *out,
              struct err *err)
{
    const struct row_instance key = {.account = eni->account, .id = eni->instance_id};
    const struct instance_type *type = NULL;
    const void *inst = NULL;
    if (!str_empty(key.id) &&
        !row_get(call->txn, &row_instance_type, &key, &inst, err)) {
        return false;
    }
    if (inst) {
        type = config_type(call->config, ((const struct row_instance *)inst)->type);
    }
    *out = type && type->ips_per_eni ? type->ips_per_eni : FREE_ADDRESSES_MAX;
    return true;
}

static bool
check_room(struct call *call, const struct row_eni *eni, size_t total, struct err *err)
{
    int64_t max;
    return addresses_max(call, eni, &max, err) &&
           ((int64_t)total <= max ||
            err_set(err, ERR_PRIVATE_ADDRESS_LIMIT,
                    "Number of private addresses will exceed limit of %" PRId64
                    " for the interface %s.",
                    max, eni->id));
}

/* Appends to a list of texts, by copying it. */
static void
append(struct call *call, const char *text, const char ***items, size_t *count)
{
    const char **next = ARENA_ARRAY(call->arena, *count + 1, const char *);
    for (size_t i = 0; i < *count; i++) {
        next[i] = (*items)[i];
    }
    next[(*count)++] = text;
    *items = next;
}

bool
eni_add_ipv4(struct call *call, struct row_eni *eni, const char *const *named,
             size_t count, int64_t any, struct err *err)
{
    size_t wanted = count + (size_t)MAX(any, 0);
    if (wanted > UINT16_MAX ||
        !check_room(call, eni, eni->more_ipv4.count + 1 + wanted, err)) {
        return wanted <= UINT16_MAX ? false
                                    : err_set(err, ERR_PRIVATE_ADDRESS_LIMIT,
                                              "Too many addresses are asked for.");
    }
    for (size_t i = 0; i < wanted; i++) {
        uint32_t ip = 0;
        const char *taken;
        if (i < count && !ipv4_parse(named[i], &ip)) {
            return err_set(err, ERR_INVALID_PARAMETER_VALUE, "Invalid address: '%.40s'",
                           text_or_empty(named[i]));
        }
        if (!ipv4_take(call->txn, eni->account, eni->subnet_id, eni->id, ip, &taken,
                       err)) {
            return false;
        }
        append(call, taken, &eni->more_ipv4.items, &eni->more_ipv4.count);
    }
    return true;
}

bool
eni_add_ipv6(struct call *call, struct row_eni *eni, const struct row_subnet *subnet,
             const char *const *named, size_t count, int64_t any, struct err *err)
{
    size_t wanted = count + (size_t)MAX(any, 0);
    if (wanted > UINT16_MAX || !check_room(call, eni, eni->ipv6.count + wanted, err)) {
        return wanted <= UINT16_MAX ? false
                                    : err_set(err, ERR_PRIVATE_ADDRESS_LIMIT,
                                              "Too many addresses are asked for.");
    }
    for (size_t i = 0; i < wanted; i++) {
        const char *taken;
        if (!ipv6_take(call->txn, call->rng, subnet, eni->id,
                       i < count ? named[i] : NULL, &taken, err)) {
            return false;
        }
        append(call, taken, &eni->ipv6.items, &eni->ipv6.count);
    }
    return true;
}

/* ---- made ---- */

static bool
primary_number(const char *text, uint32_t *out, struct err *err)
{
    *out = 0;
    return str_empty(text) || ipv4_parse(text, out) ||
           err_set(err, ERR_INVALID_PARAMETER_VALUE, "Invalid address: '%.40s'", text);
}

bool
eni_make(struct call *call, const struct new_eni *ask, const struct row_eni **out,
         struct err *err)
{
    struct row_eni *eni = ARENA_NEW(call->arena, struct row_eni);
    char mac[MAC_TEXT_LEN];
    uint32_t primary;
    *eni = (struct row_eni){
        .account = call->account,
        .id = id_new(call->arena, call->rng, "eni"),
        .region = call->region,
        .subnet_id = ask->subnet->id,
        .vpc_id = ask->subnet->vpc_id,
        .zone = ask->subnet->zone,
        .source_dest_check = !ask->owner_id,
        .description = text_or_empty(ask->description),
        .created_at = call->now_ns,
        .type = ask->type,
        .owner_id = ask->owner_id,
        .generation = 1,
    };
    mac_from_id(eni->id, mac);
    eni->mac = arena_strdup(call->arena, mac);
    const char **groups = ARENA_ARRAY(call->arena, ask->group_count, const char *);
    for (size_t i = 0; i < ask->group_count; i++) {
        groups[i] = ask->group_ids[i];
    }
    eni->group_ids.items = groups;
    eni->group_ids.count = ask->group_count;
    if (ask->owner_id) {
        eni->attachment_id = id_new(call->arena, call->rng, "ela-attach");
        eni->attached_at = call->now_ns;
    }
    int64_t ipv6_any = ask->ipv6_any;
    if (!ask->ipv6_count && !ipv6_any && ask->subnet->assign_ipv6 && !ask->owner_id) {
        ipv6_any = 1;
    }
    *out = eni;
    return primary_number(ask->address, &primary, err) &&
           ipv4_take(call->txn, eni->account, eni->subnet_id, eni->id, primary,
                     &eni->ipv4, err) &&
           eni_add_ipv4(call, eni, ask->more, ask->more_count, ask->more_any, err) &&
           eni_add_ipv6(call, eni, ask->subnet, ask->ipv6, ask->ipv6_count, ipv6_any,
                        err) &&
           row_insert(call->txn, &row_eni_type, eni, err);
}

bool
private_addresses_read(struct call *call,
                       const struct ec2_private_ip_address_specification *items,
                       size_t count, struct new_eni *out, struct err *err)
{
    const char **more = ARENA_ARRAY(call->arena, count, const char *);
    for (size_t i = 0; i < count; i++) {
        if (!items[i].primary) {
            more[out->more_count++] = items[i].private_ip_address;
        } else if (out->address) {
            return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                           "Only one primary private IP address can be specified.");
        } else {
            out->address = items[i].private_ip_address;
        }
    }
    out->more = more;
    return true;
}

const char *const *
ipv6_texts(struct call *call, const struct ec2_instance_ipv6_address *items,
           size_t count)
{
    const char **texts = ARENA_ARRAY(call->arena, count, const char *);
    for (size_t i = 0; i < count; i++) {
        texts[i] = text_or_empty(items[i].ipv6_address);
    }
    return texts;
}

static bool
ask_from_request(struct call *call,
                 const struct ec2_create_network_interface_request *in,
                 struct new_eni *out, struct err *err)
{
    *out = (struct new_eni){
        .address = in->private_ip_address,
        .more_any = in->secondary_private_ip_address_count,
        .ipv6 = ipv6_texts(call, in->ipv6_addresses.items, in->ipv6_addresses.count),
        .ipv6_count = in->ipv6_addresses.count,
        .ipv6_any = in->ipv6_address_count,
        .description = in->description,
    };
    if (in->ipv4_prefixes.count || in->ipv4_prefix_count || in->ipv6_prefixes.count ||
        in->ipv6_prefix_count) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "Prefixes delegated to interfaces are not supported.");
    }
    if (in->interface_type && !str_eq(in->interface_type, "interface")) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "Interfaces of the type '%.40s' are not supported.",
                       in->interface_type);
    }
    return FIND(call, kind_subnet, in->subnet_id, &out->subnet, err) &&
           private_addresses_read(call, in->private_ip_addresses.items,
                                  in->private_ip_addresses.count, out, err) &&
           eni_groups_check(call, out->subnet->vpc_id, in->groups.items,
                            in->groups.count, &out->group_ids, &out->group_count, err);
}

static bool
answer(struct call *call, const char *id,
       struct ec2_create_network_interface_result *out, struct err *err)
{
    const struct row_eni *eni;
    struct tag_set tags;
    out->network_interface = ARENA_NEW(call->arena, struct ec2_network_interface);
    return FIND(call, kind_eni, id, &eni, err) && tags_shown(call, id, &tags, err) &&
           eni_out(call, eni, tags, out->network_interface, err);
}

bool
ec2_create_network_interface(struct call *call,
                             const struct ec2_create_network_interface_request *in,
                             struct ec2_create_network_interface_result *out,
                             struct err *err)
{
    const char *digest =
        request_digest(call, &ec2_create_network_interface_request_desc, in);
    const struct row_eni *made;
    struct new_eni ask;
    const char *before;
    out->client_token = in->client_token;
    if (!token_get(call, in->client_token, digest, &before, err)) {
        return false;
    }
    if (before) {
        return answer(call, before, out, err);
    }
    if (!ask_from_request(call, in, &ask, err) ||
        !new_tags_check(&kind_eni, in->tag_specifications.items,
                        in->tag_specifications.count, err) ||
        !room_for_one(call, &row_eni_type, "by_region", ENIS_MAX, ERR_ENI_LIMIT,
                      "network interfaces", err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    return eni_make(call, &ask, &made, err) &&
           new_tags_put(call, &kind_eni, in->tag_specifications.items,
                        in->tag_specifications.count, made->id, err) &&
           token_put(call, in->client_token, digest, made->id, err) &&
           answer(call, made->id, out, err);
}

/* ---- attached and detached ---- */

bool
eni_check_own(const struct row_eni *eni, struct err *err)
{
    return str_empty(eni->owner_id) ||
           err_set(err, ERR_OPERATION_NOT_PERMITTED,
                   "The network interface '%s' is managed by %s.", eni->id,
                   eni->owner_id);
}

bool
lni_check(struct call *call, const struct row_subnet *subnet, int64_t device_index,
          const char *node_id, struct err *err)
{
    const struct row_uplink *uplink = NULL;
    bool lent = false;
    if (!lni_at(subnet, device_index)) {
        return true;
    }
    if (!(node_id ? uplink_lent(call->txn, call->account, subnet->zone, node_id,
                                &uplink, err)
                  : uplink_lent_somewhere(call->txn, call->account, subnet->zone, &lent,
                                          err))) {
        return false;
    }
    return uplink || lent ||
           err_set(err, ERR_UNSUPPORTED_OPERATION,
                   "At device index %" PRId64
                   " an interface of '%s' is a local network "
                   "interface, and %s to put it on. Ask the cloud's operator.",
                   device_index, subnet->id,
                   node_id ? "the instance's host has none"
                           : "no host of the zone has one");
}

static bool
check_local(struct call *call, const struct row_instance *inst,
            const struct row_eni *eni, int64_t index, struct err *err)
{
    const struct row_subnet *subnet;
    const struct row_uplink *uplink;
    const char *node_id = str_empty(inst->node_id) ? NULL : inst->node_id;
    if (!FIND(call, kind_subnet, eni->subnet_id, &subnet, err) ||
        !lni_check(call, subnet, index, node_id, err)) {
        return false;
    }
    if (!lni_at(subnet, index) || str_eq(inst->want_state, "stopped")) {
        return true;
    }
    return uplink_lent(call->txn, call->account, subnet->zone, node_id, &uplink, err) &&
           (!str_eq(uplink->device, "vfio") ||
            err_set(err, ERR_INSTANCE_STATE,
                    "In '%s' a local network interface is a device of the host: stop "
                    "instance '%s' before it is attached.",
                    subnet->zone, inst->id));
}

/* The instance can take another interface at that place. */
static bool
check_place(struct call *call, const struct row_instance *inst,
            const struct row_eni *eni, int64_t index, struct err *err)
{
    const struct row_eni prefix = {.account = inst->account, .instance_id = inst->id};
    const struct instance_type *type = config_type(call->config, inst->type);
    struct row_list list;
    if (str_eq(inst->want_state, "terminated")) {
        return err_set(err, ERR_INSTANCE_STATE,
                       "Instance '%s' is not 'running' or 'stopped'.", inst->id);
    }
    if (!str_eq(inst->zone, eni->zone) || !str_eq(inst->vpc_id, eni->vpc_id)) {
        return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                       "You may not attach a network interface to an instance if they "
                       "are not in the same availability zone and network");
    }
    if (!rows_by(call, &row_eni_type, "by_instance", 2, &prefix, &list, err)) {
        return false;
    }
    if (type && type->max_enis && (int64_t)list.count >= type->max_enis) {
        return err_set(err, ERR_ATTACHMENT_LIMIT,
                       "Interface count %zu exceeds the limit for %s", list.count + 1,
                       inst->type);
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_eni *other = list.rows[i];
        if (other->device_index == index) {
            return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                           "Instance '%s' already has an interface attached at device "
                           "index '%" PRId64 "'.",
                           inst->id, index);
        }
    }
    return true;
}

/* The instance's interfaces anew, in the order of their places. */
static bool
instance_relist(struct call *call, const struct row_instance *inst, struct err *err)
{
    const struct row_eni prefix = {.account = inst->account, .instance_id = inst->id};
    struct row_instance next = *inst;
    struct row_list list;
    if (!rows_by(call, &row_eni_type, "by_instance", 2, &prefix, &list, err)) {
        return false;
    }
    const char **ids = ARENA_ARRAY(call->arena, list.count, const char *);
    size_t count = 0;
    for (int64_t place = 0; count < list.count && place <= UINT8_MAX; place++) {
        for (size_t i = 0; i < list.count; i++) {
            const struct row_eni *eni = list.rows[i];
            if (eni->device_index == place) {
                ids[count++] = eni->id;
            }
        }
    }
    next.eni_ids.items = ids;
    next.eni_ids.count = count;
    next.generation++;
    return row_put(call->txn, &row_instance_type, &next, err);
}

bool
ec2_attach_network_interface(struct call *call,
                             const struct ec2_attach_network_interface_request *in,
                             struct ec2_attach_network_interface_result *out,
                             struct err *err)
{
    const struct row_instance *inst;
    const struct row_eni *eni;
    if (!FIND(call, kind_eni, in->network_interface_id, &eni, err) ||
        !instance_find(call, in->instance_id, &inst, err) || !eni_check_own(eni, err)) {
        return false;
    }
    if (!str_empty(eni->instance_id)) {
        return err_set(err, ERR_ENI_IN_USE, "Interface: [%s] in use.", eni->id);
    }
    if (in->device_index < 1 || in->device_index > UINT8_MAX) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%" PRId64 ") for parameter deviceIndex is invalid.",
                       in->device_index);
    }
    if (!check_place(call, inst, eni, in->device_index, err) ||
        !check_local(call, inst, eni, in->device_index, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    struct row_eni next = *eni;
    next.instance_id = inst->id;
    next.device_index = in->device_index;
    next.attachment_id = id_new(call->arena, call->rng, "eni-attach");
    next.attached_at = call->now_ns;
    next.delete_on_termination = false;
    out->attachment_id = next.attachment_id;
    out->network_card_index = 0;
    out->has_network_card_index = true;
    return eni_put(call->txn, &next, err) && instance_relist(call, inst, err);
}

static bool
attachment_find(struct call *call, const char *id, const struct row_eni **out,
                struct err *err)
{
    const struct row_eni prefix = {.account = call->account, .region = call->region};
    struct row_list list;
    if (!need(id, "attachmentId", err) ||
        !rows_of_region(call, &row_eni_type, &prefix, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_eni *eni = list.rows[i];
        if (str_eq(eni->attachment_id, id)) {
            *out = eni;
            return true;
        }
    }
    return err_no_such(err, ERR_ATTACHMENT_NOT_FOUND, "attachment", id);
}

bool
ec2_detach_network_interface(struct call *call,
                             const struct ec2_detach_network_interface_request *in,
                             struct err *err)
{
    const struct row_eni *eni = NULL;
    if (!attachment_find(call, in->attachment_id, &eni, err) ||
        !eni_check_own(eni, err)) {
        return false;
    }
    if (eni->device_index == 0) {
        return err_set(err, ERR_OPERATION_NOT_PERMITTED,
                       "The network interface at device index 0 cannot be detached.");
    }
    const struct row_instance key = {.account = eni->account, .id = eni->instance_id};
    const void *inst;
    return dry_run_check(in->dry_run, err) && eni_detach(call->txn, eni, err) &&
           row_get(call->txn, &row_instance_type, &key, &inst, err) &&
           (!inst || instance_relist(call, inst, err));
}

bool
ec2_delete_network_interface(struct call *call,
                             const struct ec2_delete_network_interface_request *in,
                             struct err *err)
{
    const struct row_eni *eni;
    if (!FIND(call, kind_eni, in->network_interface_id, &eni, err) ||
        !eni_check_own(eni, err)) {
        return false;
    }
    if (!str_empty(eni->instance_id)) {
        return err_set(err, ERR_ENI_IN_USE,
                       "Network interface '%s' is currently in use.", eni->id);
    }
    return dry_run_check(in->dry_run, err) && flow_logs_end(call, eni->id, err) &&
           eni_remove(call->txn, eni, err);
}
