/* migration_cold.c - see migration_cold.h. */
#include "core/migration_cold.h"

#include "core/instance_rows.h"

bool
migration_is_held(const struct row_migration *m)
{
    bool waits = str_eq(m->state, "preparing") || str_eq(m->state, "copying");
    return m->cold && (waits || (m->starts && str_eq(m->state, "undoing")));
}

bool
migration_cold_may_begin(struct txn *txn, const struct row_instance *inst,
                         const struct row_machine_seen *seen, struct err *err)
{
    bool copied,
        off = seen && seen->generation >= inst->generation &&
              str_eq(seen->node_id, inst->node_id) &&
              (str_eq(seen->state, "stopped") || str_eq(seen->state, "absent"));
    if (!off || inst->claimed || !str_empty(inst->left_node) ||
        !str_empty(inst->root_task_id)) {
        return err_set(err, ERR_RESOURCE_IN_USE, "%s is not stopped yet", inst->id);
    }
    if (!instance_is_copied(txn, inst, &copied, err)) {
        return false;
    }
    return !copied ||
           err_set(err, ERR_RESOURCE_IN_USE,
                   "an image is being made of %s, where its disk lies", inst->id);
}

/* ---- promises ------------------------------------------------------------------------- */

void
migration_cold_hold(const struct row_instance *inst, struct row_migration *m)
{
    m->held_vcpus = m->starts ? inst->vcpus : 0;
    m->held_memory_bytes = !m->starts                 ? 0
                           : inst->claim_memory_bytes ? inst->claim_memory_bytes
                                                      : inst->memory_bytes;
}

static bool
count_vcpus(struct txn *txn, const struct row_migration *m, int64_t sign,
            struct err *err)
{
    const struct usage usage = {.vcpus = sign * m->held_vcpus};
    return account_usage_add(txn, m->account, m->region, &usage, err);
}

bool
migration_cold_begun(struct txn *txn, const struct row_migration *m, struct err *err)
{
    return !m->starts || count_vcpus(txn, m, 1, err);
}

bool
migration_cold_join(struct txn *txn, struct row_migration *m,
                    const struct row_instance *inst, int64_t memory_bytes,
                    struct err *err)
{
    m->starts = true;
    m->held_vcpus = inst->vcpus;
    m->held_memory_bytes = memory_bytes;
    const struct claim claim = {
        .vcpus = m->held_vcpus, .memory_bytes = memory_bytes, .machines = 1};
    return node_claim_add(txn, m->held_node, &claim, err) &&
           count_vcpus(txn, m, 1, err) && row_put(txn, &row_migration_type, m, err);
}

bool
migration_cold_end(struct txn *txn, const struct row_migration *m, struct err *err)
{
    return !m->starts || m->held_vcpus == 0 || count_vcpus(txn, m, -1, err);
}

/* ---- the switch ------------------------------------------------------------------------ */

static bool
has_disk(const struct row_migration *m, const char *id)
{
    for (size_t i = 0; i < m->disk_ids.count; i++) {
        if (str_eq(m->disk_ids.items[i], id)) {
            return true;
        }
    }
    return false;
}

/* Whether it is what was copied, and wanted as it was then. */
static bool
is_as_it_was(const struct row_migration *m, const struct row_instance *inst,
             const struct row_list *volumes)
{
    bool same = inst && str_eq(inst->migration_id, m->id) &&
                str_eq(inst->node_id, m->from_node) && !inst->claimed &&
                volumes->count == m->disk_ids.count &&
                str_eq(inst->want_state, m->starts ? "running" : "stopped");
    for (size_t i = 0; same && i < volumes->count; i++) {
        const struct row_volume *v = volumes->rows[i];
        same = has_disk(m, v->id) && !v->want_deleted;
    }
    return same;
}

/* From now on its file is found at the receiver, or missed: never made anew. */
static bool
carry_volume(struct txn *txn, const struct row_volume *volume, const char *node_id,
             struct err *err)
{
    const struct row_disk_seen seen = {.id = volume->id};
    struct row_volume next = *volume;
    next.node_id = node_id;
    next.generation++;
    next.made = true;
    return row_delete(txn, &row_disk_seen_type, &seen, err) &&
           row_put(txn, &row_volume_type, &next, err);
}

bool
migration_cold_own(struct txn *txn, struct row_migration *m, bool *out_done,
                   struct err *err)
{
    const struct row_instance key = {.account = m->account, .id = m->instance_id};
    const struct row_instance *inst;
    struct row_list volumes;
    if (!row_get(txn, &row_instance_type, &key, (const void **)&inst, err) ||
        !instance_volumes(txn, m->account, m->instance_id, &volumes, err)) {
        return false;
    }
    *out_done = is_as_it_was(m, inst, &volumes);
    if (!*out_done) {
        return true;
    }
    for (size_t i = 0; i < volumes.count; i++) {
        if (!carry_volume(txn, volumes.rows[i], m->to_node, err)) {
            return false;
        }
    }
    struct row_instance next = *inst;
    next.node_id = m->to_node;
    next.brought_as = NULL;
    next.generation++; /* The receiver's word counts from now on: it is asked for it. */
    if (m->starts) {   /* What was held for it is its own. */
        next.claimed = true;
        next.claim_memory_bytes = m->held_memory_bytes;
        m->held_vcpus = m->held_memory_bytes = 0;
    }
    m->held_node = m->from_node; /* Of the disks that are still there. */
    return host_of_node(txn, &next, err) &&
           row_put(txn, &row_instance_type, &next, err) &&
           row_put(txn, &row_migration_type, m, err);
}
