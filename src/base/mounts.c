#include "base/mounts.h"

#include <errno.h>
#include <sys/mount.h>

int
mounts_make_private(void)
{
    if (mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0) {
        return 0;
    }
    if (errno != EINVAL) {
        return -1;
    }
    /* "/.." steps onto what was mounted over the root; "/" does not. */
    if (mount("/", "/", NULL, MS_BIND | MS_REC, NULL) < 0 || chdir("/..") < 0 ||
        chroot(".") < 0 || chdir("/") < 0) {
        return -1;
    }
    return mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL);
}
