#include "cli/forward.h"
#include "cli/stream.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>

static bool
listen_local(int port, int *out_fd, int *out_port, struct err *err)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int on = 1;
    AUTO(fd) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&addr, sizeof addr) != 0 || listen(fd, 16) != 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) != 0) {
        return err_sys(err, errno, "listen on 127.0.0.1:%d", port);
    }
    *out_port = ntohs(addr.sin_port);
    *out_fd = take_fd(&fd);
    return true;
}

/* In a process of its own: opens the tunnel and carries bytes to the end. */
static NORETURN void
serve(struct cli *cli, const char *id, int port, int client_fd)
{
    struct err err = {0};
    int fd;
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    cli->tenant = NULL; /* The parent's connection is not ours to use. */
    if (!stream_tunnel(cli, id, port, &fd, &err)) {
        (void)fprintf(stderr, "moln: %s\n", err.msg);
        _exit(1);
    }
    stream_join(client_fd, client_fd, fd);
    _exit(0);
}

bool
forward_run(struct cli *cli, const char *id, int port, int local, struct err *err)
{
    AUTO(fd) int listener = -1;
    if (!listen_local(local, &listener, &local, err)) {
        return false;
    }
    (void)signal(SIGCHLD, SIG_IGN); /* Children need no farewell. */
    printf("127.0.0.1:%d is port %d of %s; ^C ends it\n", local, port, id);
    (void)fflush(stdout);
    for (;;) {
        AUTO(fd) int client_fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (client_fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED) {
                continue;
            }
            return err_sys(err, errno, "accept on 127.0.0.1:%d", local);
        }
        pid_t child = fork();
        if (child == 0) {
            close(listener);
            serve(cli, id, port, client_fd);
        }
        if (child < 0) {
            (void)fprintf(stderr, "moln: cannot start a process for a connection\n");
        }
    }
}
