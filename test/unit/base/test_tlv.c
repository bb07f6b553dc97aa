/* test_tlv.c - there and back, other versions, and a stranger's bytes. */
#include "base/tlv.h"
#include "base/world.h"
#include "sample.h"
#include "test.h"

static bool
decode(struct arena *arena, const void *p, size_t len, struct test_sample *out,
       struct err *err)
{
    return tlv_decode(&test_sample_desc, p, len, arena, out, err);
}

TEST(tlv_round_trips_every_kind)
{
    AUTO(arena) struct arena *arena = arena_create();
    AUTO(buf) struct buf b = {0};
    struct test_sample back;
    struct err err;
    tlv_encode(&test_sample_desc, &sample_full, &b);
    CHECK_OK(decode(arena, b.data, b.len, &back, &err), &err);
    CHECK(desc_equal(&test_sample_desc, &back, &sample_full));
}

TEST(tlv_is_protobufs_wire_format)
{
    AUTO(buf) struct buf b = {0};
    struct test_sample s = {.id = "ab", .on = true, .count = -3};
    tlv_encode(&test_sample_desc, &s, &b);
    CHECK_EQ(b.len, 8);
    CHECK(memcmp(b.data,
                 "\x0a\x02"
                 "ab"
                 "\x10\x01\x18\x05",
                 8) == 0);
}

TEST(tlv_skips_what_it_does_not_know)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct test_sample s;
    struct err err;
    /* 13 retired, 1000 not yet known, in every wire type; then the id. */
    static const char in[] = "\x6a\x01x"
                             "\xc0\x3e\x07"
                             "\xc1\x3e"
                             "12345678"
                             "\xc5\x3e"
                             "1234"
                             "\xc2\x3e\x02yz"
                             "\x0a\x01i";
    CHECK_OK(decode(arena, in, sizeof in - 1, &s, &err), &err);
    CHECK_STR(s.id, "i");
}

TEST(tlv_refuses_broken_input)
{
    static const struct {
        const char *what;
        const char *bytes;
        size_t len;
    } bad[] = {
        {"cut short", "\x0a\x05xyz", 5},
        {"no value", "\x0a", 1},
        {"endless varint", "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12},
        {"another wire type", "\x08\x01", 2},
        {"number as bytes", "\x1a\x01x", 3},
        {"NUL in text",
         "\x0a\x02"
         "a\0",
         4},
        {"group", "\x0b", 1},
        {"huge length", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10},
        {"required id missing", "\x10\x01", 2},
        {"required path missing inside", "\x0a\x01i\x3a\x04\x12\x02\x10\x02", 9},
    };
    AUTO(arena) struct arena *arena = arena_create();
    struct test_sample s;
    struct err err;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (decode(arena, bad[i].bytes, bad[i].len, &s, &err)) {
            fail_msg("accepted: %s", bad[i].what);
        }
        CHECK_EQ(err.code, ERR_CORRUPT);
    }
}

TEST(tlv_small_input_cannot_take_much_memory)
{
    AUTO(arena) struct arena *arena = arena_create();
    AUTO(buf) struct buf b = {0};
    struct test_sample s;
    struct err err;
    buf_puts(&b, "\x0a\x01i");
    for (int i = 0; i < 500000; i++) {
        buf_put(&b, "\x42\x00", 2); /* An empty branch. */
    }
    bool ok = decode(arena, b.data, b.len, &s, &err);
    CHECK(ok || err.code == ERR_TOO_LARGE);
    CHECK(arena_bytes(arena) < b.len * 80);
}

TEST(tlv_survives_a_strangers_bytes)
{
    uint64_t seed = (uint64_t)clock_real(&clock_system);
    print_message("seed %" PRIu64 "\n", seed);
    struct rng rng = rng_seeded(&seed);
    AUTO(arena) struct arena *arena = arena_create();
    AUTO(buf) struct buf good = {0};
    tlv_encode(&test_sample_desc, &sample_full, &good);
    size_t accepted = 0;
    for (int round = 0; round < 30000; round++) {
        uint8_t bytes[512];
        size_t len = rng_below(&rng, sizeof bytes);
        struct test_sample s;
        struct err err;
        rng.fill(rng.ctx, bytes, len);
        if (round % 2) { /* Every other time, a good record with a few bytes changed. */
            len = MIN(good.len, sizeof bytes);
            memcpy(bytes, good.data, len);
            for (uint64_t n = rng_below(&rng, 4); n; n--) {
                bytes[rng_below(&rng, len)] = (uint8_t)rng_u64(&rng);
            }
            len -= rng_below(&rng, 2) ? rng_below(&rng, len) : 0;
        }
        uint8_t *exact = xmalloc(len); /* So that ASan sees a read past the end. */
        memcpy(exact, bytes, len);
        if (decode(arena, exact, len, &s, &err)) {
            AUTO(buf) struct buf again = {0};
            tlv_encode(&test_sample_desc, &s, &again);
            accepted++;
        }
        free(exact);
        arena_reset(arena);
    }
    CHECK(accepted > 0);
}
