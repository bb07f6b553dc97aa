/* fence_client.c - see fence_client.h. */
#include "node/fence/fence_client.h"
#include "base/log.h"
#include "base/program.h"
#include "node/machine/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define LOOK_MS 1000
#define ANSWER_NS (5 * NS_PER_S) /* It runs ahead of all others: later is never. */
#define STOP_MS 20000

struct fence_client {
    struct fence_client_config config;
    char *path, *program;
    uv_timer_t timer;
    uv_poll_t *poll; /* NULL: not connected. */
    int sock;
    pid_t pid;   /* Of the fence that we speak to. */
    pid_t child; /* Of the one that we started, until it is reaped; 0: none. */
    unsigned unanswered;
    int64_t asked_ns; /* The oldest unanswered. */
    pid_t adopting;   /* 0: nobody. */
    struct fence_answer last;
    int ns_fd; /* FENCE_OPEN's. */
};

/* ---- the wire -------------------------------------------------------------------- */

/* 'fd' goes along; -1: none. */
static bool
send_with(int sock, enum fence_what what, int64_t until_ns, int fd)
{
    struct fence_ask ask = {FENCE_MAGIC, what, until_ns};
    struct iovec part = {&ask, sizeof ask};
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.head = {.cmsg_level = SOL_SOCKET,
                          .cmsg_type = SCM_RIGHTS,
                          .cmsg_len = CMSG_LEN(sizeof(int))}};
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
        msg.msg_control = &control;
        msg.msg_controllen = sizeof control;
    }
    return sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof ask;
}

static bool
send_ask(int sock, enum fence_what what, int64_t until_ns)
{
    return send_with(sock, what, until_ns, -1);
}

/* 1, 0 when there is none now, or -1. '*out_ns' -1: none came with it. */
static int
take_answer(int sock, struct fence_answer *out, int *out_ns)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {out, sizeof *out};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof control};
    ssize_t n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    *out_ns = -1;
    if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int))) {
        memcpy(out_ns, CMSG_DATA(c), sizeof(int));
    }
    return n == (ssize_t)sizeof *out && out->magic == FENCE_MAGIC ? 1 : -1;
}

/* ---- coming and going ------------------------------------------------------------ */

static void
on_poll_closed(uv_handle_t *handle)
{
    free(handle);
}

static void
forget_answer(struct fence_client *c)
{
    if (c->ns_fd >= 0) {
        close(c->ns_fd);
    }
    c->ns_fd = -1;
    c->last = (struct fence_answer){0};
}

static void
adopted(struct fence_client *c, bool done)
{
    pid_t pid = c->adopting;
    c->adopting = 0;
    if (pid) {
        c->config.adopted(c->config.ctx, pid, done);
    }
}

static void
disconnect(struct fence_client *c)
{
    if (c->poll) {
        uv_close((uv_handle_t *)c->poll, on_poll_closed);
        close(c->sock);
        c->poll = NULL;
        c->sock = -1;
        c->unanswered = 0;
        forget_answer(c);
    }
}

static void
lose(struct fence_client *c, const char *why)
{
    log_warn("fence, pid %d: %s", (int)c->pid, why);
    disconnect(c);
    adopted(c, false);
    c->config.changed(c->config.ctx);
}

static void
note_asked(struct fence_client *c)
{
    if (c->unanswered++ == 0) {
        c->asked_ns = clock_mono(c->config.clock);
    }
}

static void
ask(struct fence_client *c, enum fence_what what, int64_t until_ns)
{
    if (!c->poll) {
        return;
    }
    if (!send_ask(c->sock, what, until_ns)) {
        lose(c, strerror(errno));
        return;
    }
    note_asked(c);
}

static void
on_readable(uv_poll_t *poll, int status UNUSED, int events UNUSED)
{
    struct fence_client *c = poll->data;
    struct fence_answer a;
    int ns_fd;
    int rc = take_answer(c->sock, &a, &ns_fd);
    if (rc == 0) {
        return;
    }
    if (rc < 0) {
        lose(c, "ended, and leased guests with it");
        return;
    }
    const uint32_t about = a.state & (FENCE_ADOPTED | FENCE_DECLINED);
    a.state &= ~about;
    bool news = a.state != c->last.state || a.turn != c->last.turn;
    forget_answer(c);
    c->last = a;
    c->ns_fd = ns_fd;
    c->unanswered -= c->unanswered > 0;
    c->asked_ns = clock_mono(c->config.clock);
    if (about) {
        adopted(c, about == FENCE_ADOPTED);
    }
    if (news) {
        c->config.changed(c->config.ctx);
    }
}

static bool
connect_to(struct fence_client *c, struct err *err)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    AUTO(fd) int sock = -1;
    if (!sock_connect(c->path, &sock, err)) {
        return false;
    }
    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0) {
        return err_sys(err, errno, "ask who listens at %s", c->path);
    }
    c->poll = xcalloc(1, sizeof *c->poll);
    c->poll->data = c;
    /* One that has only just been started has not yet made the socket its own. */
    c->pid = peer.pid == getpid() ? c->child : peer.pid;
    c->sock = take_fd(&sock);
    int rc = uv_poll_init(c->config.loop, c->poll, c->sock);
    if (rc < 0 || (rc = uv_poll_start(c->poll, UV_READABLE, on_readable)) < 0) {
        return err_sys(err, -rc, "watch the fence's socket");
    }
    ask(c, FENCE_LOOK, 0);
    return true;
}

/* ---- a fence of our own making --------------------------------------------------- */

static void
start(struct fence_client *c)
{
    struct err err = {0};
    AUTO(fd) int listen_fd = -1;
    if (!sock_listen(c->path, &listen_fd, &err)) {
        log_error("no fence can be started: %s", err.msg);
        return;
    }
    static const char *const argv[] = {FENCE_PROGRAM, NULL};
    const struct program fence = {
        .path = c->program, .argv = argv, .fd = listen_fd, .as_fd = FENCE_LISTEN_FD};
    if (!program_start(&fence, &c->child, &err)) {
        c->child = 0;
        log_error("no fence can be started: %s", err.msg);
    } else if (!connect_to(c, &err)) {
        log_error("fence: %s", err.msg);
        disconnect(c);
    } else {
        log_info("fence: started, pid %d", (int)c->child);
    }
}

static void
reap(struct fence_client *c)
{
    if (c->child > 0 && waitpid(c->child, NULL, WNOHANG) == c->child) {
        c->child = 0;
    }
}

static void
on_timer(uv_timer_t *timer)
{
    struct fence_client *c = timer->data;
    struct err err = {0};
    reap(c);
    if (c->poll && c->unanswered > 0 &&
        clock_mono(c->config.clock) - c->asked_ns > ANSWER_NS) {
        (void)kill(c->pid, SIGKILL);
        lose(c, "does not answer: killed");
    }
    if (c->poll) {
        ask(c, FENCE_LOOK, 0);
    } else if (!connect_to(c, &err)) {
        disconnect(c);
        start(c);
    } else {
        log_info("fence: found, pid %d", (int)c->pid);
    }
}

/* ---- life ------------------------------------------------------------------------ */

struct fence_client *
fence_client_open(const struct fence_client_config *config)
{
    struct fence_client *c = xcalloc(1, sizeof *c);
    c->config = *config;
    c->path = xstrdup(config->path);
    c->program = xstrdup(config->program);
    c->sock = c->ns_fd = -1;
    (void)uv_timer_init(config->loop, &c->timer);
    c->timer.data = c;
    (void)uv_timer_start(&c->timer, on_timer, 0, LOOK_MS);
    return c;
}

static void
on_timer_closed(uv_handle_t *handle)
{
    struct fence_client *c = handle->data;
    free(c->path);
    free(c->program);
    free(c);
}

void
fence_client_close(struct fence_client *c)
{
    if (c) {
        disconnect(c);
        uv_close((uv_handle_t *)&c->timer, on_timer_closed);
    }
}

/* ---- what the agent asks --------------------------------------------------------- */

enum fence_state
fence_client_state(const struct fence_client *c)
{
    bool over =
        c->last.state == FENCE_OPEN && clock_mono(c->config.clock) >= c->last.until_ns;
    return over ? FENCE_ENDING : (enum fence_state)c->last.state;
}

void
fence_client_renew(struct fence_client *c, int64_t until_ns)
{
    ask(c, FENCE_RENEW, until_ns);
}

void
fence_client_end(struct fence_client *c)
{
    ask(c, FENCE_END, 0);
}

bool
fence_client_adopt(struct fence_client *c, pid_t pid, int pidfd)
{
    if (fence_client_state(c) != FENCE_OPEN || c->adopting || !c->poll ||
        !send_with(c->sock, FENCE_ADOPT, pid, pidfd)) {
        return false; /* A socket that is lost is seen to be by the next ask. */
    }
    c->adopting = pid;
    note_asked(c);
    return true;
}

bool
fence_client_enter(const struct fence_client *c, int *out_fd, struct err *err)
{
    if (fence_client_state(c) != FENCE_OPEN) {
        return err_set(err, ERR_BUSY, "this node has no lease");
    }
    int fd = fcntl(c->ns_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        return err_sys(err, errno, "copy a descriptor");
    }
    *out_fd = fd;
    return true;
}

/* Until the other end hangs up. */
static bool
wait_for_end(int sock)
{
    struct pollfd end = {.fd = sock, .events = POLLIN};
    char bytes[sizeof(struct fence_answer)];
    while (poll(&end, 1, STOP_MS) == 1) {
        if (recv(sock, bytes, sizeof bytes, MSG_DONTWAIT) == 0) {
            return true;
        }
    }
    return false;
}

bool
fence_stop(const char *path, struct err *err)
{
    struct err none = {0};
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    AUTO(fd) int sock = -1;
    if (!sock_connect(path, &sock, &none)) {
        return true;
    }
    (void)getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len);
    if (send_ask(sock, FENCE_QUIT, 0) && wait_for_end(sock)) {
        return true;
    }
    if (peer.pid > 1 && kill(peer.pid, SIGKILL) < 0 && errno != ESRCH) {
        return err_sys(err, errno, "end the fence, pid %d", (int)peer.pid);
    }
    return true;
}
