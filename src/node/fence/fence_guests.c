/* fence_guests.c - see fence_guests.h. */
#include "node/fence/fence_guests.h"
#include "base/err.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef PTRACE_EVENT_STOP
#define PTRACE_EVENT_STOP 128
#endif

static int
signal_by(int pidfd, int sig)
{
    return (int)syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0);
}

bool
guests_adopt(struct fence_guests *guests, pid_t pid, int pidfd, struct err *err)
{
    for (size_t i = 0; i < guests->count; i++) {
        if (guests->items[i].pid == pid) {
            close(pidfd);
            return true; /* Asked for by a next agent. */
        }
    }
    if (guests->count == FENCE_GUESTS_MAX) {
        return err_set(err, ERR_RANGE, "%d guests are traced already",
                       FENCE_GUESTS_MAX);
    }
    /* Of the first thread alone: to be killed is a whole process's fate, and signals for
     * the threads that run the guest's processors need not pass by here. */
    if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)(long)PTRACE_O_EXITKILL) < 0) {
        return err_sys(err, errno, "trace process %d", (int)pid);
    }
    /* It lives: so nobody else has its number. */
    if (signal_by(pidfd, 0) < 0) {
        return err_sys(err, errno, "see process %d", (int)pid);
    }
    guests->items[guests->count++] = (struct fence_guest){pid, pidfd};
    return true;
}

void
guests_kill(const struct fence_guests *guests)
{
    for (size_t i = 0; i < guests->count; i++) {
        (void)signal_by(guests->items[i].pidfd, SIGKILL);
    }
}

/* It was stopped, as every traced process is by every signal: it goes on as it would have
 * without us. 'status' as waitid tells it. */
static void
go_on(pid_t pid, int status)
{
    int sig = status & 0xff;
    bool stop = sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;
    if (status >> 8 == PTRACE_EVENT_STOP) {
        (void)ptrace(stop ? PTRACE_LISTEN : PTRACE_CONT, pid, NULL, NULL);
    } else {
        (void)ptrace(PTRACE_CONT, pid, NULL, (void *)(long)sig);
    }
}

/* Whether it has ended, with all its threads; it is reaped then. */
static bool
look_at(const struct fence_guest *g, int how)
{
    for (;;) {
        siginfo_t info = {0};
        int rc = waitid((idtype_t)P_PIDFD, (id_t)g->pidfd, &info,
                        WEXITED | WSTOPPED | __WALL | how);
        if (rc < 0 && errno == EINTR) {
            continue;
        }
        if (rc < 0) {
            return true; /* No longer traced: only a process that is gone is not. */
        }
        if (info.si_pid == 0) {
            return false;
        }
        if (info.si_code != CLD_TRAPPED && info.si_code != CLD_STOPPED) {
            return true;
        }
        go_on(g->pid, info.si_status);
    }
}

static void
forget(struct fence_guests *guests, size_t i)
{
    close(guests->items[i].pidfd);
    guests->items[i] = guests->items[--guests->count];
}

void
guests_look(struct fence_guests *guests)
{
    for (size_t i = guests->count; i-- > 0;) {
        if (look_at(&guests->items[i], WNOHANG)) {
            forget(guests, i);
        }
    }
}

void
guests_wait(struct fence_guests *guests)
{
    guests_kill(guests);
    while (guests->count > 0) {
        (void)look_at(&guests->items[guests->count - 1], 0);
        forget(guests, guests->count - 1);
    }
}
