/* test_measure.c - what a host is, read from a tree of files as the kernel makes them. */
#include "base/file.h"
#include "node/measure.h"
#include "test.h"

#include <sys/stat.h>

struct tree {
    char dir[64];
    struct arena *arena;
};

static void
tree_init(struct tree *t)
{
    *t = (struct tree){.dir = "/tmp/moln-measure-XXXXXX", .arena = arena_create()};
    CHECK(mkdtemp(t->dir) != NULL);
}

static void
tree_fini(struct tree *t)
{
    struct err err;
    arena_destroy(t->arena);
    CHECK_OK(dir_remove(t->dir, &err), &err);
}

static void
put(struct tree *t, const char *path, const char *text)
{
    struct err err;
    char *whole = arena_printf(t->arena, "%s%s", t->dir, path);
    char *folder = arena_strdup(t->arena, whole);
    *strrchr(folder, '/') = '\0';
    CHECK_OK(dir_make(folder, 0755, &err), &err);
    FILE *file = fopen(whole, "w");
    CHECK(file && fputs(text, file) >= 0);
    CHECK_EQ(fclose(file), 0);
}

static void
device(struct tree *t, const char *address, const char *class, const char *vendor)
{
    put(t, arena_printf(t->arena, "/sys/bus/pci/devices/%s/class", address), class);
    put(t, arena_printf(t->arena, "/sys/bus/pci/devices/%s/vendor", address), vendor);
    put(t, arena_printf(t->arena, "/sys/bus/pci/devices/%s/device", address),
        "0x1234\n");
}

TEST(measure_hardware_reads_what_the_kernel_tells)
{
    struct tree t;
    struct link_hardware hw;
    tree_init(&t);
    put(&t, "/proc/cpuinfo",
        "processor : 0\nphysical id : 0\ncore id : 0\n\n"
        "processor : 1\nphysical id : 0\ncore id : 0\n\n"
        "processor : 2\nphysical id : 1\ncore id : 0\n\n"
        "processor : 3\nphysical id : 1\ncore id : 1\n");
    put(&t, "/proc/meminfo", "MemTotal: 1000 kB\nSwapTotal:      2048 kB\n");
    put(&t, "/sys/devices/system/node/node0/cpulist", "0-1\n");
    put(&t, "/sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:  1024 kB\n");
    put(&t, "/sys/devices/system/node/node1/cpulist", "2-3\n");
    put(&t, "/sys/block/sda/size", "2097152\n");
    put(&t, "/sys/block/sda/queue/rotational", "1\n");
    put(&t, "/sys/block/sda/device/model", "SPINNER 3000   \n");
    put(&t, "/sys/block/loop0/size", "100\n");
    put(&t, "/sys/class/net/eth0/speed", "25000\n");
    put(&t, "/sys/class/net/eth0/device/vendor", "0x8086\n");
    put(&t, "/sys/class/net/eth1/speed", "-1\n"); /* Down. */
    put(&t, "/sys/class/net/eth1/device/vendor", "0x8086\n");
    put(&t, "/sys/class/net/lo/mtu", "65536\n");
    device(&t, "0000:01:00.0", "0x030200\n", "0x10de\n");
    device(&t, "0000:02:00.0", "0x010802\n", "0x144d\n");
    device(&t, "0000:03:00.0", "0x030000\n", "0x1234\n"); /* A screen. */
    device(&t, "0000:04:00.0", "0x020000\n", "0x8086\n");
    put(&t, "/sys/bus/pci/devices/0000:04:00.0/sriov_totalvfs", "64\n");

    measure_hardware(t.arena, t.dir, &hw);
    CHECK_EQ(hw.sockets, 2);
    CHECK_EQ(hw.cores, 3);
    CHECK_EQ(hw.numa.count, 2);
    CHECK_STR(hw.numa.items[1].cpus, "2-3");
    CHECK_EQ(hw.numa.items[0].memory_bytes, 1 << 20);
    CHECK_EQ(hw.disks.count, 1);
    CHECK_STR(hw.disks.items[0].model, "SPINNER 3000");
    CHECK_EQ(hw.disks.items[0].size_bytes, 1 << 30);
    CHECK(hw.disks.items[0].rotational);
    CHECK_EQ(hw.nics.count, 2);
    CHECK_EQ(hw.nics.items[0].speed_mbps, 25000);
    CHECK_EQ(hw.nics.items[1].speed_mbps, 0);
    CHECK_EQ(hw.devices.count, 3);
    CHECK_STR(hw.devices.items[0].kind, "gpu");
    CHECK_EQ(measure_swap_bytes(t.dir), 2 << 20);

    const char **features;
    size_t count;
    measure_features(t.arena, &hw, &features, &count);
    CHECK_EQ(count, 3);
    CHECK_STR(features[0], "gpu");
    CHECK_STR(features[1], "nvme");
    CHECK_STR(features[2], "sriov");
    tree_fini(&t);
}

TEST(measure_hardware_of_a_host_that_tells_nothing_is_empty)
{
    struct tree t;
    struct link_hardware hw;
    tree_init(&t);
    measure_hardware(t.arena, t.dir, &hw);
    CHECK_EQ(hw.cores + hw.sockets, 0);
    CHECK_EQ(hw.numa.count + hw.disks.count + hw.nics.count + hw.devices.count, 0);
    CHECK_EQ(measure_swap_bytes(t.dir), 0);
    tree_fini(&t);
}

TEST(measure_watts_is_energy_over_time_of_whole_packages)
{
    struct tree t;
    struct measure_power power = {0};
    tree_init(&t);
    put(&t, "/sys/class/powercap/intel-rapl:0/energy_uj", "1000000\n");
    put(&t, "/sys/class/powercap/intel-rapl:1/energy_uj", "1000000\n");
    put(&t, "/sys/class/powercap/intel-rapl:0:0/energy_uj", "777\n");
    CHECK_EQ(measure_watts(t.dir, NS_PER_S, &power), 0);
    put(&t, "/sys/class/powercap/intel-rapl:0/energy_uj", "201000000\n");
    CHECK_EQ(measure_watts(t.dir, 3 * NS_PER_S, &power), 100);
    put(&t, "/sys/class/powercap/intel-rapl:0/energy_uj", "5\n"); /* Turned over. */
    CHECK_EQ(measure_watts(t.dir, 4 * NS_PER_S, &power), 0);
    tree_fini(&t);
}

TEST(measure_speed_says_something)
{
    CHECK(measure_speed() > 0);
}
