/* migration_plan.h - the one next step of each side of a migration: pure functions.
 *
 * Purpose:  who may run the guest, when. The giver lets go only when it was told to switch,
 *           after every disk has ended; once QEMU says that all was sent, the giver's copy
 *           never runs again unless it is told to return. The receiver runs the guest only
 *           when all of it is here and the giver's word, or the control plane's, says that
 *           it has left. In post-copy "all" is all but the memory that follows, and the
 *           giver's copy has left once the receiver says that so much is there.
 * Place:    the rules of migration.h's life, apart from what carries them out.
 * Threads:  any. Times are of the monotonic clock. */
#pragma once
#include "base/base.h"

/* A giver that asked to switch and hears nothing for so long keeps its guest. */
#define MIGRATION_ASK_NS (3 * NS_PER_S)

enum give_order {
    GIVE_ORDER_WAIT,
    GIVE_ORDER_COPY,
    GIVE_ORDER_SWITCH,
    GIVE_ORDER_STAY,
    GIVE_ORDER_RETURN
};

enum migration_part { /* Couriers, disks. */
                      PART_NONE,
                      PART_BEGUN,
                      PART_READY,
                      PART_ENDING,
                      PART_ENDED,
                      PART_BROKEN,
};

enum migration_memory { /* As QEMU tells. */
                        MEMORY_NONE,
                        MEMORY_COPYING,
                        MEMORY_PAUSED, /* Giver: the guest stands still, and is still here. */
                        MEMORY_SWITCHING,
                        MEMORY_FOLLOWING, /* It may run there, and its memory comes after it. */
                        MEMORY_CUT, /* The same, but nothing comes: the way there is cut. */
                        MEMORY_DONE,
                        MEMORY_BROKEN,
};

enum give_step {
    GIVE_NOTHING,
    GIVE_LOOK,      /* Ask QEMU how things stand: the agent has just come. */
    GIVE_BEGIN,     /* Note that it begins, and send couriers out. */
    GIVE_DISKS,     /* Mirror them. */
    GIVE_MEMORY,    /* Copy the memory. */
    GIVE_END_DISKS, /* The guest stands still: the mirrors are whole. */
    GIVE_CONTINUE,  /* Let go. */
    GIVE_PART,      /* It has left: note it, and give the receiver our word. */
    GIVE_STAY,      /* Undo all; the guest goes on here. */
    GIVE_RETURN,    /* It left and never ran there: it goes on here. */
    GIVE_CALL,      /* Reach the receiver anew, for the memory that is still here. */
    GIVE_RESUME,    /* Go on sending it. */
    GIVE_STEPS,
};

struct give_facts {
    enum give_order order;
    bool busy;       /* A step is under way. */
    bool kept;       /* It is over, and the guest is ours. */
    bool alive;      /* The guest's process is there... */
    bool qmp_up;     /* ...and can be spoken to. */
    bool looked;     /* QEMU was asked how things stand. */
    bool begun;      /* By this agent. */
    bool begun_once; /* By this or an earlier one. */
    bool moved;      /* Noted: the guest has left. */
    bool here;       /* Post-copy: the receiver has all but memory. */
    bool call_due;   /* It may be called anew now. */
    enum migration_part couriers, disks;
    enum migration_memory memory;
    int64_t asked_ns; /* When the guest came to stand still; 0: it runs. */
};

/* Whether memory is left at the giver while the guest may run at the receiver. */
static inline bool
memory_is_behind(enum migration_memory memory)
{
    return memory == MEMORY_FOLLOWING || memory == MEMORY_CUT;
}

enum give_step give_plan(const struct give_facts *f, int64_t now_ns);

enum take_step {
    TAKE_NOTHING,
    TAKE_LOOK,
    TAKE_OPEN, /* The door, at which what comes waits; also for memory that is behind. */
    TAKE_SET_UP, /* Offer the disks. */
    TAKE_RUN,
    TAKE_STEPS,
};

struct take_facts {
    bool busy, failed;
    bool starting; /* The emulator is on its way... */
    bool alive, qmp_up, looked;
    bool moved;  /* Noted: the guest is ours. */
    bool word;   /* The giver, or the control plane, says that it has left. */
    bool open;   /* The door. */
    bool set_up; /* By this agent. */
    bool here;   /* All but memory that follows. */
    bool running;
    enum migration_memory memory;
};

enum take_step take_plan(const struct take_facts *f);
