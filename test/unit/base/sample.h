/* sample.h - a filled sample record, for the tests of codecs. */
#pragma once
#include "sample_records.h"

static struct test_leaf sample_leaves[] = {{"a/b", 1}, {"c", -1}};
static struct test_branch sample_branches[] = {{"x", {sample_leaves, 2}}, {NULL, {NULL, 0}}};
static const char *sample_names[] = {"", "one", "h\xc3\xa5"};
static int64_t sample_numbers[] = {0, 1, -1, INT64_MAX, INT64_MIN};
static struct blob sample_blobs[] = {{(const uint8_t *)"\0\xff", 2}, {(const uint8_t *)"", 0}};
static bool sample_flags[] = {true, false};
static double sample_ratios[] = {0.1, -1e300};

static const struct test_sample sample_full = {
    .id = "s-1",
    .on = true,
    .count = INT64_MIN,
    .ratio = 0.1,
    .at = 1700000000123456789,
    .body = {(const uint8_t *)"\0\1\2", 3},
    .branch = &sample_branches[0],
    .branches = {sample_branches, 2},
    .names = {sample_names, 3},
    .numbers = {sample_numbers, 5},
    .blobs = {sample_blobs, 2},
    .flags = {sample_flags, 2},
    .ratios = {sample_ratios, 2},
    .late = "",
};
