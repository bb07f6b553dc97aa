/* wants.h - what the control plane wants of this node, kept on the node's own disk.
 *
 * Purpose:  the agent goes on, and starts again, without its control plane. Each record is
 *           appended to one file, sealed with AES-256-GCM under a 0600 key beside it, and
 *           durable before it is acknowledged; the file is rewritten when most of it is old.
 * Place:    part of the node; above base/ and link/records.h.
 * Owner:    the agent holds one.
 * Threads:  the loop's; writing runs in a worker. Memory is ahead of the disk.
 * Failure:  a torn end is cut off; a file of another key, or a damaged one, is set aside
 *           and the node asks for a snapshot. */
#pragma once
#include "base/arena.h"
#include "base/world.h"
#include "link/link.h"

/* The longest ids are those of a peer's members: eni-....sg-....vpc-..., 64 characters. */
#define WANT_ID_MAX 96

struct wants;

struct want {
    enum link_kind kind;
    char id[WANT_ID_MAX];
    int64_t revision;
    bool deleted;
    bool stale; /* Not seen in the snapshot under way. */
    const void
        *record; /* A struct of link_want_desc(kind); NULL: deleted without one. */
    struct arena *arena;
};

struct wants_config {
    uv_loop_t *loop;
    const char *dir; /* STATE/node */
    const struct rng *rng;
    /* Everything up to 'revision' is on disk. */
    void (*durable)(void *ctx, int64_t revision);
    void *ctx;
};

MUST_CHECK struct wants *wants_open(const struct wants_config *config, struct err *err);
/* Waits for what is being written. NULL is a no-op. */
void wants_close(struct wants *w);

int64_t wants_revision(const struct wants *w); /* On disk; 0: none. */
/* Whether 'want' is on disk: only then may the control plane forget what was deleted. */
bool wants_is_kept(const struct wants *w, const struct want *want);
/* Tries again what could not be written; does nothing when all is. */
void wants_retry(struct wants *w);
/* Copies. NULL when the id is no id. */
const struct want *wants_put(struct wants *w, enum link_kind kind, const char *id,
                             int64_t revision, bool deleted, const void *record);
void wants_snapshot_begin(struct wants *w);
/* Calls 'gone' for each record that the snapshot did not bring, and drops it. */
typedef void want_fn(void *ctx, const struct want *want);
void wants_snapshot_end(struct wants *w, int64_t revision, want_fn *gone, void *ctx);
void wants_drop(struct wants *w, enum link_kind kind, const char *id);
const struct want *wants_get(const struct wants *w, enum link_kind kind,
                             const char *id);
/* Do not change while iterating. */
void wants_each(const struct wants *w, enum link_kind kind, want_fn *fn, void *ctx);
