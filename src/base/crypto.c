/* crypto.c - see crypto.h. */
#include "base/crypto.h"
#include <nettle/base64.h>
#include <nettle/gcm.h>
#include <nettle/hmac.h>
#include <nettle/md5.h>
#include <nettle/memops.h>
#include <nettle/sha1.h>
#include <nettle/sha2.h>

#define NONCE_LEN 12
#define TAG_LEN 16

void
sha256(const void *p, size_t len, uint8_t out[SHA256_LEN])
{
    struct sha256_ctx ctx;
    sha256_init(&ctx);
    sha256_update(&ctx, len, p);
    sha256_digest(&ctx, SHA256_LEN, out);
}

void
sha256_hex(const void *p, size_t len, char out[SHA256_HEX_LEN])
{
    uint8_t digest[SHA256_LEN];
    sha256(p, len, digest);
    hex_encode(digest, sizeof digest, out);
}

void
hmac_sha256(const void *key, size_t key_len, const void *p, size_t len,
            uint8_t out[SHA256_LEN])
{
    struct hmac_sha256_ctx ctx;
    hmac_sha256_set_key(&ctx, key_len, key);
    hmac_sha256_update(&ctx, len, p);
    hmac_sha256_digest(&ctx, SHA256_LEN, out);
}

void
md5(const void *p, size_t len, uint8_t out[16])
{
    struct md5_ctx ctx;
    md5_init(&ctx);
    md5_update(&ctx, len, p);
    md5_digest(&ctx, MD5_DIGEST_SIZE, out);
}

void
sha1(const void *p, size_t len, uint8_t out[20])
{
    struct sha1_ctx ctx;
    sha1_init(&ctx);
    sha1_update(&ctx, len, p);
    sha1_digest(&ctx, SHA1_DIGEST_SIZE, out);
}

void
hex_encode(const void *p, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *in = p;
    for (size_t i = 0; i < len; i++) {
        *out++ = digits[in[i] >> 4];
        *out++ = digits[in[i] & 15];
    }
    *out = '\0';
}

static int
hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

bool
hex_decode(const char *hex, size_t len, uint8_t *out)
{
    if (len % 2) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (hex_digit(hex[i]) < 0) {
            return false;
        }
    }
    for (size_t i = 0; i < len; i += 2) {
        out[i / 2] = (uint8_t)(hex_digit(hex[i]) << 4 | hex_digit(hex[i + 1]));
    }
    return true;
}

char *
base64_encode(struct arena *arena, const void *p, size_t len)
{
    char *out = arena_alloc(arena, BASE64_ENCODE_RAW_LENGTH(len) + 1);
    base64_encode_raw(out, len, p);
    return out;
}

bool
base64_decode(struct arena *arena, const char *s, size_t len, uint8_t **out,
              size_t *out_len, struct err *err)
{
    struct base64_decode_ctx ctx;
    base64_decode_init(&ctx);
    uint8_t *data = arena_alloc(arena, BASE64_DECODE_LENGTH(len) + 1);
    size_t n = BASE64_DECODE_LENGTH(len);
    if (!base64_decode_update(&ctx, &n, data, len, s) || !base64_decode_final(&ctx)) {
        return err_set(err, ERR_INVALID, "not base64");
    }
    *out = data;
    *out_len = n;
    return true;
}

bool
secret_eq(const void *a, const void *b, size_t len)
{
    return memeql_sec(a, b, len);
}

static void
gcm_start(struct gcm_aes256_ctx *ctx, const uint8_t *key, const uint8_t *nonce,
          const char *aad)
{
    gcm_aes256_set_key(ctx, key);
    gcm_aes256_set_iv(ctx, NONCE_LEN, nonce);
    gcm_aes256_update(ctx, strlen(aad), (const uint8_t *)aad);
}

void
seal(const uint8_t key[SEAL_KEY_LEN], const struct rng *rng, const char *aad,
     const void *p, size_t len, uint8_t *out)
{
    struct gcm_aes256_ctx ctx;
    rng->fill(rng->ctx, out, NONCE_LEN);
    gcm_start(&ctx, key, out, aad);
    gcm_aes256_encrypt(&ctx, len, out + NONCE_LEN, p);
    gcm_aes256_digest(&ctx, TAG_LEN, out + NONCE_LEN + len);
    explicit_bzero(&ctx, sizeof ctx);
}

bool
unseal(const uint8_t key[SEAL_KEY_LEN], const char *aad, const void *p, size_t len,
       uint8_t *out, struct err *err)
{
    const uint8_t *in = p;
    if (len < SEAL_OVERHEAD) {
        return err_set(err, ERR_CORRUPT, "sealed bytes cut short");
    }
    struct gcm_aes256_ctx ctx;
    uint8_t tag[TAG_LEN];
    size_t plain = len - SEAL_OVERHEAD;
    gcm_start(&ctx, key, in, aad);
    gcm_aes256_decrypt(&ctx, plain, out, in + NONCE_LEN);
    gcm_aes256_digest(&ctx, TAG_LEN, tag);
    explicit_bzero(&ctx, sizeof ctx);
    if (!secret_eq(tag, in + NONCE_LEN + plain, TAG_LEN)) {
        explicit_bzero(out, plain);
        return err_set(err, ERR_CORRUPT,
                       "sealed bytes do not open: wrong key, wrong place or changed");
    }
    return true;
}
