/* fence_room.c - see fence_room.h. */
#include "node/fence/fence_room.h"
#include "base/file.h"
#include "base/syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* ---- the first process ----------------------------------------------------------- */

/* Does nothing, for as long as the fence lives; only system calls from here on. It keeps
 * no descriptor: the fence's connections are not its own. */
static NORETURN void
keep(int report_fd)
{
    char done = 1;
    (void)signal(SIGCHLD, SIG_IGN); /* Orphans here are its own. */
    bool ok = prctl(PR_SET_NAME, "moln-room") == 0 &&
              syscall(SYS_close_range, 0, report_fd - 1, 0) == 0 &&
              syscall(SYS_close_range, report_fd + 1, ~0u, 0) == 0 &&
              prctl(PR_SET_DUMPABLE, 0) == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
    struct pollfd alive = {.fd = report_fd};
    const struct timespec at_once = {0};
    if (!ok || ppoll(&alive, 1, &at_once, NULL) > 0 ||
        write(report_fd, &done, 1) != 1) {
        _exit(127); /* The fence died before it could take us along. */
    }
    (void)close(report_fd);
    for (;;) {
        (void)ppoll(NULL, 0, NULL, NULL);
    }
}

static int
open_namespace(pid_t pid)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)pid);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static void
reap(int pidfd)
{
    siginfo_t info;
    int rc;
    do {
        rc = waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED);
    } while (rc < 0 && errno == EINTR);
}

static void
kill_by(int pidfd)
{
    (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

bool
room_open(struct fence_room *room, struct err *err)
{
    int pipe_fds[2], pidfd = -1;
    char done;
    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        return err_sys(err, errno, "make a pipe");
    }
    AUTO(fd) int read_end = pipe_fds[0];
    AUTO(fd) int write_end = pipe_fds[1];
    struct clone_args args = {.flags = CLONE_PIDFD | CLONE_NEWPID,
                              .pidfd = (uint64_t)(uintptr_t)&pidfd,
                              .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid < 0) {
        return err_sys(err, errno, "make a pid namespace");
    }
    if (pid == 0) {
        keep(write_end);
    }
    close(take_fd(&write_end));
    AUTO(fd) int process = pidfd;
    AUTO(fd) int ns = open_namespace((pid_t)pid);
    if (ns < 0 || read(read_end, &done, 1) != 1) {
        err_sys(err, errno, "hold a pid namespace");
        kill_by(process);
        reap(process);
        return false;
    }
    *room = (struct fence_room){
        .pidfd = take_fd(&process), .ns_fd = take_fd(&ns), .turn = room->turn + 1};
    return true;
}

void
room_kill(const struct fence_room *room)
{
    kill_by(room->pidfd);
}

void
room_close(struct fence_room *room)
{
    reap(room->pidfd);
    close(room->pidfd);
    close(room->ns_fd);
    room->pidfd = room->ns_fd = -1;
}

void
room_wait(struct fence_room *room)
{
    if (room->pidfd >= 0) {
        room_kill(room);
        room_close(room);
    }
}

/* ---- rights ---------------------------------------------------------------------- */

static const int calls[] = {
    SYS_ppoll,
    SYS_read,
    SYS_write,
    SYS_writev,
    SYS_close,
    SYS_close_range,
    SYS_accept4,
    SYS_recvfrom,
    SYS_recvmsg,
    SYS_sendto,
    SYS_sendmsg,
    SYS_getsockopt,
    SYS_geteuid,
    SYS_timerfd_settime,
    SYS_clone3,
    SYS_openat,
    SYS_pipe2,
    SYS_waitid,
    SYS_prctl,
    SYS_rt_sigaction,
    SYS_gettid,
    SYS_clock_gettime,
    SYS_exit,
    SYS_exit_group,
    SYS_rt_sigreturn,
    SYS_pidfd_send_signal,
    SYS_ptrace,
    SYS_brk,
    SYS_mmap,
    SYS_munmap,
    SYS_mprotect,
    SYS_futex,
    SYS_getpid,
    SYS_newfstatat,
    SYS_restart_syscall,
    SYS_rt_sigprocmask,
};

/* To make namespaces, and to open that of a process that may not be looked at; to trace. */
static bool
drop_capabilities(struct err *err)
{
    const uint32_t kept = 1u << CAP_SYS_ADMIN | 1u << CAP_SYS_PTRACE | 1u << CAP_KILL;
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{.effective = kept, .permitted = kept}};
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    }
    return syscall(SYS_capset, &head, data) == 0 ||
           err_sys(err, errno, "drop capabilities");
}

/* A container may forbid these two: then it is as firm as the host lets it be. */
static void
go_first(void)
{
    const struct sched_param first = {.sched_priority = 1};
    AUTO(fd) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fd_write_all(fd, "-1000", 5);
    }
    (void)sched_setscheduler(0, SCHED_RR, &first);
}

static bool
stand_firm(struct err *err)
{
    go_first();
    if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0) {
        return err_sys(err, errno, "lock memory");
    }
    return chdir("/") == 0 || err_sys(err, errno, "leave the folder");
}

bool
room_harden(struct err *err)
{
    return stand_firm(err) && drop_capabilities(err) &&
           (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ||
            err_sys(err, errno, "give up new privileges")) &&
           (SYSCALLS_SANITIZED || syscalls_allow(calls, ARRAY_LEN(calls), err));
}
