/* cgroup.h - one control group a machine: moln-CLOUDID/MACHINE in each hierarchy used.
 *
 * Purpose:  limits (memory, processor share, processes), and the truth about which
 *           processes are a machine's: adoption reads it.
 * Place:    above base/. Version 2 where its memory controller is there, else version
 *           1.
 * Owner:    kernel objects; they outlive the agent. Nothing is held in memory but
 *           paths.
 * Threads:  any, one call at a time for one machine.
 * Failure:  every call may be repeated; removing what is not there succeeds. */
#pragma once
#include "base/base.h"
#include <sys/types.h>

#define CGROUP_ROOTS_MAX 3

struct cgroup_host {
    bool v2;
    size_t count;
    char roots[CGROUP_ROOTS_MAX][96]; /* Mount points; v1: memory, cpu, pids. */
    char controllers[CGROUP_ROOTS_MAX][8];
    char cloud[80]; /* moln-CLOUDID */
};

struct cgroup_limits {
    int64_t memory_bytes;
    int64_t cpu_weight; /* 100 is usual; 1 to 10 000. */
    int64_t processes;
};

/* Finds the hierarchies. ERR_SYSTEM when there is none to use. */
MUST_CHECK bool cgroup_open(const char *cloud_id, struct cgroup_host *out,
                            struct err *err);
MUST_CHECK bool cgroup_make(const struct cgroup_host *host, const char *id,
                            const struct cgroup_limits *limits, struct err *err);
/* Descriptors to which a process writes "0" to join. */
MUST_CHECK bool cgroup_join_fds(const struct cgroup_host *host, const char *id,
                                int out_fds[CGROUP_ROOTS_MAX], size_t *out_count,
                                struct err *err);
/* Processes in the group; at most 'max'. 0 when the group is not there. */
size_t cgroup_pids(const struct cgroup_host *host, const char *id, pid_t *out,
                   size_t max);
/* Processors that the group may use, in percent of one; 0: as many as it can get. */
MUST_CHECK bool cgroup_limit_cpu(const struct cgroup_host *host, const char *id,
                                 int64_t percent, struct err *err);
/* Since it was made, how long such a limit held its threads back; 0 when unknown. */
int64_t cgroup_throttled_ns(const struct cgroup_host *host, const char *id);
int64_t cgroup_memory_bytes(const struct cgroup_host *host, const char *id);
/* Lets the kernel take back up to 'bytes' of what is cold in the group: at once with
 * version 2; with version 1, which has no such call, ahead of all else when the host runs
 * short, by a soft limit that stands until cgroup_reclaim_end(). False: this host's kernel
 * cannot, or found none. May take a while: not on a loop's thread. */
bool cgroup_reclaim(const struct cgroup_host *host, const char *id, int64_t bytes);
/* There is room again. */
void cgroup_reclaim_end(const struct cgroup_host *host, const char *id);
void cgroup_kill(const struct cgroup_host *host, const char *id);
/* ERR_BUSY while a process is in it. */
MUST_CHECK bool cgroup_remove(const struct cgroup_host *host, const char *id,
                              struct err *err);
/* Calls 'fn' for the name of each machine's group of this cloud. */
typedef void cgroup_each_fn(void *ctx, const char *id);
void cgroup_each(const struct cgroup_host *host, cgroup_each_fn *fn, void *ctx);
/* Removes the cloud's own (empty) group. */
void cgroup_close_cloud(const struct cgroup_host *host);
