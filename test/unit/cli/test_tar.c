#include "cli/tar.h"
#include "test.h"
#include <sys/mman.h>

static int
memory_file(void)
{
    int fd = memfd_create("tar", MFD_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

TEST(tar_gives_back_what_was_put)
{
    struct err err = {0};
    AUTO(fd) int fd = memory_file();
    CHECK(tar_put_header(fd, "moln.db", 5, &err));
    CHECK(write(fd, "hello", 5) == 5);
    CHECK(tar_pad(fd, 5, &err));
    CHECK(tar_end(fd, &err));
    CHECK(lseek(fd, 0, SEEK_SET) == 0);

    char name[101], data[5];
    uint64_t size = 0;
    CHECK(tar_next(fd, name, &size, &err));
    CHECK_STR(name, "moln.db");
    CHECK(size == 5);
    CHECK(read(fd, data, 5) == 5);
    CHECK(memcmp(data, "hello", 5) == 0);
    CHECK(tar_skip_pad(fd, 5, &err));
    CHECK(tar_next(fd, name, &size, &err));
    CHECK_STR(name, "");
}

TEST(tar_refuses_what_is_no_archive)
{
    struct err err = {0};
    char name[101], block[TAR_BLOCK];
    uint64_t size = 0;
    AUTO(fd) int fd = memory_file();
    memset(block, 'x', sizeof block);
    CHECK(write(fd, block, sizeof block) == TAR_BLOCK);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    CHECK(!tar_next(fd, name, &size, &err));
    CHECK(err.code == ERR_CORRUPT);
}

TEST(tar_notices_a_changed_header)
{
    struct err err = {0};
    char name[101];
    uint64_t size = 0;
    AUTO(fd) int fd = memory_file();
    CHECK(tar_put_header(fd, "moln.db", 5, &err));
    CHECK(pwrite(fd, "x", 1, 0) == 1);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    CHECK(!tar_next(fd, name, &size, &err));
}

TEST(tar_notices_an_archive_cut_short)
{
    struct err err = {0};
    char name[101];
    uint64_t size = 0;
    AUTO(fd) int fd = memory_file();
    CHECK(write(fd, "moln-backup", 11) == 11);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    CHECK(!tar_next(fd, name, &size, &err));
    CHECK(err.code == ERR_CORRUPT);
}
