/* tree.h - rows in order, as a B-tree whose every past state can be kept.
 *
 * Purpose:  a state is its root. Holding a share of a root keeps that state as it is; a
 *           change copies the nodes on its path that others hold, and changes the rest
 *           in place. So a snapshot costs nothing, and neither does going back to one.
 * Place:    inside store/ only.
 * Owner:    the root's holder; a tree holds a share of each of its rows.
 * Threads:  any may read a root that is held for it; shares belong to the writer
 *           thread.
 * Failure:  none.
 *
 * An empty tree's root is NULL. */
#pragma once
#include "store/table.h"

struct tree_node;

void tree_ref(struct tree_node *root);
void tree_unref(struct tree_node *root);
/* The first row that equals 'key' in the order's first 'count' fields, or NULL. */
const void *tree_find(const struct tree_node *root, const struct order *order,
                      unsigned count, const void *key);
/* Puts 'row' in, taking a share of its own. Returns the row that it replaced, whose
 * share is the caller's now, or NULL. */
const void *tree_put(struct tree_node **root, const struct order *order,
                     const void *row);
/* Returns the row taken out, whose share is the caller's now, or NULL. */
const void *tree_del(struct tree_node **root, const struct order *order,
                     const void *key);
/* Rows from 'query' in order; the array lies in 'arena', the rows in the tree. */
void tree_list(const struct tree_node *root, const struct order *order,
               const struct row_query *query, struct arena *arena,
               struct row_list *out);
