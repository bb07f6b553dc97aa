#include "node/machine/console.h"
#include "base/file.h"
#include "node/machine/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define TRIM_ABOVE_BYTES (512u << 10)
#define BLOCK 4096

/* One end of the shared line: the serial socket itself, or a watcher. */
struct end {
    struct console *console;
    uv_poll_t poll;
    int fd;
    struct end *next;
};

struct console {
    uv_loop_t *loop;
    char *log_path, *sock_path;
    struct end *line;     /* NULL while nobody watches. */
    struct end *watchers; /* Singly linked. */
    size_t watcher_count;
};

struct console *
console_create(uv_loop_t *loop, const char *dir)
{
    struct console *c = xcalloc(1, sizeof *c);
    c->loop = loop;
    c->log_path = xasprintf("%s/console.log", dir);
    c->sock_path = xasprintf("%s/console.sock", dir);
    return c;
}

void
console_destroy(struct console *c)
{
    if (!c) {
        return;
    }
    console_hang_up(c);
    free(c->log_path);
    free(c->sock_path);
    free(c);
}

/* ---- the log --------------------------------------------------------------------- */

void
console_read(const struct console *c, struct buf *out)
{
    AUTO(fd) int fd = open(c->log_path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        return;
    }
    off_t from = st.st_size > (off_t)CONSOLE_KEEP_BYTES
                     ? st.st_size - (off_t)CONSOLE_KEEP_BYTES
                     : 0;
    char *room = buf_room(out, CONSOLE_KEEP_BYTES);
    ssize_t n = room ? pread(fd, room, CONSOLE_KEEP_BYTES, from) : 0;
    if (n > 0) {
        out->len += (size_t)n;
        out->data[out->len] = '\0';
    }
}

bool
console_add(const struct console *c, struct blob history, struct err *err)
{
    AUTO(fd) int fd = -1;
    size_t len = MIN(history.len, (size_t)CONSOLE_KEEP_BYTES);
    if (!console_open_log(c, &fd, err)) {
        return false;
    }
    int rc = fd_write_all(fd, history.data + (history.len - len), len);
    return rc == 0 || err_sys(err, -rc, "write %s", c->log_path);
}

void
console_trim(const struct console *c)
{
    AUTO(fd) int fd = open(c->log_path, O_WRONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_blocks * 512 < (off_t)TRIM_ABOVE_BYTES) {
        return;
    }
    off_t keep_from = (st.st_size - (off_t)CONSOLE_KEEP_BYTES) / BLOCK * BLOCK;
    if (keep_from > 0) {
        (void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, keep_from);
    }
}

bool
console_compact(const struct console *c, struct err *err)
{
    struct stat st;
    if (stat(c->log_path, &st) < 0 || st.st_size <= (off_t)TRIM_ABOVE_BYTES) {
        return true;
    }
    AUTO(buf) struct buf kept = {0};
    console_read(c, &kept);
    return file_write(c->log_path, kept.data, kept.len, 0600, err);
}

bool
console_open_log(const struct console *c, int *out_fd, struct err *err)
{
    int fd =
        open(c->log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return err_sys(err, errno, "open %s", c->log_path);
    }
    *out_fd = fd;
    return true;
}

/* ---- the line -------------------------------------------------------------------- */

static void
end_closed(uv_handle_t *handle)
{
    struct end *e = handle->data;
    close(e->fd);
    free(e);
}

static void
end_close(struct end *e)
{
    uv_poll_stop(&e->poll);
    uv_close((uv_handle_t *)&e->poll, end_closed);
}

static void
drop_watcher(struct console *c, struct end *gone)
{
    for (struct end **at = &c->watchers; *at; at = &(*at)->next) {
        if (*at == gone) {
            *at = gone->next;
            c->watcher_count--;
            end_close(gone);
            break;
        }
    }
    if (!c->watchers && c->line) { /* Nobody watches: let QEMU drop what it says. */
        end_close(c->line);
        c->line = NULL;
    }
}

void
console_hang_up(struct console *c)
{
    while (c->watchers) {
        drop_watcher(c, c->watchers);
    }
}

/* Reads what is there; 0: nothing now; < 0: it has ended. */
static ssize_t
read_end(const struct end *e, char *data, size_t size)
{
    ssize_t n = recv(e->fd, data, size, MSG_DONTWAIT);
    if (n > 0) {
        return n;
    }
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

static void
on_line(uv_poll_t *poll, int status, int events UNUSED)
{
    struct end *line = poll->data;
    struct console *c = line->console;
    char data[8192];
    ssize_t n = status < 0 ? -1 : read_end(line, data, sizeof data);
    if (n < 0) {
        console_hang_up(c);
        return;
    }
    for (struct end *e = c->watchers, *next; n > 0 && e; e = next) {
        next = e->next;
        if (send(e->fd, data, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) != n) {
            drop_watcher(c, e);
        }
    }
}

static void
on_watcher(uv_poll_t *poll, int status, int events UNUSED)
{
    struct end *e = poll->data;
    struct console *c = e->console;
    char data[1024];
    ssize_t n = status < 0 ? -1 : read_end(e, data, sizeof data);
    if (n < 0) {
        drop_watcher(c, e);
    } else if (n > 0 && c->line) {
        /* What a guest does not read is lost, as on any serial line. */
        ssize_t sent = send(c->line->fd, data, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)sent;
    }
}

static struct end *
end_open(struct console *c, int fd, uv_poll_cb on_ready, struct err *err)
{
    struct end *e = xcalloc(1, sizeof *e);
    *e = (struct end){.console = c, .fd = fd};
    e->poll.data = e;
    int rc = uv_poll_init(c->loop, &e->poll, fd);
    if (rc < 0) {
        err_sys(err, -rc, "watch a console");
        close(fd);
        free(e);
        return NULL;
    }
    (void)uv_poll_start(&e->poll, UV_READABLE, on_ready);
    return e;
}

bool
console_attach(struct console *c, int fd, struct err *err)
{
    AUTO(fd) int watcher = fd;
    if (c->watcher_count >= CONSOLE_WATCHERS_MAX) {
        return err_set(err, ERR_BUSY, "too many watch this console");
    }
    if (!c->line) {
        int line_fd;
        if (!sock_connect(c->sock_path, &line_fd, err)) {
            return false;
        }
        c->line = end_open(c, line_fd, on_line, err);
        if (!c->line) {
            return false;
        }
    }
    struct end *e = end_open(c, take_fd(&watcher), on_watcher, err);
    if (!e) {
        return false;
    }
    e->next = c->watchers;
    c->watchers = e;
    c->watcher_count++;
    return true;
}
