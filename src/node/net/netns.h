/* netns.h - network namespaces by name, and work done inside one.
 *
 * Purpose:  make, find and remove /run/netns/NAME as `ip netns` does, and run a function
 *           inside. The function runs on a short-lived thread, so that the caller's never
 *           leaves its own namespace; sockets it opens keep the namespace they were
 *           opened in and may be used from anywhere.
 * Threads:  any; the caller waits.
 * Failure:  err says which namespace. */
#pragma once
#include "base/base.h"

typedef bool netns_fn(void *ctx, struct err *err);

/* Opens NAME, making it first where there is none. */
MUST_CHECK bool netns_make(const char *name, int *out_fd, struct err *err);
/* ERR_NOT_FOUND where there is none. */
MUST_CHECK bool netns_open(const char *name, int *out_fd, struct err *err);
/* Takes the name away; the namespace goes with its last process. None: success. */
MUST_CHECK bool netns_remove(const char *name, struct err *err);
/* Runs 'fn' inside, and waits for it. */
MUST_CHECK bool netns_run(int ns_fd, netns_fn *fn, void *ctx, struct err *err);
/* Calls 'fn' with each name that begins with 'prefix'; stops at the first failure. */
typedef bool netns_each_fn(void *ctx, const char *name, struct err *err);
MUST_CHECK bool netns_each(const char *prefix, netns_each_fn *fn, void *ctx,
                           struct err *err);
