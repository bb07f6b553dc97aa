/* file.c - see file.h. */
#include "base/file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define DEEPEST_TREE 64

int
fd_write_all(int fd, const void *data, size_t len)
{
    const char *p = data;
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

bool
file_read(const char *path, size_t limit, char **out, size_t *out_len, struct err *err)
{
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        return err_sys(err, errno, "reading %s", path);
    }
    /* Files of /proc say 0 and have bytes all the same: read to the end. */
    size_t cap = MIN(limit, (size_t)MAX(st.st_size, 1023)) + 1, len = 0;
    AUTO(free) char *data = xmalloc(cap + 1);
    for (;;) {
        ssize_t n = read(fd, data + len, cap - len);
        if (n < 0 && errno != EINTR) {
            return err_sys(err, errno, "reading %s", path);
        }
        if (n == 0) {
            break;
        }
        len += (size_t)MAX(n, 0);
        if (len > limit) {
            return err_set(err, ERR_TOO_LARGE, "%s is larger than %zu bytes", path,
                           limit);
        }
        if (len == cap) {
            cap = MIN(cap * 2, limit + 1);
            data = xrealloc(data, cap + 1);
        }
    }
    data[len] = '\0';
    *out = take_ptr(&data);
    if (out_len) {
        *out_len = len;
    }
    return true;
}

bool
file_sync_name(const char *path, struct err *err)
{
    const char *slash = strrchr(path, '/');
    AUTO(free)
    char *dir = slash == path ? xstrdup("/")
                : slash       ? xasprintf("%.*s", (int)(slash - path), path)
                              : xstrdup(".");
    AUTO(fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return (fd >= 0 && fsync(fd) == 0) || err_sys(err, errno, "sync %s", dir);
}

bool
file_move(const char *from, const char *to, struct err *err)
{
    return rename(from, to) == 0 ? file_sync_name(to, err)
                                 : err_sys(err, errno, "name %s", to);
}

static int
write_new(int fd, const void *data, size_t len, unsigned mode)
{
    int rc = fd_write_all(fd, data, len);
    if (rc == 0 && (fchmod(fd, (mode_t)mode) != 0 || fsync(fd) != 0)) {
        rc = -errno;
    }
    return rc;
}

bool
file_write(const char *path, const void *data, size_t len, unsigned mode,
           struct err *err)
{
    AUTO(free) char *tmp = xasprintf("%s.tmp.XXXXXX", path);
    AUTO(fd) int fd = mkostemp(tmp, O_CLOEXEC);
    if (fd < 0) {
        return err_sys(err, errno, "writing %s", path);
    }
    int rc = write_new(fd, data, len, mode);
    if (rc == 0 && rename(tmp, path) != 0) {
        rc = -errno;
    }
    if (rc != 0) {
        (void)unlink(tmp);
        return err_sys(err, rc, "writing %s", path);
    }
    return file_sync_name(path, err);
}

static int
make_one(const char *path, unsigned mode)
{
    struct stat st;
    if (mkdir(path, (mode_t)mode) == 0) {
        return 0;
    }
    int rc = -errno;
    return rc == -EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? 0 : rc;
}

bool
dir_make(const char *path, unsigned mode, struct err *err)
{
    AUTO(free) char *part = xstrdup(path);
    size_t len = strlen(part);
    for (size_t i = 1; i <= len; i++) {
        if (part[i] != '/' && part[i] != '\0') {
            continue;
        }
        part[i] = '\0';
        int rc = make_one(part, mode);
        if (rc != 0) {
            return err_sys(err, rc, "making folder %s", part);
        }
        part[i] = path[i];
    }
    return true;
}

void
dir_each(const char *path, dir_name_fn *fn, void *ctx)
{
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        fn(ctx, e->d_name);
    }
    if (dir) {
        (void)closedir(dir);
    }
}

static int remove_at(int parent, const char *name, int depth);

/* Empties the folder open as 'fd', which is closed. 0 or -errno. */
static int
empty_folder(int fd, int depth)
{
    DIR *dir = fdopendir(fd);
    if (!dir) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    int rc = 0;
    struct dirent *e;
    while (rc == 0 && (errno = 0, e = readdir(dir)) != NULL) {
        if (!str_eq(e->d_name, ".") && !str_eq(e->d_name, "..")) {
            rc = remove_at(dirfd(dir), e->d_name, depth + 1);
        }
    }
    rc = rc ? rc : -errno;
    closedir(dir);
    return rc;
}

static int
remove_at(int parent, const char *name, int depth)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) {
        return 0;
    }
    if (errno != EISDIR && errno != EPERM) {
        return -errno;
    }
    if (depth > DEEPEST_TREE) {
        return -ELOOP;
    }
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int rc = empty_folder(fd, depth);
    if (rc == 0 && unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT) {
        rc = -errno;
    }
    return rc;
}

bool
dir_remove(const char *path, struct err *err)
{
    int rc = remove_at(AT_FDCWD, path, 0);
    return rc == 0 || err_sys(err, rc, "removing %s", path);
}

bool
file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}
