/* blobs.h - the control plane's immutable files: uploads, images, kernels.
 *
 * Purpose:  files that appear whole or not at all, each under its id.
 * Place:    beside the rows; row_blob says what a file is, this module only keeps it.
 * Owner:    main/ opens one folder, which several control processes may share; writers
 *           belong to whoever began them.
 * Threads:  blob_store: any. A writer: one at a time. They block on the disk: not for
 *           an event loop.
 * Failure:  an id that is not [a-z0-9-]{1,64} is ERR_INVALID; a full disk ERR_NO_SPACE. */
#pragma once
#include "base/crypto.h"

struct blob_store;
struct blob_writer;

/* Makes the folder, and removes what writers have left whose process has ended. */
MUST_CHECK struct blob_store *blob_store_open(const char *dir, struct err *err);
void blob_store_close(struct blob_store *store); /* NULL is a no-op. */
AUTO_DEFINE(blob_store, struct blob_store *, blob_store_close)

/* From now on writers fail, with ERR_NO_SPACE, rather than leave less than 'bytes' free
 * (or a twentieth of a small file system): what else lies there needs it, the rows above
 * all. Not for a store that is in use by other threads already. */
void blob_store_keep_free(struct blob_store *store, uint64_t bytes);
/* ERR_NO_SPACE when 'more_bytes' would leave less than that. */
MUST_CHECK bool blob_store_has_room(struct blob_store *store, uint64_t more_bytes,
                                    struct err *err);

/* ERR_EXISTS when there is such a blob; more than 'limit' bytes are ERR_TOO_LARGE. */
MUST_CHECK struct blob_writer *blob_write_begin(struct blob_store *store,
                                                const char *id, uint64_t limit,
                                                struct err *err);
MUST_CHECK bool blob_write(struct blob_writer *writer, const void *data, size_t len,
                           struct err *err);
/* The same by a descriptor, for who can only write to one (the link): the caller closes
 * it, and calls blob_write_adopt when all is written: it reads length and digest back.
 */
MUST_CHECK bool blob_write_fd(struct blob_writer *writer, int *out_fd, struct err *err);
MUST_CHECK bool blob_write_adopt(struct blob_writer *writer, struct err *err);
uint64_t blob_write_size(const struct blob_writer *writer);
/* The blob is there, durably. Ends the writer, also on failure. */
MUST_CHECK bool blob_write_commit(struct blob_writer *writer, uint64_t *out_size,
                                  char out_sha256[SHA256_HEX_LEN], struct err *err);
void
blob_write_abort(struct blob_writer *writer); /* NULL is a no-op. Ends the writer. */
AUTO_DEFINE(blob_writer, struct blob_writer *, blob_write_abort)

/* A descriptor to read from, and the file's length; the caller closes it. A blob
 * deleted meanwhile stays readable through it. ERR_NOT_FOUND when there is none. */
MUST_CHECK bool blob_open(struct blob_store *store, const char *id, int *out_fd,
                          uint64_t *out_size, struct err *err);
/* Deleting what is not there is success. */
MUST_CHECK bool blob_delete(struct blob_store *store, const char *id, struct err *err);
/* Every whole blob, in no order. */
typedef void blob_list_fn(void *ctx, const char *id, uint64_t size);
MUST_CHECK bool blob_list(struct blob_store *store, blob_list_fn *fn, void *ctx,
                          struct err *err);
