/* tree.h - one port's documents, and what lies under a path.
 *
 * Purpose:  folders follow from the leaves' paths. A leaf whose path ends in '/' is that
 *           folder's own listing (public-keys/: "0=name"). Date folders mirror latest/.
 * Owner:    the tree borrows the record and its arena for its life.
 * Threads:  one at a time; find is pure. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"

struct link_metadata;
struct tree;

/* Sorts the leaves. ERR_TOO_LARGE, ERR_INVALID: a record outside the bounds of
 * metadata.h. 'arena' holds the tree. */
MUST_CHECK struct tree *tree_create(struct arena *arena,
                                    const struct link_metadata *want, struct err *err);

/* Appends the body to 'out'; '*out_type' is its content type, constant or of the tree.
 * False: there is nothing there. */
bool tree_find(const struct tree *tree, const char *path, struct buf *out,
               const char **out_type);
