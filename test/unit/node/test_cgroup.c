/* test_cgroup.c - what is taken back from a machine's group, in a group of the host's. */
#include "base/file.h"
#include "node/machine/cgroup.h"
#include "test.h"

#define MACHINE "i-0123456789abcdef0"

static int64_t
soft_limit(const struct cgroup_host *host)
{
    struct err err = {0};
    size_t i = 0;
    while (!str_eq(host->controllers[i], "memory")) {
        i++;
    }
    AUTO(free)
    char *path = xasprintf("%s/%s/" MACHINE "/memory.soft_limit_in_bytes",
                           host->roots[i], host->cloud);
    AUTO(free) char *text = NULL;
    CHECK_OK(file_read(path, 64, &text, NULL, &err), &err);
    return strtoll(text, NULL, 10);
}

TEST(cgroup_reclaim_is_a_soft_limit_with_version_1_until_there_is_room_again)
{
    struct err err = {0};
    struct cgroup_host host;
    const struct cgroup_limits limits = {
        .memory_bytes = (int64_t)GIB, .cpu_weight = 100, .processes = 8};
    char cloud[32];
    snprintf(cloud, sizeof cloud, "unit%d", (int)getpid());
    if (geteuid() != 0 || !cgroup_open(cloud, &host, &err) || host.v2) {
        print_message("skipped: needs root and version 1\n");
        skip();
    }
    CHECK_OK(cgroup_make(&host, MACHINE, &limits, &err), &err);
    const int64_t none = soft_limit(&host);
    /* Nobody is in it: there is nothing to take. */
    CHECK(!cgroup_reclaim(&host, MACHINE, (int64_t)MIB));
    CHECK_EQ(soft_limit(&host), none);
    /* A mebibyte more than it has is left to it. */
    CHECK(cgroup_reclaim(&host, MACHINE, -(int64_t)MIB));
    CHECK_EQ(soft_limit(&host), (int64_t)MIB);
    cgroup_reclaim_end(&host, MACHINE);
    CHECK_EQ(soft_limit(&host), none);
    CHECK_OK(cgroup_remove(&host, MACHINE, &err), &err);
    CHECK(!cgroup_reclaim(&host, MACHINE, (int64_t)MIB));
    cgroup_reclaim_end(&host, MACHINE);
    cgroup_close_cloud(&host);
}
