/* courier.c - see courier.h. */
#include "node/migrate/courier_impl.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define SHAKE_MS 10000 /* To connect and prove. */
#define SILENT_MS \
    8000u /* A wire on which nothing is acknowledged for so long is cut. */
#define PATIENCE_MS (7u * 86400000u) /* One that persists waits for so long... */
#define RETRY_MS 2000u /* ...and tries so often, where the kernel can be told (6.15). */
#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44
#endif
#define CHUNK (128u << 10)
/* A guest stands still until all that is on the way has arrived, so little may be: in one
 * direction, in a local pair, not sent yet, and not read yet. */
#define HELD_MAX (256u << 10)
#define ROOM_BYTES (256 << 10)
#define UNSENT_BYTES (128 << 10)
#define UNREAD_BYTES (1 << 20)
#define CALLERS_MAX 32 /* Couriers of one door. */

bool
courier_pair(int out_ends[2], struct err *err)
{
    int room = ROOM_BYTES;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out_ends) < 0) {
        return err_sys(err, errno, "make a pair of sockets");
    }
    for (int i = 0; i < 2; i++) { /* With less it goes on, only slower. */
        (void)setsockopt(out_ends[i], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    }
    return true;
}

/* ---- in the thread: carrying ------------------------------------------------------------ */

struct carry {
    bool local_ended, wire_ended; /* No more will come from there. */
    bool local_shut, said_bye;
    size_t plain_at, wire_at; /* Of what is held, the kernel has so much already. */
};

/* 'n' more bytes of 'held' were taken. Its rest moves down only when that is the smaller
 * part: else the moving would cost more than the sending. */
static void
taken(struct buf *held, size_t *at, size_t n)
{
    *at += n;
    if (2 * *at >= held->len) {
        buf_drop_front(held, *at);
        *at = 0;
    }
}

static bool
from_local(struct courier *c, struct carry *k, struct err *err)
{
    char data[CHUNK];
    ssize_t n = recv(c->local_fd, data, sizeof data, MSG_DONTWAIT);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR || errno == ECONNRESET
                   ? (k->local_ended |= errno == ECONNRESET, true)
                   : err_sys(err, errno, "read from the emulator");
    }
    k->local_ended = n == 0;
    return n == 0 || tls_send(c->tls, data, (size_t)n, err);
}

static bool
from_wire(struct courier *c, struct carry *k, struct err *err)
{
    char data[CHUNK];
    ssize_t n = recv(c->wire_fd, data, sizeof data, MSG_DONTWAIT);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ||
               err_sys(err, errno, "read from node %s", c->peer);
    }
    if (n == 0) {
        return err_set(err, ERR_GONE, "node %s hung up", c->peer);
    }
    struct err end = {0};
    if (!tls_feed(c->tls, data, (size_t)n, &c->plain, &end)) {
        k->wire_ended = end.code == ERR_GONE; /* A proper good-bye. */
        *err = end;
        return k->wire_ended;
    }
    return true;
}

static bool
to_local(struct courier *c, struct carry *k, struct err *err)
{
    if (c->plain.len > 0) {
        ssize_t n = send(c->local_fd, c->plain.data + k->plain_at,
                         c->plain.len - k->plain_at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            return err_sys(err, errno, "write to the emulator");
        }
        taken(&c->plain, &k->plain_at, n > 0 ? (size_t)n : 0);
        c->passed = c->passed || n > 0;
    }
    if (k->wire_ended && c->plain.len == 0 && !k->local_shut) {
        k->local_shut = true;
        if (!c->kept || c->passed) {
            (void)shutdown(c->local_fd, SHUT_WR);
        }
    }
    return true;
}

static bool
to_wire(struct courier *c, struct carry *k, struct err *err)
{
    struct buf *out = tls_wire(c->tls);
    if (k->local_ended && !k->said_bye) {
        k->said_bye = true;
        tls_bye(c->tls);
    }
    if (out->len > 0) {
        ssize_t n = send(c->wire_fd, out->data + k->wire_at, out->len - k->wire_at,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            return err_sys(err, errno, "send to node %s", c->peer);
        }
        taken(out, &k->wire_at, n > 0 ? (size_t)n : 0);
    }
    return true;
}

/* One round; false when it failed. */
static bool
carry_once(struct courier *c, struct carry *k, struct err *err)
{
    const struct buf *out = tls_wire(c->tls);
    bool read_local = !k->local_ended && out->len - k->wire_at < HELD_MAX;
    bool read_wire = !k->wire_ended && c->plain.len - k->plain_at < HELD_MAX;
    struct pollfd fds[] = {
        {.fd = read_local || c->plain.len > 0 ? c->local_fd : -1,
         .events =
             (short)((read_local ? POLLIN : 0) | (c->plain.len > 0 ? POLLOUT : 0))},
        {.fd = read_wire || out->len > 0 ? c->wire_fd : -1,
         .events = (short)((read_wire ? POLLIN : 0) | (out->len > 0 ? POLLOUT : 0))},
        {.fd = c->stop_fd, .events = POLLIN},
    };
    if (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno != EINTR) {
        return err_sys(err, errno, "wait");
    }
    if (fds[2].revents) {
        return err_set(err, ERR_GONE, "given up");
    }
    if (fds[0].revents && read_local && !from_local(c, k, err)) {
        return false;
    }
    if (fds[1].revents && read_wire && !from_wire(c, k, err)) {
        return false;
    }
    return to_local(c, k, err) && to_wire(c, k, err);
}

static bool
carry(struct courier *c, struct err *err)
{
    struct carry k = {0};
    if (!to_local(c, &k, err)) { /* What came with the hello. */
        return false;
    }
    while (!k.local_shut || !k.said_bye || tls_wire(c->tls)->len > 0) {
        if (!carry_once(c, &k, err)) {
            return false;
        }
    }
    *err = (struct err){0};
    return true;
}

/* ---- the thread -------------------------------------------------------------------------- */

static void
tell(struct courier *c, enum courier_news news)
{
    c->was_up = c->was_up || news == NEWS_UP;
    c->news = news;
    (void)uv_async_send(&c->async);
}

static void
tune(int wire_fd)
{
    unsigned silent = SILENT_MS;
    int one = 1, probe_s = 2, unsent = UNSENT_BYTES, unread = UNREAD_BYTES;
    const struct {
        int level, name;
        const void *value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, &one},
        {IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent},
        {SOL_SOCKET, SO_RCVBUFFORCE, &unread},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, &silent},
        {SOL_SOCKET, SO_KEEPALIVE, &one},
        {IPPROTO_TCP, TCP_KEEPIDLE, &probe_s},
        {IPPROTO_TCP, TCP_KEEPINTVL, &probe_s},
    };
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        (void)setsockopt(wire_fd, options[i].level, options[i].name, options[i].value,
                         sizeof(int));
    }
}

static bool
serve(struct courier *c, struct err *err)
{
    int64_t deadline = clock_mono(c->self.clock) + SHAKE_MS * NS_PER_MS;
    if ((c->wire_fd < 0 && !courier_dial(c, deadline, err)) ||
        !courier_shake(c, deadline, err) ||
        !(c->received ? courier_hear_hello(c, deadline, err)
                      : courier_say_hello(c, err))) {
        return false;
    }
    tune(c->wire_fd);
    tell(c, NEWS_UP);
    if (c->received) {
        return courier_wait_joined(c, err) &&
               courier_let_in(c, clock_mono(c->self.clock) + SHAKE_MS * NS_PER_MS,
                              err) &&
               carry(c, err);
    }
    /* The emulator calls only once it was told to. */
    return (!c->local_listens || courier_meet_local(c, err)) && carry(c, err);
}

static void
main_of_thread(void *arg)
{
    struct courier *c = arg;
    (void)serve(c, &c->err);
    if (c->wire_fd >= 0) {
        (void)shutdown(c->wire_fd, SHUT_RDWR);
    }
    if (c->local_fd >= 0 && !c->kept) {
        (void)shutdown(c->local_fd, SHUT_RDWR);
    }
    tell(c, NEWS_ENDED);
}

/* ---- on the loop -------------------------------------------------------------------------- */

static void
door_forget(struct courier *c)
{
    struct courier **at = &c->door->callers;
    while (*at != c) {
        at = &(*at)->next;
    }
    *at = c->next;
    c->door->caller_count--;
    c->door = NULL;
}

static void
on_ended(struct courier *c)
{
    c->told = NEWS_ENDED;
    if (c->door) { /* Nobody has heard of it. */
        log_warn("a courier of migration %s was not let in: %s", c->migration,
                 c->err.msg);
        door_forget(c);
        courier_close(c);
        return;
    }
    c->ops.ended(c->ops.ctx, c, c->err.code == ERR_NONE ? NULL : c->err.msg);
}

static void
on_news(uv_async_t *async)
{
    struct courier *c = async->data;
    int news = c->news;
    if (c->told == NEWS_NONE && (news == NEWS_UP || c->was_up)) {
        c->told = NEWS_UP;
        if (c->door) {
            door_forget(c);
        }
        c->ops.up(c->ops.ctx, c, c->stream);
        if (news == NEWS_ENDED && !uv_is_closing((uv_handle_t *)&c->async)) {
            (void)uv_async_send(&c->async); /* The end is told in a turn of its own. */
        }
    } else if (news == NEWS_ENDED && c->told != NEWS_ENDED) {
        on_ended(c);
    }
}

static void
on_closed(uv_handle_t *handle)
{
    struct courier *c = handle->data;
    tls_destroy(c->tls);
    buf_fini(&c->plain);
    int *const fds[] = {&c->stop_fd, &c->join_fd, &c->wire_fd, &c->local_fd};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        auto_fd(fds[i]);
    }
    free(c);
}

static void
signal_thread(int event_fd)
{
    uint64_t one = 1;
    ssize_t n = write(event_fd, &one, sizeof one);
    (void)n;
}

void
courier_join(struct courier *c, int fd, bool kept)
{
    if (c->joined || !c->received) {
        close(fd);
        return;
    }
    c->joined = true;
    c->kept = kept;
    c->local_fd = fd;
    signal_thread(c->join_fd); /* The thread looks at it after that only. */
}

void
courier_persist(struct courier *c)
{
    if (!c) {
        return;
    }
    unsigned patience = PATIENCE_MS, pause = RETRY_MS;
    (void)setsockopt(c->wire_fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience,
                     sizeof patience);
    (void)setsockopt(c->wire_fd, IPPROTO_TCP, TCP_RTO_MAX_MS, &pause, sizeof pause);
}

int64_t
courier_silent_ns(const struct courier *c)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    if (getsockopt(c->wire_fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0) {
        return 0; /* Its end is told otherwise. */
    }
    return (int64_t)MIN(info.tcpi_last_ack_recv, info.tcpi_last_data_recv) * NS_PER_MS;
}

void
courier_close(struct courier *c)
{
    if (c) {
        signal_thread(c->stop_fd);
        (void)uv_thread_join(&c->thread);
        uv_close((uv_handle_t *)&c->async, on_closed);
    }
}

/* Takes both descriptors, also on failure. */
static struct courier *
courier_start(const struct courier_self *self, struct courier_door *door,
              const char *peer, const char *migration, const char *stream, int wire_fd,
              int local_fd, const struct sockaddr_in *to, const struct courier_ops *ops,
              struct err *err)
{
    struct courier *c = xcalloc(1, sizeof *c);
    *c = (struct courier){.self = *self,
                          .ops = *ops,
                          .door = door,
                          .received = door != NULL,
                          .wire_fd = wire_fd,
                          .local_fd = local_fd};
    if (to) {
        c->to = *to;
    }
    snprintf(c->peer, sizeof c->peer, "%s", peer);
    snprintf(c->migration, sizeof c->migration, "%s", migration);
    snprintf(c->stream, sizeof c->stream, "%s", stream);
    int listens = 0;
    socklen_t len = sizeof listens;
    c->local_listens =
        local_fd >= 0 &&
        getsockopt(local_fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens;
    c->stop_fd = eventfd(0, EFD_CLOEXEC);
    c->join_fd = eventfd(0, EFD_CLOEXEC);
    int rc = c->stop_fd < 0 || c->join_fd < 0
                 ? UV_EMFILE
                 : uv_async_init(self->loop, &c->async, on_news);
    if (rc < 0) {
        auto_fd(&c->stop_fd);
        auto_fd(&c->join_fd);
        auto_fd(&c->wire_fd);
        auto_fd(&c->local_fd);
        free(c);
        err_set(err, ERR_SYSTEM, "start a courier: %s", uv_strerror(rc));
        return NULL;
    }
    c->async.data = c;
    rc = uv_thread_create(&c->thread, main_of_thread, c);
    if (rc < 0) {
        uv_close((uv_handle_t *)&c->async, on_closed);
        err_set(err, ERR_SYSTEM, "start a courier: %s", uv_strerror(rc));
        return NULL;
    }
    return c;
}

struct courier *
courier_send(const struct courier_self *self, const char *address, int port,
             const char *peer_node_id, const char *migration_id, const char *stream,
             int local_fd, const struct courier_ops *ops, struct err *err)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (str_empty(address) || inet_pton(AF_INET, address, &to.sin_addr) != 1 ||
        port < 1 || port > 65535 || str_empty(peer_node_id)) {
        close(local_fd);
        err_set(err, ERR_INVALID, "no proper address of the other node");
        return NULL;
    }
    return courier_start(self, NULL, peer_node_id, migration_id, stream, -1, local_fd,
                         &to, ops, err);
}

/* ---- the door ------------------------------------------------------------------------------ */

static void
on_caller(uv_poll_t *poll, int status, int events UNUSED)
{
    struct courier_door *door = poll->data;
    struct err err = {0};
    int fd =
        status < 0 ? -1 : accept4(door->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    struct courier *c =
        door->caller_count >= CALLERS_MAX
            ? (close(fd), NULL)
            : courier_start(&door->self, door, door->peer, door->migration, "", fd, -1,
                            NULL, &door->ops, &err);
    if (c) {
        c->next = door->callers;
        door->callers = c;
        door->caller_count++;
    } else if (err.code != ERR_NONE) {
        log_warn("%s", err.msg);
    }
}

static bool
door_listen(struct courier_door *door, const char *address, struct err *err)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    if (str_empty(address) || inet_pton(AF_INET, address, &at.sin_addr) != 1) {
        return err_set(err, ERR_INVALID, "no address to listen at for another node");
    }
    door->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (door->fd < 0 || bind(door->fd, (struct sockaddr *)&at, sizeof at) < 0 ||
        listen(door->fd, 16) < 0 ||
        getsockname(door->fd, (struct sockaddr *)&at, &len) < 0) {
        return err_sys(err, errno, "listen at %s", address);
    }
    door->port = ntohs(at.sin_port);
    return true;
}

struct courier_door *
courier_door_open(const struct courier_self *self, const char *address,
                  const char *peer_node_id, const char *migration_id,
                  const struct courier_ops *ops, struct err *err)
{
    struct courier_door *door = xcalloc(1, sizeof *door);
    *door = (struct courier_door){.self = *self, .ops = *ops, .fd = -1};
    snprintf(door->peer, sizeof door->peer, "%s", peer_node_id ? peer_node_id : "");
    snprintf(door->migration, sizeof door->migration, "%s", migration_id);
    bool ok = door_listen(door, address, err);
    int rc = ok ? uv_poll_init(self->loop, &door->poll, door->fd) : 0;
    if (!ok || rc < 0) {
        if (rc < 0) {
            err_sys(err, -rc, "watch a socket");
        }
        auto_fd(&door->fd);
        free(door);
        return NULL;
    }
    door->poll.data = door;
    (void)uv_poll_start(&door->poll, UV_READABLE, on_caller);
    return door;
}

int
courier_door_port(const struct courier_door *door)
{
    return door->port;
}

static void
on_door_closed(uv_handle_t *handle)
{
    struct courier_door *door = handle->data;
    close(door->fd);
    free(door);
}

void
courier_door_close(struct courier_door *door)
{
    if (door) {
        while (door->callers) {
            struct courier *c = door->callers;
            door_forget(c);
            courier_close(c);
        }
        uv_close((uv_handle_t *)&door->poll, on_door_closed);
    }
}
