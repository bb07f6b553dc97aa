/* main.c - runs seeds: each in a process of its own, or one of them again, to be read.
 *
 * sim [--seeds FIRST:COUNT] [--jobs N]     prints a line a seed that failed, and a sum
 * sim --seed N [--trace] [--logs]          one seed, here; the trace is its history
 * sim --replay [--seeds FIRST:COUNT]       each seed twice: the same must happen
 * sim --break NAME [--seeds FIRST:COUNT]   with a bug (mutation.h): some seed must break
 * sim --first ...                          ends with the first seed that broke
 * sim --scale --hosts N --instances N [--per-account N]   figures, as JSON (scale.h)
 *
 * Options for all: --hosts N, --controls N, --chaos SECONDS, --no-faults. A seed's run depends on the
 * program and these options, and on nothing else. */
#include "base/file.h"
#include "base/log.h"
#include "mutation.h"
#include "run.h"
#include "scale.h"
#include "world.h"

#include <dlfcn.h>
#include <getopt.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#define JOBS_MAX 64

/* What a killed process held is nobody's: not a leak. */
const char *__asan_default_options(void);
const char *
__asan_default_options(void)
{
    return "detect_leaks=0:handle_abort=1:quarantine_size_mb=8";
}

struct options {
    struct run_config run;
    uint64_t first, count;
    unsigned jobs;
    struct scale_config scale;
    bool scaled;
    bool one, trace, logs, replay, only_first;
    const char *mutation;
};

/* Sums of all seeds. */
struct totals {
    uint64_t seeds, failed, launched, moved, faults, events;
    double virtual_s;
};

static double
now_s(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* On memory, where there is such a place: nothing here must outlive the run. */
static void
make_dir(char out[64])
{
    snprintf(out, 64, "%s/moln-sim-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(out)) {
        sim_abort("no folder: %s", strerror(errno));
    }
}

static int
run_here(const struct run_config *config, struct run_result *result)
{
    char dir[64];
    struct err err = {0};
    struct run_config mine = *config;
    make_dir(dir);
    mine.dir = dir;
    run_seed(&mine, result);
    if (!dir_remove(dir, &err)) {
        fprintf(stderr, "sim: %s\n", err.msg);
    }
    return result->verdict.broken ? 1 : 0;
}

/* ---- many ------------------------------------------------------------------------ */

struct job {
    pid_t pid;
    uint64_t seed;
    bool again; /* A replay: 'fingerprint' is what the first run left. */
    uint64_t fingerprint;
    int result_fd;
};

static void
job_start(struct job *job, const struct options *o, uint64_t seed)
{
    int ends[2];
    struct run_result result = {0};
    if (pipe(ends) < 0) {
        sim_abort("pipe: %s", strerror(errno));
    }
    (void)fflush(stdout);
    job->pid = fork();
    job->seed = seed;
    job->result_fd = ends[0];
    if (job->pid == 0) {
        struct run_config config = o->run;
        config.seed = seed;
        int status = run_here(&config, &result);
        (void)!write(ends[1], &result, sizeof result);
        _exit(status);
    }
    close(ends[1]);
}

static void
job_end(struct job *job, int status, const struct options *o, struct totals *totals)
{
    struct run_result r = {0};
    bool whole = read(job->result_fd, &r, sizeof r) == sizeof r;
    close(job->result_fd);
    job->pid = 0;
    totals->seeds++;
    totals->launched += r.launched;
    totals->moved += r.verdict.moved;
    totals->faults += r.faults;
    totals->events += r.events;
    totals->virtual_s += (double)r.virtual_ns / 1e9;
    if (whole && job->again && r.fingerprint != job->fingerprint) {
        printf("seed %" PRIu64 ": went another way when it was played again\n",
               job->seed);
        totals->failed++;
        return;
    }
    job->fingerprint = r.fingerprint;
    if (whole && status == 0) {
        return;
    }
    totals->failed++;
    if (o->mutation) {
        return; /* As it should be. */
    }
    if (whole) {
        printf("seed %" PRIu64 ": %u broken; %s\n", job->seed, r.verdict.broken,
               r.verdict.first);
    } else {
        printf("seed %" PRIu64 ": died with status 0x%x\n", job->seed, status);
    }
    (void)fflush(stdout);
}

static struct job *
job_of(struct job *jobs, pid_t pid)
{
    struct job *job = jobs;
    while (job < jobs + JOBS_MAX && job->pid != pid) {
        job++;
    }
    return job < jobs + JOBS_MAX ? job : NULL;
}

static int
run_many(const struct options *o)
{
    static struct job jobs[JOBS_MAX];
    struct totals totals = {0};
    unsigned running = 0;
    double began = now_s();
    uint64_t next = o->first;
    while (next < o->first + o->count || running) {
        if (o->only_first && totals.failed) {
            next = o->first + o->count;
        }
        if (next < o->first + o->count && running < o->jobs) {
            struct job *job = job_of(jobs, 0);
            job->again = false;
            job_start(job, o, next++);
            running++;
            continue;
        }
        int status = 0;
        struct job *job = job_of(jobs, waitpid(-1, &status, 0));
        if (job) {
            job_end(job, status, o, &totals);
            running--;
        }
        if (job && o->replay && !job->again) {
            job->again = true;
            job_start(job, o, job->seed);
            running++;
        }
    }
    printf("%" PRIu64 " seeds from %" PRIu64 ": %" PRIu64 " failed; %" PRIu64
           " instances, %" PRIu64 " moved to another host, %" PRIu64 " faults, %" PRIu64
           " events, %.1f hours of the world in %.1f s\n",
           totals.seeds, o->first, totals.failed, totals.launched, totals.moved,
           totals.faults, totals.events, totals.virtual_s / 3600, now_s() - began);
    if (o->mutation) {
        printf("the bug '%s' was %s\n", o->mutation,
               totals.failed ? "found" : "not found");
        return totals.failed ? 0 : 1;
    }
    if (totals.failed) {
        printf("one of them again: sim --seed N --trace\n");
    }
    return totals.failed ? 1 : 0;
}

/* ---- one ------------------------------------------------------------------------- */

NORETURN static void
run_one(const struct options *o)
{
    struct run_result r = {0};
    if (o->trace) {
        trace_on(o->logs);
    }
    double began = now_s();
    int status = run_here(&o->run, &r);
    printf("seed %" PRIu64 ": %s%s; %u instances, %u faults, %" PRIu64
           " events, %.2f s\n",
           o->run.seed, r.verdict.broken ? "broken " : "good", r.verdict.first,
           r.launched, r.faults, r.events, now_s() - began);
    (void)fflush(stdout);
    _exit(status); /* What was killed in it is no leak. */
}

/* On the disk: what is kept there is not to be counted as memory. */
static int
run_scaled(struct options *o)
{
    char dir[] = "/tmp/moln-sim-XXXXXX";
    struct err err = {0};
    if (!mkdtemp(dir)) {
        sim_abort("no folder: %s", strerror(errno));
    }
    o->scale.hosts = o->run.hosts ? o->run.hosts : 1000;
    o->scale.dir = dir;
    scale_run(&o->scale);
    if (!dir_remove(dir, &err)) {
        fprintf(stderr, "sim: %s\n", err.msg);
    }
    (void)fflush(stdout);
    _exit(0);
}

static void
read_options(int argc, char **argv, struct options *o)
{
    static const struct option names[] = {
        {"seed", required_argument, NULL, 's'},
        {"seeds", required_argument, NULL, 'S'},
        {"jobs", required_argument, NULL, 'j'},
        {"trace", no_argument, NULL, 't'},
        {"logs", no_argument, NULL, 'l'},
        {"hosts", required_argument, NULL, 'h'},
        {"controls", required_argument, NULL, 'p'},
        {"chaos", required_argument, NULL, 'c'},
        {"no-faults", no_argument, NULL, 'n'},
        {"replay", no_argument, NULL, 'r'},
        {"break", required_argument, NULL, 'b'},
        {"scale", no_argument, NULL, 'x'},
        {"instances", required_argument, NULL, 'i'},
        {"per-account", required_argument, NULL, 'a'},
        {"first", no_argument, NULL, '1'},
        {0},
    };
    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (c) {
        case 's':
            o->one = true;
            o->run.seed = strtoull(optarg, NULL, 10);
            break;
        case 'S':
            o->first = strtoull(optarg, NULL, 10);
            o->count =
                strchr(optarg, ':') ? strtoull(strchr(optarg, ':') + 1, NULL, 10) : 1;
            break;
        case 'j':
            o->jobs = (unsigned)MAX(1, MIN(atoi(optarg), JOBS_MAX));
            break;
        case 't':
            o->trace = true;
            break;
        case 'l':
            o->trace = o->logs = true;
            break;
        case 'h':
            o->run.hosts = (unsigned)atoi(optarg);
            break;
        case 'p':
            o->run.controls = (unsigned)MAX(1, MIN(atoi(optarg), CLOUD_CONTROLS_MAX));
            break;
        case 'c':
            o->run.chaos_ns = atoi(optarg) * NS_PER_S;
            break;
        case 'n':
            o->run.no_faults = true;
            break;
        case 'r':
            o->replay = true;
            break;
        case 'x':
            o->scaled = true;
            break;
        case 'i':
            o->scale.instances = (unsigned)atoi(optarg);
            break;
        case 'a':
            o->scale.per_account = (unsigned)MAX(1, atoi(optarg));
            break;
        case '1':
            o->only_first = true;
            break;
        case 'b':
            o->mutation = optarg;
            if (!mutation_choose(optarg)) {
                sim_abort("no mutation '%s' (mutation.c)", optarg);
            }
            break;
        default:
            fprintf(stderr, "usage: see the head of test/sim/main.c\n");
            exit(2);
        }
    }
}

int
main(int argc, char **argv)
{
    struct options o = {
        .first = 1,
        .count = 100,
        .jobs = 2,
        .scale = {.instances = 10000,
                  .per_account = 100,
                  .per_call = 10,
                  .at_once = 32},
    };
    struct rlimit files;
    read_options(argc, argv, &o);
    if (dlopen("libuv.so.1", RTLD_NOLOAD | RTLD_LAZY)) {
        sim_abort("the real libuv is here: a call is not simulated (uv_sim.h)");
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    log_init("sim", o.logs ? LOG_DEBUG : (enum log_level)(LOG_ERROR + 1), 1);
    (void)signal(SIGPIPE, SIG_IGN);
    if (o.scaled) {
        return run_scaled(&o);
    }
    if (o.one) {
        run_one(&o);
    }
    return run_many(&o);
}
