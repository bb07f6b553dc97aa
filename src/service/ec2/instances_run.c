/* instances_run.c - RunInstances: check, place, write; all of it in one transaction.
 *
 * launch_*() resolve the request; here the count is cut to what quotas, addresses and
 * nodes allow (never below MinCount), and the rows are made. */
#include "core/instance_rows.h"
#include "service/ec2/launch.h"

#define COUNT_MAX 1000

static const char *const taggable[] = {"instance", "volume", "network-interface", NULL};

static bool
check_counts(const struct ec2_run_instances_request *in, struct err *err)
{
    if (in->min_count < 1 || in->max_count < 1) {
        bool min = in->min_count < 1;
        return err_set(
            err, ERR_INVALID_PARAMETER_VALUE,
            "Value (%" PRId64 ") for parameter %s is invalid. Expecting a value "
            "greater than 0.",
            min ? in->min_count : in->max_count, min ? "minCount" : "maxCount");
    }
    if (in->min_count > in->max_count) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%" PRId64
                       ") for parameter minCount is invalid. minCount "
                       "must not exceed maxCount (%" PRId64 ").",
                       in->min_count, in->max_count);
    }
    if (in->max_count > COUNT_MAX) {
        return err_set(err, ERR_INSTANCE_LIMIT,
                       "You may not launch more than %d instances in one request.",
                       COUNT_MAX);
    }
    return true;
}

/* Cuts '*count' to what the account may still have. */
static bool
apply_quotas(struct call *call, const struct launch *l, int64_t *count, struct err *err)
{
    struct quotas quota;
    struct usage usage;
    if (!quotas_load(call, &quota, err) ||
        !account_usage_get(call->txn, call->account, call->region, &usage, err)) {
        return false;
    }
    int64_t min = l->in->min_count;
    int64_t instances = quota.instances - usage.instances;
    if (instances < min) {
        return err_set(
            err, ERR_INSTANCE_LIMIT,
            "You have requested more instances (%" PRId64 ") than your current "
            "instance limit of %" PRId64 " allows for the specified instance "
            "type. Ask the operator of this cloud to adjust the limit.",
            usage.instances + min, quota.instances);
    }
    int64_t vcpus = (quota.vcpus - usage.vcpus) / launch_vcpus(l);
    if (vcpus < min || quota.vcpus < usage.vcpus) {
        return err_vcpu_limit(err, quota.vcpus);
    }
    int64_t volumes = (quota.disk_gib - usage.disk_gib) / l->disk.size_gib;
    if (volumes < min || quota.disk_gib < usage.disk_gib) {
        return err_set(
            err, ERR_VOLUME_LIMIT,
            "You have exceeded your maximum %s storage limit of %" PRId64
            " GiB in this region. Ask the operator of this cloud to adjust the "
            "limit.",
            l->disk.type, quota.disk_gib);
    }
    *count = MIN(*count, MIN(instances, MIN(vcpus, volumes)));
    return true;
}

static bool
address_free(struct call *call, const struct row_subnet *subnet, uint32_t ip,
             bool *out_free, struct err *err)
{
    const struct row_address_use key = {
        .account = subnet->account, .subnet_id = subnet->id, .ip = ip};
    const void *row;
    if (!row_get(call->txn, &row_address_use_type, &key, &row, err)) {
        return false;
    }
    *out_free = row == NULL;
    return true;
}

/* Takes free addresses from where the last search ended, once around the subnet: one
 * just given back rests for a while before it is somebody else's. */
static bool
find_addresses(struct call *call, struct launch_places *p, struct err *err)
{
    struct cidr block;
    if (!cidr_parse(p->subnet->cidr, &block)) {
        return err_set(err, ERR_INTERNAL, "subnet %s has no block", p->subnet->id);
    }
    uint64_t size = cidr_size(&block);
    uint64_t host = (uint64_t)p->subnet->next_host % size;
    size_t found = 0;
    for (uint64_t tried = 0; tried < size && found < p->count; tried++) {
        uint32_t ip = block.base + (uint32_t)host;
        bool unused = false;
        host = (host + 1) % size;
        if (subnet_reserves(&block, ip)) {
            continue;
        }
        if (!address_free(call, p->subnet, ip, &unused, err)) {
            return false;
        }
        if (unused) {
            p->addresses[found++] = ip;
        }
    }
    p->count = found;
    p->next_host = (int64_t)host;
    return true;
}

static bool
choose_addresses(struct call *call, const struct launch *l, struct launch_places *p,
                 struct err *err)
{
    p->addresses = ARENA_ARRAY(call->arena, p->count, uint32_t);
    p->next_host = p->subnet->next_host;
    if (!l->net.has_address && !l->net.first.existing) {
        if (!find_addresses(call, p, err)) {
            return false;
        }
        if (p->count < (size_t)l->in->min_count) {
            return err_set(
                err, ERR_SUBNET_FULL,
                "There are not enough free addresses in subnet '%s' to satisfy "
                "the requested number of instances.",
                p->subnet->id);
        }
        return true;
    }
    bool unused = false;
    if (l->net.first.existing) {
        return ipv4_parse(l->net.first.existing->ipv4, &p->addresses[0]) ||
               err_set(err, ERR_INTERNAL, "interface without an address");
    }
    p->addresses[0] = l->net.address;
    if (!address_free(call, p->subnet, l->net.address, &unused, err)) {
        return false;
    }
    if (!unused) {
        char text[IPV4_TEXT_LEN];
        ipv4_format(l->net.address, text);
        return err_set(err, ERR_ADDRESS_IN_USE, "Address %s is in use.", text);
    }
    return true;
}

/* ---- rows ---- */

/* The ids of one instance and what is made with it. */
struct made {
    const char *reservation_id, *instance_id, *volume_id, *address;
};

/* The first card's groups are the instance's. */
static void
first_ask(struct call *call, const struct launch *l, const struct launch_places *p,
          const struct made *m, struct new_eni *out)
{
    const char **groups = ARENA_ARRAY(call->arena, l->net.group_count, const char *);
    for (size_t i = 0; i < l->net.group_count; i++) {
        groups[i] = l->net.groups[i].id;
    }
    *out = l->net.first.ask;
    out->subnet = p->subnet;
    out->address = m->address;
    out->group_ids = groups;
    out->group_count = l->net.group_count;
}

/* Makes a card's interface, or takes the one that is there, and puts it in. */
static bool
make_nic(struct call *call, const struct launch *l, const struct launch_nic *nic,
         const struct new_eni *ask, const char *instance_id, const char **out_id,
         struct err *err)
{
    const struct row_eni *made = nic->existing;
    if (!made && !eni_make(call, ask, &made, err)) {
        return false;
    }
    struct row_eni next = *made;
    bool wanted = nic->has_public ? nic->public
                                  : nic->index == 0 && !l->net.more_count &&
                                        ask->subnet->map_public_ip;
    next.instance_id = instance_id;
    next.device_index = nic->index;
    next.attachment_id = id_new(call->arena, call->rng, "eni-attach");
    next.attached_at = call->now_ns;
    next.delete_on_termination = nic->delete_on_termination;
    next.auto_public = wanted && !nic->existing;
    *out_id = next.id;
    return row_put(call->txn, &row_eni_type, &next, err) &&
           eni_public_start(call->txn, &next, call->now_ns, err) &&
           (nic->existing || tag_specs_put(call, l->in->tag_specifications.items,
                                           l->in->tag_specifications.count,
                                           "network-interface", next.id, err));
}

/* All cards of an instance, in the order of their places. */
static bool
make_nics(struct call *call, const struct launch *l, const struct launch_places *p,
          const struct made *m, const char **out_ids, struct err *err)
{
    struct new_eni ask;
    size_t count = 0;
    first_ask(call, l, p, m, &ask);
    if (!make_nic(call, l, &l->net.first, &ask, m->instance_id, &out_ids[count++],
                  err)) {
        return false;
    }
    for (int64_t place = 1; count <= l->net.more_count && place <= UINT8_MAX; place++) {
        for (size_t i = 0; i < l->net.more_count; i++) {
            const struct launch_nic *nic = &l->net.more[i];
            if (nic->index == place &&
                !make_nic(call, l, nic, &nic->ask, m->instance_id, &out_ids[count++],
                          err)) {
                return false;
            }
        }
    }
    return true;
}

/* A node that shares a pool with others has its volumes there. */
static bool
shared_pool(struct call *call, const char *node_id, const char **out, struct err *err)
{
    const struct row_node_seen key = {.id = node_id};
    const struct row_node_seen *seen;
    if (!row_get(call->txn, &row_node_seen_type, &key, (const void **)&seen, err)) {
        return false;
    }
    *out = seen ? seen->shared_pool : NULL;
    return true;
}

static bool
make_volume(struct call *call, const struct launch *l, const struct launch_places *p,
            size_t index, const struct made *m, struct err *err)
{
    const struct launch_disk *d = &l->disk;
    const char *pool;
    if (!shared_pool(call, p->picks[index].node_id, &pool, err)) {
        return false;
    }
    const struct row_volume volume = {
        .account = call->account,
        .id = m->volume_id,
        .region = call->region,
        .zone = p->subnet->zone,
        .size_gib = d->size_gib,
        .base_blob = d->base_blob,
        .image_id = l->image->id,
        .snapshot_id = d->snapshot_id,
        .type = d->type,
        .iops = d->iops,
        .throughput = d->throughput,
        .instance_id = m->instance_id,
        .device = d->device,
        .attached_at = call->now_ns,
        .delete_on_termination = d->delete_on_termination,
        .node_id = p->picks[index].node_id,
        .created_at = call->now_ns,
        .generation = 1,
        .pool = pool,
    };
    return volume_add(call->txn, &volume, err) &&
           tag_specs_put(call, l->in->tag_specifications.items,
                         l->in->tag_specifications.count, "volume", m->volume_id, err);
}

/* What the request asks for; else what the subnet says. */
static void
name_instance(const struct launch *l, const struct row_subnet *subnet,
              struct row_instance *out)
{
    const struct ec2_private_dns_name_options_request *asked =
        l->in->private_dns_name_options;
    bool typed = asked && asked->hostname_type;
    bool a = asked && asked->has_enable_resource_name_dns_a_record;
    bool aaaa = asked && asked->has_enable_resource_name_dns_aaaa_record;
    out->hostname_type = typed                              ? asked->hostname_type
                         : str_empty(subnet->hostname_type) ? "ip-name"
                                                            : subnet->hostname_type;
    out->dns_a = a ? asked->enable_resource_name_dns_a_record : subnet->dns_a;
    out->dns_aaaa =
        aaaa ? asked->enable_resource_name_dns_aaaa_record : subnet->dns_aaaa;
}

static const char *
uuid_of(struct call *call, const char *instance_id)
{
    char uuid[UUID_TEXT_LEN];
    uuid_from_id(instance_id, uuid);
    return arena_strdup(call->arena, uuid);
}

/* What the request, its template and the image say of the instance itself. */
static void
describe_instance(struct call *call, const struct launch *l, struct row_instance *out)
{
    const struct ec2_run_instances_request *in = l->in;
    out->image_id = l->image->id;
    out->type = l->type->name;
    out->vcpus = launch_vcpus(l);
    out->memory_bytes = l->type->memory_bytes;
    out->core_count = l->core_count;
    out->threads_per_core = l->threads_per_core;
    out->key_name = in->key_name;
    out->public_key = l->public_key;
    out->user_data = l->user_data;
    out->shutdown_behavior = l->shutdown_behavior;
    out->disable_api_termination = in->disable_api_termination;
    out->disable_api_stop = in->disable_api_stop;
    out->http_tokens = l->http_tokens;
    out->http_endpoint = l->http_endpoint;
    out->http_hop_limit = l->http_hop_limit;
    out->http_tags = l->http_tags;
    out->http_protocol_ipv6 = l->http_ipv6;
    out->credit_mode = l->credit_mode;
    out->monitoring = in->monitoring && in->monitoring->enabled;
    out->ebs_optimized = in->ebs_optimized;
    out->tenancy = l->terms.tenancy;
    out->affinity = l->terms.affinity;
    if (l->terms.group) {
        out->placement_group_id = l->terms.group->id;
        out->placement_group = l->terms.group->name;
    }
    out->recover = in->maintenance_options &&
                   str_eq(in->maintenance_options->auto_recovery, "default");
    out->firmware = l->image->firmware;
    out->kernel_blob = l->image->kernel_blob;
    out->initrd_blob = l->image->initrd_blob;
    out->cmdline = l->image->cmdline;
    out->root_device = l->disk.device;
    out->client_token = in->client_token;
    out->template_id = l->template_id;
    out->template_version = l->template_version;
    out->groups.items = l->net.groups;
    out->groups.count = l->net.group_count;
}

static bool
member_put(struct call *call, const struct row_instance *inst, struct err *err)
{
    const struct row_placement_member row = {.account = inst->account,
                                             .group_id = inst->placement_group_id,
                                             .instance_id = inst->id};
    return str_empty(row.group_id) ||
           row_put(call->txn, &row_placement_member_type, &row, err);
}

static bool
make_instance(struct call *call, const struct launch *l, const struct launch_places *p,
              size_t index, const struct made *m, struct err *err)
{
    size_t cards = l->net.more_count + 1;
    const char **enis = ARENA_ARRAY(call->arena, cards, const char *);
    if (!make_nics(call, l, p, m, enis, err)) {
        return false;
    }
    struct row_instance inst = {
        .account = call->account,
        .id = m->instance_id,
        .region = call->region,
        .zone = p->subnet->zone,
        .reservation_id = m->reservation_id,
        .launch_index = (int64_t)index,
        .launched_at = call->now_ns,
        .created_at = call->now_ns,
        .want_state = "running",
        .want_since = call->now_ns,
        .generation = 1,
        .want_generation = 1,
        .node_id = p->picks[index].node_id,
        .subnet_id = p->subnet->id,
        .vpc_id = p->subnet->vpc_id,
        .root_volume_id = m->volume_id,
        .uuid = uuid_of(call, m->instance_id),
        .private_ip = m->address,
        .source_dest_check =
            !l->net.first.existing || l->net.first.existing->source_dest_check,
    };
    inst.eni_ids.items = enis;
    inst.eni_ids.count = cards;
    describe_instance(call, l, &inst);
    name_instance(l, p->subnet, &inst);
    inst.private_dns = instance_private_name(call->arena, &inst);
    inst.claim_memory_bytes = p->picks[index].memory_bytes;
    inst.partition = p->partitions[index];
    return host_of_node(call->txn, &inst, err) && member_put(call, &inst, err) &&
           instance_add(call->txn, &inst, NULL, err) &&
           tag_specs_put(call, l->in->tag_specifications.items,
                         l->in->tag_specifications.count, "instance", m->instance_id,
                         err);
}

static bool
make_all(struct call *call, const struct launch *l, const struct launch_places *p,
         const char *reservation_id, struct err *err)
{
    struct row_subnet subnet = *p->subnet;
    subnet.next_host = p->next_host;
    if (!row_put(call->txn, &row_subnet_type, &subnet, err)) {
        return false;
    }
    for (size_t i = 0; i < p->count; i++) {
        char address[IPV4_TEXT_LEN];
        ipv4_format(p->addresses[i], address);
        const struct made m = {
            .reservation_id = reservation_id,
            .instance_id = id_new(call->arena, call->rng, "i"),
            .volume_id = id_new(call->arena, call->rng, "vol"),
            .address = arena_strdup(call->arena, address),
        };
        if (!make_volume(call, l, p, i, &m, err) ||
            !make_instance(call, l, p, i, &m, err)) {
            return false;
        }
    }
    return true;
}

static bool
answer(struct call *call, const char *reservation_id, struct ec2_reservation *out,
       struct err *err)
{
    struct instance_views views;
    size_t count;
    if (!instance_views_of_reservation(call, reservation_id, &views, err)) {
        return false;
    }
    const struct ec2_reservation *made = reservations_out(call, &views, &count);
    if (count == 0) {
        /* Asked again for what is long gone: it is not made a second time. */
        out->reservation_id = reservation_id;
        out->owner_id = call->account;
        out->instances.items = ARENA_ARRAY(call->arena, 0, struct ec2_instance);
        return true;
    }
    *out = made[0];
    return true;
}

bool
ec2_run_instances(struct call *call, const struct ec2_run_instances_request *in,
                  struct ec2_reservation *out, struct err *err)
{
    const char *digest = request_digest(call, &ec2_run_instances_request_desc, in);
    const char *before;
    if (!token_get(call, in->client_token, digest, &before, err)) {
        return false;
    }
    if (before) {
        return answer(call, before, out, err);
    }
    struct launch l = {0};
    if (!check_counts(in, err) || !launch_template_merge(call, in, &l, err) ||
        !tag_specs_check(l.in->tag_specifications.items, l.in->tag_specifications.count,
                         taggable, err) ||
        !launch_options(call, &l, err) || !launch_disks(call, &l, err) ||
        !launch_network(call, &l, err) ||
        !place_terms_read(call, l.in->placement, l.net.vpc_id, &l.terms, err)) {
        return false;
    }
    int64_t count = in->max_count;
    struct launch_places places = {0};
    if (!apply_quotas(call, &l, &count, err) ||
        !launch_choose_nodes(call, &l, count, &places, err) ||
        !choose_addresses(call, &l, &places, err) ||
        !dry_run_check(in->has_dry_run && in->dry_run, err)) {
        return false;
    }
    const char *reservation_id = id_new(call->arena, call->rng, "r");
    return make_all(call, &l, &places, reservation_id, err) &&
           token_put(call, in->client_token, digest, reservation_id, err) &&
           answer(call, reservation_id, out, err);
}
