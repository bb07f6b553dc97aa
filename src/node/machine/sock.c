#include "node/machine/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

/* A long path is spelled through a descriptor of its folder, which '*out_dir_fd' keeps.
 */
static bool
address_of(const char *path, struct sockaddr_un *out, int *out_dir_fd, struct err *err)
{
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) < sizeof out->sun_path) {
        memcpy(out->sun_path, path, strlen(path) + 1);
        return true;
    }
    const char *name = strrchr(path, '/');
    if (!name || strlen(name) > 64) {
        return err_set(err, ERR_INVALID, "socket path %s is too long", path);
    }
    char *dir = xstrdup(path);
    dir[name - path] = '\0';
    int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    free(dir);
    if (fd < 0) {
        return err_sys(err, errno, "open the folder of %s", path);
    }
    snprintf(out->sun_path, sizeof out->sun_path, "/proc/self/fd/%d%s", fd, name);
    *out_dir_fd = fd;
    return true;
}

static int
new_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

bool
sock_listen(const char *path, int *out_fd, struct err *err)
{
    struct sockaddr_un addr;
    AUTO(fd) int dir_fd = -1;
    if (!address_of(path, &addr, &dir_fd, err)) {
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
    struct sockaddr_un addr;
    AUTO(fd) int dir_fd = -1;
    if (!address_of(path, &addr, &dir_fd, err)) {
        return false;
    }
    AUTO(fd) int fd = new_socket();
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0) {
        return err_sys(err, errno, "connect to %s", path);
    }
    *out_fd = take_fd(&fd);
    return true;
}
