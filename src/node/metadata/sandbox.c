/* sandbox.c - privileges dropped: see sandbox.h. */
#include "node/metadata/sandbox.h"
#include "base/mounts.h"
#include "base/syscalls.h"
#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define MEMORY_MAX (512 * MIB)

static const int calls[] = {
    SYS_read,         SYS_readv,       SYS_pread64,         SYS_write,
    SYS_writev,       SYS_recvfrom,    SYS_recvmsg,         SYS_sendto,
    SYS_sendmsg,      SYS_close,       SYS_accept4,         SYS_setsockopt,
    SYS_getsockopt,   SYS_epoll_ctl,   SYS_epoll_pwait,     SYS_epoll_pwait2,
#ifdef SYS_epoll_wait
    SYS_epoll_wait,
#endif
    SYS_fstat,        SYS_newfstatat,  SYS_lseek,           SYS_fcntl,
    SYS_mmap,         SYS_munmap,      SYS_mremap,          SYS_madvise,
    SYS_mprotect,     SYS_brk,         SYS_clock_gettime,   SYS_clock_adjtime,
    SYS_adjtimex,     SYS_getrandom,   SYS_futex,           SYS_getpid,
    SYS_gettid,       SYS_tgkill,      SYS_rt_sigaction,    SYS_rt_sigprocmask,
    SYS_rt_sigreturn, SYS_sigaltstack, SYS_restart_syscall, SYS_exit,
    SYS_exit_group,   SYS_sched_yield,
};

static bool
isolate(struct err *err)
{
    if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0 ||
        mounts_make_private() < 0 ||
        mount("none", "/run", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NOEXEC | MS_NODEV,
              "size=4k") < 0 ||
        chdir("/run") < 0 || chroot(".") < 0 || chdir("/") < 0) {
        return err_sys(err, errno, "leave the host's folders and networks");
    }
    return true;
}

static bool
limit(int what, uint64_t most, struct err *err)
{
    struct rlimit r = {most, most};
    return setrlimit(what, &r) == 0 || err_sys(err, errno, "set a limit");
}

static bool
drop_user(uid_t uid, gid_t gid, struct err *err)
{
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
            return err_sys(err, errno, "drop capability %d", cap);
        }
    }
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
        setresuid(uid, uid, uid) < 0) {
        return err_sys(err, errno, "become uid %u", (unsigned)uid);
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
        return err_sys(err, errno, "give up new privileges");
    }
    return true;
}

bool
sandbox_enter(uid_t uid, gid_t gid, unsigned fds, struct err *err)
{
    if (!isolate(err) || !limit(RLIMIT_CORE, 0, err) ||
        !limit(RLIMIT_NOFILE, fds, err) || !limit(RLIMIT_FSIZE, 0, err) ||
        !drop_user(uid, gid, err)) {
        return false;
    }
    if (SYSCALLS_SANITIZED) { /* Sanitizers need the memory, a thread, and more calls. */
        return true;
    }
    return limit(RLIMIT_NPROC, 0, err) && limit(RLIMIT_AS, MEMORY_MAX, err) &&
           syscalls_allow(calls, ARRAY_LEN(calls), err);
}
