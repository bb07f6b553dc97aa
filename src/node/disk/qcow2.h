/* qcow2.h - disk images by their first bytes: ours to write, strangers' to judge.
 *
 * Purpose:  makes an empty qcow2 (blank, or an overlay) without starting a process; tells
 *           what an upload is and whether it reaches for other files, before any larger
 *           program looks at it; guesses a disk's firmware from its partition table.
 * Place:    above base/.
 * Threads:  any; qcow2_make blocks on the disk.
 * Source:   QEMU's docs/interop/qcow2.txt; the UEFI specification, GPT. */
#pragma once
#include "base/base.h"

#define QCOW2_VIRTUAL_MAX_BYTES (INT64_C(64) << 40) /* Larger disks are refused. */

/* Writes 'path' whole and durable, replacing nothing (ERR_EXISTS). 'base_name' is what the
 * image says of its base, relative to its own folder; NULL: none. */
MUST_CHECK bool qcow2_make(const char *path, int64_t size_bytes, const char *base_name,
                           const char *base_format, struct err *err);
/* The size that the guest sees, from the header of an image of ours. */
MUST_CHECK bool qcow2_size(const char *path, int64_t *out_bytes, struct err *err);

enum image_trouble {
    IMAGE_GOOD,
    IMAGE_BAD_FORMAT,
    IMAGE_NAMES_OTHER_FILE,
    IMAGE_TOO_LARGE,
    IMAGE_LIMIT,
    IMAGE_NO_SPACE,
    IMAGE_TROUBLES,
};

struct image_verdict {
    enum image_trouble trouble;
    const char *format;    /* "qcow2", "raw" or "vmdk". */
    int64_t virtual_bytes; /* 0: not told by the header. */
    char why[160];         /* For people. */
};

const char *image_trouble_word(enum image_trouble trouble); /* Of blob_job_seen. */
#define IMAGE_HEAD_BYTES 32768 /* A vmdk's description lies in these. */
/* Judges an upload of 'file_bytes' by its first 'len' bytes (IMAGE_HEAD_BYTES unless it is
 * shorter). 'declared' is what the tenant says: qcow2, raw, vmdk, or empty. */
void image_judge(const uint8_t *head, size_t len, int64_t file_bytes,
                 const char *declared, int64_t max_virtual_bytes,
                 struct image_verdict *out);
/* Judges 'qemu-img info --output=json' of the same upload. */
void image_judge_info(const char *json, size_t len, const char *format,
                      int64_t max_virtual_bytes, struct image_verdict *out);

#define DISK_HEAD_BYTES (34 * 512)
/* "uefi" for a GPT with an EFI system partition and nothing for a BIOS to start; else
 * "bios". 'head' is the beginning of the disk as the guest sees it. */
const char *disk_firmware(const uint8_t *head, size_t len);
