/* node_change.c - AcceptNode, UpdateNode, RemoveNode: what operators say of hosts; and what
 * hosts are made of. */
#include "core/migration_rows.h"
#include "service/moln/operators.h"

#define LABELS_MAX 16

/* ---- hardware ---- */

/* In an initializer: each item of a row's list as one of the answer. */
#define PARTS_OUT(arena, to, from, list, ...) \
    do { \
        (to)->list.count = (from)->list.count; \
        (to)->list.items = \
            arena_array((arena), (from)->list.count, sizeof *(to)->list.items); \
        for (size_t i = 0; i < (from)->list.count; i++) { \
            (to)->list.items[i] = (__typeof__(*(to)->list.items)){__VA_ARGS__}; \
        } \
    } while (0)
#define PART(list) row->list.items[i]

static void
parts_out(struct call *call, const struct row_node_hardware *row,
          struct moln_hardware *out)
{
    struct arena *arena = call->arena;
    PARTS_OUT(arena, out, row, numa, HAS(number, PART(numa).number),
              .cpus = PART(numa).cpus, HAS(memory_bytes, PART(numa).memory_bytes));
    PARTS_OUT(arena, out, row, disks, .name = PART(disks).name,
              HAS(size_bytes, PART(disks).size_bytes),
              HAS(rotational, PART(disks).rotational), .model = PART(disks).model);
    PARTS_OUT(arena, out, row, nics, .name = PART(nics).name,
              HAS(speed_mbps, PART(nics).speed_mbps));
    PARTS_OUT(arena, out, row, devices, .address = PART(devices).address,
              .kind = PART(devices).kind, HAS(vendor, PART(devices).vendor),
              HAS(device, PART(devices).device), HAS(sriov, PART(devices).sriov));
}

bool
node_hardware(struct call *call, const char *node_id, struct moln_hardware **out,
              struct err *err)
{
    const struct row_node_hardware key = {.id = node_id};
    const struct row_node_seen seen_key = {.id = node_id};
    const struct row_node_hardware *row;
    const struct row_node_seen *seen;
    if (!row_get(call->txn, &row_node_hardware_type, &key, (const void **)&row, err) ||
        !row_get(call->txn, &row_node_seen_type, &seen_key, (const void **)&seen,
                 err)) {
        return false;
    }
    if (!row || !seen) {
        return true;
    }
    *out = ARENA_NEW(call->arena, struct moln_hardware);
    **out = (struct moln_hardware){
        HAS(sockets, seen->sockets),
        HAS(cores, seen->cores),
        HAS(speed, seen->speed),
        HAS(swap_bytes, seen->swap_bytes),
        .watts = seen->watts,
        .has_watts = seen->watts > 0,
        .features = {(const char **)seen->features.items, seen->features.count},
    };
    parts_out(call, row, *out);
    return true;
}

/* ---- AcceptNode ---- */

bool
moln_accept_node(struct call *call, const struct moln_accept_node_request *in,
                 struct moln_accept_node_response *out, struct err *err)
{
    const struct row_node *node;
    struct placement_rows rows;
    if (!node_find(call, in->node_id, &node, err) ||
        !pool_rows(call->txn, node->id, &rows, err)) {
        return false;
    }
    struct row_node next = *node;
    next.quarantine = NULL;
    if (rows.seen) {
        next.hw_vcpus = rows.seen->vcpus;
        next.hw_memory_bytes = rows.seen->memory_bytes;
        next.hw_cpu_model = rows.seen->cpu_model;
    }
    return node_put(call, &next, &out->node, err);
}

/* ---- UpdateNode ---- */

static int
by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted, each once: hosts of the same labels are of one kind. */
static void
set_labels(struct call *call, const struct moln_update_node_request *in,
           struct row_node *node)
{
    const char **labels = ARENA_ARRAY(call->arena, LABELS_MAX, const char *);
    size_t count = 0;
    if (in->labels.count > 0) {
        const char **sorted = arena_memdup(call->arena, in->labels.items,
                                           in->labels.count * sizeof *sorted);
        qsort(sorted, in->labels.count, sizeof *sorted, by_text);
        for (size_t i = 0; i < in->labels.count; i++) {
            if (i == 0 || !str_eq(sorted[i], sorted[i - 1])) {
                labels[count++] = sorted[i];
            }
        }
    } else if (!in->clear_labels) {
        return;
    }
    node->labels.items = labels;
    node->labels.count = count;
}

/* What is there, stopped machines too, must be the account's: those start there again. */
static bool
check_all_of(struct call *call, const struct row_node *node, const char *account,
             const struct row_list *machines, struct err *err)
{
    size_t others = 0;
    const struct row_account *row;
    struct placement_rows rows;
    if (!account_find(call, account, &row, err) ||
        !pool_rows(call->txn, node->id, &rows, err)) {
        return false;
    }
    for (size_t i = 0; i < machines->count; i++) {
        const struct row_instance *inst = machines->rows[i];
        others += !inst->terminated_at && !str_eq(inst->account, account);
    }
    if (others > 0) {
        return err_set(err, ERR_RESOURCE_IN_USE,
                       "Node %s holds %zu instances of other accounts than %s: move "
                       "them away first (moln node drain, moln migrate)",
                       node->id, others, account);
    }
    bool owned = rows.claim && !str_empty(rows.claim->owner) &&
                 !str_eq(rows.claim->owner, account);
    return !owned || err_set(err, ERR_RESOURCE_IN_USE,
                             "Node %s is account %s's alone, as a dedicated host",
                             node->id, rows.claim->owner);
}

/* Every machine's record says whether its pages may be merged: all are written anew. */
static bool
mark(struct call *call, struct row_node *node, const char *account, struct err *err)
{
    struct row_list list;
    if (!account || str_eq(node->single_account ? node->single_account : "", account)) {
        return true;
    }
    if (!instances_on(call->txn, node->id, &list, err) ||
        (*account && !check_all_of(call, node, account, &list, err))) {
        return false;
    }
    node->single_account = account;
    for (size_t i = 0; i < list.count; i++) {
        struct row_instance next = *(const struct row_instance *)list.rows[i];
        next.generation++;
        if (!next.terminated_at &&
            !row_put(call->txn, &row_instance_type, &next, err)) {
            return false;
        }
    }
    return true;
}

bool
moln_update_node(struct call *call, const struct moln_update_node_request *in,
                 struct moln_update_node_response *out, struct err *err)
{
    const struct row_node *node;
    if (!node_find(call, in->node_id, &node, err)) {
        return false;
    }
    struct row_node next = *node;
    next.rack = in->rack ? in->rack : node->rack;
    next.segment = in->segment ? in->segment : node->segment;
    next.cost = in->has_cost ? in->cost : node->cost;
    if (in->has_ceiling_vcpus) {
        next.ceiling_vcpus = in->ceiling_vcpus;
    }
    if (in->has_ceiling_memory_bytes) {
        next.ceiling_memory_bytes = in->ceiling_memory_bytes;
    }
    set_labels(call, in, &next);
    return mark(call, &next, in->single_account, err) &&
           node_put(call, &next, &out->node, err);
}

/* ---- RemoveNode ---- */

static bool
err_holds(struct err *err, const struct row_node *node, size_t count, const char *what)
{
    return err_set(err, ERR_RESOURCE_IN_USE,
                   "Node %s still holds %zu %s: end or move them first", node->id,
                   count, what);
}

/* Nothing of a tenant's may be there, nor on its way from there or to it. */
static bool
check_empty(struct call *call, const struct row_node *node, struct err *err)
{
    const struct row_instance instances = {.node_id = node->id};
    const struct row_volume volumes = {.node_id = node->id};
    const struct row_dedicated_host hosts = {.node_id = node->id};
    const struct {
        const struct row_type *type;
        const char *index, *what;
        const void *prefix;
    } holds[] = {
        {&row_instance_type, "by_node", "instances", &instances},
        {&row_volume_type, "by_node", "volumes", &volumes},
        {&row_dedicated_host_type, "by_node", "dedicated hosts", &hosts},
    };
    for (size_t i = 0; i < ARRAY_LEN(holds); i++) {
        const struct row_query query = {
            .index = holds[i].index, .prefix = holds[i].prefix, .prefix_fields = 1};
        struct row_list list;
        size_t count = 0;
        if (!row_list(call->txn, holds[i].type, &query, &list, err)) {
            return false;
        }
        for (size_t k = 0; k < list.count; k++) {
            const struct row_instance *inst = list.rows[k];
            const struct row_dedicated_host *host = list.rows[k];
            bool over = holds[i].type == &row_instance_type ? inst->terminated_at
                        : holds[i].type == &row_dedicated_host_type ? host->released_at
                                                                    : false;
            count += !over;
        }
        if (count > 0) {
            return err_holds(err, node, count, holds[i].what);
        }
    }
    bool moving = false;
    return migration_uses(call->txn, NULL, node->id, &moving, err) &&
           (!moving || err_set(err, ERR_RESOURCE_IN_USE,
                               "A migration has a side on node %s still: it ends by "
                               "itself, unless its other node is gone too: revoke that",
                               node->id));
}

/* Its wants, and the rows keyed by its id alone; the record of what it told stays. */
static bool
forget(struct call *call, const struct row_node *node, struct err *err)
{
    const struct row_node_want prefix = {.node_id = node->id};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 1};
    const struct row_type *const types[] = {
        &row_node_seen_type,  &row_node_claim_type, &row_node_hardware_type,
        &row_node_lease_type, &row_node_use_type,   &row_node_type};
    struct row_list wants;
    if (!row_list(call->txn, &row_node_want_type, &query, &wants, err)) {
        return false;
    }
    for (size_t i = 0; i < wants.count; i++) {
        if (!row_delete(call->txn, &row_node_want_type, wants.rows[i], err)) {
            return false;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        void *key = arena_alloc(call->arena, types[i]->desc->size);
        *(const char **)desc_at(&types[i]->desc->fields[types[i]->key[0]], key) =
            node->id;
        if (!row_delete(call->txn, types[i], key, err)) {
            return false;
        }
    }
    return true;
}

bool
moln_remove_node(struct call *call, const struct moln_remove_node_request *in,
                 struct moln_remove_node_response *out, struct err *err)
{
    const struct row_node *node;
    if (!node_find(call, in->node_id, &node, err) ||
        !node_out_one(call, node, &out->node, err)) {
        return false;
    }
    if (!str_eq(node->state, "revoked")) {
        return err_set(
            err, ERR_RESOURCE_IN_USE,
            "Node %s is active: revoke it first, so that it cannot come back",
            node->id);
    }
    return check_empty(call, node, err) && forget(call, node, err);
}
