/* addr.h - addresses and names, as text from a stranger and as numbers.
 *
 * Purpose:  check what a record says before it reaches the kernel or a file, and derive
 *           the names of kernel objects from ids.
 * Threads:  pure functions. IPv4 addresses are numbers in host byte order. */
#pragma once
#include "base/base.h"
#include <net/if.h>
#include <netinet/in.h>

#define ADDR_IPV4_LEN 16
#define ADDR_MAC_LEN 18
#define ADDR_NS_LEN 96

struct cidr4 {
    uint32_t base; /* Host bits are zero. */
    int prefix;    /* 0 to 32. */
};

/* A block of either family, host bits zero. */
struct addr_block {
    struct in6_addr ipv6; /* Of IPv6. */
    uint32_t ipv4;        /* Of IPv4. */
    int prefix;
    bool is6;
};

#define ADDR_BLOCK_LEN 64

/* "10.0.0.0/8", "2001:db8::/32"; host bits are cleared. */
MUST_CHECK bool addr_parse_block(const char *text, struct addr_block *out);
void addr_block_text(const struct addr_block *block, char out[ADDR_BLOCK_LEN]);
MUST_CHECK bool addr_parse_ipv6(const char *text, struct in6_addr *out);
void addr_ipv6_text(const struct in6_addr *ipv6, char out[ADDR_BLOCK_LEN]);
bool addr_in_block6(const struct in6_addr *ipv6, const struct addr_block *block);
/* The link-local address that a MAC gives (EUI-64). */
void addr_link_local(const uint8_t mac[6], struct in6_addr *out);
/* 'prefix', '_', and the id as nftables takes it in a name. */
#define ADDR_RULE_LEN 64
void addr_rule_name(const char *prefix, const char *id, const char *suffix,
                    char out[ADDR_RULE_LEN]);
/* A number that the same id always gives. */
uint32_t addr_number(const char *id);

MUST_CHECK bool addr_parse_ipv4(const char *text, uint32_t *out);
MUST_CHECK bool addr_parse_cidr4(const char *text, struct cidr4 *out);
/* Unicast only: neither zero nor a group address. */
MUST_CHECK bool addr_parse_mac(const char *text, uint8_t out[6]);
void addr_ipv4_text(uint32_t ipv4, char out[ADDR_IPV4_LEN]);
void addr_mac_text(const uint8_t mac[6], char out[ADDR_MAC_LEN]);
bool addr_in_cidr4(uint32_t ipv4, const struct cidr4 *cidr);
uint32_t addr_mask4(int prefix);

/* An id as records carry it: 1 to 64 of a-z, A-Z, 0-9 and '-', beginning with none of
 * '-': safe in file names and in dnsmasq's files. */
bool addr_id_ok(const char *id);
/* A DNS name: labels of letters, digits, '-'; at most 'max' bytes. */
bool addr_name_ok(const char *name, size_t max);

/* 'prefix' (two letters) and twelve hex digits of a hash of cloud and object. */
void addr_link_name(const char *cloud_id, const char *prefix, const char *id,
                    char out[IFNAMSIZ]);
/* "moln-CLOUDID-" and twelve hex digits. */
void addr_ns_name(const char *cloud_id, const char *id, char out[ADDR_NS_LEN]);
/* A stable, locally administered MAC for the router's side of an object. */
void addr_router_mac(const char *cloud_id, const char *id, uint8_t out[6]);
