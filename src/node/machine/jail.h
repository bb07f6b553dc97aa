/* jail.h - starts a process that may do almost nothing.
 *
 * Purpose:  QEMU, and qemu-img on strangers' files: own uid and gid, own mount, pid,
 *           ipc, uts and net namespaces, a root folder with the programs read-only and
 *           little else, no capabilities, no_new_privs, limits, own cgroup; open
 *           descriptors are those handed in, and no others.
 * Place:    above base/ and cgroup.h. Knows nothing of QEMU.
 * Owner:    the process lives on when the agent dies. An agent that dies in the middle
 *           of jail_start leaves no process outside the machine's cgroup.
 * Threads:  any; blocks until the program runs (a few milliseconds), so call it from a
 *           worker. Between clone and exec the child makes only system calls.
 * Failure:  what failed inside the child is reported with its step. */
#pragma once
#include "base/base.h"
#include <sched.h>
#include <sys/types.h>

struct jail_bind {
    const char *from; /* On the host. */
    const char *to;   /* In the jail, absolute; its folder is made. */
    bool writable;
};

struct jail_spec {
    const char *const *argv; /* argv[0] is a path under /usr. */
    uid_t uid;
    gid_t gid;
    const int *fds; /* Become 3, 4, ... in the program. */
    size_t fd_count;
    int log_fd; /* Standard output and error... */
    int out_fd; /* ...or standard output alone, unless -1. */
    const int *cgroup_fds;
    size_t cgroup_fd_count;
    const char
        *root; /* An empty folder; the jail is mounted over it, unseen outside. */
    const struct jail_bind *binds;
    size_t bind_count;
    /* It runs inside this pid namespace, in a further one of its own, and ends with it
     * (see node/fence/fence.h); -1: in one beside the agent's. */
    int pid_ns_fd;
    const cpu_set_t *cpus;            /* It runs on these alone; NULL: on any. */
    bool kvm;                         /* Gives it a /dev/kvm of its own. */
    const int *vfio_groups;           /* And /dev/vfio with these... */
    size_t vfio_count;                /* ...if there are any. */
    int64_t max_locked_bytes;         /* 0: as inherited. */
    bool die_with_parent;             /* Short work: ends when the agent does. */
    int64_t max_files, max_processes; /* 0: as inherited. */
    int64_t max_memory_bytes, max_cpu_s, max_file_bytes; /* 0: as inherited. */
};

struct jail_process {
    pid_t pid;
    int pidfd; /* Readable when it has ended. */
};

MUST_CHECK bool jail_start(const struct jail_spec *spec, struct jail_process *out,
                           struct err *err);
/* Reaps an ended child of ours: its wait status, or -1 when it was not ours. */
int jail_reap(int pidfd);
/* Whether jail_reap() would not wait. */
bool jail_has_ended(int pidfd);
