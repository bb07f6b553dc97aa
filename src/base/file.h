/* file.h - whole files and folders.
 *
 * Threads:  any; these block, so not on an event loop for large files.
 * Failure:  err says the path and the reason. */
#pragma once
#include "base/base.h"

/* Reads at most 'limit' bytes; a longer file is ERR_TOO_LARGE. '*out' is malloc'ed and
 * NUL-terminated; '*out_len' (may be NULL) its length. */
MUST_CHECK bool file_read(const char *path, size_t limit, char **out, size_t *out_len,
                          struct err *err);
/* Atomic and durable: a reader sees the old or the new file, also after a power cut. */
MUST_CHECK bool file_write(const char *path, const void *data, size_t len, unsigned mode,
                           struct err *err);
/* Atomic and durable likewise; 'to' is replaced. Of one file system. */
MUST_CHECK bool file_move(const char *from, const char *to, struct err *err);
/* Makes the name that a file was given, or lost, durable. */
MUST_CHECK bool file_sync_name(const char *path, struct err *err);
MUST_CHECK bool dir_make(const char *path, unsigned mode, struct err *err); /* mkdir -p */
/* Removes a tree without following links; a missing one is success. */
MUST_CHECK bool dir_remove(const char *path, struct err *err);
/* Calls 'fn' with each name in a folder, "." and ".." among them; none where there is no
 * such folder. */
typedef void dir_name_fn(void *ctx, const char *name);
void dir_each(const char *path, dir_name_fn *fn, void *ctx);
bool file_exists(const char *path);
/* Writes all of it or says why not: 0 or -errno. */
int fd_write_all(int fd, const void *data, size_t len);
