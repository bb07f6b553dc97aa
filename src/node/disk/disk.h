/* disk.h - the volumes of this node, as files of a pool.
 *
 * Purpose:  a volume is a qcow2 of our own: blank, or an overlay on a read-only base blob,
 *           made in milliseconds. Its name tells all: ID.qcow2, or ID+BLOB.qcow2 when it
 *           stands on BLOB; formats are recorded so, never probed.
 * Place:    part of the node; above base/ and qcow2.h. Knows blobs by what 'host' hands in.
 * Owner:    the agent holds one set; files outlive it.
 * Threads:  the loop's; files are made by workers.
 * Shared:   a folder that several nodes mount is a second pool, known by the id in its file
 *           POOL_ID_FILE. It holds other nodes' disks too: it is never searched, and
 *           nothing in it is deleted or moved but what a record says to erase.
 * Failure:  a file is whole or not there. What nobody wants is moved to pool/orphans and
 *           told of; only a record that says 'deleted' deletes. */
#pragma once
#include "base/arena.h"
#include "base/world.h"
#include "link/link.h"
#include <uv.h>

struct disks;

#define POOL_ID_FILE "moln-pool"

struct disk_host {
    bool (*blob_ready)(void *ctx, const char *blob_id);
    const char *(*blob_format)(void *ctx, const char *blob_id); /* "qcow2" or "raw". */
    int64_t (*blob_virtual_bytes)(void *ctx, const char *blob_id);
    bool (*in_use)(void *ctx, const char *disk_id); /* By a machine or a job. */
    void (*changed)(void *ctx);
    void (*event)(void *ctx, const char *kind, const char *object, const char *level,
                  const char *message);
    void *ctx;
};

struct disks_config {
    uv_loop_t *loop;
    const char *dir; /* The pool. */
    const char
        *shared_dir;       /* A folder that other nodes see too; NULL: there is none. */
    const char *node_id;    /* Ours, for names of our own in it; borrowed. */
    const char *blobs_dir; /* Beside it: bases are named relative to the pool. */
    const struct clock *clock;
    const struct rng *rng; /* For 'shared_dir'. */
    struct disk_host host;
};

MUST_CHECK struct disks *disks_open(const struct disks_config *config, struct err *err);
/* Waits for files that are being made. NULL is a no-op. */
void disks_close(struct disks *set);

void disks_want(struct disks *set, const struct link_disk *want, bool deleted);
void disks_delete(struct disks *set, const char *id); /* Without a record. */
void disks_forget(struct disks *set, const char *id); /* An orphan from now on. */
void disks_complete(struct disks *set);               /* Orphans may be moved away. */
void disks_pass(struct disks *set, int64_t *out_wake_ns);

typedef void disk_seen_fn(void *ctx, const struct link_disk_seen *seen);
void disks_seen(struct disks *set, struct arena *arena, disk_seen_fn *fn, void *ctx);
void disks_drop_absent(struct disks *set, const char *id);

bool disk_ready(const struct disks *set, const char *id);
/* Path, and the base blob's id (NULL: none), of a ready disk. Borrowed. */
MUST_CHECK bool disk_find(const struct disks *set, const char *id,
                          const char **out_path, const char **out_base,
                          struct err *err);
MUST_CHECK bool disk_open(const struct disks *set, const char *id, bool *out_read_only,
                          int *out_fd, struct err *err);

/* ---- disks that come from another node, as files (link_disk.incoming) ---- */

enum disk_arrival {
    DISK_NOT_AWAITED, /* It is not wanted so, or what it stands on is not here yet. */
    DISK_AWAITED,
    DISK_COMES,
    DISK_IS_HERE,
    DISK_HAS_FAILED, /* All of it came, and could not be kept. */
};
enum disk_arrival disk_arrival(const struct disks *set, const char *id);
/* An empty file for its content: of one that is awaited, or begins to come anew. */
MUST_CHECK bool disk_arrive(struct disks *set, const char *id, int *out_fd,
                            struct err *err);
/* It is written: 'whole', and on the medium, so that it may be kept; or given up. */
void disk_arrived(struct disks *set, const char *id, bool whole);

bool disks_stand_on(const struct disks *set, const char *blob_id); /* Orphans too. */
/* "pool-...", or "". */
const char *disks_shared_pool(const struct disks *set);
int64_t disks_free_bytes(const struct disks *set);
int64_t disks_total_bytes(const struct disks *set);
