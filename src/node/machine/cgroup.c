#include "node/machine/cgroup.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <signal.h>
#include <sys/stat.h>

#define PATH_LEN 320
#define SOFT_LIMIT "memory.soft_limit_in_bytes" /* Version 1. */

static const char *const controllers[CGROUP_ROOTS_MAX] = {"memory", "cpu", "pids"};

static bool
write_text(const char *path, const char *text, struct err *err)
{
    AUTO(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return err_sys(err, errno, "open %s", path);
    }
    int rc = fd_write_all(fd, text, strlen(text));
    return rc == 0 || err_sys(err, -rc, "write '%s' to %s", text, path);
}

static bool
write_number(const char *dir, const char *file, int64_t value, struct err *err)
{
    char path[PATH_LEN + 64], text[24];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    snprintf(text, sizeof text, "%" PRId64, value);
    return write_text(path, text, err);
}

/* Whether a version 2 mount has the controllers that limits need. */
static bool
usable_v2(const char *mount)
{
    struct err err = {0};
    char path[PATH_LEN];
    AUTO(free) char *text = NULL;
    snprintf(path, sizeof path, "%s/cgroup.controllers", mount);
    return file_read(path, 4096, &text, NULL, &err) && strstr(text, "memory");
}

static void
take_mount(struct cgroup_host *host, const struct mntent *m)
{
    if (strcmp(m->mnt_type, "cgroup2") == 0 && usable_v2(m->mnt_dir)) {
        host->v2 = true;
        host->count = 1;
        snprintf(host->roots[0], sizeof host->roots[0], "%s", m->mnt_dir);
    }
    if (host->v2 || strcmp(m->mnt_type, "cgroup") != 0) {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(controllers); i++) {
        if (hasmntopt(m, controllers[i]) && host->count < CGROUP_ROOTS_MAX) {
            snprintf(host->roots[host->count], sizeof host->roots[0], "%s", m->mnt_dir);
            snprintf(host->controllers[host->count], sizeof host->controllers[0], "%s",
                     controllers[i]);
            host->count++;
        }
    }
}

bool
cgroup_open(const char *cloud_id, struct cgroup_host *out, struct err *err)
{
    struct cgroup_host host = {0};
    snprintf(host.cloud, sizeof host.cloud, "moln-%s", cloud_id);
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    if (!mounts) {
        return err_sys(err, errno, "read /proc/self/mounts");
    }
    for (struct mntent *m; (m = getmntent(mounts)) && !host.v2;) {
        take_mount(&host, m);
    }
    endmntent(mounts);
    if (host.count == 0) {
        return err_set(err, ERR_SYSTEM, "no cgroup hierarchy with a memory controller");
    }
    *out = host;
    return true;
}

static void
group_path(const struct cgroup_host *host, size_t root, const char *id,
           char out[PATH_LEN])
{
    snprintf(out, PATH_LEN, "%s/%s%s%s", host->roots[root], host->cloud, id ? "/" : "",
             id ? id : "");
}

static bool
make_group(const char *path, struct err *err)
{
    return mkdir(path, 0755) == 0 || errno == EEXIST ||
           err_sys(err, errno, "make cgroup %s", path);
}

/* Version 2: a group's children may use only controllers that it passes on. */
static bool
pass_controllers(const char *path, struct err *err)
{
    char file[PATH_LEN + 64];
    snprintf(file, sizeof file, "%s/cgroup.subtree_control", path);
    return write_text(file, "+memory +cpu +pids", err);
}

static bool
set_limits(const struct cgroup_host *host, size_t root, const char *dir,
           const struct cgroup_limits *l, struct err *err)
{
    if (host->v2) {
        return write_number(dir, "memory.max", l->memory_bytes, err) &&
               write_number(dir, "cpu.weight", l->cpu_weight, err) &&
               write_number(dir, "pids.max", l->processes, err);
    }
    const char *what = host->controllers[root];
    if (strcmp(what, "memory") == 0) {
        return write_number(dir, "memory.limit_in_bytes", l->memory_bytes, err);
    }
    if (strcmp(what, "cpu") == 0) {
        return write_number(dir, "cpu.shares", MAX(2, l->cpu_weight * 1024 / 100), err);
    }
    return write_number(dir, "pids.max", l->processes, err);
}

bool
cgroup_make(const struct cgroup_host *host, const char *id,
            const struct cgroup_limits *limits, struct err *err)
{
    for (size_t i = 0; i < host->count; i++) {
        char path[PATH_LEN];
        group_path(host, i, NULL, path);
        if (!make_group(path, err)) {
            return false;
        }
        if (host->v2 &&
            (!pass_controllers(host->roots[i], err) || !pass_controllers(path, err))) {
            return false;
        }
        group_path(host, i, id, path);
        if (!make_group(path, err) || !set_limits(host, i, path, limits, err)) {
            return false;
        }
    }
    return true;
}

bool
cgroup_join_fds(const struct cgroup_host *host, const char *id,
                int out_fds[CGROUP_ROOTS_MAX], size_t *out_count, struct err *err)
{
    size_t count = 0;
    for (; count < host->count; count++) {
        char path[PATH_LEN], file[PATH_LEN + 16];
        group_path(host, count, id, path);
        snprintf(file, sizeof file, "%s/cgroup.procs", path);
        out_fds[count] = open(file, O_WRONLY | O_CLOEXEC);
        if (out_fds[count] < 0) {
            err_sys(err, errno, "open %s", file);
            while (count > 0) {
                close(out_fds[--count]);
            }
            return false;
        }
    }
    *out_count = count;
    return true;
}

size_t
cgroup_pids(const struct cgroup_host *host, const char *id, pid_t *out, size_t max)
{
    char path[PATH_LEN], file[PATH_LEN + 16];
    group_path(host, 0, id, path);
    snprintf(file, sizeof file, "%s/cgroup.procs", path);
    AUTO(file) FILE *f = fopen(file, "re");
    size_t count = 0;
    for (int pid; f && count < max && fscanf(f, "%d", &pid) == 1;) {
        out[count++] = pid;
    }
    return count;
}

/* The folder of the group in the hierarchy of a controller; false: there is none. */
static bool
path_of(const struct cgroup_host *host, const char *controller, const char *id,
        char out[PATH_LEN])
{
    for (size_t i = 0; i < host->count; i++) {
        if (host->v2 || strcmp(host->controllers[i], controller) == 0) {
            group_path(host, i, id, out);
            return true;
        }
    }
    return false;
}

bool
cgroup_limit_cpu(const struct cgroup_host *host, const char *id, int64_t percent,
                 struct err *err)
{
    const int64_t period_us = 100000;
    char dir[PATH_LEN], path[PATH_LEN + 32], text[48];
    if (!path_of(host, "cpu", id, dir)) {
        return err_set(err, ERR_UNSUPPORTED, "this host has no cpu controller");
    }
    if (!host->v2) {
        return write_number(dir, "cpu.cfs_quota_us",
                            percent > 0 ? percent * period_us / 100 : -1, err);
    }
    snprintf(path, sizeof path, "%s/cpu.max", dir);
    if (percent > 0) {
        snprintf(text, sizeof text, "%" PRId64 " %" PRId64, percent * period_us / 100,
                 period_us);
    }
    return write_text(path, percent > 0 ? text : "max", err);
}

/* The number after 'word' (or, NULL, the first) in a file of the group; 0: none. */
static int64_t
read_number(const struct cgroup_host *host, const char *controller, const char *id,
            const char *file, const char *word)
{
    struct err err = {0};
    char dir[PATH_LEN], path[PATH_LEN + 64];
    AUTO(free) char *text = NULL;
    if (!path_of(host, controller, id, dir)) {
        return 0;
    }
    snprintf(path, sizeof path, "%s/%s", dir, file);
    if (!file_read(path, 8192, &text, NULL, &err)) {
        return 0;
    }
    const char *at = word ? strstr(text, word) : text;
    return at ? strtoll(at + (word ? strlen(word) : 0), NULL, 10) : 0;
}

int64_t
cgroup_throttled_ns(const struct cgroup_host *host, const char *id)
{
    return host->v2 ? read_number(host, "cpu", id, "cpu.stat", "throttled_usec ") * 1000
                    : read_number(host, "cpu", id, "cpu.stat", "throttled_time ");
}

int64_t
cgroup_memory_bytes(const struct cgroup_host *host, const char *id)
{
    return read_number(host, "memory", id,
                       host->v2 ? "memory.current" : "memory.usage_in_bytes", NULL);
}

bool
cgroup_reclaim(const struct cgroup_host *host, const char *id, int64_t bytes)
{
    struct err err = {0};
    char dir[PATH_LEN];
    if (!path_of(host, "memory", id, dir)) {
        return false;
    }
    if (host->v2) {
        return write_number(dir, "memory.reclaim", bytes, &err);
    }
    int64_t used = cgroup_memory_bytes(host, id);
    return used > bytes && write_number(dir, SOFT_LIMIT, used - bytes, &err);
}

void
cgroup_reclaim_end(const struct cgroup_host *host, const char *id)
{
    struct err err = {0};
    char dir[PATH_LEN];
    if (!host->v2 && path_of(host, "memory", id, dir)) {
        (void)write_number(dir, SOFT_LIMIT, -1, &err); /* Gone with its machine. */
    }
}

void
cgroup_kill(const struct cgroup_host *host, const char *id)
{
    pid_t pids[64];
    size_t count = cgroup_pids(host, id, pids, ARRAY_LEN(pids));
    for (size_t i = 0; i < count; i++) {
        if (pids[i] > 1) { /* 0: a process of another pid namespace. */
            (void)kill(pids[i], SIGKILL);
        }
    }
}

bool
cgroup_remove(const struct cgroup_host *host, const char *id, struct err *err)
{
    for (size_t i = 0; i < host->count; i++) {
        char path[PATH_LEN];
        group_path(host, i, id, path);
        if (rmdir(path) < 0 && errno != ENOENT) {
            return errno == EBUSY
                       ? err_set(err, ERR_BUSY, "cgroup %s still has processes", path)
                       : err_sys(err, errno, "remove cgroup %s", path);
        }
    }
    return true;
}

void
cgroup_each(const struct cgroup_host *host, cgroup_each_fn *fn, void *ctx)
{
    /* Every hierarchy: a crash may have left a group in only some of them. */
    for (size_t i = 0; i < host->count; i++) {
        char path[PATH_LEN];
        group_path(host, i, NULL, path);
        DIR *dir = opendir(path);
        for (struct dirent *e; dir && (e = readdir(dir));) {
            if (e->d_type == DT_DIR && e->d_name[0] != '.') {
                fn(ctx, e->d_name);
            }
        }
        if (dir) {
            closedir(dir);
        }
    }
}

void
cgroup_close_cloud(const struct cgroup_host *host)
{
    for (size_t i = 0; i < host->count; i++) {
        char path[PATH_LEN];
        group_path(host, i, NULL, path);
        (void)rmdir(path);
    }
}
