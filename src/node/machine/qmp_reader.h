/* qmp_reader.h - bytes of a QMP stream into JSON objects, one a line.
 *
 * Place:    below qmp.h; what the fuzzer feeds.
 * Input:    hostile: a guest that broke out of QEMU may write anything. A line is at
 *           most QMP_LINE_MAX; what is not a JSON object ends the stream.
 * Threads:  one at a time. */
#pragma once
#include "base/buf.h"
#include <jansson.h>

#define QMP_LINE_MAX (512u << 10)

struct qmp_reader {
    struct buf line;
    bool amid; /* It begins in the midst of a line, which is left out. */
};

/* 'object' is borrowed; false stops reading (the owner has gone). */
typedef bool qmp_object_fn(void *ctx, json_t *object);

void qmp_reader_fini(struct qmp_reader *r);
/* Calls 'fn' for each whole line. ERR_CORRUPT or ERR_TOO_LARGE: the stream is no QMP.
 */
MUST_CHECK bool qmp_reader_feed(struct qmp_reader *r, const char *data, size_t len,
                                qmp_object_fn *fn, void *ctx, struct err *err);
