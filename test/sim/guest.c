/* guest.c - emulators that are only events: what node/machine/ needs of a system.
 *
 * Purpose:  control groups, jails, QMP, sockets and the accelerator, each as its header in
 *           node/machine/ says, so that machine.c, machine_life.c, machine_start.c and
 *           machine_plan.c run as they are. A guest boots, heeds the power button (most
 *           do), halts, panics, and its emulator ends, all in the world's time.
 * Place:    linked in place of cgroup.c, jail.c, qmp.c, sock.c and accel.c. */
#include "base/jsonio.h"
#include "guest_disk.h"
#include "guest_move.h"
#include "node/machine/accel.h"
#include "node/machine/cgroup.h"
#include "node/machine/jail.h"
#include "node/machine/qmp.h"
#include "node/machine/sock.h"
#include "uv_sim.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>

#define BOOT_MIN_NS (200 * NS_PER_MS)
#define BOOT_MAX_NS (3 * NS_PER_S)
#define DEAF_PERCENT 5
#define STUCK_PERCENT 5

/* ---- guests ---------------------------------------------------------------------- */

struct guest *
host_guest(const struct host *h, const char *id)
{
    for (size_t i = h->guests.count; i-- > 0;) {
        struct guest *g = h->guests.items[i];
        if (g->alive && str_eq(g->id, id)) {
            return g;
        }
    }
    return NULL;
}

static void qmp_lost(struct guest *g);

void
guest_end(struct guest *g, const char *why)
{
    if (!g->alive) {
        return;
    }
    g->alive = false;
    trace("%s: guest %s ends: %s", g->host->name, g->id, why);
    HISTORY(MOMENT_GUEST_END, .host = g->host->number, .id = g->id);
    qmp_lost(g);
    guest_disk_close(g);
    for (size_t i = 0; i < g->watched.count; i++) {
        if (uv_sim_fd_owner(g->watched.items[i]) == g) {
            uv_sim_fd_ready(g->watched.items[i]);
        }
    }
}

static void
on_booted(void *ctx)
{
    struct guest *g = ctx;
    if (g->state == GUEST_BOOTING) {
        g->state = GUEST_RUNNING;
    }
}

void
guest_halt(struct guest *g)
{
    if (g->alive && !g->standing && g->state <= GUEST_RUNNING) {
        trace("%s: guest %s halts", g->host->name, g->id);
        g->state = GUEST_HALTED;
        guest_tell(g, "SHUTDOWN",
                   json_pack("{s:b, s:s}", "guest", 1, "reason", "guest-shutdown"));
    }
}

void
guest_panic(struct guest *g)
{
    if (g->alive && !g->standing && g->state <= GUEST_RUNNING) {
        trace("%s: guest %s panics", g->host->name, g->id);
        g->state = GUEST_PANICKED;
        guest_tell(g, "GUEST_PANICKED", json_pack("{s:s}", "action", "pause"));
    }
}

static void
on_halt(void *ctx)
{
    guest_halt(ctx);
}

static void
on_killed(void *ctx)
{
    guest_end(ctx, "killed");
}

static void
on_quit(void *ctx)
{
    guest_end(ctx, "told to quit");
}

static void
guest_powerdown(struct guest *g)
{
    if (g->state == GUEST_RUNNING && !g->standing && !g->deaf) {
        (void)world_after(
            NULL, world_between(CHANCE_ORDER, NS_PER_S / 10, 8 * NS_PER_S), on_halt, g);
    }
}

/* ---- cgroup.h -------------------------------------------------------------------- */

struct group {
    char id[48];
    struct cgroup_limits limits;
};

bool
cgroup_open(const char *cloud_id, struct cgroup_host *out, struct err *err UNUSED)
{
    *out = (struct cgroup_host){.v2 = true};
    snprintf(out->cloud, sizeof out->cloud, "moln-%.64s", cloud_id);
    return true;
}

bool
cgroup_make(const struct cgroup_host *cgroups UNUSED, const char *id,
            const struct cgroup_limits *limits, struct err *err)
{
    process_calls();
    struct host *h = host_now();
    if (h->bad_starts) {
        return err_set(err, ERR_SYSTEM, "make a control group: out of memory");
    }
    struct group *group = xcalloc(1, sizeof *group);
    snprintf(group->id, sizeof group->id, "%s", id);
    group->limits = *limits;
    map_put(h->groups, id, group);
    return true;
}

bool
cgroup_join_fds(const struct cgroup_host *cgroups UNUSED, const char *id,
                int out_fds[CGROUP_ROOTS_MAX], size_t *out_count,
                struct err *err UNUSED)
{
    out_fds[0] = uv_sim_fd_open(map_get(host_now()->groups, id));
    *out_count = 1;
    return true;
}

size_t
cgroup_pids(const struct cgroup_host *cgroups UNUSED, const char *id, pid_t *out,
            size_t max)
{
    const struct guest *g = host_guest(host_now(), id);
    if (g && max) {
        out[0] = g->pid;
    }
    return g != NULL;
}

void
cgroup_kill(const struct cgroup_host *cgroups UNUSED, const char *id)
{
    struct guest *g = host_guest(host_now(), id);
    if (g) {
        (void)world_after(NULL, NS_PER_MS, on_killed, g);
    }
}

bool
cgroup_remove(const struct cgroup_host *cgroups UNUSED, const char *id, struct err *err)
{
    process_calls();
    if (host_guest(host_now(), id)) {
        return err_set(err, ERR_BUSY, "a process is in the group of %s", id);
    }
    map_del(host_now()->groups, id);
    return true;
}

void
cgroup_each(const struct cgroup_host *cgroups UNUSED, cgroup_each_fn *fn, void *ctx)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(host_now()->groups, &it, &id, &value);) {
        fn(ctx, id);
    }
}

void
cgroup_close_cloud(const struct cgroup_host *cgroups UNUSED)
{
}

/* ---- jail.h and the kernel's processes ------------------------------------------- */

static int last_pid = 1000;

/* "pc-q35-7.2 Nehalem": the words' first parts say which they are. */
static void
note_build(struct guest *g, const char *const *word)
{
    size_t len = strlen(g->build);
    if (str_eq(*word, "-machine") || str_eq(*word, "-cpu")) {
        (void)snprintf(g->build + len, sizeof g->build - len, "%s%.*s", len ? " " : "",
                       (int)strcspn(word[1], ","), word[1]);
    }
}

bool
jail_start(const struct jail_spec *spec, struct jail_process *out,
           struct err *err UNUSED)
{
    process_calls();
    struct host *h = host_now();
    const struct group *group = uv_sim_fd_owner(spec->cgroup_fds[0]);
    const struct fence_room *room =
        spec->pid_ns_fd >= 0 ? uv_sim_fd_owner(spec->pid_ns_fd) : NULL;
    if (room && (!h->fence.until_ns || room->turn != h->fence.turn)) {
        return err_set(err, ERR_SYSTEM,
                       "start a process in a pid namespace: its first "
                       "process is gone");
    }
    struct guest *g = xcalloc(1, sizeof *g);
    g->host = h;
    memcpy(g->id, group->id, sizeof g->id);
    g->pid = ++last_pid;
    g->alive = true;
    g->leased = room != NULL;
    g->deaf = world_percent(CHANCE_FAULTS, DEAF_PERCENT);
    g->stuck = world_percent(CHANCE_FAULTS, STUCK_PERCENT);
    g->vcpus = group->limits.processes - 128;
    g->memory_bytes = group->limits.memory_bytes;
    VEC_PUSH(&h->guests, g);
    out->pid = g->pid;
    out->pidfd = uv_sim_fd_open(g);
    VEC_PUSH(&g->watched, out->pidfd);
    for (const char *const *word = spec->argv; *word; word++) {
        g->incoming = g->incoming || str_eq(*word, "-incoming");
        note_build(g, word);
    }
    g->standing = g->incoming;
    guest_disk_open(g, spec);
    trace("guest %s %s, %" PRId64 " vCPUs%s", g->id,
          g->incoming ? "waits for its memory" : "starts", g->vcpus,
          g->leased ? ", leased" : "");
    if (!g->incoming) {
        HISTORY(MOMENT_GUEST_START, .host = h->number, .id = g->id, .vcpus = g->vcpus,
                .memory_bytes = g->memory_bytes);
        guest_disk_boot(g);
    }
    (void)world_after(NULL, world_between(CHANCE_ORDER, BOOT_MIN_NS, BOOT_MAX_NS),
                      on_booted, g);
    return true;
}

int
jail_reap(int pidfd UNUSED)
{
    return -1; /* Whose child it was does not matter here. */
}

bool
jail_has_ended(int pidfd UNUSED)
{
    return true;
}

static long
pidfd_open(int pid)
{
    struct host *h = host_now();
    for (size_t i = 0; i < h->guests.count; i++) {
        struct guest *g = h->guests.items[i];
        if (g->pid == pid && g->alive) {
            int fd = uv_sim_fd_open(g);
            VEC_PUSH(&g->watched, fd);
            return fd;
        }
    }
    errno = ESRCH;
    return -1;
}

static long
pidfd_kill(int fd)
{
    struct guest *g = uv_sim_fd_owner(fd);
    if (g && g->alive) {
        (void)world_after(NULL, world_between(CHANCE_ORDER, 1, 20 * NS_PER_MS),
                          on_killed, g);
    }
    return 0;
}

long __wrap_syscall(long number, ...);

long
__wrap_syscall(long number, ...)
{
    va_list args;
    va_start(args, number);
    int first = va_arg(args, int);
    va_end(args);
    switch (number) {
    case SYS_pidfd_open:
        return pidfd_open(first);
    case SYS_pidfd_send_signal:
        return pidfd_kill(first);
    default:
        sim_abort("system call %ld is not simulated", number);
    }
}

/* ---- sock.h ---------------------------------------------------------------------- */

bool
sock_listen(const char *path UNUSED, int *out_fd, struct err *err UNUSED)
{
    *out_fd = uv_sim_fd_open(host_now());
    return true;
}

/* ".../machines/ID/qmp.sock"; or "move-ID.sock", where file_stream_sim.c waits. */
bool
sock_connect(const char *path, int *out_fd, struct err *err)
{
    char id[48] = "";
    const char *end = strrchr(path, '/'), *start = end;
    if (end && strncmp(end, "/move-", 6) == 0) {
        *out_fd = uv_sim_fd_open(host_now());
        return true;
    }
    while (start && start > path && start[-1] != '/') {
        start--;
    }
    if (end) {
        snprintf(id, sizeof id, "%.*s", (int)(end - start), start);
    }
    struct guest *g = host_guest(host_now(), id);
    if (!g) {
        return err_sys(err, ECONNREFUSED, "connect to %s", path);
    }
    *out_fd = uv_sim_fd_open(g);
    return true;
}

/* ---- qmp.h ----------------------------------------------------------------------- */

struct command {
    struct qmp *qmp;
    struct command *next;
    char name[32];
    json_t *args;
    qmp_reply_fn *done;
    void *ctx;
    bool over;
};

struct qmp {
    struct guest *guest;
    struct process *process;
    const struct qmp_ops *ops;
    void *ctx;
    bool closed, gone;
    struct command *pending;
};

struct telling {
    struct qmp *qmp;
    const char *name;
    json_t *data;
};

struct qmp *
qmp_open(uv_loop_t *loop, int fd, const struct qmp_ops *ops, void *ctx,
         struct err *err UNUSED)
{
    struct qmp *q = xcalloc(1, sizeof *q);
    q->guest = uv_sim_fd_owner(fd);
    q->process = process_of(loop);
    q->ops = ops;
    q->ctx = ctx;
    q->guest->qmp = q; /* QEMU leaves a conversation whose other end is gone. */
    close(fd);
    return q;
}

static void
fail_pending(struct qmp *q, const char *why)
{
    struct err err = {0};
    err_set(&err, ERR_GONE, "QMP: %s", why);
    while (q->pending) {
        struct command *c = q->pending;
        q->pending = c->next;
        c->over = true; /* Freed by its own event. */
        if (c->done) {
            c->done(c->ctx, NULL, &err);
        }
    }
}

void
qmp_close(struct qmp *q)
{
    if (q && !q->closed) {
        q->closed = true;
        if (q->guest->qmp == q) {
            q->guest->qmp = NULL;
        }
        fail_pending(q, "closed");
    }
}

static void
on_lost(void *ctx)
{
    struct qmp *q = ctx;
    struct err err = {0};
    if (!q->closed && !q->gone) {
        q->gone = true;
        fail_pending(q, "the emulator is gone");
        err_set(&err, ERR_GONE, "QMP: the emulator is gone");
        if (!q->closed) {
            q->ops->lost(q->ctx, &err);
        }
    }
}

static void
qmp_lost(struct guest *g)
{
    if (g->qmp) {
        (void)world_after(g->qmp->process, world_between(CHANCE_ORDER, 1, NS_PER_MS),
                          on_lost, g->qmp);
        g->qmp = NULL;
    }
}

static void
on_event(void *ctx)
{
    struct telling *t = ctx;
    if (!t->qmp->closed && !t->qmp->gone) {
        t->qmp->ops->event(t->qmp->ctx, t->name, t->data);
    }
    json_decref(t->data);
    free(t);
}

void
guest_tell(struct guest *g, const char *name, json_t *data)
{
    if (!g->qmp) {
        json_decref(data);
        return;
    }
    struct telling *t = xcalloc(1, sizeof *t);
    *t = (struct telling){.qmp = g->qmp, .name = name, .data = data};
    (void)world_after(g->qmp->process, world_between(CHANCE_ORDER, 1, NS_PER_MS),
                      on_event, t);
}

static json_t *
obey(struct guest *g, const struct command *c, struct err *err)
{
    if (str_eq(c->name, "query-status")) {
        return json_pack("{s:s}", "status", guest_run_state(g));
    }
    if (str_eq(c->name, "system_powerdown")) {
        guest_powerdown(g);
        return json_object();
    }
    if (str_eq(c->name, "quit")) {
        if (!g->stuck) {
            (void)world_after(NULL, world_between(CHANCE_ORDER, 1, 50 * NS_PER_MS),
                              on_quit, g);
        }
        return json_object();
    }
    return guest_move_obey(g, c->name, c->args, err);
}

static void
on_command(void *ctx)
{
    struct command *c = ctx;
    struct qmp *q = c->qmp;
    if (!c->over) {
        for (struct command **at = &q->pending; *at; at = &(*at)->next) {
            if (*at == c) {
                *at = c->next;
                break;
            }
        }
        struct err err = {0};
        AUTO(json) json_t *result = obey(q->guest, c, &err);
        if (c->done) {
            c->done(c->ctx, result, result ? NULL : &err);
        }
    }
    json_decref(c->args);
    free(c);
}

struct qmp *
qmp_resume(uv_loop_t *loop UNUSED, int fd UNUSED, const struct qmp_ops *ops UNUSED,
           void *ctx UNUSED, struct err *err UNUSED)
{
    sim_abort("memory that follows is not simulated");
}

bool
qmp_is_deaf(const struct qmp *q UNUSED)
{
    return false;
}

int
qmp_fd(const struct qmp *q UNUSED)
{
    sim_abort("memory that follows is not simulated");
}

bool
qmp_send_oob(struct qmp *q UNUSED, const char *cmd, json_t *args UNUSED,
             uint64_t timeout_ns UNUSED, qmp_reply_fn *done UNUSED, void *ctx UNUSED,
             struct err *err UNUSED)
{
    sim_abort("%s out of order is not simulated", cmd);
}

bool
qmp_send(struct qmp *q, const char *cmd, json_t *args, int pass_fd UNUSED,
         uint64_t timeout_ns UNUSED, qmp_reply_fn *done, void *ctx, struct err *err)
{
    process_calls();
    AUTO(json) json_t *owned = args;
    if (q->closed || q->gone || !q->guest->alive) {
        return err_set(err, ERR_GONE, "QMP: the emulator is gone");
    }
    struct command *c = xcalloc(1, sizeof *c);
    c->qmp = q;
    c->next = q->pending;
    c->done = done;
    c->ctx = ctx;
    c->args = take_json(&owned);
    snprintf(c->name, sizeof c->name, "%s", cmd);
    q->pending = c;
    /* The greeting, and a monitor that answers when it gets to it. */
    (void)world_after(q->process,
                      world_between(CHANCE_ORDER, NS_PER_MS, 60 * NS_PER_MS),
                      on_command, c);
    return true;
}

/* ---- accel.h --------------------------------------------------------------------- */

void
accel_detect(struct accel *out)
{
    *out = (struct accel){.kvm = true, .host_vcpus = host_now()->size.vcpus};
    snprintf(out->cpu_model, sizeof out->cpu_model, "simulated");
}
