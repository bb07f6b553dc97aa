/* file_stream.c - see file_stream.h. */
#include "node/migrate/file_stream.h"

#include "base/file.h"
#include "base/tlv.h"
#include "link/link.h"
#include "node/machine/sock.h"
#include "node/migrate/courier.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define CHUNK (128u << 10)
#define HOLE 4096u /* What is nothing but zeros is not written. */
#define PLACES_MAX 16

struct file_stream {
    struct file_stream_config config;
    uv_thread_t thread;
    uv_async_t async;
    int stop_fd, sock_fd;
    char *path; /* Of the receiver's socket; NULL: a giver's. */
    struct file_place places[PLACES_MAX]; /* A giver's: the first. */
    size_t count;
    int64_t bytes;
    _Atomic int64_t done_bytes;
    _Atomic bool over;
    bool told, dropped; /* dropped: nobody is told any more. */
    struct err err;     /* The thread's, until it is over. */
};

/* ---- in the thread ------------------------------------------------------------------- */

/* Until 'fd' is ready for 'events', or 'ms' have passed (-1: for ever). False: given up. */
static bool
wait_ready(struct file_stream *s, int fd, short events, int ms, struct err *err)
{
    struct pollfd fds[] = {{.fd = fd, .events = events},
                           {.fd = s->stop_fd, .events = POLLIN}};
    while (poll(fds, 2, ms) < 0) {
        if (errno != EINTR) {
            return err_sys(err, errno, "wait");
        }
    }
    return fds[1].revents == 0 || err_set(err, ERR_GONE, "given up");
}

static bool
send_all(struct file_stream *s, const void *data, size_t len, struct err *err)
{
    const uint8_t *bytes = data;
    while (len > 0) {
        ssize_t n = send(s->sock_fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            return err_sys(err, errno, "hand a disk over");
        }
        if (n < 0 && !wait_ready(s, s->sock_fd, POLLOUT, -1, err)) {
            return false;
        }
        bytes += MAX(n, 0);
        len -= (size_t)MAX(n, 0);
    }
    return true;
}

/* Rests until what was sent is no more than may have been. */
static bool
keep_pace(struct file_stream *s, int64_t began_ns, struct err *err)
{
    if (s->config.bps <= 0) {
        return true;
    }
    double seconds = (double)s->done_bytes * 8 / (double)s->config.bps;
    int64_t early =
        began_ns + (int64_t)(seconds * (double)NS_PER_S) - clock_mono(s->config.clock);
    return early < NS_PER_MS ||
           wait_ready(s, -1, 0, (int)MIN(early / NS_PER_MS, INT32_MAX), err);
}

static bool
say_head(struct file_stream *s, struct err *err)
{
    AUTO(buf) struct buf body = {0};
    const struct link_courier_file head = {.disk_id = s->places[0].disk_id,
                                           .size_bytes = s->bytes};
    tlv_encode(&link_courier_file_desc, &head, &body);
    uint8_t len = (uint8_t)body.len;
    return send_all(s, &len, 1, err) && send_all(s, body.data, body.len, err);
}

static bool
send_file(struct file_stream *s, struct err *err)
{
    char data[CHUNK];
    size_t step = s->config.bps > 0 ? CHUNK / 8 : CHUNK;
    int64_t began_ns = clock_mono(s->config.clock);
    if (!say_head(s, err)) {
        return false;
    }
    while (s->done_bytes < s->bytes) {
        size_t most = (size_t)MIN((int64_t)step, s->bytes - s->done_bytes);
        ssize_t n = pread(s->places[0].fd, data, most, (off_t)s->done_bytes);
        if (n <= 0) {
            return n < 0 ? err_sys(err, errno, "read a disk")
                         : err_set(err, ERR_CORRUPT, "a disk became shorter");
        }
        if (!send_all(s, data, (size_t)n, err)) {
            return false;
        }
        s->done_bytes += n;
        if (!keep_pace(s, began_ns, err)) {
            return false;
        }
    }
    return true;
}

/* At least one byte, and at most 'len'; 0: no more will come. */
static bool
take_some(struct file_stream *s, int sock, void *out, size_t len, size_t *out_len,
          struct err *err)
{
    for (;;) {
        ssize_t n = recv(sock, out, len, MSG_DONTWAIT);
        if (n >= 0) {
            *out_len = (size_t)n;
            return true;
        }
        if (errno != EAGAIN && errno != EINTR) {
            return err_sys(err, errno, "take a disk in");
        }
        if (!wait_ready(s, sock, POLLIN, -1, err)) {
            return false;
        }
    }
}

static bool
take_all(struct file_stream *s, int sock, void *out, size_t len, struct err *err)
{
    uint8_t *at = out;
    for (size_t n = 0; len > 0; len -= n, at += n) {
        if (!take_some(s, sock, at, len, &n, err)) {
            return false;
        }
        if (n == 0) {
            return err_set(err, ERR_GONE, "a disk broke off on the way");
        }
    }
    return true;
}

/* Which place the file is for, and its length: a stranger's words. */
static bool
hear_head(struct file_stream *s, int sock, int *out_fd, int64_t *out_bytes,
          struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct link_courier_file head;
    uint8_t len, body[UINT8_MAX];
    if (!take_all(s, sock, &len, 1, err) || !take_all(s, sock, body, len, err) ||
        !tlv_decode(&link_courier_file_desc, body, len, arena, &head, err)) {
        return false;
    }
    for (size_t i = 0; i < s->count; i++) {
        if (str_eq(s->places[i].disk_id, head.disk_id) && head.size_bytes > 0) {
            *out_fd = s->places[i].fd;
            *out_bytes = head.size_bytes;
            return true;
        }
    }
    return err_set(err, ERR_DENIED, "a disk came that is not awaited");
}

static bool
is_hole(const char *data, size_t len)
{
    return len > 0 && data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

static bool
put(int fd, const char *data, size_t len, int64_t at, struct err *err)
{
    for (size_t i = 0; i < len; i += HOLE) {
        size_t part = MIN(len - i, HOLE);
        for (size_t n = is_hole(data + i, part) ? part : 0; n < part;) {
            ssize_t got =
                pwrite(fd, data + i + n, part - n, (off_t)(at + (int64_t)(i + n)));
            if (got < 0 && errno != EINTR) {
                return err_sys(err, errno, "write a disk");
            }
            n += (size_t)MAX(got, 0);
        }
    }
    return true;
}

/* One caller, one file. */
static bool
take_file(struct file_stream *s, int sock, struct err *err)
{
    char data[CHUNK];
    int fd = -1;
    int64_t bytes = 0, at = 0;
    size_t n = 0;
    if (!hear_head(s, sock, &fd, &bytes, err)) {
        return false;
    }
    while (at < bytes) {
        if (!take_some(s, sock, data, (size_t)MIN((int64_t)CHUNK, bytes - at), &n,
                       err)) {
            return false;
        }
        if (n == 0) {
            return err_set(err, ERR_GONE, "a disk broke off on the way");
        }
        if (!put(fd, data, n, at, err)) {
            return false;
        }
        at += (int64_t)n;
        s->done_bytes += (int64_t)n;
    }
    return (ftruncate(fd, (off_t)bytes) == 0 && fsync(fd) == 0) ||
           err_sys(err, errno, "keep a disk");
}

static bool
take_files(struct file_stream *s, struct err *err)
{
    for (size_t i = 0; i < s->count; i++) {
        if (!wait_ready(s, s->sock_fd, POLLIN, -1, err)) {
            return false;
        }
        AUTO(fd) int sock = accept4(s->sock_fd, NULL, NULL, SOCK_CLOEXEC);
        if (sock < 0) {
            return err_sys(err, errno, "meet a courier");
        }
        if (!take_file(s, sock, err)) {
            return false;
        }
    }
    return true;
}

static void
main_of_thread(void *arg)
{
    struct file_stream *s = arg;
    (void)(s->path ? take_files : send_file)(s, &s->err);
    (void)shutdown(s->sock_fd, SHUT_RDWR);
    s->over = true;
    (void)uv_async_send(&s->async);
}

/* ---- on the loop ---------------------------------------------------------------------- */

static void
release(struct file_stream *s)
{
    auto_fd(&s->stop_fd);
    auto_fd(&s->sock_fd);
    for (size_t i = 0; i < s->count; i++) {
        auto_fd(&s->places[i].fd);
    }
    free(s->path);
    free(s);
}

static void
on_closed(uv_handle_t *handle)
{
    release(handle->data);
}

static void
end(struct file_stream *s)
{
    (void)uv_thread_join(&s->thread);
    uv_close((uv_handle_t *)&s->async, on_closed);
}

static void
on_news(uv_async_t *async)
{
    struct file_stream *s = async->data;
    if (s->over && s->dropped) {
        end(s);
    } else if (s->over && !s->told) {
        s->told = true;
        s->config.ended(s->config.ctx, s->err.code == ERR_NONE ? NULL : s->err.msg);
    }
}

/* The thread may be waiting for a disk: the loop does not wait for it. */
void
file_stream_close(struct file_stream *s)
{
    if (!s) {
        return;
    }
    uint64_t one = 1;
    ssize_t n = write(s->stop_fd, &one, sizeof one);
    (void)n;
    if (s->path) {
        (void)unlink(s->path);
    }
    if (s->told) {
        end(s);
    } else {
        s->dropped = true;
    }
}

void
file_stream_progress(const struct file_stream *s, int64_t *out_bytes,
                     int64_t *out_done_bytes)
{
    *out_done_bytes = s->done_bytes;
    *out_bytes = s->path ? *out_done_bytes : s->bytes;
}

static struct file_stream *
stream_new(const struct file_stream_config *config)
{
    struct file_stream *s = xcalloc(1, sizeof *s);
    s->config = *config;
    s->stop_fd = s->sock_fd = -1;
    return s;
}

/* All is in it but the thread. Takes 's'; NULL: it is gone. */
static struct file_stream *
stream_start(struct file_stream *s, struct err *err)
{
    s->stop_fd = eventfd(0, EFD_CLOEXEC);
    int rc =
        s->stop_fd < 0 ? UV_EMFILE : uv_async_init(s->config.loop, &s->async, on_news);
    if (rc < 0) {
        release(s);
    } else {
        s->async.data = s;
        rc = uv_thread_create(&s->thread, main_of_thread, s);
        if (rc < 0) {
            uv_close((uv_handle_t *)&s->async, on_closed);
        }
    }
    if (rc < 0) {
        err_set(err, ERR_SYSTEM, "start to move a disk: %s", uv_strerror(rc));
        return NULL;
    }
    return s;
}

struct file_stream *
file_stream_send(const struct file_stream_config *config, const char *disk_id,
                 int file_fd, int *out_fd, struct err *err)
{
    struct file_stream *s = stream_new(config);
    int ends[2];
    struct stat st;
    s->count = 1;
    s->places[0].fd = file_fd;
    snprintf(s->places[0].disk_id, sizeof s->places[0].disk_id, "%s", disk_id);
    if (fstat(file_fd, &st) < 0) {
        err_sys(err, errno, "look at a disk");
        release(s);
        return NULL;
    }
    s->bytes = st.st_size;
    if (!courier_pair(ends, err)) {
        release(s);
        return NULL;
    }
    s->sock_fd = ends[0];
    AUTO(fd) int theirs = ends[1];
    s = stream_start(s, err);
    if (s) {
        *out_fd = take_fd(&theirs);
    }
    return s;
}

struct file_stream *
file_stream_take(const struct file_stream_config *config, const char *path,
                 const struct file_place *places, size_t count, struct err *err)
{
    struct file_stream *s = stream_new(config);
    s->count = MIN(count, PLACES_MAX);
    memcpy(s->places, places, s->count * sizeof *places);
    if (count > PLACES_MAX) {
        for (size_t i = PLACES_MAX; i < count; i++) {
            close(places[i].fd);
        }
        err_set(err, ERR_RANGE, "too many disks");
        release(s);
        return NULL;
    }
    s->path = xstrdup(path);
    if (!sock_listen(path, &s->sock_fd, err)) {
        release(s);
        return NULL;
    }
    return stream_start(s, err);
}
