/* tool.h - one run of qemu-img in a jail.
 *
 * Purpose:  what may be slow, or reads strangers' files, runs apart: own uid, no network,
 *           no files but those named, limits on memory, processor, file size and time.
 * Place:    above base/ and machine/jail.h.
 * Owner:    the caller, until 'done' or tool_cancel. It dies with the agent.
 * Threads:  the loop's; 'done' is called once, from the loop, never from within a call. */
#pragma once
#include "base/buf.h"
#include "node/machine/jail.h"
#include <uv.h>

struct tool;

#define QEMU_IMG_PATH "/usr/bin/qemu-img"
#define TOOL_WORDS_MAX 24
#define TOOL_BINDS_MAX 4

struct tool_spec {
    const char *words[TOOL_WORDS_MAX]; /* After the program's name; NULL ends. */
    struct jail_bind binds[TOOL_BINDS_MAX];
    size_t bind_count;
    uint32_t uid; /* And gid. */
    const char *jail_dir;
    int64_t max_memory_bytes, max_cpu_s, max_file_bytes;
    int64_t limit_ns; /* Wall clock. */
};

struct tool_result {
    bool ok;         /* Ended with status 0. */
    int exit_code;   /* -1: it did not end by itself. */
    bool limited;    /* It ran into one of its limits. */
    const char *out; /* Standard output, at most 256 KiB. */
    size_t out_len;
    const char *complaint; /* First line of its standard error, plain; "" when none. */
};
typedef void tool_done_fn(void *ctx, const struct tool_result *result);

/* Everything in 'spec' is copied. */
MUST_CHECK struct tool *tool_start(uv_loop_t *loop, const struct tool_spec *spec,
                                   tool_done_fn *done, void *ctx, struct err *err);
/* Ends it; 'done' will not be called. NULL is a no-op. */
void tool_cancel(struct tool *tool);
