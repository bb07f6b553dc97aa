/* blob.h - this node's cache of immutable files: images, kernels.
 *
 * Purpose:  fetches each wanted blob once, checks its SHA-256, keeps it until its record is
 *           gone and nothing stands on it.
 * Place:    part of the node; above base/. The stream is 'host's.
 * Owner:    the agent holds one; files outlive it. A file under its own name is whole and
 *           checked; ID.part is on its way and is continued.
 * Threads:  the loop's; hashing runs in a worker. */
#pragma once
#include "base/arena.h"
#include "base/world.h"
#include "link/link.h"
#include <uv.h>

struct blobs;

/* Ended: 'why' NULL when all came. Not called from within the call that began it. */
typedef void transfer_done_fn(void *ctx, const char *why);

struct blob_host {
    /* Streams blob 'id' from 'offset' into 'fd' (taken), at most 'limit_bytes'. */
    bool (*get)(void *ctx, const char *id, int fd, int64_t offset, int64_t limit_bytes,
                transfer_done_fn *done, void *done_ctx, struct err *err);
    bool (*in_use)(void *ctx, const char *id); /* By a disk, a machine or a job. */
    void (*changed)(void *ctx);
    void *ctx;
};

struct blobs_config {
    uv_loop_t *loop;
    const char *dir;
    const struct clock *clock;
    struct blob_host host;
};

MUST_CHECK struct blobs *blobs_open(const struct blobs_config *config, struct err *err);
void blobs_close(struct blobs *set); /* NULL is a no-op. */

void blobs_want(struct blobs *set, const struct link_blob *want, bool deleted);
void blobs_forget(struct blobs *set, const char *id);
void blobs_complete(struct blobs *set);
void blobs_retry_now(struct blobs *set); /* The link is up again. */
void blobs_pass(struct blobs *set, int64_t *out_wake_ns);

typedef void blob_seen_fn(void *ctx, const struct link_blob_seen *seen);
void blobs_seen(struct blobs *set, struct arena *arena, blob_seen_fn *fn, void *ctx);
void blobs_drop_absent(struct blobs *set, const char *id);

bool blob_ready(const struct blobs *set, const char *id);
const char *blob_format(const struct blobs *set,
                        const char *id); /* "qcow2" or "raw". */
int64_t blob_virtual_bytes(const struct blobs *set, const char *id);
const char *blob_path(const struct blobs *set, const char *id); /* NULL: not ready. */
MUST_CHECK bool blob_file_open(const struct blobs *set, const char *id, int *out_fd,
                          struct err *err);
/* Takes the whole, checked file at 'path' into the cache as 'id'. */
MUST_CHECK bool blobs_adopt(struct blobs *set, const char *id, const char *path,
                            struct err *err);

/* SHA-256 of a file, in hex; blocks. */
MUST_CHECK bool file_sha256(const char *path, char out_hex[65], int64_t *out_bytes,
                            struct err *err);
