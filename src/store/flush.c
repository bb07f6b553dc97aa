/* flush.c - see flush.h. */
#include "store/flush.h"

bool
flush_runs(const struct store *store)
{
    return store->flusher_runs;
}

bool
flush_failed(struct store *store, struct err *err)
{
    pthread_mutex_lock(&store->lock);
    bool failed = store->unsynced.code != ERR_NONE;
    if (failed) {
        *err = store->unsynced;
    }
    pthread_mutex_unlock(&store->lock);
    return failed;
}

bool
flush_is_idle(const struct store *store)
{
    return !store->ended && !store->flushing;
}

void
flush_settle(struct store *store)
{
    while (!flush_is_idle(store)) {
        pthread_cond_wait(&store->settled, &store->lock);
    }
}

void
flush_hand_over(struct store *store, struct batch *first)
{
    pthread_mutex_lock(&store->lock);
    *store->ended_last = first;
    while (*store->ended_last) {
        store->ended_last = &(*store->ended_last)->next;
    }
    pthread_cond_signal(&store->flush);
    pthread_mutex_unlock(&store->lock);
}

/* All that the database has committed; NULL: no more will come. */
static struct batch *
take_ended(struct store *store)
{
    while (!store->ended && !store->flush_ends) {
        pthread_cond_wait(&store->flush, &store->lock);
    }
    struct batch *first = store->ended;
    store->ended = NULL;
    store->ended_last = &store->ended;
    return first;
}

static void
sync_and_answer(struct store *store, struct batch *first)
{
    struct err err;
    bool ok =
        !flush_failed(store, &err) &&
        (!batches_changed(first) || store->driver->sync(store->session->conn, &err));
    if (ok) {
        image_publish(store->image, batches_tip(first));
    } else {
        pthread_mutex_lock(&store->lock);
        store->unsynced = err;
        pthread_mutex_unlock(&store->lock);
    }
    for (struct batch *b = first, *next; b; b = next) {
        next = b->next;
        batch_end(store, b, ok, &err);
    }
}

static void *
flusher_main(void *ctx)
{
    struct store *store = ctx;
    struct batch *first;
    pthread_mutex_lock(&store->lock);
    while ((first = take_ended(store)) != NULL) {
        store->flushing = true;
        pthread_mutex_unlock(&store->lock);
        sync_and_answer(store, first);
        pthread_mutex_lock(&store->lock);
        store->flushing = false;
        pthread_cond_signal(&store->handed); /* The committer may have gathered. */
        if (flush_is_idle(store)) {
            pthread_cond_broadcast(&store->settled);
            pthread_cond_signal(&store->work); /* The writer may wait to end. */
        }
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

bool
flush_start(struct store *store, struct err *err)
{
    store->ended_last = &store->ended;
    if (!store->driver->sync || store->follow) {
        return true;
    }
    if (!store->driver->put_off(store->session->conn, err)) {
        return false;
    }
    int rc = pthread_create(&store->flusher, NULL, flusher_main, store);
    if (rc != 0) {
        return err_sys(err, rc, "starting the store's flusher");
    }
    store->flusher_runs = true;
    (void)pthread_setname_np(store->flusher, "store-flush");
    return true;
}

void
flush_stop(struct store *store)
{
    if (!store->flusher_runs) {
        return;
    }
    pthread_mutex_lock(&store->lock);
    store->flush_ends = true;
    pthread_cond_signal(&store->flush);
    pthread_mutex_unlock(&store->lock);
    (void)pthread_join(store->flusher, NULL);
    store->flusher_runs = false;
}
