/* addr.c - addresses and names: see addr.h. */
#include "node/net/addr.h"
#include "base/crypto.h"
#include <arpa/inet.h>

bool
addr_parse_ipv4(const char *text, uint32_t *out)
{
    struct in_addr a;
    if (str_empty(text) || inet_pton(AF_INET, text, &a) != 1) {
        return false;
    }
    *out = ntohl(a.s_addr);
    return true;
}

uint32_t
addr_mask4(int prefix)
{
    return prefix == 0 ? 0 : UINT32_MAX << (32 - prefix);
}

bool
addr_parse_cidr4(const char *text, struct cidr4 *out)
{
    const char *slash = text ? strchr(text, '/') : NULL;
    if (!slash || slash - text >= ADDR_IPV4_LEN) {
        return false;
    }
    char host[ADDR_IPV4_LEN] = {0};
    memcpy(host, text, (size_t)(slash - text));
    size_t digits = strlen(slash + 1);
    if (digits == 0 || digits > 2 || strspn(slash + 1, "0123456789") != digits) {
        return false;
    }
    struct cidr4 cidr = {.prefix = atoi(slash + 1)};
    if (cidr.prefix > 32 || !addr_parse_ipv4(host, &cidr.base) ||
        (cidr.base & ~addr_mask4(cidr.prefix)) != 0) {
        return false;
    }
    *out = cidr;
    return true;
}

bool
addr_parse_mac(const char *text, uint8_t out[6])
{
    static const uint8_t zero[6];
    if (!text || strlen(text) != ADDR_MAC_LEN - 1) {
        return false;
    }
    uint8_t mac[6];
    for (int i = 0; i < 6; i++) {
        const char *at = text + 3 * i;
        if ((i < 5 && at[2] != ':') || !hex_decode(at, 2, &mac[i])) {
            return false;
        }
    }
    if ((mac[0] & 1) != 0 || memcmp(mac, zero, sizeof mac) == 0) {
        return false;
    }
    memcpy(out, mac, sizeof mac);
    return true;
}

void
addr_ipv4_text(uint32_t ipv4, char out[ADDR_IPV4_LEN])
{
    (void)snprintf(out, ADDR_IPV4_LEN, "%u.%u.%u.%u", ipv4 >> 24, ipv4 >> 16 & 255,
                   ipv4 >> 8 & 255, ipv4 & 255);
}

void
addr_mac_text(const uint8_t mac[6], char out[ADDR_MAC_LEN])
{
    (void)snprintf(out, ADDR_MAC_LEN, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
                   mac[2], mac[3], mac[4], mac[5]);
}

bool
addr_in_cidr4(uint32_t ipv4, const struct cidr4 *cidr)
{
    return (ipv4 & addr_mask4(cidr->prefix)) == cidr->base;
}

static bool
is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool
addr_id_ok(const char *id)
{
    size_t len = id ? strnlen(id, 65) : 0;
    if (len == 0 || len > 64 || id[0] == '-') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!is_word(id[i]) && id[i] != '-') {
            return false;
        }
    }
    return true;
}

bool
addr_name_ok(const char *name, size_t max)
{
    size_t len = name ? strnlen(name, max + 1) : 0;
    if (len == 0 || len > max) {
        return false;
    }
    size_t label = 0;
    for (size_t i = 0; i < len; i++) {
        bool edge = label == 0 || i + 1 == len || name[i + 1] == '.';
        if (name[i] == '.') {
            if (label == 0 || i + 1 == len) {
                return false;
            }
            label = 0;
        } else if (is_word(name[i]) || (name[i] == '-' && !edge)) {
            if (++label > 63) {
                return false;
            }
        } else {
            return false;
        }
    }
    return true;
}

/* Six bytes that stand for an object of a cloud. */
static void
object_hash(const char *cloud_id, const char *id, uint8_t out[6])
{
    char both[160];
    int len = snprintf(both, sizeof both, "%s/%s", cloud_id, id);
    uint8_t digest[SHA256_LEN];
    sha256(both, MIN((size_t)len, sizeof both - 1), digest);
    memcpy(out, digest, 6);
}

void
addr_link_name(const char *cloud_id, const char *prefix, const char *id,
               char out[IFNAMSIZ])
{
    uint8_t hash[6];
    object_hash(cloud_id, id, hash);
    memcpy(out, prefix, 2);
    hex_encode(hash, sizeof hash, out + 2);
}

void
addr_ns_name(const char *cloud_id, const char *id, char out[ADDR_NS_LEN])
{
    uint8_t hash[6];
    char hex[13];
    object_hash(cloud_id, id, hash);
    hex_encode(hash, sizeof hash, hex);
    (void)snprintf(out, ADDR_NS_LEN, "moln-%.64s-%s", cloud_id, hex);
}

void
addr_router_mac(const char *cloud_id, const char *id, uint8_t out[6])
{
    object_hash(cloud_id, id, out);
    out[0] = 0x0e; /* Local, unicast, and not the 02 of guests. */
}

bool
addr_parse_ipv6(const char *text, struct in6_addr *out)
{
    return text && inet_pton(AF_INET6, text, out) == 1;
}

void
addr_ipv6_text(const struct in6_addr *ipv6, char out[ADDR_BLOCK_LEN])
{
    (void)inet_ntop(AF_INET6, ipv6, out, ADDR_BLOCK_LEN);
}

static void
clear_host_bits(struct in6_addr *ipv6, int prefix)
{
    for (int i = 0; i < 16; i++) {
        int bits = MIN(MAX(prefix - 8 * i, 0), 8);
        ipv6->s6_addr[i] &= (uint8_t)(0xff00 >> bits);
    }
}

bool
addr_parse_block(const char *text, struct addr_block *out)
{
    char host[ADDR_BLOCK_LEN];
    const char *slash = text ? strchr(text, '/') : NULL;
    if (!slash || (size_t)(slash - text) >= sizeof host || !slash[1] ||
        strlen(slash + 1) > 3 || strspn(slash + 1, "0123456789") != strlen(slash + 1)) {
        return false;
    }
    memcpy(host, text, (size_t)(slash - text));
    host[slash - text] = '\0';
    struct addr_block b = {.prefix = (int)strtol(slash + 1, NULL, 10)};
    if (addr_parse_ipv4(host, &b.ipv4) && b.prefix <= 32) {
        b.ipv4 &= addr_mask4(b.prefix);
    } else if (addr_parse_ipv6(host, &b.ipv6) && b.prefix <= 128) {
        b.is6 = true;
        b.ipv4 = 0;
        clear_host_bits(&b.ipv6, b.prefix);
    } else {
        return false;
    }
    *out = b;
    return true;
}

void
addr_block_text(const struct addr_block *block, char out[ADDR_BLOCK_LEN])
{
    char host[INET6_ADDRSTRLEN];
    if (block->is6) {
        (void)inet_ntop(AF_INET6, &block->ipv6, host, sizeof host);
    } else {
        addr_ipv4_text(block->ipv4, host);
    }
    (void)snprintf(out, ADDR_BLOCK_LEN, "%s/%d", host, block->prefix);
}

bool
addr_in_block6(const struct in6_addr *ipv6, const struct addr_block *block)
{
    struct in6_addr base = *ipv6;
    clear_host_bits(&base, block->prefix);
    return block->is6 && memcmp(&base, &block->ipv6, sizeof base) == 0;
}

void
addr_link_local(const uint8_t mac[6], struct in6_addr *out)
{
    *out =
        (struct in6_addr){.s6_addr = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1],
                                      mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}};
}

void
addr_rule_name(const char *prefix, const char *id, const char *suffix,
               char out[ADDR_RULE_LEN])
{
    (void)snprintf(out, ADDR_RULE_LEN, "%s_%.48s%s", prefix, id, suffix);
    for (char *p = out; *p; p++) {
        *p = (char)(*p == '-' || *p == '.' ? '_' : *p);
    }
}

uint32_t
addr_number(const char *id)
{
    uint8_t digest[SHA256_LEN];
    uint32_t n;
    sha256(id, strlen(id), digest);
    memcpy(&n, digest, sizeof n);
    return n;
}
