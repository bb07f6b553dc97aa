/* scale.c - see scale.h. */
#include "scale.h"

#include "control/control.h"
#include "link/client.h"
#include "link/stream.h"
#include "service/ec2/api.h"
#include "service/ec2/common.h"
#include "service/moln/api.h"
#include "store/rows.h"

#include <sys/resource.h>
#include <time.h>

#define HOST_VCPUS 64
#define HOST_MEMORY (256 * (int64_t)GIB)
#define HOST_POOL (10000 * (int64_t)GIB)
#define ACK_NS (20 * NS_PER_MS) /* A host's disk: acknowledges what came in so long. */
#define JOIN_SPREAD_NS (30 * NS_PER_S)
#define LOOK_NS (5 * NS_PER_S)

extern const struct service ec2_service, moln_service;

/* A host without anything behind it. */
struct light {
    struct process *process;
    struct link_client *link;
    unsigned number;
    int64_t revision;
    bool acking;
    char token[160];
};

static struct {
    struct scale_config config;
    struct cloud cloud;
    struct light *hosts;
    unsigned joined, asked, launched, refused, calls;
    uint64_t running; /* Reports that a machine runs. */
} scale;

/* ---- a host ---------------------------------------------------------------------- */

static void
on_ack(void *ctx)
{
    struct light *h = ctx;
    h->acking = false;
    link_client_ack(h->link, h->revision);
}

static void
kept(struct light *h, int64_t revision)
{
    h->revision = MAX(h->revision, revision);
    if (!h->acking) {
        h->acking = true;
        (void)world_after(h->process, ACK_NS, on_ack, h);
    }
}

static void
see(struct light *h, enum link_kind kind, const char *id, int64_t revision,
    bool deleted, const void *record)
{
    const char *state = deleted ? "absent" : "ready";
    const struct link_machine *m = kind == LINK_MACHINE ? record : NULL;
    const struct link_disk *d = kind == LINK_DISK ? record : NULL;
    const struct link_machine_seen machine = {
        .id = id,
        .generation = m ? m->generation : 0,
        .state = deleted            ? "absent"
                 : m && !m->running ? "stopped"
                                    : "running",
        .started_at = clock_real(&h->process->clock),
    };
    const struct link_disk_seen disk = {.id = id,
                                        .generation = d ? d->generation : 0,
                                        .state = state,
                                        .size_bytes = d ? d->size_bytes : 0};
    const struct link_blob_seen blob = {.id = id, .state = state};
    const struct link_port_seen port = {.id = id, .state = state};
    const struct link_network_seen plain = {.id = id, .state = state};
    const void *seen = kind == LINK_MACHINE ? (const void *)&machine
                       : kind == LINK_DISK  ? (const void *)&disk
                       : kind == LINK_BLOB  ? (const void *)&blob
                       : kind == LINK_PORT || kind == LINK_METADATA
                           ? (const void *)&port
                           : (const void *)&plain;
    if (link_seen_desc(kind)) {
        (void)link_client_report(h->link, kind, revision, seen);
    }
    scale.running += kind == LINK_MACHINE && str_eq(machine.state, "running");
}

static void
on_welcome(void *ctx, const struct link_welcome *welcome UNUSED)
{
    struct light *h = ctx;
    char name[24];
    snprintf(name, sizeof name, "host-%u", h->number);
    const struct link_node_seen seen = {
        .boot_id = "scale",
        .version = MOLN_VERSION,
        .vcpus = HOST_VCPUS,
        .memory_bytes = HOST_MEMORY,
        .memory_free_bytes = HOST_MEMORY,
        .pool_bytes = HOST_POOL,
        .pool_free_bytes = HOST_POOL,
        .accel = "kvm",
        .cpu_model = "simulated",
        .hostname = name,
    };
    (void)link_client_report(h->link, LINK_NODE, 0, &seen);
    scale.joined++;
}

static void
on_want(void *ctx, enum link_kind kind, const char *id, int64_t revision, bool deleted,
        const void *record, struct blob body UNUSED)
{
    see(ctx, kind, id, revision, deleted, record);
    kept(ctx, revision);
}

static void
on_snapshot_end(void *ctx, int64_t revision, int64_t count UNUSED)
{
    kept(ctx, revision);
}

static void
on_call(void *ctx, int64_t call_id, const char *what UNUSED, const char *object UNUSED)
{
    struct light *h = ctx;
    link_client_reply(h->link, call_id, false, (struct blob){0}, "simulated");
}

static void
on_channel(void *ctx UNUSED, struct link_channel *channel,
           const struct link_channel_open *open UNUSED)
{
    link_channel_refuse(channel, "simulated");
}

static void
on_down(void *ctx, const char *code UNUSED, const char *why)
{
    struct light *h = ctx;
    if (!str_eq(why, "joined")) {
        trace("host-%u: %s", h->number, why);
    }
}

static int64_t
on_have_revision(void *ctx)
{
    return ((struct light *)ctx)->revision;
}

static bool
on_enrolled(void *ctx UNUSED, const struct link_enrolled *enrolled UNUSED,
            struct err *err UNUSED)
{
    return true;
}

static char scratch[STREAM_SCRATCH]; /* All hosts are on this thread. */

static void
on_host_start(void *ctx)
{
    struct light *h = ctx;
    struct err err = {0};
    const struct link_client_config config = {
        .loop = &h->process->loop,
        .clock = &h->process->clock,
        .rng = world_rng(CHANCE_IDS),
        .ops = {.welcome = on_welcome,
                .want = on_want,
                .snapshot_end = on_snapshot_end,
                .call = on_call,
                .channel = on_channel,
                .down = on_down,
                .enrolled = on_enrolled,
                .have_revision = on_have_revision},
        .ctx = h,
        .places = "10.99.0.1:6657",
        .boot_id = "scale",
        .hostname = "scale",
        .agent_version = MOLN_VERSION,
        .token = h->token,
        .scratch = scratch,
    };
    h->link = link_client_create(&config, &err);
    if (!h->link) {
        sim_abort("%s", err.msg);
    }
}

/* ---- hosts join ------------------------------------------------------------------ */

static void *
token_ask(struct arena *arena, void *ctx UNUSED)
{
    struct moln_create_node_token_request *in =
        ARENA_NEW(arena, struct moln_create_node_token_request);
    in->zone = CLOUD_ZONE;
    return in;
}

static void
token_done(void *ctx, const void *out, const struct err *err)
{
    struct light *h = ctx;
    const struct moln_create_node_token_response *answer = out;
    if (err->code != ERR_NONE) {
        sim_abort("token: %s", err->msg);
    }
    snprintf(h->token, sizeof h->token, "%s", answer->token);
    h->process = process_start("host", NULL);
    (void)world_after(h->process, 0, on_host_start, h);
}

static void
on_join(void *ctx)
{
    cloud_call(&scale.cloud, &moln_service, "CreateNodeToken", token_ask, token_done,
               ctx);
}

/* ---- tenants --------------------------------------------------------------------- */

static bool
account_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct cloud *c = ctx;
    struct row_account row = {.id = c->account,
                              .name = c->account,
                              .state = "active",
                              .created_at = world_real(),
                              .user_id = c->account};
    struct call call = {.arena = txn_arena(txn),
                        .txn = txn,
                        .config = &c->config,
                        .rng = world_rng(CHANCE_IDS),
                        .now_ns = world_real(),
                        .account = c->account,
                        .region = CLOUD_REGION};
    const char *vpc_id;
    return row_insert(txn, &row_account_type, &row, err) &&
           default_vpc_ensure(&call, c->account, CLOUD_REGION, &vpc_id, err);
}

static void
next_account(void)
{
    struct err err = {0};
    AUTO(arena) struct arena *arena = arena_create();
    snprintf(scale.cloud.account, sizeof scale.cloud.account, "%012u",
             100000 + scale.asked / scale.config.per_account);
    if (!store_write(scale.cloud.seats[0].store, arena, account_txn, &scale.cloud,
                     &err)) {
        sim_abort("account: %s", err.msg);
    }
}

static void *
run_ask(struct arena *arena, void *ctx UNUSED)
{
    struct ec2_run_instances_request *in =
        ARENA_NEW(arena, struct ec2_run_instances_request);
    in->image_id = CLOUD_IMAGE;
    in->instance_type = "t3.nano";
    in->min_count = in->max_count = scale.config.per_call;
    in->has_min_count = in->has_max_count = true;
    /* A pool of public addresses is none of what is measured. */
    struct ec2_instance_network_interface_specification *nic =
        ARENA_NEW(arena, struct ec2_instance_network_interface_specification);
    nic->has_device_index = nic->has_associate_public_ip_address = true;
    in->network_interfaces.items = nic;
    in->network_interfaces.count = 1;
    return in;
}

static void run_next(void);

static void
run_done(void *ctx UNUSED, const void *out, const struct err *err)
{
    const struct ec2_reservation *answer = out;
    scale.calls--;
    if (err->code == ERR_NONE) {
        scale.launched += (unsigned)answer->instances.count;
    } else if (scale.refused++ == 0) {
        fprintf(stderr, "sim: RunInstances: %s\n", err->msg);
    }
    run_next();
}

static void
run_next(void)
{
    while (scale.asked < scale.config.instances && scale.calls < scale.config.at_once) {
        if (scale.asked % scale.config.per_account == 0) {
            next_account();
        }
        scale.asked += scale.config.per_call;
        scale.calls++;
        cloud_call(&scale.cloud, &ec2_service, "RunInstances", run_ask, run_done, NULL);
    }
}

/* ---- figures --------------------------------------------------------------------- */

static double
real_s(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double
memory_mib(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1) {
        pages = 0;
    }
    if (file) {
        (void)fclose(file);
    }
    return (double)pages * 4096 / (double)MIB;
}

struct count {
    uint64_t nodes, running;
};

static bool
count_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct count *count = ctx;
    struct row_query query = {0};
    struct row_list nodes, list;
    *count = (struct count){0};
    if (!row_list(txn, &row_node_seen_type, &query, &nodes, err) ||
        !row_list(txn, &row_instance_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < nodes.count; i++) {
        count->nodes += ((const struct row_node_seen *)nodes.rows[i])->vcpus > 0;
    }
    for (size_t i = 0; i < list.count; i++) {
        count->running += str_eq(
            ((const struct row_instance *)list.rows[i])->observed_state, "running");
    }
    return true;
}

/* Until all hosts are there, or all instances run. */
static struct count
step_until(uint64_t nodes, uint64_t running, double *out_virtual_s)
{
    struct count count = {0};
    int64_t began = world_now();
    do {
        int64_t until = world_now() + LOOK_NS;
        while (world_step(until)) {
        }
        cloud_read(&scale.cloud, count_txn, &count);
        fprintf(stderr,
                "sim: %" PRIu64 " hosts, %u launched, %" PRIu64
                " running; %.0f s, %.0f MiB\n",
                count.nodes, scale.launched, count.running, real_s(), memory_mib());
    } while ((count.nodes < nodes || count.running < running) && !scale.refused);
    *out_virtual_s = (double)(world_now() - began) / 1e9;
    return count;
}

void
scale_run(const struct scale_config *config)
{
    double join_virtual, run_virtual;
    world_begin(1);
    scale.config = *config;
    scale.hosts = xcalloc(config->hosts, sizeof *scale.hosts);
    cloud_make(&scale.cloud, config->dir, 1);
    cloud_start(&scale.cloud);
    double began = real_s(), mib = memory_mib();
    for (unsigned i = 0; i < config->hosts; i++) {
        scale.hosts[i].number = i + 1;
        (void)world_after(NULL,
                          NS_PER_S + world_between(CHANCE_TENANT, 0, JOIN_SPREAD_NS),
                          on_join, &scale.hosts[i]);
    }
    (void)step_until(config->hosts, 0, &join_virtual);
    double joined_s = real_s() - began, joined_mib = memory_mib() - mib;
    began = real_s();
    mib = memory_mib();
    run_next();
    struct count count = step_until(0, config->instances, &run_virtual);
    double run_s = real_s() - began, run_mib = memory_mib() - mib;
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    printf("{\"hosts\": %u, \"join_s\": %.1f, \"join_virtual_s\": %.0f, "
           "\"host_us\": %.0f, \"host_kib\": %.1f, \"instances\": %" PRIu64 ", "
           "\"run_s\": %.1f, \"run_virtual_s\": %.0f, \"launches_per_s\": %.0f, "
           "\"instance_us\": %.0f, \"instance_kib\": %.1f, \"peak_mib\": %.0f, "
           "\"events\": %" PRIu64 "}\n",
           config->hosts, joined_s, join_virtual, joined_s * 1e6 / config->hosts,
           joined_mib * 1024 / config->hosts, count.running, run_s, run_virtual,
           (double)count.running / run_s, run_s * 1e6 / (double)MAX(count.running, 1),
           run_mib * 1024 / (double)MAX(count.running, 1),
           (double)usage.ru_maxrss / 1024, world_events());
}
