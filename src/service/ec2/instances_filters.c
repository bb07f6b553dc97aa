/* instances_filters.c - what DescribeInstances can be asked to filter by.
 *
 * Every filter that EC2 documents is here: those of things that moln's instances do not
 * have (public addresses, spot requests, placement groups) match none of them. */
#include "service/ec2/instances.h"

#define OF(object) ((const struct instance_view *)(object))
/* A value of the instance's row, of its interface, of its root volume. */
#define INST(NAME, offer, expr) \
    static void NAME(const void *object, struct filter_test *test) \
    { \
        const struct row_instance *i UNUSED = OF(object)->inst; \
        offer(test, expr); \
    }
#define ENI(NAME, offer, expr) \
    static void NAME(const void *object, struct filter_test *test) \
    { \
        const struct row_eni *e UNUSED = OF(object)->eni; \
        if (e) { \
            offer(test, expr); \
        } \
    }
#define ROOT(NAME, offer, expr) \
    static void NAME(const void *object, struct filter_test *test) \
    { \
        const struct row_volume *r UNUSED = OF(object)->root; \
        if (r) { \
            offer(test, expr); \
        } \
    }

static bool
gone(const void *object)
{
    return OF(object)->state == INSTANCE_TERMINATED;
}

static const char *
attachment(const void *object)
{
    return OF(object)->state == INSTANCE_PENDING ? "attaching" : "attached";
}

INST(architecture, filter_offer, "x86_64")
INST(zone, filter_offer, i->zone)
INST(boot_mode, filter_offer, str_eq(i->firmware, "uefi") ? "uefi" : "legacy-bios")
INST(reservation_preference, filter_offer, "open")
INST(client_token, filter_offer, i->client_token)
INST(ebs_optimized, filter_offer_bool, i->ebs_optimized)
INST(false_value, filter_offer, "false")
INST(hibernation, filter_offer_bool, i->hibernation)
INST(hypervisor, filter_offer, "xen")
INST(image_id, filter_offer, i->image_id)
INST(instance_id, filter_offer, i->id)
INST(state_code, filter_offer_int, OF(object)->state)
INST(state_name, filter_offer, instance_state_name(OF(object)->state))
INST(type, filter_offer, i->type)
INST(key_name, filter_offer, str_empty(i->key_name) ? NULL : i->key_name)
INST(launch_index, filter_offer_int, i->launch_index)
INST(launch_time, filter_offer_time, i->launched_at)
INST(auto_recovery, filter_offer, auto_recovery_out(i))
INST(http_tokens, filter_offer, i->http_tokens)
INST(http_hops, filter_offer_int, i->http_hop_limit)
INST(http_endpoint, filter_offer, i->http_endpoint)
INST(http_tags, filter_offer, i->http_tags)
INST(monitoring, filter_offer, i->monitoring ? "enabled" : "disabled")
INST(owner_id, filter_offer, i->account)
INST(platform_details, filter_offer, "Linux/UNIX")
INST(private_dns, filter_offer, gone(object) ? NULL : i->private_dns)
INST(private_ip, filter_offer, gone(object) ? NULL : i->private_ip)
INST(reason, filter_offer, i->transition_reason)
INST(requester_id, filter_offer, i->requester_id)
INST(reservation_id, filter_offer, i->reservation_id)
INST(root_device, filter_offer, i->root_device)
INST(root_type, filter_offer, "ebs")
INST(subnet_id, filter_offer, gone(object) ? NULL : i->subnet_id)
INST(vpc_id, filter_offer, gone(object) ? NULL : i->vpc_id)
INST(reason_code, filter_offer, i->reason_code)
INST(reason_text, filter_offer, i->reason_text)
INST(affinity, filter_offer, i->affinity)
INST(host_id, filter_offer, i->host_id)
INST(placement_group, filter_offer, i->placement_group)
INST(tenancy, filter_offer, i->tenancy ? i->tenancy : "default")
INST(usage_operation, filter_offer, "RunInstances")
INST(usage_time, filter_offer_time, i->created_at)
INST(virtualization, filter_offer, "hvm")
INST(hostname_type, filter_offer,
     str_empty(i->hostname_type) ? "ip-name" : i->hostname_type)
INST(dns_a, filter_offer_bool, i->dns_a)
INST(dns_aaaa, filter_offer_bool, i->dns_aaaa)
INST(core_count, filter_offer_int, i->core_count)
INST(threads, filter_offer_int, i->threads_per_core)

static void
source_dest_check(const void *object, struct filter_test *test)
{
    if (!gone(object)) {
        filter_offer_bool(test, OF(object)->inst->source_dest_check);
    }
}

static void
partition(const void *object, struct filter_test *test)
{
    const struct row_instance *i = OF(object)->inst;
    if (i->partition > 0) {
        filter_offer_int(test, i->partition);
    }
}

static void
group_id(const void *object, struct filter_test *test)
{
    const struct row_instance *i = OF(object)->inst;
    for (size_t k = 0; k < i->groups.count && !gone(object); k++) {
        filter_offer(test, i->groups.items[k].id);
    }
}

static void
group_name(const void *object, struct filter_test *test)
{
    const struct row_instance *i = OF(object)->inst;
    for (size_t k = 0; k < i->groups.count && !gone(object); k++) {
        filter_offer(test, i->groups.items[k].name);
    }
}

ENI(eni_ip, filter_offer, e->ipv4)
ENI(eni_primary, filter_offer, "true")
ENI(eni_attachment, filter_offer, e->attachment_id)
ENI(eni_instance, filter_offer, e->instance_id)
ENI(eni_owner, filter_offer, e->account)
ENI(eni_index, filter_offer_int, e->device_index)
ENI(eni_card, filter_offer_int, 0)
ENI(eni_attached, filter_offer, attachment(object))
ENI(eni_attach_time, filter_offer_time, e->attached_at)
ENI(eni_delete, filter_offer_bool, e->delete_on_termination)
ENI(eni_zone, filter_offer, e->zone)
ENI(eni_description, filter_offer, e->description)
ENI(eni_mac, filter_offer, e->mac)
ENI(eni_id, filter_offer, e->id)
ENI(eni_dns, filter_offer, OF(object)->inst->private_dns)
ENI(eni_managed, filter_offer, "false")
ENI(eni_status, filter_offer, "in-use")
ENI(eni_check, filter_offer_bool, e->source_dest_check)
ENI(eni_subnet, filter_offer, e->subnet_id)
ENI(eni_vpc, filter_offer, e->vpc_id)

ROOT(root_attach_time, filter_offer_time, r->attached_at)
ROOT(root_delete, filter_offer_bool, r->delete_on_termination)
ROOT(root_device_name, filter_offer, r->device)
ROOT(root_status, filter_offer, attachment(object))
ROOT(root_id, filter_offer, r->id)

const struct filter_def instance_filters[] = {
    {"instance-id", instance_id},
    {"instance-state-name", state_name},
    {"instance-state-code", state_code},
    {"instance-type", type},
    {"image-id", image_id},
    {"vpc-id", vpc_id},
    {"subnet-id", subnet_id},
    {"private-ip-address", private_ip},
    {"private-dns-name", private_dns},
    {"reservation-id", reservation_id},
    {"key-name", key_name},
    {"affinity", affinity},
    {"architecture", architecture},
    {"availability-zone", zone},
    {"block-device-mapping.attach-time", root_attach_time, VIEW_ROOT},
    {"block-device-mapping.delete-on-termination", root_delete, VIEW_ROOT},
    {"block-device-mapping.device-name", root_device_name, VIEW_ROOT},
    {"block-device-mapping.status", root_status, VIEW_ROOT},
    {"block-device-mapping.volume-id", root_id, VIEW_ROOT},
    {"boot-mode", boot_mode},
    {"capacity-reservation-id", NULL},
    {"capacity-reservation-specification.capacity-reservation-preference",
     reservation_preference},
    {"client-token", client_token},
    {"cpu-options.core-count", core_count},
    {"cpu-options.threads-per-core", threads},
    {"current-instance-boot-mode", boot_mode},
    {"dns-name", NULL},
    {"ebs-optimized", ebs_optimized},
    {"enclave-options.enabled", false_value},
    {"group-id", group_id},
    {"group-name", group_name},
    {"hibernation-options.configured", hibernation},
    {"host-id", host_id},
    {"hypervisor", hypervisor},
    {"iam-instance-profile.arn", NULL},
    {"iam-instance-profile.id", NULL},
    {"iam-instance-profile.name", NULL},
    {"instance-lifecycle", NULL},
    {"instance.group-id", group_id},
    {"instance.group-name", group_name},
    {"ip-address", NULL},
    {"ipv6-address", NULL},
    {"kernel-id", NULL},
    {"launch-index", launch_index},
    {"launch-time", launch_time},
    {"maintenance-options.auto-recovery", auto_recovery},
    {"metadata-options.http-endpoint", http_endpoint},
    {"metadata-options.http-protocol-ipv4", http_endpoint},
    {"metadata-options.http-protocol-ipv6", NULL},
    {"metadata-options.http-put-response-hop-limit", http_hops},
    {"metadata-options.http-tokens", http_tokens},
    {"metadata-options.instance-metadata-tags", http_tags},
    {"monitoring-state", monitoring},
    {"network-interface.addresses.association.allocation-id", NULL},
    {"network-interface.addresses.association.association-id", NULL},
    {"network-interface.addresses.association.carrier-ip", NULL},
    {"network-interface.addresses.association.customer-owned-ip", NULL},
    {"network-interface.addresses.association.ip-owner-id", NULL},
    {"network-interface.addresses.association.public-dns-name", NULL},
    {"network-interface.addresses.association.public-ip", NULL},
    {"network-interface.addresses.primary", eni_primary, VIEW_ENI},
    {"network-interface.addresses.private-dns-name", eni_dns, VIEW_ENI},
    {"network-interface.addresses.private-ip-address", eni_ip, VIEW_ENI},
    {"network-interface.association.allocation-id", NULL},
    {"network-interface.association.association-id", NULL},
    {"network-interface.association.carrier-ip", NULL},
    {"network-interface.association.customer-owned-ip", NULL},
    {"network-interface.association.ip-owner-id", NULL},
    {"network-interface.association.public-dns-name", NULL},
    {"network-interface.association.public-ip", NULL},
    {"network-interface.attachment.attach-time", eni_attach_time, VIEW_ENI},
    {"network-interface.attachment.attachment-id", eni_attachment, VIEW_ENI},
    {"network-interface.attachment.delete-on-termination", eni_delete, VIEW_ENI},
    {"network-interface.attachment.device-index", eni_index, VIEW_ENI},
    {"network-interface.attachment.instance-id", eni_instance, VIEW_ENI},
    {"network-interface.attachment.instance-owner-id", eni_owner, VIEW_ENI},
    {"network-interface.attachment.network-card-index", eni_card, VIEW_ENI},
    {"network-interface.attachment.status", eni_attached, VIEW_ENI},
    {"network-interface.availability-zone", eni_zone, VIEW_ENI},
    {"network-interface.deny-all-igw-traffic", NULL},
    {"network-interface.description", eni_description, VIEW_ENI},
    {"network-interface.group-id", group_id},
    {"network-interface.group-name", group_name},
    {"network-interface.ipv4-prefixes.ipv4-prefix", NULL},
    {"network-interface.ipv6-address", NULL},
    {"network-interface.ipv6-addresses.ipv6-address", NULL},
    {"network-interface.ipv6-addresses.is-primary-ipv6", NULL},
    {"network-interface.ipv6-native", NULL},
    {"network-interface.ipv6-prefixes.ipv6-prefix", NULL},
    {"network-interface.mac-address", eni_mac, VIEW_ENI},
    {"network-interface.network-interface-id", eni_id, VIEW_ENI},
    {"network-interface.outpost-arn", NULL},
    {"network-interface.owner-id", eni_owner, VIEW_ENI},
    {"network-interface.private-dns-name", eni_dns, VIEW_ENI},
    {"network-interface.private-ip-address", eni_ip, VIEW_ENI},
    {"network-interface.public-dns-name", NULL},
    {"network-interface.requester-id", NULL},
    {"network-interface.requester-managed", eni_managed, VIEW_ENI},
    {"network-interface.source-dest-check", eni_check, VIEW_ENI},
    {"network-interface.status", eni_status, VIEW_ENI},
    {"network-interface.subnet-id", eni_subnet, VIEW_ENI},
    {"network-interface.tag-key", NULL},
    {"network-interface.tag-value", NULL},
    {"network-interface.vpc-id", eni_vpc, VIEW_ENI},
    {"outpost-arn", NULL},
    {"owner-id", owner_id},
    {"placement-group-name", placement_group},
    {"placement-partition-number", partition},
    {"platform", NULL},
    {"platform-details", platform_details},
    {"private-dns-name-options.enable-resource-name-dns-a-record", dns_a},
    {"private-dns-name-options.enable-resource-name-dns-aaaa-record", dns_aaaa},
    {"private-dns-name-options.hostname-type", hostname_type},
    {"product-code", NULL},
    {"product-code.type", NULL},
    {"ramdisk-id", NULL},
    {"reason", reason},
    {"requester-id", requester_id},
    {"root-device-name", root_device},
    {"root-device-type", root_type},
    {"source-dest-check", source_dest_check},
    {"spot-instance-request-id", NULL},
    {"state-reason-code", reason_code},
    {"state-reason-message", reason_text},
    {"tenancy", tenancy},
    {"tpm-support", NULL},
    {"usage-operation", usage_operation},
    {"usage-operation-update-time", usage_time},
    {"virtualization-type", virtualization},
};
const size_t instance_filter_count = ARRAY_LEN(instance_filters);
