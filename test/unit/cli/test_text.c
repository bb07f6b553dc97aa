#include "cli/grid.h"
#include "cli/ini.h"
#include "test.h"

TEST(ini_finds_a_key_in_its_section_only)
{
    AUTO(arena) struct arena *arena = arena_create();
    const char *text = "# a comment\n[other]\nregion = x\n[default]\n"
                       "aws_access_key_id=AKIA1\n  region  =  us-east-1 \r\n";
    CHECK_STR(ini_get(arena, text, "default", "aws_access_key_id"), "AKIA1");
    CHECK_STR(ini_get(arena, text, "default", "region"), "us-east-1");
    CHECK_STR(ini_get(arena, text, "other", "region"), "x");
    CHECK(!ini_get(arena, text, "default", "aws_secret_access_key"));
    CHECK(!ini_get(arena, text, "nowhere", "region"));
}

TEST(grid_aligns_columns_and_tames_control_characters)
{
    static const char *const titles[] = {"ID", "NAME", NULL};
    AUTO(grid) struct grid grid;
    grid_init(&grid, titles);
    grid_put(&grid, "i-0123");
    grid_put(&grid, "web\033[2J\xc2\x9b"); /* ESC [ in both spellings. */
    grid_put(&grid, "i-4");
    grid_put(&grid, "");
    AUTO(free) char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    grid_print(&grid, out);
    (void)fclose(out);
    CHECK_STR(text, "ID      NAME\ni-0123  web?[2J??\ni-4     -\n");
}

TEST(human_bytes_keeps_two_digits)
{
    char out[32];
    human_bytes(512, out);
    CHECK_STR(out, "512 B");
    human_bytes((int64_t)(3 * GIB / 2), out);
    CHECK_STR(out, "1.5 GiB");
    human_bytes((int64_t)(200 * MIB), out);
    CHECK_STR(out, "200 MiB");
}

TEST(human_age_says_what_a_person_would)
{
    char out[32];
    human_age(NS_PER_S, 4 * NS_PER_S, out);
    CHECK_STR(out, "3 s");
    human_age(NS_PER_S, 3601 * NS_PER_S, out);
    CHECK_STR(out, "60 min");
    human_age(0, NS_PER_S, out);
    CHECK_STR(out, "-");
}
