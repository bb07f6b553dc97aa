/* guest_follow.c - post-copy, as two simulated emulators do it: see guest_follow.h.
 *
 * Purpose:  QEMU's part of docs/decisions/0015-post-copy.md. All but memory is handed over, and
 *           once it has arrived the receiver's emulator has a guest that may go on; the rest
 *           follows for as long as the couriers of memory are there, and waits while a host
 *           is cut off. When they end both pause. The receiver's must then be told where
 *           more will come, out of band, before the giver's is let in: a way that ends in the
 *           midst of that, or an end that is closed, may fell it, as it does QEMU 7.2. While
 *           nothing comes, its main loop may wait for a page, and hears nothing.
 * Place:    beside guest_move.c, which has the commands. */
#include "guest_follow.h"
#include "courier_sim.h"

#define LOOK_NS (100 * NS_PER_MS)
#define REST_MAX_NS (20 * NS_PER_S) /* What follows takes up to this. */
#define AGREE_MAX_NS (200 * NS_PER_MS)
#define NUMB_PERCENT 70 /* Of those that wait for what does not come. */
#define FALL_PERCENT 50
#define HEARD_PERCENT 50

enum way { WAY_HANDS_OVER, WAY_ARRIVES, WAY_FLOWS, WAY_CUT, WAY_AGREES };

struct follow {
    struct guest *from, *to; /* 'to' NULL: it has not arrived. */
    enum way way;
    int64_t left_ns; /* So much follows yet. */
    int64_t agreed_at_ns;
    struct process *by; /* Has the end at which 'to' waits; NULL: it does not. */
    bool over;
};

static void on_look(void *ctx);

static void
look_again(struct follow *f, int64_t most_ns)
{
    (void)world_after(NULL, world_between(CHANCE_ORDER, NS_PER_MS, most_ns), on_look,
                      f);
}

/* Without the last of what it was given for this it would wait for ever: decision 0015 says
 * so, and it is not asked of the code. */
static bool
may_be_helped(const struct guest *to)
{
    for (size_t i = 0; i < to->fds.count; i++) {
        if (str_eq(to->fds.items[i].name, "again2")) {
            return true;
        }
    }
    return false;
}

static void
go_numb(struct guest *to)
{
    if (!to->numb && may_be_helped(to) && world_percent(CHANCE_FAULTS, NUMB_PERCENT)) {
        trace("%s: the emulator of %s waits for a page", to->host->name, to->id);
        to->numb = true;
    }
}

/* Each side hears of it by the end of its own stream. */
static void
cut(struct follow *f)
{
    f->way = WAY_CUT;
    trace("%s: the memory of %s is cut off", f->from->host->name, f->from->id);
    guest_set_move(f->from, "postcopy-paused");
    guest_set_move(f->to, "postcopy-paused");
    go_numb(f->to);
}

/* What was sent is lost with the way, or with who waited for it. QEMU may hear of that in time;
 * if not, it lets its guest go on no more. */
static void
fail(struct follow *f)
{
    f->over = true;
    f->from->follow = NULL;
    if (world_percent(CHANCE_FAULTS, HEARD_PERCENT)) {
        guest_set_move(f->from, "failed");
        guest_go_on(f->from);
    } else {
        f->from->gave = true;
        guest_set_move(f->from, "postcopy-paused");
    }
}

void
follow_hand_over(struct guest *from)
{
    struct follow *f = xcalloc(1, sizeof *f);
    f->from = from;
    f->left_ns = world_between(CHANCE_ORDER, LOOK_NS, REST_MAX_NS);
    from->follow = f;
    guest_set_move(from, "postcopy-active");
    look_again(f, AGREE_MAX_NS);
}

static void
hand_over(struct follow *f)
{
    struct courier *c = guest_memory_courier(f->from);
    const struct host *there = courier_holds(c);
    struct guest *far = there ? host_guest(there, f->from->id) : NULL;
    if (!far || !far->incoming || !far->move) {
        fail(f);
    } else if (courier_reaches(c)) {
        f->to = far;
        far->follow = f;
        f->way = WAY_ARRIVES;
        guest_set_move(far, "postcopy-active");
    }
}

/* All but memory. */
static void
arrive(struct follow *f)
{
    guest_arrives(f->from, f->to);
    f->way = WAY_FLOWS;
    f->to->incoming = false;
    f->to->behind = true;
    f->to->state = GUEST_RUNNING;
}

static void
finish(struct follow *f)
{
    trace("%s: all of %s has followed", f->to->host->name, f->to->id);
    f->over = true;
    f->to->behind = f->to->numb = false;
    f->to->follow = f->from->follow = NULL;
    f->from->gave = true;
    guest_set_move(f->from, "completed");
    guest_set_move(f->to, "completed");
    courier_finish(guest_memory_courier(f->from));
}

static void
flow(struct follow *f)
{
    struct courier *c = guest_memory_courier(f->from);
    if (!courier_holds(c)) {
        cut(f);
    } else if (!courier_reaches(c)) {
        go_numb(f->to);
    } else if (f->left_ns > 0) {
        f->to->numb = false;
        f->left_ns -= LOOK_NS;
    } else {
        finish(f);
    }
}

/* The end at which it waits was closed: the agent that had it is dead. */
static void
wait_for_way(struct follow *f)
{
    if (f->by && f->by->dead) {
        f->by = NULL;
        if (world_percent(CHANCE_FAULTS, FALL_PERCENT)) {
            guest_end(f->to, "it fell: its new way was closed");
        }
    }
}

static void
agree(struct follow *f)
{
    struct courier *c = guest_memory_courier(f->from);
    if (courier_reaches(c) && f->to && f->by && !f->by->dead) {
        if (world_now() >= f->agreed_at_ns) {
            trace("%s: the memory of %s goes on", f->from->host->name, f->from->id);
            f->way = WAY_FLOWS;
            f->by = NULL;
            f->to->numb = false;
            guest_set_move(f->from, "postcopy-active");
            guest_set_move(f->to, "postcopy-active");
        }
    } else if (!courier_holds(c)) {
        bool begun = world_percent(CHANCE_FAULTS, FALL_PERCENT);
        f->way = WAY_CUT;
        guest_set_move(f->from, "postcopy-paused");
        if (f->to && f->by && begun) {
            guest_end(f->to, "it fell: its new way ended");
        }
    }
}

static void
on_look(void *ctx)
{
    static void (*const looks[])(struct follow * f) = {
        [WAY_HANDS_OVER] = hand_over, [WAY_ARRIVES] = arrive, [WAY_FLOWS] = flow,
        [WAY_CUT] = wait_for_way,     [WAY_AGREES] = agree,
    };
    struct follow *f = ctx;
    if (!f->over) {
        looks[f->way](f);
    }
    if (f->over) {
        free(f);
        return;
    }
    look_again(f, f->way == WAY_ARRIVES ? 20 * NS_PER_MS : 2 * LOOK_NS);
}

bool
follow_resumes(struct guest *from)
{
    struct follow *f = from->follow;
    if (!f || f->way != WAY_CUT || !str_eq(from->move, "postcopy-paused")) {
        return false;
    }
    f->way = WAY_AGREES;
    f->agreed_at_ns = world_now() + world_between(CHANCE_ORDER, 1, AGREE_MAX_NS);
    guest_set_move(from, "postcopy-recover");
    return true;
}

bool
follow_expects(struct guest *to, struct process *by)
{
    struct follow *f = to->follow;
    if (!f || f->way != WAY_CUT || !str_eq(to->move, "postcopy-paused")) {
        return false;
    }
    f->by = by;
    return true;
}

void
follow_ends(struct guest *g)
{
    struct follow *f = g->follow;
    if (!f) {
        return;
    }
    f->over = true; /* Freed by its own event. */
    g->follow = NULL;
    struct guest *other = g == f->from ? f->to : f->from;
    if (other) {
        other->follow = NULL;
        other->gave = other == f->from;
        guest_set_move(other, "postcopy-paused");
    }
}

const struct guest *
follow_other(const struct guest *g)
{
    const struct follow *f = g->follow;
    return !f ? NULL : g == f->from ? f->to : f->from;
}
