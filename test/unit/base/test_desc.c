/* test_desc.c */
#include "sample.h"
#include "test.h"

TEST(desc_copy_is_deep_and_equal)
{
    struct arena *first = arena_create();
    AUTO(arena) struct arena *second = arena_create();
    struct test_sample *a = desc_copy(&test_sample_desc, &sample_full, first);
    struct test_sample *b = desc_copy(&test_sample_desc, a, second);
    arena_destroy(first); /* What b still pointed into it ASan would see. */
    CHECK(desc_equal(&test_sample_desc, b, &sample_full));
    CHECK(b->branches.items != sample_full.branches.items);
}

TEST(desc_equal_sees_every_difference)
{
    struct test_sample s = sample_full;
    struct test_leaf leaves[] = {{"a/b", 1}, {"c", -2}};
    struct test_branch branch = {"x", {leaves, 2}};
    CHECK(desc_equal(&test_sample_desc, &s, &sample_full));
    s.branch = &branch;
    CHECK(!desc_equal(&test_sample_desc, &s, &sample_full));
    s = sample_full;
    s.late = NULL; /* Absent is not empty. */
    CHECK(!desc_equal(&test_sample_desc, &s, &sample_full));
    s = sample_full;
    s.numbers.count--;
    CHECK(!desc_equal(&test_sample_desc, &s, &sample_full));
    s = sample_full;
    s.on = false;
    CHECK(!desc_equal(&test_sample_desc, &s, &sample_full));
}

/* In structs, lists and maps; never in the middle of a character. */
TEST(desc_shorten_cuts_every_text_between_characters)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct test_sample *s = desc_copy(&test_sample_desc, &sample_full, arena);
    struct test_leaf leaves[] = {{"123456789", 1}, {"1234567\xc3\xa9", 2}};
    struct test_branch branch = {"12345678", {leaves, 2}};
    s->branch = &branch;
    s->late = "1234567\xe2\x82\xac";
    desc_shorten(&test_sample_desc, s, 8, arena);
    CHECK_STR(branch.name, "12345678");
    CHECK_STR(leaves[0].path, "12345678");
    CHECK_STR(leaves[1].path, "1234567");
    CHECK_STR(s->late, "1234567");
    CHECK_EQ(leaves[1].size, 2);
}

TEST(desc_finds_fields_by_name_and_number)
{
    CHECK_STR(desc_find(&test_sample_desc, "ratio")->name, "ratio");
    CHECK_NULL(desc_find(&test_sample_desc, "gone"));
    CHECK_STR(desc_find_number(&test_sample_desc, 14)->name, "ratios");
    CHECK_STR(desc_find_number(&test_sample_desc, 900)->name, "late");
    CHECK_EQ(desc_find_number(&test_sample_desc, 900)->since, 3);
    CHECK_NULL(desc_find_number(&test_sample_desc, 13));
    CHECK_NULL(desc_find_number(&test_sample_desc, 0));
}
