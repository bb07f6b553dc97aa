/* status.c - GetStatus: the cloud at a glance. */
#include "service/moln/operators.h"

/* Adds one node to its region and to the whole. */
static void
node_count(const struct node_view *view, struct moln_region_status *to)
{
    const struct row_node_seen *seen = view->rows.seen;
    const struct claim *claimed = &view->host.claimed;
    to->nodes++;
    to->nodes_connected += seen && seen->connected;
    if (view->host.closed == PLACEMENT_FITS) {
        to->capacity_vcpus += view->host.ceiling.vcpus;
        to->capacity_memory_bytes += view->host.ceiling.memory_bytes;
    }
    to->claimed_vcpus += claimed->vcpus;
    to->claimed_memory_bytes += claimed->memory_bytes;
    to->machines += claimed->machines;
    to->pool_bytes += seen ? seen->pool_bytes : 0;
    to->pool_free_bytes += seen ? seen->pool_free_bytes : 0;
}

/* "kvm", "tcg", "mixed", or NULL while none has spoken. */
static const char *
accel_of(const char *so_far, const char *accel)
{
    if (str_empty(accel)) {
        return so_far;
    }
    return !so_far || str_eq(so_far, accel) ? accel : "mixed";
}

static struct moln_region_status *
regions_make(struct call *call)
{
    const struct cloud_config *config = call->config;
    struct moln_region_status *out =
        ARENA_ARRAY(call->arena, config->region_count, struct moln_region_status);
    for (size_t i = 0; i < config->region_count; i++) {
        out[i] = (struct moln_region_status){
            .region = config->regions[i].name,
            .has_nodes = true,
            .has_nodes_connected = true,
            .has_capacity_vcpus = true,
            .has_claimed_vcpus = true,
            .has_capacity_memory_bytes = true,
            .has_claimed_memory_bytes = true,
            .has_pool_bytes = true,
            .has_pool_free_bytes = true,
            .has_machines = true,
        };
    }
    return out;
}

static bool
nodes_count(struct call *call, struct moln_get_status_response *out,
            struct moln_region_status *whole, struct err *err)
{
    struct row_list list;
    if (!row_all(call, &row_node_type, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_node *node = list.rows[i];
        struct node_view view;
        if (!str_eq(node->state, "active")) {
            continue;
        }
        if (!node_view_load(call, node, &view, err)) {
            return false;
        }
        node_count(&view, whole);
        if (view.rows.seen) {
            out->accelerator = accel_of(out->accelerator, view.rows.seen->accel);
        }
        for (size_t k = 0; k < out->regions.count; k++) {
            if (str_eq(out->regions.items[k].region, node->region)) {
                node_count(&view, &out->regions.items[k]);
            }
        }
    }
    return true;
}

static bool
tenants_count(struct call *call, struct moln_get_status_response *out, struct err *err)
{
    struct row_list accounts, instances, images;
    if (!row_all(call, &row_account_type, &accounts, err) ||
        !row_all(call, &row_instance_type, &instances, err) ||
        !row_all(call, &row_image_type, &images, err)) {
        return false;
    }
    out->has_accounts = out->has_images = true;
    out->has_instances_running = out->has_instances_stopped = true;
    for (size_t i = 0; i < accounts.count; i++) {
        out->accounts += !((const struct row_account *)accounts.rows[i])->deleted;
    }
    for (size_t i = 0; i < instances.count; i++) {
        const char *want = ((const struct row_instance *)instances.rows[i])->want_state;
        out->instances_running += str_eq(want, "running");
        out->instances_stopped += str_eq(want, "stopped");
    }
    for (size_t i = 0; i < images.count; i++) {
        out->images +=
            str_eq(((const struct row_image *)images.rows[i])->state, "available");
    }
    return true;
}

bool
moln_get_status(struct call *call, const struct moln_get_status_request *in,
                struct moln_get_status_response *out, struct err *err)
{
    const struct row_cloud key = {.id = "cloud"};
    const void *row;
    struct moln_region_status whole = {0};
    (void)in;
    if (!row_get(call->txn, &row_cloud_type, &key, &row, err)) {
        return false;
    }
    const struct row_cloud *cloud = row;
    *out = (struct moln_get_status_response){
        .version = MOLN_VERSION,
        .cloud_id = call->config->cloud_id,
        HAS_TIME(created_at, cloud ? cloud->created_at : 0),
        .endpoint = call->config->endpoint_url,
        .regions = {regions_make(call), call->config->region_count},
    };
    if (!nodes_count(call, out, &whole, err) || !tenants_count(call, out, err)) {
        return false;
    }
    out->nodes = whole.nodes;
    out->nodes_connected = whole.nodes_connected;
    out->capacity_vcpus = whole.capacity_vcpus;
    out->claimed_vcpus = whole.claimed_vcpus;
    out->capacity_memory_bytes = whole.capacity_memory_bytes;
    out->claimed_memory_bytes = whole.claimed_memory_bytes;
    out->pool_bytes = whole.pool_bytes;
    out->pool_free_bytes = whole.pool_free_bytes;
    out->has_nodes = out->has_nodes_connected = out->has_capacity_vcpus = true;
    out->has_claimed_vcpus = out->has_capacity_memory_bytes = true;
    out->has_claimed_memory_bytes = out->has_pool_bytes = true;
    out->has_pool_free_bytes = true;
    return true;
}
