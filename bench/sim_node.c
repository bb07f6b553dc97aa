/* sim_node.c - a node without machines: says at once that what is wanted is there.
 *
 * What:     speaks the real link (link/client.h) over STATE/link.sock, reports a large
 *           host, acknowledges every wanted record, and answers each with the seen
 *           record that ends it well. So the control plane can be measured, and filled
 *           with thousands of instances, on a machine that could never run them.
 * Images:   an import is "converted" to a few bytes that go up as a real blob.
 * Run:      build/bench/sim-node STATE     until SIGTERM. */
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/crypto.h"
#include "base/log.h"
#include "link/client.h"

#define VCPUS 4096
#define MEMORY_BYTES (INT64_C(64) << 40)
#define POOL_BYTES (INT64_C(1) << 50)

static const char blob_text[] = "a disk of no machine\n";

struct sim {
    uv_loop_t loop;
    struct link_client *link;
    uv_signal_t stop;
    int64_t revision; /* The last one that came. */
};

/* ---- what it says ---------------------------------------------------------------------- */

static void
see_machine(struct sim *sim, const char *id, const struct link_machine *m, bool deleted)
{
    struct link_machine_seen seen = {
        .id = id,
        .generation = m ? m->generation : 0,
        .state = deleted      ? "absent"
                 : m->running ? "running"
                              : "stopped",
        .reboot_count = m ? m->reboot_count : 0,
        .started_at = clock_real(&clock_system),
    };
    (void)link_client_report(sim->link, LINK_MACHINE, 0, &seen);
}

static void
see_disk(struct sim *sim, const char *id, const struct link_disk *d, bool deleted)
{
    struct link_disk_seen seen = {
        .id = id,
        .generation = d ? d->generation : 0,
        .state = deleted ? "absent" : "ready",
        .size_bytes = d ? d->size_bytes : 0,
    };
    (void)link_client_report(sim->link, LINK_DISK, 0, &seen);
}

static void
see_job(struct sim *sim, const char *id, bool deleted)
{
    char sha256[SHA256_HEX_LEN];
    sha256_hex(blob_text, sizeof blob_text, sha256);
    struct link_blob_job_seen seen = {
        .id = id,
        .state = deleted ? "absent" : "done",
        .percent = 100,
        .format = "qcow2",
        .size_bytes = sizeof blob_text,
        .virtual_bytes = (int64_t)GIB,
        .sha256 = sha256,
        .firmware = "bios",
    };
    (void)link_client_report(sim->link, LINK_BLOB_JOB, 0, &seen);
}

struct errand {
    struct sim *sim;
    char job_id[64];
};

static void
on_put(void *ctx, struct link_channel *channel, enum link_channel_state state,
       uint64_t received, const char *why)
{
    struct errand *errand = ctx;
    if (state == LINK_CHANNEL_DONE) {
        if (why) {
            log_error("job %s: %s", errand->job_id, why);
        } else {
            see_job(errand->sim, errand->job_id, false);
        }
        free(errand);
    }
}

/* The job's blob goes up first; only then is it done. */
static void
do_job(struct sim *sim, const char *id, const struct link_blob_job *job, bool deleted)
{
    if (deleted) {
        see_job(sim, id, true);
        return;
    }
    int fd = memfd_create("blob", MFD_CLOEXEC);
    if (fd < 0 || write(fd, blob_text, sizeof blob_text) != sizeof blob_text) {
        log_error("job %s: no memory for its blob", id);
        return;
    }
    struct errand *errand = xcalloc(1, sizeof *errand);
    errand->sim = sim;
    (void)snprintf(errand->job_id, sizeof errand->job_id, "%s", id);
    const struct link_channel_open open = {
        .what = "blob_put", .object = job->target_blob, .size = sizeof blob_text};
    const struct link_channel_bind bind = {
        .fd = fd, .no_write = true, .fn = on_put, .ctx = errand};
    if (!link_client_open_channel(sim->link, &open, &bind)) {
        log_error("job %s: no channel", id);
        free(errand);
    }
}

/* Networks, subnets, ports and blobs have an id and a state, and that will do. */
static void
see_plain(struct sim *sim, enum link_kind kind, const char *id, bool deleted)
{
    const char *state = deleted ? "absent" : "ready";
    const struct link_blob_seen blob = {.id = id, .state = state};
    const struct link_port_seen port = {.id = id, .state = state};
    const struct link_network_seen network = {.id = id, .state = state};
    const void *seen = kind == LINK_BLOB   ? (const void *)&blob
                       : kind == LINK_PORT ? (const void *)&port
                                           : (const void *)&network;
    if (link_seen_desc(kind)) {
        (void)link_client_report(sim->link, kind, 0, seen);
    }
}

/* ---- what it hears ----------------------------------------------------------------------- */

static void
on_welcome(void *ctx, const struct link_welcome *welcome)
{
    struct sim *sim = ctx;
    const struct link_node_seen seen = {
        .boot_id = "simulated",
        .version = MOLN_VERSION,
        .vcpus = VCPUS,
        .memory_bytes = MEMORY_BYTES,
        .memory_free_bytes = MEMORY_BYTES,
        .pool_bytes = POOL_BYTES,
        .pool_free_bytes = POOL_BYTES,
        .accel = "tcg",
        .cpu_model = "simulated",
        .hostname = "simulated",
    };
    log_info("welcome as %s", welcome->node_id);
    (void)link_client_report(sim->link, LINK_NODE, 0, &seen);
}

static void
on_want(void *ctx, enum link_kind kind, const char *id, int64_t revision, bool deleted,
        const void *record, struct blob body)
{
    struct sim *sim = ctx;
    switch (kind) {
    case LINK_MACHINE:
        see_machine(sim, id, record, deleted);
        break;
    case LINK_DISK:
        see_disk(sim, id, record, deleted);
        break;
    case LINK_BLOB_JOB:
        do_job(sim, id, record, deleted);
        break;
    default:
        see_plain(sim, kind, id, deleted);
    }
    sim->revision = MAX(sim->revision, revision);
    link_client_ack(sim->link, sim->revision);
}

static void
on_snapshot_end(void *ctx, int64_t revision, int64_t count)
{
    struct sim *sim = ctx;
    sim->revision = MAX(sim->revision, revision);
    link_client_ack(sim->link, sim->revision);
}

static void
on_call(void *ctx, int64_t call_id, const char *what, const char *object)
{
    struct sim *sim = ctx;
    link_client_reply(sim->link, call_id, false, (struct blob){0}, "simulated");
}

static void
on_channel(void *ctx, struct link_channel *channel,
           const struct link_channel_open *open)
{
    link_channel_refuse(channel, "simulated");
}

static void
on_down(void *ctx, const char *code, const char *why)
{
    log_warn("down: %s", why ? why : "?");
}

static int64_t
on_have_revision(void *ctx)
{
    return ((struct sim *)ctx)->revision;
}

static void
on_stop(uv_signal_t *signal, int number)
{
    uv_stop(signal->loop);
}

int
main(int argc, char **argv)
{
    struct sim sim = {0};
    struct err err = {0};
    if (argc != 2) {
        fprintf(stderr, "usage: %s STATE\n", argv[0]);
        return 2;
    }
    log_init("sim-node", LOG_INFO, 2);
    (void)signal(SIGPIPE, SIG_IGN);
    AUTO(free) char *path = xasprintf("%s/link.sock", argv[1]);
    (void)uv_loop_init(&sim.loop);
    const struct link_client_config config = {
        .loop = &sim.loop,
        .clock = &clock_system,
        .rng = &rng_system,
        .ops = {.welcome = on_welcome,
                .want = on_want,
                .snapshot_end = on_snapshot_end,
                .call = on_call,
                .channel = on_channel,
                .down = on_down,
                .have_revision = on_have_revision},
        .ctx = &sim,
        .unix_path = path,
        .boot_id = "simulated",
        .hostname = "simulated",
        .agent_version = MOLN_VERSION,
    };
    sim.link = link_client_create(&config, &err);
    if (!sim.link) {
        log_error("%s", err.msg);
        return 1;
    }
    (void)uv_signal_init(&sim.loop, &sim.stop);
    (void)uv_signal_start(&sim.stop, on_stop, SIGTERM);
    (void)uv_run(&sim.loop, UV_RUN_DEFAULT);
    return 0;
}
