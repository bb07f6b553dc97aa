/* queue.h - objects that deserve a look: each at most once, one look at a time.
 *
 * Purpose:  turns changes (from any thread) into passes run as store transactions; a
 *           pass that fails comes back with growing patience.
 * Place:    control/; knows keys and functions, nothing of what a pass does.
 * Owner:    control.c.
 * Threads:  queue_add from any thread; the rest on the loop's.
 * Failure:  a pass's error is logged here, with its key, and tried again. */
#pragma once
#include "base/world.h"
#include "store/store.h"
#include <uv.h>

struct queue;

/* Runs inside a transaction, on the store's writer thread. */
typedef bool queue_pass_fn(void *ctx, struct txn *txn, const char *key,
                           struct err *err);

struct queue_config {
    uv_loop_t *loop;
    struct store *store;
    queue_pass_fn *pass;
    void *ctx;
};

MUST_CHECK struct queue *queue_create(const struct queue_config *config);
/* Stops taking keys; passes under way end first. 'closed' is called on the loop. */
void queue_close(struct queue *queue, void (*closed)(void *ctx), void *ctx);
/* 'key' is copied; one that is waiting already stays one. */
void queue_add(struct queue *queue, const char *key);
