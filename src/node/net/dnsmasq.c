/* dnsmasq.c - one dnsmasq's files and process: see dnsmasq.h. */
#include "node/net/dnsmasq.h"
#include "base/file.h"
#include "base/log.h"
#include "base/map.h"
#include "base/program.h"
#include "node/net/netns.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SETTLE_MS 10          /* Several changes come at once: one start for all. */
#define SETTLE_HOSTS 50       /* A large file is written more rarely: so many, 1 ms. */
#define ADOPTED_SETTLE_MS 500 /* After a restart the agent names them one by one. */
#define RETRY_MIN_MS 100
#define YOUNG_MS 20 /* Until a process that starts has its signals in hand. */
#define RETRY_MAX_MS 5000
#define MTUS_MAX 64
#define FILE_MAX (64 * MIB)

/* Waits for one process; lives until its handle is closed. */
struct watch {
    uv_poll_t poll;
    int pidfd;
    struct dnsmasq *owner; /* NULL: forgotten. */
};

struct dnsmasq {
    struct dnsmasq_config config;
    char *dir;
    struct dnsmasq_plan plan;
    VEC(struct dnsmasq_subnet) subnets;
    VEC(int) mtus;     /* Other than 1 500, that some host has had. */
    struct map *hosts; /* Their lines, by port id. */
    struct map *names; /* struct dnsmasq_name, by id. */
    struct map *known; /* Ports that were plugged. */
    uv_timer_t timer;
    struct watch *watch; /* NULL: no process. */
    pid_t pid;
    bool adopted;      /* Runs since before this agent. */
    bool hosts_differ; /* From the file; or names do from theirs. */
    bool reload;       /* A file differs from what the process has read. */
    bool all_known;    /* It ran before this agent: any port may have been. */
    bool restart;      /* To forget leases. */
    uint64_t retry_ms;
};

static void on_timer(uv_timer_t *timer);
static void on_exit_poll(uv_poll_t *poll, int status, int events);

/* ---- files -------------------------------------------------------------------------
 */

/* Moved into place whole: dnsmasq may read at any time. Not synced: a reboot clears all of
 * it. */
static bool
put_file(const char *dir, const char *path, const struct buf *text, struct err *err)
{
    AUTO(free) char *draft = xasprintf("%s/.draft", dir);
    AUTO(fd) int fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        return err_sys(err, errno, "make %s", draft);
    }
    int rc = fd_write_all(fd, buf_str(text), text->len);
    if (rc < 0) {
        return err_sys(err, -rc, "write %s", draft);
    }
    (void)fchmod(fd, 0644);
    if (rename(draft, path) < 0) {
        return err_sys(err, errno, "make %s", path);
    }
    return true;
}

static void
config_of(const struct dnsmasq *d, struct buf *out)
{
    struct dnsmasq_text text = {.dir = d->dir,
                                .user = d->config.user,
                                .plan = &d->plan,
                                .subnets = d->subnets.items,
                                .subnet_count = d->subnets.count,
                                .mtus = d->mtus.items,
                                .mtu_count = d->mtus.count};
    dnsmasq_config_text(&text, out);
}

static bool
file_is(const char *path, const struct buf *text)
{
    AUTO(free) char *old = NULL;
    struct err ignored;
    return file_read(path, FILE_MAX, &old, NULL, &ignored) &&
           str_eq(old, buf_str(text));
}

/* Whether the configuration on disk is the wanted one. */
static bool
config_stands(const struct dnsmasq *d)
{
    AUTO(buf) struct buf text = {0};
    AUTO(free) char *path = xasprintf("%s/dnsmasq.conf", d->dir);
    config_of(d, &text);
    return file_is(path, &text);
}

static int
by_name(const void *a, const void *b)
{
    const struct dnsmasq_name *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* In one order whatever the map's, so that the file of an agent before this one is known as
 * the same. */
static void
names_of(const struct dnsmasq *d, struct buf *out)
{
    size_t count = 0;
    const char *id;
    void *value;
    AUTO(free)
    const struct dnsmasq_name **list = xcalloc(map_count(d->names) + 1, sizeof *list);
    for (size_t it = 0; map_next(d->names, &it, &id, &value);) {
        list[count++] = value;
    }
    qsort(list, count, sizeof *list, by_name);
    dnsmasq_names_text(list, count, &d->plan, out);
}

static bool
write_if_changed(struct dnsmasq *d, const char *name, const struct buf *text,
                 struct err *err)
{
    AUTO(free) char *path = xasprintf("%s/%s", d->dir, name);
    if (file_is(path, text)) {
        return true;
    }
    d->reload = true;
    return put_file(d->dir, path, text, err);
}

static bool
write_hosts(struct dnsmasq *d, struct err *err)
{
    AUTO(buf) struct buf hosts = {0}, names = {0};
    const char *id;
    void *value;
    for (size_t it = 0; map_next(d->hosts, &it, &id, &value);) {
        buf_puts(&hosts, value);
    }
    names_of(d, &names);
    if (!write_if_changed(d, "hosts", &hosts, err) ||
        !write_if_changed(d, "names", &names, err)) {
        return false;
    }
    d->hosts_differ = false;
    return true;
}

/* ---- process -----------------------------------------------------------------------
 */

void
dnsmasq_kill(pid_t pid)
{
    AUTO(fd) int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0) {
        return;
    }
    (void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
    struct pollfd wait = {.fd = pidfd, .events = POLLIN};
    (void)poll(&wait, 1, 500);
    siginfo_t info;
    (void)waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG);
}

void
dnsmasq_kill_in(int ns_fd)
{
    struct stat st;
    AUTO(free) struct dnsmasq_found *found = NULL;
    size_t count = fstat(ns_fd, &st) == 0 ? dnsmasq_scan(&found) : 0;
    for (size_t i = 0; i < count; i++) {
        if (found[i].ns == st.st_ino) {
            dnsmasq_kill(found[i].pid);
        }
    }
}

static void
on_watch_closed(uv_handle_t *handle)
{
    struct watch *w = CONTAINER_OF(handle, struct watch, poll);
    close(w->pidfd);
    free(w);
}

static void
unwatch(struct dnsmasq *d)
{
    if (d->watch) {
        d->watch->owner = NULL;
        uv_close((uv_handle_t *)&d->watch->poll, on_watch_closed);
        d->watch = NULL;
        d->pid = 0;
    }
}

static bool
watch_pid(struct dnsmasq *d, pid_t pid, struct err *err)
{
    AUTO(fd) int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0) {
        return err_sys(err, errno, "watch dnsmasq %d", (int)pid);
    }
    struct watch *w = xcalloc(1, sizeof *w);
    int rc = uv_poll_init(d->config.loop, &w->poll, pidfd);
    if (rc < 0) {
        free(w);
        return err_sys(err, -rc, "watch dnsmasq %d", (int)pid);
    }
    w->pidfd = take_fd(&pidfd);
    w->owner = d;
    d->watch = w;
    d->pid = pid;
    (void)uv_poll_start(&w->poll, UV_READABLE, on_exit_poll);
    return true;
}

struct start {
    struct program program;
    pid_t pid;
};

/* In the namespace: the child inherits it. */
static bool
spawn_here(void *ctx, struct err *err)
{
    struct start *s = ctx;
    return program_start(&s->program, &s->pid, err);
}

static bool
start(struct dnsmasq *d, struct err *err)
{
    AUTO(buf) struct buf text = {0};
    config_of(d, &text);
    AUTO(free) char *conf = xasprintf("%s/dnsmasq.conf", d->dir);
    if (!put_file(d->dir, conf, &text, err)) {
        return false;
    }
    AUTO(free) char *conf_arg = xasprintf("--conf-file=%s", conf);
    AUTO(free) char *log = xasprintf("%s/dnsmasq.err", d->dir);
    const char *const argv[] = {d->config.path, "--keep-in-foreground", conf_arg, NULL};
    static const char *const env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    struct start s = {.program = {.path = d->config.path,
                                  .argv = argv,
                                  .env = env,
                                  .silent = true,
                                  .errors = log}};
    if (!netns_run(d->config.ns_fd, spawn_here, &s, err)) {
        return false;
    }
    if (!watch_pid(d, s.pid, err)) {
        dnsmasq_kill(s.pid);
        return false;
    }
    return true;
}

static void
stop(struct dnsmasq *d)
{
    if (d->pid > 0) {
        dnsmasq_kill(d->pid);
    }
    unwatch(d);
}

static void
again_later(struct dnsmasq *d)
{
    (void)uv_timer_start(&d->timer, on_timer, d->retry_ms, 0);
    d->retry_ms = MIN(d->retry_ms * 2, RETRY_MAX_MS);
}

static void
on_exit_poll(uv_poll_t *poll, int status, int events)
{
    struct watch *w = CONTAINER_OF(poll, struct watch, poll);
    struct dnsmasq *d = w->owner;
    if (!d) {
        return;
    }
    siginfo_t info = {0};
    (void)waitid(P_PIDFD, (id_t)w->pidfd, &info, WEXITED | WNOHANG);
    AUTO(free) char *path = xasprintf("%s/dnsmasq.err", d->dir);
    AUTO(free) char *said = NULL;
    struct err ignored;
    if (!file_read(path, 4 * KIB, &said, NULL, &ignored)) {
        said = NULL;
    }
    log_warn("dnsmasq in %s ended (%d): %s", d->dir, info.si_status, said ? said : "");
    unwatch(d);
    /* One may stand in its way that an agent started just before it was killed, too late
     * for this one to have found it. */
    dnsmasq_kill_in(d->config.ns_fd);
    again_later(d);
}

/* Whether it would die of the signal: it has just started. */
static bool
would_die_of_hup(pid_t pid)
{
    char path[64];
    AUTO(free) char *status = NULL;
    struct err ignored;
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    if (!file_read(path, 16 * KIB, &status, NULL, &ignored)) {
        return true;
    }
    const char *caught = strstr(status, "SigCgt:");
    return !caught ||
           !(strtoull(caught + strlen("SigCgt:"), NULL, 16) & 1ull << (SIGHUP - 1));
}

static void
reread(struct dnsmasq *d)
{
    if (would_die_of_hup(d->pid)) {
        (void)uv_timer_start(&d->timer, on_timer, YOUNG_MS, 0);
        return;
    }
    (void)pidfd_send_signal(d->watch->pidfd, SIGHUP, NULL, 0);
    d->reload = false;
}

static void
on_timer(uv_timer_t *timer)
{
    struct dnsmasq *d = CONTAINER_OF(timer, struct dnsmasq, timer);
    struct err err = {0};
    d->adopted = false;
    if (d->hosts_differ && !write_hosts(d, &err)) {
        log_error("hosts of dnsmasq in %s: %s", d->dir, err.msg);
        again_later(d);
        return;
    }
    if (d->watch && d->subnets.count > 0 && !d->restart && config_stands(d)) {
        if (d->reload) {
            reread(d);
        }
        d->retry_ms = RETRY_MIN_MS;
        return;
    }
    stop(d);
    d->reload = d->restart = false;
    if (d->subnets.count > 0 && !start(d, &err)) {
        log_error("dnsmasq in %s: %s", d->dir, err.msg);
        again_later(d);
    }
}

/* ---- the object --------------------------------------------------------------------
 */

bool
dnsmasq_make_dir(const char *path, struct err *err)
{
    if (!dir_make(path, 0755, err)) {
        return false;
    }
    return chmod(path, 0755) == 0 || err_sys(err, errno, "open folder %s to all", path);
}

struct dnsmasq *
dnsmasq_open(const struct dnsmasq_config *config, struct err *err)
{
    if (!dnsmasq_make_dir(config->dir, err)) {
        return NULL;
    }
    struct dnsmasq *d = xcalloc(1, sizeof *d);
    d->config = *config;
    d->dir = xstrdup(config->dir);
    d->config.dir = d->dir;
    d->retry_ms = RETRY_MIN_MS;
    d->hosts = map_create(free);
    d->names = map_create(free);
    d->known = map_create(NULL);
    d->hosts_differ = true; /* From whatever an earlier agent wrote. */
    (void)uv_timer_init(config->loop, &d->timer);
    struct err ignored = {0};
    if (config->found > 0) {
        d->adopted = watch_pid(d, config->found, &ignored); /* Gone: started anew. */
        d->all_known = d->adopted;
    }
    return d;
}

static void
on_closed(uv_handle_t *handle)
{
    struct dnsmasq *d = CONTAINER_OF(handle, struct dnsmasq, timer);
    free(d->dir);
    map_destroy(d->hosts);
    map_destroy(d->names);
    map_destroy(d->known);
    VEC_FREE(&d->subnets);
    VEC_FREE(&d->mtus);
    free(d);
}

void
dnsmasq_close(struct dnsmasq *d)
{
    if (d) {
        unwatch(d);
        uv_close((uv_handle_t *)&d->timer, on_closed);
    }
}

/* One pass over all that changes within a moment. A pass that is due already is not put off
 * by more of it, but where a restarted agent still names things one by one. */
static void
settle(struct dnsmasq *d)
{
    size_t lines = map_count(d->hosts) + map_count(d->names);
    uint64_t wait_ms = SETTLE_MS + lines / SETTLE_HOSTS;
    if (d->adopted) {
        (void)uv_timer_start(&d->timer, on_timer, ADOPTED_SETTLE_MS, 0);
    } else if (!uv_is_active((uv_handle_t *)&d->timer)) {
        (void)uv_timer_start(&d->timer, on_timer, wait_ms, 0);
    }
}

void
dnsmasq_serve(struct dnsmasq *d, const struct dnsmasq_plan *plan,
              const struct dnsmasq_subnet *subnets, size_t count)
{
    d->hosts_differ = d->hosts_differ || !str_eq(d->plan.domain, plan->domain) ||
                      !str_eq(d->plan.public_domain, plan->public_domain);
    d->plan = *plan;
    VEC_FREE(&d->subnets);
    for (size_t i = 0; i < count; i++) {
        VEC_PUSH(&d->subnets, subnets[i]);
    }
    settle(d);
}

/* Each MTU is a line of the configuration: there are few, and the bound keeps it so. */
static void
note_mtu(struct dnsmasq *d, int mtu)
{
    for (size_t i = 0; i < d->mtus.count; i++) {
        if (d->mtus.items[i] == mtu) {
            return;
        }
    }
    if (mtu != 0 && mtu != 1500 && d->mtus.count < MTUS_MAX) {
        VEC_PUSH(&d->mtus, mtu);
    }
}

void
dnsmasq_put_host(struct dnsmasq *d, const struct dnsmasq_host *host)
{
    AUTO(buf) struct buf text = {0};
    const char *old = map_get(d->hosts, host->port_id);
    note_mtu(d, host->mtu);
    dnsmasq_host_text(host, &text);
    if (!old || !str_eq(old, buf_str(&text))) {
        map_put(d->hosts, host->port_id, xstrdup(buf_str(&text)));
        d->hosts_differ = true;
        settle(d);
    }
}

void
dnsmasq_drop_host(struct dnsmasq *d, const char *port_id)
{
    if (map_get(d->hosts, port_id)) {
        map_del(d->hosts, port_id);
        d->hosts_differ = true;
        settle(d);
    }
    map_del(d->known, port_id);
}

void
dnsmasq_put_name(struct dnsmasq *d, const char *id, const struct dnsmasq_name *name)
{
    const struct dnsmasq_name *old = map_get(d->names, id);
    if (!old || memcmp(old, name, sizeof *old) != 0) {
        struct dnsmasq_name *kept = xmalloc(sizeof *kept);
        *kept = *name;
        map_put(d->names, id, kept);
        d->hosts_differ = true;
        settle(d);
    }
}

void
dnsmasq_drop_name(struct dnsmasq *d, const char *id)
{
    if (map_get(d->names, id)) {
        map_del(d->names, id);
        d->hosts_differ = true;
        settle(d);
    }
}

void
dnsmasq_plugged(struct dnsmasq *d, const char *port_id)
{
    if (d->all_known || map_get(d->known, port_id)) {
        d->restart = true;
        settle(d);
    }
    map_put(d->known, port_id, d);
}

size_t
dnsmasq_scan(struct dnsmasq_found **out_found)
{
    VEC(struct dnsmasq_found) found = {0};
    DIR *proc = opendir("/proc");
    for (struct dirent *e; proc && (e = readdir(proc)) != NULL;) {
        pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
        char path[64];
        char comm[32] = {0};
        (void)snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
        AUTO(fd) int fd = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (fd < 0 || read(fd, comm, sizeof comm - 1) <= 0 ||
            !str_eq(comm, "dnsmasq\n")) {
            continue;
        }
        struct stat st;
        (void)snprintf(path, sizeof path, "/proc/%d/ns/net", (int)pid);
        if (stat(path, &st) == 0) {
            struct dnsmasq_found one = {.ns = st.st_ino, .pid = pid};
            VEC_PUSH(&found, one);
        }
    }
    if (proc) {
        (void)closedir(proc);
    }
    *out_found = found.items;
    return found.count;
}
