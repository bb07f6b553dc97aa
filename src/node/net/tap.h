/* tap.h - a tap made inside a namespace. Threads: any; the caller waits a moment. */
#pragma once
#include "base/base.h"

/* Down, of no bridge; single queue, virtio headers. It goes when its last descriptor is
 * closed. ERR_BUSY while another holds it. */
MUST_CHECK bool tap_open(int ns_fd, const char *name, int *out_fd, struct err *err);
/* The character device of the macvtap 'name', whose number is 'index'. The link stays when
 * the descriptor is closed. */
MUST_CHECK bool tap_open_macvtap(int ns_fd, const char *name, int index, int *out_fd,
                                 struct err *err);
