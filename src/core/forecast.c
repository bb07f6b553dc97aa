/* forecast.c - see forecast.h. */
#include "core/forecast.h"

#include "core/instance_rows.h"

#define PASSES_MAX 60
#define GUESS_BPS INT64_C(1000000000)
/* Of a network card's own speed, after frames, TLS and whoever else is on it. */
#define CARD_PART 0.8

/* ---- the model --------------------------------------------------------------------------- */

/* One pass over the memory: sends 'left', leaves what was written meanwhile. QEMU looks
 * after each: twice in a row more than half written again of what was sent, and it slows the
 * guest down, or more than before. */
struct run {
    double left, way, dirty, memory; /* Bytes, and bytes a second. */
    double seconds;
    int64_t slowed, behind;
};

static void
pass(struct run *r)
{
    double took = r->left / r->way;
    double written = r->dirty * (1 - (double)r->slowed / 100) * took;
    bool behind = written > r->left / 2;
    r->seconds += took;
    r->left = MIN(written, r->memory);
    r->behind = behind ? r->behind + 1 : 0;
    if (r->behind >= 2 && r->slowed < FORECAST_SLOW_MOST) {
        r->slowed = r->slowed ? MIN(r->slowed + FORECAST_SLOW_STEP, FORECAST_SLOW_MOST)
                              : FORECAST_SLOW_FIRST;
        r->behind = 0;
    }
}

/* Bounded: of a way that carries next to nothing it would be no number. */
static int64_t
milliseconds(double seconds)
{
    return (int64_t)(MIN(seconds, 1e12) * 1000);
}

void
forecast_model(const struct forecast_basis *basis, struct forecast *out)
{
    double way = (double)MAX(basis->way_bps, 1) / 8;
    double limit_s = (double)basis->downtime_limit_ms / 1000;
    struct run r = {.left = (double)basis->memory_bytes,
                    .way = way,
                    .dirty = (double)basis->dirty_bps / 8,
                    .memory = (double)basis->memory_bytes,
                    .seconds = (double)basis->disk_bytes / way};
    bool fits;
    *out = (struct forecast){.basis = *basis};
    do {
        pass(&r);
        out->passes++;
        fits = r.left / way <= limit_s;
    } while (!fits && out->passes < PASSES_MAX);
    out->slowed_percent = r.slowed;
    out->end = !fits ? FORECAST_NEVER : r.slowed ? FORECAST_SLOWED : FORECAST_CONVERGES;
    if (!fits && basis->post_copy) { /* What is left follows the guest. */
        out->end = FORECAST_FOLLOWS;
        r.seconds += r.left / way;
        r.left = 0;
    }
    out->downtime_ms = basis->memory_bytes == 0
                           ? 0 /* No guest runs. */
                           : milliseconds(r.left / way) + FORECAST_SWITCH_MS;
    out->total_ms = milliseconds(r.seconds) + out->downtime_ms;
}

/* ---- in words ------------------------------------------------------------------------------ */

const char *
forecast_end_text(enum forecast_end end)
{
    static const char *const texts[] = {
        [FORECAST_CONVERGES] = "converges",
        [FORECAST_SLOWED] = "slowed",
        [FORECAST_FOLLOWS] = "follows",
        [FORECAST_NEVER] = "never",
    };
    return texts[end];
}

static const char *
rate_text(struct arena *arena, int64_t bps)
{
    return bps >= 1000000000 ? arena_printf(arena, "%.1f Gbit/s", (double)bps / 1e9)
                             : arena_printf(arena, "%.0f Mbit/s", (double)bps / 1e6);
}

const char *
forecast_text(struct arena *arena, const struct forecast *f)
{
    const struct forecast_basis *b = &f->basis;
    const char *dirty =
        b->dirty_bps > 0
            ? arena_printf(arena, "written at %s", rate_text(arena, b->dirty_bps))
            : "of which nobody has measured yet how fast it is written";
    if (b->memory_bytes == 0) {
        return arena_printf(arena, "stopped: %.0f MiB of disks, over %s (%s)",
                            (double)b->disk_bytes / (double)MIB,
                            rate_text(arena, b->way_bps), b->way_from);
    }
    return arena_printf(
        arena, "%.0f MiB of memory %s, %s, and %.0f MiB of disks, over %s (%s)",
        (double)b->memory_bytes / (double)MIB, b->memory_seen ? "in use" : "at most",
        dirty, (double)b->disk_bytes / (double)MIB, rate_text(arena, b->way_bps),
        b->way_from);
}

void
forecast_refuse(const struct row_instance *inst, const struct forecast *f,
                struct arena *arena, struct err *out)
{
    const struct forecast_basis *b = &f->basis;
    if (f->end == FORECAST_NEVER) {
        err_set(
            out, ERR_RESOURCE_IN_USE,
            "%s writes its memory at %s, and the way there carries %s (%s): the "
            "move would not end within %" PRId64
            " ms of standing still, not even with %d %% of its time taken from it. "
            "Wait until it writes less, allow a longer downtime, let its memory follow "
            "it (post-copy), or force it",
            inst->id, rate_text(arena, b->dirty_bps), rate_text(arena, b->way_bps),
            b->way_from, b->downtime_limit_ms, FORECAST_SLOW_MOST);
    }
}

/* ---- what is known --------------------------------------------------------------------------- */

static bool
guest_basis(struct txn *txn, const struct row_instance *inst,
            struct forecast_basis *out, struct err *err)
{
    const struct row_node_use key = {.id = inst->node_id};
    const struct row_node_use *use;
    if (str_eq(inst->want_state, "stopped")) {
        return true;
    }
    out->memory_bytes = inst->memory_bytes;
    if (!row_get(txn, &row_node_use_type, &key, (const void **)&use, err)) {
        return false;
    }
    for (size_t i = 0; use && i < use->machines.count; i++) {
        const struct row_machine_use *m = &use->machines.items[i];
        if (!str_eq(m->id, inst->id)) {
            continue;
        }
        out->dirty_bps = m->dirty_bps;
        if (m->memory_bytes > 0 && m->memory_bytes < inst->memory_bytes) {
            out->memory_bytes = m->memory_bytes;
            out->memory_seen = true;
        }
    }
    return true;
}

static bool
disk_basis(struct txn *txn, const struct row_instance *inst, struct forecast_basis *out,
           struct err *err)
{
    struct row_list list;
    if (!instance_volumes(txn, inst->account, inst->id, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_volume *volume = list.rows[i];
        const struct row_disk_seen key = {.id = volume->id};
        const struct row_disk_seen *seen;
        if (!row_get(txn, &row_disk_seen_type, &key, (const void **)&seen, err)) {
            return false;
        }
        if (str_empty(volume->pool)) { /* A shared one stays where it is. */
            out->disk_bytes += seen ? seen->used_bytes : 0;
        }
    }
    return true;
}

/* What migrations carried: the newest between the two hosts, else of either of them. */
static bool
way_seen(struct txn *txn, const char *from, const char *to, struct forecast_basis *out,
         struct err *err)
{
    const struct row_migration prefix = {.state = "done"};
    const struct row_query query = {
        .index = "by_state", .prefix = &prefix, .prefix_fields = 1};
    struct row_list list;
    int64_t newest[2] = {0}; /* Of the same way; of one of its ends. */
    if (!row_list(txn, &row_migration_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_migration *m = list.rows[i];
        bool same = (str_eq(m->from_node, from) && str_eq(m->to_node, to)) ||
                    (str_eq(m->from_node, to) && str_eq(m->to_node, from));
        bool near = str_eq(m->from_node, from) || str_eq(m->to_node, to);
        int which = same ? 0 : 1;
        if (m->copy_bps <= 0 || m->bandwidth_bps > 0 || (!same && !near) ||
            m->ended_at <= newest[which] || (which == 1 && newest[0])) {
            continue;
        }
        newest[which] = m->ended_at;
        out->way_bps = m->copy_bps * MAX(m->at_once, 1); /* As if it had been alone. */
        out->way_from = same
                            ? "as the last migration between these hosts was seen to"
                            : "as the last migration of one of these hosts was seen to";
    }
    return true;
}

/* The fastest card of a host, as its link is; 0: not known. */
static bool
card_bps(struct txn *txn, const char *node_id, int64_t *out, struct err *err)
{
    const struct row_node_hardware key = {.id = node_id};
    const struct row_node_hardware *row;
    if (!row_get(txn, &row_node_hardware_type, &key, (const void **)&row, err)) {
        return false;
    }
    *out = 0;
    for (size_t i = 0; row && i < row->nics.count; i++) {
        *out = MAX(*out, row->nics.items[i].speed_mbps * 1000000);
    }
    return true;
}

static bool
way_basis(struct txn *txn, const char *from, const char *to, struct forecast_basis *out,
          struct err *err)
{
    int64_t here, there;
    if (!way_seen(txn, from, to, out, err) || !card_bps(txn, from, &here, err) ||
        !card_bps(txn, to, &there, err)) {
        return false;
    }
    if (out->way_bps > 0) {
        return true;
    }
    bool known = here > 0 && there > 0;
    out->way_bps = known ? (int64_t)((double)MIN(here, there) * CARD_PART) : GUESS_BPS;
    out->way_from = known ? "four fifths of the slower network card"
                          : "a guess: nothing was moved there yet, and the network "
                            "cards do not tell";
    return true;
}

bool
forecast_of(struct txn *txn, const struct row_instance *inst,
            const struct forecast_ask *ask, struct forecast *out, struct err *err)
{
    struct forecast_basis basis = {
        .downtime_limit_ms =
            ask->downtime_limit_ms ? ask->downtime_limit_ms : FORECAST_DOWNTIME_MS,
        .post_copy = ask->post_copy,
    };
    if (!guest_basis(txn, inst, &basis, err) || !disk_basis(txn, inst, &basis, err) ||
        !way_basis(txn, inst->node_id, ask->to_node, &basis, err)) {
        return false;
    }
    if (ask->at_once > 1) {
        basis.way_bps /= ask->at_once;
        basis.way_from =
            arena_printf(txn_arena(txn), "its part when %" PRId64 " share it; %s",
                         ask->at_once, basis.way_from);
    }
    if (ask->bandwidth_bps > 0 && ask->bandwidth_bps < basis.way_bps) {
        basis.way_bps = ask->bandwidth_bps;
        basis.way_from = "as asked for";
    }
    forecast_model(&basis, out);
    return true;
}
