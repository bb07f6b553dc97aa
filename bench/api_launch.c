/* api_launch.c - how long a durable RunInstances takes: several clients, each call
 * freshly signed, over connections that stay open.
 *
 * Run:      build/bench/api-launch STATE IMAGE [CLIENTS] [CALLS] [INSTANCES A CALL]
 *           prints one JSON line: calls a second, p50, p99 and worst in milliseconds. */
#include <pthread.h>

#include "base/arena.h"
#include "wire/client.h"

#define CLIENTS_MAX 64
#define WARM_UP 5 /* Calls of each client that are not counted: they connect. */

struct load {
    struct client_config config;
    const char *image;
    unsigned calls;    /* Of each client. */
    const char *count; /* Instances a call. */
};

struct worker {
    const struct load *load;
    pthread_t thread;
    int64_t *took_ns; /* One a call. */
    char why[sizeof((struct err *)0)->msg];
};

static bool
launch_one(struct client *client, const struct worker *worker, struct err *err)
{
    char code[96];
    json_t *answer = NULL;
    AUTO(buf) struct buf form = {0};
    client_form_put(&form, "ImageId", worker->load->image);
    client_form_put(&form, "InstanceType", "t3.nano");
    client_form_put(&form, "MinCount", worker->load->count);
    client_form_put(&form, "MaxCount", worker->load->count);
    bool ok = client_ec2(client, "RunInstances", form.data, &answer, code, err);
    json_decref(answer);
    return ok;
}

static void *
worker_run(void *ctx)
{
    struct worker *worker = ctx;
    struct err err = {0};
    AUTO(client) struct client *client = client_create(&worker->load->config, &err);
    for (unsigned i = 0; client && i < WARM_UP + worker->load->calls; i++) {
        int64_t start = clock_mono(&clock_system);
        if (!launch_one(client, worker, &err)) {
            break;
        }
        if (i >= WARM_UP) {
            worker->took_ns[i - WARM_UP] = clock_mono(&clock_system) - start;
        }
    }
    (void)snprintf(worker->why, sizeof worker->why, "%s", err.msg);
    return NULL;
}

static int
compare_ns(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void
print_result(int64_t *took_ns, size_t count, unsigned clients, double seconds)
{
    qsort(took_ns, count, sizeof *took_ns, compare_ns);
    printf("{\"clients\": %u, \"calls\": %zu, \"per_s\": %.0f, \"p50_ms\": %.2f, "
           "\"p99_ms\": %.2f, \"max_ms\": %.2f}\n",
           clients, count, (double)count / seconds, (double)took_ns[count / 2] / 1e6,
           (double)took_ns[count * 99 / 100] / 1e6, (double)took_ns[count - 1] / 1e6);
}

/* The line 'NAME = VALUE' of an INI file. */
static char *
read_word(struct arena *arena, const char *path, const char *name)
{
    char line[512];
    size_t len = strlen(name);
    FILE *file = fopen(path, "r");
    char *found = NULL;
    while (file && !found && fgets(line, sizeof line, file)) {
        if (strncmp(line, name, len) == 0) {
            const char *value = line + len + strspn(line + len, " =");
            found = arena_strndup(arena, value, strcspn(value, "\n"));
        }
    }
    if (!found) {
        fprintf(stderr, "api-launch: %s says no %s\n", path, name);
        exit(1);
    }
    (void)fclose(file);
    return found;
}

static void
load_init(struct load *load, struct arena *arena, const char *state)
{
    const char *keys = arena_printf(arena, "%s/credentials", state);
    const char *endpoint = arena_printf(arena, "%s/endpoint", state);
    load->config = (struct client_config){
        .endpoint = read_word(arena, endpoint, ""),
        .key_id = read_word(arena, keys, "aws_access_key_id"),
        .secret = read_word(arena, keys, "aws_secret_access_key"),
        .region = read_word(arena, keys, "region"),
        .clock = &clock_system,
    };
}

int
main(int argc, char **argv)
{
    static struct worker workers[CLIENTS_MAX];
    if (argc < 3) {
        fprintf(stderr, "usage: %s STATE IMAGE [CLIENTS] [CALLS] [INSTANCES A CALL]\n",
                argv[0]);
        return 2;
    }
    AUTO(arena) struct arena *arena = arena_create();
    unsigned clients = argc > 3 ? (unsigned)atoi(argv[3]) : 4;
    struct load load = {.image = argv[2],
                        .calls = argc > 4 ? (unsigned)atoi(argv[4]) : 500,
                        .count = argc > 5 ? argv[5] : "1"};
    clients = MAX(1, MIN(clients, CLIENTS_MAX));
    load_init(&load, arena, argv[1]);
    size_t count = (size_t)clients * load.calls;
    int64_t *took_ns = ARENA_ARRAY(arena, count + 1, int64_t);
    int64_t start = clock_mono(&clock_system);
    for (unsigned i = 0; i < clients; i++) {
        workers[i] =
            (struct worker){.load = &load, .took_ns = took_ns + (size_t)i * load.calls};
        (void)pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]);
    }
    int failed = 0;
    for (unsigned i = 0; i < clients; i++) {
        (void)pthread_join(workers[i].thread, NULL);
        if (*workers[i].why) {
            fprintf(stderr, "api-launch: %s\n", workers[i].why);
            failed = 1;
        }
    }
    if (!failed) {
        double seconds = (double)(clock_mono(&clock_system) - start) / 1e9;
        print_result(took_ns, count, clients, seconds);
    }
    return failed;
}
