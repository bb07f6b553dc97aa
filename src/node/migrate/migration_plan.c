/* migration_plan.c - see migration_plan.h. */
#include "node/migrate/migration_plan.h"

/* Whether it must be undone, as long as the guest has not left. */
static bool
is_over(const struct give_facts *f, int64_t now_ns)
{
    return f->order == GIVE_ORDER_STAY || f->order == GIVE_ORDER_RETURN ||
           f->couriers == PART_BROKEN || f->disks == PART_BROKEN ||
           f->memory == MEMORY_BROKEN || (f->begun_once && !f->begun) ||
           (f->order != GIVE_ORDER_SWITCH && f->asked_ns != 0 &&
            now_ns >= f->asked_ns + MIGRATION_ASK_NS);
}

static enum give_step
plan_paused(const struct give_facts *f)
{
    if (!f->begun) {
        return GIVE_NOTHING;
    }
    if (f->disks == PART_READY) {
        return GIVE_END_DISKS;
    }
    return f->disks == PART_ENDED && f->order == GIVE_ORDER_SWITCH ? GIVE_CONTINUE
                                                                   : GIVE_NOTHING;
}

static enum give_step
plan_copying(const struct give_facts *f)
{
    if (!f->begun) {
        return f->order == GIVE_ORDER_WAIT ? GIVE_NOTHING : GIVE_BEGIN;
    }
    if (f->couriers != PART_READY) {
        return GIVE_NOTHING;
    }
    if (f->disks == PART_NONE) {
        return GIVE_DISKS;
    }
    return f->disks == PART_READY && f->memory == MEMORY_NONE ? GIVE_MEMORY
                                                              : GIVE_NOTHING;
}

/* The guest cannot go on here: it waits for the receiver, or, told to stay while that never
 * had enough of it to run, ends and starts anew. */
static enum give_step
plan_behind(const struct give_facts *f)
{
    bool back = f->order == GIVE_ORDER_STAY || f->order == GIVE_ORDER_RETURN;
    if (!f->moved && (f->here || back)) {
        return f->here ? GIVE_PART : GIVE_STAY;
    }
    if (f->memory != MEMORY_CUT) {
        return GIVE_NOTHING;
    }
    return f->couriers == PART_READY                 ? GIVE_RESUME
           : f->couriers == PART_NONE && f->call_due ? GIVE_CALL
                                                     : GIVE_NOTHING;
}

static enum give_step
plan_moved(const struct give_facts *f)
{
    if (f->alive && !f->qmp_up) {
        return GIVE_NOTHING;
    }
    if (f->alive && !f->looked) {
        return GIVE_LOOK;
    }
    if (f->order == GIVE_ORDER_RETURN) {
        return GIVE_RETURN;
    }
    return f->alive && memory_is_behind(f->memory) ? plan_behind(f) : GIVE_NOTHING;
}

enum give_step
give_plan(const struct give_facts *f, int64_t now_ns)
{
    if (f->busy || f->kept) {
        return GIVE_NOTHING;
    }
    if (f->moved) {
        return plan_moved(f);
    }
    if (!f->alive) { /* After the order to switch it has left, or is lost: not here. */
        return f->order == GIVE_ORDER_SWITCH && f->begun_once ? GIVE_PART : GIVE_STAY;
    }
    if (!f->looked) {
        return f->qmp_up ? GIVE_LOOK : GIVE_NOTHING;
    }
    switch (f->memory) {
    case MEMORY_DONE:
        return GIVE_PART;
    case MEMORY_SWITCHING: /* It is QEMU's to say how this ends. */
        return GIVE_NOTHING;
    case MEMORY_FOLLOWING:
    case MEMORY_CUT:
        return f->qmp_up ? plan_behind(f) : GIVE_NOTHING;
    case MEMORY_PAUSED:
        return is_over(f, now_ns) ? GIVE_STAY : plan_paused(f);
    default:
        return is_over(f, now_ns) ? GIVE_STAY : plan_copying(f);
    }
}

enum take_step
take_plan(const struct take_facts *f)
{
    bool behind = f->here && memory_is_behind(f->memory);
    bool waits = !f->running && f->memory == MEMORY_NONE;
    if (f->busy || f->failed) {
        return TAKE_NOTHING;
    }
    if (f->starting) { /* Those that come need time of their own. */
        return f->open ? TAKE_NOTHING : TAKE_OPEN;
    }
    if (!f->alive || !f->qmp_up) {
        return TAKE_NOTHING;
    }
    if (!f->looked) {
        return TAKE_LOOK;
    }
    if (!f->running && (f->memory == MEMORY_DONE || behind) && (f->moved || f->word)) {
        return TAKE_RUN;
    }
    if (!f->open) {
        return behind || waits ? TAKE_OPEN : TAKE_NOTHING;
    }
    return waits && !f->set_up ? TAKE_SET_UP : TAKE_NOTHING;
}
