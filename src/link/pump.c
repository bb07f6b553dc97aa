/* pump.c - see pump.h. */
#include "link/pump.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define CHUNK_BYTES (32u << 10)

struct pump {
    struct pump_config config;
    uv_poll_t poll; /* Of all but files. */
    uv_fs_t read_req, write_req;
    struct buf out;     /* To be written... */
    struct buf writing; /* ...and what a worker is writing. */
    char *chunk;        /* What a worker is reading into. */
    size_t written;     /* Of 'writing'. */
    int64_t read_at, write_at;
    int refs; /* The owner, the poll handle, each worker's request. */
    bool file, socket, eof, ending, ended, dead, read_busy, write_busy;
};

static void file_read_next(struct pump *p);
static void file_write_next(struct pump *p);
static void polled_arm(struct pump *p);
static void polled_write(struct pump *p);

static void
pump_unref(struct pump *p)
{
    if (--p->refs) {
        return;
    }
    if (p->config.fd >= 0) {
        close(p->config.fd);
    }
    buf_fini(&p->out);
    buf_fini(&p->writing);
    free(p->chunk);
    free(p);
}

struct pump *
pump_create(const struct pump_config *config, struct err *err)
{
    AUTO(fd) int fd = config->fd;
    struct stat st;
    if (fstat(fd, &st) < 0) {
        err_sys(err, errno, "look at a channel's descriptor");
        return NULL;
    }
    struct pump *p = xcalloc(1, sizeof *p);
    p->config = *config;
    p->file = S_ISREG(st.st_mode);
    p->socket = S_ISSOCK(st.st_mode);
    p->read_at = p->write_at = config->offset;
    p->refs = 1;
    p->read_req.data = p->write_req.data = p->poll.data = p;
    if (!p->file) {
        int rc = uv_poll_init(config->loop, &p->poll, fd);
        if (rc < 0) {
            free(p);
            err_sys(err, -rc, "poll a channel's descriptor");
            return NULL;
        }
        p->refs++;
    }
    (void)take_fd(&fd);
    return p;
}

static void
poll_closed(uv_handle_t *handle)
{
    pump_unref(handle->data);
}

void
pump_destroy(struct pump *p)
{
    if (!p || p->dead) {
        return;
    }
    p->dead = true;
    if (!p->file) {
        uv_close((uv_handle_t *)&p->poll, poll_closed);
        close(take_fd(&p->config.fd));
    }
    pump_unref(p);
}

size_t
pump_pending(const struct pump *p)
{
    return p->out.len + p->writing.len - p->written;
}

static void
pump_fail(struct pump *p, int sys, const char *what)
{
    char why[128];
    snprintf(why, sizeof why, "%s: %s", what, strerror(sys));
    p->config.ops->failed(p->config.ctx, why);
}

static void
pump_half_close(struct pump *p)
{
    if (p->ending && !p->ended && !p->dead && !pump_pending(p)) {
        p->ended = true;
        if (p->socket) {
            (void)shutdown(p->config.fd, SHUT_WR);
        }
    }
}

static size_t
pump_room(struct pump *p)
{
    if (p->dead || p->eof || !p->config.read) {
        return 0;
    }
    return MIN(p->config.ops->room(p->config.ctx), CHUNK_BYTES);
}

void
pump_kick(struct pump *p)
{
    if (p->dead) {
        return;
    }
    if (p->file) {
        file_read_next(p);
    } else {
        polled_arm(p);
    }
}

void
pump_put(struct pump *p, const void *data, size_t len)
{
    if (p->dead) {
        return;
    }
    buf_put(&p->out, data, len);
    if (p->file) {
        file_write_next(p);
    } else {
        polled_write(p);
        polled_arm(p);
    }
}

void
pump_end(struct pump *p)
{
    p->ending = true;
    pump_half_close(p);
}

/* ---- sockets, pipes, terminals --------------------------------------------------- */

static void
polled_write(struct pump *p)
{
    while (!p->dead && p->out.len) {
        ssize_t n = p->socket
                        ? send(p->config.fd, p->out.data, p->out.len, MSG_NOSIGNAL)
                        : write(p->config.fd, p->out.data, p->out.len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return;
        }
        if (n < 0) {
            pump_fail(p, errno, "write");
            return;
        }
        buf_drop_front(&p->out, (size_t)n);
        if (!p->out.len) {
            buf_fini(&p->out);
        }
        p->config.ops->wrote(p->config.ctx, (size_t)n);
    }
    pump_half_close(p);
}

static void
polled_read(struct pump *p)
{
    char chunk[CHUNK_BYTES];
    size_t room = pump_room(p);
    if (!room) {
        return;
    }
    ssize_t n = read(p->config.fd, chunk, room);
    if (n < 0 && errno == EIO && !p->socket) {
        n = 0; /* A terminal whose other side has hung up. */
    }
    if (n > 0) {
        p->config.ops->got(p->config.ctx, chunk, (size_t)n);
    } else if (n == 0) {
        p->eof = true;
        p->config.ops->got(p->config.ctx, NULL, 0);
    } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
        pump_fail(p, errno, "read");
    }
}

static void
polled_event(uv_poll_t *poll, int status, int events)
{
    struct pump *p = poll->data;
    if (status < 0) {
        int sys = -status;
        socklen_t len = sizeof sys;
        if (p->socket) {
            (void)getsockopt(p->config.fd, SOL_SOCKET, SO_ERROR, &sys, &len);
        }
        pump_fail(p, sys ? sys : EPIPE, "the descriptor");
        return;
    }
    if (events & UV_WRITABLE) {
        polled_write(p);
    }
    if (events & UV_READABLE) {
        polled_read(p);
    }
    polled_arm(p);
}

/* Polls for just what can be acted on, so that nothing spins. */
static void
polled_arm(struct pump *p)
{
    if (p->dead) {
        return;
    }
    int events = (pump_room(p) ? UV_READABLE : 0) | (p->out.len ? UV_WRITABLE : 0);
    int rc =
        events ? uv_poll_start(&p->poll, events, polled_event) : uv_poll_stop(&p->poll);
    if (rc < 0) {
        pump_fail(p, -rc, "poll");
    }
}

/* ---- files ----------------------------------------------------------------------- */

static void
file_read_done(uv_fs_t *req)
{
    struct pump *p = req->data;
    ssize_t n = req->result;
    uv_fs_req_cleanup(req);
    p->read_busy = false;
    if (!p->dead && n < 0) {
        pump_fail(p, (int)-n, "read");
    } else if (!p->dead) {
        p->eof = n == 0;
        p->read_at += n;
        p->config.ops->got(p->config.ctx, p->chunk, (size_t)n);
        file_read_next(p);
    }
    pump_unref(p);
}

static void
file_read_next(struct pump *p)
{
    size_t room = p->read_busy ? 0 : pump_room(p);
    if (!room) {
        return;
    }
    if (!p->chunk) {
        p->chunk = xmalloc(CHUNK_BYTES);
    }
    uv_buf_t b = uv_buf_init(p->chunk, (unsigned)room);
    int rc = uv_fs_read(p->config.loop, &p->read_req, p->config.fd, &b, 1, p->read_at,
                        file_read_done);
    if (rc < 0) {
        pump_fail(p, -rc, "read");
        return;
    }
    p->read_busy = true;
    p->refs++;
}

static void
file_write_done(uv_fs_t *req)
{
    struct pump *p = req->data;
    ssize_t n = req->result;
    uv_fs_req_cleanup(req);
    p->write_busy = false;
    if (!p->dead && n <= 0) {
        pump_fail(p, n < 0 ? (int)-n : ENOSPC, "write");
    } else if (!p->dead) {
        p->write_at += n;
        p->written += (size_t)n;
        file_write_next(p); /* First, so that 'wrote' sees what is still pending. */
        if (!p->dead) {
            p->config.ops->wrote(p->config.ctx, (size_t)n);
        }
    }
    pump_unref(p);
}

/* One write at a time: the rest of a short one, else all that has come meanwhile. */
static void
file_write_next(struct pump *p)
{
    if (p->write_busy) {
        return;
    }
    if (p->written == p->writing.len) {
        struct buf empty = p->writing;
        buf_clear(&empty);
        p->writing = p->out;
        p->out = empty;
        p->written = 0;
    }
    if (!p->writing.len) {
        return;
    }
    uv_buf_t b = uv_buf_init(p->writing.data + p->written,
                             (unsigned)(p->writing.len - p->written));
    int rc = uv_fs_write(p->config.loop, &p->write_req, p->config.fd, &b, 1,
                         p->write_at, file_write_done);
    if (rc < 0) {
        pump_fail(p, -rc, "write");
        return;
    }
    p->write_busy = true;
    p->refs++;
}
