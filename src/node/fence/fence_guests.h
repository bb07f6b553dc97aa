/* fence_guests.h - guests that ran already when they were leased.
 *
 * Purpose:  such a guest is in no room (fence_room.h), since a process cannot enter a pid
 *           namespace. The fence traces it instead, which stops nothing of it, with the one
 *           option that says what is wanted: a traced process dies with its tracer
 *           (PTRACE_O_EXITKILL). So there is no fence, no leased guest, here too; and the end
 *           of a lease kills it by its pidfd. Internal to fence/.
 * Place:    over the kernel's ptrace and pidfds alone.
 * Owner:    the fence holds one list.
 * Price:    nobody else can trace such a guest (gdb, strace) until its next start.
 * Threads:  the fence's one: a tracer is a thread. */
#pragma once
#include "base/base.h"
#include <sys/types.h>

#define FENCE_GUESTS_MAX 256

struct fence_guests {
    size_t count;
    struct fence_guest {
        pid_t pid;
        int pidfd;
    } items[FENCE_GUESTS_MAX];
};

/* 'pidfd' is taken only on success; it holds 'pid', of which the caller is sure. */
MUST_CHECK bool guests_adopt(struct fence_guests *guests, pid_t pid, int pidfd,
                             struct err *err);
/* Kills them, for good; needs no memory. They stay until they are seen to be gone. */
void guests_kill(const struct fence_guests *guests);
/* Something became of one of them (SIGCHLD): what a signal stopped goes on with it, what
 * has ended, with all its threads, is forgotten. */
void guests_look(struct fence_guests *guests);
/* Kills them, and waits until all are gone. */
void guests_wait(struct fence_guests *guests);
