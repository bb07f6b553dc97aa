/* measure.c - see measure.h. */
#include "node/measure.h"

#include "base/file.h"
#include "base/map.h"

#include <dirent.h>
#include <time.h>

#define NUMA_MAX 64
#define DISKS_MAX 256
#define NICS_MAX 64
#define DEVICES_MAX 64
#define SECTOR_BYTES 512

/* ---- small files ------------------------------------------------------------------- */

struct reader {
    struct arena *arena;
    const char *root;
};

/* The first line of ROOT/DIR/NAME/FILE, or NULL. */
static const char *
line_of(const struct reader *r, const char *dir, const char *name, const char *file)
{
    struct err err = {0};
    AUTO(free) char *path = xasprintf("%s%s/%s/%s", r->root, dir, name, file);
    AUTO(free) char *text = NULL;
    if (!file_read(path, 64 * KIB, &text, NULL, &err)) {
        return NULL;
    }
    size_t len = strcspn(text, "\n");
    while (len > 0 && text[len - 1] == ' ') {
        len--;
    }
    return arena_strndup(r->arena, text, MIN(len, 128));
}

/* The same as a number of the given base; 0: none, or below zero. */
static int64_t
number_of(const struct reader *r, const char *dir, const char *name, const char *file,
          int base)
{
    const char *text = line_of(r, dir, name, file);
    int64_t n = text ? strtoll(text, NULL, base) : 0;
    return MAX(n, 0);
}

static int
by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names in a folder that begin with 'prefix', sorted, at most 'max'. */
static size_t
names_in(const struct reader *r, const char *dir, const char *prefix, size_t max,
         const char ***out)
{
    AUTO(free) char *path = xasprintf("%s%s", r->root, dir);
    const char **names = ARENA_ARRAY(r->arena, max, const char *);
    DIR *handle = opendir(path);
    size_t count = 0;
    for (struct dirent *e; handle && count < max && (e = readdir(handle));) {
        if (e->d_name[0] != '.' && str_starts(e->d_name, prefix)) {
            names[count++] = arena_strdup(r->arena, e->d_name);
        }
    }
    if (handle) {
        (void)closedir(handle);
    }
    if (count > 0) {
        qsort(names, count, sizeof *names, by_name);
    }
    *out = names;
    return count;
}

/* "MemTotal:  123 kB" in a file of such lines; NUMA's begin with "Node 0 ". */
static int64_t
meminfo_bytes(const char *text, const char *word)
{
    const char *line = text ? strstr(text, word) : NULL;
    return line ? strtoll(line + strlen(word), NULL, 10) * (int64_t)KIB : 0;
}

static char *
whole_file(const struct reader *r, const char *name)
{
    struct err err = {0};
    AUTO(free) char *path = xasprintf("%s%s", r->root, name);
    char *text = NULL;
    return file_read(path, 8 * MIB, &text, NULL, &err) ? text : NULL;
}

/* ---- processors and memory --------------------------------------------------------- */

/* The number after "key : " in one processor's paragraph. */
static long
cpu_number(const char *paragraph, const char *end, const char *key)
{
    const char *line = strstr(paragraph, key);
    const char *colon = line && line < end ? strchr(line, ':') : NULL;
    return colon && colon < end ? strtol(colon + 1, NULL, 10) : 0;
}

static void
read_cores(const struct reader *r, struct link_hardware *out)
{
    AUTO(free) char *text = whole_file(r, "/proc/cpuinfo");
    AUTO(map) struct map *cores = map_create(NULL);
    AUTO(map) struct map *sockets = map_create(NULL);
    for (const char *p = text; p && *p;) {
        char key[64];
        const char *end = strstr(p, "\n\n");
        end = end ? end + 2 : p + strlen(p);
        long socket = cpu_number(p, end, "physical id");
        (void)snprintf(key, sizeof key, "%ld", socket);
        map_put(sockets, key, r->arena);
        (void)snprintf(key, sizeof key, "%ld/%ld", socket,
                       cpu_number(p, end, "core id"));
        map_put(cores, key, r->arena);
        p = end;
    }
    out->sockets = (int64_t)map_count(sockets);
    out->cores = (int64_t)map_count(cores);
}

static void
read_numa(const struct reader *r, struct link_hardware *out)
{
    static const char dir[] = "/sys/devices/system/node";
    const char **names;
    size_t count = names_in(r, dir, "node", NUMA_MAX, &names);
    out->numa.items = ARENA_ARRAY(r->arena, count, struct link_hw_numa);
    for (size_t i = 0; i < count; i++) {
        struct link_hw_numa *node = &out->numa.items[out->numa.count++];
        AUTO(free) char *path = xasprintf("%s/%s/meminfo", dir, names[i]);
        AUTO(free) char *meminfo = whole_file(r, path);
        node->number = strtol(names[i] + strlen("node"), NULL, 10);
        node->cpus = line_of(r, dir, names[i], "cpulist");
        node->memory_bytes = meminfo_bytes(meminfo, "MemTotal:");
    }
}

int64_t
measure_swap_bytes(const char *root)
{
    const struct reader r = {NULL, root};
    AUTO(free) char *text = whole_file(&r, "/proc/meminfo");
    return meminfo_bytes(text, "SwapTotal:");
}

/* ---- disks, interfaces, devices ---------------------------------------------------- */

static bool
has_device(const struct reader *r, const char *dir, const char *name)
{
    AUTO(free) char *path = xasprintf("%s%s/%s/device", r->root, dir, name);
    return file_exists(path);
}

/* Of real devices only: no loops, no RAM. */
static void
read_disks(const struct reader *r, struct link_hardware *out)
{
    static const char dir[] = "/sys/block";
    const char **names;
    size_t count = names_in(r, dir, "", DISKS_MAX, &names);
    out->disks.items = ARENA_ARRAY(r->arena, count, struct link_hw_disk);
    for (size_t i = 0; i < count; i++) {
        int64_t sectors = number_of(r, dir, names[i], "size", 10);
        if (sectors > 0 && sectors < INT64_MAX / SECTOR_BYTES &&
            has_device(r, dir, names[i])) {
            out->disks.items[out->disks.count++] = (struct link_hw_disk){
                .name = names[i],
                .size_bytes = sectors * SECTOR_BYTES,
                .rotational = number_of(r, dir, names[i], "queue/rotational", 10) != 0,
                .model = line_of(r, dir, names[i], "device/model"),
            };
        }
    }
}

static void
read_nics(const struct reader *r, struct link_hardware *out)
{
    static const char dir[] = "/sys/class/net";
    const char **names;
    size_t count = names_in(r, dir, "", NICS_MAX, &names);
    out->nics.items = ARENA_ARRAY(r->arena, count, struct link_hw_nic);
    for (size_t i = 0; i < count; i++) {
        if (has_device(r, dir, names[i])) {
            out->nics.items[out->nics.count++] = (struct link_hw_nic){
                .name = names[i],
                .speed_mbps = number_of(r, dir, names[i], "speed", 10),
            };
        }
    }
}

/* What a PCI class is to us, or NULL. A display controller without a maker of processors
 * behind it is a screen, not a GPU. */
static const char *
device_kind(int64_t class, int64_t vendor)
{
    int64_t base = class >> 8;
    bool makes_gpus = vendor == 0x10de || vendor == 0x1002 || vendor == 0x8086;
    if (base == 0x0302 || base == 0x0380 || (base == 0x0300 && makes_gpus)) {
        return "gpu";
    }
    if (base >> 8 == 0x12 || base == 0x0b40) {
        return "accelerator";
    }
    return base == 0x0108 ? "nvme" : NULL;
}

static void
read_devices(const struct reader *r, struct link_hardware *out)
{
    static const char dir[] = "/sys/bus/pci/devices";
    const char **names;
    size_t count = names_in(r, dir, "", 4096, &names);
    out->devices.items = ARENA_ARRAY(r->arena, DEVICES_MAX, struct link_hw_device);
    for (size_t i = 0; i < count && out->devices.count < DEVICES_MAX; i++) {
        int64_t vendor = number_of(r, dir, names[i], "vendor", 16);
        const char *kind =
            device_kind(number_of(r, dir, names[i], "class", 16), vendor);
        bool sriov = number_of(r, dir, names[i], "sriov_totalvfs", 10) > 0;
        if (kind || sriov) {
            out->devices.items[out->devices.count++] = (struct link_hw_device){
                .address = names[i],
                .kind = kind ? kind : "sriov",
                .vendor = vendor,
                .device = number_of(r, dir, names[i], "device", 16),
                .sriov = sriov,
            };
        }
    }
}

void
measure_hardware(struct arena *arena, const char *root, struct link_hardware *out)
{
    const struct reader r = {arena, root};
    *out = (struct link_hardware){0};
    read_cores(&r, out);
    read_numa(&r, out);
    read_disks(&r, out);
    read_nics(&r, out);
    read_devices(&r, out);
}

void
measure_features(struct arena *arena, const struct link_hardware *hardware,
                 const char ***out, size_t *out_count)
{
    static const char *const words[] = {"accelerator", "gpu", "nvme", "sriov"};
    const char **found = ARENA_ARRAY(arena, ARRAY_LEN(words), const char *);
    *out_count = 0;
    for (size_t w = 0; w < ARRAY_LEN(words); w++) {
        bool has = false;
        for (size_t i = 0; i < hardware->devices.count; i++) {
            const struct link_hw_device *device = &hardware->devices.items[i];
            has |= str_eq(device->kind, words[w]) ||
                   (device->sriov && str_eq(words[w], "sriov"));
        }
        if (has) {
            found[(*out_count)++] = words[w];
        }
    }
    *out = found;
}

/* ---- speed ------------------------------------------------------------------------- */

/* Steps a second of a thread of 3.1 GHz (an estimate: a Zen 5 at its boost clock does
 * 277 million, and the cloud's types promise what server processors of 2017 do). */
#define REFERENCE_STEPS 150e6
#define TRIES 6
#define STEPS_A_LOOK 4096
#define TABLE_BYTES 16384

static int64_t
thread_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* A chain that no compiler can shorten: arithmetic, a load, a branch that cannot be
 * foretold, a store. */
static uint64_t
work(uint64_t x, uint8_t *table)
{
    for (int i = 0; i < STEPS_A_LOOK; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        uint64_t y = x * UINT64_C(0x9E3779B97F4A7C15);
        y += table[x % TABLE_BYTES];
        if (y & 0x100) {
            x += y;
        } else {
            x ^= y >> 3;
        }
        table[y % TABLE_BYTES] = (uint8_t)x;
    }
    return x;
}

int64_t
measure_speed(void)
{
    AUTO(free) uint8_t *table = xcalloc(1, TABLE_BYTES);
    uint64_t x = UINT64_C(88172645463325252);
    double best = 0;
    for (int i = 0; i < TRIES; i++) {
        int64_t start = thread_ns(), took;
        double steps = 0;
        do {
            x = work(x ? x : 1, table);
            steps += STEPS_A_LOOK;
            took = thread_ns() - start;
        } while (took < MEASURE_SPEED_NS / TRIES);
        best = MAX(best, steps * 1e9 / (double)took);
    }
    return (int64_t)(best * 1000 / REFERENCE_STEPS);
}

void
measure_host(struct arena *arena, struct measured *out)
{
    *out = (struct measured){.speed = measure_speed(),
                             .swap_bytes = measure_swap_bytes("")};
    measure_hardware(arena, "", &out->hardware);
    measure_features(arena, &out->hardware, &out->features, &out->feature_count);
}

/* ---- power ------------------------------------------------------------------------- */

int64_t
measure_watts(const char *root, int64_t now_ns, struct measure_power *power)
{
    static const char dir[] = "/sys/class/powercap";
    AUTO(arena) struct arena *arena = arena_create();
    const struct reader r = {arena, root};
    const char **names;
    const struct measure_power before = *power;
    size_t count = names_in(&r, dir, "intel-rapl:", 64, &names);
    *power = (struct measure_power){.at_ns = now_ns};
    for (size_t i = 0; i < count; i++) {
        /* Packages only: their parts, "intel-rapl:0:1", are in them. */
        if (strchr(names[i], ':') == strrchr(names[i], ':')) {
            power->energy_uj += number_of(&r, dir, names[i], "energy_uj", 10);
        }
    }
    int64_t used_uj = power->energy_uj - before.energy_uj;
    int64_t took_ns = now_ns - before.at_ns;
    if (before.at_ns == 0 || used_uj <= 0 || took_ns <= 0) {
        return 0;
    }
    return (int64_t)((double)used_uj * 1e3 / (double)took_ns + 0.5);
}

/* ---- what emulators may do --------------------------------------------------------- */

bool
measure_post_copy(const char *root)
{
    AUTO(arena) struct arena *arena = arena_create();
    const struct reader r = {arena, root};
    return number_of(&r, "/proc/sys", "vm", "unprivileged_userfaultfd", 10) == 1;
}
