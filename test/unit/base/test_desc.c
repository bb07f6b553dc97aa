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
