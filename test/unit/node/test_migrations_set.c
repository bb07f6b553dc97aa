/* test_migrations_set.c - which of a machine's migrations hears of its emulator, and what a
 * giver says that has none any more. */
#include "base/jsonio.h"
#include "node/machine/machine_impl.h"
#include "node/migrate/migration_impl.h"
#include "test.h"

#define MACHINE "i-0123456789abcdef0"
#define EARLIER "migration-0123456789abcdef1"
#define LATER "migration-0123456789abcdef2"

static const char *
host_address(void *ctx UNUSED)
{
    return "192.0.2.1";
}

static void
host_wake(void *ctx UNUSED)
{
}

static void
want(struct migrations *set, const char *id, bool deleted)
{
    const struct link_migration record = {
        .id = id, .machine_id = MACHINE, .incoming = true, .order = "receive"};
    migrations_want(set, &record, deleted);
    struct migration *m = map_get(set->map, id);
    m->looked = true;
    m->memory = MEMORY_COPYING;
}

/* A machine that came here, left, and comes again: the record of its first arrival is kept
 * until its end is told, before or behind the other in the set. */
static void
check_hears(const char *now, const char *then)
{
    struct link_machine wanted = {.id = MACHINE, .incoming = now, .outgoing = ""};
    struct machine machine = {.id = MACHINE, .want = &wanted, .pidfd = -1};
    struct machines machines = {.map = map_create(NULL)};
    const struct migrations_config config = {
        .clock = &clock_system,
        .machines = &machines,
        .host = {.address = host_address, .changed = host_wake, .urgent = host_wake}};
    map_put(machines.map, MACHINE, &machine);
    struct migrations *set = migrations_open(&config);
    want(set, then, true);
    want(set, now, false);
    AUTO(json) json_t *data = json_pack("{s:s}", "status", "completed");

    machines.event_fn(machines.event_ctx, MACHINE, "MIGRATION", data);

    const struct migration *hears = map_get(set->map, now);
    const struct migration *does_not = map_get(set->map, then);
    CHECK_EQ(hears->memory, MEMORY_DONE);
    CHECK_EQ(does_not->memory, MEMORY_COPYING);
    migrations_stop(set);
    migrations_close(set);
    map_destroy(machines.map);
}

TEST(migrations_hand_events_to_the_one_that_the_machine_is_in)
{
    check_hears(LATER, EARLIER);
    check_hears(EARLIER, LATER);
}

static void
on_seen(void *ctx, const struct link_migration_seen *seen)
{
    const char **state = ctx;
    *state = seen->state;
}

/* An agent that has just come hears that the guest runs before it hears that memory is still to
 * come: "running" would have the giver's part of it thrown away. */
TEST(migration_receiver_does_not_say_that_all_is_here_before_it_knows)
{
    struct machines machines = {.map = map_create(NULL)};
    const struct migrations_config config = {
        .clock = &clock_system,
        .machines = &machines,
        .host = {.address = host_address, .changed = host_wake, .urgent = host_wake}};
    AUTO(arena) struct arena *arena = arena_create();
    const char *says = NULL;
    struct migrations *set = migrations_open(&config);
    want(set, LATER, false);
    struct migration *m = map_get(set->map, LATER);
    m->running = true;
    m->looked = false;
    m->memory = MEMORY_NONE;
    migrations_seen(set, arena, on_seen, &says);
    CHECK_STR(says, "preparing");
    m->looked = true;
    m->memory = MEMORY_DONE;
    migrations_seen(set, arena, on_seen, &says);
    CHECK_STR(says, "running");
    migrations_stop(set);
    migrations_close(set);
    map_destroy(machines.map);
}

/* Of a guest that has left, and whose emulator has ended since. */
static const char *
giver_says(bool post_copy, enum migration_memory memory)
{
    struct link_machine wanted = {.id = MACHINE, .incoming = "", .outgoing = LATER};
    struct machine machine = {
        .id = MACHINE, .want = &wanted, .pidfd = -1, .record.moved = LATER};
    struct machines machines = {.map = map_create(NULL)};
    const struct link_migration record = {
        .id = LATER, .machine_id = MACHINE, .order = "switch", .post_copy = post_copy};
    const struct migrations_config config = {
        .clock = &clock_system,
        .machines = &machines,
        .host = {.address = host_address, .changed = host_wake, .urgent = host_wake}};
    AUTO(arena) struct arena *arena = arena_create();
    const char *says = NULL;
    map_put(machines.map, MACHINE, &machine);
    struct migrations *set = migrations_open(&config);
    migrations_want(set, &record, false);
    ((struct migration *)map_get(set->map, LATER))->memory = memory;
    migrations_seen(set, arena, on_seen, &says);
    migrations_stop(set);
    migrations_close(set);
    map_destroy(machines.map);
    return says;
}

/* By post-copy what had not followed is gone with it; an agent that has just come does not know
 * whether all had. */
TEST(migration_giver_without_its_emulator_says_what_went_with_it)
{
    CHECK_STR(giver_says(false, MEMORY_NONE), "left");
    CHECK_STR(giver_says(true, MEMORY_DONE), "left");
    CHECK_STR(giver_says(true, MEMORY_CUT), "gone");
    CHECK_STR(giver_says(true, MEMORY_NONE), "gone");
}

/* A receiver that is started anew after all was sent, and before it was on its disk, waits at
 * another door: what is never sent twice must not be waited for. */
TEST(migration_giver_of_a_stopped_machine_keeps_it_when_the_receiver_begins_anew)
{
    struct machines machines = {.map = map_create(NULL)};
    const struct migrations_config config = {
        .clock = &clock_system,
        .machines = &machines,
        .host = {.address = host_address, .changed = host_wake, .urgent = host_wake}};
    AUTO(arena) struct arena *arena = arena_create();
    const char *says = NULL;
    struct link_migration record = {
        .id = LATER, .machine_id = MACHINE, .cold = true, .order = "wait"};
    struct migrations *set = migrations_open(&config);
    migrations_want(set, &record, false);
    struct migration *m = map_get(set->map, LATER);
    m->begun = true;
    m->door_port = 20001;
    record.order = "copy";
    record.peer_port = 20001;
    migrations_want(set, &record, false);
    migrations_seen(set, arena, on_seen, &says);
    CHECK_STR(says, "copying");
    record.peer_port = 20002;
    migrations_want(set, &record, false);
    migrations_seen(set, arena, on_seen, &says);
    CHECK_STR(says, "kept");
    migrations_stop(set);
    migrations_close(set);
    map_destroy(machines.map);
}
