/* netns.c - namespaces under /run/netns: see netns.h. */
#include "node/net/netns.h"
#include "base/file.h"
#include "base/map.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define NETNS_DIR "/run/netns"
#define NSFS_MAGIC_NUMBER 0x6e736673

struct job {
    int ns_fd; /* To enter; -1: make a new one. */
    netns_fn *fn;
    void *ctx;
    bool ok;
    struct err err;
};

static void *
job_main(void *arg)
{
    struct job *job = arg;
    int rc = job->ns_fd >= 0 ? setns(job->ns_fd, CLONE_NEWNET) : unshare(CLONE_NEWNET);
    if (rc < 0) {
        err_sys(&job->err, errno, "enter a network namespace");
    } else {
        job->ok = job->fn(job->ctx, &job->err);
    }
    return NULL;
}

static bool
job_run(struct job *job, struct err *err)
{
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, job_main, job);
    if (rc != 0) {
        return err_sys(err, rc, "start a thread for a namespace");
    }
    (void)pthread_join(thread, NULL);
    if (!job->ok) {
        *err = job->err;
    }
    return job->ok;
}

bool
netns_run(int ns_fd, netns_fn *fn, void *ctx, struct err *err)
{
    struct job job = {.ns_fd = ns_fd, .fn = fn, .ctx = ctx};
    return job_run(&job, err);
}

/* The folder is a shared mount, as `ip netns` makes it: a name removed here goes from
 * every mount namespace. */
static bool
folder_make(struct err *err)
{
    if (!dir_make(NETNS_DIR, 0755, err)) {
        return false;
    }
    if (mount("", NETNS_DIR, "none", MS_SHARED | MS_REC, NULL) == 0) {
        return true;
    }
    if (errno != EINVAL ||
        mount(NETNS_DIR, NETNS_DIR, "none", MS_BIND | MS_REC, NULL) < 0 ||
        mount("", NETNS_DIR, "none", MS_SHARED | MS_REC, NULL) < 0) {
        return err_sys(err, errno, "make " NETNS_DIR " a shared mount");
    }
    return true;
}

static bool
bind_here(void *ctx, struct err *err)
{
    const char *path = ctx;
    if (mount("/proc/thread-self/ns/net", path, "none", MS_BIND, NULL) < 0) {
        return err_sys(err, errno, "bind a namespace to %s", path);
    }
    return true;
}

static void
path_of(const char *name, char path[160])
{
    (void)snprintf(path, 160, NETNS_DIR "/%.128s", name);
}

bool
netns_open(const char *name, int *out_fd, struct err *err)
{
    char path[160];
    path_of(name, path);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return err_sys(err, errno, "open namespace %s", path);
    }
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0 || fs.f_type != NSFS_MAGIC_NUMBER) {
        return err_set(err, ERR_NOT_FOUND, "%s is no namespace", path);
    }
    *out_fd = take_fd(&fd);
    return true;
}

bool
netns_make(const char *name, int *out_fd, struct err *err)
{
    if (netns_open(name, out_fd, err)) {
        return true;
    }
    if (err->code != ERR_NOT_FOUND || !folder_make(err)) {
        return false;
    }
    char path[160];
    path_of(name, path);
    /* May be there already, an empty file: a start that was cut off. */
    AUTO(fd) int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0444);
    if (fd < 0) {
        return err_sys(err, errno, "make %s", path);
    }
    struct job job = {.ns_fd = -1, .fn = bind_here, .ctx = path};
    if (!job_run(&job, err)) {
        (void)unlink(path);
        return false;
    }
    return netns_open(name, out_fd, err);
}

bool
netns_remove(const char *name, struct err *err)
{
    char path[160];
    path_of(name, path);
    if (umount2(path, MNT_DETACH) < 0 && errno != ENOENT && errno != EINVAL) {
        return err_sys(err, errno, "unmount %s", path);
    }
    if (unlink(path) < 0 && errno != ENOENT) {
        return err_sys(err, errno, "remove %s", path);
    }
    return true;
}

bool
netns_each(const char *prefix, netns_each_fn *fn, void *ctx, struct err *err)
{
    DIR *dir = opendir(NETNS_DIR);
    if (!dir) {
        return errno == ENOENT || err_sys(err, errno, "read " NETNS_DIR);
    }
    VEC(char *) names = {0}; /* Listed first: 'fn' may remove what is being read. */
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        if (str_starts(e->d_name, prefix)) {
            VEC_PUSH(&names, xstrdup(e->d_name));
        }
    }
    (void)closedir(dir);
    bool ok = true;
    for (size_t i = 0; i < names.count; i++) {
        ok = ok && fn(ctx, names.items[i], err);
        free(names.items[i]);
    }
    VEC_FREE(&names);
    return ok;
}
