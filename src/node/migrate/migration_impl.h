/* migration_impl.h - what the files of migrate/ share about one migration. */
#pragma once
#include "base/map.h"
#include "link/frame.h"
#include "node/migrate/file_stream.h"
#include "node/migrate/migration.h"
#include "node/migrate/migration_plan.h"
#include "node/migrate/script.h"

#define MIGRATION_DISKS_MAX 16
#define MIGRATION_POLL_NS (100 * NS_PER_MS)
#define MIGRATION_SPARES 3 /* Cuts that a receiver mends while its emulator waits. */
#define MIGRATION_SILENT_NS (8 * NS_PER_S) /* So long, and memory counts as cut off. */

struct migrations {
    struct migrations_config config;
    struct map *map; /* id to struct migration */
    bool closing;
};

/* What QEMU last told of the copying. */
struct migration_progress {
    int64_t disk_bytes, disk_done_bytes;
    int64_t memory_bytes, memory_left_bytes, memory_sent_bytes;
    int64_t dirty_bps, copy_bps, passes, downtime_ms;
};

/* Of a port, as the giver knew them. */
struct migration_connections {
    char port_id[48];
    uint8_t *data;
    size_t len;
};

struct migration_courier {
    struct courier *courier;
    bool up;
    /* Receiver: what it carries, and whether that has its end here yet. */
    char stream[COURIER_STREAM_MAX];
    bool joined;
};

struct migration {
    struct migrations *set;
    char id[48];
    struct arena *want_arena;
    const struct link_migration *want; /* NULL: deleted without a record. */
    bool deleted;
    unsigned scripts;  /* Under way. */
    unsigned polls;    /* Those that ask, and keep nothing waiting. */
    unsigned turn;     /* Rises with each script: what was asked before is stale. */
    bool starting;     /* One is being begun: it may fail at once. */
    bool looked, over; /* over: kept, or failed. */
    char message[200];
    enum migration_memory memory;
    struct migration_progress progress, shown; /* shown: as last reported. */
    const char *shown_state;
    int64_t show_at_ns, shown_elapsed_ns;
    int64_t began_ns, ended_ns;
    int64_t poll_at_ns;
    struct arena *self_arena;
    struct courier_self self;
    /* 0: words, 1: memory, 2 and on: disks. */
    struct migration_courier couriers[2 + MIGRATION_DISKS_MAX];
    size_t courier_count;
    bool broken; /* A courier ended before it should. */
    /* Giver: what it has told. Receiver: what is put in place at the last. */
    VEC(struct migration_connections) connections;
    int words_fd, memory_fd;
    /* Giver. */
    bool begun, staying, job_news;
    enum migration_part disks;
    uint32_t ready_mirrors, ended_mirrors; /* A bit a disk. */
    int64_t asked_ns, stood_ns;
    bool history_sent;
    bool hurried;   /* Post-copy was asked for. */
    bool told_here; /* The receiver says that all but memory is there... */
    bool here;      /* ...and so it is, for good. Receiver: it is here. */
    bool calling;   /* Couriers are on their way again. */
    int64_t call_at_ns;
    /* Receiver. */
    struct courier_door *door;
    bool set_up, word, running;
    bool supposed; /* It runs, and waits for memory: nobody could be asked yet. */
    /* Memory may come again while the emulator's main loop waits for memory, and takes no
     * descriptors: it has its ends of some pairs already, and our ends are messages that
     * wait in this socket, which the emulator has too, for the agent after us. -1: none. */
    int spares_fd;
    /* Our end of what the emulator was told to go on with, until it has: -1: it was told of
     * none. Were that to end before, it would fall. */
    int again_fd;
    struct frame_reader words;
    struct buf words_out; /* Said, and not taken by the socket yet. */
    uv_poll_t *words_poll;
    /* Of a stopped machine. Receiver: one stream takes all in. */
    struct file_stream *files[MIGRATION_DISKS_MAX];
    size_t file_count;
    bool files_done;   /* Receiver: all came, whole. */
    bool opened;       /* Receiver: for what came of this migration, and no other. */
    int64_t door_port; /* Giver: where it was sent. */
};

int64_t migration_now(const struct migration *m);
/* Something changed that others must hear of. */
void migration_changed(struct migration *m);
/* Takes the next steps now, without waiting for a pass. */
void migration_step(struct migration *m);
void migration_note(struct migration *m, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool migration_body(const struct migration *m, struct machine_body *out);
/* Copies a port's connections, and drops all of them. */
void migration_keep(struct migration *m, const char *port_id, struct blob connections);
void migration_forget_kept(struct migration *m);
/* Ends one, and knows it no more; the last one takes its place. For what does not count its
 * couriers by place: a giver of memory does. */
void migration_let_go(struct migration *m, struct courier *courier);
/* Ends the couriers of memory. */
void migration_close_memory(struct migration *m);
/* Ends couriers and door; closes what is open. */
void migration_hang_up(struct migration *m);
bool migration_load_self(struct migration *m, struct err *err);
/* Takes in an answer of query-migrate. */
void migration_read(struct migration *m, json_t *result);
/* Runs 'script' for one; 'done' may be NULL. */
void migration_run(struct migration *m, struct script *script, struct qmp *qmp,
                   script_done_fn *done);

/* The same of one that only asks: steps do not wait for it, and an answer that a step has
 * overtaken is dropped. */
void migration_poll(struct migration *m, struct script *script, struct qmp *qmp,
                    script_done_fn *done);

/* words.c: what giver and receiver say to each other. */
void words_open(struct migration *m, int fd); /* Takes it. */
void words_close(struct migration *m);
/* Nobody hears it when the receiver is not there. */
void words_say(struct migration *m, const char *kind, const char *object,
               struct blob body);

/* migration_give.c */
void give_hear(struct migration *m, const struct link_courier_word *word);
void give_step(struct migration *m);
const char *give_state(const struct migration *m);
void give_note_downtime(struct migration *m);
void give_poll(struct migration *m, struct qmp *qmp);
bool give_send_streams(struct migration *m, struct err *err); /* Words and memory. */
/* migration_mirror.c: the giver's local disks. Whether one is copied, and what its job and the
 * job's target are called: */
bool mirror_copies(const struct migration *m, const struct machine_body *body,
                   size_t disk);
void mirror_name(const struct migration *m, size_t disk, char out[32]);
/* What QEMU is to do to begin, to end with both sides alike, to give up, and to forget. */
void mirrors_begin(const struct migration *m, const struct machine_body *body,
                   struct script *s);
void mirrors_end(const struct migration *m, const struct machine_body *body,
                 struct script *s);
void mirrors_give_up(const struct migration *m, const struct machine_body *body,
                     struct script *s);
void mirrors_forget(const struct migration *m, const struct machine_body *body,
                    struct script *s);
/* Asks how far they are. */
void mirrors_poll(struct migration *m, struct qmp *qmp);
/* A job of the machine's has come further: maybe one of ours. */
void mirrors_job_event(struct migration *m);
/* A mirror is ready, or has ended. */
void mirrors_event(struct migration *m, bool ready, const json_t *data);
/* migration_follow.c: post-copy. The giver's: */
/* From the order to let go: what ends on the way is begun anew, not undone. */
bool follow_has_begun(const struct migration *m);
void follow_cut(struct migration *m, const char *why);
void follow_hurry(struct migration *m, struct qmp *qmp);
void follow_confirm(struct migration *m);
void follow_call(struct migration *m, const struct machine_body *body);
void follow_resume(struct migration *m, const struct machine_body *body);
/* The receiver's: */
MUST_CHECK bool follow_add_spares(struct migration *m, struct script *s,
                                  struct err *err);
void follow_take_left(struct migration *m);
void follow_leave_nothing(struct migration *m, const struct machine_body *body);
/* A courier of memory that comes again, and waits. */
void follow_meet(struct migration *m, const struct machine_body *body,
                 struct migration_courier *courier);
/* Whether what is on its way does come. */
bool follow_comes(const struct migration *m);
void follow_look(struct migration *m, struct qmp *qmp);
void follow_say_here(struct migration *m);
/* At each step while memory is behind; false: there is nothing to do any more. */
bool follow_take(struct migration *m, const struct machine_body *body);
/* migration_take.c */
void take_step(struct migration *m);
const char *take_state(const struct migration *m);
void take_poll(struct migration *m, struct qmp *qmp);
void take_hear(struct migration *m, const struct link_courier_word *word);
/* migration_cold.c: both sides of a stopped machine's way. */
void cold_step(struct migration *m);
const char *cold_state(const struct migration *m);
/* Ends streams and couriers; what came so far goes. */
void cold_hang_up(struct migration *m);
