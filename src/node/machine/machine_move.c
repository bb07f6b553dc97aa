/* machine_move.c - what a machine must know of a migration: see machine.h. */
#include "base/log.h"
#include "node/machine/machine_impl.h"

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
