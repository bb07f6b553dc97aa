/* migration_sim.c - node/migrate/migration.h where nothing moves yet.
 *
 * Purpose:  simulated guests have no memory to copy: a migration that is asked for ends the
 *           run, loudly.
 * Place:    linked in place of node/migrate/. */
#include "host.h"
#include "node/migrate/migration.h"

struct migrations {
    char none;
};

struct migrations *
migrations_open(const struct migrations_config *config UNUSED)
{
    return xcalloc(1, sizeof(struct migrations));
}

void
migrations_stop(struct migrations *set UNUSED)
{
    sim_abort("agents are killed, never closed");
}

void
migrations_close(struct migrations *set)
{
    free(set);
}

void
migrations_want(struct migrations *set UNUSED, const struct link_migration *want UNUSED,
                bool deleted UNUSED)
{
    sim_abort("migrations are not simulated");
}

void
migrations_delete(struct migrations *set UNUSED, const char *id UNUSED)
{
}

void
migrations_forget(struct migrations *set UNUSED, const char *id UNUSED)
{
}

void
migrations_pass(struct migrations *set UNUSED, int64_t *out_wake_ns)
{
    *out_wake_ns = INT64_MAX;
}

void
migrations_seen(struct migrations *set UNUSED, struct arena *arena UNUSED,
                migration_seen_fn *fn UNUSED, void *ctx UNUSED)
{
}

void
migrations_drop_absent(struct migrations *set UNUSED, const char *id UNUSED)
{
}
