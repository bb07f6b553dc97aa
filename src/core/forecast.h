/* forecast.h - what a migration will take, said before it begins.
 *
 * Purpose:  how long it takes, how long the guest will stand still, and whether its memory
 *           can be had at all faster than it writes it: by a model of QEMU's pre-copy with
 *           auto-converge, over what is known of the guest and of the way.
 * Place:    core/; forecast_model is pure, forecast_of reads the rows that it stands on.
 * Memory:   the transaction's arena.
 * Threads:  any; the transaction's. */
#pragma once
#include "store/rows.h"
#include "store/store.h"

/* What it stands on. */
struct forecast_basis {
    int64_t memory_bytes; /* To be sent at least once; 0: it is stopped. */
    bool memory_seen;     /* As the host sees it in use; false: all that it may have. */
    int64_t disk_bytes;   /* To be mirrored. */
    int64_t dirty_bps; /* How fast it writes memory, bits a second; 0: not measured. */
    int64_t way_bps;   /* What the way carries, bits a second. */
    const char *way_from; /* Where that is known from, for people. */
    int64_t downtime_limit_ms;
    bool post_copy;
};

enum forecast_end {
    FORECAST_CONVERGES,
    FORECAST_SLOWED,  /* Once QEMU has taken processor time from the guest. */
    FORECAST_FOLLOWS, /* By post-copy: what is left comes after the guest. */
    FORECAST_NEVER,
};

struct forecast {
    struct forecast_basis basis;
    enum forecast_end end;
    int64_t total_ms, downtime_ms; /* Of FORECAST_NEVER: when it will be given up. */
    int64_t slowed_percent;        /* Of its time the guest does not get at the end. */
    int64_t passes;
};

/* The downtime that is asked for when nobody says (the node's own). */
#define FORECAST_DOWNTIME_MS 300
/* QEMU begins to take this much, adds more, and stops at the last. */
#define FORECAST_SLOW_FIRST 20
#define FORECAST_SLOW_STEP 10
#define FORECAST_SLOW_MOST 99
/* What the switch itself takes, beside what is left of the memory: the last question to the
 * control plane, the device state, announcements. */
#define FORECAST_SWITCH_MS 40

void forecast_model(const struct forecast_basis *basis, struct forecast *out);
/* "converges", "slowed", "follows", "never". */
const char *forecast_end_text(enum forecast_end end);
/* One sentence: what is to be moved over what, and where that is known from. */
const char *forecast_text(struct arena *arena, const struct forecast *forecast);

/* ERR_RESOURCE_IN_USE in '*out' for one that never ends: how fast the guest writes, and what
 * the way carries. */
void forecast_refuse(const struct row_instance *inst, const struct forecast *f,
                     struct arena *arena, struct err *out);

struct forecast_ask {
    const char *to_node;
    int64_t bandwidth_bps;     /* Limit of what memory may take; 0: none. */
    int64_t downtime_limit_ms; /* 0: FORECAST_DOWNTIME_MS. */
    int64_t at_once;           /* Moves that share the way; 0: this one has it. */
    bool post_copy;
};
/* Of a move of 'inst' from where it is. The way: what earlier migrations between the two
 * hosts, else of either of them, were seen to carry; else the slower network card; else a
 * gigabit. */
MUST_CHECK bool forecast_of(struct txn *txn, const struct row_instance *inst,
                            const struct forecast_ask *ask, struct forecast *out,
                            struct err *err);
