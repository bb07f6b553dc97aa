#include "node/machine/sock.h"

#include "base/unix_path.h"
#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

static int
new_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

bool
sock_listen(const char *path, int *out_fd, struct err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    AUTO(fd) int dir_fd = -1;
    if (!unix_path_short(path, addr.sun_path, &dir_fd, err)) {
        return false;
    }
    AUTO(fd) int fd = new_socket();
    (void)unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 ||
        listen(fd, 4) < 0) {
        return err_sys(err, errno, "listen at %s", path);
    }
    *out_fd = take_fd(&fd);
    return true;
}

bool
sock_connect(const char *path, int *out_fd, struct err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    AUTO(fd) int dir_fd = -1;
    if (!unix_path_short(path, addr.sun_path, &dir_fd, err)) {
        return false;
    }
    AUTO(fd) int fd = new_socket();
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0) {
        return err_sys(err, errno, "connect to %s", path);
    }
    *out_fd = take_fd(&fd);
    return true;
}
