/* machine_impl.h - what the files of machine/ share about one machine. Not for others.
 */
#pragma once
#include "base/map.h"
#include "node/machine/console.h"
#include "node/machine/jail.h"
#include "node/machine/machine.h"
#include "node/machine/machine_plan.h"
#include "node/machine/qemu.h"
#include "node/machine/qmp.h"

struct start;        /* machine_start.c */
struct machine_fill; /* machine_move.c */

/* What must survive the agent; machines/ID/state.json. */
struct machine_record {
    int64_t uid_index;
    int64_t halted_generation; /* -1: it did not halt by itself. */
    int64_t reboots_done;
    int64_t crashes, guest_reboots;
    int64_t started_at_ns;
    bool leased;  /* The process runs so that it ends with the node's lease. */
    int64_t numa; /* Index of the NUMA node that it is kept on; -1: none. */
    char machine_type[32], cpu_model[40]; /* Of the process; empty: the host's own. */
    char reason[24];
    char message[200];
    char tried[48]; /* The migration that it was last started to wait for. */
    char moved[48]; /* The one that last brought it here, or took it away. */
    /* Inodes of sockets that the process holds for us, our end of the conversation and
     * another; 0: none. */
    int64_t left_line, left_other;
};

/* A network card that QEMU has, or is being given; machine_cards.c. */
struct machine_card {
    char port_id[48];
    unsigned slot;
    int64_t pull_began_ns, asked_ns; /* 0: nobody asked the guest to give it up. */
    bool coming;                     /* QEMU has not answered yet. */
    bool forced;   /* Its other end is taken away without the guest. */
    bool cut_off;  /* That is done: only the dead card is left. */
    bool released; /* The guest gave it up; its other end remains. */
};

struct machine {
    struct machines *set;
    char id[48], *dir;
    struct arena *want_arena;
    struct link_machine *want; /* NULL: an orphan, or deleted without a record. */
    bool deleted;
    bool traces;
    struct machine_record record;
    enum machine_process process;
    pid_t pid;
    int pidfd;
    uv_poll_t *pid_poll;
    struct qmp *qmp;
    bool qmp_up, was_up; /* was_up: this process has run the guest. */
    bool resumed;        /* The conversation is an earlier agent's: it may be deaf. */
    int64_t speak_at_ns; /* Not up by then: QMP is tried anew. */
    bool lease_late;     /* This process cannot be leased any more. */
    bool host_fault;
    int64_t resume_at_ns;
    int64_t stop_began_ns, asked_ns, quit_ns, retry_at_ns, up_since_ns;
    int64_t failures; /* In a row; for the pause between starts. */
    struct start *start;
    struct machine_fill *fill;
    struct console *console;
    struct machine_card cards[QEMU_NICS_MAX];
    size_t card_count;
    bool cards_known, cards_asked; /* Whether 'cards' is what QEMU has. */
    int64_t plug_again_ns;
    int64_t dirty_bps; /* Of this process; 0: not measured. */
};

struct machines {
    struct machines_config config;
    char *dir, *jail_dir, *cloud_id;
    struct map *map; /* id to struct machine */
    struct cgroup_host cgroups;
    uint32_t uid_base;
    bool complete, power_off, closing;
    int64_t power_off_grace_ns;
    int64_t trim_at_ns;
    machine_job_fn *job_fn;
    void *job_ctx;
    machine_event_fn *event_fn;
    void *event_ctx;
};

#define MACHINE_UIDS 60000u /* Of a cloud's 65 536; the rest is for other work. */

int64_t machine_now(const struct machine *m);
void machine_changed(struct machine *m);
void machine_event(struct machine *m, const char *kind, const char *level,
                   const char *fmt, ...) PRINTF_LIKE(4, 5);
void machine_facts(const struct machine *m, struct machine_facts *out);
/* A migration is to bring it, and has not yet. */
bool machine_is_arriving(const struct machine *m);
/* A migration has taken the guest away; the process is only its shell. */
bool machine_is_given(const struct machine *m);

/* machine_record.c: the folder. */
void machine_load(struct machine *m);
void
machine_save(struct machine *m); /* A failure is logged: the next save repeats it. */
bool machine_remove(struct machine *m, struct err *err);

/* machine_start.c */
void machine_start(struct machine *m);
void machine_start_wait(struct machine *m); /* Ends a worker's start before closing. */

/* machine_move.c: ends the process that makes the guest's memory, if there is one. */
void machine_fill_end(struct machine *m);

/* machine_cards.c */
void machine_cards_pass(struct machine *m, int64_t now, int64_t *wake);
void machine_cards_event(struct machine *m, const char *device); /* DEVICE_DELETED. */
void machine_cards_reset(struct machine *m);
/* Notes a card that QEMU is about to get; its slot, -1: there is none. */
int machine_cards_place(struct machine *m, const char *port_id, int64_t device_index);
/* Whether the guest's card may have the port's tap open. */
bool machine_cards_use(const struct machine *m, const char *port_id);

/* machine_life.c */
void machine_up(struct machine *m, pid_t pid,
                int pidfd); /* A process is ours to watch. */
void machine_adopt(struct machine *m);
void machine_speak(struct machine *m); /* Opens QMP, anew if need be. */
void machine_ask(struct machine *m);
void machine_quit(struct machine *m);
void machine_kill(struct machine *m);
void machine_try_resume(struct machine *m);
void machine_unwatch(struct machine *m);

/* machine_line.c: our end of the conversation, where it was left with the emulator. */
bool machine_line_take(const struct machine *m, int *out_fd);
void machine_start_failed(struct machine *m, const struct err *err);
