/* fence_client.h - the agent's end of the fence: finds it or starts it, and minds it.
 *
 * Purpose:  passes the lease on to the fence (see fence.h), and its namespace to those who
 *           start guests. A fence that ended is started anew; one that does not answer is
 *           killed, which ends the guests in it, and started anew.
 * Place:    node/fence; over libuv.
 * Owner:    the agent holds one. The fence outlives it.
 * Threads:  the loop's.
 * Failure:  while there is no fence, its state is unknown, and nothing can be entered. */
#pragma once
#include "node/fence/fence.h"
#include <uv.h>

struct fence_client;

struct fence_client_config {
    uv_loop_t *loop;
    const char *path;    /* The fence's socket; copied. */
    const char *program; /* moln-fence; copied. */
    const struct clock *clock;
    void (*changed)(void *ctx); /* Its state did. */
    /* Whether the guest that was to be adopted ends with the lease from now on. */
    void (*adopted)(void *ctx, pid_t pid, bool done);
    void *ctx;
};

/* Connects, or starts one, from the loop. */
struct fence_client *fence_client_open(const struct fence_client_config *config);
/* The fence goes on, and the loop must too, until it is empty. NULL is a no-op. */
void fence_client_close(struct fence_client *client);

/* 0: unknown. FENCE_OPEN only while the lease is not over. */
enum fence_state fence_client_state(const struct fence_client *client);
/* Dropped when there is no fence; ask again when the state has changed. */
void fence_client_renew(struct fence_client *client, int64_t until_ns);
void fence_client_end(struct fence_client *client);
/* A guest that runs already is to end with the lease too: 'pid', which 'pidfd' (borrowed)
 * holds. One at a time; the answer is told. False: not now. */
bool fence_client_adopt(struct fence_client *client, pid_t pid, int pidfd);
/* A descriptor of the namespace, the caller's. ERR_BUSY: there is no lease. */
MUST_CHECK bool fence_client_enter(const struct fence_client *client, int *out_fd,
                                   struct err *err);

/* Ends the fence at 'path', and what is in it; there being none is success. Blocks. */
MUST_CHECK bool fence_stop(const char *path, struct err *err);
