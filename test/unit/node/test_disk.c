#include "base/file.h"
#include "node/disk/qcow2.h"
#include "test.h"

#include <endian.h>

static void
put_be(uint8_t *p, uint64_t v, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        p[i] = (uint8_t)(v >> (8 * (len - 1 - i)));
    }
}

/* A plain header of version 3, for a disk of 1 GiB. */
static void
good_header(uint8_t h[IMAGE_HEAD_BYTES])
{
    memset(h, 0, IMAGE_HEAD_BYTES);
    memcpy(h, "QFI\xfb", 4);
    put_be(h + 4, 3, 4);
    put_be(h + 20, 16, 4);
    put_be(h + 24, GIB, 8);
    put_be(h + 100, 104, 4);
}

static enum image_trouble
judge(const uint8_t *head, const char *declared)
{
    struct image_verdict v;
    image_judge(head, IMAGE_HEAD_BYTES, IMAGE_HEAD_BYTES, declared, 2 * (int64_t)GIB,
                &v);
    return v.trouble;
}

TEST(qcow2_make_writes_images_that_qemu_img_finds_sound)
{
    struct err err = {0};
    char dir[] = "/tmp/moln-disk-XXXXXX";
    CHECK(mkdtemp(dir));
    static const int64_t sizes[] = {512, 1000, (int64_t)GIB, 20000 * (int64_t)GIB};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        AUTO(free) char *base = xasprintf("%s/base", dir);
        AUTO(free) char *over = xasprintf("%s/over", dir);
        AUTO(free)
        char *check = xasprintf(
            "qemu-img check -q -f qcow2 %s && qemu-img check -q -f qcow2 %s && "
            "qemu-img info --backing-chain -f qcow2 %s >/dev/null && "
            "qemu-io -f qcow2 -c 'write 0 512' -c 'read 0 512' %s >/dev/null",
            base, over, over, over);
        int64_t size;
        CHECK_OK(qcow2_make(base, sizes[i], NULL, NULL, &err), &err);
        CHECK_OK(qcow2_make(over, sizes[i], "base", "qcow2", &err), &err);
        CHECK_OK(qcow2_size(over, &size, &err), &err);
        CHECK_EQ(size, (sizes[i] + 511) / 512 * 512);
        CHECK_EQ(system(check), 0);
        CHECK(!qcow2_make(base, sizes[i], NULL, NULL, &err)); /* Never replaces. */
        CHECK_EQ(err.code, ERR_EXISTS);
        CHECK_EQ(unlink(base), 0);
        CHECK_EQ(unlink(over), 0);
    }
    CHECK_OK(dir_remove(dir, &err), &err);
}

TEST(image_judge_takes_plain_images)
{
    uint8_t h[IMAGE_HEAD_BYTES];
    good_header(h);
    CHECK_EQ(judge(h, ""), IMAGE_GOOD);
    CHECK_EQ(judge(h, "qcow2"), IMAGE_GOOD);
    CHECK_EQ(judge(h, NULL), IMAGE_GOOD);
    memset(h, 0, sizeof h);
    CHECK_EQ(judge(h, "raw"), IMAGE_GOOD);
    memcpy(h, "KDMV", 4);
    CHECK_EQ(judge(h, "vmdk"), IMAGE_GOOD);
}

TEST(image_judge_refuses_images_that_reach_for_other_files)
{
    uint8_t h[IMAGE_HEAD_BYTES];
    good_header(h);
    put_be(h + 8, 200, 8); /* A backing file's name. */
    CHECK_EQ(judge(h, ""), IMAGE_NAMES_OTHER_FILE);
    good_header(h);
    put_be(h + 72, 4, 8); /* An external data file. */
    CHECK_EQ(judge(h, ""), IMAGE_NAMES_OTHER_FILE);
    memset(h, 0, sizeof h);
    memcpy(h, "# Disk DescriptorFile", 21);
    CHECK_EQ(judge(h, "vmdk"), IMAGE_NAMES_OTHER_FILE);
}

/* A sparse vmdk with 'text' as its description, in the second of 'sectors'. */
static enum image_trouble
judge_vmdk_text(const char *text, uint8_t at, uint8_t sectors)
{
    static uint8_t h[IMAGE_HEAD_BYTES];
    memset(h, 0, sizeof h);
    memcpy(h, "KDMV", 4);
    h[28] = at;
    h[36] = sectors;
    memcpy(h + 512, text, strlen(text));
    return judge(h, "vmdk");
}

TEST(image_judge_lets_a_vmdk_name_no_file_but_itself)
{
    static const char *const bad[] = {
        "RW 2048 FLAT \"/etc/shadow\" 0\n",
        "# x\nRW 8 SPARSE \"a\"\nRW 8 SPARSE \"b\"\n",
        "RDONLY 8 VMFS \"b\"",
        "parentFileNameHint=\"/etc/shadow\"\n",
    };
    CHECK_EQ(judge_vmdk_text("# x\nRW 8 SPARSE \"a\"\n", 1, 20), IMAGE_GOOD);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK_EQ(judge_vmdk_text(bad[i], 1, 20), IMAGE_NAMES_OTHER_FILE);
    }
    CHECK_EQ(judge_vmdk_text("", 200, 1), IMAGE_NAMES_OTHER_FILE); /* Out of sight. */
    CHECK_EQ(judge_vmdk_text("", 1, 255), IMAGE_NAMES_OTHER_FILE);
}

TEST(image_judge_refuses_encrypted_unknown_large_and_misdeclared_images)
{
    uint8_t h[IMAGE_HEAD_BYTES];
    struct image_verdict v;
    good_header(h);
    put_be(h + 32, 2, 4);
    CHECK_EQ(judge(h, ""), IMAGE_BAD_FORMAT);
    good_header(h);
    put_be(h + 4, 9, 4);
    CHECK_EQ(judge(h, ""), IMAGE_BAD_FORMAT);
    good_header(h);
    put_be(h + 72, 1 << 20, 8);
    CHECK_EQ(judge(h, ""), IMAGE_BAD_FORMAT);
    good_header(h);
    put_be(h + 24, 3 * GIB, 8);
    CHECK_EQ(judge(h, ""), IMAGE_TOO_LARGE);
    put_be(h + 24, UINT64_MAX, 8);
    CHECK_EQ(judge(h, ""), IMAGE_TOO_LARGE);
    good_header(h);
    CHECK_EQ(judge(h, "raw"), IMAGE_BAD_FORMAT);
    image_judge(h, 20, 20, "", (int64_t)GIB, &v); /* Cut short. */
    CHECK_EQ(v.trouble, IMAGE_BAD_FORMAT);
    image_judge(h, 0, 0, "", (int64_t)GIB, &v);
    CHECK_EQ(v.trouble, IMAGE_BAD_FORMAT);
}

static enum image_trouble
judge_info(const char *json, const char *format)
{
    struct image_verdict v;
    image_judge_info(json, strlen(json), format, (int64_t)GIB, &v);
    return v.trouble;
}

TEST(image_judge_info_believes_nothing_but_plain_images)
{
    CHECK_EQ(judge_info("{\"format\":\"qcow2\",\"virtual-size\":1048576}", "qcow2"),
             IMAGE_GOOD);
    CHECK_EQ(judge_info("not json", "qcow2"), IMAGE_BAD_FORMAT);
    CHECK_EQ(judge_info("{\"format\":\"raw\",\"virtual-size\":1048576}", "qcow2"),
             IMAGE_BAD_FORMAT);
    CHECK_EQ(judge_info("{\"format\":\"qcow2\",\"virtual-size\":-1}", "qcow2"),
             IMAGE_BAD_FORMAT);
    CHECK_EQ(judge_info("{\"format\":\"qcow2\",\"virtual-size\":99999999999}", "qcow2"),
             IMAGE_TOO_LARGE);
    CHECK_EQ(judge_info("{\"format\":\"qcow2\",\"virtual-size\":1048576,"
                        "\"backing-filename\":\"/etc/shadow\"}",
                        "qcow2"),
             IMAGE_NAMES_OTHER_FILE);
    CHECK_EQ(judge_info("{\"format\":\"qcow2\",\"virtual-size\":1048576,\"format-"
                        "specific\":{\"data\":{\"data-file\":\"x\"}}}",
                        "qcow2"),
             IMAGE_NAMES_OTHER_FILE);
    CHECK_EQ(judge_info("{\"format\":\"vmdk\",\"virtual-size\":1048576,\"format-"
                        "specific\":{\"data\":{\"create-type\":\"monolithicFlat\","
                        "\"extents\":[{}]}}}",
                        "vmdk"),
             IMAGE_NAMES_OTHER_FILE);
    CHECK_EQ(judge_info("{\"format\":\"vmdk\",\"virtual-size\":1048576,\"format-"
                        "specific\":{\"data\":{\"create-type\":\"streamOptimized\","
                        "\"parent-cid\":4294967295,\"extents\":[{}]}}}",
                        "vmdk"),
             IMAGE_GOOD);
    CHECK_EQ(judge_info("{\"format\":\"vmdk\",\"virtual-size\":1048576,\"format-"
                        "specific\":{\"data\":{\"create-type\":\"streamOptimized\","
                        "\"parent-cid\":7,\"extents\":[{}]}}}",
                        "vmdk"),
             IMAGE_NAMES_OTHER_FILE);
}

/* Type GUIDs as they lie on disk. */
static const uint8_t esp[16] = {0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11,
                                0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b};
static const uint8_t bios_boot[16] = {0x48, 0x61, 0x68, 0x21, 0x49, 0x64, 0x6f, 0x6e,
                                      0x74, 0x4e, 0x65, 0x65, 0x64, 0x45, 0x46, 0x49};

static void
gpt(uint8_t d[DISK_HEAD_BYTES])
{
    uint64_t lba = htole64(2);
    uint32_t count = htole32(128), size = htole32(128);
    memset(d, 0, DISK_HEAD_BYTES);
    memcpy(d + 512, "EFI PART", 8);
    memcpy(d + 512 + 72, &lba, 8);
    memcpy(d + 512 + 80, &count, 4);
    memcpy(d + 512 + 84, &size, 4);
    memcpy(d + 1024, esp, 16);
}

TEST(disk_firmware_tells_uefi_from_bios)
{
    uint8_t d[DISK_HEAD_BYTES] = {0};
    CHECK_STR(disk_firmware(d, sizeof d), "bios");
    CHECK_STR(disk_firmware(d, 0), "bios");
    gpt(d);
    CHECK_STR(disk_firmware(d, sizeof d), "uefi");
    memcpy(d + 1024 + 128, bios_boot, 16);
    d[0] = 0xeb; /* Boot code, and where it goes on: either firmware will do. */
    CHECK_STR(disk_firmware(d, sizeof d), "bios");
}

TEST(disk_firmware_survives_hostile_tables)
{
    uint8_t d[DISK_HEAD_BYTES];
    gpt(d);
    memset(d + 512 + 72, 0xff, 16);
    CHECK_STR(disk_firmware(d, sizeof d), "bios");
    gpt(d);
    memset(d + 512 + 84, 0, 4);
    CHECK_STR(disk_firmware(d, sizeof d), "bios");
}
