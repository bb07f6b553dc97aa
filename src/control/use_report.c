/* use_report.c - see use_report.h. */
#include "control/use_report.h"

#include "base/log.h"
#include "control/wants.h"
#include "core/migration_rows.h"

#define MACHINES_MAX 4096
#define UNFIT_MAX 100
#define TRIES_MAX 8 /* Guests that are asked after, in one report. */

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
        .dirty_bps = bounded(r->dirty_bps),
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
             bool strained, struct err *err)
{
    const struct row_node_seen key = {.id = node_id};
    const struct row_node_seen *old;
    if (!row_get(pass->txn, &row_node_seen_type, &key, (const void **)&old, err)) {
        return false;
    }
    const char *said = str_empty(unfit) ? NULL : unfit;
    bool same = old && ((str_empty(old->unfit) && !said) || str_eq(old->unfit, said));
    if (!old || (same && old->strained == strained)) {
        return true;
    }
    struct row_node_seen row = *old;
    row.strained = strained;
    row.unfit =
        said ? arena_strndup(txn_arena(pass->txn), said, MIN(strlen(said), UNFIT_MAX))
             : NULL;
    return row_put(pass->txn, &row_node_seen_type, &row, err);
}

/* ---- moving away ----------------------------------------------------------------- */

/* The instance behind a machine that was reported; NULL: it is not, or no longer, here. */
static bool
instance_of(const struct pass *pass, const char *node_id, const char *id,
            const struct row_instance **out, struct err *err)
{
    const struct row_node_want *want;
    *out = NULL;
    if (!want_get(pass->txn, node_id, LINK_MACHINE, id, &want, err)) {
        return false;
    }
    const struct row_instance key = {.account = want ? want->account : "", .id = id};
    const struct row_instance *row;
    if (!row_get(pass->txn, &row_instance_type, &key, (const void **)&row, err)) {
        return false;
    }
    *out = row && str_eq(row->node_id, node_id) ? row : NULL;
    return true;
}

static int
larger_first(const void *a, const void *b)
{
    const struct row_machine_use *x = a, *y = b;
    return x->memory_bytes < y->memory_bytes   ? 1
           : x->memory_bytes > y->memory_bytes ? -1
                                               : strcmp(x->id, y->id);
}

/* Why one cannot be moved just now is no fault of the report's: the next is tried. */
static bool
is_for_another_time(struct err *err)
{
    bool is = migration_waits(err);
    if (is) {
        err_clear(err);
    }
    return is;
}

static bool
begin_move(const struct pass *pass, const struct row_instance *inst, bool *out_begun,
           struct err *err)
{
    struct migration_ask ask = {.reason = "pressure",
                                .bandwidth_bps = pass->config->migration_bps};
    const struct row_migration *made;
    bool ok =
        migration_may_begin(pass->txn, inst, err) &&
        migration_choose(pass->txn, pass->pool, pass->config, inst, NULL, &ask.to_node,
                         err) &&
        migration_begin(pass->txn, inst, &ask, pass->rng, pass->now_ns, &made, err);
    *out_begun = ok;
    if (ok) {
        log_info("control: node %s is crowded: %s moves to %s", inst->node_id, inst->id,
                 ask.to_node);
    }
    return ok || is_for_another_time(err);
}

/* One guest a minute, and one at a time: the largest that can go. */
static bool
move_away(const struct pass *pass, const struct row_node_use *use, struct err *err)
{
    size_t count = use->machines.count;
    struct row_machine_use *by_size = arena_memdup(
        txn_arena(pass->txn), use->machines.items, count * sizeof *by_size);
    const struct row_instance **insts =
        ARENA_ARRAY(txn_arena(pass->txn), count, const struct row_instance *);
    qsort(by_size, count, sizeof *by_size, larger_first);
    for (size_t i = 0; i < count; i++) {
        if (!instance_of(pass, use->id, by_size[i].id, &insts[i], err)) {
            return false;
        }
        if (insts[i] && !str_empty(insts[i]->migration_id)) {
            return true;
        }
    }
    bool begun = false;
    for (size_t i = 0; i < MIN(count, TRIES_MAX) && !begun; i++) {
        if (insts[i] && !begin_move(pass, insts[i], &begun, err)) {
            return false;
        }
    }
    return true;
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
           note_fitness(pass, node_id, r->unfit,
                        row.crowded || !str_eq(row.relief, "none"), err) &&
           (!row.crowded || move_away(pass, &row, err));
}
