/* faults.c - what goes wrong, and when: drawn from the seed. See run.h.
 *
 * Processes are killed between any two events, control plane and agents, agents with and
 * without what they kept of their wants; hosts lose power; networks are cut, and
 * connections reset with what was under way; disks and wires are slow; clocks are off;
 * guests halt, panic and crash; hosts fail to start guests or to make networks; nodes are
 * cordoned, and one may be revoked. */
#include "run.h"
#include "service/moln/api.h"
#include "uv_sim.h"

#define EVERY_MIN_NS (2 * NS_PER_S) /* A run's faults come up to so far apart: */
#define EVERY_MAX_NS (30 * NS_PER_S)
#define LAST_MAX_NS (30 * NS_PER_S) /* A fault lasts up to this... */
#define CUT_MAX_NS \
    (90 * NS_PER_S) /* ...a cut, beyond what streams and leases survive. */

extern const struct service moln_service;

static struct {
    struct run *run;
    unsigned count;
    int64_t every_ns;
    bool may_revoke, ended;
} faults;

static int64_t
lasting(int64_t up_to)
{
    /* Most are short: what happens in the first moments is where the bugs are. */
    return world_percent(CHANCE_FAULTS, 60)
               ? world_between(CHANCE_FAULTS, NS_PER_MS, 3 * NS_PER_S)
               : world_between(CHANCE_FAULTS, NS_PER_MS, up_to);
}

static struct host *
any_host(void)
{
    return faults.run->hosts.items[world_below(CHANCE_FAULTS, faults.run->hosts.count)];
}

static struct guest *
any_guest(void)
{
    struct host *h = any_host();
    struct guest *g = h->guests.count
                          ? h->guests.items[world_below(CHANCE_FAULTS, h->guests.count)]
                          : NULL;
    return g && g->alive ? g : NULL;
}

/* ---- each of them ---------------------------------------------------------------- */

static void
kill_control(void)
{
    int64_t pause = lasting(LAST_MAX_NS);
    trace("fault: control plane killed, for %.3f s", (double)pause / 1e9);
    cloud_kill(&faults.run->cloud, pause);
}

static void
kill_agent(void)
{
    struct host *h = any_host();
    int64_t pause = lasting(LAST_MAX_NS);
    bool forget = world_percent(CHANCE_FAULTS, 25);
    trace("fault: agent of %s killed, for %.3f s%s", h->name, (double)pause / 1e9,
          forget ? "; its wants are lost" : "");
    host_kill_agent(h, pause, forget);
}

static void
crash_control(void)
{
    unsigned calls = (unsigned)world_between(CHANCE_FAULTS, 1, 400);
    trace("fault: control plane crashes in %u calls", calls);
    cloud_crash(&faults.run->cloud, calls, lasting(LAST_MAX_NS));
}

static void
crash_agent(void)
{
    struct host *h = any_host();
    unsigned calls = (unsigned)world_between(CHANCE_FAULTS, 1, 100);
    trace("fault: agent of %s crashes in %u calls", h->name, calls);
    host_crash_agent(h, calls, lasting(LAST_MAX_NS));
}

static void
kill_both(void)
{
    kill_control();
    kill_agent();
}

static void
on_power(void *ctx)
{
    host_power(ctx, true);
}

static void
power_off(void)
{
    struct host *h = any_host();
    int64_t pause = lasting(CUT_MAX_NS);
    trace("fault: %s loses power for %.3f s", h->name, (double)pause / 1e9);
    host_power(h, false);
    (void)world_after(NULL, pause, on_power, h);
}

static void
cut_off(void)
{
    struct host *h = any_host();
    int64_t pause = lasting(CUT_MAX_NS);
    trace("fault: %s is cut off for %.3f s", h->name, (double)pause / 1e9);
    host_cut(h, world_now() + pause);
}

static void
kill_fence(void)
{
    struct host *h = any_host();
    trace("fault: fence of %s killed", h->name);
    host_kill_fence(h);
}

static void
reset(void)
{
    struct host *h = any_host();
    trace("fault: connections of %s are reset", h->name);
    wires_reset(h);
}

static void
on_quick(void *ctx)
{
    uv_sim_speed.work_ns = 5 * NS_PER_MS;
    uv_sim_speed.wire_ns = 2 * NS_PER_MS;
    faults.run->cloud.commit_ns = 5 * NS_PER_MS;
}

static void
slow_disks(void)
{
    uv_sim_speed.work_ns = world_between(CHANCE_FAULTS, 1, 4 * NS_PER_S);
    faults.run->cloud.commit_ns = world_between(CHANCE_FAULTS, 1, 2 * NS_PER_S);
    trace("fault: disks are slow: workers %.3f s, commits %.3f s",
          (double)uv_sim_speed.work_ns / 1e9,
          (double)faults.run->cloud.commit_ns / 1e9);
    (void)world_after(NULL, lasting(LAST_MAX_NS), on_quick, NULL);
}

static void
slow_wires(void)
{
    uv_sim_speed.wire_ns = world_between(CHANCE_FAULTS, 1, 2 * NS_PER_S);
    trace("fault: wires are slow: %.3f s", (double)uv_sim_speed.wire_ns / 1e9);
    (void)world_after(NULL, lasting(LAST_MAX_NS), on_quick, NULL);
}

static void
on_clock_right(void *ctx)
{
    struct host *h = ctx;
    if (h->process) {
        h->process->skew_ns = 0;
    }
}

static void
wrong_clock(void)
{
    struct host *h = any_host();
    if (h->process) {
        h->process->skew_ns = world_between(CHANCE_FAULTS, -50, 50) * NS_PER_S;
        trace("fault: clock of %s is %" PRId64 " s off", h->name,
              h->process->skew_ns / NS_PER_S);
        (void)world_after(NULL, lasting(CUT_MAX_NS), on_clock_right, h);
    }
}

static void
guest_does(void)
{
    struct guest *g = any_guest();
    if (g) {
        switch (world_below(CHANCE_FAULTS, 3)) {
        case 0:
            guest_halt(g);
            break;
        case 1:
            guest_panic(g);
            break;
        default:
            guest_end(g, "fault: the emulator crashed");
        }
    }
}

static void
on_good(void *ctx)
{
    struct host *h = ctx;
    h->bad_starts = h->bad_kernel = false;
}

static void
bad_host(void)
{
    struct host *h = any_host();
    bool starts = world_percent(CHANCE_FAULTS, 50);
    *(starts ? &h->bad_starts : &h->bad_kernel) = true;
    trace("fault: %s fails to %s", h->name, starts ? "start guests" : "make networks");
    (void)world_after(NULL, lasting(LAST_MAX_NS), on_good, h);
}

/* ---- what operators do ----------------------------------------------------------- */

struct look {
    const char *name;
    char id[64];
};

static bool
find_node(struct txn *txn, void *ctx, struct err *err)
{
    struct look *look = ctx;
    struct row_query query = {0};
    struct row_list list;
    if (!row_list(txn, &row_node_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_node *node = list.rows[i];
        if (str_eq(node->name, look->name)) {
            snprintf(look->id, sizeof look->id, "%s", node->id);
        }
    }
    return true;
}

static void *
revoke_ask(struct arena *arena, void *ctx)
{
    const struct host *h = ctx;
    struct moln_revoke_node_request *in =
        ARENA_NEW(arena, struct moln_revoke_node_request);
    in->node_id = arena_strdup(arena, h->node_id);
    return in;
}

static void
revoke_done(void *ctx, const void *out UNUSED, const struct err *err)
{
    if (err->code == ERR_GONE) {
        cloud_call(&faults.run->cloud, &moln_service, "RevokeNode", revoke_ask,
                   revoke_done, ctx);
    }
}

static void
revoke_one(void)
{
    struct host *h = any_host();
    struct look look = {.name = h->name};
    if (!faults.may_revoke || !cloud_is_up(&faults.run->cloud)) {
        return;
    }
    cloud_read(&faults.run->cloud, find_node, &look);
    if (!look.id[0]) {
        return;
    }
    faults.may_revoke = false;
    snprintf(h->node_id, sizeof h->node_id, "%s", look.id);
    trace("fault: %s is revoked", h->name);
    HISTORY(MOMENT_REVOKED, .host = h->number);
    cloud_call(&faults.run->cloud, &moln_service, "RevokeNode", revoke_ask, revoke_done,
               h);
}

static bool
find_running(struct txn *txn, void *ctx, struct err *err)
{
    struct look *look = ctx;
    struct row_query query = {0};
    struct row_list list;
    if (!row_list(txn, &row_instance_type, &query, &list, err)) {
        return false;
    }
    size_t first = list.count ? world_below(CHANCE_FAULTS, list.count) : 0;
    for (size_t i = 0; i < list.count && !look->id[0]; i++) {
        const struct row_instance *inst = list.rows[(first + i) % list.count];
        if (str_eq(inst->want_state, "running") &&
            str_eq(inst->observed_state, "running")) {
            snprintf(look->id, sizeof look->id, "%s", inst->id);
        }
    }
    return true;
}

static void *
migrate_ask(struct arena *arena, void *ctx)
{
    struct moln_start_migration_request *in =
        ARENA_NEW(arena, struct moln_start_migration_request);
    in->instance_id = arena_strdup(arena, ctx);
    return in;
}

static void
migrate_done(void *ctx, const void *out UNUSED, const struct err *err)
{
    trace("migration of %s: %s", (const char *)ctx,
          err->code == ERR_NONE ? "begins" : err->msg);
    free(ctx);
}

static void
migrate(void)
{
    struct look look = {0};
    if (!cloud_is_up(&faults.run->cloud)) {
        return;
    }
    cloud_read(&faults.run->cloud, find_running, &look);
    if (look.id[0]) {
        trace("%s is to be migrated", look.id);
        cloud_call(&faults.run->cloud, &moln_service, "StartMigration", migrate_ask,
                   migrate_done, xstrdup(look.id));
    }
}

/* ---- the plan -------------------------------------------------------------------- */

static const struct fault {
    unsigned weight;
    void (*happen)(void);
} plan[] = {
    {8, kill_control},   {8, kill_agent},   {4, kill_both},   {8, power_off},
    {10, crash_control}, {12, crash_agent}, {12, cut_off},    {10, reset},
    {6, slow_disks},     {6, slow_wires},   {6, wrong_clock}, {12, guest_does},
    {5, bad_host},       {3, kill_fence},   {2, revoke_one},  {25, migrate},
};

static void
on_fault(void *ctx)
{
    unsigned all = 0;
    if (faults.ended) {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(plan); i++) {
        all += plan[i].weight;
    }
    uint64_t roll = world_below(CHANCE_FAULTS, all);
    for (size_t i = 0; i < ARRAY_LEN(plan); i++) {
        if (roll < plan[i].weight) {
            faults.count++;
            plan[i].happen();
            break;
        }
        roll -= plan[i].weight;
    }
    (void)world_after(NULL, world_between(CHANCE_FAULTS, NS_PER_MS, faults.every_ns),
                      on_fault, NULL);
}

void
faults_begin(struct run *run)
{
    faults.run = run;
    faults.may_revoke = world_percent(CHANCE_FAULTS, 20) && run->hosts.count > 1;
    run->cloud.lost_percent = (unsigned)world_below(CHANCE_FAULTS, 10);
    faults.every_ns = world_between(CHANCE_FAULTS, EVERY_MIN_NS, EVERY_MAX_NS);
    (void)world_after(NULL, world_between(CHANCE_FAULTS, NS_PER_MS, EVERY_MIN_NS),
                      on_fault, NULL);
}

void
faults_end(void)
{
    faults.ended = true;
    faults.run->cloud.lost_percent = 0;
    faults.run->cloud.process->crash_in = 0;
    for (size_t i = 0; i < faults.run->hosts.count; i++) {
        struct process *p = faults.run->hosts.items[i]->process;
        if (p) {
            p->crash_in = 0;
        }
    }
}

unsigned
faults_count(void)
{
    return faults.count;
}
