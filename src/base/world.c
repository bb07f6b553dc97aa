/* world.c - the real clock and random numbers, and those of tests. */
#include "base/world.h"
#include <errno.h>
#include <sys/random.h>
#include <time.h>

static int64_t
read_clock(clockid_t id)
{
    struct timespec ts;
    if (clock_gettime(id, &ts) != 0) {
        abort();
    }
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static int64_t
system_real(void *ctx)
{
    return read_clock(CLOCK_REALTIME);
}

static int64_t
system_mono(void *ctx)
{
    return read_clock(CLOCK_BOOTTIME);
}

const struct clock clock_system = {.real_ns = system_real, .mono_ns = system_mono};

static void
system_fill(void *ctx, void *out, size_t len)
{
    char *p = out;
    while (len) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0 && errno != EINTR) {
            abort();
        }
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        }
    }
}

const struct rng rng_system = {.fill = system_fill};

/* splitmix64 */
static uint64_t
seeded_next(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void
seeded_fill(void *ctx, void *out, size_t len)
{
    for (char *p = out; len;) {
        uint64_t v = seeded_next(ctx);
        size_t n = MIN(len, sizeof v);
        memcpy(p, &v, n);
        p += n;
        len -= n;
    }
}

struct rng
rng_seeded(uint64_t *state)
{
    return (struct rng){.fill = seeded_fill, .ctx = state};
}

static int64_t
manual_now(void *ctx)
{
    return *(const int64_t *)ctx;
}

struct clock
clock_manual(int64_t *now_ns)
{
    return (struct clock){.real_ns = manual_now, .mono_ns = manual_now, .ctx = now_ns};
}

uint64_t
rng_u64(const struct rng *rng)
{
    uint64_t v;
    rng->fill(rng->ctx, &v, sizeof v);
    return v;
}

uint64_t
rng_below(const struct rng *rng, uint64_t n)
{
    /* Values under 2^64 mod n would make the low remainders more likely. */
    uint64_t unfair = (0 - n) % n;
    uint64_t v;
    do {
        v = rng_u64(rng);
    } while (v < unfair);
    return v % n;
}
