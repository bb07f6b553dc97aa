#include "node/agent_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>

#define POWER_OFF_GRACE_NS (30 * NS_PER_S)
#define AGENT_END_MS 20000

/* The little of an agent that ending its guests takes. */
struct ending {
    struct agent *agent; /* Only its folder, identity and lock are used. */
    struct machines *machines;
    uv_timer_t timer;
};

static bool
never(void *ctx UNUSED, const char *id UNUSED)
{
    return false;
}

static int64_t
plenty(void *ctx UNUSED)
{
    return INT64_MAX;
}

static bool
no_lease(void *ctx UNUSED)
{
    return false;
}

static void
no_event(void *ctx UNUSED, const char *kind UNUSED, const char *object UNUSED,
         const char *level UNUSED, const char *message UNUSED)
{
}

static void
on_pass(uv_timer_t *timer)
{
    struct ending *e = timer->data;
    int64_t wake;
    machines_pass(e->machines, &wake);
    if (machines_processes(e->machines) == 0) {
        uv_timer_stop(timer);
        uv_stop(timer->loop);
        return;
    }
    (void)uv_timer_start(timer, on_pass, 100, 0);
}

static void
on_changed(void *ctx)
{
    struct ending *e = ctx;
    (void)uv_timer_start(&e->timer, on_pass, 0, 0);
}

static void
closed(uv_handle_t *handle)
{
    *(bool *)handle->data = true;
}

static bool
end_guests(struct agent *a, int64_t grace_ns, struct err *err)
{
    struct ending e = {.agent = a};
    AUTO(free) char *dir = xasprintf("%s/machines", a->dir);
    AUTO(free) char *jail = xasprintf("%s/jail", a->dir);
    struct machines_config config = {
        .loop = a->config.loop,
        .dir = dir,
        .jail_dir = jail,
        .cloud_id = a->identity.cloud_id,
        .clock = a->config.clock,
        .host = {.disk_ready = never,
                 .port_ready = never,
                 .blob_ready = never,
                 .lease_lives = no_lease,
                 .pool_free_bytes = plenty,
                 .changed = on_changed,
                 .event = no_event,
                 .ctx = &e},
    };
    (void)uv_timer_init(a->config.loop, &e.timer);
    e.timer.data = &e;
    e.machines = machines_open(&config, err);
    if (e.machines) {
        machines_power_off(e.machines, grace_ns);
        (void)uv_timer_start(&e.timer, on_pass, 0, 0);
        (void)uv_run(a->config.loop, UV_RUN_DEFAULT);
        machines_sweep(e.machines);
    }
    bool ok = e.machines != NULL, done = false;
    machines_close(e.machines);
    e.timer.data = &done;
    uv_close((uv_handle_t *)&e.timer, closed);
    while (!done) {
        (void)uv_run(a->config.loop, UV_RUN_ONCE);
    }
    return ok;
}

static bool
end_networks(struct agent *a, struct err *err)
{
    struct net_config config = {
        .loop = a->config.loop,
        .cloud_id = a->identity.cloud_id,
        .clock = a->config.clock,
        .rng = a->config.rng,
    };
    struct net *net = net_open(&config, err);
    bool ok = net && net_sweep(net, err);
    net_close(net);
    (void)uv_run(a->config.loop, UV_RUN_NOWAIT);
    return ok;
}

/* Ends the agent that holds the lock, and takes it. */
static bool
take_over(struct agent *a, struct err *err)
{
    AUTO(free) char *path = xasprintf("%s/moln-node.pid", a->dir);
    for (int waited = 0; !agent_lock(a, err); waited += 50) {
        AUTO(free) char *text = NULL;
        struct err ignored = {0};
        if (err->code != ERR_BUSY || waited >= AGENT_END_MS) {
            return false;
        }
        int pid = file_read(path, 16, &text, NULL, &ignored) ? atoi(text) : 0;
        if (waited == 0 && pid > 1 && kill(pid, SIGTERM) < 0 && errno != ESRCH) {
            return err_sys(err, errno, "end the agent, pid %d", pid);
        }
        (void)usleep(50000);
    }
    err_clear(err);
    return true;
}

static bool
power_off(const struct agent_config *config, int64_t grace_ns, bool purge,
          struct err *err)
{
    struct agent a = {.config = *config, .lock_fd = -1};
    AUTO(free) char *state = xstrdup(config->state_dir);
    AUTO(free) char *dir = xasprintf("%s/node", config->state_dir);
    a.state_dir = state;
    a.dir = dir;
    if (!file_exists(dir)) {
        return true;
    }
    bool ok = take_over(&a, err) && identity_load(&a, err);
    if (ok && a.identity.cloud_id[0]) {
        AUTO(free) char *fence = lease_socket(&a);
        AUTO(free) char *note = xasprintf("%s/ksm", dir);
        ok = end_guests(&a, grace_ns, err) && fence_stop(fence, err) &&
             end_networks(&a, err);
        ksm_end("", note);
    }
    if (ok && purge) {
        ok = dir_remove(dir, err);
    }
    if (a.lock_fd >= 0) {
        close(a.lock_fd);
    }
    return ok;
}

bool
agent_power_off(const struct agent_config *config, struct err *err)
{
    return power_off(config, POWER_OFF_GRACE_NS, false, err);
}

bool
agent_purge(const struct agent_config *config, struct err *err)
{
    return power_off(config, 1, true, err);
}
