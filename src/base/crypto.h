/* crypto.h - digests, encodings and sealing, over nettle and GnuTLS.
 *
 * Threads:  any; no state.
 * Failure:  decoding and unsealing can fail; the rest cannot. */
#pragma once
#include "base/arena.h"
#include "base/world.h"

#define SHA256_LEN 32
#define SHA256_HEX_LEN 65 /* With the NUL. */

void sha256(const void *p, size_t len, uint8_t out[SHA256_LEN]);
void sha256_hex(const void *p, size_t len, char out[SHA256_HEX_LEN]);
void hmac_sha256(const void *key, size_t key_len, const void *p, size_t len,
                 uint8_t out[SHA256_LEN]);
void md5(const void *p, size_t len, uint8_t out[16]);
void sha1(const void *p, size_t len, uint8_t out[20]);

void hex_encode(const void *p, size_t len, char *out); /* 2 * len + 1 bytes, lower case. */
MUST_CHECK bool hex_decode(const char *hex, size_t len, uint8_t *out); /* len: of hex. */
char *base64_encode(struct arena *arena, const void *p, size_t len);
/* White space is skipped; anything else foreign is refused. */
MUST_CHECK bool base64_decode(struct arena *arena, const char *s, size_t len,
                              uint8_t **out, size_t *out_len, struct err *err);
/* Constant time; lengths must be equal. */
bool secret_eq(const void *a, const void *b, size_t len);

/* AES-256-GCM: nonce (12), ciphertext, tag (16). 'aad' binds the sealed bytes to their
 * place (for a row: table, key and column), so that they cannot be moved to another.
 * Sealed length is len + SEAL_OVERHEAD. */
#define SEAL_KEY_LEN 32
#define SEAL_OVERHEAD 28
void seal(const uint8_t key[SEAL_KEY_LEN], const struct rng *rng, const char *aad,
          const void *p, size_t len, uint8_t *out);
MUST_CHECK bool unseal(const uint8_t key[SEAL_KEY_LEN], const char *aad, const void *p,
                       size_t len, uint8_t *out, struct err *err);
