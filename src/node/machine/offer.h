/* offer.h - what this host's QEMU offers to guests that may move: machine types and
 * processors, by names that mean the same on every host.
 *
 * Purpose:  the control plane picks for a zone what all of its hosts can give.
 * Place:    above base/, cpu.h and accel.h. Starts a QEMU without a machine, asks it by QMP
 *           and ends it; main/ does so once, in a worker, while the agent starts.
 * Threads:  any; offer_end blocks, for OFFER_NS at most.
 * Failure:  a QEMU that does not answer offers nothing: the node says nothing then. */
#pragma once
#include "base/arena.h"

#define OFFER_NS (15 * NS_PER_S)

struct offer {
    const char *qemu_version;   /* "7.2.22" */
    const char **machine_types; /* "pc-q35-7.2", the newest first; a few. */
    size_t machine_type_count;
    const char *
        *cpu_models; /* Those that the host can give whole; cpu.h's levels too. */
    size_t cpu_model_count;
};

/* A QEMU that is being asked. */
struct offer_ask {
    int fd; /* -1: none could be started. */
    pid_t pid;
};
/* Starts it; returns at once. */
struct offer_ask offer_begin(bool kvm);
/* What it said; lives in 'arena'. Always ends it. */
MUST_CHECK bool offer_end(struct offer_ask *ask, struct arena *arena, struct offer *out,
                          struct err *err);

/* What a QEMU's answers to offer_questions() say: one JSON object a line. */
MUST_CHECK bool offer_read(const char *text, struct arena *arena, struct offer *out,
                           struct err *err);
