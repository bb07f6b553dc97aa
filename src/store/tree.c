/* tree.c - see tree.h. Rows lie in the leaves only. */
#include "store/tree.h"
#include "store/block.h"
#include "store/tree_node.h"

#define SPARSE (FAN / 4) /* Fewer: joined with a neighbour when both fit in one. */
#define DEEPEST 16

void
tree_ref(struct tree_node *n)
{
    if (n) {
        n->refs++;
    }
}

void
tree_unref(struct tree_node *n)
{
    if (!n || --n->refs) {
        return;
    }
    for (unsigned i = 0; i < n->count; i++) {
        if (n->level) {
            tree_unref(child_at(n, i));
        } else {
            block_unref(n->slots[i]);
        }
    }
    free(n);
}

/* Exchanges a share of 'n' for a node that nobody else holds. */
static struct tree_node *
own(struct tree_node *n)
{
    if (n->refs == 1) {
        return n;
    }
    struct tree_node *copy = node_copy(n);
    n->refs--;
    return copy;
}

/* The child in which the probe belongs. */
static unsigned
child_rank(struct probe *probe, const struct tree_node *n)
{
    probe->after = true;
    unsigned i = probe_rank(probe, n);
    return i ? i - 1 : 0;
}

/* Where in a leaf it is, or belongs. */
static unsigned
row_rank(struct probe *probe, const struct tree_node *leaf)
{
    probe->after = false;
    return probe_rank(probe, leaf);
}

/* ---- changes --------------------------------------------------------------------- */

/* 'n' is ours alone. Returns a new right neighbour when there was no room. */
static struct tree_node *
insert(struct tree_node *n, struct probe *probe, const void **old)
{
    const struct order *order = probe->order;
    const void *row = probe->row;
    if (!n->level) {
        unsigned at = row_rank(probe, n);
        if (at < n->count &&
            order_compare(order, order->count, n->slots[at], row) == 0) {
            *old = n->slots[at];
            node_set(n, order, at, row);
            return NULL;
        }
        return node_insert(n, order, at, row, probe);
    }
    unsigned at = child_rank(probe, n);
    struct tree_node *child = own(probe_down(probe, n, at));
    struct tree_node *right = insert(child, probe, old);
    node_set(n, order, at, child);
    return right ? node_insert(n, order, at + 1, right, NULL) : NULL;
}

const void *
tree_put(struct tree_node **root, const struct order *order, const void *row)
{
    const void *old = NULL;
    struct probe probe;
    block_ref(row);
    probe_init(&probe, order, order->count, row, false);
    *root = *root ? own(*root) : node_new(0);
    struct tree_node *right = insert(*root, &probe, &old);
    if (right) {
        struct tree_node *top = node_new((*root)->level + 1u);
        (void)node_insert(top, order, 0, *root, NULL);
        (void)node_insert(top, order, 1, right, NULL);
        *root = top;
    }
    return old;
}

/* Joins the child at 'at', which has become sparse, with a neighbour if one has room.
 */
static void
join(struct tree_node *n, const struct order *order, unsigned at)
{
    unsigned left = at ? at - 1 : at;
    if (left + 1 >= n->count ||
        child_at(n, left)->count + child_at(n, left + 1)->count > (int)FAN) {
        return;
    }
    struct tree_node *a = own(child_at(n, left)), *b = own(child_at(n, left + 1));
    node_append(a, b, order);
    free(b);
    node_set(n, order, left, a);
    node_remove(n, left + 1);
}

/* 'n' is ours alone and holds the row. Returns it. */
static const void *
take_out(struct tree_node *n, struct probe *probe)
{
    const struct order *order = probe->order;
    if (!n->level) {
        unsigned at = row_rank(probe, n);
        const void *old = n->slots[at];
        node_remove(n, at);
        return old;
    }
    unsigned at = child_rank(probe, n);
    struct tree_node *child = own(probe_down(probe, n, at));
    const void *old = take_out(child, probe);
    if (child->count == 0) {
        free(child);
        node_remove(n, at);
    } else {
        node_set(n, order, at, child);
        if (child->count < SPARSE) {
            join(n, order, at);
        }
    }
    return old;
}

const void *
tree_del(struct tree_node **root, const struct order *order, const void *key)
{
    if (!tree_find(*root, order, order->count, key)) {
        return NULL;
    }
    struct probe probe;
    probe_init(&probe, order, order->count, key, false);
    struct tree_node *n = own(*root);
    const void *old = take_out(n, &probe);
    while (n && n->count <= 1 && (n->level || n->count == 0)) {
        struct tree_node *only = n->count ? child_at(n, 0) : NULL;
        free(n);
        n = only;
        if (n && n->level && n->count == 1) {
            n = own(n);
        }
    }
    *root = n;
    return old;
}

/* ---- reading --------------------------------------------------------------------- */

/* Where a walk stands: a node and the next slot in it, for each level. */
struct cursor {
    const struct tree_node *nodes[DEEPEST];
    unsigned at[DEEPEST];
    unsigned depth; /* Of the leaf. */
};

/* Stands before the first row not before 'key' (with 'after': after it) in the order's
 * first 'count' fields. False: there is none. */
static bool
cursor_seek(struct cursor *c, const struct tree_node *root, const struct order *order,
            unsigned count, const void *key, bool after)
{
    const struct tree_node *n = root;
    struct probe probe;
    c->depth = 0;
    if (!n) {
        return false;
    }
    probe_init(&probe, order, count, key, after);
    for (;; c->depth++) {
        unsigned at = probe_rank(&probe, n);
        c->nodes[c->depth] = n;
        c->at[c->depth] = at;
        if (!n->level) {
            break;
        }
        c->at[c->depth] = at ? at - 1 : 0; /* The one before may hold the first. */
        n = probe_down(&probe, n, c->at[c->depth]);
    }
    return true;
}

/* Moves to the next leaf that has rows. */
static bool
cursor_next_leaf(struct cursor *c)
{
    unsigned d = c->depth;
    do {
        if (d == 0) {
            return false;
        }
        d--;
    } while (++c->at[d] >= c->nodes[d]->count);
    for (; d < c->depth; d++) {
        c->nodes[d + 1] = child_at(c->nodes[d], c->at[d]);
        c->at[d + 1] = 0;
    }
    return true;
}

const void *
tree_find(const struct tree_node *root, const struct order *order, unsigned count,
          const void *key)
{
    struct cursor c;
    if (!cursor_seek(&c, root, order, count, key, false)) {
        return NULL;
    }
    if (c.at[c.depth] == c.nodes[c.depth]->count && !cursor_next_leaf(&c)) {
        return NULL;
    }
    const void *row = c.nodes[c.depth]->slots[c.at[c.depth]];
    return order_compare(order, count, row, key) == 0 ? row : NULL;
}

/* Rows of the leaf from 'at' on that still begin with the prefix. */
static unsigned
run_length(const struct tree_node *leaf, unsigned at, const struct order *order,
           const struct row_query *query)
{
    unsigned left = leaf->count - at;
    unsigned prefix = query->prefix_fields;
    if (!left || !prefix ||
        order_compare(order, prefix, leaf->slots[leaf->count - 1], query->prefix) ==
            0) {
        return left;
    }
    struct probe probe;
    probe_init(&probe, order, prefix, query->prefix, true);
    unsigned end = probe_rank(&probe, leaf);
    return end > at ? end - at : 0;
}

static void
list_grow(struct row_list *list, size_t *cap, size_t need, struct arena *arena)
{
    if (need > *cap) {
        size_t more = MAX(*cap * 2, MAX(need, FAN));
        const void **rows = arena_alloc(arena, more * sizeof *rows);
        if (list->count) {
            memcpy(rows, list->rows, list->count * sizeof *rows);
        }
        list->rows = rows;
        *cap = more;
    }
}

void
tree_list(const struct tree_node *root, const struct order *order,
          const struct row_query *query, struct arena *arena, struct row_list *out)
{
    size_t limit = query->limit ? query->limit : SIZE_MAX, cap = 0;
    const unsigned prefix = query->prefix_fields;
    struct row_list list = {0};
    struct cursor c;
    /* A place before the prefix's first row is no better than the prefix itself. */
    bool after = query->after && (!prefix || order_compare(order, prefix, query->after,
                                                           query->prefix) >= 0);
    bool more = after ? cursor_seek(&c, root, order, order->count, query->after, true)
                      : cursor_seek(&c, root, order, prefix, query->prefix, false);
    while (more && list.count < limit) {
        const struct tree_node *leaf = c.nodes[c.depth];
        unsigned at = c.at[c.depth];
        size_t run = MIN(run_length(leaf, at, order, query), limit - list.count);
        list_grow(&list, &cap, list.count + run, arena);
        if (run) {
            memcpy(list.rows + list.count, leaf->slots + at, run * sizeof *list.rows);
        }
        list.count += run;
        more = at + run == leaf->count && cursor_next_leaf(&c);
    }
    *out = list;
}
