/* program.h - a program started to go on by itself.
 *
 * Purpose:  it has a session of its own, no signal blocked or ignored, nothing to read, and of
 *           our descriptors (all of them close-on-exec) none but the one that is named.
 * Threads:  any; it is in the namespaces of the calling one.
 * Failure:  err says which program, and why. Whoever calls waits for its end. */
#pragma once
#include "base/base.h"
#include <sys/types.h>

struct program {
    const char *path;
    const char *const *argv; /* Ended by NULL, as is the next. */
    const char *const *env;  /* NULL: ours. */
    bool silent;             /* What it prints goes nowhere... */
    const char *errors;      /* ...and its errors to this file; NULL: where ours go. */
    int fd, as_fd;           /* Ours, and its number there; as_fd 0: none. */
};

MUST_CHECK bool program_start(const struct program *p, pid_t *out_pid, struct err *err);
