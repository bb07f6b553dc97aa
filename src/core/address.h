/* address.h - IPv4 blocks and addresses as numbers.
 *
 * Place:    core/; pure.
 * Threads:  any. */
#pragma once
#include "base/base.h"

struct cidr {
    uint32_t base; /* Host order, host bits zero. */
    unsigned bits; /* 0 to 32. */
};

#define IPV4_TEXT_LEN 16
#define CIDR_TEXT_LEN 20

/* "10.0.0.5": four decimal numbers without leading zeros. */
MUST_CHECK bool ipv4_parse(const char *s, uint32_t *out);
/* Whether it can be another host's: not this host itself, nor its link alone, nor many. */
bool ipv4_is_host(uint32_t ip);
void ipv4_format(uint32_t ip, char out[IPV4_TEXT_LEN]);
/* "10.0.0.0/16"; host bits may be set and are cleared. */
MUST_CHECK bool cidr_parse(const char *s, struct cidr *out);
void cidr_format(const struct cidr *c, char out[CIDR_TEXT_LEN]);
uint64_t cidr_size(const struct cidr *c);
bool cidr_contains(const struct cidr *c, uint32_t ip);
bool cidr_overlaps(const struct cidr *a, const struct cidr *b);
/* The 'index'th block of 'bits' in 'c'; false when it lies outside. */
MUST_CHECK bool cidr_child(const struct cidr *c, unsigned bits, uint32_t index,
                           struct cidr *out);
/* AWS keeps the first four addresses and the last of each subnet. */
bool subnet_reserves(const struct cidr *c, uint32_t ip);
/* Addresses of a subnet that tenants may have. */
uint64_t subnet_usable(const struct cidr *c);
/* "ip-10-0-0-5" for 10.0.0.5. */
#define HOSTNAME_LEN 24
void hostname_of(uint32_t ip, char out[HOSTNAME_LEN]);
/* "ec2.internal" in us-east-1, "REGION.compute.internal" elsewhere: AWS's own rule. */
void private_domain(const char *region, char *out, size_t size);
/* "compute-1.amazonaws.com" in us-east-1, "REGION.compute.amazonaws.com" elsewhere; and the
 * name there of a public address, "ec2-203-0-113-5....". */
#define PUBLIC_NAME_LEN 128
void public_domain(const char *region, char *out, size_t size);
void public_name(const char *region, uint32_t ip, char out[PUBLIC_NAME_LEN]);
