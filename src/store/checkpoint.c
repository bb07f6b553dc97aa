/* checkpoint.c - see checkpoint.h. */
#include "store/checkpoint.h"
#include <pthread.h>
#include <sqlite3.h>

struct checkpointer {
    sqlite3 *db;
    pthread_t thread;
    pthread_mutex_t lock; /* Guards all that follows. */
    pthread_cond_t work;
    int moved; /* Pages of the log that are in the database. */
    int pages; /* In the log, as the writer last said. */
    bool runs; /* The thread is at it. */
    bool closing;
};

/* What is worth a checkpoint. A log that the writer has begun anew is shorter than what
 * was moved of the one before. */
static bool
due(const struct checkpointer *cp)
{
    return (cp->pages < cp->moved ? cp->pages : cp->pages - cp->moved) >=
           CHECKPOINT_PAGES;
}

static void *
checkpoint_run(void *ctx)
{
    struct checkpointer *cp = ctx;
    pthread_mutex_lock(&cp->lock);
    while (!cp->closing) {
        if (!due(cp)) {
            pthread_cond_wait(&cp->work, &cp->lock);
            continue;
        }
        int before = cp->pages, pages = -1, moved = -1;
        cp->runs = true;
        pthread_mutex_unlock(&cp->lock);
        /* Passive: waits for nobody, and nobody waits for it. */
        (void)sqlite3_wal_checkpoint_v2(cp->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &pages,
                                        &moved);
        pthread_mutex_lock(&cp->lock);
        cp->runs = false;
        /* After a failure not again before the log is that much longer. */
        cp->moved = moved >= 0 ? moved : before;
    }
    pthread_mutex_unlock(&cp->lock);
    return NULL;
}

struct checkpointer *
checkpoint_start(const char *path)
{
    struct checkpointer *cp = xcalloc(1, sizeof *cp);
    pthread_mutex_init(&cp->lock, NULL);
    pthread_cond_init(&cp->work, NULL);
    bool ok =
        sqlite3_open_v2(path, &cp->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                        NULL) == SQLITE_OK &&
        sqlite3_exec(cp->db, "PRAGMA cache_size=-64", NULL, NULL, NULL) == SQLITE_OK &&
        pthread_create(&cp->thread, NULL, checkpoint_run, cp) == 0;
    if (!ok) {
        (void)sqlite3_close(cp->db);
        free(cp);
        return NULL;
    }
    (void)pthread_setname_np(cp->thread, "store-log");
    return cp;
}

void
checkpoint_stop(struct checkpointer *cp)
{
    if (!cp) {
        return;
    }
    pthread_mutex_lock(&cp->lock);
    cp->closing = true;
    pthread_cond_signal(&cp->work);
    pthread_mutex_unlock(&cp->lock);
    (void)pthread_join(cp->thread, NULL);
    (void)sqlite3_close(cp->db);
    pthread_cond_destroy(&cp->work);
    pthread_mutex_destroy(&cp->lock);
    free(cp);
}

bool
checkpoint_wanted(struct checkpointer *cp, int pages)
{
    pthread_mutex_lock(&cp->lock);
    cp->pages = pages;
    bool little = pages >= cp->moved && pages - cp->moved < CHECKPOINT_REST_PAGES &&
                  cp->moved > 0;
    bool ours = (little || pages >= CHECKPOINT_LIMIT_PAGES) && !cp->runs;
    if (ours) {
        cp->pages = cp->moved = 0; /* Of the log that begins then. */
    } else if (due(cp)) {
        pthread_cond_signal(&cp->work);
    }
    pthread_mutex_unlock(&cp->lock);
    return ours;
}
