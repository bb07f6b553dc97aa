#include "core/address.h"

static uint32_t
mask_of(unsigned bits)
{
    return bits == 0 ? 0 : UINT32_MAX << (32 - bits);
}

/* A decimal number up to 'max' without leading zeros; moves '*s' past it. */
static bool
number(const char **s, unsigned max, unsigned *out)
{
    const char *p = *s;
    size_t len = strspn(p, "0123456789");
    if (len == 0 || len > 3 || (p[0] == '0' && len > 1)) {
        return false;
    }
    unsigned v = 0;
    for (size_t i = 0; i < len; i++) {
        v = v * 10 + (unsigned)(p[i] - '0');
    }
    *s = p + len;
    *out = v;
    return v <= max;
}

static bool
ipv4_read(const char **s, uint32_t *out)
{
    uint32_t ip = 0;
    for (int i = 0; i < 4; i++) {
        unsigned part;
        if (i > 0 && *(*s)++ != '.') {
            return false;
        }
        if (!number(s, 255, &part)) {
            return false;
        }
        ip = ip << 8 | part;
    }
    *out = ip;
    return true;
}

bool
ipv4_parse(const char *s, uint32_t *out)
{
    uint32_t ip;
    if (!s || !ipv4_read(&s, &ip) || *s != '\0') {
        return false;
    }
    *out = ip;
    return true;
}

bool
ipv4_is_host(uint32_t ip)
{
    static const struct cidr others[] = {
        {0x00000000u, 8},  /* 0/8: this network */
        {0x7f000000u, 8},  /* 127/8 */
        {0xa9fe0000u, 16}, /* 169.254/16 */
        {0xe0000000u, 3},  /* 224/4 and 240/4: groups, reserved, broadcast */
    };
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        if (cidr_contains(&others[i], ip)) {
            return false;
        }
    }
    return true;
}

void
ipv4_format(uint32_t ip, char out[IPV4_TEXT_LEN])
{
    snprintf(out, IPV4_TEXT_LEN, "%u.%u.%u.%u", ip >> 24, ip >> 16 & 255, ip >> 8 & 255,
             ip & 255);
}

bool
cidr_parse(const char *s, struct cidr *out)
{
    uint32_t ip;
    unsigned bits;
    if (!s || !ipv4_read(&s, &ip) || *s++ != '/' || !number(&s, 32, &bits) ||
        *s != '\0') {
        return false;
    }
    *out = (struct cidr){.base = ip & mask_of(bits), .bits = bits};
    return true;
}

void
cidr_format(const struct cidr *c, char out[CIDR_TEXT_LEN])
{
    char ip[IPV4_TEXT_LEN];
    ipv4_format(c->base, ip);
    snprintf(out, CIDR_TEXT_LEN, "%s/%u", ip, c->bits);
}

uint64_t
cidr_size(const struct cidr *c)
{
    return UINT64_C(1) << (32 - c->bits);
}

bool
cidr_contains(const struct cidr *c, uint32_t ip)
{
    return (ip & mask_of(c->bits)) == c->base;
}

bool
cidr_overlaps(const struct cidr *a, const struct cidr *b)
{
    unsigned bits = MIN(a->bits, b->bits);
    return (a->base & mask_of(bits)) == (b->base & mask_of(bits));
}

bool
cidr_child(const struct cidr *c, unsigned bits, uint32_t index, struct cidr *out)
{
    if (bits < c->bits || bits > 32 || index >= UINT64_C(1) << (bits - c->bits)) {
        return false;
    }
    uint64_t step = UINT64_C(1) << (32 - bits);
    *out = (struct cidr){.base = c->base + (uint32_t)(index * step), .bits = bits};
    return true;
}

bool
subnet_reserves(const struct cidr *c, uint32_t ip)
{
    uint64_t offset = ip - c->base;
    return offset < 4 || offset == cidr_size(c) - 1;
}

uint64_t
subnet_usable(const struct cidr *c)
{
    uint64_t size = cidr_size(c);
    return size > 5 ? size - 5 : 0;
}

void
hostname_of(uint32_t ip, char out[HOSTNAME_LEN])
{
    snprintf(out, HOSTNAME_LEN, "ip-%u-%u-%u-%u", ip >> 24, ip >> 16 & 255,
             ip >> 8 & 255, ip & 255);
}

void
private_domain(const char *region, char *out, size_t size)
{
    if (strcmp(region, "us-east-1") == 0) {
        snprintf(out, size, "ec2.internal");
    } else {
        snprintf(out, size, "%s.compute.internal", region);
    }
}

void
public_domain(const char *region, char *out, size_t size)
{
    if (strcmp(region, "us-east-1") == 0) {
        snprintf(out, size, "compute-1.amazonaws.com");
    } else {
        snprintf(out, size, "%s.compute.amazonaws.com", region);
    }
}

void
public_name(const char *region, uint32_t ip, char out[PUBLIC_NAME_LEN])
{
    char domain[96];
    public_domain(region, domain, sizeof domain);
    snprintf(out, PUBLIC_NAME_LEN, "ec2-%u-%u-%u-%u.%s", ip >> 24, ip >> 16 & 255,
             ip >> 8 & 255, ip & 255, domain);
}
