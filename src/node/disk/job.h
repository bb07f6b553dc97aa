/* job.h - work on blobs that only a node can do: imports and captures.
 *
 * Purpose:  import: fetch an upload, inspect and convert it in a jail, send the result to
 *           the control plane; capture: a consistent copy of a disk, also while its guest
 *           runs, sent likewise.
 * Place:    part of the node; above tool.h, blob.h, disk.h and machine.h.
 * Owner:    the agent holds one set. A job is begun anew when the agent was away; a result
 *           is kept until the record is deleted.
 * Threads:  the loop's.
 * Failure:  what the tenant's file caused fails the job for good, with a word; what the
 *           link or the disk caused is tried again. */
#pragma once
#include "base/arena.h"
#include "node/disk/blob.h"
#include "node/disk/disk.h"
#include "node/machine/machine.h"

struct jobs;

struct job_host {
    bool (*get)(void *ctx, const char *id, int fd, int64_t offset, int64_t limit_bytes,
                transfer_done_fn *done, void *done_ctx, struct err *err);
    bool (*put)(void *ctx, const char *id, int fd, int64_t size_bytes,
                transfer_done_fn *done, void *done_ctx, struct err *err);
    void (*changed)(void *ctx);
    void *ctx;
};

struct jobs_config {
    uv_loop_t *loop;
    const char *dir, *jail_dir;
    const struct clock *clock;
    struct blobs *blobs;
    struct disks *disks;
    struct machines *machines;
    struct job_host host;
};

MUST_CHECK struct jobs *jobs_open(const struct jobs_config *config, struct err *err);
void jobs_close(struct jobs *set); /* NULL is a no-op. */

void jobs_want(struct jobs *set, const struct link_blob_job *want, bool deleted);
void jobs_forget(struct jobs *set, const char *id);
void jobs_pass(struct jobs *set, int64_t *out_wake_ns);

typedef void job_seen_fn(void *ctx, const struct link_blob_job_seen *seen);
void jobs_seen(struct jobs *set, struct arena *arena, job_seen_fn *fn, void *ctx);
void jobs_drop_absent(struct jobs *set, const char *id);
/* Whether a job reads the disk by itself, so that no guest may start on it. */
bool jobs_use_disk(const struct jobs *set, const char *disk_id);
bool jobs_use_blob(const struct jobs *set, const char *blob_id);
