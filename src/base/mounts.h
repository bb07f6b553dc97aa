/* mounts.h - a mount namespace of one's own, cut off from the one that it was copied from.
 *
 * Threads:  the calling process must be alone in its namespace: a child just after
 *           unshare(CLONE_NEWNS) or clone(CLONE_NEWNS). Calls nothing but the kernel.
 * Failure:  0 or -1 with errno, as mount(2). */
#pragma once
#include "base/base.h"

/* What is mounted from now on is seen here only. Works in a chroot too, whose root is no
 * mount and so has nothing that could be made private: it is bound over itself first. */
MUST_CHECK int mounts_make_private(void);
