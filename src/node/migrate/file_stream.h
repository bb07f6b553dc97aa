/* file_stream.h - the file of a disk that no guest has open, between a pool and a courier.
 *
 * Purpose:  a stopped machine moves as the files of its disks. The giver's stream reads one
 *           and feeds a courier; the receiver's takes in what couriers bring to a socket and
 *           writes each into the file that is meant for it. The words before a file say which
 *           and how long, so that one which broke off is never taken for a whole one.
 * Place:    part of the node; beside courier.h, whose wire it never sees. Knows nothing of
 *           machines or pools.
 * Owner:    whoever made it; its thread touches nothing but the stream.
 * Threads:  calls and 'ended' on the loop's thread; files are read and written in its own.
 * Failure:  the first ends the stream, with a reason. Nothing is kept: that is the caller's. */
#pragma once
#include "base/base.h"
#include "base/world.h"
#include <uv.h>

struct file_stream;

#define FILE_STREAM_ID_MAX 48

struct file_stream_config {
    uv_loop_t *loop;
    const struct clock *clock;
    int64_t bps; /* No faster, bits a second; 0: as fast as it goes. */
    /* Once; NULL: all of it, and at the receiver on the medium. Close it then, or later. */
    void (*ended)(void *ctx, const char *why);
    void *ctx;
};

/* Reads 'file_fd' (taken, also on failure) to its end. '*out_fd', the courier's local end,
 * becomes the caller's. */
MUST_CHECK struct file_stream *file_stream_send(const struct file_stream_config *config,
                                                const char *disk_id, int file_fd,
                                                int *out_fd, struct err *err);

/* Where a disk's file goes: empty, and open for writing. */
struct file_place {
    char disk_id[FILE_STREAM_ID_MAX];
    int fd;
};
/* Listens at the unix socket 'path' until each of 'places' has had its file. Their
 * descriptors are taken, also on failure; the rest is copied. */
MUST_CHECK struct file_stream *file_stream_take(const struct file_stream_config *config,
                                                const char *path,
                                                const struct file_place *places,
                                                size_t count, struct err *err);

/* The file's length, and how much of it has left; of a receiver's: what has come. */
void file_stream_progress(const struct file_stream *stream, int64_t *out_bytes,
                          int64_t *out_done_bytes);
/* No callback any more. NULL is a no-op. */
void file_stream_close(struct file_stream *stream);
