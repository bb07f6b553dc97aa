/* world.h - the simulated world: one clock, one line of events, one source of chance.
 *
 * Purpose:  runs everything that happens in one process, one thing at a time, in an order
 *           and at times that follow from a seed. What happens at the same moment happens
 *           in an order drawn from the seed too.
 * Place:    the ground floor of the simulation. The code under test meets it as libuv
 *           (uv_loop.c, uv_stream.c), as a clock and as random numbers.
 * Process:  what can be killed: a loop with a clock of its own. Of a dead one no event is
 *           carried out any more; its memory stays as it was, as nobody's.
 * Threads:  one. */
#pragma once
#include "base/map.h"
#include "base/world.h"
#include <uv.h>

struct host;
struct event;
struct wire;

struct process {
    uv_loop_t loop;
    char name[40];
    bool dead;
    struct host *host;        /* NULL: the control plane's. */
    int64_t skew_ns;          /* Its wall clock less the world's. */
    struct clock clock;       /* What the code in it is handed. */
    VEC(struct wire *) wires; /* Connections it holds (uv_stream.c). */
    int64_t stopped_until_ns; /* Until then nothing of it happens; then all of it. */
    unsigned crash_in; /* Dies within so many calls to the outside; 0: does not. */
    void (*crashed)(struct process *process); /* It did: in nobody's name. */
    void *about;                              /* Whoever made it. */
};

/* Chance has streams of its own, so that a fault more does not change every id. */
enum chance { CHANCE_ORDER, CHANCE_IDS, CHANCE_FAULTS, CHANCE_TENANT, CHANCES };

void world_begin(uint64_t seed);
int64_t world_now(void);  /* Monotonic; begins well above zero. */
int64_t world_real(void); /* The true wall clock. */

/* ---- chance ---------------------------------------------------------------------- */

const struct rng *world_rng(enum chance which);
uint64_t world_below(enum chance which, uint64_t n); /* In [0, n). */
bool world_percent(enum chance which, unsigned percent);
int64_t world_between(enum chance which, int64_t low, int64_t high); /* Inclusive. */

/* ---- events ---------------------------------------------------------------------- */

typedef void event_fn(void *ctx);
/* 'process' NULL: happens whoever has died. The event is freed once it happened. */
struct event *world_after(struct process *process, int64_t delay_ns, event_fn *fn,
                          void *ctx);
void world_cancel(struct event *event); /* NULL is a no-op. */
/* The next event; false when there is none before 'until_ns' (the clock then stands
 * there). */
bool world_step(int64_t until_ns);
uint64_t world_events(void);      /* That happened so far. */
uint64_t world_fingerprint(void); /* Of their order and times: the same in a replay. */

/* ---- processes ------------------------------------------------------------------- */

MUST_CHECK struct process *process_start(const char *name, struct host *host);
/* At once, between two events. Its connections are reset, unless the host went silent. */
void process_kill(struct process *process, bool silent);
/* It stands still, and knows of it only by its clocks. */
void process_stop(struct process *process, int64_t until_ns);
bool process_is_stopped(const struct process *process);
/* Runs 'fn' now, in the process' name. */
void process_run(struct process *process, event_fn *fn, void *ctx);
/* The code under test calls outside: where it may be killed in the middle of an event,
 * between two of its instructions. Does not return then. */
void process_calls(void);
struct process *process_of(const uv_loop_t *loop);
struct process *process_now(void); /* Whose event is under way; NULL: the world's. */

/* ---- telling --------------------------------------------------------------------- */

/* One line of the trace, with time and process, when it is asked for. */
void trace(const char *fmt, ...) PRINTF_LIKE(1, 2);
void trace_on(bool with_logs);
bool trace_is_on(void);
/* The simulation itself is at fault: says so and ends the program. */
NORETURN void sim_abort(const char *fmt, ...) PRINTF_LIKE(1, 2);
