/* nodes.c - tickets to join, and the nodes that did. */
#include "base/crypto.h"
#include "core/instance_events.h"
#include "link/pki.h"
#include "service/moln/operators.h"

#define TOKEN_LIFETIME_S 3600

/* ---- what is answered ---- */

static struct moln_node
node_out(const struct node_view *view)
{
    const struct row_node *node = view->rows.node;
    const struct row_node_seen *seen = view->rows.seen;
    const struct claim *ceiling = &view->host.ceiling, *claimed = &view->host.claimed;
    struct moln_node out = {
        .node_id = node->id,
        .name = node->name,
        .region = node->region,
        .zone = node->zone,
        .state = node->state,
        .underlay_address = node->underlay,
        HAS(connected, seen && seen->connected),
        HAS(cordoned, node->cordoned),
        HAS(draining, node->draining),
        HAS_TIME(drain_not_before, node->drain_at),
        HAS_TIME(drain_deadline, node->drain_deadline),
        HAS(local, node->local),
        HAS_TIME(joined_at, node->joined_at),
        HAS(capacity_vcpus, ceiling->vcpus),
        HAS(capacity_memory_bytes, ceiling->memory_bytes),
        HAS(claimed_vcpus, claimed->vcpus),
        HAS(claimed_memory_bytes, claimed->memory_bytes),
        HAS(claimed_disk_bytes, claimed->disk_bytes),
        HAS(machines, claimed->machines),
        HAS(ceiling_vcpus, node->ceiling_vcpus),
        HAS(ceiling_memory_bytes, node->ceiling_memory_bytes),
        .quarantine = str_empty(node->quarantine) ? NULL : node->quarantine,
        .rack = str_empty(node->rack) ? NULL : node->rack,
        .segment = str_empty(node->segment) ? NULL : node->segment,
        .labels = {(const char **)node->labels.items, node->labels.count},
        .cost = node->cost,
        .has_cost = node->cost != 0,
        .single_account = str_empty(node->single_account) ? NULL : node->single_account,
        .lacks = str_empty(node->lacks) ? NULL : node->lacks,
    };
    if (seen) {
        out.seen_at = seen->at;
        out.agent_version = seen->version;
        out.accelerator = seen->accel;
        out.cpu_model = seen->cpu_model;
        out.vcpus = seen->vcpus;
        out.memory_bytes = seen->memory_bytes;
        out.memory_free_bytes = seen->memory_free_bytes;
        out.pool_bytes = seen->pool_bytes;
        out.pool_free_bytes = seen->pool_free_bytes;
        out.has_seen_at = out.has_vcpus = out.has_memory_bytes = true;
        out.has_memory_free_bytes = out.has_pool_bytes = out.has_pool_free_bytes = true;
        out.unfit = str_empty(seen->unfit) ? NULL : seen->unfit;
        out.emulator_version =
            str_empty(seen->qemu_version) ? NULL : seen->qemu_version;
    }
    return out;
}

bool
node_out_one(struct call *call, const struct row_node *node, struct moln_node **out,
             struct err *err)
{
    struct node_view view;
    if (!node_view_load(call, node, &view, err)) {
        return false;
    }
    *out = ARENA_NEW(call->arena, struct moln_node);
    **out = node_out(&view);
    return true;
}

bool
node_find(struct call *call, const char *id, const struct row_node **out,
          struct err *err)
{
    const struct row_node key = {.id = id};
    const void *row;
    if (!row_get(call->txn, &row_node_type, &key, &row, err)) {
        return false;
    }
    *out = row;
    return row || err_no(err, "node", id);
}

/* ---- CreateNodeToken ---- */

const struct region_config *
region_of_zone(const struct cloud_config *config, const char *zone)
{
    for (size_t i = 0; i < config->region_count; i++) {
        const struct region_config *region = &config->regions[i];
        for (size_t k = 0; k < region->zone_count; k++) {
            if (str_eq(region->zones[k].name, zone)) {
                return region;
            }
        }
    }
    return NULL;
}

bool
moln_create_node_token(struct call *call,
                       const struct moln_create_node_token_request *in,
                       struct moln_create_node_token_response *out, struct err *err)
{
    const struct region_config *region = region_of_zone(call->config, in->zone);
    struct join_token token;
    char text[TOKEN_TEXT_LEN], hash[SHA256_HEX_LEN];
    if (!region) {
        return err_no(err, "zone", in->zone);
    }
    if (str_empty(call->config->ca_sha256)) {
        return err_set(err, ERR_UNSUPPORTED,
                       "Other hosts cannot join: molnd was started without --link");
    }
    int64_t lifetime_s =
        in->has_lifetime_seconds ? in->lifetime_seconds : TOKEN_LIFETIME_S;
    token_make(call->rng, call->config->ca_sha256, &token);
    token_format(&token, text);
    token_secret_hash(token.secret, hash);
    const struct row_node_token row = {
        .id = arena_strdup(call->arena, token.id),
        .secret_sha256 = arena_strdup(call->arena, hash),
        .region = region->name,
        .zone = in->zone,
        .expires_at = call->now_ns + lifetime_s * NS_PER_S,
        .ceiling_vcpus = in->ceiling_vcpus,
        .ceiling_memory_bytes = in->ceiling_memory_bytes,
    };
    *out = (struct moln_create_node_token_response){
        .token_id = row.id,
        .token = arena_strdup(call->arena, text),
        HAS(expires_at, row.expires_at),
        .zone = in->zone,
    };
    return row_insert(call->txn, &row_node_token_type, &row, err);
}

/* ---- ListNodes, DescribeNode ---- */

bool
moln_list_nodes(struct call *call, const struct moln_list_nodes_request *in,
                struct moln_list_nodes_response *out, struct err *err)
{
    struct listing listing;
    struct row_list list;
    if (in->zone && !region_of_zone(call->config, in->zone)) {
        return err_no(err, "zone", in->zone);
    }
    if (!listing_init(call, in->has_max_results, in->max_results, in->next_token,
                      in->zone, &listing, err) ||
        !row_all(call, &row_node_type, &list, err)) {
        return false;
    }
    struct moln_node *items = ARENA_ARRAY(call->arena, list.count, struct moln_node);
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_node *node = list.rows[i];
        struct node_view view;
        if ((in->zone && !str_eq(node->zone, in->zone)) ||
            !listing_take(&listing, node->id)) {
            continue;
        }
        if (!node_view_load(call, node, &view, err)) {
            return false;
        }
        items[count++] = node_out(&view);
    }
    out->nodes.items = items;
    out->nodes.count = count;
    out->next_token = listing_next(call, &listing);
    return true;
}

/* Those whose disks must be moved before it can go. */
static bool
count_stopped(struct call *call, const char *node_id, struct moln_node *out,
              struct err *err)
{
    struct row_list list;
    if (!instances_on(call->txn, node_id, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_instance *inst = list.rows[i];
        out->stopped_instances +=
            !inst->terminated_at && str_eq(inst->want_state, "stopped");
    }
    out->has_stopped_instances = true;
    return true;
}

bool
moln_describe_node(struct call *call, const struct moln_describe_node_request *in,
                   struct moln_describe_node_response *out, struct err *err)
{
    const struct row_node *node;
    struct placement_rows rows;
    if (!node_find(call, in->node_id, &node, err) ||
        !node_out_one(call, node, &out->node, err) ||
        !pool_rows(call->txn, node->id, &rows, err)) {
        return false;
    }
    if (rows.seen) {
        out->node->cpu_models.items = rows.seen->cpu_models.items;
        out->node->cpu_models.count = rows.seen->cpu_models.count;
        out->node->machine_types.items = rows.seen->machine_types.items;
        out->node->machine_types.count = rows.seen->machine_types.count;
    }
    return count_stopped(call, node->id, out->node, err) &&
           node_hardware(call, node->id, &out->node->hardware, err);
}

/* ---- changes ---- */

bool
node_put(struct call *call, const struct row_node *node, struct moln_node **out,
         struct err *err)
{
    return row_put(call->txn, &row_node_type, node, err) &&
           node_out_one(call, node, out, err);
}

/* To one of them. A drain with other times than before takes the place of what its owner may
 * have made of those. */
static bool
drain_tell_one(struct call *call, const struct row_instance *inst,
               const struct row_node *node, bool anew, struct err *err)
{
    const struct instance_event event = instance_event_of_drain(node, call->now_ns);
    return anew ? instance_event_put(call->txn, call->rng, inst, &event, err)
                : instance_event_drain(call->txn, call->rng, inst, node, call->now_ns,
                                       err);
}

/* Tells the owners of what runs there, or that it was called off. */
static bool
drain_announce(struct call *call, const struct row_node *node, bool anew,
               struct err *err)
{
    struct row_list list;
    if (!instances_on(call->txn, node->id, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_instance *inst = list.rows[i];
        bool runs = !inst->terminated_at && str_eq(inst->want_state, "running");
        bool ok = node->draining && runs
                      ? drain_tell_one(call, inst, node, anew, err)
                      : instance_event_end(call->txn, inst->account, inst->id,
                                           INSTANCE_EVENT_MAINTENANCE, true,
                                           call->now_ns, err);
        if (!ok) {
            return false;
        }
    }
    return true;
}

/* Makes 'node' what it is from now on. */
static bool
drain_set(struct call *call, const struct row_node *old, const struct row_node *node,
          struct moln_node **out, struct err *err)
{
    bool told = node->draining || old->draining;
    bool anew = !old->draining || old->drain_at != node->drain_at ||
                old->drain_deadline != node->drain_deadline;
    return (!told || drain_announce(call, node, anew, err)) &&
           node_put(call, node, out, err);
}

bool
moln_cordon_node(struct call *call, const struct moln_cordon_node_request *in,
                 struct moln_cordon_node_response *out, struct err *err)
{
    const struct row_node *node;
    if (!node_find(call, in->node_id, &node, err)) {
        return false;
    }
    struct row_node next = *node; /* One that drains goes on doing so. */
    next.cordoned = true;
    return node_put(call, &next, &out->node, err);
}

static bool
check_times(const struct moln_drain_node_request *in, struct err *err)
{
    return !in->has_deadline || (in->has_not_before && in->deadline >= in->not_before)
               ? true
               : err_set(err, ERR_VALIDATION,
                         "Deadline must come with NotBefore, and be no earlier");
}

bool
moln_drain_node(struct call *call, const struct moln_drain_node_request *in,
                struct moln_drain_node_response *out, struct err *err)
{
    const struct row_node *node;
    if (!check_times(in, err) || !node_find(call, in->node_id, &node, err)) {
        return false;
    }
    struct row_node next = *node;
    next.cordoned = next.draining = true;
    next.drain_at = in->has_not_before ? in->not_before : 0;
    next.drain_deadline = in->has_deadline ? in->deadline : 0;
    return drain_set(call, node, &next, &out->node, err);
}

bool
moln_uncordon_node(struct call *call, const struct moln_uncordon_node_request *in,
                   struct moln_uncordon_node_response *out, struct err *err)
{
    const struct row_node *node;
    if (!node_find(call, in->node_id, &node, err)) {
        return false;
    }
    struct row_node next = *node;
    next.cordoned = next.draining = false;
    next.drain_at = next.drain_deadline = 0;
    return drain_set(call, node, &next, &out->node, err);
}

bool
moln_revoke_node(struct call *call, const struct moln_revoke_node_request *in,
                 struct moln_revoke_node_response *out, struct err *err)
{
    const struct row_node *node;
    if (!node_find(call, in->node_id, &node, err)) {
        return false;
    }
    struct row_node changed = *node;
    changed.state = "revoked"; /* The link closes the stream when it sees this row. */
    return node_put(call, &changed, &out->node, err);
}
