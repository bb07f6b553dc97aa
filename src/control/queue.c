/* queue.c - see queue.h. */
#include "control/queue.h"

#include "base/log.h"
#include "base/map.h"

#include <pthread.h>

#define QUEUE_AT_ONCE 256 /* Passes that the store has at a time. */
#define QUEUE_FIRST_WAIT_MS 100
#define QUEUE_LAST_WAIT_MS 30000

struct item {
    struct queue *queue;
    char *key;
    bool waiting; /* In the line, or resting. */
    bool running; /* A pass is under way... */
    bool again;   /* ...and something changed meanwhile. */
    unsigned failures;
    uint64_t not_before_ms; /* By uv_now. */
    struct arena *arena;
    struct err err;
    struct item *next; /* In the line, or among the done. */
};

struct queue {
    struct queue_config config;
    pthread_mutex_t lock; /* Guards 'incoming' and 'done'. */
    VEC(char *) incoming;
    struct item *done;

    struct map *items;          /* By key; loop thread only, as all below. */
    struct item *first, **last; /* The line: they start as soon as they may. */
    VEC(struct item *) resting; /* After a failure, until their time. */
    size_t running;
    uv_async_t wake;
    uv_timer_t timer;
    bool closing;
    unsigned handles;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static void queue_turn(struct queue *queue);

static void
item_destroy(void *value)
{
    struct item *item = value;
    arena_destroy(item->arena);
    free(item->key);
    free(item);
}

static void
on_wake(uv_async_t *handle)
{
    queue_turn(handle->data);
}

static void
on_timer(uv_timer_t *handle)
{
    queue_turn(handle->data);
}

struct queue *
queue_create(const struct queue_config *config)
{
    struct queue *q = xcalloc(1, sizeof *q);
    q->config = *config;
    pthread_mutex_init(&q->lock, NULL);
    q->items = map_create(item_destroy);
    q->last = &q->first;
    uv_async_init(config->loop, &q->wake, on_wake);
    uv_timer_init(config->loop, &q->timer);
    q->wake.data = q->timer.data = q;
    q->handles = 2;
    return q;
}

void
queue_add(struct queue *q, const char *key)
{
    pthread_mutex_lock(&q->lock);
    VEC_PUSH(&q->incoming, xstrdup(key));
    pthread_mutex_unlock(&q->lock);
    uv_async_send(&q->wake);
}

static bool
item_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct item *item = ctx;
    return item->queue->config.pass(item->queue->config.ctx, txn, item->key, err);
}

/* On the writer thread: only notes the outcome. */
static void
item_done(void *ctx, const struct err *err)
{
    struct item *item = ctx;
    struct queue *q = item->queue;
    item->err = *err;
    pthread_mutex_lock(&q->lock);
    item->next = q->done;
    q->done = item;
    pthread_mutex_unlock(&q->lock);
    uv_async_send(&q->wake);
}

static void
line_put(struct queue *q, struct item *item)
{
    item->next = NULL;
    *q->last = item;
    q->last = &item->next;
}

static void
item_enqueue(struct queue *q, struct item *item)
{
    if (item->running) {
        item->again = true;
    } else if (!item->waiting) {
        item->waiting = true;
        if (item->not_before_ms > uv_now(q->config.loop)) {
            VEC_PUSH(&q->resting, item);
        } else {
            line_put(q, item);
        }
    }
}

static void
queue_take_incoming(struct queue *q)
{
    VEC(char *) keys = {0};
    pthread_mutex_lock(&q->lock);
    keys.items = q->incoming.items;
    keys.count = q->incoming.count;
    q->incoming.items = NULL;
    q->incoming.count = q->incoming.cap = 0;
    pthread_mutex_unlock(&q->lock);
    for (size_t i = 0; i < keys.count; i++) {
        struct item *item = map_get(q->items, keys.items[i]);
        if (!item && !q->closing) {
            item = xcalloc(1, sizeof *item);
            item->queue = q;
            item->key = xstrdup(keys.items[i]);
            map_put(q->items, item->key, item);
        }
        if (item && !q->closing) {
            item->not_before_ms = 0; /* News is worth a look at once. */
            item_enqueue(q, item);
        }
        free(keys.items[i]);
    }
    free(keys.items);
}

static void
item_settle(struct queue *q, struct item *item)
{
    item->running = false;
    q->running--;
    arena_destroy(item->arena);
    item->arena = NULL;
    bool again = item->again;
    item->again = false;
    if (item->err.code != ERR_NONE) {
        unsigned wait = QUEUE_FIRST_WAIT_MS << MIN(item->failures, 9u);
        item->not_before_ms = uv_now(q->config.loop) + MIN(wait, QUEUE_LAST_WAIT_MS);
        item->failures++;
        log_warn("control: %s: %s", item->key, item->err.msg);
        again = true;
    } else {
        item->failures = 0;
    }
    if (again && !q->closing) {
        item_enqueue(q, item);
    } else {
        map_del(q->items, item->key);
    }
}

static void
queue_take_done(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    struct item *done = q->done;
    q->done = NULL;
    pthread_mutex_unlock(&q->lock);
    while (done) {
        struct item *next = done->next;
        item_settle(q, done);
        done = next;
    }
}

/* Those whose time has come, or that there is news of, join the line; returns how long
 * the next of the others has to wait, or 0. */
static uint64_t
queue_wake_resting(struct queue *q)
{
    uint64_t now = uv_now(q->config.loop), wait = 0;
    size_t kept = 0;
    for (size_t i = 0; i < q->resting.count; i++) {
        struct item *item = q->resting.items[i];
        if (item->not_before_ms <= now) {
            line_put(q, item);
            continue;
        }
        uint64_t left = item->not_before_ms - now;
        wait = wait ? MIN(wait, left) : left;
        q->resting.items[kept++] = item;
    }
    q->resting.count = kept;
    return wait;
}

/* However long the line is, a turn looks only at what it starts. */
static void
queue_start(struct queue *q)
{
    while (q->first && q->running < QUEUE_AT_ONCE) {
        struct item *item = q->first;
        q->first = item->next;
        if (!q->first) {
            q->last = &q->first;
        }
        item->waiting = false;
        item->running = true;
        item->arena = arena_create();
        q->running++;
        store_write_async(q->config.store, item->arena, item_txn, item_done, item);
    }
}

static void
on_handle_closed(uv_handle_t *handle)
{
    struct queue *q = handle->data;
    if (--q->handles > 0) {
        return;
    }
    void (*closed)(void *) = q->closed;
    void *ctx = q->closed_ctx;
    map_destroy(q->items);
    VEC_FREE(&q->resting);
    VEC_FREE(&q->incoming);
    pthread_mutex_destroy(&q->lock);
    free(q);
    closed(ctx);
}

static void
queue_turn(struct queue *q)
{
    queue_take_done(q);
    queue_take_incoming(q);
    if (q->closing) {
        if (q->running == 0 && !uv_is_closing((uv_handle_t *)&q->wake)) {
            uv_close((uv_handle_t *)&q->wake, on_handle_closed);
            uv_close((uv_handle_t *)&q->timer, on_handle_closed);
        }
        return;
    }
    uint64_t wait = queue_wake_resting(q);
    queue_start(q);
    if (wait) {
        uv_timer_start(&q->timer, on_timer, wait, 0);
    }
}

void
queue_close(struct queue *q, void (*closed)(void *ctx), void *ctx)
{
    q->closing = true;
    q->closed = closed;
    q->closed_ctx = ctx;
    uv_async_send(&q->wake);
}
