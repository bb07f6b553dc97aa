/* fill.c - see fill.h. */
#include "node/machine/fill.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef MADV_POPULATE_WRITE /* Since Linux 5.14. */
#define MADV_POPULATE_WRITE 23
#endif

#define MEMORY_LINK "/memfd:memory-backend-memfd"
#define FILL_NICE 10 /* The emulator has other things to do first. */
/* Of so much at a time it needs page tables (2 MiB), for which the cgroup is charged. */
#define SLICE_BYTES ((int64_t)GIB)

static bool
is_memory(const char *path)
{
    char link[64];
    ssize_t n = readlink(path, link, sizeof link);
    return n >= (ssize_t)sizeof MEMORY_LINK - 1 &&
           memcmp(link, MEMORY_LINK, sizeof MEMORY_LINK - 1) == 0;
}

/* The emulator's descriptor of the memory, opened for us; -1: it has none. */
static int
open_memory(pid_t pid)
{
    char folder[48], path[320];
    int fd = -1;
    snprintf(folder, sizeof folder, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && fd < 0 && (e = readdir(dir));) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        fd = is_memory(path) ? open(path, O_RDWR | O_CLOEXEC) : -1;
    }
    if (dir) {
        closedir(dir);
    }
    return fd;
}

/* In the child. */
static NORETURN void
fill(pid_t parent, const int *joins, size_t join_count, int fd, int64_t bytes)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    (void)prctl(PR_SET_NAME, FILL_NAME, 0, 0, 0);
    (void)setpriority(PRIO_PROCESS, 0, FILL_NICE);
    if (getppid() != parent) {
        _exit(1);
    }
    for (size_t i = 0; i < join_count; i++) {
        if (write(joins[i], "0", 1) < 0) {
            _exit(1);
        }
    }
    for (int64_t at = 0; at < bytes; at += SLICE_BYTES) {
        size_t len = (size_t)MIN(bytes - at, SLICE_BYTES);
        void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, at);
        if (p == MAP_FAILED || madvise(p, len, MADV_POPULATE_WRITE) < 0) {
            _exit(1);
        }
        if (at + SLICE_BYTES < bytes) {
            (void)munmap(p, len);
        }
    }
    _exit(0);
}

bool
fill_start(pid_t pid, int64_t most_bytes, const int *joins, size_t join_count,
           int *out_pidfd)
{
    struct stat st;
    sigset_t all, before;
    int pidfd = -1;
    AUTO(fd) int fd = open_memory(pid);
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > most_bytes) {
        return false;
    }
    struct clone_args args = {.flags = CLONE_PIDFD,
                              .pidfd = (uint64_t)(uintptr_t)&pidfd,
                              .exit_signal = SIGCHLD};
    pid_t parent = getpid();
    sigfillset(&all); /* Our handlers are not the child's to run. */
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    long child = syscall(SYS_clone3, &args, sizeof args);
    if (child == 0) {
        fill(parent, joins, join_count, fd, st.st_size);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (child < 0) {
        return false;
    }
    *out_pidfd = pidfd;
    return true;
}
