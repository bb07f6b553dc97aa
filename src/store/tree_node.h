/* tree_node.h - one node of a tree of rows (tree.h), and how a key is looked for in it.
 *
 * Purpose:  rows lie all over memory, and reading one to compare it costs more than all
 *           else in a search. So a node knows how many bytes its keys have in common, and
 *           holds of each key the four that follow: most searches read no row but the one
 *           they find.
 * Place:    inside store/, for tree.c only.
 * Threads:  as tree.h.
 *
 * A key's bytes: of each field in turn, text with its ending zero, numbers most significant
 * byte first and with their sign turned; so memcmp sorts them as order_compare does, and none
 * is the beginning of another. */
#pragma once
#include "store/table.h"

#define FAN 32u
#define KEY_BYTES 128u /* What is longer is cut: order_compare has the last word. */

struct key {
    unsigned len;
    bool cut;
    uint8_t bytes[KEY_BYTES + 4]; /* Zeros follow. */
};

struct tree_node {
    uint32_t refs;
    uint16_t count;
    uint8_t level; /* 0: a leaf. */
    uint8_t skip;  /* Bytes that all its keys begin with, at least. */
    uint32_t
        words[FAN]; /* Of each key, the next bytes: big-endian, zeros at its end. */
    /* FAN rows; or FAN children, then of each child its first row. */
    const void *slots[];
};

/* What is looked for, on its way down. */
struct probe {
    const struct order *order;
    unsigned count; /* Of the order's fields. */
    const void *row;
    bool after; /* Past those that are equal. */
    struct key key;
    /* So many bytes it shares with the first key of the node that it comes to. */
    unsigned shared;
    int differs; /* What the next byte says: before (-1) or after (1) that. 0: not known. */
};

void probe_init(struct probe *probe, const struct order *order, unsigned count,
                const void *row, bool after);
/* How many of the node's keys come before the probe; with 'after', how many do not come
 * after it. */
unsigned probe_rank(struct probe *probe, const struct tree_node *n);
/* Goes down to the child at 'at', after probe_rank in its node. */
struct tree_node *probe_down(struct probe *probe, const struct tree_node *n,
                             unsigned at);

MUST_CHECK struct tree_node *node_new(unsigned level);
/* With a share of all that 'n' holds. */
MUST_CHECK struct tree_node *node_copy(const struct tree_node *n);
/* Puts a row or child at 'at'. A full node is split: its new right half is returned.
 * 'probe': NULL, or what has just been ranked in the node, and is the row. */
struct tree_node *node_insert(struct tree_node *n, const struct order *order,
                              unsigned at, const void *item, const struct probe *probe);
/* Exchanges the row, whose key is the same, or the child, whose first row may be another. */
void node_set(struct tree_node *n, const struct order *order, unsigned at,
              const void *item);
/* Takes out what is at 'at'. */
void node_remove(struct tree_node *n, unsigned at);
/* Moves all of 'from', which comes after it, to the end of 'to'. */
void node_append(struct tree_node *to, struct tree_node *from,
                 const struct order *order);

static inline struct tree_node *
child_at(const struct tree_node *n, unsigned i)
{
    return (struct tree_node *)(uintptr_t)n->slots[i];
}

/* Rows of a leaf, or the children's first rows: what is searched in. */
static inline const void *const *
node_keys(const struct tree_node *n)
{
    return n->level ? n->slots + FAN : n->slots;
}
