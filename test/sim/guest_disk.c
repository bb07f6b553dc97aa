/* guest_disk.c - see guest_disk.h. The files are real, and the agent's own. */
#include "guest_disk.h"

#include <fcntl.h>
#include <sys/stat.h>

/* Behind all that a new disk has. */
#define MARK_AT ((off_t)MIB)

static unsigned marks;

/* Its name begins with the volume's id. */
static bool
is_disk(int fd, char out_id[48])
{
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    path[MAX(len, 0)] = '\0';
    const char *name = strrchr(path, '/');
    if (!name || !str_starts(name, "/vol-")) {
        return false;
    }
    snprintf(out_id, 48, "%.*s", (int)strcspn(name + 1, "+."), name + 1);
    return true;
}

void
guest_disk_open(struct guest *g, const struct jail_spec *spec)
{
    g->disk_fd = -1;
    for (size_t i = 0; i < spec->fd_count && g->disk_fd < 0; i++) {
        if (is_disk(spec->fds[i], g->disk_id)) {
            g->disk_fd = fcntl(spec->fds[i], F_DUPFD_CLOEXEC, 0);
        }
    }
}

void
guest_disk_close(struct guest *g)
{
    if (g->disk_fd >= 0) {
        close(g->disk_fd);
        g->disk_fd = -1;
    }
}

struct mark {
    char text[32];
};

static struct mark
find(const struct guest *g)
{
    struct mark mark = {{0}};
    if (pread(g->disk_fd, mark.text, sizeof mark.text - 1, MARK_AT) < 0) {
        sim_abort("a disk cannot be read");
    }
    return mark;
}

static void
leave(const struct guest *g, const struct mark *mark)
{
    if (pwrite(g->disk_fd, mark->text, sizeof mark->text, MARK_AT) !=
        sizeof mark->text) {
        sim_abort("a disk cannot be written");
    }
}

void
guest_disk_boot(struct guest *g)
{
    if (g->disk_fd < 0) {
        return;
    }
    const struct mark found = find(g);
    struct mark left = {{0}};
    snprintf(left.text, sizeof left.text, "mark-%u", ++marks);
    leave(g, &left);
    HISTORY(MOMENT_DISK, .host = g->host->number, .id = g->disk_id, .other = found.text,
            .state = left.text);
}

void
guest_disk_mirror(const struct guest *from, const struct guest *to)
{
    if (from->disk_fd >= 0 && to && to->disk_fd >= 0) {
        const struct mark mark = find(from);
        leave(to, &mark);
    }
}
