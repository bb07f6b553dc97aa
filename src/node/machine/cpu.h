/* cpu.h - the processors that guests may be given, by name.
 *
 * Purpose:  a guest that moves must find the processor that it knows, on every host. So it
 *           gets a named one, never its host's own: a model of QEMU's, or one of the levels
 *           that distributions build for and QEMU has no model of.
 * Place:    above base/. What a host can offer of them: offer.h; which one a guest gets is
 *           for the control plane to say.
 * Threads:  any; constant data. */
#pragma once
#include "base/arena.h"

/* A level: a QEMU model and what is added to it. */
struct cpu_level {
    const char *name;  /* "x86-64-v3" */
    const char *model; /* "Nehalem" */
    const char *const *flags;
    size_t flag_count;
};
extern const struct cpu_level cpu_levels[];
extern const size_t cpu_level_count;

/* QEMU's word for the processor: the option of -cpu, which QEMU refuses to start with where
 * the host lacks a flag of it. In 'arena'. */
const char *cpu_option(struct arena *arena, const char *name);
