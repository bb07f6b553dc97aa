/* migration.h - guests on their way to another node, or from one.
 *
 * Purpose:  carries out this node's side of each migration: the receiver starts an emulator
 *           that waits, offers its disks and opens a door; the giver mirrors the disks,
 *           copies the memory, asks when the guest stands still, and lets go only when told
 *           to. Who may run the guest is migration_plan.h's to say, and lies in the
 *           machine's own record, so that an agent killed at any moment goes on from there.
 * Place:    part of the node; above machine/ and couriers. Of ports and addresses it knows
 *           what 'host' hands in.
 * Owner:    the agent holds one set. Couriers end with it: a migration that had not let go
 *           by then is undone by the next agent.
 * Threads:  the loop's.
 * Failure:  until it has let go the giver keeps its guest, whatever fails; afterwards the
 *           guest waits, unmoving, until it is known on which side it may go on. */
#pragma once
#include "base/arena.h"
#include "link/link.h"
#include "node/disk/disk.h"
#include "node/machine/machine.h"
#include "node/migrate/courier.h"

struct migrations;

struct migration_host {
    /* PEM texts in 'arena'; false with 'err' set while the node has no certificate. */
    bool (*self)(void *ctx, struct arena *arena, struct courier_self *out,
                 struct err *err);
    /* Where other nodes reach this one; NULL: they do not. */
    const char *(*address)(void *ctx);
    /* What is known of a port's connections beyond 'known', an earlier answer; and that of
     * another node put in its place, where '*out_left' of them could not be, yet. Either
     * may find nothing to do. */
    bool (*connections_get)(void *ctx, const char *port_id, struct blob known,
                            struct buf *out, struct err *err);
    bool (*connections_put)(void *ctx, const char *port_id, struct blob in,
                            size_t *out_left, struct err *err);
    /* Files of disks, of machines that are stopped: node/disk/disk.h. */
    bool (*disk_give)(void *ctx, const char *disk_id, int *out_fd, struct err *err);
    enum disk_arrival (*disk_arrival)(void *ctx, const char *disk_id);
    bool (*disk_arrive)(void *ctx, const char *disk_id, int *out_fd, struct err *err);
    void (*disk_arrived)(void *ctx, const char *disk_id, bool whole);
    void (*changed)(void *ctx);
    void (*urgent)(void *ctx); /* What is seen of migrations is told before all else. */
    void (*event)(void *ctx, const char *kind, const char *object, const char *level,
                  const char *message);
    void *ctx;
};

struct migrations_config {
    uv_loop_t *loop;
    const char *dir; /* For sockets; borrowed. */
    const struct clock *clock;
    struct machines *machines;
    struct migration_host host;
};

MUST_CHECK struct migrations *migrations_open(const struct migrations_config *config);
/* Ends couriers, before the machines are closed; and the rest, after. NULL is a no-op. */
void migrations_stop(struct migrations *set);
void migrations_close(struct migrations *set);

/* 'want' is copied. 'deleted': what was begun and not finished is undone. */
void migrations_want(struct migrations *set, const struct link_migration *want,
                     bool deleted);
void migrations_delete(struct migrations *set, const char *id); /* Without a record. */
void migrations_forget(struct migrations *set, const char *id);
void migrations_pass(struct migrations *set, int64_t *out_wake_ns);
/* Whether a guest stands still on its way from here: what can wait should, a moment. */
bool migrations_at_switch(const struct migrations *set);

typedef void migration_seen_fn(void *ctx, const struct link_migration_seen *seen);
void migrations_seen(struct migrations *set, struct arena *arena, migration_seen_fn *fn,
                     void *ctx);
void migrations_drop_absent(struct migrations *set, const char *id);
