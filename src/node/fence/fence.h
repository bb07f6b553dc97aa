/* fence.h - the supervisor that ends leased guests when their lease is over.
 *
 * Purpose:  a guest that is to be started elsewhere when its host is lost may run only
 *           while the control plane's lease lives. The fence is a process beside the
 *           agent. It keeps one pid namespace in which the agent starts such guests, and
 *           ends that namespace when the lease runs out, whatever the agent does: it may
 *           be dead, hung, or just starting one more. The kernel does the rest: ending
 *           the namespace's first process kills all that is in it, nothing can be started
 *           in it afterwards, and that process is gone only when all of them are. The
 *           first process dies with the fence too: no fence, no leased guest. A guest that
 *           ran already when it was leased cannot enter the namespace: the fence traces it,
 *           and it dies with its tracer just so (fence_guests.h).
 * Place:    program moln-fence, over base/ alone: it knows neither guests nor cgroups. It
 *           writes no file, and all that it needs to end the namespace was made before.
 * Clock:    CLOCK_BOOTTIME, which counts a sleep of the host.
 * Threads:  a process of its own, with one thread.
 * Failure:  what is asked in a wrong way ends the connection, and nothing else. */
#pragma once
#include "base/world.h"
#include <sys/types.h>

#define FENCE_PROGRAM "moln-fence"
#define FENCE_LISTEN_FD 3

enum fence_what {
    FENCE_LOOK = 1, /* How do things stand? */
    FENCE_RENEW, /* Leased guests may run until 'until_ns'; never sooner than before. */
    FENCE_END,   /* End them now. */
    FENCE_QUIT,  /* End them, and yourself. */
    FENCE_ADOPT, /* Process 'until_ns', whose pidfd comes along, is one of them now. */
};

enum fence_state {
    FENCE_EMPTY = 1, /* No leased guest runs, and none can be started. */
    FENCE_OPEN,      /* Until 'until_ns'. */
    FENCE_ENDING,    /* Killed; not all processes are gone. */
};

/* On a stream socket, in both directions whole: bytes of this host, between programs of
 * one version or the next. */
struct fence_ask {
    uint32_t magic, what;
    int64_t until_ns;
};

/* FENCE_OPEN comes with a descriptor of the namespace (SCM_RIGHTS). */
struct fence_answer {
    uint32_t magic, state;
    int64_t until_ns;
    uint64_t turn; /* Rises with each namespace. */
};

/* Beside the state, in the answer to FENCE_ADOPT alone: whether it was done. A fence of the
 * version before hangs up instead, and goes on with what it has. */
#define FENCE_ADOPTED UINT32_C(0x100)
#define FENCE_DECLINED UINT32_C(0x200)

#define FENCE_MAGIC UINT32_C(0x46454e31) /* FEN1 */

struct fence_config {
    int listen_fd; /* Stream socket; taken. */
    const struct clock *clock;
    bool harden; /* Give up what it does not need; needs root. */
};

/* Serves until it is told to quit; false when it cannot begin, or go on. */
MUST_CHECK bool fence_serve(const struct fence_config *config, struct err *err);
