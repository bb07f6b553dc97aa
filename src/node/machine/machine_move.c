/* machine_move.c - what a machine must know of a migration: see machine.h. */
#include "base/log.h"
#include "node/machine/fill.h"
#include "node/machine/machine_impl.h"

#include <signal.h>
#include <sys/syscall.h>

/* The process that makes an arriving guest's memory. */
struct machine_fill {
    uv_poll_t poll;
    struct machine *machine;
    int pidfd;
};

bool
machines_body(const struct machines *set, const char *id, struct machine_body *out)
{
    const struct machine *m = id ? map_get(set->map, id) : NULL;
    if (!m || !m->want) {
        return false;
    }
    *out = (struct machine_body){
        .want = m->want,
        .dir = m->dir,
        .qmp = m->process != PROCESS_NONE && m->qmp_up ? m->qmp : NULL,
        .pid = m->pid,
        .starting = m->process == PROCESS_STARTING,
        .moved = machine_is_given(m) ||
                 (!str_empty(m->want->incoming) && !machine_is_arriving(m)),
        .tried = m->record.tried[0] && (str_eq(m->record.tried, m->want->incoming) ||
                                        str_eq(m->record.tried, m->want->outgoing)),
        .left = m->record.left_line != 0,
        .deaf = m->resumed && m->qmp && qmp_is_deaf(m->qmp),
        .message = m->record.message,
    };
    return true;
}

void
machines_moved(struct machines *set, const char *id, const char *migration_id)
{
    struct machine *m = map_get(set->map, id);
    if (m) {
        snprintf(m->record.moved, sizeof m->record.moved, "%s", migration_id);
        machine_save(m);
        m->was_up = true;
        machine_changed(m);
    }
}

void
machines_tried(struct machines *set, const char *id, const char *migration_id)
{
    struct machine *m = map_get(set->map, id);
    if (m) {
        snprintf(m->record.tried, sizeof m->record.tried, "%s", migration_id);
        machine_save(m);
    }
}

void
machines_came_back(struct machines *set, const char *id)
{
    struct machine *m = map_get(set->map, id);
    if (m) {
        m->record.moved[0] = '\0';
        machine_save(m);
        machine_changed(m);
    }
}

void
machines_kill(struct machines *set, const char *id)
{
    cgroup_kill(&set->cgroups, id);
}

bool
machines_console_add(struct machines *set, const char *id, struct blob history,
                     struct err *err)
{
    struct machine *m = map_get(set->map, id);
    if (!m) {
        return err_set(err, ERR_NOT_FOUND, "there is no machine %s on this node", id);
    }
    return console_add(m->console, history, err);
}

void
machines_watch_events(struct machines *set, machine_event_fn *fn, void *ctx)
{
    set->event_fn = fn;
    set->event_ctx = ctx;
}

/* ---- its memory ------------------------------------------------------------------------ */

static void
on_fill_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void
machine_fill_end(struct machine *m)
{
    struct machine_fill *f = m->fill;
    if (f) {
        m->fill = NULL;
        (void)syscall(SYS_pidfd_send_signal, f->pidfd, SIGKILL, NULL, 0);
        (void)jail_reap(f->pidfd);
        uv_poll_stop(&f->poll);
        close(f->pidfd);
        uv_close((uv_handle_t *)&f->poll, on_fill_closed);
    }
}

static void
on_filled(uv_poll_t *poll, int status UNUSED, int events UNUSED)
{
    struct machine_fill *f = poll->data;
    log_debug("machine %s: its memory is filled", f->machine->id);
    machine_fill_end(f->machine);
}

void
machines_fill(struct machines *set, const char *id)
{
    struct machine *m = map_get(set->map, id);
    int joins[CGROUP_ROOTS_MAX], pidfd;
    size_t join_count = 0;
    struct err err = {0};
    if (!m || !m->want || m->fill || m->pid == 0) {
        return;
    }
    if (!cgroup_join_fds(&set->cgroups, m->id, joins, &join_count, &err)) {
        log_warn("machine %s: its memory is not filled: %s", m->id, err.msg);
        return;
    }
    if (fill_start(m->pid, m->want->memory_bytes, joins, join_count, &pidfd)) {
        struct machine_fill *f = xcalloc(1, sizeof *f);
        *f = (struct machine_fill){.machine = m, .pidfd = pidfd};
        f->poll.data = m->fill = f;
        (void)uv_poll_init(set->config.loop, &f->poll, pidfd);
        (void)uv_poll_start(&f->poll, UV_READABLE, on_filled);
    }
    for (size_t i = 0; i < join_count; i++) {
        close(joins[i]);
    }
}
