/* uv_sim.h - libuv's calls, as far as the code under test makes them, over the world.
 *
 * Purpose:  the simulation links these in libuv's place: the same objects of link/,
 *           control/ and node/ run unchanged, but a loop is a process of the world, a
 *           timer waits for the world's clock, and a TCP connection is two queues of
 *           bytes with a delay drawn from the seed between them.
 * Place:    between the world and the code under test. A call that the code makes and
 *           that is not here would bring in the real libuv: main.c refuses to run then.
 * Handles:  libuv's own structs; what is ours lies behind u.reserved.
 * Threads:  one; a worker's function runs in an event of its own. */
#pragma once
#include "world.h"

/* How quick things are in this world; faults change it. */
struct uv_sim_speed {
    int64_t work_ns; /* A worker's job takes up to this. */
    int64_t wire_ns; /* Bytes on their way take up to this. */
};
extern struct uv_sim_speed uv_sim_speed;

/* A descriptor that tells when something has ended (a pidfd): uv_poll on it is simulated.
 * Returns a real descriptor, so that closing it is the real call. */
int uv_sim_fd_open(void *owner);
void uv_sim_fd_own(int fd, void *owner); /* The same of one that is real. */
void *uv_sim_fd_owner(int fd);           /* NULL: not one of ours. */
void uv_sim_fd_ready(int fd);            /* Readable from now on. */

/* uv_stream.c, for world.c: resets what a dead process held, or leaves it silent. */
void wires_of_dead(struct process *process, bool silent);
/* Cuts every connection of the host: both ends see a reset, what is on its way is lost. */
void wires_reset(const struct host *host);
/* uv_loop.c, for uv_stream.c. */
void uv_sim_handle_init(uv_loop_t *loop, uv_handle_t *handle, uv_handle_type type);
/* Ends the stream's part of a handle that is closed; then answers what was asked of it. */
void uv_sim_stream_closed(uv_stream_t *stream);
void uv_sim_stream_cancel(uv_stream_t *stream);
