/* cloud.h - the control plane: the store, the gateway's part of a call, and the real
 * controllers with the real link server, in one process of the world or in several that
 * share a database.
 *
 * Purpose:  starts them, kills one between any two events, starts it again over what was
 *           committed; carries calls to one of them as the gateway does, one transaction
 *           each.
 * Threads:  one. */
#pragma once
#include "core/pool.h"
#include "main/bootstrap.h"
#include "service/service.h"
#include "store/store.h"
#include "world.h"

#define CLOUD_CONTROLS_MAX 3

struct cloud;

/* One control process. */
struct seat {
    struct cloud *cloud;
    char id[16];
    int port;                /* Of its link. */
    struct process *process; /* NULL or dead: it is down. */
    struct store *store;
    struct control *control;
    struct pool *pool;
    struct blob_store *blobs;
    bool held;    /* It is not started again: a fault wants it so. */
    bool turning; /* A turn of the store is on its way... */
    bool looking; /* ...or a look at what others wrote. */
    int64_t crash_pause_ns;
};

struct cloud {
    char dir[128];
    struct cloud_config config;
    struct bootstrap boot;
    char account[16];
    struct seat seats[CLOUD_CONTROLS_MAX];
    unsigned seat_count;   /* One alone has the store for itself. */
    int64_t commit_ns;     /* A commit takes up to this; faults change it. */
    unsigned lost_percent; /* Of answers that never arrive. */
    unsigned batch_max;    /* At most so many transactions share one; 0: all. */
};

#define CLOUD_REGION "us-east-1"
#define CLOUD_ZONE "us-east-1a"
#define CLOUD_IMAGE "ami-0123456789abcdef0"

/* A new cloud with its rows in 'dir': an account, an image, a default VPC. */
void cloud_make(struct cloud *cloud, const char *dir, unsigned seats);
void cloud_start(struct cloud *cloud);
/* Where its links are, for agents that join. Static. */
const char *cloud_places(const struct cloud *cloud);
/* Any of them. */
bool cloud_is_up(const struct cloud *cloud);

bool seat_is_up(const struct seat *seat);
void seat_kill(struct seat *seat, int64_t pause_ns);
/* Kills it in the middle of what it does, so many calls to the outside from now. */
void seat_crash(struct seat *seat, unsigned calls, int64_t pause_ns);

/* One call, to any process that is up. 'done' is called once, in nobody's name: err->code ERR_NONE and 'out', what
 * the operation answered (borrowed); the operation's error; or ERR_GONE, when the answer
 * was lost: it may have been carried out or not. */
typedef void call_fn(void *ctx, const void *out, const struct err *err);
/* Builds the request in 'arena', so that it lives as long as the call. */
typedef void *ask_fn(struct arena *arena, void *ctx);
void cloud_call(struct cloud *cloud, const struct service *service, const char *name,
                ask_fn *ask, call_fn *done, void *ctx);

/* Reads rows as they are committed, while a process is up. */
void cloud_read(struct cloud *cloud, txn_fn *fn, void *ctx);
