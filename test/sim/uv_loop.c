/* uv_loop.c - handles, timers, async wake-ups, workers, files and polls. See uv_sim.h. */
#include "uv_sim.h"

#include <errno.h>
#include <fcntl.h>

#define CLOSING 1u
#define CLOSED 2u
#define ACTIVE 4u

#define WAKE_NS (200 * NS_PER_US) /* An async wake-up takes up to this. */
#define FDS_MAX 65536

struct uv_sim_speed uv_sim_speed = {.work_ns = 5 * NS_PER_MS, .wire_ns = 2 * NS_PER_MS};

void
uv_sim_handle_init(uv_loop_t *loop, uv_handle_t *handle, uv_handle_type type)
{
    handle->loop = loop;
    handle->type = type;
    handle->close_cb = NULL;
    handle->flags = 0;
    memset(handle->u.reserved, 0, sizeof handle->u.reserved);
}

static int64_t
drawn(int64_t up_to)
{
    return world_between(CHANCE_ORDER, 1, MAX(up_to, 1));
}

/* The one event that a handle waits for. */
static struct event **
event_of(void *handle)
{
    return (struct event **)&((uv_handle_t *)handle)->u.reserved[0];
}

static void
forget_event(void *handle)
{
    world_cancel(*event_of(handle));
    *event_of(handle) = NULL;
}

/* ---- every handle ---------------------------------------------------------------- */

static void
on_close(void *ctx)
{
    uv_handle_t *handle = ctx;
    handle->flags |= CLOSED;
    if (handle->type == UV_TCP) {
        uv_sim_stream_cancel((uv_stream_t *)handle);
    }
    if (handle->close_cb) {
        handle->close_cb(handle);
    }
}

void
uv_close(uv_handle_t *handle, uv_close_cb close_cb)
{
    process_calls();
    if (handle->flags & CLOSING) {
        sim_abort("uv_close of a handle that is closing");
    }
    handle->flags |= CLOSING;
    handle->close_cb = close_cb;
    if (handle->type == UV_TCP) {
        uv_sim_stream_closed((uv_stream_t *)handle);
    } else if (handle->type == UV_POLL) {
        (void)uv_poll_stop((uv_poll_t *)handle);
    } else {
        forget_event(handle);
    }
    (void)world_after(process_of(handle->loop), 0, on_close, handle);
}

int
uv_is_closing(const uv_handle_t *handle)
{
    return (handle->flags & (CLOSING | CLOSED)) != 0;
}

int
uv_is_active(const uv_handle_t *handle)
{
    return handle->u.reserved[0] != NULL;
}

uint64_t
uv_now(const uv_loop_t *loop UNUSED)
{
    return (uint64_t)(world_now() / NS_PER_MS);
}

void
uv_update_time(uv_loop_t *loop UNUSED)
{
}

int
uv_run(uv_loop_t *loop, uv_run_mode mode UNUSED)
{
    sim_abort("%s runs its loop itself", process_of(loop)->name);
}

void
uv_stop(uv_loop_t *loop)
{
    trace("ends itself");
    process_kill(process_of(loop), false);
}

/* ---- timers ---------------------------------------------------------------------- */

int
uv_timer_init(uv_loop_t *loop, uv_timer_t *timer)
{
    uv_sim_handle_init(loop, (uv_handle_t *)timer, UV_TIMER);
    return 0;
}

static void
on_timer(void *ctx)
{
    uv_timer_t *timer = ctx;
    *event_of(timer) = NULL;
    if (timer->repeat) {
        *event_of(timer) =
            world_after(process_of(timer->loop), (int64_t)timer->repeat * NS_PER_MS,
                        on_timer, timer);
    }
    timer->timer_cb(timer);
}

int
uv_timer_start(uv_timer_t *timer, uv_timer_cb cb, uint64_t timeout, uint64_t repeat)
{
    if (uv_is_closing((uv_handle_t *)timer)) {
        return UV_EINVAL;
    }
    forget_event(timer);
    timer->timer_cb = cb;
    timer->repeat = repeat;
    *event_of(timer) =
        world_after(process_of(timer->loop),
                    (int64_t)MIN(timeout, UINT32_MAX) * NS_PER_MS, on_timer, timer);
    return 0;
}

int
uv_timer_stop(uv_timer_t *timer)
{
    forget_event(timer);
    return 0;
}

/* ---- async ----------------------------------------------------------------------- */

int
uv_async_init(uv_loop_t *loop, uv_async_t *async, uv_async_cb cb)
{
    uv_sim_handle_init(loop, (uv_handle_t *)async, UV_ASYNC);
    async->async_cb = cb;
    return 0;
}

static void
on_async(void *ctx)
{
    uv_async_t *async = ctx;
    *event_of(async) = NULL;
    async->async_cb(async);
}

int
uv_async_send(uv_async_t *async)
{
    process_calls();
    if (!*event_of(async) && !uv_is_closing((uv_handle_t *)async)) {
        *event_of(async) =
            world_after(process_of(async->loop), drawn(WAKE_NS), on_async, async);
    }
    return 0;
}

/* ---- workers --------------------------------------------------------------------- */

static void
on_worked(void *ctx)
{
    uv_work_t *work = ctx;
    work->after_work_cb(work, 0);
}

static void
on_work(void *ctx)
{
    uv_work_t *work = ctx;
    work->work_cb(work);
    (void)world_after(process_of(work->loop), drawn(WAKE_NS), on_worked, work);
}

int
uv_queue_work(uv_loop_t *loop, uv_work_t *work, uv_work_cb work_cb,
              uv_after_work_cb after_work_cb)
{
    process_calls();
    work->loop = loop;
    work->type = UV_WORK;
    work->work_cb = work_cb;
    work->after_work_cb = after_work_cb;
    (void)world_after(process_of(loop), drawn(uv_sim_speed.work_ns), on_work, work);
    return 0;
}

/* ---- files ----------------------------------------------------------------------- */

static void
on_fs(void *ctx)
{
    uv_fs_t *req = ctx;
    uv_buf_t *b = req->bufs;
    ssize_t n = req->fs_type == UV_FS_READ
                    ? pread(req->file, b->base, b->len, req->off)
                    : pwrite(req->file, b->base, b->len, req->off);
    req->result = n < 0 ? -errno : n;
    req->cb(req);
}

static int
fs_queue(uv_loop_t *loop, uv_fs_t *req, uv_fs_type what, uv_file file,
         const uv_buf_t bufs[], unsigned count, int64_t offset, uv_fs_cb cb)
{
    process_calls();
    if (count != 1 || !cb) {
        sim_abort("only one buffer, and a callback, are simulated");
    }
    req->loop = loop;
    req->type = UV_FS;
    req->fs_type = what;
    req->file = file;
    req->off = offset;
    req->cb = cb;
    req->bufsml[0] = bufs[0];
    req->bufs = req->bufsml;
    (void)world_after(process_of(loop), drawn(uv_sim_speed.work_ns), on_fs, req);
    return 0;
}

int
uv_fs_read(uv_loop_t *loop, uv_fs_t *req, uv_file file, const uv_buf_t bufs[],
           unsigned nbufs, int64_t offset, uv_fs_cb cb)
{
    return fs_queue(loop, req, UV_FS_READ, file, bufs, nbufs, offset, cb);
}

int
uv_fs_write(uv_loop_t *loop, uv_fs_t *req, uv_file file, const uv_buf_t bufs[],
            unsigned nbufs, int64_t offset, uv_fs_cb cb)
{
    return fs_queue(loop, req, UV_FS_WRITE, file, bufs, nbufs, offset, cb);
}

void
uv_fs_req_cleanup(uv_fs_t *req UNUSED)
{
}

/* ---- polls, on descriptors of the simulation only -------------------------------- */

static struct sim_fd {
    void *owner;
    uv_poll_t *poll;
    bool ready;
} fds[FDS_MAX];

void
uv_sim_fd_own(int fd, void *owner)
{
    if (fd < 0 || fd >= FDS_MAX) {
        sim_abort("no descriptor left");
    }
    fds[fd] = (struct sim_fd){.owner = owner};
}

int
uv_sim_fd_open(void *owner)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    uv_sim_fd_own(fd, owner);
    return fd;
}

void *
uv_sim_fd_owner(int fd)
{
    return fd >= 0 && fd < FDS_MAX ? fds[fd].owner : NULL;
}

static void
on_poll(void *ctx)
{
    uv_poll_t *poll = ctx;
    *event_of(poll) = NULL;
    poll->poll_cb(poll, 0, UV_READABLE);
}

static void
poll_tell(struct sim_fd *fd)
{
    uv_poll_t *poll = fd->poll;
    if (poll && fd->ready && poll->poll_cb && !*event_of(poll) &&
        !uv_is_closing((uv_handle_t *)poll)) {
        *event_of(poll) =
            world_after(process_of(poll->loop), drawn(WAKE_NS), on_poll, poll);
    }
}

void
uv_sim_fd_ready(int fd)
{
    fds[fd].ready = true;
    poll_tell(&fds[fd]);
}

int
uv_poll_init(uv_loop_t *loop, uv_poll_t *poll, int fd)
{
    if (!uv_sim_fd_owner(fd)) {
        sim_abort("a poll of a real descriptor is not simulated");
    }
    uv_sim_handle_init(loop, (uv_handle_t *)poll, UV_POLL);
    poll->poll_cb = NULL;
    poll->u.reserved[1] = &fds[fd];
    fds[fd].poll = poll;
    return 0;
}

int
uv_poll_start(uv_poll_t *poll, int events UNUSED, uv_poll_cb cb)
{
    poll->poll_cb = cb;
    poll_tell(poll->u.reserved[1]);
    return 0;
}

int
uv_poll_stop(uv_poll_t *poll)
{
    struct sim_fd *fd = poll->u.reserved[1];
    if (fd && fd->poll == poll) {
        fd->poll = NULL;
    }
    forget_event(poll);
    return 0;
}

/* ---- what needs no world --------------------------------------------------------- */

uv_buf_t
uv_buf_init(char *base, unsigned len)
{
    return (uv_buf_t){.base = base, .len = len};
}

const char *
uv_strerror(int code)
{
    return code == UV_EOF ? "end of file" : strerror(-code);
}
