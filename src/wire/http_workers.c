/* http_workers.c - the threads on which requests that wait for the disk are served. */
#include "wire/http_server.h"

static void *
worker_run(void *ctx)
{
    struct http_server *server = ctx;
    pthread_mutex_lock(&server->lock);
    for (;;) {
        while (!server->queue && !server->stopping) {
            pthread_cond_wait(&server->work, &server->lock);
        }
        struct exchange *ex = server->queue;
        if (!ex) {
            break;
        }
        server->queue = ex->next;
        if (!server->queue) {
            server->queue_end = &server->queue;
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
workers_start(struct http_server *server, struct err *err)
{
    server->workers = xcalloc(server->config.workers, sizeof *server->workers);
    for (unsigned i = 0; i < server->config.workers; i++) {
        int sys = pthread_create(&server->workers[i], NULL, worker_run, server);
        if (sys != 0) {
            return err_sys(err, sys, "start a worker");
        }
        server->worker_count++;
    }
    return true;
}

void
workers_push(struct http_server *server, struct exchange *ex)
{
    pthread_mutex_lock(&server->lock);
    ex->next = NULL;
    *server->queue_end = ex;
    server->queue_end = &ex->next;
    pthread_cond_signal(&server->work);
    pthread_mutex_unlock(&server->lock);
}

void
workers_stop(struct http_server *server)
{
    for (unsigned i = 0; i < server->worker_count; i++) {
        pthread_join(server->workers[i], NULL);
    }
    free(server->workers);
    server->workers = NULL;
    server->worker_count = 0;
}
