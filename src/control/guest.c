/* guest.c - see guest.h. */
#include "control/guest.h"

#include "core/baseline.h"
#include "core/migration_cold.h"

#define GET(g, type, out, err, ...) \
    row_get((g)->pass->txn, &row_##type##_type, &(struct row_##type){__VA_ARGS__}, \
            (const void **)(out), err)

/* Shares under contention follow what the type promises: 100 for each whole processor.
 * AWS gives t2 alone credits at its launch, and takes what is left at a stop. */
static void
promise_of(const struct guest *g, struct link_machine *record)
{
    const struct row_instance *i = g->instance;
    const struct instance_type *type = config_type(g->pass->config, i->type);
    record->cpu_weight = i->vcpus * 100;
    if (!type || !type->burstable) {
        return;
    }
    bool t2 = str_eq(type->family, "t2");
    record->baseline_permille = (int64_t)(type->baseline_percent * 10 + 0.5);
    record->unlimited = str_eq(i->credit_mode, "unlimited");
    record->launch_credits = t2 && !record->unlimited ? 30 * i->vcpus : 0;
    record->credits_end = t2;
    record->cpu_weight = MAX(1, i->vcpus * record->baseline_permille / 10);
}

/* What a burstable machine has of CPU credits goes along: as its old host said last, at most
 * a minute ago; of one that was lost, at most a minute before that. */
static bool
bring_credits(const struct guest *g, struct link_machine *record, struct err *err)
{
    const struct row_node_use *use;
    const struct row_instance *i = g->instance;
    if (record->baseline_permille > 0 && !str_empty(i->brought_as) &&
        str_eq(g->node_id, i->node_id)) {
        record->brought = true;
        record->brought_as = i->brought_as;
        record->credits_milli = i->brought_credits_milli;
        record->surplus_milli = i->brought_surplus_milli;
        record->charged_milli = i->brought_charged_milli;
        return true;
    }
    if (!g->migration || g->migration->cold || record->baseline_permille == 0 ||
        !str_eq(g->node_id, g->migration->to_node)) {
        return true;
    }
    if (!GET(g, node_use, &use, err, .id = g->migration->from_node)) {
        return false;
    }
    for (size_t n = 0; use && n < use->machines.count; n++) {
        const struct row_machine_use *m = &use->machines.items[n];
        if (str_eq(m->id, g->instance->id)) {
            record->brought = true;
            record->credits_milli = m->credits_milli;
            record->surplus_milli = m->surplus_milli;
            record->charged_milli = m->charged_milli;
        }
    }
    return true;
}

/* Whether a process may be there that was started with what its node said last. */
static bool
may_run(const struct guest *g)
{
    static const char *const states[] = {"starting", "running", "stopping"};
    for (size_t n = 0; g->seen && n < ARRAY_LEN(states); n++) {
        if (str_eq(g->seen->state, states[n])) {
            return true;
        }
    }
    return g->seen && g->migration && !g->migration->cold;
}

/* Its processor and machine type: what it runs with, it keeps, wherever it goes; what does
 * not run gets the zone's baseline when it starts. */
static bool
give_build(const struct guest *g, struct link_machine *record, struct err *err)
{
    const struct row_instance *i = g->instance;
    const struct row_node_seen *node;
    const struct row_baseline *baseline;
    if (may_run(g)) {
        record->machine_type = g->seen->machine_type;
        record->cpu_model = g->seen->cpu_model;
        return true;
    }
    if (!GET(g, node_seen, &node, err, .id = g->node_id)) {
        return false;
    }
    if (!baseline_told(node)) {
        return true; /* It would not know the names. */
    }
    const struct baseline_key key = {i->region, i->zone, node->accel};
    if (!baseline_get(g->pass->txn, &key, &baseline, err)) {
        return false;
    }
    record->machine_type = baseline ? baseline->machine_type : NULL;
    record->cpu_model = baseline ? baseline->cpu_model : NULL;
    return true;
}

/* Where disks are copied as files their machine stays off, on both sides. Else: the receiver's
 * emulator must not be started anew while it waits for the guest; nor may the
 * giver's end while it is about to let go. What was asked for is in the record again once the
 * guest runs there, or stays here. */
static void
hold_back(const struct guest *g, struct link_machine *record)
{
    const struct row_migration *m = g->migration;
    if (m && m->cold) {
        bool off = str_eq(g->node_id, m->from_node) ? migration_is_held(m)
                                                    : !migration_has_switched(m);
        record->running = record->running && !off;
        return;
    }
    bool switching = m && str_eq(m->state, "switching");
    bool awaited = m && str_eq(g->node_id, m->to_node) &&
                   (str_eq(m->state, "preparing") || str_eq(m->state, "copying"));
    if (switching || awaited) {
        record->reboot_count = m->reboot_count;
    }
    if (switching && !str_eq(g->instance->want_state, "terminated")) {
        record->running = true;
        record->stop_hard = false;
    }
}

bool
guest_terms(const struct guest *guest, struct link_machine *record, struct err *err)
{
    promise_of(guest, record);
    hold_back(guest, record);
    return give_build(guest, record, err) && bring_credits(guest, record, err);
}
