/* unix_path.c - see unix_path.h. */
#include "base/unix_path.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

bool
unix_path_short(const char *path, char out[UNIX_PATH_MAX], int *out_dir_fd,
                struct err *err)
{
    if (strlen(path) < UNIX_PATH_MAX) {
        snprintf(out, UNIX_PATH_MAX, "%s", path);
        *out_dir_fd = -1;
        return true;
    }
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    if (!slash || strlen(name) > 64) {
        return err_set(err, ERR_INVALID, "socket name '%s' is too long", name);
    }
    AUTO(free) char *dir = strndup(path, (size_t)(slash - path));
    AUTO(fd) int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return err_sys(err, errno, "open '%s'", dir);
    }
    snprintf(out, UNIX_PATH_MAX, "/proc/self/fd/%d/%s", fd, name);
    *out_dir_fd = take_fd(&fd);
    return true;
}

/* Only a socket is removed: a mistyped path must not cost a file. */
static bool
unix_path_clear(const char *path, struct err *err)
{
    struct stat st;
    if (lstat(path, &st) < 0) {
        return errno == ENOENT ? true : err_sys(err, errno, "look at '%s'", path);
    }
    if (!S_ISSOCK(st.st_mode)) {
        return err_set(err, ERR_EXISTS, "'%s' is there and is no socket", path);
    }
    return unlink(path) == 0 ? true : err_sys(err, errno, "remove '%s'", path);
}

bool
unix_path_bind(const char *path, int *out_fd, struct err *err)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    AUTO(fd) int dir = -1;
    if (!unix_path_short(path, at.sun_path, &dir, err) || !unix_path_clear(path, err)) {
        return false;
    }
    AUTO(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return err_sys(err, errno, "make a unix socket");
    }
    if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0) {
        return err_sys(err, errno, "bind '%s'", path);
    }
    if (chmod(path, 0600) < 0) {
        return err_sys(err, errno, "set the mode of '%s'", path);
    }
    *out_fd = take_fd(&fd);
    return true;
}

bool
unix_peer_is_trusted(int fd, struct err *err)
{
    struct ucred who;
    socklen_t len = sizeof who;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0) {
        return err_sys(err, errno, "ask who is at the unix socket");
    }
    if (who.uid != 0 && who.uid != geteuid()) {
        return err_set(err, ERR_DENIED, "user %u is neither root nor our own", who.uid);
    }
    return true;
}
