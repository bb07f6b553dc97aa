/* cloud.h - the control plane as a process of the world: the store, the gateway's part of
 * a call, and the real controllers with the real link server.
 *
 * Purpose:  starts it, kills it between any two events, starts it again over what was
 *           committed; carries calls to it as the gateway does, one transaction each.
 * Threads:  one. */
#pragma once
#include "core/pool.h"
#include "main/bootstrap.h"
#include "service/service.h"
#include "store/store.h"
#include "world.h"

struct cloud {
    char dir[128];
    struct cloud_config config;
    struct bootstrap boot;
    char account[16];
    struct process *process; /* NULL or dead: it is down. */
    struct store *store;
    struct control *control;
    struct pool *pool;
    struct blob_store *blobs;
    bool held;             /* It is not started again: a fault wants it so. */
    int64_t commit_ns;     /* A commit takes up to this; faults change it. */
    unsigned lost_percent; /* Of answers that never arrive. */
    unsigned batch_max;    /* At most so many transactions share one; 0: all. */
    bool turning;          /* A turn of the store is on its way. */
    unsigned starts;
    int64_t crash_pause_ns;
};

#define CLOUD_REGION "us-east-1"
#define CLOUD_ZONE "us-east-1a"
#define CLOUD_IMAGE "ami-0123456789abcdef0"

/* A new cloud with its rows in 'dir': an account, an image, a default VPC. */
void cloud_make(struct cloud *cloud, const char *dir);
void cloud_start(struct cloud *cloud);
void cloud_kill(struct cloud *cloud, int64_t pause_ns);
/* Kills it in the middle of what it does, so many calls to the outside from now. */
void cloud_crash(struct cloud *cloud, unsigned calls, int64_t pause_ns);
bool cloud_is_up(const struct cloud *cloud);

/* One call. 'done' is called once, in nobody's name: err->code ERR_NONE and 'out', what
 * the operation answered (borrowed); the operation's error; or ERR_GONE, when the answer
 * was lost: it may have been carried out or not. */
typedef void call_fn(void *ctx, const void *out, const struct err *err);
/* Builds the request in 'arena', so that it lives as long as the call. */
typedef void *ask_fn(struct arena *arena, void *ctx);
void cloud_call(struct cloud *cloud, const struct service *service, const char *name,
                ask_fn *ask, call_fn *done, void *ctx);

/* Reads rows as they are committed, at any time. */
void cloud_read(struct cloud *cloud, txn_fn *fn, void *ctx);
