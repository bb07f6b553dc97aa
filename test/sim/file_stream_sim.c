/* file_stream_sim.c - files of disks that move between agents: node/migrate/file_stream.h,
 * without threads and sockets.
 *
 * Purpose:  a receiver's stream looks, now and then, whether the courier of each of its disks is
 *           there and reaches the giver's; after a while the bytes are copied from file to file
 *           at once. A courier that ends before that leaves a file that is not whole.
 * Place:    linked in place of file_stream.c. */
#include "courier_sim.h"
#include "node/migrate/migration_impl.h"
#include "uv_sim.h"

#include <sys/stat.h>

#define LOOK_NS (300 * NS_PER_MS)
#define COPY_MAX_NS (6 * NS_PER_S)

struct file_stream {
    struct file_stream *next;
    struct process *process;
    struct file_stream_config config;
    struct file_place places[MIGRATION_DISKS_MAX];
    size_t count;
    int64_t whole_at_ns; /* 0: not all couriers have met yet. */
    bool takes, open, told;
};

static struct file_stream *streams;

static const struct migration *
migration_of(const struct file_stream *s)
{
    return s->config.ctx;
}

static struct file_stream *
stream_new(const struct file_stream_config *config, const struct file_place *places,
           size_t count, bool takes)
{
    struct file_stream *s = xcalloc(1, sizeof *s);
    s->process = process_of(config->loop);
    s->config = *config;
    s->count = count;
    s->takes = takes;
    s->open = true;
    memcpy(s->places, places, count * sizeof *places);
    s->next = streams;
    streams = s;
    return s;
}

static void
tell(struct file_stream *s, const char *why)
{
    if (s->open && !s->told && !s->process->dead) {
        s->told = true;
        s->config.ended(s->config.ctx, why);
    }
}

/* The giver's, at the other end of a receiver's courier; NULL: it is not there any more. */
static struct file_stream *
giver_of(const struct host *host, const char *migration_id, const char *disk_id)
{
    for (struct file_stream *s = streams; s; s = s->next) {
        if (!s->takes && s->open && !s->process->dead && s->process->host == host &&
            str_eq(s->places[0].disk_id, disk_id) &&
            str_eq(migration_of(s)->id, migration_id)) {
            return s;
        }
    }
    return NULL;
}

static bool
copy(int from, int to)
{
    char data[65536];
    off_t at = 0;
    for (ssize_t n; (n = pread(from, data, sizeof data, at)) > 0; at += n) {
        if (pwrite(to, data, (size_t)n, at) != n) {
            return false;
        }
    }
    return ftruncate(to, at) == 0;
}

static void
on_told(void *ctx)
{
    tell(ctx, NULL);
}

static void
finish(struct file_stream *s)
{
    const struct migration *m = migration_of(s);
    for (size_t i = 0; i < s->count; i++) {
        struct courier *c =
            courier_of(s->process->host, m->want->machine_id, s->places[i].disk_id);
        struct file_stream *from =
            giver_of(courier_reaches(c), m->id, s->places[i].disk_id);
        if (!from || !copy(from->places[0].fd, s->places[i].fd)) {
            tell(s, "a disk broke off on the way");
            return;
        }
        (void)world_after(from->process,
                          world_between(CHANCE_ORDER, 1, uv_sim_speed.wire_ns), on_told,
                          from);
        courier_finish(c);
    }
    tell(s, NULL);
}

static void
on_look(void *ctx)
{
    struct file_stream *s = ctx;
    const struct migration *m = migration_of(s);
    bool all = true, reach = true;
    if (!s->open || s->told) {
        return;
    }
    for (size_t i = 0; i < s->count; i++) {
        struct courier *c =
            courier_of(s->process->host, m->want->machine_id, s->places[i].disk_id);
        all = all && c;
        reach = reach && courier_reaches(c);
    }
    if (s->whole_at_ns && !all) {
        tell(s, "a disk broke off on the way");
        return;
    }
    if (all && !s->whole_at_ns) {
        s->whole_at_ns = world_now() + world_between(CHANCE_ORDER, 1, COPY_MAX_NS);
    }
    if (reach && s->whole_at_ns && world_now() >= s->whole_at_ns) {
        finish(s);
        return;
    }
    (void)world_after(s->process, LOOK_NS, on_look, s);
}

struct file_stream *
file_stream_send(const struct file_stream_config *config, const char *disk_id,
                 int file_fd, int *out_fd, struct err *err UNUSED)
{
    struct file_place place = {.fd = file_fd};
    process_calls();
    snprintf(place.disk_id, sizeof place.disk_id, "%s", disk_id);
    *out_fd = uv_sim_fd_open(host_now());
    return stream_new(config, &place, 1, false);
}

struct file_stream *
file_stream_take(const struct file_stream_config *config, const char *path UNUSED,
                 const struct file_place *places, size_t count, struct err *err UNUSED)
{
    process_calls();
    struct file_stream *s = stream_new(config, places, count, true);
    (void)world_after(s->process, LOOK_NS, on_look, s);
    return s;
}

void
file_stream_progress(const struct file_stream *s, int64_t *out_bytes,
                     int64_t *out_done_bytes)
{
    struct stat st = {0};
    (void)fstat(s->places[0].fd, &st);
    *out_bytes = st.st_size;
    *out_done_bytes = s->told ? st.st_size : 0;
}

void
file_stream_close(struct file_stream *s)
{
    if (s && s->open) {
        s->open = false;
        for (size_t i = 0; i < s->count; i++) {
            close(s->places[i].fd);
        }
    }
}
