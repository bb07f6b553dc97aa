/* fence.c - see fence.h. */
#include "node/fence/fence.h"
#include "base/log.h"
#include "node/fence/fence_guests.h"
#include "node/fence/fence_room.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#define CLIENTS_MAX \
    4 /* The agent, and a next one while the last one's end is unseen. */

struct fence {
    struct fence_config config;
    int timer_fd, child_fd;   /* 'child_fd': SIGCHLD, for traced guests. */
    int clients[CLIENTS_MAX]; /* Oldest first; -1: free. */
    struct fence_room room;
    struct fence_guests guests;
    int64_t until_ns; /* 0: no lease. */
    bool quit;
};

/* ---- the lease ------------------------------------------------------------------- */

static enum fence_state
state_of(const struct fence *f)
{
    bool empty = f->room.pidfd < 0 && f->guests.count == 0;
    return empty ? FENCE_EMPTY : f->until_ns ? FENCE_OPEN : FENCE_ENDING;
}

/* First the kill, then the word about it: nothing that can wait stands before. */
static void
end_room(struct fence *f, const char *why)
{
    if (state_of(f) == FENCE_OPEN) {
        f->until_ns = 0;
        room_kill(&f->room);
        guests_kill(&f->guests);
        log_warn("leased guests are ended: %s", why);
    }
}

static void
arm(struct fence *f, int64_t until_ns)
{
    struct itimerspec at = {
        .it_value = {.tv_sec = until_ns / NS_PER_S, .tv_nsec = until_ns % NS_PER_S}};
    if (timerfd_settime(f->timer_fd, TFD_TIMER_ABSTIME, &at, NULL) < 0) {
        end_room(f, "the clock cannot be set");
    }
}

static void
renew(struct fence *f, int64_t until_ns)
{
    struct err err = {0};
    if (until_ns <= clock_mono(f->config.clock) || until_ns <= f->until_ns ||
        state_of(f) == FENCE_ENDING) {
        return;
    }
    if (state_of(f) == FENCE_EMPTY && !room_open(&f->room, &err)) {
        log_error("no leased guest can run: %s", err.msg);
        return;
    }
    f->until_ns = until_ns;
    arm(f, until_ns);
}

static void
on_time(struct fence *f)
{
    uint64_t ignored;
    ssize_t n = read(f->timer_fd, &ignored, sizeof ignored);
    if (f->until_ns && clock_mono(f->config.clock) >= f->until_ns) {
        end_room(f, "the lease could not be renewed");
    } else if (n > 0 && f->until_ns) {
        arm(f, f->until_ns);
    }
}

/* ---- the agent ------------------------------------------------------------------- */

static void
hang_up(struct fence *f, size_t i)
{
    close(f->clients[i]);
    for (; i + 1 < CLIENTS_MAX; i++) {
        f->clients[i] = f->clients[i + 1];
    }
    f->clients[CLIENTS_MAX - 1] = -1;
}

/* 'more': what stands beside the state. */
static bool
answer(const struct fence *f, int sock, uint32_t more)
{
    const enum fence_state state = state_of(f);
    struct fence_answer a = {.magic = FENCE_MAGIC,
                             .state = state | more,
                             .until_ns = f->until_ns,
                             .turn = f->room.turn};
    struct iovec part = {&a, sizeof a};
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1};
    if (state == FENCE_OPEN) {
        msg.msg_control = &control;
        msg.msg_controllen = sizeof control;
        control.head = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
                                        .cmsg_type = SCM_RIGHTS,
                                        .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(&control.head), &f->room.ns_fd, sizeof(int));
    }
    return sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof a;
}

/* 'pidfd' is taken; -1: none came. */
static uint32_t
adopt(struct fence *f, const struct fence_ask *ask, int pidfd)
{
    struct err err = {0};
    pid_t pid = (pid_t)ask->until_ns;
    AUTO(fd) int fd = pidfd;
    if (state_of(f) != FENCE_OPEN || fd < 0 || pid <= 1) {
        return FENCE_DECLINED; /* What would end now may not begin. */
    }
    if (!guests_adopt(&f->guests, pid, fd, &err)) {
        log_error("a guest cannot be leased before its next start: %s", err.msg);
        return FENCE_DECLINED;
    }
    (void)take_fd(&fd);
    return FENCE_ADOPTED;
}

static bool
obey(struct fence *f, const struct fence_ask *ask)
{
    switch (ask->what) {
    case FENCE_LOOK:
        return true;
    case FENCE_RENEW:
        renew(f, ask->until_ns);
        return true;
    case FENCE_END:
        end_room(f, "the agent asks for it");
        return true;
    case FENCE_QUIT:
        end_room(f, "the agent ends the fence");
        f->quit = true;
        return true;
    default:
        return false;
    }
}

/* One ask, and the descriptor that came with it; -1: none did. */
static ssize_t
receive(int sock, struct fence_ask *out, int *out_fd)
{
    struct iovec part = {out, sizeof *out};
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof control};
    ssize_t n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    *out_fd = -1;
    if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int))) {
        memcpy(out_fd, CMSG_DATA(c), sizeof(int));
    }
    return n;
}

static void
on_client(struct fence *f, size_t i)
{
    struct fence_ask ask;
    int pidfd;
    ssize_t n = receive(f->clients[i], &ask, &pidfd);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    AUTO(fd) int fd = pidfd;
    uint32_t more = 0;
    bool ok = n == (ssize_t)sizeof ask && ask.magic == FENCE_MAGIC;
    if (ok && ask.what == FENCE_ADOPT) {
        more = adopt(f, &ask, take_fd(&fd));
    } else {
        ok = ok && obey(f, &ask);
    }
    if (!ok || !answer(f, f->clients[i], more)) {
        hang_up(f, i);
    }
}

/* Only root may speak; the socket's folder is root's already. */
static bool
is_trusted(int sock)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

static void
on_listener(struct fence *f)
{
    int sock = accept4(f->config.listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (sock < 0) {
        return;
    }
    if (!is_trusted(sock)) {
        close(sock);
        return;
    }
    if (f->clients[CLIENTS_MAX - 1] >= 0) {
        hang_up(f, 0);
    }
    size_t i = 0;
    while (f->clients[i] >= 0) {
        i++;
    }
    f->clients[i] = sock;
}

/* ---- the loop -------------------------------------------------------------------- */

static void
on_child(struct fence *f)
{
    struct signalfd_siginfo told;
    while (read(f->child_fd, &told, sizeof told) == (ssize_t)sizeof told) {
    }
    guests_look(&f->guests); /* Several may have come as one. */
}

/* Who is told by a descriptor needs no handler: nothing interrupts. */
static int
open_child_signals(void)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    return sigprocmask(SIG_BLOCK, &child, NULL) < 0
               ? -1
               : signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* A lease that is over goes before all else; then the room's end, then who asks. */
static void
turn(struct fence *f)
{
    enum { TIME, ROOM, CHILD, LISTENER, CLIENTS };
    struct pollfd ready[CLIENTS + CLIENTS_MAX] = {
        [TIME] = {.fd = f->timer_fd, .events = POLLIN},
        [ROOM] = {.fd = f->room.pidfd, .events = POLLIN},
        [CHILD] = {.fd = f->child_fd, .events = POLLIN},
        [LISTENER] = {.fd = f->config.listen_fd, .events = POLLIN},
    };
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        ready[CLIENTS + i] = (struct pollfd){.fd = f->clients[i], .events = POLLIN};
    }
    if (ppoll(ready, ARRAY_LEN(ready), NULL, NULL) < 0) {
        return; /* EINTR. */
    }
    on_time(f);
    if (ready[ROOM].revents) {
        end_room(f, "the first process of their namespace is gone");
        room_close(&f->room);
    }
    if (ready[CHILD].revents) {
        on_child(f);
    }
    for (size_t i = CLIENTS_MAX; i-- > 0;) { /* Backwards: hang_up moves the rest. */
        if (ready[CLIENTS + i].revents) {
            on_client(f, i);
        }
    }
    if (ready[LISTENER].revents) {
        on_listener(f);
    }
}

bool
fence_serve(const struct fence_config *config, struct err *err)
{
    struct fence f = {
        .config = *config, .clients = {-1, -1, -1, -1}, .room = ROOM_NONE};
    f.timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    bool ok = f.timer_fd >= 0 || err_sys(err, errno, "make a timer");
    f.child_fd = open_child_signals();
    ok = ok && (f.child_fd >= 0 || err_sys(err, errno, "hear of guests' ends"));
    /* Who connects is told that it is us who listen, and not who made the socket. */
    ok = ok &&
         (listen(config->listen_fd, CLIENTS_MAX) == 0 || err_sys(err, errno, "listen"));
    ok = ok && (!config->harden || room_harden(err));
    while (ok && !f.quit) {
        turn(&f);
    }
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        if (f.clients[i] >= 0) {
            close(f.clients[i]);
        }
    }
    if (f.timer_fd >= 0) {
        close(f.timer_fd);
    }
    if (f.child_fd >= 0) {
        close(f.child_fd);
    }
    guests_kill(&f.guests);
    room_wait(&f.room);
    guests_wait(&f.guests);
    close(config->listen_fd);
    return ok;
}
