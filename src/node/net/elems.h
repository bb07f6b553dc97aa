/* elems.h - elements of the rules' sets, by libnftnl: microseconds, whatever their number.
 *
 * Owner:    'struct elems' holds one netlink socket of the namespace of the thread that
 *           called elems_open; used from any one thread afterwards.
 * Failure:  elems_add is one transaction: all or none. */
#pragma once
#include "base/base.h"
#include <netinet/in.h>

struct elems;

#define ELEM_KEY_MAX 48
#define ELEM_CHAIN_MAX 64
#define ELEM_SET_MAX 64

/* One element: which set or map, the key as the kernel compares it, and a map's value. */
struct elem {
    char set[ELEM_SET_MAX]; /* A name in rules_text, or of a set that policy.h made. */
    char chain[ELEM_CHAIN_MAX]; /* Of a verdict map: go there; or empty. */
    uint8_t key[ELEM_KEY_MAX];
    uint8_t data[4]; /* Of another map. */
    uint8_t family;  /* NFPROTO_BRIDGE or NFPROTO_INET. */
    uint8_t key_len, data_len;
    bool jump; /* To 'chain', and come back. */
};

/* A key is built of parts, in the order of the set's type. */
struct elem elem_in(uint8_t family, const char *set);
void elem_key_link(struct elem *e, const char *name);
void elem_key_mac(struct elem *e, const uint8_t mac[6]);
void elem_key_ipv4(struct elem *e, uint32_t ipv4);
void elem_key_ipv6(struct elem *e, const struct in6_addr *ipv6);
void elem_key_mark(struct elem *e, uint32_t mark);
/* A value. */
void elem_to_mark(struct elem *e, uint32_t mark);
void elem_to_ipv4(struct elem *e, uint32_t ipv4);
void elem_to_chain(struct elem *e, const char *chain, bool jump);

/* Of the same set and key; and of the same value too. */
bool elem_same_key(const struct elem *a, const struct elem *b);
bool elem_equal(const struct elem *a, const struct elem *b);
/* Whether the element, of a set keyed by interface first, is of this tap. */
bool elem_is_of(const struct elem *elem, const char *tap);

MUST_CHECK struct elems *elems_open(struct err *err);
void elems_close(struct elems *elems);
AUTO_DEFINE(elems, struct elems *, elems_close)

/* All or none. What is there already stays; a map's value is replaced, without a moment
 * in which there is none. */
MUST_CHECK bool elems_add(struct elems *elems, const struct elem *list, size_t count,
                          struct err *err);
/* While held, elems_add only notes; elems_flush does it, and ends the hold when it could. */
void elems_hold(struct elems *elems);
MUST_CHECK bool elems_flush(struct elems *elems, struct err *err);
/* What is not there is no failure. */
MUST_CHECK bool elems_del(struct elems *elems, const struct elem *list, size_t count,
                          struct err *err);
/* Calls 'fn' with each element that the set of 'like' has. */
typedef void elems_fn(void *ctx, const struct elem *elem);
MUST_CHECK bool elems_each(struct elems *elems, const struct elem *like, elems_fn *fn,
                           void *ctx, struct err *err);
/* The same with what an element has counted, and how long it is kept if it counts no more. */
struct elem_count {
    uint64_t packets, bytes, left_ms;
};
typedef void elems_count_fn(void *ctx, const struct elem *elem,
                            const struct elem_count *count);
MUST_CHECK bool elems_counted(struct elems *elems, const struct elem *like,
                              elems_count_fn *fn, void *ctx, struct err *err);
/* What a named counter of inet's table has counted. */
MUST_CHECK bool elems_counter(struct elems *elems, const char *name,
                              uint64_t *out_packets, struct err *err);
/* Removes each element of the sets keyed by tap for which 'unwanted' is true. */
typedef bool elems_pick_fn(void *ctx, const struct elem *elem);
MUST_CHECK bool elems_del_where(struct elems *elems, elems_pick_fn *unwanted, void *ctx,
                                struct err *err);
/* Makes the named sets hold 'want' and nothing else; sorts 'want'. '*out_drift' counts
 * what was missing, foreign, or different. */
MUST_CHECK bool elems_sync(struct elems *elems, const struct elem *sets,
                           size_t set_count, struct elem *want, size_t count,
                           size_t *out_drift, struct err *err);
