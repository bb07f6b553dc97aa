/* faults.c - what goes wrong, and when: drawn from the seed. See run.h.
 *
 * Processes are killed between any two events, control plane and agents, agents with and
 * without what they kept of their wants; hosts lose power; networks are cut, and
 * connections reset with what was under way; disks and wires are slow; clocks are off;
 * guests halt, panic and crash; hosts fail to start guests or to make networks; processes
 * stand still; the database that several share is away, and does not answer commits. What
 * operators do all the while is operators.c's. Who moves has no luck: some faults look for
 * a guest that is on its way. */
#include "database.h"
#include "operators.h"
#include "run.h"
#include "uv_sim.h"

#define EVERY_MIN_NS (2 * NS_PER_S) /* A run's faults come up to so far apart: */
#define EVERY_MAX_NS (30 * NS_PER_S)
#define LAST_MAX_NS (30 * NS_PER_S) /* A fault lasts up to this... */
#define STOP_MAX_NS (40 * NS_PER_S)
#define CUT_MAX_NS \
    (90 * NS_PER_S) /* ...a cut, beyond what streams and leases survive. */

static struct {
    struct run *run;
    unsigned count;
    int64_t every_ns;
    bool ended;
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

/* Up or down. */
static struct seat *
any_seat(void)
{
    struct cloud *c = &faults.run->cloud;
    return &c->seats[c->seat_count > 1 ? world_below(CHANCE_FAULTS, c->seat_count) : 0];
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
    struct seat *s = any_seat();
    int64_t pause = lasting(LAST_MAX_NS);
    trace("fault: %s killed, for %.3f s", s->id, (double)pause / 1e9);
    seat_kill(s, pause);
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
    struct seat *s = any_seat();
    unsigned calls = (unsigned)world_between(CHANCE_FAULTS, 1, 400);
    trace("fault: %s crashes in %u calls", s->id, calls);
    seat_crash(s, calls, lasting(LAST_MAX_NS));
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

/* It takes nothing and says nothing, for longer than leases last; then it goes on as if no
 * time had passed. */
static void
stop_process(void)
{
    bool control = world_percent(CHANCE_FAULTS, 50);
    struct process *p = control ? any_seat()->process : any_host()->process;
    int64_t pause = lasting(STOP_MAX_NS);
    if (p && !p->dead) {
        trace("fault: %s stands still for %.3f s", p->name, (double)pause / 1e9);
        process_stop(p, world_now() + pause);
    }
}

static void
lose_database(void)
{
    int64_t pause = lasting(LAST_MAX_NS);
    if (faults.run->cloud.seat_count > 1) {
        trace("fault: the database is away for %.3f s", (double)pause / 1e9);
        database_away(world_now() + pause);
    }
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

/* Of its host, or of the one that its memory comes from or goes to. */
static struct guest *
any_moving(void)
{
    size_t first = world_below(CHANCE_FAULTS, faults.run->hosts.count);
    for (size_t n = 0; n < faults.run->hosts.count; n++) {
        const struct host *h =
            faults.run->hosts.items[(first + n) % faults.run->hosts.count];
        for (size_t i = 0; i < h->guests.count; i++) {
            struct guest *g = h->guests.items[i];
            if (g->alive && (g->follow || g->incoming || g->standing)) {
                return g;
            }
        }
    }
    return NULL;
}

static void
strike_who_moves(void)
{
    struct guest *g = any_moving();
    if (!g) {
        return;
    }
    struct host *h = g->host;
    int64_t pause = lasting(LAST_MAX_NS);
    trace("fault: on the way of %s, at %s", g->id, h->name);
    switch (world_below(CHANCE_FAULTS, 5)) {
    case 0:
        host_kill_agent(h, pause, world_percent(CHANCE_FAULTS, 25));
        break;
    case 1:
        host_crash_agent(h, (unsigned)world_between(CHANCE_FAULTS, 1, 60), pause);
        break;
    case 2:
        host_cut(h, world_now() + pause);
        break;
    case 3:
        kill_control();
        break;
    default:
        guest_end(g, "fault: the emulator crashed");
    }
}

/* ---- the plan -------------------------------------------------------------------- */

static const struct fault {
    unsigned weight;
    void (*happen)(void);
} plan[] = {
    {8, kill_control},   {8, kill_agent},        {4, kill_both},    {8, power_off},
    {10, crash_control}, {12, crash_agent},      {12, cut_off},     {10, reset},
    {6, slow_disks},     {6, slow_wires},        {6, wrong_clock},  {12, guest_does},
    {5, bad_host},       {3, kill_fence},        {6, stop_process}, {5, lose_database},
    {40, operators_act}, {30, strike_who_moves},
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
    operators_begin(run);
    if (world_percent(CHANCE_FAULTS, 30)) {
        database_breaks((unsigned)world_between(CHANCE_FAULTS, 1, 10));
    }
    run->cloud.lost_percent = (unsigned)world_below(CHANCE_FAULTS, 10);
    faults.every_ns = world_between(CHANCE_FAULTS, EVERY_MIN_NS, EVERY_MAX_NS);
    (void)world_after(NULL, world_between(CHANCE_FAULTS, NS_PER_MS, EVERY_MIN_NS),
                      on_fault, NULL);
}

void
faults_end(void)
{
    faults.ended = true;
    database_breaks(0);
    operators_end();
    faults.run->cloud.lost_percent = 0;
    for (unsigned i = 0; i < faults.run->cloud.seat_count; i++) {
        if (faults.run->cloud.seats[i].process) {
            faults.run->cloud.seats[i].process->crash_in = 0;
        }
    }
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
