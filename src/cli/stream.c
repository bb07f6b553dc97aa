#include "cli/stream.h"
#include "base/file.h"
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#define SILENCE_MS 2000

static bool
open_stream(struct cli *cli, const char *target, const char *protocol, int *out_fd,
            struct err *err)
{
    struct client *client = cli_tenant(cli, err);
    char code[96];
    return client &&
           client_upgrade(client, "moln-data", target, protocol, out_fd, code, err);
}

bool
stream_tunnel(struct cli *cli, const char *id, int port, int *out_fd, struct err *err)
{
    const char *target =
        arena_printf(cli->arena, "/moln-data/tunnel/%s?port=%d", id, port);
    return open_stream(cli, target, "moln-tunnel", out_fd, err);
}

bool
stream_console(struct cli *cli, const char *id, int *out_fd, struct err *err)
{
    const char *target = arena_printf(cli->arena, "/moln-data/console/%s", id);
    return open_stream(cli, target, "moln-console", out_fd, err);
}

/* One read and its write; false at the end or on an error. */
static bool
copy_some(int from, int to)
{
    char bytes[16384];
    ssize_t n = read(from, bytes, sizeof bytes);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return true;
    }
    return n > 0 && fd_write_all(to, bytes, (size_t)n) == 0;
}

void
stream_join(int in_fd, int out_fd, int socket_fd)
{
    struct pollfd fds[2] = {{.fd = in_fd, .events = POLLIN},
                            {.fd = socket_fd, .events = POLLIN}};
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            return;
        }
        if (fds[0].revents && !copy_some(in_fd, socket_fd)) {
            fds[0].fd = -1; /* Poll skips it from now on. */
            (void)shutdown(socket_fd, SHUT_WR);
        }
        if (fds[1].revents && !copy_some(socket_fd, out_fd)) {
            return;
        }
    }
}

void
stream_join_script(int in_fd, int out_fd, int socket_fd)
{
    struct pollfd fds[2] = {{.fd = in_fd, .events = POLLIN},
                            {.fd = socket_fd, .events = POLLIN}};
    for (;;) {
        bool input_ended = fds[0].fd < 0;
        int ready = poll(fds, 2, input_ended ? SILENCE_MS : -1);
        if (ready == 0 || (ready < 0 && errno != EINTR)) {
            return;
        }
        if (fds[0].revents && !copy_some(in_fd, socket_fd)) {
            fds[0].fd = -1;
        }
        if (fds[1].revents && !copy_some(socket_fd, out_fd)) {
            return;
        }
    }
}

/* Where the person is in typing the escape. */
struct escape {
    bool line_start, tilde;
};

/* Moves what was typed to 'out', less the escape; true when it is complete. */
static bool
filter_typed(struct escape *esc, const char *in, size_t len, char *out, size_t *out_len)
{
    *out_len = 0;
    for (size_t i = 0; i < len; i++) {
        char c = in[i];
        if (c == 0x1d || (esc->tilde && c == '.')) {
            return true;
        }
        if (esc->line_start && c == '~' && !esc->tilde) {
            esc->tilde = true; /* Held back until we know what follows. */
            continue;
        }
        if (esc->tilde && c != '~') {
            out[(*out_len)++] = '~';
        }
        esc->tilde = false;
        esc->line_start = c == '\r' || c == '\n';
        out[(*out_len)++] = c;
    }
    return false;
}

void
stream_join_terminal(int tty_in, int tty_out, int socket_fd)
{
    struct escape esc = {.line_start = true};
    struct pollfd fds[2] = {{.fd = tty_in, .events = POLLIN},
                            {.fd = socket_fd, .events = POLLIN}};
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            return;
        }
        if (fds[0].revents) {
            char typed[1024], send[2 * sizeof typed];
            size_t send_len;
            ssize_t n = read(tty_in, typed, sizeof typed);
            if (n <= 0 || filter_typed(&esc, typed, (size_t)n, send, &send_len) ||
                fd_write_all(socket_fd, send, send_len) != 0) {
                return;
            }
        }
        if (fds[1].revents && !copy_some(socket_fd, tty_out)) {
            return;
        }
    }
}
