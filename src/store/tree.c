/* tree.c - see tree.h. Rows lie in the leaves only. */
#include "store/tree.h"
#include "store/block.h"

#define FAN 32u
#define SPARSE (FAN / 4) /* Fewer: joined with a neighbour when both fit in one. */
#define DEEPEST 16

struct tree_node {
    uint32_t refs;
    uint16_t count;
    uint16_t level; /* 0: a leaf. */
    /* FAN rows; or FAN children, then of each child its first row. */
    const void *slots[];
};

static struct tree_node *
node_new(unsigned level)
{
    size_t slots = level ? 2 * FAN : FAN;
    struct tree_node *n = xmalloc(sizeof *n + slots * sizeof n->slots[0]);
    n->refs = 1;
    n->count = 0;
    n->level = (uint16_t)level;
    return n;
}

static struct tree_node *
child_at(const struct tree_node *n, unsigned i)
{
    return (struct tree_node *)(uintptr_t)n->slots[i];
}

static const void **
firsts(struct tree_node *n)
{
    return n->slots + FAN;
}

/* Rows of a leaf, or the children's first rows: what is searched in. */
static const void *const *
search_keys(const struct tree_node *n)
{
    return n->level ? n->slots + FAN : n->slots;
}

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
    struct tree_node *copy = node_new(n->level);
    copy->count = n->count;
    memcpy(copy->slots, n->slots, n->count * sizeof n->slots[0]);
    if (n->level) {
        memcpy(firsts(copy), firsts(n), n->count * sizeof n->slots[0]);
    }
    for (unsigned i = 0; i < n->count; i++) {
        if (n->level) {
            tree_ref(child_at(n, i));
        } else {
            block_ref(n->slots[i]);
        }
    }
    n->refs--;
    return copy;
}

/* How many of the node's keys come before 'key' in the first 'count' fields of the
 * order; with 'after', how many do not come after it. */
static unsigned
rank(const struct tree_node *n, const struct order *order, unsigned count,
     const void *key, bool after)
{
    const void *const *keys = search_keys(n);
    unsigned low = 0, high = n->count;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        int c = order_compare(order, count, keys[mid], key);
        if (c < 0 || (after && c == 0)) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* The child in which 'key' belongs. */
static unsigned
child_rank(const struct tree_node *n, const struct order *order, const void *key)
{
    unsigned i = rank(n, order, order->count, key, true);
    return i ? i - 1 : 0;
}

/* ---- changes --------------------------------------------------------------------- */

static void
slots_open(struct tree_node *n, unsigned at)
{
    size_t moved = (n->count - at) * sizeof n->slots[0];
    memmove(n->slots + at + 1, n->slots + at, moved);
    if (n->level) {
        memmove(firsts(n) + at + 1, firsts(n) + at, moved);
    }
    n->count++;
}

static void
slots_close(struct tree_node *n, unsigned at)
{
    n->count--;
    size_t moved = (n->count - at) * sizeof n->slots[0];
    memmove(n->slots + at, n->slots + at + 1, moved);
    if (n->level) {
        memmove(firsts(n) + at, firsts(n) + at + 1, moved);
    }
}

/* Moves the slots of 'from' beginning with 'at' to the end of 'to'. */
static void
slots_move(struct tree_node *to, struct tree_node *from, unsigned at)
{
    unsigned count = from->count - at;
    memcpy(to->slots + to->count, from->slots + at, count * sizeof to->slots[0]);
    if (to->level) {
        memcpy(firsts(to) + to->count, firsts(from) + at, count * sizeof to->slots[0]);
    }
    to->count = (uint16_t)(to->count + count);
    from->count = (uint16_t)at;
}

static void
slot_set(struct tree_node *n, unsigned at, const void *item)
{
    n->slots[at] = item;
    if (n->level) {
        firsts(n)[at] = search_keys(item)[0];
    }
}

/* Puts a row or child at 'at'. A full node is split: its new right half is returned.
 * What comes in rising order leaves full nodes behind. */
static struct tree_node *
slot_insert(struct tree_node *n, unsigned at, const void *item)
{
    struct tree_node *right = NULL;
    if (n->count == FAN) {
        unsigned half = at == FAN ? FAN : FAN / 2;
        right = node_new(n->level);
        slots_move(right, n, half);
        if (at > half || at == FAN) {
            slots_open(right, at - half);
            slot_set(right, at - half, item);
            return right;
        }
    }
    slots_open(n, at);
    slot_set(n, at, item);
    return right;
}

/* 'n' is ours alone. Returns a new right neighbour when there was no room. */
static struct tree_node *
insert(struct tree_node *n, const struct order *order, const void *row,
       const void **old)
{
    if (!n->level) {
        unsigned at = rank(n, order, order->count, row, false);
        if (at < n->count &&
            order_compare(order, order->count, n->slots[at], row) == 0) {
            *old = n->slots[at];
            n->slots[at] = row;
            return NULL;
        }
        return slot_insert(n, at, row);
    }
    unsigned at = child_rank(n, order, row);
    struct tree_node *child = own(child_at(n, at));
    struct tree_node *right = insert(child, order, row, old);
    slot_set(n, at, child);
    return right ? slot_insert(n, at + 1, right) : NULL;
}

const void *
tree_put(struct tree_node **root, const struct order *order, const void *row)
{
    const void *old = NULL;
    block_ref(row);
    *root = *root ? own(*root) : node_new(0);
    struct tree_node *right = insert(*root, order, row, &old);
    if (right) {
        struct tree_node *top = node_new((*root)->level + 1u);
        top->count = 2;
        slot_set(top, 0, *root);
        slot_set(top, 1, right);
        *root = top;
    }
    return old;
}

/* Joins the child at 'at', which has become sparse, with a neighbour if one has room.
 */
static void
join(struct tree_node *n, unsigned at)
{
    unsigned left = at ? at - 1 : at;
    if (left + 1 >= n->count ||
        child_at(n, left)->count + child_at(n, left + 1)->count > (int)FAN) {
        return;
    }
    struct tree_node *a = own(child_at(n, left)), *b = own(child_at(n, left + 1));
    slots_move(a, b, 0);
    free(b);
    slot_set(n, left, a);
    slots_close(n, left + 1);
}

/* 'n' is ours alone and holds the row. Returns it. */
static const void *
take_out(struct tree_node *n, const struct order *order, const void *key)
{
    if (!n->level) {
        unsigned at = rank(n, order, order->count, key, false);
        const void *old = n->slots[at];
        slots_close(n, at);
        return old;
    }
    unsigned at = child_rank(n, order, key);
    struct tree_node *child = own(child_at(n, at));
    const void *old = take_out(child, order, key);
    if (child->count == 0) {
        free(child);
        slots_close(n, at);
    } else {
        slot_set(n, at, child);
        if (child->count < SPARSE) {
            join(n, at);
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
    struct tree_node *n = own(*root);
    const void *old = take_out(n, order, key);
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
    c->depth = 0;
    if (!n) {
        return false;
    }
    for (;; c->depth++) {
        unsigned at = rank(n, order, count, key, after);
        c->nodes[c->depth] = n;
        c->at[c->depth] = at;
        if (!n->level) {
            break;
        }
        c->at[c->depth] = at ? at - 1 : 0; /* The one before may hold the first. */
        n = child_at(n, c->at[c->depth]);
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
    unsigned end = rank(leaf, order, prefix, query->prefix, true);
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
