/* access_key.h - new access keys: an id and a secret.
 *
 * Place:    core/; pure.
 * Form:     "AKIA" (a tenant's) or "MOLN" (an operator's) and 16 base32 characters; the
 *           secret is 40 characters of base64's alphabet: 240 bits.
 * Threads:  any. */
#pragma once
#include "base/world.h"

#define ACCESS_KEY_ID_LEN 21
#define ACCESS_KEY_SECRET_LEN 41

void access_key_make(const struct rng *rng, bool of_operator, char out_id[ACCESS_KEY_ID_LEN],
                     char out_secret[ACCESS_KEY_SECRET_LEN]);
