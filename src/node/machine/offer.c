/* offer.c - see offer.h. */
#include "node/machine/offer.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/jsonio.h"
#include "base/map.h"
#include "node/machine/cpu.h"
#include "node/machine/qemu.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#define ANSWER_MAX (8 * MIB)
#define TYPES_MAX 8 /* Of machine types: more than anybody runs beside each other. */
#define TYPE_PREFIX "pc-q35-"

/* ---- what it says ------------------------------------------------------------------- */

enum question { ASK_GREETING, ASK_VERSION, ASK_MACHINES, ASK_MODELS, ASK_FLAGS };

/* What is asked, at once; the answers come in this order, each under its number. Flags are
 * those of the best processor that the host has to give. */
static const char questions[] =
    "{\"execute\":\"qmp_capabilities\",\"id\":0}\n"
    "{\"execute\":\"query-version\",\"id\":1}\n"
    "{\"execute\":\"query-machines\",\"id\":2}\n"
    "{\"execute\":\"query-cpu-definitions\",\"id\":3}\n"
    "{\"execute\":\"query-cpu-model-expansion\",\"id\":4,"
    "\"arguments\":{\"type\":\"full\",\"model\":{\"name\":\"max\"}}}\n"
    "{\"execute\":\"quit\",\"id\":5}\n";

typedef VEC(const char *) words;

static const char *
text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static bool
has(const words *list, const char *word)
{
    for (size_t i = 0; i < list->count; i++) {
        if (str_eq(list->items[i], word)) {
            return true;
        }
    }
    return false;
}

static void
read_version(const json_t *answer, struct arena *arena, struct offer *out)
{
    const json_t *qemu = json_object_get(answer, "qemu");
    out->qemu_version = arena_printf(arena, "%.0f.%.0f.%.0f",
                                     json_number_value(json_object_get(qemu, "major")),
                                     json_number_value(json_object_get(qemu, "minor")),
                                     json_number_value(json_object_get(qemu, "micro")));
}

/* "pc-q35-7.2" as a number that grows with the version; 0: it is none of these. */
static int64_t
type_age(const char *name)
{
    unsigned major = 0, minor = 0, micro = 0;
    int end = 0;
    if (!str_starts(name, TYPE_PREFIX)) {
        return 0;
    }
    const char *version = name + strlen(TYPE_PREFIX);
    int got = sscanf(version, "%3u.%3u%n.%3u%n", &major, &minor, &end, &micro, &end);
    return got >= 2 && version[end] == '\0'
               ? (int64_t)major * 1000000 + (int64_t)minor * 1000 + micro
               : 0;
}

static int
newest_first(const void *a, const void *b)
{
    int64_t x = type_age(*(const char *const *)a),
            y = type_age(*(const char *const *)b);
    return x > y ? -1 : x < y;
}

static void
read_machines(const json_t *answer, struct arena *arena, struct offer *out)
{
    words all = {0};
    size_t i;
    json_t *machine;
    json_array_foreach((json_t *)(uintptr_t)answer, i, machine)
    {
        const char *name = text_of(machine, "name");
        if (type_age(name) > 0 &&
            !json_is_true(json_object_get(machine, "deprecated"))) {
            VEC_PUSH(&all, arena_strdup(arena, name));
        }
    }
    if (all.count > 0) {
        qsort(all.items, all.count, sizeof *all.items, newest_first);
        out->machine_type_count = MIN(all.count, TYPES_MAX);
        out->machine_types =
            arena_memdup(arena, all.items, out->machine_type_count * sizeof *all.items);
    }
    VEC_FREE(&all);
}

/* Not for us: those that name no one processor, those without 64 bits, and each version
 * beside the name that stands for it. */
static bool
is_plain_model(const json_t *model)
{
    static const char *const others[] = {"486",     "athlon",   "base",     "coreduo",
                                         "host",    "kvm32",    "max",      "n270",
                                         "pentium", "pentium2", "pentium3", "qemu32"};
    const char *name = text_of(model, "name");
    const char *dash = strrchr(name, '-');
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        if (str_eq(name, others[i])) {
            return false;
        }
    }
    bool version = dash && dash[1] == 'v' && dash[2] >= '0' && dash[2] <= '9';
    return *name && !version && !json_is_true(json_object_get(model, "deprecated")) &&
           json_is_true(json_object_get(model, "migration-safe"));
}

static void
read_models(const json_t *answer, struct arena *arena, words *out)
{
    size_t i;
    json_t *model;
    json_array_foreach((json_t *)(uintptr_t)answer, i, model)
    {
        const json_t *lacks = json_object_get(model, "unavailable-features");
        if (json_is_array(lacks) && json_array_size(lacks) == 0 &&
            is_plain_model(model)) {
            VEC_PUSH(out, arena_strdup(arena, text_of(model, "name")));
        }
    }
}

/* The levels of which the host has every flag. */
static void
read_levels(const json_t *answer, words *out)
{
    const json_t *flags = json_object_get(json_object_get(answer, "model"), "props");
    for (size_t i = 0; i < cpu_level_count; i++) {
        const struct cpu_level *level = &cpu_levels[i];
        bool whole = has(out, level->model);
        for (size_t f = 0; whole && f < level->flag_count; f++) {
            whole = json_is_true(json_object_get(flags, level->flags[f]));
        }
        if (whole) {
            VEC_PUSH(out, level->name);
        }
    }
}

static void
read_answer(const json_t *line, struct arena *arena, words *models, struct offer *out)
{
    const json_t *id = json_object_get(line, "id");
    const json_t *answer = json_object_get(line, "return");
    if (!json_is_number(id) || !answer) {
        return;
    }
    switch ((int)json_number_value(id)) {
    case ASK_VERSION:
        read_version(answer, arena, out);
        break;
    case ASK_MACHINES:
        read_machines(answer, arena, out);
        break;
    case ASK_MODELS:
        read_models(answer, arena, models);
        break;
    case ASK_FLAGS:
        read_levels(answer, models);
        break;
    default:
        break;
    }
}

bool
offer_read(const char *text, struct arena *arena, struct offer *out, struct err *err)
{
    struct offer found = {0};
    words models = {0};
    for (const char *line = text; *line;) {
        size_t len = strcspn(line, "\n");
        /* Some of a processor's numbers need 64 bits without a sign. */
        AUTO(json) json_t *json = json_loadb(line, len, JSON_DECODE_INT_AS_REAL, NULL);
        if (json) {
            read_answer(json, arena, &models, &found);
        }
        line += len + (line[len] == '\n');
    }
    if (models.count > 0) {
        found.cpu_model_count = models.count;
        found.cpu_models =
            arena_memdup(arena, models.items, models.count * sizeof *models.items);
    }
    VEC_FREE(&models);
    if (!found.qemu_version || found.machine_type_count == 0 ||
        found.cpu_model_count == 0) {
        return err_set(err, ERR_CORRUPT,
                       "%s does not tell its machine types and processors", QEMU_PATH);
    }
    *out = found;
    return true;
}

/* ---- asking it ------------------------------------------------------------------------ */

struct offer_ask
offer_begin(bool kvm)
{
    extern char **environ;
    static const char *const words_of[] = {
        QEMU_PATH,
        "-M",
        "none",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-S",
        "-qmp",
        "stdio",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-accel"};
    const char *argv[ARRAY_LEN(words_of) + 2];
    struct offer_ask ask = {.fd = -1, .pid = -1};
    int pair[2];
    posix_spawn_file_actions_t files;
    memcpy(argv, words_of, sizeof words_of);
    argv[ARRAY_LEN(words_of)] = kvm ? "kvm" : "tcg";
    argv[ARRAY_LEN(words_of) + 1] = NULL;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        return ask;
    }
    (void)posix_spawn_file_actions_init(&files);
    (void)posix_spawn_file_actions_adddup2(&files, pair[1], 0);
    (void)posix_spawn_file_actions_adddup2(&files, pair[1], 1);
    (void)posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    int rc = posix_spawn(&ask.pid, QEMU_PATH, &files, NULL,
                         (char *const *)(uintptr_t)argv, environ);
    (void)posix_spawn_file_actions_destroy(&files);
    close(pair[1]);
    if (rc != 0 || fd_write_all(pair[0], questions, strlen(questions)) < 0) {
        close(pair[0]);
        return ask;
    }
    ask.fd = pair[0];
    return ask;
}

static int64_t
now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* All that it says until it ends, which the last question makes it do. */
static bool
read_all(int fd, struct buf *out, struct err *err)
{
    int64_t until_ns = now_ns() + OFFER_NS;
    for (;;) {
        char piece[16384];
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        int64_t left_ns = until_ns - now_ns();
        if (left_ns <= 0 || out->len > ANSWER_MAX) {
            return err_set(err, ERR_TIMEOUT, "%s does not answer", QEMU_PATH);
        }
        if (poll(&wait, 1, (int)(left_ns / NS_PER_MS) + 1) <= 0) {
            continue;
        }
        ssize_t got = read(fd, piece, sizeof piece);
        if (got == 0) {
            return true;
        }
        if (got > 0) {
            buf_put(out, piece, (size_t)got);
        } else if (errno != EINTR) {
            /* Reset: it ended, with a question unread. */
            return errno == ECONNRESET || err_sys(err, errno, "ask %s", QEMU_PATH);
        }
    }
}

bool
offer_end(struct offer_ask *ask, struct arena *arena, struct offer *out,
          struct err *err)
{
    AUTO(buf) struct buf text = {0};
    bool ok = ask->fd >= 0 ? read_all(ask->fd, &text, err)
                           : err_set(err, ERR_SYSTEM, "cannot start %s", QEMU_PATH);
    if (ask->fd >= 0) {
        close(ask->fd);
        ask->fd = -1;
    }
    if (ask->pid > 0) {
        (void)kill(ask->pid, SIGKILL); /* It has ended, or never will. */
        (void)waitpid(ask->pid, NULL, 0);
        ask->pid = -1;
    }
    return ok && offer_read(buf_str(&text), arena, out, err);
}
