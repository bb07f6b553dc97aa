/* address6.h - IPv6 blocks and addresses; the sibling of address.h.
 *
 * Place:    core/; pure. Text goes in in any spelling and comes out canonical, so that
 *           two spellings of one address are the same key.
 * Threads:  any. */
#pragma once
#include "base/world.h"

struct cidr6 {
    uint8_t base[16]; /* Network order, host bits zero. */
    unsigned bits;    /* 0 to 128. */
};

#define IPV6_TEXT_LEN 46
#define CIDR6_TEXT_LEN 50

MUST_CHECK bool ipv6_parse(const char *s, uint8_t out[16]);
void ipv6_format(const uint8_t ip[16], char out[IPV6_TEXT_LEN]);
/* "2001:db8::/56"; host bits may be set and are cleared. */
MUST_CHECK bool cidr6_parse(const char *s, struct cidr6 *out);
void cidr6_format(const struct cidr6 *c, char out[CIDR6_TEXT_LEN]);
/* The address 'count' behind it. */
void ipv6_advance(uint8_t ip[16], uint32_t count);
/* How many blocks of 'bits' there are in 'c', 2^31 at most; and the 'index'th of them. */
uint32_t cidr6_children(const struct cidr6 *c, unsigned bits);
void cidr6_child(const struct cidr6 *c, unsigned bits, uint32_t index,
                 struct cidr6 *out);
bool cidr6_contains(const struct cidr6 *c, const uint8_t ip[16]);
bool cidr6_overlaps(const struct cidr6 *a, const struct cidr6 *b);
/* 'inner' lies in 'outer'. */
bool cidr6_within(const struct cidr6 *outer, const struct cidr6 *inner);
/* A random address in 'c' that is none of AWS's five reserved ones. */
void cidr6_random(const struct cidr6 *c, const struct rng *rng, uint8_t out[16]);
/* AWS keeps the first four addresses and the last of each subnet. */
bool subnet6_reserves(const struct cidr6 *c, const uint8_t ip[16]);
/* The cloud's own /56 for a VPC, the 'number'th (up to 2^24) of those in the
 * range that nobody routes (fd00::/8), at a place that follows from the cloud's id. */
void cidr6_of_vpc(const char *cloud_id, int64_t number, struct cidr6 *out);
