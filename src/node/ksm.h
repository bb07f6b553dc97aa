/* ksm.h - same-page merging by the host's kernel (KSM), for guests of one account.
 *
 * Purpose:  the kernel has one tree of merged pages for the whole host, and who shares a
 *           page can find out by the time that a write takes: so it merges only while all
 *           guests here are known to belong together, and what was merged is taken apart
 *           again before others come.
 * Place:    node/, beside the meter; writes /sys/kernel/mm/ksm/run.
 * Owner:    the agent holds one. A note in its folder says that it was us who turned merging
 *           on: somebody else's is never touched, and ours is not forgotten by a next agent.
 * Threads:  the loop's; taking apart is done by a worker.
 * Failure:  an event, once each time that merging is wanted: guests run unmerged. */
#pragma once
#include "base/base.h"
#include <uv.h>

struct ksm;

struct ksm_config {
    uv_loop_t *loop;
    const char *root; /* "" but in tests: what stands before /sys. Copied. */
    const char *note; /* STATE/node/ksm; copied. */
    void (*event)(void *ctx, const char *kind, const char *object, const char *level,
                  const char *message);
    void *ctx;
};

struct ksm *ksm_open(const struct ksm_config *config);
/* Merging stays as it is, as guests do. A worker is waited for. NULL is a no-op. */
void ksm_close(struct ksm *ksm);
/* Whether pages should be merged from now on; cheap when nothing has changed. */
void ksm_want(struct ksm *ksm, bool on);
/* For a host that stops: takes apart what was merged, if it was us. Blocks. */
void ksm_end(const char *root, const char *note);
