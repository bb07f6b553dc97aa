/* tree_node.c - see tree_node.h. */
#include "store/tree_node.h"
#include "store/block.h"
#include <endian.h>

#define WORD 4u /* Bytes of a word. */
#define SKIP_MAX (KEY_BYTES - WORD)

/* ---- keys as bytes --------------------------------------------------------------- */

static void
key_put(struct key *key, const void *data, size_t len)
{
    size_t room = KEY_BYTES - key->len, fits = MIN(len, room);
    memcpy(key->bytes + key->len, data, fits);
    key->len += (unsigned)fits;
    key->cut |= fits < len;
}

static void
key_of(const struct order *order, unsigned count, const void *row, struct key *out)
{
    out->len = 0;
    out->cut = false;
    for (unsigned i = 0; i < count && !out->cut; i++) {
        const struct order_field *f = &order->fields[i];
        const void *at = (const char *)row + f->offset;
        if (f->kind == DESC_STR) {
            const char *s = *(const char *const *)at;
            key_put(out, s ? s : "", s ? strlen(s) + 1 : 1);
        } else if (f->kind == DESC_BOOL) {
            key_put(out, at, 1);
        } else {
            uint64_t bits =
                htobe64((uint64_t) * (const int64_t *)at ^ (UINT64_C(1) << 63));
            key_put(out, &bits, sizeof bits);
        }
    }
    memset(out->bytes + out->len, 0, sizeof out->bytes - out->len);
}

static uint32_t
key_word(const struct key *key, unsigned skip)
{
    uint32_t word;
    memcpy(&word, key->bytes + skip, sizeof word);
    return be32toh(word);
}

/* How many of the first 'most' bytes are the same. */
static unsigned
key_shared(const struct key *a, const struct key *b, unsigned from, unsigned most)
{
    unsigned i = from;
    while (i < most && a->bytes[i] == b->bytes[i]) {
        i++;
    }
    return i;
}

/* ---- a node's words -------------------------------------------------------------- */

/* All words anew, for as many bytes in common as the first and the last key have: those
 * between them have them too. */
static void
respell(struct tree_node *n, const struct order *order)
{
    const void *const *keys = node_keys(n);
    struct key key, last;
    key_of(order, order->count, keys[0], &key);
    key_of(order, order->count, keys[n->count - 1], &last);
    unsigned skip = key_shared(&key, &last, 0, MIN(MIN(key.len, last.len), SKIP_MAX));
    n->skip = (uint8_t)skip;
    for (unsigned i = 0; i < n->count; i++) {
        key_of(order, order->count, keys[i], &key);
        n->words[i] = key_word(&key, skip);
    }
}

/* The word of the key at 'at', which is new there. */
static void
spell(struct tree_node *n, const struct order *order, unsigned at)
{
    const void *const *keys = node_keys(n);
    struct key key, other;
    if (n->count == 1) {
        respell(n, order);
        return;
    }
    key_of(order, order->count, keys[at], &key);
    key_of(order, order->count, keys[at ? 0 : 1], &other);
    if (key_shared(&key, &other, 0, n->skip) < n->skip) {
        respell(n, order);
    } else {
        n->words[at] = key_word(&key, n->skip);
    }
}

/* ---- looking for a key ----------------------------------------------------------- */

void
probe_init(struct probe *probe, const struct order *order, unsigned count,
           const void *row, bool after)
{
    probe->order = order;
    probe->count = count;
    probe->row = row;
    probe->after = after;
    probe->shared = 0;
    probe->differs = 0;
    if (count) {
        key_of(order, count, row, &probe->key);
    } else {
        probe->key = (struct key){0};
    }
}

/* Learns how the probe stands to the bytes that the node's keys have in common: 0: it has
 * them too, or ends within them; before (-1) or after (1) all keys else. */
static int
stand(struct probe *p, const struct tree_node *n)
{
    unsigned most = MIN((unsigned)n->skip, p->key.len);
    if (p->shared < most && !p->differs) {
        struct key first;
        key_of(p->order, p->order->count, node_keys(n)[0], &first);
        p->shared = key_shared(&p->key, &first, p->shared, most);
        if (p->shared < most) {
            p->differs = p->key.bytes[p->shared] < first.bytes[p->shared] ? -1 : 1;
        }
    }
    return p->shared < most ? p->differs : 0;
}

/* How many words are less than 'word'. */
static unsigned
words_below(const struct tree_node *n, unsigned low, uint32_t word)
{
    unsigned high = n->count;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        if (n->words[mid] < word) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* Among the keys from 'low' to 'high', whose words do not tell. */
static unsigned
rank_rows(const struct probe *p, const struct tree_node *n, unsigned low, unsigned high)
{
    const void *const *keys = node_keys(n);
    while (low < high) {
        unsigned mid = (low + high) / 2;
        int c = order_compare(p->order, p->count, keys[mid], p->row);
        if (c < 0 || (p->after && c == 0)) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

unsigned
probe_rank(struct probe *p, const struct tree_node *n)
{
    int side = stand(p, n);
    if (side) {
        return side < 0 ? 0 : n->count;
    }
    const struct key *key = &p->key;
    unsigned left = key->len > n->skip ? key->len - n->skip : 0; /* Of the probe. */
    uint32_t word = left ? key_word(key, n->skip) : 0;
    unsigned low = words_below(n, 0, word);
    if (left > WORD || (left == WORD && p->after) || key->cut) {
        unsigned high = word == UINT32_MAX ? n->count : words_below(n, low, word + 1);
        return rank_rows(p, n, low, high);
    }
    if (!p->after) {
        return low;
    }
    /* All that begin with what is left of it. */
    uint32_t last = word | (left ? UINT32_MAX >> (8 * left) : UINT32_MAX);
    return last == UINT32_MAX ? n->count : words_below(n, low, last + 1);
}

struct tree_node *
probe_down(struct probe *p, const struct tree_node *n, unsigned at)
{
    if (p->shared >= MIN((unsigned)n->skip, p->key.len)) {
        uint32_t word = key_word(&p->key, n->skip), other = n->words[at];
        unsigned same =
            word == other ? WORD : (unsigned)__builtin_clz(word ^ other) / 8;
        unsigned shared = n->skip + same;
        bool ends = shared >= p->key.len;
        p->differs = ends || same == WORD ? 0 : word < other ? -1 : 1;
        p->shared = MAX(p->shared, MIN(shared, p->key.len));
    }
    return child_at(n, at);
}

/* ---- a node's slots -------------------------------------------------------------- */

struct tree_node *
node_new(unsigned level)
{
    size_t slots = level ? 2 * FAN : FAN;
    struct tree_node *n = xmalloc(sizeof *n + slots * sizeof n->slots[0]);
    n->refs = 1;
    n->count = 0;
    n->level = (uint8_t)level;
    n->skip = 0;
    return n;
}

static const void **
firsts(struct tree_node *n)
{
    return n->slots + FAN;
}

/* Copies 'count' slots of 'from', from 'first' on, to 'at' in 'to'. */
static void
slots_copy(struct tree_node *to, unsigned at, const struct tree_node *from,
           unsigned first, unsigned count)
{
    memmove(to->words + at, from->words + first, count * sizeof to->words[0]);
    memmove(to->slots + at, from->slots + first, count * sizeof to->slots[0]);
    if (to->level) {
        memmove(firsts(to) + at, from->slots + FAN + first,
                count * sizeof to->slots[0]);
    }
}

struct tree_node *
node_copy(const struct tree_node *n)
{
    struct tree_node *copy = node_new(n->level);
    copy->count = n->count;
    copy->skip = n->skip;
    slots_copy(copy, 0, n, 0, n->count);
    for (unsigned i = 0; i < n->count; i++) {
        if (n->level) {
            child_at(n, i)->refs++;
        } else {
            block_ref(n->slots[i]);
        }
    }
    return copy;
}

static void
slot_open(struct tree_node *n, const struct order *order, unsigned at, const void *item,
          const struct probe *probe)
{
    slots_copy(n, at + 1, n, at, n->count - at);
    n->count++;
    n->slots[at] = item;
    if (n->level) {
        firsts(n)[at] = node_keys(item)[0];
    }
    if (probe && n->count > 1 && probe->shared >= n->skip) {
        n->words[at] = key_word(&probe->key, n->skip);
    } else {
        spell(n, order, at);
    }
}

/* What comes in rising order leaves full nodes behind. */
struct tree_node *
node_insert(struct tree_node *n, const struct order *order, unsigned at,
            const void *item, const struct probe *probe)
{
    struct tree_node *right = NULL, *home = n;
    if (n->count == FAN) {
        unsigned half = at == FAN ? FAN : FAN / 2;
        right = node_new(n->level);
        right->count = (uint16_t)(FAN - half);
        slots_copy(right, 0, n, half, FAN - half);
        n->count = (uint16_t)half;
        if (half < FAN) {
            respell(n, order);
            respell(right, order);
        }
        if (at > half || at == FAN) {
            home = right;
            at -= half;
        }
    }
    slot_open(home, order, at, item, probe);
    return right;
}

void
node_set(struct tree_node *n, const struct order *order, unsigned at, const void *item)
{
    n->slots[at] = item;
    if (n->level && firsts(n)[at] != node_keys(item)[0]) {
        firsts(n)[at] = node_keys(item)[0];
        spell(n, order, at);
    }
}

void
node_remove(struct tree_node *n, unsigned at)
{
    n->count--;
    slots_copy(n, at, n, at + 1, n->count - at);
}

void
node_append(struct tree_node *to, struct tree_node *from, const struct order *order)
{
    slots_copy(to, to->count, from, 0, from->count);
    to->count = (uint16_t)(to->count + from->count);
    from->count = 0;
    respell(to, order);
}
