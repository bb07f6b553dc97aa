/* http_upgrade.c - handing a connection over after "101 Switching Protocols".
 *
 * A plain socket is handed over itself: a duplicate of it, since the library closes its
 * own. Where bytes have been read ahead, or TLS lies between, a thread carries bytes
 * between the library's socket and one end of a pair. */
#include "base/file.h"
#include "wire/http_server.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#define CLOSE_WAIT_MS 200

struct relay {
    struct MHD_UpgradeResponseHandle *handle;
    int library; /* Closed by closing the handle. */
    int client;  /* A duplicate of the client's own socket. */
    int ours;
};

/* One way of the relay. */
struct way {
    int from, to;
    char data[16384];
    size_t begin, end;
    bool done; /* Nothing more to read, and all of it written. */
};

static void
way_move(struct way *way, short from_events, short to_events)
{
    if (way->begin == way->end && !way->done && (from_events & (POLLIN | POLLHUP))) {
        ssize_t n = recv(way->from, way->data, sizeof way->data, MSG_DONTWAIT);
        if (n > 0) {
            way->begin = 0;
            way->end = (size_t)n;
            to_events |= POLLOUT;
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            way->done = true;
        }
    }
    if (way->begin < way->end && (to_events & (POLLOUT | POLLERR | POLLHUP))) {
        ssize_t n = send(way->to, way->data + way->begin, way->end - way->begin,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            way->begin += (size_t)n;
        } else if (errno != EAGAIN && errno != EINTR) {
            way->begin = way->end;
            way->done = true;
        }
    }
}

static short
wanted(const struct way *in, const struct way *out)
{
    bool reads = !in->done && in->begin == in->end;
    bool writes = out->begin < out->end;
    return (short)((reads ? POLLIN : 0) | (writes ? POLLOUT : 0));
}

static void *
relay_run(void *ctx)
{
    struct relay *relay = ctx;
    struct way *up = xcalloc(2, sizeof *up), *down = up + 1;
    *up = (struct way){.from = relay->library, .to = relay->ours};
    *down = (struct way){.from = relay->ours, .to = relay->library};
    /* When our side has ended, and all it said is through, the client's ends too: TLS
     * has no half-closed connections that clients understand. */
    while (!down->done) {
        struct pollfd fds[] = {{relay->library, wanted(up, down), 0},
                               {relay->ours, wanted(down, up), 0}};
        /* A side that nothing is wanted of would only report its end, again and again.
         */
        fds[0].fd = fds[0].events ? fds[0].fd : -1;
        fds[1].fd = fds[1].events ? fds[1].fd : -1;
        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            break;
        }
        way_move(up, fds[0].revents, fds[1].revents);
        way_move(down, fds[1].revents, fds[0].revents);
    }
    free(up);
    close(relay->ours);
    (void)MHD_upgrade_action(relay->handle, MHD_UPGRADE_ACTION_CLOSE);
    /* Told of the end of our bytes and to close at once, the library now and then
     * forgets the second; the client must see its connection end all the same. */
    (void)poll(NULL, 0, CLOSE_WAIT_MS);
    (void)shutdown(relay->client, SHUT_RDWR);
    close(relay->client);
    free(relay);
    return NULL;
}

/* A socket whose far end a thread connects with 'sock'; -1: not to be had. */
static int
relay_start(struct MHD_UpgradeResponseHandle *handle, struct MHD_Connection *connection,
            int sock, const char *extra, size_t extra_len)
{
    int client = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)
                     ->connect_fd;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return -1;
    }
    struct relay *relay = xcalloc(1, sizeof *relay);
    *relay = (struct relay){handle, sock, fcntl(client, F_DUPFD_CLOEXEC, 3), pair[0]};
    pthread_t thread;
    if (fd_write_all(pair[0], extra, extra_len) != 0 ||
        pthread_create(&thread, NULL, relay_run, relay) != 0) {
        close(relay->client);
        free(relay);
        close(pair[0]);
        close(pair[1]);
        return -1;
    }
    pthread_detach(thread);
    return pair[1];
}

static void
upgraded(void *ctx UNUSED, struct MHD_Connection *connection, void *state,
         const char *extra, size_t extra_len, MHD_socket sock,
         struct MHD_UpgradeResponseHandle *handle)
{
    struct exchange *ex = state;
    http_upgraded_fn *fn = ex->answer.upgraded;
    int fd;
    if (ex->request.tls || extra_len) {
        fd = relay_start(handle, connection, sock, extra, extra_len);
    } else {
        fd = fcntl(sock, F_DUPFD_CLOEXEC, 3);
    }
    if (fd < 0 || (!ex->request.tls && !extra_len)) {
        (void)MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
    }
    fn(ex->answer.upgraded_ctx, fd);
}

struct MHD_Response *
upgrade_response(struct exchange *ex UNUSED)
{
    return MHD_create_response_for_upgrade(upgraded, NULL);
}
