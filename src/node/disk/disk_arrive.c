/* disk_arrive.c - disks that come from another node, as files: see disk.h. */
#include "base/file.h"
#include "base/log.h"
#include "node/disk/disk_impl.h"
#include "node/disk/qcow2.h"

#include <errno.h>
#include <fcntl.h>

static bool
is_awaited(const struct disk *d)
{
    return d && d->want && !d->deleted && !str_empty(d->want->incoming);
}

static const char *
base_of(const struct disk *d)
{
    return str_empty(d->want->base_blob) ? NULL : d->want->base_blob;
}

enum disk_arrival
disk_arrival(const struct disks *set, const char *id)
{
    const struct disk *d = disk_get(set, id);
    const struct disk_host *host = &set->config.host;
    if (!is_awaited(d) || (base_of(d) && !host->blob_ready(host->ctx, base_of(d)))) {
        return DISK_NOT_AWAITED;
    }
    return d->path                    ? DISK_IS_HERE
           : d->arriving || d->making ? DISK_COMES
           : d->message[0]            ? DISK_HAS_FAILED
                                      : DISK_AWAITED;
}

bool
disk_arrive(struct disks *set, const char *id, int *out_fd, struct err *err)
{
    struct disk *d = disk_get(set, id);
    if (!is_awaited(d) || d->path || d->making) {
        return err_set(err, ERR_INVALID, "disk %s is not awaited", id);
    }
    AUTO(free) char *part = disk_part_for(d);
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return err_sys(err, errno, "make %s", part);
    }
    d->arriving = true;
    d->message[0] = '\0';
    *out_fd = fd;
    return true;
}

void
disk_arrival_drop(struct disk *d)
{
    AUTO(free) char *part = xasprintf("%s/%s.part", d->set->dir, d->id);
    d->arriving = false;
    (void)unlink(part);
}

/* It must be what it is said to be before a guest, or a child that reads disks, has it. */
static bool
keep(const struct disk_work *k, struct err *err)
{
    int64_t size_bytes;
    if (!qcow2_size(k->part, &size_bytes, err)) {
        return false;
    }
    if (size_bytes < k->size_bytes) {
        return err_set(err, ERR_CORRUPT,
                       "a disk of %" PRId64 " bytes came, not %" PRId64, size_bytes,
                       k->size_bytes);
    }
    return file_move(k->part, k->path, err);
}

static void
keep_ended(struct disk *d, const struct disk_work *k)
{
    d->arriving = false;
    if (k->ok) {
        log_info("disk %s: has arrived", d->id);
    } else {
        (void)unlink(k->part);
    }
}

void
disk_arrived(struct disks *set, const char *id, bool whole)
{
    struct disk *d = disk_get(set, id);
    if (!d || !d->arriving || d->making) {
        return;
    }
    if (!whole || !is_awaited(d)) {
        disk_arrival_drop(d);
        return;
    }
    struct disk_work *k = disk_work_new(d, base_of(d));
    k->run = keep;
    k->ended = keep_ended;
    disk_work_start(k);
}
