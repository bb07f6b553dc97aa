/* test_cold.c - disks that move as files: the streams that carry them, whole or not at all, and
 * what a pool makes of what came. */
#include "test.h"

#include "base/file.h"
#include "node/disk/disk.h"
#include "node/disk/qcow2.h"
#include "node/machine/sock.h"
#include "node/migrate/file_stream.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define DISK "vol-00000000000000001"
#define OTHER "vol-00000000000000002"
#define FILE_BYTES (3 * (int64_t)MIB + 123)

/* ---- streams ------------------------------------------------------------------------------ */

struct end {
    bool over;
    char why[200];
};

static void
on_ended(void *ctx, const char *why)
{
    struct end *end = ctx;
    CHECK(!end->over);
    end->over = true;
    snprintf(end->why, sizeof end->why, "%s", why ? why : "");
}

struct scene {
    uv_loop_t loop;
    char dir[32];
    char *from, *to, *socket;
    struct end give_end, take_end;
    struct file_stream *give, *take;
    int local, out; /* The giver's end for a courier; a courier's to the receiver. */
};

static struct file_stream_config
config_of(struct scene *s, struct end *end)
{
    return (struct file_stream_config){
        .loop = &s->loop, .clock = &clock_system, .ended = on_ended, .ctx = end};
}

/* A file with a hole in its middle. */
static void
make_source(const char *path)
{
    AUTO(fd) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    char block[4096];
    for (int64_t at = 0; at < FILE_BYTES; at += (int64_t)sizeof block) {
        bool hole = at >= (int64_t)MIB && at < 2 * (int64_t)MIB;
        size_t len = (size_t)MIN((int64_t)sizeof block, FILE_BYTES - at);
        memset(block, hole ? 0 : (int)(1 + at / 4096 % 255), sizeof block);
        CHECK_EQ(pwrite(fd, block, len, at), (ssize_t)len);
    }
}

static void
scene_open(struct scene *s)
{
    struct err err = {0};
    *s = (struct scene){.dir = "/tmp/moln-cold-XXXXXX", .local = -1, .out = -1};
    CHECK(mkdtemp(s->dir) != NULL);
    CHECK_EQ(uv_loop_init(&s->loop), 0);
    s->from = xasprintf("%s/from", s->dir);
    s->to = xasprintf("%s/to", s->dir);
    s->socket = xasprintf("%s/move.sock", s->dir);
    make_source(s->from);
    const struct file_stream_config take = config_of(s, &s->take_end);
    struct file_place place = {.disk_id = DISK,
                               .fd = open(s->to, O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
    s->take = file_stream_take(&take, s->socket, &place, 1, &err);
    CHECK_OK(s->take != NULL, &err);
    CHECK_OK(sock_connect(s->socket, &s->out, &err), &err);
}

static void
give(struct scene *s, const char *disk_id)
{
    struct err err = {0};
    const struct file_stream_config config = config_of(s, &s->give_end);
    s->give = file_stream_send(&config, disk_id, open(s->from, O_RDONLY | O_CLOEXEC),
                               &s->local, &err);
    CHECK_OK(s->give != NULL, &err);
}

/* What couriers do, for so many bytes. */
static void
carry(struct scene *s, int64_t most)
{
    char data[65536];
    ssize_t n = 1;
    while (most > 0 && n > 0) {
        n = read(s->local, data, (size_t)MIN(most, (int64_t)sizeof data));
        most -= n;
        for (ssize_t at = 0, sent; at < n; at += MAX(sent, 0)) {
            sent = send(s->out, data + at, (size_t)(n - at), MSG_NOSIGNAL);
            if (sent < 0 && errno != EAGAIN) {
                n = 0; /* It does not take it. */
            }
        }
    }
    (void)shutdown(s->out, SHUT_WR);
}

static void
run_until(struct scene *s, const bool *over)
{
    while (!*over) {
        (void)uv_run(&s->loop, UV_RUN_ONCE);
    }
}

static void
scene_close(struct scene *s)
{
    struct err err = {0};
    file_stream_close(s->give);
    file_stream_close(s->take);
    auto_fd(&s->local);
    auto_fd(&s->out);
    (void)uv_run(&s->loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&s->loop), 0);
    CHECK(!file_exists(s->socket));
    CHECK_OK(dir_remove(s->dir, &err), &err);
    free(s->from);
    free(s->to);
    free(s->socket);
}

TEST(file_stream_brings_a_file_whole_and_keeps_its_holes)
{
    struct scene s;
    struct err err = {0};
    size_t before_len, after_len;
    int64_t bytes, done_bytes;
    struct stat st;
    scene_open(&s);
    give(&s, DISK);
    carry(&s, INT64_MAX);
    run_until(&s, &s.give_end.over);
    run_until(&s, &s.take_end.over);
    CHECK_STR(s.give_end.why, "");
    CHECK_STR(s.take_end.why, "");
    file_stream_progress(s.give, &bytes, &done_bytes);
    CHECK_EQ(bytes, FILE_BYTES);
    CHECK_EQ(done_bytes, FILE_BYTES);
    AUTO(free) char *before = NULL;
    AUTO(free) char *after = NULL;
    CHECK_OK(file_read(s.from, 4 * MIB, &before, &before_len, &err), &err);
    CHECK_OK(file_read(s.to, 4 * MIB, &after, &after_len, &err), &err);
    CHECK_EQ(after_len, before_len);
    CHECK_EQ(memcmp(before, after, after_len), 0);
    CHECK_EQ(stat(s.to, &st), 0);
    CHECK(st.st_blocks * 512 < FILE_BYTES - (int64_t)MIB / 2);
    scene_close(&s);
}

TEST(file_stream_that_breaks_off_is_never_whole)
{
    static const int64_t cuts[] = {0, 1, 20, FILE_BYTES / 2, FILE_BYTES};
    for (size_t i = 0; i < ARRAY_LEN(cuts);
         i++) { /* The words before it are some, too. */
        struct scene s;
        scene_open(&s);
        give(&s, DISK);
        carry(&s, cuts[i]);
        run_until(&s, &s.take_end.over);
        CHECK(strstr(s.take_end.why, "broke off"));
        scene_close(&s);
    }
}

TEST(file_stream_takes_no_file_that_is_not_awaited)
{
    struct scene s;
    scene_open(&s);
    give(&s, OTHER);
    carry(&s, INT64_MAX);
    run_until(&s, &s.take_end.over);
    CHECK(strstr(s.take_end.why, "not awaited"));
    scene_close(&s);

    /* Nor what are no words at all. */
    const uint8_t noise[] = {9, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5};
    scene_open(&s);
    CHECK_EQ(send(s.out, noise, sizeof noise, 0), (ssize_t)sizeof noise);
    (void)shutdown(s.out, SHUT_WR);
    run_until(&s, &s.take_end.over);
    CHECK(s.take_end.why[0]);
    scene_close(&s);
}

TEST(file_stream_closes_at_any_time)
{
    struct scene s;
    scene_open(&s); /* Nobody has come. */
    scene_close(&s);
    scene_open(&s);
    give(&s, DISK); /* Nobody reads, and nobody writes. */
    scene_close(&s);
    CHECK(!s.give_end.over && !s.take_end.over);
}

/* ---- pools ----------------------------------------------------------------------------------- */

struct pool {
    uv_loop_t loop;
    struct disks *disks;
    char dir[32], state[16], message[120];
    char *part, *file;
    bool has_blob;
};

static bool
blob_ready(void *ctx, const char *blob_id UNUSED)
{
    return ((struct pool *)ctx)->has_blob;
}

static bool
in_use(void *ctx UNUSED, const char *id UNUSED)
{
    return false;
}

static void
changed(void *ctx UNUSED)
{
}

static void
pool_open(struct pool *p)
{
    struct err err = {0};
    *p = (struct pool){.dir = "/tmp/moln-cold-XXXXXX", .has_blob = true};
    CHECK(mkdtemp(p->dir) != NULL);
    CHECK_EQ(uv_loop_init(&p->loop), 0);
    const struct disks_config config = {
        .loop = &p->loop,
        .dir = p->dir,
        .blobs_dir = "blobs",
        .rng = &rng_system,
        .clock = &clock_system,
        .host = {.blob_ready = blob_ready,
                 .in_use = in_use,
                 .changed = changed,
                 .ctx = p},
    };
    p->disks = disks_open(&config, &err);
    CHECK_OK(p->disks != NULL, &err);
    disks_complete(p->disks);
    p->part = xasprintf("%s/" DISK ".part", p->dir);
    p->file = xasprintf("%s/" DISK "+blob-1.qcow2", p->dir);
}

static void
pool_close(struct pool *p)
{
    struct err err = {0};
    disks_close(p->disks);
    (void)uv_run(&p->loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&p->loop), 0);
    CHECK_OK(dir_remove(p->dir, &err), &err);
    free(p->part);
    free(p->file);
}

static void
pool_want(struct pool *p, const char *incoming, bool made, bool deleted)
{
    const struct link_disk record = {.id = DISK,
                                     .generation = 1,
                                     .size_bytes = (int64_t)MIB,
                                     .base_blob = "blob-1",
                                     .incoming = incoming,
                                     .made = made};
    disks_want(p->disks, &record, deleted);
}

static void
see(void *ctx, const struct link_disk_seen *seen)
{
    struct pool *p = ctx;
    snprintf(p->state, sizeof p->state, "%s", seen->state);
    snprintf(p->message, sizeof p->message, "%s", seen->message);
}

static const char *
pool_pass(struct pool *p)
{
    AUTO(arena) struct arena *arena = arena_create();
    int64_t wake;
    disks_pass(p->disks, &wake);
    (void)uv_run(&p->loop, UV_RUN_DEFAULT);
    disks_pass(p->disks, &wake);
    disks_seen(p->disks, arena, see, p);
    return p->state;
}

/* What the giver's file holds; 'good' false: something else. */
static void
bring(struct pool *p, bool good)
{
    struct err err = {0};
    AUTO(free) char *source = xasprintf("%s/source", p->dir);
    AUTO(free) char *bytes = NULL;
    size_t len;
    AUTO(fd) int fd = -1;
    CHECK_OK(disk_arrive(p->disks, DISK, &fd, &err), &err);
    CHECK_EQ(disk_arrival(p->disks, DISK), DISK_COMES);
    CHECK_OK(qcow2_make(source, (int64_t)MIB, "../blobs/blob-1", "qcow2", &err), &err);
    CHECK_OK(file_read(source, MIB, &bytes, &len, &err), &err);
    CHECK_EQ(fd_write_all(fd, good ? bytes : "no disk at all", good ? len : 14), 0);
    CHECK_EQ(unlink(source), 0);
}

TEST(disk_that_is_to_arrive_is_not_made_and_kept_when_it_is_whole)
{
    struct pool p;
    pool_open(&p);
    p.has_blob = false;
    pool_want(&p, "migration-1", false, false);
    CHECK_EQ(disk_arrival(p.disks, DISK),
             DISK_NOT_AWAITED); /* It stands on nothing yet. */
    p.has_blob = true;
    CHECK_STR(pool_pass(&p), "preparing");
    CHECK(!file_exists(p.file));
    CHECK_EQ(disk_arrival(p.disks, DISK), DISK_AWAITED);
    bring(&p, true);
    CHECK_STR(pool_pass(&p), "preparing");
    disk_arrived(p.disks, DISK, true);
    CHECK_STR(pool_pass(&p), "ready");
    CHECK_EQ(disk_arrival(p.disks, DISK), DISK_IS_HERE);
    CHECK(file_exists(p.file) && !file_exists(p.part));
    pool_want(&p, NULL, true, false);
    CHECK_STR(pool_pass(&p), "ready");
    pool_close(&p);
}

TEST(disk_that_is_no_disk_or_breaks_off_is_not_kept)
{
    struct pool p;
    pool_open(&p);
    pool_want(&p, "migration-1", false, false);
    bring(&p, false);
    disk_arrived(p.disks, DISK, true);
    CHECK_STR(pool_pass(&p), "error");
    CHECK_EQ(disk_arrival(p.disks, DISK), DISK_HAS_FAILED);
    CHECK(!file_exists(p.file) && !file_exists(p.part));
    bring(&p, true);
    disk_arrived(p.disks, DISK, false);
    CHECK(!file_exists(p.file) && !file_exists(p.part));
    bring(&p, true);
    pool_want(&p, "migration-1", false, true); /* Nobody wants it any more. */
    CHECK_STR(pool_pass(&p), "absent");
    disk_arrived(p.disks, DISK, true);
    CHECK_STR(pool_pass(&p), "absent");
    CHECK(!file_exists(p.file) && !file_exists(p.part));
    pool_close(&p);
}

TEST(disk_that_has_been_here_is_missed_and_not_made_anew)
{
    struct pool p;
    pool_open(&p);
    pool_want(&p, NULL, true, false);
    CHECK_STR(pool_pass(&p), "error");
    CHECK(strstr(p.message, "not in the pool any more"));
    CHECK(!file_exists(p.file));
    pool_close(&p);
}
