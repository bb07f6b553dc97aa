/* courier_shake.c - how two couriers meet: see courier.h, "Checks". */
#include "base/tlv.h"
#include "link/link.h"
#include "link/pki.h"
#include "node/migrate/courier_impl.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#define LET_IN_MS \
    60000              /* For the other one's local end: an emulator may be starting. */
#define LOCAL_MS 10000 /* For the local end to call. */

/* ---- waiting ---------------------------------------------------------- */

/* Until 'fd' is ready for 'events'; false when it was told to stop, or too late. */
static bool
wait_ready(struct courier *c, int fd, short events, int64_t deadline_ns,
           struct err *err)
{
    for (;;) {
        int64_t left = deadline_ns - clock_mono(c->self.clock);
        struct pollfd fds[] = {{.fd = fd, .events = events},
                               {.fd = c->stop_fd, .events = POLLIN}};
        int n = left <= 0 ? 0 : poll(fds, 2, (int)(left / NS_PER_MS) + 1);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return err_set(err, ERR_TIMEOUT, "node %s did not answer in time", c->peer);
        }
        return fds[1].revents == 0 || err_set(err, ERR_GONE, "given up");
    }
}

static bool
wire_flush(struct courier *c, int64_t deadline_ns, struct err *err)
{
    struct buf *out = tls_wire(c->tls);
    while (out->len > 0) {
        ssize_t n = send(c->wire_fd, out->data, out->len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            buf_drop_front(out, (size_t)n);
        } else if (errno != EAGAIN && errno != EINTR) {
            return err_sys(err, errno, "send to node %s", c->peer);
        } else if (!wait_ready(c, c->wire_fd, POLLOUT, deadline_ns, err)) {
            return false;
        }
    }
    return true;
}

/* Takes what the wire has into 'plain', waiting for it. */
static bool
wire_take(struct courier *c, int64_t deadline_ns, struct err *err)
{
    char data[16384];
    if (!wait_ready(c, c->wire_fd, POLLIN, deadline_ns, err)) {
        return false;
    }
    ssize_t n = recv(c->wire_fd, data, sizeof data, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return true;
    }
    if (n <= 0) {
        return n < 0 ? err_sys(err, errno, "read from node %s", c->peer)
                     : err_set(err, ERR_GONE, "node %s hung up", c->peer);
    }
    bool fed = tls_feed(c->tls, data, (size_t)n, &c->plain, err);
    struct err ignored = {0};
    return wire_flush(c, deadline_ns, fed ? err : &ignored) && fed; /* An alert, too. */
}

/* ---- who is there ------------------------------------------------------ */

static bool
prove(struct courier *c, struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    AUTO(pki_verifier)
    struct pki_verifier *verifier = pki_verifier_create(c->self.ca_pem, err);
    struct blob chain[8];
    struct pki_cert cert;
    size_t count = tls_peer_chain(c->tls, chain, ARRAY_LEN(chain));
    if (!verifier || !pki_verify(verifier, chain, count, PKI_NODE,
                                 clock_real(c->self.clock), arena, &cert, err)) {
        return false;
    }
    return str_eq(cert.node_id, c->peer) ||
           err_set(err, ERR_DENIED, "node %s is there in place of %s", cert.node_id,
                   c->peer);
}

bool
courier_shake(struct courier *c, int64_t deadline_ns, struct err *err)
{
    AUTO(tls_context)
    struct tls_context *context =
        tls_context_create(c->received, c->self.cert_pem, c->self.key_pem, err);
    if (!context || !(c->tls = tls_create(context, (struct blob){0}, err))) {
        return false;
    }
    if (!c->received && !tls_feed(c->tls, "", 0, &c->plain, err)) {
        return false;
    }
    while (!tls_is_up(c->tls)) {
        if (!wire_flush(c, deadline_ns, err) || !wire_take(c, deadline_ns, err)) {
            return false;
        }
    }
    return wire_flush(c, deadline_ns, err) && prove(c, err);
}

/* Says what it carries, and waits to be let in: one byte. */
bool
courier_say_hello(struct courier *c, struct err *err)
{
    int64_t deadline_ns = clock_mono(c->self.clock) + LET_IN_MS * NS_PER_MS;
    AUTO(buf) struct buf body = {0};
    struct link_courier_hello hello = {.migration_id = c->migration,
                                       .stream = c->stream};
    tlv_encode(&link_courier_hello_desc, &hello, &body);
    uint8_t len = (uint8_t)body.len;
    if (body.len > UINT8_MAX || !tls_send(c->tls, &len, 1, err) ||
        !tls_send(c->tls, body.data, body.len, err)) {
        return false;
    }
    while (c->plain.len == 0) {
        if (!wire_flush(c, deadline_ns, err) || !wire_take(c, deadline_ns, err)) {
            return false;
        }
    }
    buf_drop_front(&c->plain, 1);
    return true;
}

bool
courier_read_hello(const void *data, size_t len, const char *migration_id,
                   char out_stream[COURIER_STREAM_MAX], size_t *out_len,
                   struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    const uint8_t *bytes = data;
    struct link_courier_hello hello;
    if (len < 1 || len < 1u + bytes[0]) {
        *out_len = 0;
        return true;
    }
    if (!tlv_decode(&link_courier_hello_desc, bytes + 1, bytes[0], arena, &hello,
                    err)) {
        return false;
    }
    if (!str_eq(hello.migration_id, migration_id)) {
        return err_set(err, ERR_DENIED, "it speaks of another migration");
    }
    if (str_empty(hello.stream) || strlen(hello.stream) >= COURIER_STREAM_MAX) {
        return err_set(err, ERR_INVALID, "it does not say what it carries");
    }
    snprintf(out_stream, COURIER_STREAM_MAX, "%s", hello.stream);
    *out_len = 1u + bytes[0];
    return true;
}

bool
courier_hear_hello(struct courier *c, int64_t deadline_ns, struct err *err)
{
    size_t len = 0;
    do {
        if (!courier_read_hello(c->plain.data, c->plain.len, c->migration, c->stream,
                                &len, err) ||
            (len == 0 && !wire_take(c, deadline_ns, err))) {
            return false;
        }
    } while (len == 0);
    buf_drop_front(&c->plain, len);
    return true;
}

/* Until the loop has given it a local end. The other one says nothing until it is let in:
 * what comes is its end. */
bool
courier_wait_joined(struct courier *c, struct err *err)
{
    struct pollfd fds[] = {{.fd = c->join_fd, .events = POLLIN},
                           {.fd = c->stop_fd, .events = POLLIN},
                           {.fd = c->wire_fd, .events = POLLIN}};
    while (poll(fds, ARRAY_LEN(fds), -1) < 0) {
        if (errno != EINTR) {
            return err_sys(err, errno, "wait");
        }
    }
    if (fds[1].revents || !fds[0].revents) {
        return fds[1].revents ? err_set(err, ERR_GONE, "given up")
                              : err_set(err, ERR_GONE, "node %s hung up", c->peer);
    }
    return true;
}

bool
courier_let_in(struct courier *c, int64_t deadline_ns, struct err *err)
{
    return tls_send(c->tls, "!", 1, err) && wire_flush(c, deadline_ns, err);
}

bool
courier_dial(struct courier *c, int64_t deadline_ns, struct err *err)
{
    c->wire_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->wire_fd < 0) {
        return err_sys(err, errno, "make a socket");
    }
    if (connect(c->wire_fd, (struct sockaddr *)&c->to, sizeof c->to) == 0) {
        return true;
    }
    int sys = errno;
    socklen_t len = sizeof sys;
    if (sys == EINPROGRESS) {
        if (!wait_ready(c, c->wire_fd, POLLOUT, deadline_ns, err)) {
            return false;
        }
        (void)getsockopt(c->wire_fd, SOL_SOCKET, SO_ERROR, &sys, &len);
    }
    return sys == 0 || err_sys(err, sys, "connect to node %s", c->peer);
}

/* The local end calls at the socket that listens. */
bool
courier_meet_local(struct courier *c, struct err *err)
{
    if (!wait_ready(c, c->local_fd, POLLIN,
                    clock_mono(c->self.clock) + LOCAL_MS * NS_PER_MS, err)) {
        return false;
    }
    int fd = accept4(c->local_fd, NULL, NULL, SOCK_CLOEXEC);
    close(c->local_fd);
    c->local_fd = fd;
    return fd >= 0 || err_sys(err, errno, "meet the emulator");
}
