/* sandbox.h - a process gives up all it does not need. Call once, single-threaded. */
#pragma once
#include "base/base.h"
#include <sys/types.h>

/* Afterwards: this uid and gid, no capabilities, no_new_privs, an empty read-only root,
 * a network namespace with nothing in it, no new processes, at most 'fds' descriptors,
 * and only the system calls that serving on sockets already open needs (others: EPERM).
 */
MUST_CHECK bool sandbox_enter(uid_t uid, gid_t gid, unsigned fds, struct err *err);
