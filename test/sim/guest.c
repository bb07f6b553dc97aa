/* guest.c - emulators that are only events: what node/machine/ needs of a system.
 *
 * Purpose:  control groups, jails, sockets and the accelerator, each as its header in
 *           node/machine/ says (QMP: guest_qmp.c), so that machine.c, machine_life.c,
 *           machine_start.c and machine_plan.c run as they are. A guest boots, heeds the power button (most
 *           do), halts, panics, and its emulator ends, all in the world's time.
 * Place:    linked in place of cgroup.c, jail.c, sock.c and accel.c. */
#include "base/jsonio.h"
#include "guest_disk.h"
#include "guest_follow.h"
#include "guest_move.h"
#include "node/machine/accel.h"
#include "node/machine/cgroup.h"
#include "node/machine/jail.h"
#include "node/machine/sock.h"
#include "uv_sim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
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

void
guest_keep_fd(struct guest *g, const char *name, int fd)
{
    (void)guest_drop_fd(g, name);
    struct guest_fd kept = {.fd = fd};
    snprintf(kept.name, sizeof kept.name, "%s", name);
    VEC_PUSH(&g->fds, kept);
}

bool
guest_drop_fd(struct guest *g, const char *name)
{
    for (size_t i = 0; i < g->fds.count; i++) {
        if (str_eq(g->fds.items[i].name, name)) {
            close(g->fds.items[i].fd);
            g->fds.items[i] = g->fds.items[--g->fds.count];
            return true;
        }
    }
    return false;
}

static void
drop_all(struct guest *g)
{
    for (size_t i = 0; i < g->fds.count; i++) {
        close(g->fds.items[i].fd);
    }
    VEC_FREE(&g->fds);
    if (g->twin) {
        g->twin->twin = NULL;
        g->twin = NULL;
    }
}

void
guest_end(struct guest *g, const char *why)
{
    if (!g->alive) {
        return;
    }
    g->alive = false;
    trace("%s: guest %s ends: %s", g->host->name, g->id, why);
    HISTORY(MOMENT_GUEST_END, .host = g->host->number, .id = g->id);
    guest_hang_up(g);
    follow_ends(g);
    drop_all(g);
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

/* Whether what a guest remembers ends with this emulator; with '*out_other', that has the other
 * half of it. */
static bool
is_needed(const struct guest *g, const struct guest **out_other)
{
    *out_other = follow_other(g);
    return g->alive && g->state <= GUEST_RUNNING &&
           (g->follow || (!g->incoming && !g->gave && !g->behind && !g->twin));
}

static void
end_by_agent(struct guest *g, const char *how)
{
    const struct guest *other;
    if (is_needed(g, &other)) {
        HISTORY(MOMENT_KILLED, .host = g->host->number, .id = g->id, .state = how,
                .far = other ? other->host->number : 0);
    }
    guest_end(g, how);
}

static void
on_killed(void *ctx)
{
    end_by_agent(ctx, "killed");
}

static void
on_quit(void *ctx)
{
    end_by_agent(ctx, "told to quit");
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

/* 'number' is ours here: a copy of what the emulator was given, which it must still have. */
static long
pidfd_getfd(int pidfd, int number)
{
    struct guest *g = uv_sim_fd_owner(pidfd);
    struct stat is, has;
    if (g && g->alive && fstat(number, &is) == 0) {
        for (size_t i = 0; i < g->fds.count; i++) {
            if (fstat(g->fds.items[i].fd, &has) == 0 && has.st_ino == is.st_ino) {
                int fd = fcntl(number, F_DUPFD_CLOEXEC, 0);
                uv_sim_fd_own(fd, g);
                return fd;
            }
        }
    }
    errno = EBADF;
    return -1;
}

DIR *__real_opendir(const char *path);
DIR *__wrap_opendir(const char *path);

/* Emulators have no processes: their descriptors are among ours. */
DIR *
__wrap_opendir(const char *path)
{
    return __real_opendir(str_starts(path, "/proc/") ? "/proc/self/fd" : path);
}

long __wrap_syscall(long number, ...);

long
__wrap_syscall(long number, ...)
{
    va_list args;
    va_start(args, number);
    int first = va_arg(args, int);
    int second = number == SYS_pidfd_getfd ? va_arg(args, int) : 0;
    va_end(args);
    switch (number) {
    case SYS_pidfd_open:
        return pidfd_open(first);
    case SYS_pidfd_getfd:
        return pidfd_getfd(first, second);
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

/* ---- what it is told ------------------------------------------------------------- */

json_t *
guest_obey(struct guest *g, const struct guest_order *o, struct err *err)
{
    if (str_eq(o->name, "query-status")) {
        return json_pack("{s:s}", "status", guest_run_state(g));
    }
    if (str_eq(o->name, "system_powerdown")) {
        guest_powerdown(g);
        return json_object();
    }
    if (str_eq(o->name, "quit")) {
        if (!g->stuck) {
            (void)world_after(NULL, world_between(CHANCE_ORDER, 1, 50 * NS_PER_MS),
                              on_quit, g);
        }
        return json_object();
    }
    return guest_move_obey(g, o, err);
}

/* ---- accel.h --------------------------------------------------------------------- */

void
accel_detect(struct accel *out)
{
    *out = (struct accel){.kvm = true, .host_vcpus = host_now()->size.vcpus};
    snprintf(out->cpu_model, sizeof out->cpu_model, "simulated");
}
