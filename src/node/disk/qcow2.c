#include "node/disk/qcow2.h"
#include "base/file.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>

#define CLUSTER 65536u
#define HEADER_LEN 104u
#define L2_COVERS \
    (INT64_C(8192) * CLUSTER) /* Bytes of disk that one L1 entry reaches. */
#define EXT_BACKING_FORMAT 0xE2792ACAu

static void
put32(uint8_t *p, uint32_t v)
{
    v = htobe32(v);
    memcpy(p, &v, sizeof v);
}

static void
put64(uint8_t *p, uint64_t v)
{
    v = htobe64(v);
    memcpy(p, &v, sizeof v);
}

static uint32_t
get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return be32toh(v);
}

static uint64_t
get64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return be64toh(v);
}

/* ---- ours ------------------------------------------------------------------------------ */

/* Layout: header, refcount table, one refcount block, then the L1 table (all unallocated).
 * A block of 32 768 refcounts is far more than these clusters need. */
static void
fill_header(uint8_t *h, int64_t size_bytes, uint32_t l1_entries, const char *base_name,
            const char *base_format)
{
    uint8_t *ext = h + HEADER_LEN;
    memcpy(h, "QFI\xfb", 4);
    put32(h + 4, 3);
    put32(h + 20, 16); /* Cluster bits. */
    put64(h + 24, (uint64_t)size_bytes);
    put32(h + 36, l1_entries);
    put64(h + 40, 3 * CLUSTER);
    put64(h + 48, CLUSTER);
    put32(h + 56, 1);
    put32(h + 96, 4); /* 16-bit refcounts. */
    put32(h + 100, HEADER_LEN);
    if (base_name) {
        size_t format_len = strlen(base_format), name_len = strlen(base_name);
        put32(ext, EXT_BACKING_FORMAT);
        put32(ext + 4, (uint32_t)format_len);
        memcpy(ext + 8, base_format, format_len);
        ext += 8 + (format_len + 7) / 8 * 8;
        ext += 8; /* The end of the extensions: zeros. */
        put64(h + 8, (uint64_t)(ext - h));
        put32(h + 16, (uint32_t)name_len);
        memcpy(ext, base_name, name_len);
    }
}

static bool
write_image(int fd, const uint8_t *front, size_t l1_bytes, const char *path,
            struct err *err)
{
    int rc = fd_write_all(fd, front, 3 * CLUSTER);
    if (rc == 0 && ftruncate(fd, (off_t)(3 * CLUSTER + l1_bytes)) < 0) {
        rc = -errno;
    }
    if (rc == 0 && fsync(fd) < 0) {
        rc = -errno;
    }
    return rc == 0 || err_sys(err, -rc, "write %s", path);
}

bool
qcow2_make(const char *path, int64_t size_bytes, const char *base_name,
           const char *base_format, struct err *err)
{
    if (size_bytes <= 0 || size_bytes > QCOW2_VIRTUAL_MAX_BYTES ||
        (base_name && (strlen(base_name) > 512 || strlen(base_format) > 16))) {
        return err_set(err, ERR_RANGE, "a disk of %" PRId64 " bytes", size_bytes);
    }
    size_bytes = (size_bytes + 511) / 512 * 512;
    uint32_t l1_entries = (uint32_t)((size_bytes + L2_COVERS - 1) / L2_COVERS);
    size_t l1_bytes = ((size_t)l1_entries * 8 + CLUSTER - 1) / CLUSTER * CLUSTER;
    AUTO(free) uint8_t *front = xcalloc(3, CLUSTER);
    fill_header(front, size_bytes, l1_entries, base_name, base_format);
    put64(front + CLUSTER, 2 * CLUSTER);
    for (size_t i = 0; i < 3 + l1_bytes / CLUSTER; i++) {
        front[2 * CLUSTER + 2 * i + 1] = 1;
    }
    AUTO(fd) int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) {
        return err_sys(err, errno, "make %s", path);
    }
    if (!write_image(fd, front, l1_bytes, path, err)) {
        (void)unlink(path);
        return false;
    }
    return true;
}

bool
qcow2_size(const char *path, int64_t *out_bytes, struct err *err)
{
    uint8_t head[32];
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, head, sizeof head, 0);
    if (n < 0) {
        return err_sys(err, errno, "read %s", path);
    }
    if (n != (ssize_t)sizeof head || memcmp(head, "QFI\xfb", 4) != 0) {
        return err_set(err, ERR_CORRUPT, "%s is no qcow2", path);
    }
    *out_bytes = (int64_t)get64(head + 24);
    return true;
}

/* ---- strangers' ------------------------------------------------------------------------ */

const char *
image_trouble_word(enum image_trouble trouble)
{
    static const char *const words[IMAGE_TROUBLES] = {
        [IMAGE_GOOD] = "",
        [IMAGE_BAD_FORMAT] = "bad_format",
        [IMAGE_NAMES_OTHER_FILE] = "names_other_file",
        [IMAGE_TOO_LARGE] = "too_large",
        [IMAGE_LIMIT] = "limit",
        [IMAGE_NO_SPACE] = "no_space",
    };
    return trouble < IMAGE_TROUBLES ? words[trouble] : "bad_format";
}

static void
refuse(struct image_verdict *v, enum image_trouble trouble, const char *why)
{
    v->trouble = trouble;
    snprintf(v->why, sizeof v->why, "%s", why);
}

static void
judge_size(struct image_verdict *v, uint64_t bytes, int64_t max_bytes)
{
    if (bytes == 0) {
        refuse(v, IMAGE_BAD_FORMAT, "the disk in the image is empty");
    } else if (bytes > (uint64_t)QCOW2_VIRTUAL_MAX_BYTES ||
               (max_bytes > 0 && bytes > (uint64_t)max_bytes)) {
        refuse(v, IMAGE_TOO_LARGE, "the disk in the image is too large");
    } else {
        v->virtual_bytes = (int64_t)bytes;
    }
}

static void
judge_qcow2(const uint8_t *h, size_t len, int64_t max_bytes, struct image_verdict *v)
{
    uint32_t version = len >= 72 ? get32(h + 4) : 0;
    if (version < 2 || version > 3 || (version == 3 && len < HEADER_LEN)) {
        refuse(v, IMAGE_BAD_FORMAT, "a qcow2 of an unknown version");
    } else if (get64(h + 8) != 0) {
        refuse(v, IMAGE_NAMES_OTHER_FILE, "the image names a backing file");
    } else if (get32(h + 32) != 0) {
        refuse(v, IMAGE_BAD_FORMAT, "the image is encrypted");
    } else if (version == 3 && (get64(h + 72) & 4) != 0) {
        refuse(v, IMAGE_NAMES_OTHER_FILE, "the image names an external data file");
    } else if (version == 3 && (get64(h + 72) & ~UINT64_C(0x1f)) != 0) {
        refuse(v, IMAGE_BAD_FORMAT, "the image uses unknown features");
    } else {
        judge_size(v, get64(h + 24), max_bytes);
    }
}

static bool
starts_with_text(const uint8_t *head, size_t len, const char *text)
{
    return len >= strlen(text) && memcmp(head, text, strlen(text)) == 0;
}

/* One line of a vmdk's description: whether it stays within the file. */
static bool
vmdk_line_is_own(const char *line, size_t len, size_t *extents)
{
    static const char *const access[] = {"RW ", "RDONLY ", "NOACCESS "};
    for (size_t i = 0; i < ARRAY_LEN(access); i++) {
        if (starts_with_text((const uint8_t *)line, len, access[i])) {
            (*extents)++;
            return *extents == 1 && memmem(line, len, " SPARSE ", 8) != NULL;
        }
    }
    return !starts_with_text((const uint8_t *)line, len, "parentFileNameHint");
}

/* A sparse vmdk carries a text that says where its data lies. QEMU does not follow all of
 * it, other programs might: it may name nothing but the file that it is in. */
static bool
vmdk_stands_alone(const uint8_t *head, size_t len)
{
    uint64_t at, sectors;
    size_t extents = 0;
    if (len < 44) {
        return false;
    }
    memcpy(&at, head + 28, sizeof at);
    memcpy(&sectors, head + 36, sizeof sectors);
    at = le64toh(at);
    sectors = le64toh(sectors);
    if (at == 0 || sectors == 0) {
        return true;
    }
    if (at >= len / 512 || sectors > len / 512 - at) {
        return false;
    }
    const char *line = (const char *)head + at * 512, *end = line + sectors * 512;
    while (line < end && *line) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        const char *stop = newline ? newline : end;
        if (!vmdk_line_is_own(line, (size_t)(stop - line), &extents)) {
            return false;
        }
        line = newline ? newline + 1 : end;
    }
    return true;
}

void
image_judge(const uint8_t *head, size_t len, int64_t file_bytes, const char *declared,
            int64_t max_virtual_bytes, struct image_verdict *out)
{
    *out = (struct image_verdict){.format = "raw"};
    if (starts_with_text(head, len, "QFI\xfb")) {
        out->format = "qcow2";
    } else if (starts_with_text(head, len, "KDMV") ||
               starts_with_text(head, len, "COWD") ||
               starts_with_text(head, len, "# Disk DescriptorFile")) {
        out->format = "vmdk";
    }
    if (!str_empty(declared) && strcmp(declared, out->format) != 0) {
        refuse(out, IMAGE_BAD_FORMAT,
               "the image is not of the format that was declared");
    } else if (file_bytes <= 0) {
        refuse(out, IMAGE_BAD_FORMAT, "the image is empty");
    } else if (str_eq(out->format, "qcow2")) {
        judge_qcow2(head, len, max_virtual_bytes, out);
    } else if (str_eq(out->format, "raw")) {
        judge_size(out, ((uint64_t)file_bytes + 511) / 512 * 512, max_virtual_bytes);
    } else if (!starts_with_text(head, len, "KDMV")) {
        refuse(out, IMAGE_NAMES_OTHER_FILE, "the vmdk keeps its data in other files");
    } else if (!vmdk_stands_alone(head, len)) {
        refuse(out, IMAGE_NAMES_OTHER_FILE, "the vmdk names another file");
    }
}

/* ---- firmware -------------------------------------------------------------------------- */

static const uint8_t guid_esp[16] = {0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11,
                                     0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b};
static const uint8_t guid_bios_boot[16] = {0x48, 0x61, 0x68, 0x21, 0x49, 0x64,
                                           0x6f, 0x6e, 0x74, 0x4e, 0x65, 0x65,
                                           0x64, 0x45, 0x46, 0x49};

static bool
has_partition(const uint8_t *head, size_t len, const uint8_t guid[16])
{
    uint64_t lba;
    uint32_t count, size;
    memcpy(&lba, head + 512 + 72, sizeof lba);
    memcpy(&count, head + 512 + 80, sizeof count);
    memcpy(&size, head + 512 + 84, sizeof size);
    lba = le64toh(lba);
    count = le32toh(count);
    size = le32toh(size);
    if (lba >= len / 512 || size < 128 || size > 4096) {
        return false;
    }
    for (uint64_t at = lba * 512; count > 0 && at + 16 <= len; at += size, count--) {
        if (memcmp(head + at, guid, 16) == 0) {
            return true;
        }
    }
    return false;
}

const char *
disk_firmware(const uint8_t *head, size_t len)
{
    if (len < 1024 || memcmp(head + 512, "EFI PART", 8) != 0 ||
        !has_partition(head, len, guid_esp)) {
        return "bios";
    }
    bool boot_code = false;
    for (size_t i = 0; i < 440; i++) {
        boot_code = boot_code || head[i] != 0;
    }
    return boot_code && has_partition(head, len, guid_bios_boot) ? "bios" : "uefi";
}
