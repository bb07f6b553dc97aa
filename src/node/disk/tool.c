#include "node/disk/tool.h"
#include "base/arena.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define OUT_MAX (256u << 10)

/* QEMU's pool takes up to 64 threads for requests on files, beside the main one, RCU's and the
 * four that decompress (util/thread-pool.c, block/qcow2-threads.c): 64 in all was too few on a
 * slow disk. */
#define THREADS_MAX 128

struct tool {
    uv_work_t work;
    uv_poll_t poll;
    uv_timer_t timer;
    uv_loop_t *loop;
    struct arena *arena;
    struct tool_spec spec;
    tool_done_fn *done; /* NULL: cancelled. */
    void *ctx;
    int out_fd, log_fd;      /* Memory files. */
    bool started, timed_out; /* 'started' is the worker's until 'watched'. */
    bool watched;
    struct jail_process process;
    struct err err;
    int closing;
};

static void
run(uv_work_t *w)
{
    struct tool *t = CONTAINER_OF(w, struct tool, work);
    const char *argv[TOOL_WORDS_MAX + 2] = {QEMU_IMG_PATH};
    for (size_t i = 0; i < TOOL_WORDS_MAX && t->spec.words[i]; i++) {
        argv[i + 1] = t->spec.words[i];
    }
    struct jail_spec jail = {
        .argv = argv,
        .uid = t->spec.uid,
        .gid = t->spec.uid,
        .log_fd = t->log_fd,
        .out_fd = t->out_fd,
        .pid_ns_fd = -1,
        .root = t->spec.jail_dir,
        .binds = t->spec.binds,
        .bind_count = t->spec.bind_count,
        .die_with_parent = true,
        .max_files = 64,
        .max_processes = THREADS_MAX,
        .max_memory_bytes = t->spec.max_memory_bytes,
        .max_cpu_s = t->spec.max_cpu_s,
        .max_file_bytes = t->spec.max_file_bytes,
    };
    t->started = jail_start(&jail, &t->process, &t->err);
}

static void
free_tool(struct tool *t)
{
    if (t->started) {
        close(t->process.pidfd);
    }
    close(t->out_fd);
    close(t->log_fd);
    arena_destroy(t->arena);
    free(t);
}

static void
on_closed(uv_handle_t *handle)
{
    struct tool *t = handle->data;
    if (--t->closing == 0) {
        free_tool(t);
    }
}

static void
read_back(int fd, char *out, size_t size, size_t *out_len)
{
    ssize_t n = pread(fd, out, size - 1, 0);
    *out_len = n > 0 ? (size_t)n : 0;
    out[*out_len] = '\0';
}

static void
first_line(char *text, const char *if_empty)
{
    size_t len = strcspn(text, "\n");
    text[len] = '\0';
    for (size_t i = 0; i < len; i++) {
        if (text[i] < ' ' || text[i] > '~') {
            text[i] = '?';
        }
    }
    if (len == 0) {
        snprintf(text, 200, "%.199s", if_empty);
    }
}

static void
tell(struct tool *t, int status)
{
    char complaint[512];
    size_t len;
    AUTO(free) char *out = xmalloc(OUT_MAX);
    bool ended = t->started && status >= 0 && (status & 0x7f) == 0;
    struct tool_result r = {.ok = t->started && status == 0,
                            .exit_code = ended ? status >> 8 : -1,
                            .out = out};
    read_back(t->out_fd, out, OUT_MAX, &r.out_len);
    read_back(t->log_fd, complaint, sizeof complaint, &len);
    first_line(complaint, t->started ? "" : t->err.msg);
    int sig = t->started && status > 0 ? status & 0x7f : 0;
    r.limited = t->timed_out || sig == SIGXCPU || sig == SIGXFSZ || sig == SIGKILL;
    r.complaint = complaint;
    if (t->done) {
        t->done(t->ctx, &r);
    }
}

static void
on_end(uv_poll_t *poll, int poll_status, int events)
{
    struct tool *t = poll->data;
    (void)poll_status;
    (void)events;
    int status = jail_reap(t->process.pidfd);
    t->closing = 2;
    uv_close((uv_handle_t *)&t->poll, on_closed);
    uv_close((uv_handle_t *)&t->timer, on_closed);
    tell(t, status);
}

static void
kill_tool(struct tool *t)
{
    (void)syscall(SYS_pidfd_send_signal, t->process.pidfd, SIGKILL, NULL, 0);
}

static void
on_limit(uv_timer_t *timer)
{
    struct tool *t = timer->data;
    t->timed_out = true;
    kill_tool(t);
}

static void
after_run(uv_work_t *w, int status)
{
    struct tool *t = CONTAINER_OF(w, struct tool, work);
    (void)status;
    if (!t->started || uv_poll_init(t->loop, &t->poll, t->process.pidfd) < 0) {
        tell(t, -1);
        free_tool(t);
        return;
    }
    (void)uv_timer_init(t->loop, &t->timer);
    t->poll.data = t->timer.data = t;
    t->watched = true;
    (void)uv_poll_start(&t->poll, UV_READABLE, on_end);
    (void)uv_timer_start(&t->timer, on_limit, (uint64_t)(t->spec.limit_ns / NS_PER_MS),
                         0);
    if (!t->done) {
        kill_tool(t);
    }
}

static void
copy_spec(struct tool *t, const struct tool_spec *spec)
{
    t->spec = *spec;
    for (size_t i = 0; i < TOOL_WORDS_MAX; i++) {
        t->spec.words[i] = arena_strdup(t->arena, spec->words[i]);
    }
    for (size_t i = 0; i < spec->bind_count; i++) {
        t->spec.binds[i].from = arena_strdup(t->arena, spec->binds[i].from);
        t->spec.binds[i].to = arena_strdup(t->arena, spec->binds[i].to);
    }
    t->spec.jail_dir = arena_strdup(t->arena, spec->jail_dir);
}

struct tool *
tool_start(uv_loop_t *loop, const struct tool_spec *spec, tool_done_fn *done, void *ctx,
           struct err *err)
{
    AUTO(fd) int out = memfd_create("out", MFD_CLOEXEC);
    AUTO(fd) int log = memfd_create("log", MFD_CLOEXEC);
    if (out < 0 || log < 0) {
        err_sys(err, errno, "make a memory file");
        return NULL;
    }
    struct tool *t = xcalloc(1, sizeof *t);
    t->loop = loop;
    t->arena = arena_create();
    t->done = done;
    t->ctx = ctx;
    t->out_fd = take_fd(&out);
    t->log_fd = take_fd(&log);
    copy_spec(t, spec);
    int rc = uv_queue_work(loop, &t->work, run, after_run);
    if (rc < 0) {
        err_sys(err, -rc, "queue work");
        free_tool(t);
        return NULL;
    }
    return t;
}

void
tool_cancel(struct tool *t)
{
    if (!t) {
        return;
    }
    t->done = NULL;
    if (t->watched && !uv_is_closing((uv_handle_t *)&t->poll)) {
        kill_tool(t);
    }
}
