/* test_file.c */
#include "base/file.h"
#include "test.h"
#include <sys/stat.h>

static char dir[64];

static const char *
in_dir(const char *name)
{
    static char path[4][128];
    static unsigned next;
    char *p = path[next++ % ARRAY_LEN(path)];
    (void)snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static void
setup(void)
{
    (void)snprintf(dir, sizeof dir, "/tmp/moln-file-XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
}

static void
teardown(void)
{
    struct err err;
    CHECK_OK(dir_remove(dir, &err), &err);
    CHECK(!file_exists(dir));
}

TEST(file_write_replaces_whole_with_its_mode)
{
    struct err err;
    struct stat st;
    char *data;
    size_t len;
    setup();
    CHECK_OK(file_write(in_dir("f"), "first", 5, 0644, &err), &err);
    CHECK_OK(file_write(in_dir("f"), "x\0y", 3, 0400, &err), &err);
    CHECK_OK(file_read(in_dir("f"), 3, &data, &len, &err), &err);
    CHECK(len == 3 && memcmp(data, "x\0y", 4) == 0);
    free(data);
    CHECK_EQ(stat(in_dir("f"), &st), 0);
    CHECK_EQ(st.st_mode & 07777, 0400);
    teardown();
}

TEST(file_read_refuses_more_than_its_limit)
{
    struct err err;
    char *data = NULL;
    setup();
    CHECK_OK(file_write(in_dir("f"), "12345", 5, 0600, &err), &err);
    CHECK(!file_read(in_dir("f"), 4, &data, NULL, &err));
    CHECK_EQ(err.code, ERR_TOO_LARGE);
    CHECK(!file_read(in_dir("none"), 4, &data, NULL, &err));
    CHECK_EQ(err.code, ERR_NOT_FOUND);
    CHECK_NULL(data);
    size_t len;
    CHECK_OK(file_read("/proc/self/status", MIB, &data, &len, &err), &err);
    CHECK(len > 100); /* Its size is said to be 0. */
    free(data);
    teardown();
}

TEST(dir_remove_takes_a_tree_and_follows_no_link)
{
    struct err err;
    setup();
    CHECK_OK(dir_make(in_dir("a/b/c"), 0700, &err), &err);
    CHECK_OK(dir_make(in_dir("a/b/c/"), 0700, &err), &err);
    CHECK_OK(dir_make(in_dir("keep"), 0700, &err), &err);
    CHECK_OK(file_write(in_dir("keep/f"), "", 0, 0600, &err), &err);
    CHECK_OK(file_write(in_dir("a/b/f"), "", 0, 0600, &err), &err);
    CHECK_EQ(symlink("../../keep", in_dir("a/b/link")), 0);
    CHECK_OK(dir_remove(in_dir("a"), &err), &err);
    CHECK_OK(dir_remove(in_dir("a"), &err), &err);
    CHECK(!file_exists(in_dir("a")) && file_exists(in_dir("keep/f")));
    CHECK(!dir_make(in_dir("keep/f/g"), 0700, &err));
    teardown();
}
