/* child.c - the metadata child: sockets served, nothing else.
 *
 * One thread, one epoll. A connection is answered one request at a time; it has IDLE_NS
 * for each, whatever it does meanwhile. Who calls is looked up anew for each request,
 * so a port that goes is silent at once. */
#include "node/metadata/child.h"
#include "base/log.h"
#include "base/map.h"
#include "node/metadata/metadata.h"
#include "node/metadata/sandbox.h"
#include "node/metadata/served.h"
#include "node/metadata/sntp.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timex.h>

#define FDS_MAX 16384
#define CONNECTIONS_MAX 8192
#define CALLER_CONNECTIONS_MAX 64
#define IDLE_NS (20 * NS_PER_S)
#define IN_MAX (HTTP_HEAD_MAX + HTTP_BODY_MAX + 4)
#define DATAGRAMS_AT_ONCE 64

enum kind { AGENT, LISTENER, TIME, CONNECTION };

/* What an epoll event points to. */
struct source {
    enum kind kind;
    int fd;
    char network[CHILD_ID_LEN];
};

struct conn {
    struct source source; /* First: a conn is a source. */
    struct conn *next, **link;
    uint32_t caller;
    struct buf in, out;
    size_t sent;
    int64_t deadline_ns;
    bool last; /* Close when 'out' is sent. */
    bool dead; /* Freed after the round of events. */
};

struct child {
    int epoll, agent;
    uint8_t key[TOKEN_KEY_LEN];
    struct served *served;
    struct map *http, *time; /* Listening sources by network. */
    struct conn *conns;
    size_t conn_count;
    const struct clock *clock;
    const struct rng *rng;
    bool done;
};

static bool
watch(struct child *child, struct source *source, uint32_t events, int op)
{
    struct epoll_event e = {.events = events, .data.ptr = source};
    return epoll_ctl(child->epoll, op, source->fd, &e) == 0;
}

/* ---- connections -------------------------------------------------------------------
 */

static void
conn_destroy(struct child *child, struct conn *c)
{
    *c->link = c->next;
    if (c->next) {
        c->next->link = c->link;
    }
    child->conn_count--;
    close(c->source.fd);
    buf_fini(&c->in);
    buf_fini(&c->out);
    free(c);
}

/* Whether one more may come. A network may have as many as are still free, so one alone gets
 * half of all, each of n greedy ones a share of n + 1, and there is always room for others:
 * dynamic thresholds, as switches share a buffer (Choudhury and Hahne, 1998). */
static bool
has_room(const struct child *child, const char *network, uint32_t caller)
{
    size_t of_network = 0, of_caller = 0;
    for (const struct conn *c = child->conns; c; c = c->next) {
        if (str_eq(c->source.network, network)) {
            of_network++;
            of_caller += c->caller == caller;
        }
    }
    return of_caller < CALLER_CONNECTIONS_MAX &&
           of_network < CONNECTIONS_MAX - child->conn_count;
}

static void
conn_add(struct child *child, const struct source *from, int fd, uint32_t caller)
{
    struct conn *c = xcalloc(1, sizeof *c);
    c->source = *from;
    c->source.kind = CONNECTION;
    c->source.fd = fd;
    c->caller = caller;
    c->in.limit = IN_MAX;
    c->deadline_ns = clock_mono(child->clock) + IDLE_NS;
    c->next = child->conns;
    c->link = &child->conns;
    if (c->next) {
        c->next->link = &c->next;
    }
    child->conns = c;
    child->conn_count++;
    if (!watch(child, &c->source, EPOLLIN, EPOLL_CTL_ADD)) {
        conn_destroy(child, c);
    }
}

static void
on_listener(struct child *child, struct source *source)
{
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    int fd = accept4(source->fd, (struct sockaddr *)&from, &len,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    uint32_t caller = ntohl(from.sin_addr.s_addr);
    if (!has_room(child, source->network, caller)) {
        close(fd);
        return;
    }
    conn_add(child, source, fd, caller);
}

static void
flush(struct child *child, struct conn *c)
{
    while (c->sent < c->out.len) {
        ssize_t n = send(c->source.fd, c->out.data + c->sent, c->out.len - c->sent,
                         MSG_NOSIGNAL);
        if (n < 0) {
            bool full =
                errno == EAGAIN && watch(child, &c->source, EPOLLOUT, EPOLL_CTL_MOD);
            c->dead = !full;
            return;
        }
        c->sent += (size_t)n;
    }
    buf_clear(&c->out);
    c->sent = 0;
    c->deadline_ns = clock_mono(child->clock) + IDLE_NS;
    c->dead = c->last || !watch(child, &c->source, EPOLLIN, EPOLL_CTL_MOD);
}

/* Answers whole requests, one after the other, until one's answer does not fit. */
static void
conn_work(struct child *child, struct conn *c)
{
    while (!c->dead && !c->last && c->out.len == 0) {
        struct http_request request;
        size_t used = 0;
        struct imds_world world = {child->key, child->rng, clock_real(child->clock),
                                   clock_mono(child->clock)};
        switch (http_parse(c->in.data, c->in.len, &request, &used)) {
        case HTTP_MORE:
            return;
        case HTTP_DONE: {
            const struct imds_port *port =
                served_find(child->served, c->source.network, c->caller);
            int ttl = imds_answer(&world, port, &request, &c->out);
            if (ttl > 0) { /* And so it stays: retransmissions carry it too. */
                (void)setsockopt(c->source.fd, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl);
            }
            c->last = !request.keep_alive;
            buf_drop_front(&c->in, used);
            break;
        }
        case HTTP_LARGE:
            imds_refuse(&world, 413, &c->out);
            c->last = true;
            break;
        case HTTP_BAD:
            imds_refuse(&world, 400, &c->out);
            c->last = true;
            break;
        }
        flush(child, c);
    }
}

static void
on_connection(struct child *child, struct conn *c, uint32_t events)
{
    if (c->out.len > 0) {
        flush(child, c);
    } else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        char in[4096];
        size_t room = MIN(sizeof in, IN_MAX - MIN(c->in.len, IN_MAX));
        ssize_t n = recv(c->source.fd, in, room, 0);
        if (n <= 0) {
            c->dead = n == 0 || errno != EAGAIN;
            return;
        }
        buf_put(&c->in, in, (size_t)n);
    }
    conn_work(child, c);
}

/* Removes what died, and what has been idle too long. */
static void
reap(struct child *child)
{
    int64_t now = clock_mono(child->clock);
    for (struct conn *c = child->conns, *next; c; c = next) {
        next = c->next;
        if (c->dead || now > c->deadline_ns) {
            conn_destroy(child, c);
        }
    }
}

/* ---- time --------------------------------------------------------------------------
 */

static void
on_time(struct child *child, struct source *source)
{
    struct timex tx = {0};
    int state = adjtimex(&tx);
    struct sntp_host host = {
        .synchronized = state >= 0 && !(tx.status & STA_UNSYNC),
        .leap = state == TIME_INS   ? 1
                : state == TIME_DEL ? 2
                                    : 0,
        .error_us = tx.maxerror,
    };
    for (int i = 0; i < DATAGRAMS_AT_ONCE; i++) {
        uint8_t in[128], out[SNTP_LEN];
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(source->fd, in, sizeof in, MSG_DONTWAIT,
                             (struct sockaddr *)&from, &len);
        if (n < 0) {
            return;
        }
        int64_t received = clock_real(child->clock);
        if (served_find(child->served, source->network, ntohl(from.sin_addr.s_addr)) &&
            sntp_answer(in, (size_t)n, &host, received, clock_real(child->clock),
                        out)) {
            (void)!sendto(source->fd, out, sizeof out, MSG_DONTWAIT | MSG_NOSIGNAL,
                          (struct sockaddr *)&from, len);
        }
    }
}

/* ---- the agent's orders ------------------------------------------------------------
 */

static void
source_destroy(void *value)
{
    struct source *source = value;
    close(source->fd);
    free(source);
}

static void
listen_on(struct child *child, struct map *where, enum kind kind,
          const struct child_message *message, int *fd)
{
    struct source *source = xcalloc(1, sizeof *source);
    source->kind = kind;
    source->fd = take_fd(fd);
    memcpy(source->network, message->network, sizeof source->network);
    if (!watch(child, source, EPOLLIN, EPOLL_CTL_ADD)) {
        log_error("metadata: cannot watch a socket of %s", message->network);
        source_destroy(source);
        return;
    }
    map_put(where, message->network, source);
}

static void
unlisten(struct child *child, const char *network)
{
    map_del(child->http, network);
    map_del(child->time, network);
    for (struct conn *c = child->conns; c; c = c->next) {
        c->dead = c->dead || str_eq(c->source.network, network);
    }
}

static void
on_agent(struct child *child)
{
    struct child_message m;
    AUTO(fd) int fd = -1;
    struct err err = {0};
    int rc = child_receive(child->agent, &m, &fd);
    if (rc <= 0) {
        child->done = rc != -EINTR && rc != -EAGAIN; /* The agent is gone. */
        return;
    }
    switch ((enum child_what)m.what) {
    case CHILD_LISTEN:
        listen_on(child, child->http, LISTENER, &m, &fd);
        break;
    case CHILD_LISTEN_TIME:
        listen_on(child, child->time, TIME, &m, &fd);
        break;
    case CHILD_UNLISTEN:
        unlisten(child, m.network);
        break;
    case CHILD_PORT:
        if (!served_put(child->served, &m, fd, &err)) {
            log_error("metadata of %s: %s", m.port, err.msg);
            served_drop(child->served, m.port); /* Better none than yesterday's. */
        }
        break;
    case CHILD_UNPORT:
        served_drop(child->served, m.port);
        break;
    case CHILD_HELLO:
        break;
    }
}

/* ---- life --------------------------------------------------------------------------
 */

/* One round. A source may be freed by an order of the agent's, which therefore ends the
 * round: what else was ready is ready still. */
static void
turn(struct child *child)
{
    struct epoll_event events[64];
    int n = epoll_wait(child->epoll, events, ARRAY_LEN(events), 1000);
    for (int i = 0; i < n; i++) {
        struct source *source = events[i].data.ptr;
        switch (source->kind) {
        case AGENT:
            on_agent(child);
            i = n;
            break;
        case LISTENER:
            on_listener(child, source);
            break;
        case TIME:
            on_time(child, source);
            break;
        case CONNECTION:
            on_connection(child, (struct conn *)source, events[i].events);
            break;
        }
    }
    reap(child);
}

static bool
greet(struct child *child, struct err *err)
{
    struct child_message hello;
    AUTO(fd) int fd = -1;
    if (child_receive(child->agent, &hello, &fd) != 1 || hello.what != CHILD_HELLO) {
        return err_set(err, ERR_GONE, "no greeting from the agent");
    }
    memcpy(child->key, hello.key, sizeof child->key);
    return sandbox_enter(hello.uid, hello.gid, FDS_MAX, err);
}

void
metadata_child_main(void)
{
    struct err err = {0};
    struct child child = {.agent = CHILD_FD,
                          .epoll = epoll_create1(EPOLL_CLOEXEC),
                          .served = served_create(),
                          .http = map_create(source_destroy),
                          .time = map_create(source_destroy),
                          .clock = &clock_system,
                          .rng = &rng_system};
    struct source agent = {.kind = AGENT, .fd = CHILD_FD};
    if (child.epoll < 0 || !greet(&child, &err) ||
        !watch(&child, &agent, EPOLLIN, EPOLL_CTL_ADD)) {
        log_error("metadata child: %s", err.msg);
        child.done = true;
    }
    while (!child.done) {
        turn(&child);
    }
    while (child.conns) {
        conn_destroy(&child, child.conns);
    }
    map_destroy(child.http);
    map_destroy(child.time);
    served_destroy(child.served);
    /* At once: in this sandbox nothing that runs at exit (a leak checker) can work. */
    _exit(err.code == ERR_NONE ? 0 : 1);
}
