/* test_crypto.c - known answers, and sealed bytes that were tampered with. */
#include "base/crypto.h"
#include "test.h"

TEST(crypto_digests_give_the_known_answers)
{
    char hex[SHA256_HEX_LEN];
    uint8_t out[SHA256_LEN];
    sha256_hex("abc", 3, hex);
    CHECK_STR(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    md5("abc", 3, out);
    hex_encode(out, 16, hex);
    CHECK_STR(hex, "900150983cd24fb0d6963f7d28e17f72");
    sha1("abc", 3, out);
    hex_encode(out, 20, hex);
    CHECK_STR(hex, "a9993e364706816aba3e25717850c26c9cd0d89d");
    hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, out); /* RFC 4231, 2. */
    hex_encode(out, 32, hex);
    CHECK_STR(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

TEST(crypto_hex_refuses_what_is_not_hex)
{
    uint8_t out[4];
    CHECK(hex_decode("00fFa9", 6, out));
    CHECK_EQ(out[1], 0xff);
    CHECK(!hex_decode("0", 1, out));
    CHECK(!hex_decode("0g", 2, out));
    CHECK(!hex_decode(" 0", 2, out));
}

TEST(crypto_base64_round_trips_and_refuses_foreign_bytes)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct err err;
    uint8_t bytes[64], *back;
    size_t len;
    for (size_t n = 0; n < sizeof bytes; n++) {
        bytes[n] = (uint8_t)(n * 37);
        char *text = base64_encode(arena, bytes, n);
        CHECK_OK(base64_decode(arena, text, strlen(text), &back, &len, &err), &err);
        CHECK_EQ(len, n);
        CHECK(n == 0 || memcmp(back, bytes, n) == 0);
    }
    CHECK_OK(base64_decode(arena, " YW\nJj ", 7, &back, &len, &err), &err);
    CHECK(len == 3 && memcmp(back, "abc", 3) == 0);
    static const char *const bad[] = {"YW!j", "YWJ",          "Y",
                                      "====", "YWJjZA==YWJj", "YW-_"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK(!base64_decode(arena, bad[i], strlen(bad[i]), &back, &len, &err));
        CHECK_EQ(err.code, ERR_INVALID);
    }
}

TEST(seal_opens_only_unchanged_in_its_place_under_its_key)
{
    uint64_t seed = 1;
    struct rng rng = rng_seeded(&seed);
    uint8_t key[SEAL_KEY_LEN] = {1}, sealed[6 + SEAL_OVERHEAD], plain[6];
    struct err err;
    seal(key, &rng, "table/key/column", "secret", 6, sealed);
    CHECK(!memmem(sealed, sizeof sealed, "secret", 6));
    CHECK_OK(unseal(key, "table/key/column", sealed, sizeof sealed, plain, &err), &err);
    CHECK(memcmp(plain, "secret", 6) == 0);
    for (size_t bit = 0; bit < sizeof sealed * 8; bit++) {
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(!unseal(key, "table/key/column", sealed, sizeof sealed, plain, &err));
        CHECK_EQ(err.code, ERR_CORRUPT);
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    CHECK(!unseal(key, "table/key2/column", sealed, sizeof sealed, plain, &err));
    for (size_t len = 0; len < sizeof sealed; len++) {
        CHECK(!unseal(key, "table/key/column", sealed, len, plain, &err));
    }
    key[31] = 1;
    CHECK(!unseal(key, "table/key/column", sealed, sizeof sealed, plain, &err));
}

TEST(seal_of_the_same_bytes_differs_each_time)
{
    uint8_t key[SEAL_KEY_LEN] = {1}, a[SEAL_OVERHEAD], b[SEAL_OVERHEAD];
    struct err err;
    seal(key, &rng_system, "x", "", 0, a);
    seal(key, &rng_system, "x", "", 0, b);
    CHECK(memcmp(a, b, sizeof a) != 0);
    CHECK_OK(unseal(key, "x", a, sizeof a, a, &err), &err);
}
