/* sock.h - unix sockets by path, also where the path is longer than an address holds.
 *
 * Threads: any. Descriptors are non-blocking and close-on-exec. */
#pragma once
#include "base/base.h"

/* Binds, replacing what lies there, and listens. */
MUST_CHECK bool sock_listen(const char *path, int *out_fd, struct err *err);
MUST_CHECK bool sock_connect(const char *path, int *out_fd, struct err *err);
