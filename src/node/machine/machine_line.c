/* machine_line.c - the conversation with an emulator that may outlive its agent: see machine.h.
 *
 * An agent that has just come would open a conversation of its own, which QEMU's main loop
 * greets. While that waits for memory that follows the guest it greets nobody; and memory can
 * come again only over sockets that the emulator was given before. So our ends of those, and of the
 * conversation itself, are left with the emulator, and taken from it. */
#include "base/log.h"
#include "node/machine/machine_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* The emulator's number of the socket; -1: it does not have it. */
static int
find_number(pid_t pid, int64_t inode)
{
    char path[64], wanted[48], found[48];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    snprintf(wanted, sizeof wanted, "socket:[%" PRId64 "]", inode);
    DIR *dir = opendir(path);
    int number = -1;
    if (!dir) {
        return -1;
    }
    for (struct dirent *e; number < 0 && (e = readdir(dir));) {
        ssize_t n = readlinkat(dirfd(dir), e->d_name, found, sizeof found - 1);
        found[MAX(n, 0)] = '\0';
        number = str_eq(found, wanted) ? atoi(e->d_name) : -1;
    }
    (void)closedir(dir);
    return number;
}

static bool
take_back(const struct machine *m, int64_t inode, int *out_fd, struct err *err)
{
    int number = m->pidfd >= 0 ? find_number(m->pid, inode) : -1;
    if (number < 0) {
        return err_set(err, ERR_NOT_FOUND, "the emulator has no socket %" PRId64,
                       inode);
    }
    int fd = (int)syscall(SYS_pidfd_getfd, m->pidfd, number, 0);
    struct stat is;
    if (fd < 0) {
        return err_sys(err, errno, "take a socket from the emulator");
    }
    if (fstat(fd, &is) < 0 || (int64_t)is.st_ino != inode) { /* It changed meanwhile. */
        close(fd);
        return err_set(err, ERR_NOT_FOUND, "the emulator has no socket %" PRId64 " now",
                       inode);
    }
    *out_fd = fd; /* Close-on-exec, as such a copy is made. */
    return true;
}

bool
machine_line_take(const struct machine *m, int *out_fd)
{
    struct err err = {0};
    if (m->record.left_line == 0) {
        return false;
    }
    if (!take_back(m, m->record.left_line, out_fd, &err)) {
        log_warn("machine %s: %s", m->id, err.msg);
        return false;
    }
    return true;
}

static bool
inode_of(int fd, int64_t *out, struct err *err)
{
    struct stat is;
    if (fstat(fd, &is) < 0) {
        return err_sys(err, errno, "look at a socket");
    }
    *out = (int64_t)is.st_ino;
    return true;
}

bool
machines_leave(struct machines *set, const char *id, int fd, int *out_line_fd,
               struct err *err)
{
    struct machine *m = map_get(set->map, id);
    int64_t line = 0, other = 0;
    if (!m || !m->qmp) {
        return err_set(err, ERR_GONE, "there is no emulator to leave anything with");
    }
    if (!inode_of(qmp_fd(m->qmp), &line, err) || !inode_of(fd, &other, err)) {
        return false;
    }
    m->record.left_line = line;
    m->record.left_other = other;
    machine_save(m);
    *out_line_fd = qmp_fd(m->qmp);
    return true;
}

bool
machines_left(const struct machines *set, const char *id, int *out_fd, struct err *err)
{
    const struct machine *m = map_get(set->map, id);
    if (!m || m->record.left_other == 0) {
        return err_set(err, ERR_NOT_FOUND, "nothing was left with the emulator");
    }
    return take_back(m, m->record.left_other, out_fd, err);
}

void
machines_left_nothing(struct machines *set, const char *id)
{
    struct machine *m = map_get(set->map, id);
    if (m && m->record.left_line != 0) {
        m->record.left_line = m->record.left_other = 0;
        machine_save(m);
    }
}
