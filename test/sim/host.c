/* host.c - a host's life: power, its agent, its place in the network. See host.h. */
#include "host.h"

#include "base/file.h"
#include "node/agent.h"
#include "node/machine/offer.h"
#include "node/measure.h"
#include "uv_sim.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>

struct host *
host_new(unsigned number, const char *dir, const struct host_size *size,
         const char *places)
{
    struct host *h = xcalloc(1, sizeof *h);
    struct err err = {0};
    h->number = number;
    snprintf(h->name, sizeof h->name, "host-%u", number);
    snprintf(h->dir, sizeof h->dir, "%s/%s", dir, h->name);
    snprintf(h->address, sizeof h->address, "10.%u.%u.2", 100 + number / 256,
             number % 256);
    snprintf(h->places, sizeof h->places, "%s", places);
    h->size = *size;
    h->drift = world_between(CHANCE_TENANT, -20, 20);
    h->groups = map_create(NULL);
    for (int kind = 0; kind < LINK_KINDS; kind++) {
        h->kernel[kind] = map_create(free);
    }
    if (!dir_make(h->dir, 0700, &err)) {
        sim_abort("%s", err.msg);
    }
    return h;
}

/* Starts anew with each boot, and runs a little apart from the world's. */
int64_t
host_mono(const struct host *h)
{
    int64_t up = world_now() - h->booted_ns;
    return NS_PER_S + up + up / 1000 * h->drift;
}

struct host *
host_now(void)
{
    struct process *p = process_now();
    if (!p || !p->host) {
        sim_abort("no host's process runs this moment");
    }
    return p->host;
}

/* ---- the agent ------------------------------------------------------------------- */

static bool
agent_lives(const struct host *h)
{
    return h->process && !h->process->dead;
}

/* What each host's QEMU offers. */
static const struct offer *
qemu_offer(void)
{
    static const char *types[] = {"pc-q35-9.0", "pc-q35-7.2"};
    static const char *models[] = {"EPYC-Rome", "x86-64-v3", "x86-64-v2-AES",
                                   "Nehalem"};
    static const struct offer offer = {"9.0.1", types, ARRAY_LEN(types), models,
                                       ARRAY_LEN(models)};
    return &offer;
}

static void
on_agent_start(void *ctx)
{
    struct host *h = ctx;
    struct err err = {0};
    struct agent_config config = {
        .loop = &h->process->loop,
        .clock = &h->process->clock,
        .rng = world_rng(CHANCE_IDS),
        .state_dir = h->dir,
        .join = h->places,
        .token = h->token,
        .underlay = h->address,
        .shared_pool = h->shared_dir,
        .version = MOLN_VERSION,
    };
    trace("agent starts");
    h->agent = agent_create(&config, &err);
    if (!h->agent) {
        trace("agent cannot start: %s", err.msg);
        process_kill(h->process, false);
        return;
    }
    agent_offer(h->agent, qemu_offer());
}

static void
on_crash(struct process *p)
{
    host_kill_agent(p->host, p->host->crash_pause_ns, false);
}

void
host_crash_agent(struct host *h, unsigned calls, int64_t pause_ns)
{
    if (agent_lives(h)) {
        h->process->crash_in = calls;
        h->crash_pause_ns = pause_ns;
    }
}

void
host_upkeep(struct host *h)
{
    if (!h->on || h->held || agent_lives(h) || !h->token[0]) {
        return;
    }
    int64_t skew = h->process ? h->process->skew_ns : 0;
    h->process = process_start(h->name, h);
    h->process->skew_ns = skew;
    h->process->crashed = on_crash;
    (void)world_after(h->process, 0, on_agent_start, h);
}

static void
on_release(void *ctx)
{
    struct host *h = ctx;
    h->held = false;
    host_upkeep(h);
}

void
host_kill_agent(struct host *h, int64_t pause_ns, bool forget)
{
    AUTO(free) char *wants = xasprintf("%s/node/wants", h->dir);
    if (h->held || !agent_lives(h)) {
        return;
    }
    process_kill(h->process, false);
    if (forget) {
        (void)unlink(wants);
    }
    h->held = true;
    (void)world_after(NULL, pause_ns, on_release, h);
}

/* ---- power and network ----------------------------------------------------------- */

void
host_power(struct host *h, bool on)
{
    if (on == h->on) {
        return;
    }
    h->on = on;
    if (!on) {
        if (agent_lives(h)) {
            process_kill(h->process, true);
        }
        world_cancel(h->fence.timer);
        h->fence.timer = NULL;
        h->fence.life = 0;
        h->fence.until_ns = 0;
        h->fence.turn++;
        for (size_t i = 0; i < h->guests.count; i++) {
            guest_end(h->guests.items[i], "power lost");
        }
        map_destroy(h->groups);
        h->groups = map_create(NULL);
        for (int kind = 0; kind < LINK_KINDS; kind++) {
            map_destroy(h->kernel[kind]);
            h->kernel[kind] = map_create(free);
        }
        return;
    }
    h->boots++;
    h->booted_ns = world_now();
    snprintf(h->boot_id, sizeof h->boot_id, "00000000-0000-0000-%04u-%012u", h->number,
             h->boots);
    host_upkeep(h);
}

void
host_wipe(struct host *h, unsigned number)
{
    struct err err = {0};
    host_power(h, false);
    if (!dir_remove(h->dir, &err) || !dir_make(h->dir, 0700, &err)) {
        sim_abort("%s", err.msg);
    }
    h->token[0] = h->node_id[0] = '\0';
    h->number = number;
    snprintf(h->name, sizeof h->name, "host-%u", number);
}

void
host_cut(struct host *h, int64_t until_ns)
{
    h->cut_until_ns = until_ns;
}

bool
host_is_cut(const struct host *h)
{
    return world_now() < h->cut_until_ns;
}

int64_t
host_cut_until(const struct host *h)
{
    return h->cut_until_ns;
}

const char *
host_address(const struct host *h)
{
    return h->address;
}

void
host_each_process(const struct host *h, void (*fn)(struct process *process))
{
    if (agent_lives(h)) {
        fn(h->process);
    }
}

/* ---- what the agent asks the system ---------------------------------------------- */

/* In place of the C library's: the code under test gets the simulated host's answer. */
int __wrap_sysinfo(struct sysinfo *info);
int __wrap_gethostname(char *name, size_t len);
int __wrap_statvfs(const char *path, struct statvfs *out);
int __real_fd_write_all(int fd, const void *data, size_t len);
int __wrap_fd_write_all(int fd, const void *data, size_t len);
bool __real_file_write(const char *path, const void *data, size_t len, unsigned mode,
                       struct err *err);
bool __wrap_file_write(const char *path, const void *data, size_t len, unsigned mode,
                       struct err *err);
bool __real_file_read(const char *path, size_t limit, char **out, size_t *out_len,
                      struct err *err);
bool __wrap_file_read(const char *path, size_t limit, char **out, size_t *out_len,
                      struct err *err);

bool __wrap_measure_post_copy(const char *root);

bool
__wrap_measure_post_copy(const char *root UNUSED)
{
    return host_now()->post_copy;
}

int
__wrap_sysinfo(struct sysinfo *info)
{
    *info = (struct sysinfo){.totalram = (unsigned long)host_now()->size.memory_bytes,
                             .mem_unit = 1};
    return 0;
}

int
__wrap_gethostname(char *name, size_t len)
{
    snprintf(name, len, "%s", host_now()->name);
    return 0;
}

int
__wrap_statvfs(const char *path UNUSED, struct statvfs *out)
{
    fsblkcnt_t blocks = (fsblkcnt_t)host_now()->size.pool_bytes / 4096;
    *out = (struct statvfs){
        .f_frsize = 4096, .f_blocks = blocks, .f_bavail = blocks, .f_bfree = blocks};
    return 0;
}

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);

/* An emulator's own network is a name here. */
int
__wrap_open64(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    bool net = str_starts(path, "/proc/") && strstr(path, "/ns/net");
    return net ? uv_sim_fd_open(host_now()) : __real_open64(path, flags, mode);
}

/* A write that a crash cuts short leaves its first half. */
int
__wrap_fd_write_all(int fd, const void *data, size_t len)
{
    int rc = __real_fd_write_all(fd, data, len / 2);
    process_calls();
    return rc < 0
               ? rc
               : __real_fd_write_all(fd, (const char *)data + len / 2, len - len / 2);
}

bool
__wrap_file_write(const char *path, const void *data, size_t len, unsigned mode,
                  struct err *err)
{
    process_calls();
    bool ok = __real_file_write(path, data, len, mode, err);
    process_calls();
    return ok;
}

bool
__wrap_file_read(const char *path, size_t limit, char **out, size_t *out_len,
                 struct err *err)
{
    char text[64];
    if (!str_starts(path, "/proc/")) {
        return __real_file_read(path, limit, out, out_len, err);
    }
    struct host *h = host_now();
    if (strstr(path, "boot_id")) {
        snprintf(text, sizeof text, "%s\n", h->boot_id);
    } else {
        snprintf(text, sizeof text, "MemAvailable: %" PRId64 " kB\n",
                 h->size.memory_bytes / (int64_t)KIB);
    }
    *out = xstrdup(text);
    if (out_len) {
        *out_len = strlen(text);
    }
    return true;
}
