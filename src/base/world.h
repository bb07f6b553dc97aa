/* world.h - what lies outside a process, as arguments: time and chance.
 *
 * Purpose:  nothing below main/ reads a clock or a random number except through these, so
 *           that tests and the simulation can set both.
 * Owner:    main/ or the test makes one and lends it; borrowed everywhere else.
 * Threads:  the real ones are safe on any thread. */
#pragma once
#include "base/base.h"

struct clock {
    int64_t (*real_ns)(void *ctx); /* Since 1970-01-01 UTC; may step. */
    int64_t (*mono_ns)(void *ctx); /* CLOCK_BOOTTIME: never steps back, counts sleep. */
    void *ctx;
};

struct rng {
    void (*fill)(void *ctx, void *out, size_t len); /* Cryptographic in the real one. */
    void *ctx;
};

extern const struct clock clock_system;
extern const struct rng rng_system;

/* A repeatable generator for tests: 'state' is the seed and is advanced. */
struct rng rng_seeded(uint64_t *state);
/* A clock that stands where '*now_ns' says, for both readings. */
struct clock clock_manual(int64_t *now_ns);

static inline int64_t
clock_real(const struct clock *c)
{
    return c->real_ns(c->ctx);
}

static inline int64_t
clock_mono(const struct clock *c)
{
    return c->mono_ns(c->ctx);
}

uint64_t rng_u64(const struct rng *rng);
uint64_t rng_below(const struct rng *rng, uint64_t n); /* Uniform in [0, n); n > 0. */
