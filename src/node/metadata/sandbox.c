/* sandbox.c - privileges dropped: see sandbox.h. */
#include "node/metadata/sandbox.h"
#include "base/mounts.h"
#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define MEMORY_MAX (512 * MIB)

#if defined(__x86_64__)
#define ARCH_HERE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH_HERE AUDIT_ARCH_AARCH64
#else
#error "name this architecture's AUDIT_ARCH"
#endif

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

/* Allows 'calls', on this architecture's own numbers; the rest fails with EPERM. */
static bool
filter_calls(struct err *err)
{
    enum { HEAD = 4, COUNT = ARRAY_LEN(calls) };
    struct sock_filter code[HEAD + COUNT + 2] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH_HERE, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    for (unsigned i = 0; i < COUNT; i++) {
        code[HEAD + i] = (struct sock_filter)BPF_JUMP(
            BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], (uint8_t)(COUNT - i), 0);
    }
    code[HEAD + COUNT] =
        (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    code[HEAD + COUNT + 1] =
        (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = ARRAY_LEN(code), .filter = code};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0) {
        return err_sys(err, errno, "filter system calls");
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
    if (SANITIZED) { /* Sanitizers need the memory, a thread, and more calls. */
        return true;
    }
    return limit(RLIMIT_NPROC, 0, err) && limit(RLIMIT_AS, MEMORY_MAX, err) &&
           filter_calls(err);
}
