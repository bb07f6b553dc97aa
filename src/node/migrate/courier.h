/* courier.h - a stream of bytes between the agents of two nodes.
 *
 * Purpose:  what a migration moves (memory, disks, words) goes straight from node to node,
 *           over their private network, in TLS 1.3 with both nodes' certificates. QEMU
 *           holds neither sockets to the outside nor keys: it has one end of a local
 *           pair, the courier the other.
 * Place:    part of the node; above link/tls.h and link/pki.h. Knows nothing of guests.
 * Checks:   each end must prove to be the very node that the other was told of, before a
 *           byte is carried. A door is open for one migration only, and closes with it.
 * Owner:    whoever made it; a courier's thread touches nothing but the courier.
 * Threads:  calls and callbacks on the loop's thread; each courier carries on its own.
 * Failure:  a courier ends with a reason; the local end then sees the end of its stream.
 *           It never begins anew: that is the migration's to judge. */
#pragma once
#include "base/base.h"
#include "base/world.h"
#include <uv.h>

struct courier;
struct courier_door;

/* What a stream may be called; any other name is a disk's id. */
#define COURIER_WORDS "words"
#define COURIER_MEMORY "memory"
#define COURIER_STREAM_MAX 64

/* Who we are; borrowed until the last courier and door are closed. */
struct courier_self {
    uv_loop_t *loop;
    const struct clock *clock;
    const char *ca_pem, *cert_pem, *key_pem;
};

struct courier_ops {
    /* The other end is who it must be. One that came through a door waits for
     * courier_join, and the other end does not hear that it is up before. */
    void (*up)(void *ctx, struct courier *courier, const char *stream);
    /* It ended; NULL: both directions, cleanly. Close it then, or later. */
    void (*ended)(void *ctx, struct courier *courier, const char *why);
    void *ctx;
};

/* A connected pair for a courier's local end and QEMU's or ours, roomy enough that neither
 * waits for the other's turn of the processor. */
MUST_CHECK bool courier_pair(int out_ends[2], struct err *err);

/* What a courier says first: one byte of length and a record. '*out_len' is what it took; 0
 * while not all of it is there. False: it is not let in. */
MUST_CHECK bool courier_read_hello(const void *data, size_t len,
                                   const char *migration_id,
                                   char out_stream[COURIER_STREAM_MAX], size_t *out_len,
                                   struct err *err);

/* Goes to the peer. The local end is 'local_fd' (taken, also on failure): a connected
 * socket, or one that listens and whose first caller it is. */
MUST_CHECK struct courier *
courier_send(const struct courier_self *self, const char *address, int port,
             const char *peer_node_id, const char *migration_id, const char *stream,
             int local_fd, const struct courier_ops *ops, struct err *err);
/* Gives one that came through a door its local end, 'fd' (taken); once. 'kept': the caller
 * has it open too, for the next courier should this one end: only then is it not told the
 * end of the stream, until the caller closes it. */
void courier_join(struct courier *courier, int fd, bool kept);
/* From now on a wire that falls silent is waited for, not cut: what it carries goes on where
 * it was when the network does. Ends are still told: of a peer that is gone, or hangs up.
 * Of one that is up; NULL is a no-op. */
void courier_persist(struct courier *courier);
/* How long nothing has come from the other end, which is asked while there is nothing to
 * say. Only of one that is up. */
int64_t courier_silent_ns(const struct courier *courier);
/* Ends it, whatever it carries; no callback any more. NULL is a no-op. */
void courier_close(struct courier *courier);

/* Waits at 'address', any port, for the peer's couriers of one migration. Those that are
 * not let in are forgotten, with a line in the log. */
MUST_CHECK struct courier_door *
courier_door_open(const struct courier_self *self, const char *address,
                  const char *peer_node_id, const char *migration_id,
                  const struct courier_ops *ops, struct err *err);
int courier_door_port(const struct courier_door *door);
/* No one is let in any more; couriers that are up go on. NULL is a no-op. */
void courier_door_close(struct courier_door *door);
