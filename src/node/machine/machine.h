/* machine.h - the virtual machines of this node: one QEMU process each.
 *
 * Purpose:  makes each wanted machine so: starts, stops, reboots, restarts and removes
 *           it, one step a pass; plugs network cards into running guests and pulls
 *           them; sees what guests do by themselves; finds guests again after the agent
 *           was away.
 * Place:    part of the node. Knows QEMU, jails and cgroups; of disks, ports and blobs
 *           only what 'host' hands in.
 * Owner:    the agent holds one set. Guests outlive it: machines_close leaves them
 *           running.
 * Threads:  every call on the loop's thread; starting runs in a worker.
 * Failure:  a step that failed is planned again, with a pause that doubles; seen
 *           records tell why. */
#pragma once
#include "base/arena.h"
#include "base/world.h"
#include "link/link.h"
#include "node/machine/accel.h"
#include "node/machine/cgroup.h"
#include <jansson.h>

struct machines;
struct qmp;

struct machine_disk_files {
    int fd, base_fd;         /* base_fd -1: none. Become the caller's. */
    const char *base_format; /* Static or in the arena. */
    bool read_only;
};

struct machine_port_tap {
    int fd;          /* -1: it is a device of the host's instead... */
    const char *pci; /* ...at this address, in the arena... */
    int group;       /* ...in this IOMMU group. */
    const char *mac; /* In the arena. */
    int64_t mtu;
    int64_t device_index; /* Its place among the machine's cards. */
};

/* What machines need of the rest of the node. Each returns false with ERR_NOT_FOUND or
 * ERR_BUSY while the thing is not ready yet. */
struct machine_host {
    bool (*disk_ready)(void *ctx, const char *disk_id);
    bool (*port_ready)(void *ctx, const char *port_id);
    bool (*blob_ready)(void *ctx, const char *blob_id);
    bool (*disk_open)(void *ctx, const char *disk_id, struct arena *arena,
                      struct machine_disk_files *out, struct err *err);
    bool (*port_open)(void *ctx, const char *port_id, struct arena *arena,
                      struct machine_port_tap *out, struct err *err);
    bool (*blob_open)(void *ctx, const char *blob_id, int *out_fd, struct err *err);
    /* Leased machines may run, and where: see node/fence/fence.h. */
    bool (*lease_lives)(void *ctx);
    bool (*lease_enter)(void *ctx, int *out_ns_fd, struct err *err);
    int64_t (*pool_free_bytes)(void *ctx);
    /* Something was seen: make a pass and report. */
    void (*changed)(void *ctx);
    void (*event)(void *ctx, const char *kind, const char *object, const char *level,
                  const char *message);
    void *ctx;
};

struct machines_config {
    uv_loop_t *loop;
    const char *dir;      /* Folder of the machines' folders; made. */
    const char *jail_dir; /* An empty folder to mount jails over; made. */
    const char *cloud_id;
    const struct clock *clock;
    struct accel accel;
    const struct link_hardware
        *hardware; /* For its NUMA nodes; borrowed. NULL: none. */
    struct machine_host host;
};

/* Finds what runs already: those machines are orphans until they are wanted. */
MUST_CHECK struct machines *machines_open(const struct machines_config *config,
                                          struct err *err);
/* Forgets them; guests go on. A start under way is waited for. NULL is a no-op. */
void machines_close(struct machines *set);

/* 'want' is copied. 'deleted': kill it and remove it. */
void machines_want(struct machines *set, const struct link_machine *want, bool deleted);
void machines_delete(struct machines *set, const char *id); /* Without a record. */
/* Its record is gone without being deleted: an orphan, stopped gently. */
void machines_forget(struct machines *set, const char *id);
/* Orphans are left alone until this is called: the wanted set is complete. */
void machines_complete(struct machines *set);
/* All are to stop, gently, and stay stopped, whatever is wanted: the host's power-off.
 */
void machines_power_off(struct machines *set, int64_t grace_ns);

/* Plans and starts the next step of each; '*out_wake_ns' when to pass again. */
void machines_pass(struct machines *set, int64_t *out_wake_ns);

/* For each machine wanted or seen. Strings live in the arena. */
typedef void machine_seen_fn(void *ctx, const struct link_machine_seen *seen);
void machines_seen(struct machines *set, struct arena *arena, machine_seen_fn *fn,
                   void *ctx);
size_t machines_running(const struct machines *set);
size_t machines_processes(const struct machines *set); /* Up, or on the way. */
/* Wanted to run, or running, while the node's lease lives. */
size_t machines_leased(const struct machines *set);
/* One that runs, and is to end with the lease from now on, though it was not started so;
 * each once. False: there is none. 'pidfd' is borrowed. */
bool machines_unleased(const struct machines *set, pid_t *out_pid, int *out_pidfd);
/* Whether that could be done; if not, it is so from its next start. */
void machines_adopted(struct machines *set, pid_t pid, bool done);
/* Whether there are machines, and the pages of all may be merged with one another's. */
bool machines_may_merge(const struct machines *set);
/* For each machine that runs: what the meter needs. */
struct machine_metered {
    const char *id;
    pid_t pid;
    const struct link_machine *want;
    int64_t started_at_ns;
    int64_t dirty_bps; /* As it was measured last; 0: not yet. */
};
typedef void machine_metered_fn(void *ctx, const struct machine_metered *machine);
void machines_metered(const struct machines *set, machine_metered_fn *fn, void *ctx);
/* Asks the guest to give memory back, down to 'bytes'; at least half of what it has, and
 * at most all. The answer is a matter of time. */
void machines_balloon(struct machines *set, const char *id, int64_t bytes);
/* Begins to measure how fast running guests write their memory, which takes a second; and
 * asks what came of it: machines_metered tells. By a sample of pages: a guest that writes the
 * same few all the time is underrated. */
void machines_dirty_begin(struct machines *set);
void machines_dirty_ask(struct machines *set);
/* Forgets a machine that is absent and was reported so. */
void machines_drop_absent(struct machines *set, const char *id);

/* Whether a running machine may have the disk, port or blob open. */
bool machines_use_disk(const struct machines *set, const char *disk_id);
bool machines_use_port(const struct machines *set, const char *port_id);
bool machines_use_blob(const struct machines *set, const char *blob_id);
/* The live block node of a disk, and whom to speak to; false when no guest runs on it.
 */
bool machines_disk_node(const struct machines *set, const char *disk_id,
                        struct qmp **out_qmp, char out_node[16]);
/* Block jobs' ends are told here (QMP's JOB_STATUS_CHANGE: id and status). */
typedef void machine_job_fn(void *ctx, const char *job_id, const char *status);
void machines_watch_jobs(struct machines *set, machine_job_fn *fn, void *ctx);

/* Every event of every machine's QEMU, as it comes; 'data' is borrowed, may be NULL. */
typedef void machine_event_fn(void *ctx, const char *id, const char *name,
                              json_t *data);
void machines_watch_events(struct machines *set, machine_event_fn *fn, void *ctx);

/* ---- for migrations: machine_move.c ---- */

/* A machine as a migration must see it. Borrowed until the next pass. */
struct machine_body {
    const struct link_machine *want;
    const char *dir;     /* Of its sockets. */
    struct qmp *qmp;     /* NULL while its QEMU cannot be spoken to. */
    pid_t pid;           /* 0: there is no process. */
    bool starting;       /* One is on its way. */
    bool moved;          /* The migration named in 'want' was its last. */
    bool tried;          /* That migration was begun once. */
    bool left;           /* machines_leave: something is left with the emulator. */
    bool deaf;           /* 'qmp' is an earlier agent's, and does not answer. */
    const char *message; /* Why it ended last. */
};
/* False when there is no such machine, or no record of it. */
bool machines_body(const struct machines *set, const char *id,
                   struct machine_body *out);
/* Notes, durably, that the migration brought or took the guest: say it before it runs
 * here, and before it is said to have left. */
void machines_moved(struct machines *set, const char *id, const char *migration_id);
/* Notes, durably, that giving it to that migration begins: that happens once. */
void machines_tried(struct machines *set, const char *id, const char *migration_id);
/* So that the next agent can take them from the emulator: notes, durably, 'fd' and our end of
 * the conversation, '*out_line_fd' (borrowed). The caller hands copies of both to the
 * emulator; what is not found there is met anew. */
MUST_CHECK bool machines_leave(struct machines *set, const char *id, int fd,
                               int *out_line_fd, struct err *err);
/* 'fd' again; it becomes the caller's. */
MUST_CHECK bool machines_left(const struct machines *set, const char *id, int *out_fd,
                              struct err *err);
/* The emulator has let go of both. */
void machines_left_nothing(struct machines *set, const char *id);
/* The guest came back to its shell: as if it had never left. */
void machines_came_back(struct machines *set, const char *id);
/* Begins to make all of an arriving guest's memory, beside its emulator, which needs it the
 * sooner; before any of the memory's contents may come. Nothing waits for it. */
void machines_fill(struct machines *set, const char *id);
/* Ends its emulator at once, as if that had fallen: a guest that lost its memory. */
void machines_kill(struct machines *set, const char *id);
/* Puts what the console said elsewhere before what it will say here. */
MUST_CHECK bool machines_console_add(struct machines *set, const char *id,
                                     struct blob history, struct err *err);

/* ERR_NOT_FOUND when there is no such machine. */
MUST_CHECK bool machines_console_read(struct machines *set, const char *id,
                                      struct buf *out, struct err *err);
MUST_CHECK bool machines_console_attach(struct machines *set, const char *id, int fd,
                                        struct err *err);
/* Removes every cgroup of the cloud that no process is in, and its own. */
void machines_sweep(struct machines *set);
/* The uid and gid of work on strangers' files, of the same range as the guests'. */
uint32_t machines_job_uid(const struct machines *set, unsigned index);
const struct cgroup_host *machines_cgroups(const struct machines *set);
