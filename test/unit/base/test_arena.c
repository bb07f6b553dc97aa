/* test_arena.c */
#include "base/arena.h"
#include "test.h"

TEST(arena_memory_is_zeroed_aligned_and_apart)
{
    AUTO(arena) struct arena *arena = arena_create();
    for (int round = 0; round < 2; round++) {
        unsigned char *last = NULL;
        size_t last_size = 0;
        for (size_t size = 0; size < 5000; size = size * 2 + 1) {
            unsigned char *p = arena_alloc(arena, size);
            CHECK_EQ((uintptr_t)p % _Alignof(max_align_t), 0);
            for (size_t i = 0; i < size; i++) {
                CHECK_EQ(p[i], 0);
            }
            memset(p, 0xaa, size);
            CHECK(!last_size || last[last_size - 1] == 0xaa);
            last = p;
            last_size = size;
        }
        arena_reset(arena);
        CHECK_EQ(arena_bytes(arena), 0);
    }
}

TEST(arena_text_is_copied)
{
    AUTO(arena) struct arena *arena = arena_create();
    char text[] = "hello";
    char *copy = arena_strdup(arena, text), *part = arena_strndup(arena, text, 3);
    text[0] = 'j';
    CHECK_STR(copy, "hello");
    CHECK_STR(part, "hel");
    CHECK_STR(arena_strndup(arena, "ab", 99), "ab");
    CHECK_NULL(arena_strdup(arena, NULL));
    char *big = arena_printf(arena, "%0600d|%s", 7, copy);
    CHECK_EQ(strlen(big), 606);
    CHECK_STR(big + 600, "|hello");
}

static void
append_b(void *ctx)
{
    strcat(ctx, "b");
}

static void
append_a(void *ctx)
{
    strcat(ctx, "a");
}

TEST(arena_defer_calls_the_last_one_first_and_once)
{
    char order[8] = "";
    struct arena *arena = arena_create();
    arena_defer(arena, append_a, order);
    arena_defer(arena, append_b, order);
    arena_reset(arena);
    CHECK_STR(order, "ba");
    arena_defer(arena, append_a, order);
    arena_destroy(arena);
    CHECK_STR(order, "baa");
    arena_destroy(NULL);
}
