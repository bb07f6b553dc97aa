/* mailbox.c - see mailbox.h. */
#include "control/mailbox.h"

#include "base/map.h"

#include <pthread.h>

struct letter {
    mailbox_fn *fn;
    void *ctx;
};

struct mailbox {
    uv_async_t wake;
    pthread_mutex_t lock;
    VEC(struct letter) letters;
};

static void
mailbox_deliver(struct mailbox *m)
{
    for (;;) {
        pthread_mutex_lock(&m->lock);
        struct letter *letters = m->letters.items;
        size_t count = m->letters.count;
        m->letters.items = NULL;
        m->letters.count = m->letters.cap = 0;
        pthread_mutex_unlock(&m->lock);
        if (count == 0) {
            return;
        }
        for (size_t i = 0; i < count; i++) {
            letters[i].fn(letters[i].ctx);
        }
        free(letters);
    }
}

static void
on_wake(uv_async_t *handle)
{
    mailbox_deliver(handle->data);
}

struct mailbox *
mailbox_create(uv_loop_t *loop)
{
    struct mailbox *m = xcalloc(1, sizeof *m);
    pthread_mutex_init(&m->lock, NULL);
    uv_async_init(loop, &m->wake, on_wake);
    m->wake.data = m;
    return m;
}

static void
on_closed(uv_handle_t *handle)
{
    struct mailbox *m = handle->data;
    pthread_mutex_destroy(&m->lock);
    free(m);
}

void
mailbox_close(struct mailbox *m)
{
    if (m) {
        mailbox_deliver(m);
        uv_close((uv_handle_t *)&m->wake, on_closed);
    }
}

void
mailbox_post(struct mailbox *m, mailbox_fn *fn, void *ctx)
{
    pthread_mutex_lock(&m->lock);
    VEC_PUSH(&m->letters, ((struct letter){fn, ctx}));
    pthread_mutex_unlock(&m->lock);
    uv_async_send(&m->wake);
}
