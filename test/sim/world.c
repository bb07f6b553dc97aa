/* world.c - see world.h. */
#include "world.h"

#include "base/log.h"
#include "host.h"
#include "uv_sim.h"

#include <setjmp.h>

#define BEGIN_NS (1000 * NS_PER_S)
#define EPOCH_NS (INT64_C(1800000000) * NS_PER_S)

struct event {
    int64_t at_ns;
    uint64_t order; /* Among those of one moment: drawn. */
    size_t index;   /* In the heap. */
    struct process *process;
    event_fn *fn;
    void *ctx;
};

static struct {
    int64_t now_ns;
    uint64_t states[CHANCES];
    struct rng rngs[CHANCES];
    VEC(struct event *) heap;
    struct process *current;
    jmp_buf *way_out; /* Of the event under way, when its process dies in it. */
    uint64_t events, fingerprint;
    bool trace;
} world;

/* ---- chance ---------------------------------------------------------------------- */

const struct rng *
world_rng(enum chance which)
{
    return &world.rngs[which];
}

uint64_t
world_below(enum chance which, uint64_t n)
{
    return rng_below(&world.rngs[which], n);
}

bool
world_percent(enum chance which, unsigned percent)
{
    return world_below(which, 100) < percent;
}

int64_t
world_between(enum chance which, int64_t low, int64_t high)
{
    return low + (int64_t)world_below(which, (uint64_t)(high - low) + 1);
}

/* ---- the heap -------------------------------------------------------------------- */

static bool
before(const struct event *a, const struct event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void
heap_set(size_t index, struct event *event)
{
    world.heap.items[index] = event;
    event->index = index;
}

static void
sift_up(size_t i)
{
    struct event *event = world.heap.items[i];
    for (; i > 0 && before(event, world.heap.items[(i - 1) / 2]); i = (i - 1) / 2) {
        heap_set(i, world.heap.items[(i - 1) / 2]);
    }
    heap_set(i, event);
}

static void
sift_down(size_t i)
{
    struct event *event = world.heap.items[i];
    for (size_t child; (child = 2 * i + 1) < world.heap.count; i = child) {
        if (child + 1 < world.heap.count &&
            before(world.heap.items[child + 1], world.heap.items[child])) {
            child++;
        }
        if (!before(world.heap.items[child], event)) {
            break;
        }
        heap_set(i, world.heap.items[child]);
    }
    heap_set(i, event);
}

static void
heap_remove(struct event *event)
{
    size_t i = event->index;
    struct event *last = world.heap.items[--world.heap.count];
    if (last != event) {
        heap_set(i, last);
        sift_up(i);
        sift_down(last->index);
    }
}

struct event *
world_after(struct process *process, int64_t delay_ns, event_fn *fn, void *ctx)
{
    struct event *event = xcalloc(1, sizeof *event);
    event->at_ns = world.now_ns + MAX(delay_ns, 0);
    event->order = rng_u64(&world.rngs[CHANCE_ORDER]);
    event->process = process;
    event->fn = fn;
    event->ctx = ctx;
    VEC_PUSH(&world.heap, event);
    event->index = world.heap.count - 1;
    sift_up(event->index);
    return event;
}

void
world_cancel(struct event *event)
{
    if (event) {
        heap_remove(event);
        free(event);
    }
}

/* What happens to a process that stands still waits for it to go on. */
static bool
put_off(struct event *event)
{
    const struct process *p = event->process;
    if (!p || p->dead || !process_is_stopped(p)) {
        return false;
    }
    event->at_ns = p->stopped_until_ns;
    sift_down(event->index);
    return true;
}

bool
world_step(int64_t until_ns)
{
    if (world.heap.count == 0 || world.heap.items[0]->at_ns > until_ns) {
        world.now_ns = MAX(world.now_ns, until_ns);
        return false;
    }
    struct event *event = world.heap.items[0];
    world.now_ns = event->at_ns;
    if (put_off(event)) {
        return true;
    }
    heap_remove(event);
    if (!event->process || !event->process->dead) {
        world.events++;
        world.fingerprint =
            (world.fingerprint ^ (uint64_t)event->at_ns ^ event->order) *
            UINT64_C(0x100000001b3);
        process_run(event->process, event->fn, event->ctx);
    }
    free(event);
    return true;
}

uint64_t
world_events(void)
{
    return world.events;
}

uint64_t
world_fingerprint(void)
{
    return world.fingerprint;
}

/* ---- time ------------------------------------------------------------------------ */

int64_t
world_now(void)
{
    return world.now_ns;
}

int64_t
world_real(void)
{
    return EPOCH_NS + world.now_ns - BEGIN_NS;
}

static int64_t
process_real(void *ctx)
{
    return world_real() + ((const struct process *)ctx)->skew_ns;
}

static int64_t
process_mono(void *ctx)
{
    const struct process *p = ctx;
    return p->host ? host_mono(p->host) : world.now_ns;
}

void
world_begin(uint64_t seed)
{
    struct rng seeds = rng_seeded(&seed);
    world.now_ns = BEGIN_NS;
    for (size_t i = 0; i < CHANCES; i++) {
        world.states[i] = rng_u64(&seeds);
        world.rngs[i] = rng_seeded(&world.states[i]);
    }
}

/* ---- processes ------------------------------------------------------------------- */

struct process *
process_start(const char *name, struct host *host)
{
    struct process *p = xcalloc(1, sizeof *p);
    snprintf(p->name, sizeof p->name, "%s", name);
    p->host = host;
    p->clock =
        (struct clock){.real_ns = process_real, .mono_ns = process_mono, .ctx = p};
    return p;
}

void
process_kill(struct process *p, bool silent)
{
    p->dead = true;
    wires_of_dead(p, silent);
}

void
process_stop(struct process *p, int64_t until_ns)
{
    p->stopped_until_ns = until_ns;
}

bool
process_is_stopped(const struct process *p)
{
    return world.now_ns < p->stopped_until_ns;
}

void
process_run(struct process *p, event_fn *fn, void *ctx)
{
    struct process *before = world.current;
    jmp_buf here, *outer = world.way_out;
    world.way_out = &here;
    world.current = p;
    bool crashed = setjmp(here) != 0;
    if (!crashed) {
        fn(ctx);
    }
    world.current = before;
    world.way_out = outer;
    if (crashed) {
        p->crashed(p);
    }
}

void
process_calls(void)
{
    struct process *p = world.current;
    if (p && p->crash_in && --p->crash_in == 0) {
        trace("dies in the middle of it");
        longjmp(*world.way_out, 1);
    }
}

struct process *
process_of(const uv_loop_t *loop)
{
    return CONTAINER_OF(loop, struct process, loop);
}

struct process *
process_now(void)
{
    return world.current;
}

/* ---- telling --------------------------------------------------------------------- */

void
trace_on(bool with_logs)
{
    world.trace = true;
    if (with_logs) {
        log_init("log", LOG_DEBUG, 1);
    }
}

bool
trace_is_on(void)
{
    return world.trace;
}

void
trace(const char *fmt, ...)
{
    if (!world.trace) {
        return;
    }
    va_list args;
    int64_t us = (world.now_ns - BEGIN_NS) / NS_PER_US;
    printf("%8" PRId64 ".%06" PRId64 " %-8s ", us / 1000000, us % 1000000,
           world.current ? world.current->name : "world");
    va_start(args, fmt);
    (void)vprintf(fmt, args);
    va_end(args);
    (void)putchar('\n');
    (void)fflush(stdout);
}

void
sim_abort(const char *fmt, ...)
{
    va_list args;
    (void)fflush(stdout);
    fprintf(stderr, "sim: ");
    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\n");
    abort();
}
