/* standalone.c - a main for fuzzers without libFuzzer: replays, or mutates from a seed.
 *
 * A fuzzer is test/fuzz/NAME.c with LLVMFuzzerTestOneInput. With clang it is linked
 * with libFuzzer; with any other compiler with this main:
 *
 *     fuzz_NAME PATH...           replays each file, and each file in a folder
 *     fuzz_NAME --seconds S [--seed N] [--max-bytes B] [PATH...]
 *                                 then mutates them (or random bytes) for a while
 *
 * It prints its seed; the same seed and files make the same inputs in the same order.
 * The input under test is kept in 'fuzz_NAME.last' in the current folder, so that a
 * crash leaves it behind. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define INPUTS_MAX 4096

struct input {
    uint8_t *data;
    size_t len;
};

static struct input inputs[INPUTS_MAX];
static size_t input_count;
static uint64_t state;

static uint64_t
draw(void)
{
    state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    uint64_t z = state;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static size_t
below(size_t n)
{
    return n ? (size_t)(draw() % n) : 0;
}

static void
load_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f || input_count == INPUTS_MAX) {
        fprintf(stderr, "cannot take %s\n", path);
        exit(2);
    }
    static uint8_t chunk[1 << 20];
    size_t len = fread(chunk, 1, sizeof chunk, f);
    (void)fclose(f);
    struct input *in = &inputs[input_count++];
    in->data = malloc(len + 1);
    in->len = len;
    if (!in->data) {
        abort();
    }
    memcpy(in->data, chunk, len);
}

static void
load(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir) {
        load_file(path);
        return;
    }
    for (struct dirent *e; (e = readdir(dir));) {
        char full[4096];
        snprintf(full, sizeof full, "%s/%s", path, e->d_name);
        if (e->d_type == DT_REG) {
            load_file(full);
        }
    }
    closedir(dir);
}

/* One step of change in place; gives the new length. */
static size_t
mutate(uint8_t *p, size_t len, size_t max)
{
    static const uint8_t interesting[] = {0,   1,    0x7f, 0x80, 0xff,
                                          ' ', '\n', '"',  '{',  '<'};
    size_t at = below(len), run = 1 + below(16);
    switch (below(7)) {
    case 0:
        if (len) {
            p[at] ^= (uint8_t)(1u << below(8));
        }
        return len;
    case 1:
        if (len) {
            p[at] = interesting[below(sizeof interesting)];
        }
        return len;
    case 2: /* Cut out. */
        run = MIN(run, len - at);
        memmove(p + at, p + at + run, len - at - run);
        return len - run;
    case 3: /* Put in. */
        run = MIN(run, max - len);
        memmove(p + at + run, p + at, len - at);
        for (size_t i = 0; i < run; i++) {
            p[at + i] = (uint8_t)draw();
        }
        return len + run;
    case 4: /* Repeat. */
        run = MIN(run, MIN(len - at, max - len));
        memmove(p + at + run, p + at, len - at);
        return len + run;
    case 5: /* Splice another in. */
        if (input_count) {
            const struct input *other = &inputs[below(input_count)];
            size_t take = MIN(below(other->len + 1), max - at);
            memcpy(p + at, other->data, take);
            return MAX(len, at + take);
        }
        return len;
    default:
        return below(8) ? len : below(len + 1);
    }
}

/* A crash leaves the input in this file's pages. */
static uint8_t *
keep_open(const char *name, size_t max)
{
    char path[128];
    const char *base = strrchr(name, '/');
    snprintf(path, sizeof path, "%s.last", base ? base + 1 : name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || ftruncate(fd, (off_t)max) < 0) {
        return NULL;
    }
    uint8_t *p = mmap(NULL, max, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return p == MAP_FAILED ? NULL : p;
}

static void
fuzz(const char *name, long seconds, size_t max)
{
    uint8_t *p = malloc(max + 1), *kept = keep_open(name, max);
    struct timespec now, end;
    size_t runs = 0;
    if (!p) {
        abort();
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += seconds;
    do {
        size_t len = 0;
        if (input_count) {
            const struct input *in = &inputs[below(input_count)];
            len = MIN(in->len, max);
            memcpy(p, in->data, len);
        } else {
            len = below(MIN(max, 256) + 1);
            for (size_t i = 0; i < len; i++) {
                p[i] = (uint8_t)draw();
            }
        }
        for (size_t i = 1 + below(16); i; i--) {
            len = mutate(p, len, max);
        }
        if (kept) {
            memcpy(kept, p, len);
        }
        uint8_t *exact = malloc(len + 1); /* So that one byte too far is seen. */
        if (!exact) {
            abort();
        }
        memcpy(exact + 1, p, len);
        (void)LLVMFuzzerTestOneInput(exact + 1, len);
        free(exact);
        runs++;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec < end.tv_sec);
    printf("%zu inputs, none failed\n", runs);
    free(p);
}

int
main(int argc, char **argv)
{
    long seconds = 0;
    size_t max = 4096;
    uint64_t seed = 1;
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (more && str_eq(argv[i], "--seed")) {
            seed = strtoull(argv[++i], NULL, 0);
        } else if (more && str_eq(argv[i], "--seconds")) {
            seconds = strtol(argv[++i], NULL, 10);
        } else if (more && str_eq(argv[i], "--max-bytes")) {
            max = strtoul(argv[++i], NULL, 10);
        } else {
            load(argv[i]);
        }
    }
    for (size_t i = 0; i < input_count; i++) {
        (void)LLVMFuzzerTestOneInput(inputs[i].data, inputs[i].len);
    }
    if (seconds) {
        printf("seed %" PRIu64 ", %ld s, from %zu files\n", seed, seconds, input_count);
        state = seed;
        fuzz(argv[0], seconds, max);
    } else {
        printf("%zu inputs replayed\n", input_count);
    }
    for (size_t i = 0; i < input_count; i++) {
        free(inputs[i].data);
    }
    return 0;
}
