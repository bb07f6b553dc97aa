#include "node/machine/jail.h"
#include "base/file.h"
#include "base/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#define HIGH_FD 512 /* Descriptors wait here while 3, 4, ... are given out. */
#define CAPS_MAX 64
#define JAIL_FDS_MAX 128

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* What a child that failed tells its parent. */
struct failure {
    int sys;
    char step[60];
};

/* In the child: says where it failed, and ends. */
static NORETURN void
fail(int report_fd, const char *step)
{
    struct failure f = {.sys = errno};
    for (size_t i = 0; step[i] && i < sizeof f.step - 1; i++) {
        f.step[i] = step[i];
    }
    ssize_t n = write(report_fd, &f, sizeof f);
    _exit(n == (ssize_t)sizeof f ? 126 : 127);
}

#define TRY(call, step) \
    do { \
        if ((call) < 0) { \
            fail(report_fd, step); \
        } \
    } while (0)

/* Makes the folders above 'path' and, for a file, an empty file to mount over. */
static void
make_place(const char *path, bool folder, int report_fd)
{
    char part[256];
    size_t len = 0;
    for (; path[len] && len < sizeof part - 1; len++) {
        part[len] = path[len];
        if (path[len] == '/' && len > 0) {
            part[len] = '\0';
            if (mkdir(part, 0755) < 0 && errno != EEXIST) {
                fail(report_fd, part);
            }
            part[len] = '/';
        }
    }
    part[len] = '\0';
    if (folder) {
        if (mkdir(part, 0755) < 0 && errno != EEXIST) {
            fail(report_fd, part);
        }
        return;
    }
    int fd = open(part, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    TRY(fd, part);
    close(fd);
}

/* Binds 'from' at the relative path 'to'. */
static void
bind_at(const char *from, const char *to, unsigned long flags, int report_fd)
{
    struct stat st;
    TRY(stat(from, &st), from);
    make_place(to, S_ISDIR(st.st_mode), report_fd);
    TRY(mount(from, to, NULL, MS_BIND, NULL), from);
    TRY(mount(NULL, to, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | flags, NULL), from);
}

/* /lib and the like: a link on merged systems, a folder on others. */
static void
copy_top(const char *path, int report_fd)
{
    char target[128];
    struct stat st;
    if (lstat(path, &st) < 0) {
        return;
    }
    if (!S_ISLNK(st.st_mode)) {
        bind_at(path, path + 1, MS_RDONLY | MS_NODEV, report_fd);
        return;
    }
    ssize_t n = readlink(path, target, sizeof target - 1);
    TRY(n, path);
    target[n] = '\0';
    TRY(symlink(target, path + 1), path);
}

/* A device of its own, of the same number as the host's. */
static void
give_device(const struct jail_spec *spec, const char *path, int report_fd)
{
    struct stat st;
    TRY(stat(path, &st), path);
    TRY(mknod(path + 1, S_IFCHR | 0600, st.st_rdev), path);
    TRY(chown(path + 1, spec->uid, spec->gid), path);
}

static void
make_root(const struct jail_spec *spec, int report_fd)
{
    TRY(mounts_make_private(), "make mounts private");
    TRY(mount("jail", spec->root, "tmpfs", MS_NOSUID, "size=64k,mode=755"),
        "mount the root");
    TRY(chdir(spec->root), "enter the root");
    bind_at("/usr", "usr", MS_RDONLY | MS_NODEV, report_fd);
    copy_top("/lib", report_fd);
    copy_top("/lib64", report_fd);
    copy_top("/bin", report_fd);
    if (access("/etc/ld.so.cache", R_OK) == 0) {
        bind_at("/etc/ld.so.cache", "etc/ld.so.cache", MS_RDONLY | MS_NODEV, report_fd);
    }
    bind_at("/dev/null", "dev/null", MS_NOEXEC, report_fd);
    bind_at("/dev/urandom", "dev/urandom", MS_NOEXEC, report_fd);
    if (spec->kvm) {
        give_device(spec, "/dev/kvm", report_fd);
    }
    if (spec->vfio_count > 0) {
        TRY(mkdir("dev/vfio", 0755), "make dev/vfio");
        give_device(spec, "/dev/vfio/vfio", report_fd);
    }
    for (size_t i = 0; i < spec->vfio_count; i++) {
        char path[32];
        (void)snprintf(path, sizeof path, "/dev/vfio/%d", spec->vfio_groups[i]);
        if (access(path + 1, F_OK) < 0) { /* Two functions may share one. */
            give_device(spec, path, report_fd);
        }
    }
    for (size_t i = 0; i < spec->bind_count; i++) {
        const struct jail_bind *b = &spec->binds[i];
        bind_at(b->from, b->to + 1,
                MS_NODEV | MS_NOEXEC | (b->writable ? 0 : MS_RDONLY), report_fd);
    }
    make_place("proc", true, report_fd);
    TRY(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL),
        "mount proc");
    TRY(syscall(SYS_pivot_root, ".", "."), "change the root");
    TRY(umount2(".", MNT_DETACH), "leave the old root");
    TRY(chdir("/"), "enter the new root");
    TRY(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID, NULL),
        "make the root read-only");
}

static void
limit(int what, int64_t value, int report_fd)
{
    if (value > 0) {
        struct rlimit l = {(rlim_t)value, (rlim_t)value};
        TRY(prlimit(0, (__rlimit_resource_t)what, &l, NULL), "set a limit");
    }
}

static void
set_limits(const struct jail_spec *spec, int report_fd)
{
    struct rlimit none = {0, 0};
    TRY(setrlimit(RLIMIT_CORE, &none), "forbid core files");
    limit(RLIMIT_NOFILE, spec->max_files, report_fd);
    limit(RLIMIT_NPROC, spec->max_processes, report_fd);
    limit(RLIMIT_AS, spec->max_memory_bytes, report_fd);
    limit(RLIMIT_CPU, spec->max_cpu_s, report_fd);
    limit(RLIMIT_FSIZE, spec->max_file_bytes, report_fd);
    limit(RLIMIT_MEMLOCK, spec->max_locked_bytes, report_fd);
}

static void
drop_rights(const struct jail_spec *spec, int report_fd)
{
    for (int cap = 0; cap < CAPS_MAX; cap++) {
        (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); /* Unknown ones fail. */
    }
    /* The raw calls: the library's would signal other threads, and there are none. */
    TRY(syscall(SYS_setgroups, 0, NULL), "drop groups");
    TRY(syscall(SYS_setresgid, spec->gid, spec->gid, spec->gid), "set the gid");
    TRY(syscall(SYS_setresuid, spec->uid, spec->uid, spec->uid), "set the uid");
    TRY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "forbid new privileges");
}

/* Puts the descriptors where the program expects them; the rest closes at exec. */
static void
place_fds(const struct jail_spec *spec, int report_fd)
{
    int high[JAIL_FDS_MAX];
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    TRY(null_fd, "open /dev/null");
    int out = fcntl(spec->out_fd >= 0 ? spec->out_fd : spec->log_fd, F_DUPFD_CLOEXEC,
                    HIGH_FD);
    int log = fcntl(spec->log_fd, F_DUPFD_CLOEXEC, HIGH_FD);
    TRY(MIN(out, log), "move a log's descriptor");
    for (size_t i = 0; i < spec->fd_count; i++) {
        high[i] = fcntl(spec->fds[i], F_DUPFD_CLOEXEC, HIGH_FD);
        TRY(high[i], "move a descriptor");
    }
    TRY(dup2(null_fd, 0), "place standard input");
    TRY(dup2(out, 1), "place standard output");
    TRY(dup2(log, 2), "place standard error");
    for (size_t i = 0; i < spec->fd_count; i++) {
        TRY(dup2(high[i], 3 + (int)i), "place a descriptor");
    }
    /* Not report_fd's business: it was moved high before, and closes at exec. */
    TRY(syscall(SYS_close_range, 3 + (unsigned)spec->fd_count, ~0u,
                CLOSE_RANGE_CLOEXEC),
        "close what is left");
}

static void
join_cgroups(const struct jail_spec *spec, int report_fd)
{
    for (size_t i = 0; i < spec->cgroup_fd_count; i++) {
        TRY(write(spec->cgroup_fds[i], "0", 1), "join a cgroup");
    }
}

static NORETURN void
child(const struct jail_spec *spec, int parents_end, int report_fd)
{
    /* An arena a thread would be 64 MiB of address space each, which limits count. */
    static const char *const env[] = {"PATH=/usr/bin:/usr/sbin", "LANG=C", "HOME=/",
                                      "MALLOC_ARENA_MAX=2", NULL};

    /* Until it is in its cgroup nobody could find it: so it dies with the agent. */
    TRY(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "ask for a signal");
    close(parents_end);
    struct pollfd alive = {.fd = report_fd};
    if (poll(&alive, 1, 0) > 0) {
        _exit(127);
    }
    join_cgroups(spec, report_fd);
    if (spec->cpus) { /* Where some are not to be had, it runs on the rest, or on any. */
        (void)sched_setaffinity(0, sizeof *spec->cpus, spec->cpus);
    }
    if (!spec->die_with_parent) {
        TRY(prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0), "stay");
    }
    int moved = fcntl(report_fd, F_DUPFD_CLOEXEC, HIGH_FD + JAIL_FDS_MAX + 8);
    TRY(moved, "move a descriptor");
    report_fd = moved;
    TRY(setsid(), "leave the session");
    make_root(spec, report_fd);
    place_fds(spec, report_fd);
    drop_rights(spec, report_fd);
    if (spec->die_with_parent) { /* Forgotten at the change of uid. */
        TRY(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "ask for a signal");
    }
    set_limits(spec, report_fd);

    (void)signal(SIGPIPE, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    execve(spec->argv[0], (char *const *)(uintptr_t)spec->argv,
           (char *const *)(uintptr_t)env);
    fail(report_fd, spec->argv[0]);
}

static bool
hear_failure(int fd, struct err *err)
{
    struct failure f = {0};
    ssize_t n;
    do {
        n = read(fd, &f, sizeof f);
    } while (n < 0 && errno == EINTR);
    if (n == 0) {
        return true; /* Closed by exec: it runs. */
    }
    if (n != (ssize_t)sizeof f) {
        return err_set(err, ERR_SYSTEM, "the child ended before it ran");
    }
    f.step[sizeof f.step - 1] = '\0';
    return err_sys(err, f.sys, "in the child: %s", f.step);
}

/* A process being cloned. */
struct birth {
    const struct jail_spec *spec;
    int read_end, write_end;
    uint64_t flags;
    int pidfd, error;
};

/* Returns in the parent only. */
static void
give_birth(struct birth *b)
{
    struct clone_args args = {
        .flags = b->flags | CLONE_PIDFD | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC |
                 CLONE_NEWNET | CLONE_NEWUTS,
        .pidfd = (uint64_t)(uintptr_t)&b->pidfd,
        .exit_signal = b->flags & CLONE_PARENT ? 0 : SIGCHLD, /* The midwife's. */
    };
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
        child(b->spec, b->read_end, b->write_end);
    }
    b->error = pid < 0 ? errno : 0;
}

/* In our memory and descriptors, but inside the namespace. */
static int
midwife(void *ctx)
{
    give_birth(ctx);
    return 0;
}

/* A process can make a namespace only below its own: one that is inside does it for us,
 * and ends; the newborn is ours all the same (CLONE_PARENT). */
static bool
give_birth_inside(struct birth *b, struct err *err)
{
    const size_t stack_len = 64 * KIB;
    AUTO(fd) int own = open("/proc/thread-self/ns/pid", O_RDONLY | O_CLOEXEC);
    if (own < 0 || setns(b->spec->pid_ns_fd, CLONE_NEWPID) < 0) {
        return err_sys(err, errno, "enter a pid namespace");
    }
    char *stack = mmap(NULL, stack_len, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    b->flags = CLONE_PARENT;
    int pid = -1;
    if (stack != MAP_FAILED) {
        pid = clone(midwife, stack + stack_len,
                    CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, b);
    }
    int error = errno;
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
    if (stack != MAP_FAILED) {
        (void)munmap(stack, stack_len);
    }
    if (setns(own, CLONE_NEWPID) < 0) {
        abort(); /* All that this thread starts from now on would be inside. */
    }
    return pid > 0 || err_sys(err, error, "start a process in a pid namespace");
}

/* The pid of a process that a pidfd holds: its birth told only what it is called inside. */
static bool
pid_of(int pidfd, pid_t *out, struct err *err)
{
    char path[48];
    AUTO(free) char *text = NULL;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
    if (!file_read(path, 4096, &text, NULL, err)) {
        return false;
    }
    const char *line = strstr(text, "\nPid:");
    int pid = line ? atoi(line + strlen("\nPid:")) : 0;
    if (pid <= 0) {
        return err_set(err, ERR_GONE, "it ended at once");
    }
    *out = pid;
    return true;
}

bool
jail_start(const struct jail_spec *spec, struct jail_process *out, struct err *err)
{
    int pipe_fds[2];
    pid_t pid = 0;
    if (spec->fd_count > JAIL_FDS_MAX) {
        return err_set(err, ERR_RANGE, "too many descriptors for one process");
    }
    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        return err_sys(err, errno, "make a pipe");
    }
    AUTO(fd) int read_end = pipe_fds[0];
    AUTO(fd) int write_end = pipe_fds[1];
    struct birth b = {
        .spec = spec, .read_end = read_end, .write_end = write_end, .pidfd = -1};
    if (spec->pid_ns_fd < 0) {
        give_birth(&b);
    } else if (!give_birth_inside(&b, err)) {
        return false;
    }
    if (b.pidfd < 0) {
        return err_sys(err, b.error, "start a process");
    }
    close(take_fd(&write_end));
    if (!hear_failure(read_end, err) || !pid_of(b.pidfd, &pid, err)) {
        (void)jail_reap(b.pidfd);
        close(b.pidfd);
        return false;
    }
    *out = (struct jail_process){.pid = pid, .pidfd = b.pidfd};
    return true;
}

int
jail_reap(int pidfd)
{
    siginfo_t info = {0};
    int rc;
    do {
        rc = waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED);
    } while (rc < 0 && errno == EINTR);
    if (rc < 0) {
        return -1;
    }
    return info.si_code == CLD_EXITED ? (info.si_status & 0xff) << 8
                                      : (info.si_status & 0x7f);
}

bool
jail_has_ended(int pidfd)
{
    siginfo_t info = {0};
    int rc = waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG | WNOWAIT);
    return rc < 0 || info.si_pid != 0; /* Below zero: no child of ours. */
}
