/* unix_path.h - unix sockets at paths of any length.
 *
 * Purpose:  sun_path holds 108 bytes, state folders may lie deeper: a longer path is
 *           reached through a descriptor of its folder, as /proc/self/fd/N/name.
 * Threads:  any. */
#pragma once
#include "base/base.h"

#define UNIX_PATH_MAX 108

/* A path that fits, for 'path'. '*out_dir_fd' (-1 when not needed) must stay open for
 * as long as it is used; the caller closes it. */
MUST_CHECK bool unix_path_short(const char *path, char out[UNIX_PATH_MAX],
                                int *out_dir_fd, struct err *err);
/* A bound stream socket at 'path', mode 0600, in place of whatever socket was there;
 * not listening yet, so that nobody came in before the mode was set. */
MUST_CHECK bool unix_path_bind(const char *path, int *out_fd, struct err *err);
/* Whether the other end of 'fd' is root or runs as our own user. */
MUST_CHECK bool unix_peer_is_trusted(int fd, struct err *err);
