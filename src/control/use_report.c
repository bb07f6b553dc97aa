/* use_report.c - see use_report.h. */
#include "control/use_report.h"

#include "control/wants.h"

#define MACHINES_MAX 4096
#define UNFIT_MAX 100

static int64_t
bounded(int64_t n)
{
    return MAX(0, MIN(n, INT64_C(1) << 50));
}

static struct row_machine_use
machine_of(const struct link_machine_meter *r)
{
    return (struct row_machine_use){
        .id = r->id,
        .busy_milli = bounded(r->busy_milli),
        .ready_permille = bounded(r->ready_permille),
        .memory_bytes = bounded(r->memory_bytes),
        .balloon_bytes = bounded(r->balloon_bytes),
        .credits_milli = bounded(r->credits_milli),
        .used_milli = bounded(r->used_milli),
        .surplus_milli = bounded(r->surplus_milli),
        .charged_milli = bounded(r->charged_milli),
        .held = r->held,
    };
}

static bool
take_machines(const struct pass *pass, const char *node_id, const struct link_meter *r,
              struct row_node_use *out, struct err *err)
{
    size_t most = MIN(r->machines.count, MACHINES_MAX), count = 0;
    struct row_machine_use *items =
        ARENA_ARRAY(txn_arena(pass->txn), most, struct row_machine_use);
    for (size_t i = 0; i < most; i++) {
        const struct link_machine_meter *m = &r->machines.items[i];
        const struct row_node_want *want;
        if (!want_get(pass->txn, node_id, LINK_MACHINE, m->id, &want, err)) {
            return false;
        }
        if (want) {
            items[count++] = machine_of(m);
        }
    }
    out->machines.items = items;
    out->machines.count = count;
    return true;
}

/* Its own word; it stands until the node says otherwise. */
static bool
note_fitness(const struct pass *pass, const char *node_id, const char *unfit,
             struct err *err)
{
    const struct row_node_seen key = {.id = node_id};
    const struct row_node_seen *old;
    if (!row_get(pass->txn, &row_node_seen_type, &key, (const void **)&old, err)) {
        return false;
    }
    const char *said = str_empty(unfit) ? NULL : unfit;
    if (!old || (str_empty(old->unfit) && !said) || str_eq(old->unfit, said)) {
        return true;
    }
    struct row_node_seen row = *old;
    row.unfit =
        said ? arena_strndup(txn_arena(pass->txn), said, MIN(strlen(said), UNFIT_MAX))
             : NULL;
    return row_put(pass->txn, &row_node_seen_type, &row, err);
}

bool
use_report(const struct pass *pass, const char *node_id, const struct link_meter *r,
           struct err *err)
{
    static const char *const stages[] = {"none", "reclaim", "balloon", "move",
                                         "refuse"};
    struct row_node_use row = {
        .id = node_id,
        .at = pass->now_ns,
        .busy_milli = bounded(r->busy_milli),
        .promised_vcpus = bounded(r->promised_vcpus),
        .ready_permille = bounded(r->ready_permille),
        .memory_some_bp = bounded(r->memory_some_bp),
        .memory_full_bp = bounded(r->memory_full_bp),
        .relief = "none",
        .crowded = r->crowded,
    };
    for (size_t i = 0; i < ARRAY_LEN(stages); i++) {
        if (str_eq(r->relief, stages[i])) {
            row.relief = stages[i];
        }
    }
    return take_machines(pass, node_id, r, &row, err) &&
           row_put(pass->txn, &row_node_use_type, &row, err) &&
           note_fitness(pass, node_id, r->unfit, err);
}
