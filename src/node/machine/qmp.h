/* qmp.h - one QMP conversation with one QEMU process.
 *
 * Place:    above base/, below the machine. Knows JSON and sockets, nothing of guests.
 * Owner:    the agent's machine object; never shared.
 * Threads:  every call on the thread that runs the loop; callbacks come from the loop,
 *           never from within qmp_send.
 * Input:    hostile and bounded; see qmp_reader.h.
 * Failure:  what QEMU refuses is ERR_INVALID, or ERR_NOT_FOUND where it has no such device; a
 *           lost socket fails each pending command with ERR_GONE, then calls 'lost'
 *           once; the object stays valid until qmp_close. */
#pragma once
#include "base/base.h"
#include <jansson.h>
#include <uv.h>

#define QMP_PENDING_MAX 64
/* When one is late, no more than so many commands are left unanswered (ERR_BUSY) but out of
 * band: QEMU queues eight, and hears nothing at all beyond. */
#define QMP_LATE_MAX 4

struct qmp;

/* 'result' and 'err' are borrowed; exactly one is non-NULL. */
typedef void qmp_reply_fn(void *ctx, json_t *result, const struct err *err);

struct qmp_ops {
    /* 'data' may be NULL. */
    void (*event)(void *ctx, const char *name, json_t *data);
    void (*lost)(void *ctx, const struct err *why);
};

/* Speaks over 'fd' (connected; taken, also on failure). Commands sent before QEMU has
 * greeted wait for it. */
MUST_CHECK struct qmp *qmp_open(uv_loop_t *loop, int fd, const struct qmp_ops *ops,
                                void *ctx, struct err *err);
/* Goes on with one that was greeted, out of band too, and that somebody else has left: what was
 * asked in it is not answered here. Until QEMU has answered something, one command is taken
 * at a time. */
MUST_CHECK struct qmp *qmp_resume(uv_loop_t *loop, int fd, const struct qmp_ops *ops,
                                  void *ctx, struct err *err);
int qmp_fd(const struct qmp *qmp); /* Borrowed. */
/* An answer is late, of QEMU's main loop. */
bool qmp_is_deaf(const struct qmp *qmp);
/* NULL is a no-op; pending replies still fire, with ERR_GONE; 'lost' does not. */
void qmp_close(struct qmp *qmp);
/* 'args' is taken (NULL: none). 'pass_fd' travels with the command (-1: none),
 * borrowed. 'done' may be NULL. */
MUST_CHECK bool qmp_send(struct qmp *qmp, const char *cmd, json_t *args, int pass_fd,
                         uint64_t timeout_ns, qmp_reply_fn *done, void *ctx,
                         struct err *err);
/* The same of a command that QEMU carries out while its main loop waits for something, out of
 * the order of the others. */
MUST_CHECK bool qmp_send_oob(struct qmp *qmp, const char *cmd, json_t *args,
                             uint64_t timeout_ns, qmp_reply_fn *done, void *ctx,
                             struct err *err);
