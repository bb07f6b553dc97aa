/* address6.c - see address6.h. */
#include "core/address6.h"

#include "base/crypto.h"

#include <arpa/inet.h>

#define VPC_BITS 56

bool
ipv6_parse(const char *s, uint8_t out[16])
{
    struct in6_addr ip;
    if (!s || inet_pton(AF_INET6, s, &ip) != 1) {
        return false;
    }
    memcpy(out, ip.s6_addr, 16);
    return true;
}

void
ipv6_format(const uint8_t ip[16], char out[IPV6_TEXT_LEN])
{
    struct in6_addr in;
    memcpy(in.s6_addr, ip, 16);
    if (!inet_ntop(AF_INET6, &in, out, IPV6_TEXT_LEN)) {
        out[0] = '\0'; /* Cannot be: the buffer is large enough for every address. */
    }
}

/* Zeroes what lies behind the first 'bits'. */
static void
mask(uint8_t ip[16], unsigned bits)
{
    for (unsigned i = 0; i < 16; i++) {
        unsigned keep = bits > i * 8 ? MIN(bits - i * 8, 8U) : 0;
        ip[i] = (uint8_t)(ip[i] & (0xff00U >> keep));
    }
}

static bool
same_prefix(const uint8_t a[16], const uint8_t b[16], unsigned bits)
{
    uint8_t x[16], y[16];
    memcpy(x, a, 16);
    memcpy(y, b, 16);
    mask(x, bits);
    mask(y, bits);
    return memcmp(x, y, 16) == 0;
}

bool
cidr6_parse(const char *s, struct cidr6 *out)
{
    char ip[IPV6_TEXT_LEN];
    const char *slash = s ? strchr(s, '/') : NULL;
    struct cidr6 c;
    if (!slash || (size_t)(slash - s) >= sizeof ip) {
        return false;
    }
    memcpy(ip, s, (size_t)(slash - s));
    ip[slash - s] = '\0';
    size_t digits = strspn(slash + 1, "0123456789");
    if (!ipv6_parse(ip, c.base) || digits == 0 || digits > 3 || slash[1 + digits] ||
        (digits > 1 && slash[1] == '0')) {
        return false;
    }
    c.bits = (unsigned)strtoul(slash + 1, NULL, 10);
    if (c.bits > 128) {
        return false;
    }
    mask(c.base, c.bits);
    *out = c;
    return true;
}

void
cidr6_format(const struct cidr6 *c, char out[CIDR6_TEXT_LEN])
{
    char ip[IPV6_TEXT_LEN];
    ipv6_format(c->base, ip);
    (void)snprintf(out, CIDR6_TEXT_LEN, "%s/%u", ip, c->bits);
}

bool
cidr6_contains(const struct cidr6 *c, const uint8_t ip[16])
{
    return same_prefix(c->base, ip, c->bits);
}

bool
cidr6_overlaps(const struct cidr6 *a, const struct cidr6 *b)
{
    return same_prefix(a->base, b->base, MIN(a->bits, b->bits));
}

bool
cidr6_within(const struct cidr6 *outer, const struct cidr6 *inner)
{
    return inner->bits >= outer->bits && cidr6_contains(outer, inner->base);
}

void
ipv6_advance(uint8_t ip[16], uint32_t count)
{
    uint64_t carry = count;
    for (size_t i = 16; i-- > 0 && carry > 0; carry >>= 8) {
        carry += ip[i];
        ip[i] = (uint8_t)carry;
    }
}

uint32_t
cidr6_children(const struct cidr6 *c, unsigned bits)
{
    return bits < c->bits ? 0 : 1U << MIN(bits - c->bits, 31U);
}

void
cidr6_child(const struct cidr6 *c, unsigned bits, uint32_t index, struct cidr6 *out)
{
    struct cidr6 child = {.bits = bits};
    memcpy(child.base, c->base, sizeof child.base);
    for (unsigned bit = 0; bit < 32 && bit < bits; bit++) {
        unsigned at = bits - 1 - bit; /* From the block's own last bit up. */
        if (index >> bit & 1) {
            child.base[at / 8] = (uint8_t)(child.base[at / 8] | 0x80U >> at % 8);
        }
    }
    *out = child;
}

void
cidr6_random(const struct cidr6 *c, const struct rng *rng, uint8_t out[16])
{
    uint8_t host[16];
    do {
        rng->fill(rng->ctx, host, sizeof host);
        for (unsigned i = 0; i < 16; i++) {
            unsigned keep = c->bits > i * 8 ? MIN(c->bits - i * 8, 8U) : 0;
            uint8_t prefix = (uint8_t)(0xff00U >> keep);
            out[i] = (uint8_t)((c->base[i] & prefix) | (host[i] & (uint8_t)~prefix));
        }
    } while (subnet6_reserves(c, out));
}

bool
subnet6_reserves(const struct cidr6 *c, const uint8_t ip[16])
{
    uint8_t last[16];
    memcpy(last, c->base, 16);
    for (unsigned i = 0; i < 16; i++) {
        unsigned keep = c->bits > i * 8 ? MIN(c->bits - i * 8, 8U) : 0;
        last[i] = (uint8_t)(last[i] | (uint8_t) ~(uint8_t)(0xff00U >> keep));
    }
    bool low = memcmp(ip, c->base, 15) == 0 && ip[15] - c->base[15] < 4;
    return low || memcmp(ip, last, 16) == 0;
}

void
cidr6_of_vpc(const char *cloud_id, int64_t number, struct cidr6 *out)
{
    uint8_t digest[SHA256_LEN];
    sha256(cloud_id, strlen(cloud_id), digest);
    *out = (struct cidr6){.bits = VPC_BITS};
    out->base[0] = 0xfd;
    memcpy(out->base + 1, digest, 3);
    out->base[4] = (uint8_t)(number >> 16);
    out->base[5] = (uint8_t)(number >> 8);
    out->base[6] = (uint8_t)number;
}
