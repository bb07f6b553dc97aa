/* instances_view.c - an instance as EC2 answers it. */
#include "service/ec2/instances.h"
#include "service/ec2/network.h"
#include "service/fragments.h"
#include "wire/protocol.h"

/* Everything of an answer that hangs off the instance, allocated in one piece. */
struct instance_parts {
    struct ec2_monitoring monitoring;
    struct ec2_placement placement;
    struct ec2_cpu_options cpu;
    struct ec2_state_reason reason;
    struct ec2_instance_metadata_options_response metadata;
    struct ec2_instance_block_device_mapping mapping;
    struct ec2_ebs_instance_block_device ebs;
    struct ec2_hibernation_options hibernation;
    struct ec2_instance_maintenance_options maintenance;
    struct ec2_private_dns_name_options_response names;
};

/* The same for every instance; shared by all answers and never written. */
static struct ec2_capacity_reservation_specification_response open_reservation = {
    .capacity_reservation_preference = "open"};
static struct ec2_enclave_options no_enclave = {.has_enabled = true};
static struct ec2_product_code no_product_codes[1];
static struct ec2_group_identifier no_groups[1];
static struct ec2_instance_state states[] = {
    [INSTANCE_PENDING >> 4] = {.code = 0, .name = "pending", .has_code = true},
    [INSTANCE_RUNNING >> 4] = {.code = 16, .name = "running", .has_code = true},
    [INSTANCE_SHUTTING_DOWN >>
        4] = {.code = 32, .name = "shutting-down", .has_code = true},
    [INSTANCE_TERMINATED >> 4] = {.code = 48, .name = "terminated", .has_code = true},
    [INSTANCE_STOPPING >> 4] = {.code = 64, .name = "stopping", .has_code = true},
    [INSTANCE_STOPPED >> 4] = {.code = 80, .name = "stopped", .has_code = true},
};

struct ec2_instance_state *
instance_state_out(struct call *call, enum instance_state state)
{
    return &states[(unsigned)state >> 4];
}

struct ec2_group_identifier *
groups_out(struct call *call, const struct row_instance *inst)
{
    struct ec2_group_identifier *out =
        ARENA_ARRAY(call->arena, inst->groups.count, struct ec2_group_identifier);
    for (size_t i = 0; i < inst->groups.count; i++) {
        out[i].group_id = inst->groups.items[i].id;
        out[i].group_name = inst->groups.items[i].name;
    }
    return out;
}

static void
metadata_fill(const struct row_instance *inst,
              struct ec2_instance_metadata_options_response *out)
{
    *out = (struct ec2_instance_metadata_options_response){
        .state = "applied",
        .http_tokens = inst->http_tokens,
        .http_put_response_hop_limit = inst->http_hop_limit,
        .has_http_put_response_hop_limit = true,
        .http_endpoint = inst->http_endpoint,
        .http_protocol_ipv6 =
            inst->http_protocol_ipv6 ? inst->http_protocol_ipv6 : "disabled",
        .instance_metadata_tags = inst->http_tags,
    };
}

struct ec2_instance_metadata_options_response *
metadata_options_out(struct call *call, const struct row_instance *inst)
{
    struct ec2_instance_metadata_options_response *out =
        ARENA_NEW(call->arena, struct ec2_instance_metadata_options_response);
    metadata_fill(inst, out);
    return out;
}

static struct ec2_instance_network_interface_association *
association_out(struct call *call, const struct ec2_network_interface_association *from)
{
    struct ec2_instance_network_interface_association *out = NULL;
    if (from) {
        out = ARENA_NEW(call->arena, struct ec2_instance_network_interface_association);
        *out = (struct ec2_instance_network_interface_association){
            .ip_owner_id = from->ip_owner_id,
            .public_dns_name = from->public_dns_name,
            .public_ip = from->public_ip};
    }
    return out;
}

static void
nic_addresses(struct call *call, const struct ec2_network_interface *nic,
              struct ec2_instance_network_interface *out)
{
    size_t count = nic->private_ip_addresses.count, count6 = nic->ipv6_addresses.count;
    out->private_ip_addresses.items =
        ARENA_ARRAY(call->arena, count, struct ec2_instance_private_ip_address);
    out->private_ip_addresses.count = count;
    for (size_t i = 0; i < count; i++) {
        const struct ec2_network_interface_private_ip_address *from =
            &nic->private_ip_addresses.items[i];
        out->private_ip_addresses.items[i] = (struct ec2_instance_private_ip_address){
            .association = association_out(call, from->association),
            .primary = from->primary,
            .has_primary = true,
            .private_dns_name = from->private_dns_name,
            .private_ip_address = from->private_ip_address,
        };
    }
    out->ipv6_addresses.items =
        ARENA_ARRAY(call->arena, count6 + 1, struct ec2_instance_ipv6_address);
    out->ipv6_addresses.count = count6;
    for (size_t i = 0; i < count6; i++) {
        out->ipv6_addresses.items[i].ipv6_address =
            nic->ipv6_addresses.items[i].ipv6_address;
    }
}

static void
put_nic(struct call *call, const struct instance_view *v,
        const struct ec2_network_interface *nic,
        struct ec2_instance_network_interface *out)
{
    *out = (struct ec2_instance_network_interface){
        .association = association_out(call, nic->association),
        .description = nic->description,
        .mac_address = nic->mac_address,
        .network_interface_id = nic->network_interface_id,
        .owner_id = nic->owner_id,
        .private_dns_name = nic->private_dns_name,
        .private_ip_address = nic->private_ip_address,
        .source_dest_check = nic->source_dest_check,
        .has_source_dest_check = true,
        .status = "in-use",
        .subnet_id = nic->subnet_id,
        .vpc_id = nic->vpc_id,
        .interface_type = nic->interface_type,
        .groups = {nic->groups.items, nic->groups.count},
    };
    nic_addresses(call, nic, out);
    const struct ec2_network_interface_attachment *from = nic->attachment;
    out->attachment =
        ARENA_NEW(call->arena, struct ec2_instance_network_interface_attachment);
    *out->attachment = (struct ec2_instance_network_interface_attachment){
        .attach_time = from->attach_time,
        .has_attach_time = from->has_attach_time,
        .attachment_id = from->attachment_id,
        .delete_on_termination = from->delete_on_termination,
        .has_delete_on_termination = true,
        .device_index = from->device_index,
        .has_device_index = true,
        .network_card_index = 0,
        .has_network_card_index = true,
        .status = v->state == INSTANCE_PENDING ? "attaching" : "attached",
    };
}

/* The cards, and what the instance repeats of its first one. */
static void
put_nics(struct call *call, const struct instance_view *v, struct ec2_instance *out)
{
    out->network_interfaces.items = ARENA_ARRAY(call->arena, v->nic_count + 1,
                                                struct ec2_instance_network_interface);
    out->network_interfaces.count = v->nic_count;
    for (size_t i = 0; i < v->nic_count; i++) {
        put_nic(call, v, &v->nics[i], &out->network_interfaces.items[i]);
    }
    if (v->nic_count && v->nics[0].association) {
        out->public_ip_address = v->nics[0].association->public_ip;
        out->public_dns_name = v->nics[0].association->public_dns_name;
    }
    if (v->nic_count) {
        out->ipv6_address = v->nics[0].ipv6_address;
    }
}

static void
put_root(const struct instance_view *v, struct instance_parts *p,
         struct ec2_instance *out)
{
    p->ebs = (struct ec2_ebs_instance_block_device){
        .attach_time = v->root->attached_at,
        .has_attach_time = v->root->attached_at != 0,
        .delete_on_termination = v->root->delete_on_termination,
        .has_delete_on_termination = true,
        .status = v->state == INSTANCE_PENDING ? "attaching" : "attached",
        .volume_id = v->root->id,
    };
    p->mapping = (struct ec2_instance_block_device_mapping){
        .device_name = v->root->device,
        .ebs = &p->ebs,
    };
    out->block_device_mappings.items = &p->mapping;
    out->block_device_mappings.count = 1;
}

/* AWS gives a reason for pending too, where nothing else is known. */
static void
put_reason(const struct instance_view *v, struct instance_parts *p,
           struct ec2_instance *out)
{
    const struct row_instance *inst = v->inst;
    out->state_transition_reason =
        inst->transition_reason ? inst->transition_reason : "";
    if (!str_empty(inst->reason_code)) {
        p->reason.code = inst->reason_code;
        p->reason.message = inst->reason_text;
        out->state_reason = &p->reason;
    } else if (v->state == INSTANCE_PENDING) {
        p->reason.code = p->reason.message = "pending";
        out->state_reason = &p->reason;
    }
}

static void
put_place(struct call *call, const struct instance_view *v, struct ec2_instance *out)
{
    const struct row_instance *inst = v->inst;
    bool gone = v->state == INSTANCE_TERMINATED;
    out->private_dns_name = gone || !inst->private_dns ? "" : inst->private_dns;
    out->public_dns_name = "";
    out->security_groups.items = no_groups;
    if (gone) {
        return; /* Its address may be somebody else's by now. */
    }
    out->private_ip_address = inst->private_ip;
    out->subnet_id = inst->subnet_id;
    out->vpc_id = inst->vpc_id;
    out->source_dest_check = inst->source_dest_check;
    out->has_source_dest_check = true;
    out->security_groups.items = groups_out(call, inst);
    out->security_groups.count = inst->groups.count;
}

static void
put_shape(const struct row_instance *inst, struct instance_parts *p,
          struct ec2_instance *out)
{
    p->monitoring.state = inst->monitoring ? "enabled" : "disabled";
    p->placement.availability_zone = inst->zone;
    p->placement.group_name = text_or_empty(inst->placement_group);
    p->placement.group_id = inst->placement_group_id;
    p->placement.partition_number = inst->partition;
    p->placement.has_partition_number = inst->partition > 0;
    p->placement.host_id = inst->host_id;
    p->placement.affinity = inst->affinity;
    if (str_eq(inst->tenancy, "host") && str_empty(inst->affinity)) {
        p->placement.affinity = "default";
    }
    p->placement.tenancy = inst->tenancy ? inst->tenancy : "default";
    p->cpu.core_count = inst->core_count;
    p->cpu.threads_per_core = inst->threads_per_core;
    p->cpu.has_core_count = p->cpu.has_threads_per_core = true;
    p->hibernation.configured = inst->hibernation;
    p->hibernation.has_configured = true;
    p->maintenance.auto_recovery = auto_recovery_out(inst);
    metadata_fill(inst, &p->metadata);
    out->monitoring = &p->monitoring;
    out->placement = &p->placement;
    out->cpu_options = &p->cpu;
    out->hibernation_options = &p->hibernation;
    out->maintenance_options = &p->maintenance;
    out->metadata_options = &p->metadata;
    out->capacity_reservation_specification = &open_reservation;
    out->enclave_options = &no_enclave;
    p->names = (struct ec2_private_dns_name_options_response){
        .hostname_type =
            str_empty(inst->hostname_type) ? "ip-name" : inst->hostname_type,
        HAS(enable_resource_name_dns_a_record, inst->dns_a),
        HAS(enable_resource_name_dns_aaaa_record, inst->dns_aaaa),
    };
    out->private_dns_name_options = &p->names;
}

static void
instance_out(struct call *call, const struct instance_view *v, struct ec2_instance *out)
{
    const struct row_instance *inst = v->inst;
    struct instance_parts *p = ARENA_NEW(call->arena, struct instance_parts);
    *out = (struct ec2_instance){
        .ami_launch_index = inst->launch_index,
        .has_ami_launch_index = true,
        .image_id = inst->image_id,
        .instance_id = inst->id,
        .instance_type = inst->type,
        .key_name = str_empty(inst->key_name) ? NULL : inst->key_name,
        .launch_time = inst->launched_at,
        .has_launch_time = true,
        .state = instance_state_out(call, v->state),
        .architecture = "x86_64",
        .client_token = inst->client_token ? inst->client_token : "",
        .ebs_optimized = inst->ebs_optimized,
        .has_ebs_optimized = true,
        .ena_support = true,
        .has_ena_support = true,
        .hypervisor = "xen", /* What EC2 says of Nitro too. */
        .root_device_name = inst->root_device,
        .root_device_type = "ebs",
        .virtualization_type = "hvm",
        .boot_mode = str_eq(inst->firmware, "uefi") ? "uefi" : "legacy-bios",
        .platform_details = "Linux/UNIX",
        .usage_operation = "RunInstances",
        .usage_operation_update_time = inst->created_at,
        .has_usage_operation_update_time = true,
    };
    out->product_codes.items = no_product_codes;
    out->block_device_mappings.items = &p->mapping;
    out->network_interfaces.items =
        ARENA_NEW(call->arena, struct ec2_instance_network_interface);
    put_place(call, v, out);
    put_shape(inst, p, out);
    put_reason(v, p, out);
    if (v->state != INSTANCE_TERMINATED) {
        put_nics(call, v, out);
    }
    if (v->root) {
        put_root(v, p, out);
    }
    if (v->tags.count) {
        out->tags.items = tags_out(call, v->tags);
        out->tags.count = v->tags.count;
    }
}

/* ---- what was made before ---- */

static bool
key_add(struct call *call, struct fragment_key *key, const struct row_type *type,
        const void *row)
{
    uint64_t stamp = row ? row_stamp(call->txn, type, row) : 0;
    if (key->count == FRAGMENT_WORDS_MAX || (row && !stamp)) {
        return false;
    }
    key->words[key->count++] = stamp;
    return true;
}

/* All that instance_out() looks at. False: it cannot be known whether it has changed. */
static bool
instance_key(struct call *call, const struct instance_view *v, struct fragment_key *out)
{
    out->id = v->inst->id;
    out->words[0] = v->state; /* All it takes from what the node has seen. */
    out->count = 1;
    bool ok = key_add(call, out, &row_instance_type, v->inst) &&
              key_add(call, out, &row_eni_type, v->eni) &&
              key_add(call, out, &row_volume_type, v->root);
    for (size_t i = 0; ok && i < v->tags.count; i++) {
        ok = key_add(call, out, &row_tag_type, v->tags.rows[i]);
    }
    return ok;
}

/* As instance_out, but for XML takes the text that an earlier call made, or leaves its
 * own for the next. */
static void
instance_put(struct call *call, const struct instance_view *v, struct ec2_instance *out)
{
    struct fragment_key key;
    if (!call->fragments || !instance_key(call, v, &key)) {
        instance_out(call, v, out);
    } else if (!fragments_get(call->fragments, &key, call->arena, &out->ready)) {
        AUTO(buf) struct buf text = {0};
        instance_out(call, v, out);
        xml_encode_members(&ec2_instance_desc, out, &text);
        fragments_put(call->fragments, &key,
                      (struct blob){(const uint8_t *)text.data, text.len});
    }
}

struct ec2_reservation *
reservations_out(struct call *call, const struct instance_views *views,
                 size_t *out_count)
{
    struct ec2_instance *all =
        ARENA_ARRAY(call->arena, views->count, struct ec2_instance);
    struct ec2_reservation *out =
        ARENA_ARRAY(call->arena, views->count, struct ec2_reservation);
    size_t count = 0;
    for (size_t i = 0; i < views->count; i++) {
        const struct row_instance *inst = views->items[i].inst;
        if (count == 0 || strcmp(out[count - 1].reservation_id, inst->reservation_id)) {
            struct ec2_reservation *r = &out[count++];
            r->reservation_id = inst->reservation_id;
            r->owner_id = inst->account;
            r->requester_id = str_empty(inst->requester_id) ? NULL : inst->requester_id;
            r->groups.items = no_groups;
            r->instances.items = &all[i];
        }
        instance_put(call, &views->items[i], &all[i]);
        out[count - 1].instances.count++;
    }
    *out_count = count;
    return out;
}
