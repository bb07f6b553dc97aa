/* access_key.c - see access_key.h. */
#include "core/access_key.h"

static void
fill(const struct rng *rng, const char *alphabet, unsigned bits, char *out, size_t len)
{
    uint8_t random[64];
    rng->fill(rng->ctx, random, len);
    for (size_t i = 0; i < len; i++) {
        out[i] = alphabet[random[i] & ((1u << bits) - 1)];
    }
    out[len] = '\0';
    explicit_bzero(random, sizeof random);
}

void
access_key_make(const struct rng *rng, bool of_operator, char out_id[ACCESS_KEY_ID_LEN],
                char out_secret[ACCESS_KEY_SECRET_LEN])
{
    memcpy(out_id, of_operator ? "MOLN" : "AKIA", 4);
    fill(rng, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 5, out_id + 4, ACCESS_KEY_ID_LEN - 5);
    fill(rng, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", 6,
         out_secret, ACCESS_KEY_SECRET_LEN - 1);
}
