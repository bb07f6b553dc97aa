/* machine_plan.h - the one next step for a machine: a pure function.
 *
 * Place:    the rules of machine.h's life, apart from what carries them out.
 * Threads:  any. Times are of the monotonic clock. */
#pragma once
#include "base/base.h"

#define MACHINE_GRACE_NS (60 * NS_PER_S) /* When the record names none. */
#define MACHINE_ASK_AGAIN_NS \
    (3 * NS_PER_S)                     /* A guest that boots misses the first ask. */
#define MACHINE_QUIT_NS (5 * NS_PER_S) /* For QEMU to end by itself. */

enum machine_process {
    PROCESS_NONE,
    PROCESS_STARTING, /* A worker starts it. */
    PROCESS_UP,
    PROCESS_HALTED,   /* The guest shut down; QEMU waits to be ended. */
    PROCESS_PANICKED, /* The guest's kernel died; QEMU waits. */
};

enum machine_step {
    MACHINE_NOTHING,
    MACHINE_START,
    MACHINE_ASK,    /* Press the power button. */
    MACHINE_QUIT,   /* Tell QEMU to end, disks flushed. */
    MACHINE_KILL,   /* End it now. */
    MACHINE_REMOVE, /* Its folder and cgroup. */
    MACHINE_STEPS,
};

struct machine_facts {
    /* Wanted. */
    bool deleted, orphan; /* Orphan: no record; stop it gently, then remove it. */
    bool running, stop_hard;
    int64_t generation, reboot_count, grace_ns; /* grace 0: MACHINE_GRACE_NS. */
    bool inputs_ready;                          /* Disks, ports and blobs are there. */
    bool power_off;                             /* The host goes down. */
    bool leaving;  /* A migration takes it away: not started anew meanwhile. */
    bool arriving; /* A migration brings it, and has not yet. */
    /* Seen. */
    bool given; /* The migration has taken it: what is left is an empty shell. */
    bool tried; /* It was waited for once: there is no second time. */
    enum machine_process process;
    bool qmp_up;               /* QEMU can be spoken to. */
    bool traces;               /* A folder or cgroup is there. */
    int64_t halted_generation; /* It stopped by itself under this; -1: it did not. */
    int64_t reboots_done;
    int64_t retry_at_ns;       /* Do not start before. */
    int64_t stop_began_ns;     /* 0: no stop is under way. */
    int64_t asked_ns, quit_ns; /* When it was last asked, told to quit; 0: not. */
};

/* '*out_wake_ns' is when to plan again though nothing happens; INT64_MAX: never. */
enum machine_step machine_plan(const struct machine_facts *f, int64_t now_ns,
                               int64_t *out_wake_ns);
/* Whether a running machine is being stopped only to start again. */
bool machine_is_rebooting(const struct machine_facts *f);
/* The pause before start number 'failures' + 1. */
int64_t machine_backoff_ns(int64_t failures);
