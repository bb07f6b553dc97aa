/* job_sim.c - node/disk/job.h without programs to start: imports and captures are not part
 * of the simulation, which launches from an image that is there. A job that is wanted all
 * the same would be a want that never ends, and so found. */
#include "node/disk/job.h"

#include "world.h"

struct jobs {
    int none;
};

struct jobs *
jobs_open(const struct jobs_config *config UNUSED, struct err *err UNUSED)
{
    return xcalloc(1, sizeof(struct jobs));
}

void
jobs_close(struct jobs *set UNUSED)
{
    sim_abort("agents are killed, never closed");
}

void
jobs_want(struct jobs *set UNUSED, const struct link_blob_job *want UNUSED,
          bool deleted UNUSED)
{
}

void
jobs_forget(struct jobs *set UNUSED, const char *id UNUSED)
{
}

void
jobs_pass(struct jobs *set UNUSED, int64_t *out_wake_ns)
{
    *out_wake_ns = INT64_MAX;
}

void
jobs_seen(struct jobs *set UNUSED, struct arena *arena UNUSED, job_seen_fn *fn UNUSED,
          void *ctx UNUSED)
{
}

void
jobs_drop_absent(struct jobs *set UNUSED, const char *id UNUSED)
{
}

bool
jobs_use_disk(const struct jobs *set UNUSED, const char *disk_id UNUSED)
{
    return false;
}

bool
jobs_use_blob(const struct jobs *set UNUSED, const char *blob_id UNUSED)
{
    return false;
}
