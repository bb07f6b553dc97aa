/* moln-node.c - the node agent as a program: options, signals, the loop. */
#include "base/file.h"
#include "base/log.h"
#include "link/place.h"
#include "node/agent.h"
#include "node/machine/accel.h"
#include "node/machine/offer.h"
#include "node/measure.h"
#include "node/metadata/metadata.h"

#include <getopt.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] =
    "usage: moln-node [--state DIR] [--join HOST:PORT --token-file FILE] [--underlay "
    "ADDRESS]\n"
    "                 [--shared-pool DIR]\n"
    "       moln-node [--state DIR] --power-off | --purge\n"
    "\n"
    "Runs this host's guests for a moln control plane: over STATE/link.sock, or at\n"
    "HOST:PORT with a token from `moln node token` the first time. Guests outlive it.\n"
    "\n"
    "  --state DIR        state folder (MOLN_STATE, else /var/lib/moln)\n"
    "  --join HOST:PORT[,HOST:PORT...]\n"
    "                     control plane to join: any of its processes\n"
    "  --token-file FILE  file with the token\n"
    "  --underlay ADDRESS this host's IPv4 address on a private network between hosts, "
    "over\n"
    "                     which guests of one VPC meet; remembered; 'none' forgets it\n"
    "  --shared-pool DIR  where other hosts see the same files: disks lie there, and\n"
    "                     guests that asked for recovery keep them\n"
    "  --power-off        shut all guests down, remove namespaces and cgroups; keep "
    "disks\n"
    "  --purge            the same at once, and remove disks and all else\n"
    "  --debug            say more\n"
    "  --version, --help\n";

struct options {
    const char *state, *join, *token_file, *underlay, *shared_pool;
    bool power_off, purge, debug;
};

static void
parse(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"state", required_argument, NULL, 's'},
        {"join", required_argument, NULL, 'j'},
        {"token-file", required_argument, NULL, 't'},
        {"underlay", required_argument, NULL, 'u'},
        {"shared-pool", required_argument, NULL, 'S'},
        {"power-off", no_argument, NULL, 'o'},
        {"purge", no_argument, NULL, 'p'},
        {"debug", no_argument, NULL, 'd'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *state = getenv("MOLN_STATE");
    *o = (struct options){.state = str_empty(state) ? "/var/lib/moln" : state};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        switch (c) {
        case 's':
            o->state = optarg;
            break;
        case 'j':
            o->join = optarg;
            break;
        case 't':
            o->token_file = optarg;
            break;
        case 'u':
            o->underlay = optarg;
            break;
        case 'S':
            o->shared_pool = optarg;
            break;
        case 'o':
            o->power_off = true;
            break;
        case 'p':
            o->purge = true;
            break;
        case 'd':
            o->debug = true;
            break;
        case 'v':
            puts("moln-node " MOLN_VERSION);
            exit(0);
        case 'h':
            fputs(usage, stdout);
            exit(0);
        default:
            fputs(usage, stderr);
            exit(2);
        }
    }
}

static void
on_signal(uv_signal_t *signal, int number)
{
    log_info("signal %d: the agent ends, guests go on", number);
    uv_stop(signal->loop);
}

/* ---- what QEMU offers: asked beside the agent's work, which does not wait for it ---- */

struct asking {
    uv_work_t work;
    struct agent *agent; /* NULL: it has ended meanwhile. */
    struct offer_ask ask;
    struct arena *arena;
    struct offer offer;
    struct err err;
    bool busy, ok;
};

static void
hear(uv_work_t *work)
{
    struct asking *a = work->data;
    a->ok = offer_end(&a->ask, a->arena, &a->offer, &a->err);
}

static void
heard(uv_work_t *work, int status UNUSED)
{
    struct asking *a = work->data;
    a->busy = false;
    if (!a->ok) {
        log_error("what QEMU offers is not known: %s", a->err.msg);
    } else if (a->agent) {
        agent_offer(a->agent, &a->offer);
    }
}

static void
ask_qemu(struct asking *a, uv_loop_t *loop)
{
    struct accel accel;
    accel_detect(&accel);
    a->work.data = a;
    a->ask = offer_begin(accel.kvm);
    a->busy = uv_queue_work(loop, &a->work, hear, heard) == 0;
}

static bool
serve(struct agent_config *config, struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct measured measured;
    struct asking asking = {0};
    measure_host(arena, &measured);
    config->measured = &measured;
    uv_signal_t signals[2];
    static const int numbers[] = {SIGTERM, SIGINT};
    struct agent *agent = agent_create(config, err);
    if (!agent) {
        return false;
    }
    AUTO(arena) struct arena *offers = arena_create(); /* The worker's alone. */
    asking.agent = agent;
    asking.arena = offers;
    ask_qemu(&asking, config->loop);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        (void)uv_signal_init(config->loop, &signals[i]);
        (void)uv_signal_start(&signals[i], on_signal, numbers[i]);
    }
    (void)uv_run(config->loop, UV_RUN_DEFAULT);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        uv_close((uv_handle_t *)&signals[i], NULL);
    }
    asking.agent = NULL;
    agent_destroy(agent);
    while (asking.busy) {
        (void)uv_run(config->loop, UV_RUN_ONCE);
    }
    return true;
}

static bool
run(const struct options *o, struct err *err)
{
    uv_loop_t loop;
    AUTO(free) char *token = NULL;
    struct place places[PLACES_MAX];
    size_t count;
    struct agent_config config = {
        .loop = &loop,
        .clock = &clock_system,
        .rng = &rng_system,
        .state_dir = o->state,
        .underlay = o->underlay,
        .shared_pool = o->shared_pool,
        .version = MOLN_VERSION,
    };
    if (geteuid() != 0) {
        return err_set(err, ERR_DENIED,
                       "moln-node makes guests and networks: run it as root");
    }
    if (o->join && !places_read(o->join, places, &count, err)) {
        return err_wrap(err, "--join");
    }
    if (o->token_file && !file_read(o->token_file, 4096, &token, NULL, err)) {
        return false;
    }
    config.join = o->join;
    config.token = token;
    if (uv_loop_init(&loop) < 0) {
        return err_set(err, ERR_SYSTEM, "cannot make an event loop");
    }
    bool ok = o->purge       ? agent_purge(&config, err)
              : o->power_off ? agent_power_off(&config, err)
                             : serve(&config, err);
    (void)uv_run(&loop, UV_RUN_NOWAIT); /* Lets handles end that are being closed. */
    (void)uv_loop_close(&loop);
    return ok;
}

int
main(int argc, char **argv)
{
    struct options options;
    struct err err = {0};
    if (argc > 1 && strcmp(argv[1], "--metadata-child") == 0) {
        metadata_child_main();
    }
    parse(argc, argv, &options);
    log_init("moln-node", options.debug ? LOG_DEBUG : LOG_INFO, 2);
    (void)umask(022);
    (void)signal(SIGPIPE, SIG_IGN);
    if (!run(&options, &err)) {
        log_error("%s", err.msg);
        return 1;
    }
    return 0;
}
