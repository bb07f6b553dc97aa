/* http_workers.c - the threads on which requests that wait for the disk are served, and those
 * for what takes long. */
#include "wire/http_server.h"

void
crew_init(struct crew *crew, struct http_server *server)
{
    crew->server = server;
    crew->last = &crew->first;
    pthread_cond_init(&crew->work, NULL);
}

void
crew_fini(struct crew *crew)
{
    pthread_cond_destroy(&crew->work);
}

static void *
crew_run(void *ctx)
{
    struct crew *crew = ctx;
    struct http_server *server = crew->server;
    pthread_mutex_lock(&server->lock);
    for (;;) {
        while (!crew->first && !server->stopping) {
            pthread_cond_wait(&crew->work, &server->lock);
        }
        struct exchange *ex = crew->first;
        if (!ex) {
            break;
        }
        crew->first = ex->next;
        if (!crew->first) {
            crew->last = &crew->first;
        }
        pthread_mutex_unlock(&server->lock);
        server->config.ops->work(server->config.ctx, &ex->request, &ex->answer);
        ex->phase = PHASE_READY;
        MHD_resume_connection(ex->connection);
        pthread_mutex_lock(&server->lock);
    }
    pthread_mutex_unlock(&server->lock);
    return NULL;
}

bool
crew_start(struct crew *crew, unsigned count, struct err *err)
{
    crew->threads = xcalloc(count, sizeof *crew->threads);
    for (unsigned i = 0; i < count; i++) {
        int sys = pthread_create(&crew->threads[i], NULL, crew_run, crew);
        if (sys != 0) {
            return err_sys(err, sys, "start a worker");
        }
        crew->count++;
    }
    return true;
}

void
crew_push(struct crew *crew, struct exchange *ex)
{
    pthread_mutex_lock(&crew->server->lock);
    ex->next = NULL;
    *crew->last = ex;
    crew->last = &ex->next;
    pthread_cond_signal(&crew->work);
    pthread_mutex_unlock(&crew->server->lock);
}

void
crew_call(struct crew *crew)
{
    pthread_cond_broadcast(&crew->work);
}

void
crew_stop(struct crew *crew)
{
    for (unsigned i = 0; i < crew->count; i++) {
        pthread_join(crew->threads[i], NULL);
    }
    free(crew->threads);
    crew->threads = NULL;
    crew->count = 0;
}
