/* tar.h - the small part of the ustar format that backups need: plain files by name.
 *
 * Threads:  any.
 * Failure:  what is read is checked (magic, checksum, sizes): ERR_CORRUPT. */
#pragma once
#include "base/base.h"

#define TAR_BLOCK 512

/* Writes the header of a file of 'size' bytes; its bytes follow, then tar_pad. */
MUST_CHECK bool tar_put_header(int fd, const char *name, uint64_t size,
                               struct err *err);
MUST_CHECK bool tar_pad(int fd, uint64_t size, struct err *err);
MUST_CHECK bool tar_end(int fd, struct err *err);
/* Reads the next header; '*out_name' is empty at the end of the archive. */
MUST_CHECK bool tar_next(int fd, char out_name[101], uint64_t *out_size,
                         struct err *err);
/* Passes over the padding after a file of 'size' bytes. */
MUST_CHECK bool tar_skip_pad(int fd, uint64_t size, struct err *err);
