#include "core/page_token.h"

#include "base/crypto.h"

/* A token is hex of: format byte, first half of HMAC-SHA-256(bind, key), key. */
#define FORMAT 1
#define CHECK_BYTES 16
#define KEY_MAX 1024 /* A resource and a tag key of 128 characters. */

static void
check_of(const char *bind, const char *key, uint8_t out[SHA256_LEN])
{
    hmac_sha256(bind, strlen(bind), key, strlen(key), out);
}

const char *
page_token_make(struct arena *arena, const char *bind, const char *last_key)
{
    size_t len = strlen(last_key);
    uint8_t check[SHA256_LEN];
    check_of(bind, last_key, check);

    size_t total = 1 + CHECK_BYTES + len;
    uint8_t *raw = arena_alloc(arena, total);
    raw[0] = FORMAT;
    memcpy(raw + 1, check, CHECK_BYTES);
    memcpy(raw + 1 + CHECK_BYTES, last_key, len);
    char *out = arena_alloc(arena, 2 * total + 1);
    hex_encode(raw, total, out);
    return out;
}

bool
page_token_read(struct arena *arena, const char *bind, const char *token,
                const char **out_key, struct err *err)
{
    size_t digits = strlen(token);
    size_t total = digits / 2;
    if (digits % 2 == 0 && total > 1 + CHECK_BYTES &&
        total <= 1 + CHECK_BYTES + KEY_MAX) {
        uint8_t *raw = arena_alloc(arena, total + 1);
        if (hex_decode(token, digits, raw) && raw[0] == FORMAT) {
            const char *key = (const char *)raw + 1 + CHECK_BYTES;
            uint8_t check[SHA256_LEN];
            check_of(bind, key, check);
            if (strlen(key) == total - 1 - CHECK_BYTES &&
                secret_eq(check, raw + 1, CHECK_BYTES)) {
                *out_key = key;
                return true;
            }
        }
    }
    return err_set(err, ERR_NEXT_TOKEN_INVALID, "Unable to parse pagination token");
}
