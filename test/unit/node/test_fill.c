/* test_fill.c - memory made ahead of its contents, of an emulator that is this very process. */
#include "node/machine/fill.h"
#include "node/machine/jail.h"
#include "test.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define BYTES ((int64_t)(8 * MIB - 8 * KIB))

static int
memory(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, BYTES), 0);
    return fd;
}

static int64_t
held_bytes(int fd)
{
    struct stat st;
    CHECK_EQ(fstat(fd, &st), 0);
    return (int64_t)st.st_blocks * 512;
}

TEST(fill_makes_all_pages_and_leaves_what_came)
{
    const char came[] = "came before";
    char read[sizeof came] = {0};
    int pidfd = -1;
    AUTO(fd) int fd = memory("memory-backend-memfd");
    CHECK_EQ(pwrite(fd, came, sizeof came, 3 * 4096), (ssize_t)sizeof came);
    CHECK_EQ(held_bytes(fd), 4096);
    CHECK(fill_start(getpid(), BYTES, NULL, 0, &pidfd));

    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    CHECK_EQ(poll(&ended, 1, 60000), 1);
    int status = jail_reap(pidfd);
    close(pidfd);
    if (status != 0) {
        print_message("skipped: this kernel does not populate (5.14)\n");
        skip();
    }
    CHECK_EQ(held_bytes(fd), BYTES);
    CHECK_EQ(pread(fd, read, sizeof read, 3 * 4096), (ssize_t)sizeof read);
    CHECK_STR(read, came);
}

TEST(fill_touches_no_other_file_and_none_longer_than_it_may_be)
{
    int pidfd = -1;
    AUTO(fd) int other = memory("something-else");
    CHECK(!fill_start(getpid(), BYTES, NULL, 0, &pidfd));
    AUTO(fd) int longer = memory("memory-backend-memfd");
    CHECK(!fill_start(getpid(), BYTES - 1, NULL, 0, &pidfd));
    CHECK_EQ(held_bytes(other), 0);
    CHECK_EQ(held_bytes(longer), 0);
    CHECK_EQ(pidfd, -1);
}
