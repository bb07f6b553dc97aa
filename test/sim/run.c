/* run.c - see run.h. */
#include "run.h"

#include "base/file.h"
#include "service/moln/api.h"
#include "tenant.h"

#define CHAOS_MIN_NS (30 * NS_PER_S)
#define CHAOS_MAX_NS (150 * NS_PER_S)
#define REST_NS (240 * NS_PER_S) /* After the last fault, longer than any patience. */
#define UPKEEP_NS NS_PER_S
#define SHARED_PERCENT 30
#define HAS_SHARED_PERCENT 80
#define POST_COPY_PERCENT 85 /* Of hosts, whose emulators may take in what follows. */

extern const struct service moln_service;

static struct run run;

/* ---- hosts join ------------------------------------------------------------------ */

static void *
token_ask(struct arena *arena, void *ctx UNUSED)
{
    struct moln_create_node_token_request *in =
        ARENA_NEW(arena, struct moln_create_node_token_request);
    in->zone = CLOUD_ZONE;
    return in;
}

static void join(void *ctx);

static void
token_done(void *ctx, const void *out, const struct err *err)
{
    struct host *h = ctx;
    const struct moln_create_node_token_response *answer = out;
    if (err->code != ERR_NONE) {
        (void)world_after(NULL, NS_PER_S, join, h);
        return;
    }
    snprintf(h->token, sizeof h->token, "%s", answer->token);
    host_upkeep(h);
}

static void
join(void *ctx)
{
    cloud_call(&run.cloud, &moln_service, "CreateNodeToken", token_ask, token_done,
               ctx);
}

/* What it has is written down for who judges the run. */
void
run_join(struct host *h)
{
    HISTORY(MOMENT_HOST, .host = h->number, .vcpus = h->size.vcpus,
            .memory_bytes = h->size.memory_bytes);
    host_power(h, true);
    (void)world_after(NULL, world_between(CHANCE_TENANT, NS_PER_MS, NS_PER_S), join, h);
}

static void
on_upkeep(void *ctx)
{
    for (size_t i = 0; i < run.hosts.count; i++) {
        host_upkeep(run.hosts.items[i]);
    }
    (void)world_after(NULL, UPKEEP_NS, on_upkeep, NULL);
}

/* In some clouds, where most hosts keep their guests' disks. */
static void
make_shared_pool(void)
{
    struct err err = {0};
    if (world_percent(CHANCE_TENANT, SHARED_PERCENT)) {
        run.shared_dir = xasprintf("%s/shared", run.config.dir);
        if (!dir_make(run.shared_dir, 0700, &err)) {
            sim_abort("%s", err.msg);
        }
    }
}

static void
make_hosts(void)
{
    unsigned count = run.config.hosts ? run.config.hosts
                                      : (unsigned)world_between(CHANCE_TENANT, 1, 5);
    for (unsigned i = 1; i <= count; i++) {
        const struct host_size size = {
            .vcpus = world_between(CHANCE_TENANT, 2, 10),
            .memory_bytes = world_between(CHANCE_TENANT, 4, 32) * (int64_t)GIB,
            .pool_bytes = world_between(CHANCE_TENANT, 10, 100) * (int64_t)GIB,
        };
        struct host *h = host_new(i, run.config.dir, &size, cloud_places(&run.cloud));
        if (run.shared_dir && world_percent(CHANCE_TENANT, HAS_SHARED_PERCENT)) {
            h->shared_dir = run.shared_dir;
        }
        h->post_copy = world_percent(CHANCE_TENANT, POST_COPY_PERCENT);
        VEC_PUSH(&run.hosts, h);
        run_join(h);
    }
    run.numbers = count;
}

/* Most clouds have one process, for which the store's own way is another; a seed of several
 * takes twice as long. */
static unsigned
drawn_controls(void)
{
    return world_percent(CHANCE_TENANT, 70)
               ? 1
               : (unsigned)world_between(CHANCE_TENANT, 2, CLOUD_CONTROLS_MAX);
}

/* ---- the run --------------------------------------------------------------------- */

static void
step_until(int64_t until_ns)
{
    while (world_step(until_ns)) {
    }
}

void
run_seed(const struct run_config *config, struct run_result *out)
{
    world_begin(config->seed);
    run.config = *config;
    AUTO(free) char *dir = xasprintf("%s/cloud", config->dir);
    cloud_make(&run.cloud, dir, config->controls ? config->controls : drawn_controls());
    run.cloud.batch_max = (unsigned)world_below(CHANCE_ORDER, 5);
    cloud_start(&run.cloud);
    make_shared_pool();
    make_hosts();
    on_upkeep(NULL);
    run.chaos_until_ns =
        world_now() + (config->chaos_ns
                           ? config->chaos_ns
                           : world_between(CHANCE_FAULTS, CHAOS_MIN_NS, CHAOS_MAX_NS));
    tenant_begin(&(struct tenant_config){
        .cloud = &run.cloud,
        .servers_max = (unsigned)world_between(CHANCE_TENANT, 2, 20),
        .pause_ns = world_between(CHANCE_TENANT, NS_PER_S / 2, 8 * NS_PER_S),
    });
    if (!config->no_faults) {
        faults_begin(&run);
    }
    step_until(run.chaos_until_ns);
    if (!config->no_faults) {
        faults_end();
    }
    trace("no more faults");
    tenant_end(world_percent(CHANCE_TENANT, 50));
    step_until(run.chaos_until_ns + REST_NS);
    final_write(&run);
    history_check(history_get(), &out->verdict);
    out->launched = tenant_launched();
    out->faults = faults_count();
    out->events = world_events();
    out->fingerprint = world_fingerprint();
    out->virtual_ns = REST_NS + run.chaos_until_ns;
}
