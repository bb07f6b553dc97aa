#include "base/buf.h"
#include "base/file.h"
#include "node/machine/qemu.h"
#include "node/machine/qmp_reader.h"
#include "test.h"

static const struct accel tcg = {.kvm = false};
static const struct accel kvm = {.kvm = true};

static struct qemu_spec
direct(void)
{
    return (struct qemu_spec){
        .id = "i-0123456789abcdef0",
        .vcpus = 2,
        .memory_bytes = (int64_t)GIB,
        .uuid = "ec2a0000-0000-4000-8000-000000000001",
        .manufacturer = "Amazon EC2",
        .product = "t3.micro",
        .asset_tag = "i-0123456789abcdef0",
        .firmware = QEMU_DIRECT,
        .cmdline = "console=ttyS0 root=LABEL=root, quiet",
        .kernel_fd = 3,
        .initrd_fd = 4,
        .disks = {{.id = "vol-0123456789abcdef0",
                   .fd = 5,
                   .base_fd = 6,
                   .base_format = "qcow2",
                   .boot_index = 1}},
        .disk_count = 1,
        .nics = {{.id = "eni-0123456789abcdef0",
                  .mac = "02:00:00:00:00:01",
                  .fd = 7,
                  .mtu = 1450}},
        .nic_count = 1,
        .console_fd = 8,
        .qmp_fd = 9,
        .serial_fd = 10,
    };
}

/* The words, one a line, against golden/NAME; MOLN_GOLDEN=write makes the file anew. */
static void
check_golden(const struct qemu_spec *spec, const struct accel *accel, const char *name)
{
    struct err err = {0};
    AUTO(arena) struct arena *arena = arena_create();
    AUTO(buf) struct buf text = {0};
    AUTO(free) char *path = xasprintf("%s/%s", GOLDEN, name);
    AUTO(free) char *golden = NULL;
    const char *const *args;
    CHECK_OK(qemu_args(spec, accel, arena, &args, &err), &err);
    for (size_t i = 0; args[i]; i++) {
        buf_printf(&text, "%s\n", args[i]);
    }
    if (getenv("MOLN_GOLDEN")) {
        CHECK_OK(file_write(path, text.data, text.len, 0644, &err), &err);
    }
    CHECK_OK(file_read(path, 65536, &golden, NULL, &err), &err);
    CHECK_STR(buf_str(&text), golden);
}

TEST(qemu_args_of_a_direct_kernel_match_the_golden_file)
{
    struct qemu_spec spec = direct();
    check_golden(&spec, &tcg, "qemu-direct-tcg.args");
}

TEST(qemu_args_of_a_uefi_guest_under_kvm_match_the_golden_file)
{
    struct qemu_spec spec = direct();
    spec.firmware = QEMU_UEFI;
    spec.code_fd = 11;
    spec.vars_fd = 12;
    spec.disks[1] = (struct qemu_disk){
        .id = "vol-0fffffffffffffff0", .fd = 13, .base_fd = -1, .read_only = true};
    spec.disk_count = 2;
    check_golden(&spec, &kvm, "qemu-uefi-kvm.args");
}

/* A second card that is a virtual function of the host's. */
/* Its threads are the jail's to keep there. */
TEST(qemu_args_name_the_numa_node_that_memory_is_to_be_on)
{
    AUTO(arena) struct arena *arena = arena_create();
    const struct link_hw_numa numa = {.number = 3, .cpus = "8-15"};
    struct qemu_spec spec = direct();
    const char *const *args;
    struct err err = {0};
    bool found = false;
    spec.numa = &numa;
    CHECK_OK(qemu_args(&spec, &kvm, arena, &args, &err), &err);
    for (size_t i = 0; args[i]; i++) {
        found = found || strstr(args[i], "share=on,host-nodes=3,policy=preferred");
    }
    CHECK(found);
}

TEST(qemu_args_of_a_guest_with_a_device_of_the_hosts_match_the_golden_file)
{
    struct qemu_spec spec = direct();
    spec.nics[1] = (struct qemu_nic){.id = "eni-0fffffffffffffff0",
                                     .mac = "02:00:00:00:00:02",
                                     .fd = -1,
                                     .pci = "0000:3b:02.1",
                                     .mtu = 1500,
                                     .slot = 1};
    spec.nic_count = 2;
    check_golden(&spec, &kvm, "qemu-vfio-kvm.args");
}

TEST(qemu_args_refuses_what_is_no_device)
{
    static const char *const bad[] = {"", "3b:02.1", "0000:3b:02.1,id=x",
                                      "0000:3b:02-1"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct qemu_nic nic = {
            .id = "eni-1", .mac = "02:00:00:00:00:02", .pci = bad[i]};
        struct err err = {0};
        CHECK(!qemu_nic_ok(&nic, &err));
    }
}

TEST(qemu_args_of_a_bios_guest_without_disks_match_the_golden_file)
{
    struct qemu_spec spec = direct();
    spec.firmware = QEMU_BIOS;
    spec.disk_count = spec.nic_count = 0;
    check_golden(&spec, &tcg, "qemu-bios-tcg.args");
    spec.incoming = true;
    check_golden(&spec, &tcg, "qemu-incoming-tcg.args");
}

/* Whether the words have an option with this value. */
static bool
has_option(const char *const *args, const char *option, const char *value)
{
    for (size_t i = 0; args[i] && args[i + 1]; i++) {
        if (str_eq(args[i], option) && str_eq(args[i + 1], value)) {
            return true;
        }
    }
    return false;
}

TEST(qemu_args_takes_memory_that_the_kernel_may_merge_only_where_it_may)
{
    struct err err = {0};
    AUTO(arena) struct arena *arena = arena_create();
    struct qemu_spec spec = direct();
    const char *const *args;
    spec.merge = true;
    CHECK_OK(qemu_args(&spec, &tcg, arena, &args, &err), &err);
    CHECK(has_option(args, "-object",
                     "memory-backend-ram,id=ram,size=1048568K,merge=on"));
    spec.merge = false;
    CHECK_OK(qemu_args(&spec, &tcg, arena, &args, &err), &err);
    CHECK(has_option(args, "-object",
                     "memory-backend-memfd,id=ram,size=1048568K,share=on"));
}

TEST(qemu_args_of_a_guest_that_may_move_match_the_golden_file)
{
    struct qemu_spec spec = direct();
    spec.machine_type = "pc-q35-7.2";
    spec.cpu_model = "x86-64-v3";
    check_golden(&spec, &tcg, "qemu-named-tcg.args");
}

/* Records are a stranger's: nothing in them may become another option. */
TEST(qemu_args_refuses_texts_that_could_become_options)
{
    struct err err = {0};
    AUTO(arena) struct arena *arena = arena_create();
    const char *const *args;
    static const char *const bad[] = {"a,serial=x", "a\nb", "\"", "a\\b",
                                      "caf\xc3\xa9"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct qemu_spec spec = direct();
        spec.product = bad[i];
        CHECK(!qemu_args(&spec, &tcg, arena, &args, &err));
        CHECK_EQ(err.code, ERR_INVALID);
        spec = direct();
        spec.cpu_model = bad[i];
        CHECK(!qemu_args(&spec, &tcg, arena, &args, &err));
        spec = direct();
        spec.machine_type = bad[i];
        CHECK(!qemu_args(&spec, &tcg, arena, &args, &err));
        spec = direct();
        spec.disks[0].id = bad[i];
        CHECK(!qemu_args(&spec, &tcg, arena, &args, &err));
        spec = direct();
        spec.nics[0].mac = bad[i];
        CHECK(!qemu_args(&spec, &tcg, arena, &args, &err));
    }
}

TEST(qemu_args_refuses_sizes_out_of_range)
{
    struct err err = {0};
    AUTO(arena) struct arena *arena = arena_create();
    const char *const *args;
    struct qemu_spec spec = direct();
    spec.vcpus = 0;
    CHECK(!qemu_args(&spec, &tcg, arena, &args, &err));
    spec = direct();
    spec.memory_bytes = INT64_MAX;
    CHECK(!qemu_args(&spec, &tcg, arena, &args, &err));
    spec = direct();
    spec.disk_count = QEMU_DISKS_MAX + 1;
    CHECK(!qemu_args(&spec, &tcg, arena, &args, &err));
}

/* Golden files have no counter: it is the host's. */
TEST(qemu_tells_an_emulated_kernel_how_fast_its_counter_runs)
{
    static const struct accel measured = {.tsc_khz = 2500000};
    AUTO(arena) struct arena *arena = arena_create();
    struct err err = {0};
    struct qemu_spec spec = direct();
    const char *const *args;
    spec.cmdline = "quiet";
    CHECK(qemu_args(&spec, &measured, arena, &args, &err));
    while (*args && strcmp(*args, "-append") != 0) {
        args++;
    }
    CHECK_STR(args[1], "quiet tsc_early_khz=2500000");
}

TEST(accel_needs_the_device_and_the_flags)
{
    struct accel a;
    accel_judge("model name : X\nflags : fpu vmx sse\n", true, &a);
    CHECK(a.kvm);
    CHECK_STR(a.cpu_model, "X");
    accel_judge("flags : fpu sse vmxnot\n", true, &a);
    CHECK(!a.kvm && a.why[0]);
    accel_judge("flags : fpu svm\n", false, &a);
    CHECK(!a.kvm && a.why[0]);
}

/* ---- QMP ------------------------------------------------------------------------------- */

static bool
count_object(void *ctx, json_t *object)
{
    CHECK(json_is_object(object));
    return ++*(int *)ctx < 3;
}

TEST(qmp_reader_joins_lines_from_any_pieces)
{
    static const char text[] = "{\"a\": 1}\r\n\n{\"b\": \"}{\"}\n";
    for (size_t step = 1; step < sizeof text; step++) {
        struct qmp_reader r = {0};
        struct err err = {0};
        int count = 0;
        for (size_t at = 0; at < sizeof text - 1; at += step) {
            size_t len = MIN(step, sizeof text - 1 - at);
            CHECK_OK(qmp_reader_feed(&r, text + at, len, count_object, &count, &err),
                     &err);
        }
        CHECK_EQ(count, 2);
        qmp_reader_fini(&r);
    }
}

TEST(qmp_reader_refuses_what_is_no_qmp)
{
    struct err err = {0};
    int count = 0;
    static const char *const bad[] = {"[1]\n", "hello\n", "{\"a\":}\n", "{} {}\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct qmp_reader r = {0};
        CHECK(!qmp_reader_feed(&r, bad[i], strlen(bad[i]), count_object, &count, &err));
        CHECK_EQ(err.code, ERR_CORRUPT);
        qmp_reader_fini(&r);
    }
    CHECK_EQ(count, 0);
}

TEST(qmp_reader_bounds_length_and_depth)
{
    struct err err = {0};
    struct qmp_reader r = {0};
    int count = 0;
    AUTO(buf) struct buf big = {0};
    for (int i = 0; i < 1000; i++) {
        buf_puts(&big, "{\"a\":");
    }
    buf_putc(&big, '\n');
    CHECK(!qmp_reader_feed(&r, big.data, big.len, count_object, &count, &err));
    CHECK_EQ(err.code, ERR_CORRUPT);
    buf_clear(&big);
    for (size_t i = 0; i < QMP_LINE_MAX + 2; i++) {
        buf_putc(&big, ' ');
    }
    CHECK(!qmp_reader_feed(&r, big.data, big.len, count_object, &count, &err));
    CHECK_EQ(err.code, ERR_TOO_LARGE);
    qmp_reader_fini(&r);
}
