/* courier_impl.h - what courier.c and courier_shake.c share about one courier. */
#pragma once
#include "link/tls.h"
#include "node/migrate/courier.h"

enum courier_news { NEWS_NONE, NEWS_UP, NEWS_ENDED };

struct courier {
    struct courier_self self;
    struct courier_ops ops;
    struct courier_door *door; /* That has it until it is let in; the loop's. */
    struct courier *next;      /* In that door's list. */
    bool received;             /* Came through a door. */
    struct sockaddr_in to;
    char peer[64], migration[64], stream[COURIER_STREAM_MAX];
    uv_thread_t thread;
    uv_async_t async;
    int stop_fd, join_fd;
    int wire_fd, local_fd;
    bool local_listens;
    bool joined, kept; /* Of one received: the loop has given it a local end... */
    bool passed;       /* ...to which something went. */
    _Atomic int news;  /* enum courier_news: what the thread has come to. */
    _Atomic bool was_up;
    int told;
    struct err err; /* The thread's, until it has ended. */
    struct tls *tls;
    struct buf plain; /* From the wire, for the local end. */
};

struct courier_door {
    struct courier_self self;
    struct courier_ops ops;
    char peer[64], migration[64];
    int fd, port;
    uv_poll_t poll;
    struct courier *callers; /* Not let in yet. */
    unsigned caller_count;
};

/* courier_shake.c: in the courier's thread, until both ends know each other. Each waits no
 * longer than until 'deadline_ns', of the monotonic clock, or than its own limit. */
MUST_CHECK bool courier_dial(struct courier *c, int64_t deadline_ns, struct err *err);
MUST_CHECK bool courier_shake(struct courier *c, int64_t deadline_ns, struct err *err);
/* Says what it carries, and waits to be let in; hears what that is. */
MUST_CHECK bool courier_say_hello(struct courier *c, struct err *err);
MUST_CHECK bool courier_hear_hello(struct courier *c, int64_t deadline_ns,
                                   struct err *err);
/* Until the loop has given it a local end. */
MUST_CHECK bool courier_wait_joined(struct courier *c, struct err *err);
MUST_CHECK bool courier_let_in(struct courier *c, int64_t deadline_ns, struct err *err);
/* The local end calls at the socket that listens. */
MUST_CHECK bool courier_meet_local(struct courier *c, struct err *err);
