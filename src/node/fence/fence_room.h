/* fence_room.h - the pid namespace in which leased guests run.
 *
 * Purpose:  opens it, ends it, and says when all in it are gone; and gives up the rights
 *           that this does not take. Internal to fence/.
 * Place:    over the kernel's clone3 and pidfds alone.
 * Owner:    the fence holds one room; its first process dies with the fence's.
 * Threads:  the fence's one. */
#pragma once
#include "base/base.h"
#include <sys/types.h>

struct fence_room {
    int pidfd; /* Of its first process; readable when all in it are gone. -1: no room. */
    int ns_fd; /* The namespace, for setns. */
    uint64_t turn;
};

#define ROOM_NONE ((struct fence_room){.pidfd = -1, .ns_fd = -1})

MUST_CHECK bool room_open(struct fence_room *room, struct err *err);
/* Kills all in it, for good; needs no memory. The room stays until room_close. */
void room_kill(const struct fence_room *room);
/* Its first process has ended. */
void room_close(struct fence_room *room);
/* Kills, waits until all are gone, and closes. */
void room_wait(struct fence_room *room);
/* Memory that is never paged out, the last to be killed for want of it, ahead of others
 * for the processor; no rights but those to make namespaces and to kill. */
MUST_CHECK bool room_harden(struct err *err);
