#include "core/id.h"

#include "base/arena.h"
#include "base/crypto.h"

#define ID_DIGITS 17

void
id_make(const struct rng *rng, const char *prefix, char out[ID_LEN])
{
    uint8_t random[(ID_DIGITS + 1) / 2];
    char hex[2 * sizeof random + 1];
    rng->fill(rng->ctx, random, sizeof random);
    hex_encode(random, sizeof random, hex);
    /* A first digit of 0 is what EC2's own long ids have. */
    snprintf(out, ID_LEN, "%s-0%.*s", prefix, ID_DIGITS - 1, hex);
}

const char *
id_new(struct arena *arena, const struct rng *rng, const char *prefix)
{
    char id[ID_LEN];
    id_make(rng, prefix, id);
    return arena_strdup(arena, id);
}

bool
id_valid(const char *prefix, const char *s)
{
    size_t len = strlen(prefix);
    if (!s || strncmp(s, prefix, len) != 0 || s[len] != '-') {
        return false;
    }
    const char *digits = s + len + 1;
    size_t count = strspn(digits, "0123456789abcdef");
    return digits[count] == '\0' && (count == ID_DIGITS || count == 8);
}

void
id_make_account(const struct rng *rng, char out[13])
{
    uint64_t n = UINT64_C(100000000000) + rng_below(rng, UINT64_C(900000000000));
    snprintf(out, 13, "%012" PRIu64, n);
}

void
mac_from_id(const char *id, char out[MAC_TEXT_LEN])
{
    uint8_t digest[SHA256_LEN];
    sha256(id, strlen(id), digest);
    snprintf(out, MAC_TEXT_LEN, "02:%02x:%02x:%02x:%02x:%02x", digest[0], digest[1],
             digest[2], digest[3], digest[4]);
}

void
uuid_from_id(const char *id, char out[UUID_TEXT_LEN])
{
    uint8_t d[SHA256_LEN];
    char hex[2 * SHA256_LEN + 1];
    sha256(id, strlen(id), d);
    hex_encode(d, sizeof d, hex);
    snprintf(out, UUID_TEXT_LEN, "ec2%.5s-%.4s-4%.3s-8%.3s-%.12s", hex, hex + 5,
             hex + 9, hex + 12, hex + 15);
}
