/* host.h - a simulated host: what outlives its agent, and what ends when its power does.
 *
 * Purpose:  under the real agent (node/agent.c with its machines, disks and blobs) lies a
 *           host without QEMU and without a kernel of its own: guests are events
 *           (guest.c), networks are names (net_sim.c); its disk is a real folder.
 * Place:    above the world; below the faults.
 * Owner:    the run makes them and never frees them.
 * Threads:  one. */
#pragma once
#include "base/map.h"
#include "history.h"
#include "link/link.h"
#include "world.h"

struct agent;
struct qmp;

enum guest_state { GUEST_BOOTING, GUEST_RUNNING, GUEST_HALTED, GUEST_PANICKED };

struct follow;

/* A descriptor that it was given. */
struct guest_fd {
    char name[16];
    int fd;
};

struct guest_job {
    char id[32]; /* Empty: none. */
    const char *status, *error;
};

/* One emulator's process. It stays in the list when it has ended. */
struct guest {
    struct host *host;
    char id[48];
    int pid;
    bool alive;
    bool deaf;   /* Its guest does not heed the power button. */
    bool stuck;  /* It does not end when told to. */
    bool leased; /* It ends with the fence's room. */
    enum guest_state state;
    int64_t vcpus, memory_bytes;
    VEC(int) watched; /* Descriptors that tell of its end. */
    bool standing;    /* Its processors do not run. */
    bool incoming;    /* Its memory is still elsewhere. */
    char build[64];   /* Its machine type and processor, as it was started with. */
    const char *move; /* Its last migration, as query-migrate says it; NULL: none. */
    unsigned silent;
    bool gave; /* Its memory is of the past: the guest has gone on elsewhere. */
    struct guest *sender,
        *twin;      /* Who sent its memory; who has the same, till one runs. */
    bool post_copy; /* Its memory may follow it... */
    bool busy;      /* ...which it writes faster than it is copied... */
    bool hurried;   /* ...so that it is to follow now. */
    int64_t passes;
    struct follow *follow; /* With its other half; NULL: it is whole. */
    bool behind;           /* It may run here, and some of its memory is not. */
    bool numb;             /* It waits for that, and hears only what is out of band. */
    VEC(struct guest_fd) fds;
    int disk_fd; /* -1: none. */
    char disk_id[48];
    struct guest_job jobs[4];
    struct qmp *qmp; /* Who speaks with it; NULL: nobody. */
};

/* moln-fence (fence_sim.c). */
struct fence_sim {
    unsigned life, lives; /* The number of the one that runs, 0: none; of all so far. */
    int64_t until_ns;     /* By the host's clock; 0: nothing leased may run. */
    uint64_t turn;        /* Rises when a room is ended. */
    struct event *timer;
};

/* What a guest is started in, when it is leased: good while 'turn' is the fence's. */
struct fence_room {
    const struct host *host;
    uint64_t turn;
};

/* What placement and the agent are told of a host. */
struct host_size {
    int64_t vcpus, memory_bytes, pool_bytes;
};

struct host {
    unsigned number; /* From 1. */
    char name[16], dir[128], address[24], boot_id[40], places[128];
    char node_id[64]; /* As the cloud knows it; empty before it joined. */
    struct host_size size;
    const char *shared_dir; /* A pool that other hosts have too; NULL: none. */
    bool on;
    int64_t booted_ns; /* By the world's clock... */
    int64_t drift; /* ...to which its own gains so many nanoseconds a microsecond. */
    struct fence_sim fence;
    bool held;       /* The agent is not started again: a fault wants it so. */
    bool bad_starts; /* Emulators fail to start. */
    bool bad_kernel; /* Networks cannot be made. */
    bool post_copy;  /* Emulators may take in memory that follows. */
    unsigned boots;
    int64_t cut_until_ns;
    struct process *process; /* The agent's; NULL or dead: there is none. */
    struct agent *agent;
    int64_t crash_pause_ns;
    char token[160]; /* To join with; empty: not yet. */
    VEC(struct guest *) guests;
    struct map *groups;             /* Control groups, by machine. */
    struct map *kernel[LINK_KINDS]; /* Networks, subnets, ports, ...: by id. */
};

/* 'places': where its agent finds the control plane. */
struct host *host_new(unsigned number, const char *dir, const struct host_size *size,
                      const char *places);
void host_power(struct host *host, bool on);
/* Its power goes, and all that it kept: another host from now on, that has not joined. */
void host_wipe(struct host *host, unsigned number);
/* Kills the agent; it comes back after 'pause_ns', without its wanted state if told so. */
void host_kill_agent(struct host *host, int64_t pause_ns, bool forget);
/* Kills it in the middle of what it does, so many calls to the outside from now. */
void host_crash_agent(struct host *host, unsigned calls, int64_t pause_ns);
/* Starts the agent when it should run and does not; called every now and then. */
void host_upkeep(struct host *host);
void host_cut(struct host *host, int64_t until_ns);
bool host_is_cut(const struct host *host);
int64_t host_cut_until(const struct host *host);
const char *host_address(const struct host *host);
void host_each_process(const struct host *host, void (*fn)(struct process *process));
int64_t host_mono(const struct host *host); /* Its clock since boot. */
void host_kill_fence(struct host *host);    /* And what it guards. */
struct host *host_now(void); /* Whose process runs this moment; never NULL. */

/* ---- guest.c --------------------------------------------------------------------- */

void guest_end(struct guest *guest, const char *why); /* Its process is gone. */
void guest_halt(struct guest *guest); /* Its guest shuts down by itself. */
void guest_panic(struct guest *guest);
struct guest *host_guest(const struct host *host, const char *id); /* Alive, or NULL. */
