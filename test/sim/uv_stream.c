/* uv_stream.c - TCP among the processes of the world. See uv_sim.h.
 *
 * A connection is two wires, one at each end. Bytes go in order, each piece with a delay
 * of its own; a host that is cut off holds them back until it is reachable again, as TCP
 * would; a reset loses what is on its way. */
#include "host.h"
#include "uv_sim.h"

#include "base/buf.h"

#include <arpa/inet.h>

struct connection;

/* One end of a connection. */
struct wire {
    struct connection *connection;
    struct wire *peer;
    struct process *process;
    uv_stream_t *stream; /* NULL: not accepted yet, or closed. */
    bool open;
    bool reset;                 /* What is on its way is lost. */
    int error;                  /* To be read once: UV_EOF, UV_ECONNRESET. */
    struct buf in;              /* Arrived, and not read. */
    struct piece *first, *last; /* On their way here. */
    int64_t last_at_ns;         /* When the last piece arrives at this end. */
};

/* Lives until both ends are closed and nothing is on its way. */
struct connection {
    struct wire ends[2];
    int refs;
};

/* Something on its way to 'to': bytes, or the end. */
struct piece {
    struct piece *next;
    struct wire *to;
    int error; /* 0: bytes. */
    struct buf bytes;
};

struct listener {
    uv_stream_t *stream;
    struct process *process;
    int port;
    VEC(struct wire *) waiting; /* To be accepted. */
};

static VEC(struct listener *) listeners;

static struct wire *
wire_of(const uv_stream_t *stream)
{
    return stream->u.reserved[1];
}

static struct listener *
listener_of(const uv_stream_t *stream)
{
    return stream->u.reserved[2];
}

static void
wire_ref(struct wire *w)
{
    w->connection->refs++;
}

static void
wire_unref(struct wire *w)
{
    struct connection *c = w->connection;
    if (--c->refs == 0) {
        buf_fini(&c->ends[0].in);
        buf_fini(&c->ends[1].in);
        free(c);
    }
}

/* ---- what was asked for ---------------------------------------------------------- */

/* A write, a shutdown or a connection under way. A stream that is closed answers them all,
 * before its own callback. */
struct asked {
    struct asked *next;
    uv_stream_t *stream;
    struct event *event;
    union {
        uv_write_t *write;
        uv_shutdown_t *shutdown;
        uv_connect_t *connect;
    } req;
    uv_req_type type;
    int status;
};

static struct asked **
asked_of(uv_stream_t *stream)
{
    return (struct asked **)&stream->u.reserved[0];
}

static void
answer(struct asked *a, int status)
{
    switch (a->type) {
    case UV_WRITE:
        a->req.write->cb(a->req.write, status);
        break;
    case UV_SHUTDOWN:
        a->req.shutdown->cb(a->req.shutdown, status);
        break;
    default:
        a->req.connect->cb(a->req.connect, status);
        break;
    }
}

static void
unlink_asked(struct asked *a)
{
    struct asked **at = asked_of(a->stream);
    while (*at != a) {
        at = &(*at)->next;
    }
    *at = a->next;
}

static void
on_answer(void *ctx)
{
    struct asked *a = ctx;
    unlink_asked(a);
    answer(a, a->status);
    free(a);
}

static struct asked *
ask(uv_stream_t *stream, uv_req_type type, void *req, int status, event_fn *fn,
    int64_t delay_ns)
{
    struct asked *a = xcalloc(1, sizeof *a);
    *a = (struct asked){.next = *asked_of(stream),
                        .stream = stream,
                        .req.write = req,
                        .type = type,
                        .status = status};
    *asked_of(stream) = a;
    a->event = world_after(process_of(stream->loop), delay_ns, fn, a);
    return a;
}

void
uv_sim_stream_cancel(uv_stream_t *stream)
{
    while (*asked_of(stream)) {
        struct asked *a = *asked_of(stream);
        *asked_of(stream) = a->next;
        world_cancel(a->event);
        answer(a, UV_ECANCELED);
        free(a);
    }
}

/* ---- reading --------------------------------------------------------------------- */

static bool
wire_reads(const struct wire *w)
{
    return w->open && w->stream && w->stream->read_cb;
}

/* Hands over what has arrived, for as long as it is read. */
static void
wire_hand_over(struct wire *w)
{
    wire_ref(w);
    while (w->in.len && wire_reads(w)) {
        uv_buf_t room = {0};
        uv_stream_t *stream = w->stream;
        stream->alloc_cb((uv_handle_t *)stream, 65536, &room);
        size_t n = MIN(room.len, w->in.len);
        memcpy(room.base, w->in.data, n);
        buf_drop_front(&w->in, n);
        if (!w->in.len) {
            buf_fini(&w->in); /* There may be a hundred thousand. */
        }
        stream->read_cb(stream, (ssize_t)n, &room);
    }
    if (w->error && !w->in.len && wire_reads(w)) {
        int error = w->error;
        w->error = 0;
        w->stream->read_cb(w->stream, error, &(uv_buf_t){0});
    }
    wire_unref(w);
}

static void
on_hand_over(void *ctx)
{
    struct wire *w = ctx;
    wire_hand_over(w);
    wire_unref(w);
}

int
uv_read_start(uv_stream_t *stream, uv_alloc_cb alloc, uv_read_cb read)
{
    struct wire *w = wire_of(stream);
    stream->alloc_cb = alloc;
    stream->read_cb = read;
    if (w && (w->in.len || w->error)) {
        wire_ref(w);
        (void)world_after(w->process, 0, on_hand_over, w);
    }
    return w ? 0 : UV_ENOTCONN;
}

/* ---- on the way ------------------------------------------------------------------ */

static bool
is_cut(const struct process *p)
{
    return p->host && host_is_cut(p->host);
}

static struct piece *
take_first(struct wire *to)
{
    struct piece *piece = to->first;
    to->first = piece->next;
    if (!to->first) {
        to->last = NULL;
    }
    return piece;
}

static void piece_to(struct wire *to, int error, const void *data, size_t len);

static void
hand_in(void *ctx)
{
    struct piece *piece = ctx;
    struct wire *to = piece->to;
    buf_put(&to->in, piece->bytes.data, piece->bytes.len);
    to->error = piece->error ? piece->error : to->error;
    wire_hand_over(to);
}

/* The next piece is here; each event brings one, in the order in which they were sent. The
 * receiver may be dead, closed, or out of reach. */
static void
on_arrival(void *ctx)
{
    struct wire *to = ctx;
    if (is_cut(to->process) || is_cut(to->peer->process)) {
        const struct host *host =
            is_cut(to->process) ? to->process->host : to->peer->process->host;
        (void)world_after(NULL, host_cut_until(host) - world_now() + 1, on_arrival, to);
        return;
    }
    if (!to->process->dead && process_is_stopped(to->process)) {
        (void)world_after(NULL, to->process->stopped_until_ns - world_now(), on_arrival,
                          to);
        return;
    }
    struct piece *piece = take_first(to);
    if (to->open && to->reset) {
        ; /* Lost. */
    } else if (to->open && !to->process->dead) {
        process_run(to->process, hand_in, piece);
    } else if (!piece->error && !to->process->dead && to->peer->open) {
        piece_to(to->peer, UV_ECONNRESET, NULL, 0);
    }
    buf_fini(&piece->bytes);
    free(piece);
    wire_unref(to);
}

static void
piece_to(struct wire *to, int error, const void *data, size_t len)
{
    struct piece *piece = xcalloc(1, sizeof *piece);
    piece->to = to;
    piece->error = error;
    buf_put(&piece->bytes, data, len);
    *(to->last ? &to->last->next : &to->first) = piece;
    to->last = piece;
    wire_ref(to);
    int64_t delay = world_between(CHANCE_ORDER, 20 * NS_PER_US, uv_sim_speed.wire_ns);
    to->last_at_ns = MAX(to->last_at_ns, world_now() + delay);
    (void)world_after(NULL, to->last_at_ns - world_now(), on_arrival, to);
}

/* ---- writing --------------------------------------------------------------------- */

int
uv_write(uv_write_t *req, uv_stream_t *stream, const uv_buf_t bufs[], unsigned count,
         uv_write_cb cb)
{
    process_calls();
    struct wire *w = wire_of(stream);
    if (!w || count != 1) {
        return UV_ENOTCONN;
    }
    req->handle = stream;
    req->cb = cb;
    bool heard = w->open && w->peer->open;
    if (heard) {
        piece_to(w->peer, 0, bufs[0].base, bufs[0].len);
    }
    (void)ask(stream, UV_WRITE, req, heard ? 0 : UV_EPIPE, on_answer,
              world_between(CHANCE_ORDER, 1, 50 * NS_PER_US));
    return 0;
}

int
uv_shutdown(uv_shutdown_t *req, uv_stream_t *stream, uv_shutdown_cb cb)
{
    struct wire *w = wire_of(stream);
    if (!w) {
        return UV_ENOTCONN;
    }
    req->handle = stream;
    req->cb = cb;
    if (w->peer->open) {
        piece_to(w->peer, UV_EOF, NULL, 0);
    }
    (void)ask(stream, UV_SHUTDOWN, req, 0, on_answer, 0);
    return 0;
}

/* ---- ends ------------------------------------------------------------------------ */

static void
wire_forget(struct wire *w)
{
    struct process *p = w->process;
    for (size_t i = 0; i < p->wires.count; i++) {
        if (p->wires.items[i] == w) {
            p->wires.items[i] = p->wires.items[--p->wires.count];
            return;
        }
    }
}

/* This end is gone; the other hears of it unless it went silently. */
static void
wire_close(struct wire *w, int error)
{
    if (!w->open) {
        return;
    }
    w->open = false;
    w->stream = NULL;
    if (error && w->peer->open) {
        piece_to(w->peer, error, NULL, 0);
    }
    wire_forget(w);
    wire_unref(w);
}

void
uv_sim_stream_closed(uv_stream_t *stream)
{
    struct wire *w = wire_of(stream);
    struct listener *l = listener_of(stream);
    stream->read_cb = NULL;
    if (w) {
        stream->u.reserved[1] = NULL;
        wire_close(w, UV_EOF);
    }
    if (l) {
        l->stream = NULL;
    }
}

void
wires_of_dead(struct process *p, bool silent)
{
    while (p->wires.count) {
        wire_close(p->wires.items[p->wires.count - 1], silent ? 0 : UV_ECONNRESET);
    }
    for (size_t i = 0; i < listeners.count; i++) {
        if (listeners.items[i]->process == p) {
            listeners.items[i]->stream = NULL;
        }
    }
}

static void
reset_both(struct wire *w)
{
    struct wire *ends[] = {w, w->peer};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        struct wire *end = ends[i];
        if (end->open && !end->process->dead) {
            buf_clear(&end->in);
            end->reset = true;
            end->error = UV_ECONNRESET;
            wire_ref(end);
            (void)world_after(end->process, 0, on_hand_over, end);
        }
    }
}

static void
reset_of(struct process *p)
{
    for (size_t i = 0; i < p->wires.count; i++) {
        reset_both(p->wires.items[i]);
    }
}

void
wires_reset(const struct host *host)
{
    host_each_process(host, reset_of);
}

/* ---- connecting ------------------------------------------------------------------ */

int
uv_tcp_init(uv_loop_t *loop, uv_tcp_t *tcp)
{
    uv_sim_handle_init(loop, (uv_handle_t *)tcp, UV_TCP);
    tcp->read_cb = NULL;
    return 0;
}

int
uv_tcp_nodelay(uv_tcp_t *tcp UNUSED, int enable UNUSED)
{
    return 0;
}

static int
port_of(const struct sockaddr *addr)
{
    return ntohs(((const struct sockaddr_in *)addr)->sin_port);
}

int
uv_tcp_bind(uv_tcp_t *tcp, const struct sockaddr *addr, unsigned flags UNUSED)
{
    struct listener *l = xcalloc(1, sizeof *l);
    l->process = process_of(tcp->loop);
    l->port = port_of(addr);
    tcp->u.reserved[2] = l;
    return 0;
}

int
uv_listen(uv_stream_t *stream, int backlog UNUSED, uv_connection_cb cb)
{
    struct listener *l = listener_of(stream);
    l->stream = stream;
    stream->connection_cb = cb;
    VEC_PUSH(&listeners, l);
    return 0;
}

static struct listener *
listener_at(int port)
{
    for (size_t i = listeners.count; i-- > 0;) {
        struct listener *l = listeners.items[i];
        if (l->stream && l->port == port && !l->process->dead) {
            return l;
        }
    }
    return NULL;
}

static void
wire_init(struct wire *w, struct connection *c, struct wire *peer, struct process *p)
{
    w->connection = c;
    w->peer = peer;
    w->process = p;
    w->open = true;
    wire_ref(w);
    VEC_PUSH(&p->wires, w);
}

int
uv_accept(uv_stream_t *server, uv_stream_t *client)
{
    struct listener *l = listener_of(server);
    if (!l->waiting.count) {
        return UV_EAGAIN;
    }
    struct wire *w = l->waiting.items[0];
    memmove(l->waiting.items, l->waiting.items + 1,
            --l->waiting.count * sizeof *l->waiting.items);
    w->stream = client;
    client->u.reserved[1] = w;
    return 0;
}

static void
on_incoming(void *ctx)
{
    struct listener *l = ctx;
    if (l->stream && l->waiting.count) {
        l->stream->connection_cb(l->stream, 0);
    }
}

static void
on_connect(void *ctx)
{
    struct asked *a = ctx;
    struct process *p = process_of(a->stream->loop);
    uv_stream_t *stream = a->stream;
    if (uv_is_closing((uv_handle_t *)stream)) { /* In the same moment, and before. */
        a->event = NULL;                        /* Its close answers. */
        return;
    }
    if (is_cut(p)) { /* It goes on trying. */
        a->event = world_after(p, NS_PER_S, on_connect, a);
        return;
    }
    struct listener *l = listener_at((int)(intptr_t)stream->u.reserved[3]);
    if (l) {
        struct connection *c = xcalloc(1, sizeof *c);
        struct wire *near = &c->ends[0], *far = &c->ends[1];
        wire_init(near, c, far, p);
        wire_init(far, c, near, l->process);
        near->stream = stream;
        stream->u.reserved[1] = near;
        VEC_PUSH(&l->waiting, far);
        (void)world_after(l->process, 0, on_incoming, l);
    }
    a->status = l ? 0 : UV_ECONNREFUSED;
    on_answer(a);
}

int
uv_tcp_connect(uv_connect_t *req, uv_tcp_t *tcp, const struct sockaddr *addr,
               uv_connect_cb cb)
{
    process_calls();
    uv_stream_t *stream = (uv_stream_t *)tcp;
    req->handle = stream;
    req->cb = cb;
    tcp->u.reserved[3] = (void *)(intptr_t)port_of(addr);
    (void)ask(stream, UV_CONNECT, req, 0, on_connect,
              world_between(CHANCE_ORDER, 1, uv_sim_speed.wire_ns));
    return 0;
}

/* ---- names ----------------------------------------------------------------------- */

int
uv_ip4_addr(const char *ip, int port, struct sockaddr_in *addr)
{
    *addr =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return inet_pton(AF_INET, ip, &addr->sin_addr) == 1 ? 0 : UV_EINVAL;
}

int
uv_ip6_addr(const char *ip, int port, struct sockaddr_in6 *addr)
{
    *addr = (struct sockaddr_in6){.sin6_family = AF_INET6,
                                  .sin6_port = htons((uint16_t)port)};
    return inet_pton(AF_INET6, ip, &addr->sin6_addr) == 1 ? 0 : UV_EINVAL;
}

int
uv_ip_name(const struct sockaddr *addr, char *out, size_t size)
{
    const void *at = addr->sa_family == AF_INET6
                         ? (const void *)&((const struct sockaddr_in6 *)addr)->sin6_addr
                         : (const void *)&((const struct sockaddr_in *)addr)->sin_addr;
    return inet_ntop(addr->sa_family, at, out, (socklen_t)size) ? 0 : UV_EINVAL;
}

int
uv_tcp_getpeername(const uv_tcp_t *tcp, struct sockaddr *name, int *len UNUSED)
{
    const struct wire *w = wire_of((const uv_stream_t *)tcp);
    const struct host *host = w ? w->peer->process->host : NULL;
    return uv_ip4_addr(host ? host_address(host) : "10.99.0.1", 40000,
                       (struct sockaddr_in *)name);
}

int
uv_tcp_getsockname(const uv_tcp_t *tcp, struct sockaddr *name, int *len UNUSED)
{
    const struct listener *l = listener_of((const uv_stream_t *)tcp);
    return uv_ip4_addr("10.99.0.1", l ? l->port : 0, (struct sockaddr_in *)name);
}

/* ---- what the code can do, and the simulation does not let it do ------------------ */

int
uv_pipe_init(uv_loop_t *loop UNUSED, uv_pipe_t *pipe UNUSED, int ipc UNUSED)
{
    sim_abort("pipes are not simulated");
}

int
uv_pipe_open(uv_pipe_t *pipe UNUSED, uv_file file UNUSED)
{
    sim_abort("pipes are not simulated");
}

void
uv_pipe_connect(uv_connect_t *req UNUSED, uv_pipe_t *pipe UNUSED,
                const char *name UNUSED, uv_connect_cb cb UNUSED)
{
    sim_abort("pipes are not simulated");
}

int
uv_fileno(const uv_handle_t *handle UNUSED, uv_os_fd_t *fd UNUSED)
{
    sim_abort("descriptors of streams are not simulated");
}

int
uv_getaddrinfo(uv_loop_t *loop UNUSED, uv_getaddrinfo_t *req UNUSED,
               uv_getaddrinfo_cb cb UNUSED, const char *node UNUSED,
               const char *service UNUSED, const struct addrinfo *hints UNUSED)
{
    sim_abort("names are not simulated");
}

void
uv_freeaddrinfo(struct addrinfo *list UNUSED)
{
}
