/* token.c - tokens made and checked: see token.h. */
#include "node/metadata/token.h"
#include "base/crypto.h"

#define NONCE_LEN 9
#define BODY_LEN (1 + NONCE_LEN + 8)
#define MAC_LEN SHA256_LEN
#define RAW_LEN (BODY_LEN + MAC_LEN) /* 50 */
#define PORT_MAX 192

static const char alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void
mac_of(const uint8_t key[TOKEN_KEY_LEN], const char *port, const uint8_t *body,
       uint8_t out[MAC_LEN])
{
    uint8_t text[BODY_LEN + PORT_MAX];
    size_t len = strnlen(port, PORT_MAX);
    memcpy(text, body, BODY_LEN);
    memcpy(text + BODY_LEN, port, len);
    hmac_sha256(key, TOKEN_KEY_LEN, text, BODY_LEN + len, out);
}

static void
encode(const uint8_t raw[RAW_LEN], char out[TOKEN_TEXT_LEN])
{
    uint32_t bits = 0;
    int have = 0;
    size_t n = 0;
    for (size_t i = 0; i < RAW_LEN; i++) {
        bits = bits << 8 | raw[i];
        for (have += 8; have >= 6; have -= 6) {
            out[n++] = alphabet[bits >> (have - 6) & 63];
        }
    }
    out[n++] = alphabet[bits << (6 - have) & 63]; /* 400 bits: four are left. */
    out[n] = '\0';
}

static bool
decode(const char *text, uint8_t raw[RAW_LEN])
{
    uint32_t bits = 0;
    int have = 0;
    size_t n = 0;
    if (strnlen(text, TOKEN_TEXT_LEN) != TOKEN_TEXT_LEN - 1) {
        return false;
    }
    for (; *text; text++) {
        const char *at = strchr(alphabet, *text);
        if (!at) {
            return false;
        }
        bits = bits << 6 | (uint32_t)(at - alphabet);
        have += 6;
        if (have >= 8 && n < RAW_LEN) {
            have -= 8;
            raw[n++] = (uint8_t)(bits >> have);
        }
    }
    return n == RAW_LEN && (bits & ((1u << have) - 1)) == 0;
}

void
session_make(const uint8_t key[TOKEN_KEY_LEN], const char *port, int64_t end_s,
           const struct rng *rng, char out[TOKEN_TEXT_LEN])
{
    uint8_t raw[RAW_LEN] = {1};
    rng->fill(rng->ctx, raw + 1, NONCE_LEN);
    for (int i = 0; i < 8; i++) {
        raw[1 + NONCE_LEN + i] = (uint8_t)((uint64_t)end_s >> (56 - 8 * i));
    }
    mac_of(key, port, raw, raw + BODY_LEN);
    encode(raw, out);
}

int64_t
session_check(const uint8_t key[TOKEN_KEY_LEN], const char *port, const char *text,
            int64_t now_s)
{
    uint8_t raw[RAW_LEN], mac[MAC_LEN];
    if (!decode(text, raw) || raw[0] != 1) {
        return 0;
    }
    mac_of(key, port, raw, mac);
    if (!secret_eq(mac, raw + BODY_LEN, MAC_LEN)) {
        return 0;
    }
    uint64_t end = 0;
    for (int i = 0; i < 8; i++) {
        end = end << 8 | raw[1 + NONCE_LEN + i];
    }
    int64_t left = (int64_t)end - now_s;
    return left > 0 ? left : 0;
}
