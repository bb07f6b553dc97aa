/* pump.h - moves bytes between a descriptor and whoever holds the pump.
 *
 * Purpose:  one way to read and write sockets, pipes, terminals (polled) and regular
 *           files (by the loop's workers, with their own offsets), with the holder's
 *           say in how much is read, and a count of what is written. Internal to link/.
 * Owner:    the channel that made it; owns the descriptor.
 * Threads:  the loop's. Callbacks may come from within pump_kick and pump_put, and may
 *           call pump_destroy. */
#pragma once
#include "base/buf.h"
#include <uv.h>

struct pump;

struct pump_ops {
    size_t (*room)(void *ctx); /* Bytes that may be read now; 0: wait for pump_kick. */
    void (*got)(void *ctx, const void *data, size_t len); /* 'len' 0: end of input. */
    void (*wrote)(void *ctx, size_t len);
    void (*failed)(void *ctx, const char *why); /* Nothing more follows. */
};

struct pump_config {
    uv_loop_t *loop;
    const struct pump_ops *ops; /* Constant data, borrowed. */
    void *ctx;
    int fd;         /* Taken, also on failure. */
    int64_t offset; /* Of files. */
    bool read;      /* Reading is wanted. */
};

MUST_CHECK struct pump *pump_create(const struct pump_config *config, struct err *err);
void pump_destroy(struct pump *p); /* NULL is a no-op. */
void pump_kick(struct pump *p);    /* Looks again whether there is room. */
void pump_put(struct pump *p, const void *data, size_t len); /* The holder bounds it. */
void pump_end(struct pump *p); /* No more is put: half-closes once all is written. */
size_t pump_pending(const struct pump *p); /* Put, not yet written. */
