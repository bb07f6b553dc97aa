#include "base/vfio.h"
#include "node/agent_impl.h"

#include <stddef.h>

/* ---- machines -------------------------------------------------------------------------- */

static bool
host_disk_ready(void *ctx, const char *disk_id)
{
    const struct agent *a = ctx;
    return disk_ready(a->disks, disk_id) && !jobs_use_disk(a->jobs, disk_id);
}

static bool
host_port_ready(void *ctx, const char *port_id)
{
    return agent_port_ready(ctx, port_id);
}

static bool
host_blob_ready(void *ctx, const char *blob_id)
{
    return blob_ready(((struct agent *)ctx)->blobs, blob_id);
}

static bool
host_disk_open(void *ctx, const char *disk_id, struct arena *arena UNUSED,
               struct machine_disk_files *out, struct err *err)
{
    struct agent *a = ctx;
    const char *path, *base;
    struct machine_disk_files files = {.base_fd = -1, .base_format = "qcow2"};
    AUTO(fd) int base_fd = -1;
    if (!disk_find(a->disks, disk_id, &path, &base, err)) {
        return false;
    }
    if (base) {
        files.base_format = blob_format(a->blobs, base);
        if (!blob_file_open(a->blobs, base, &base_fd, err)) {
            return false;
        }
    }
    if (!disk_open(a->disks, disk_id, &files.read_only, &files.fd, err)) {
        return false;
    }
    files.base_fd = take_fd(&base_fd);
    *out = files;
    return true;
}

static bool
host_port_open(void *ctx, const char *port_id, struct arena *arena,
               struct machine_port_tap *out, struct err *err)
{
    struct agent *a = ctx;
    const struct want *want = wants_get(a->wants, LINK_PORT, port_id);
    if (!want || !want->record || want->deleted) {
        return err_set(err, ERR_NOT_FOUND, "no record describes it");
    }
    const struct link_port *port = want->record;
    struct machine_port_tap tap = {.fd = -1,
                                   .mac = arena_strdup(arena, port->mac),
                                   .mtu = port->mtu,
                                   .device_index = port->device_index};
    struct vfio_function f;
    if (str_eq(port->mode, "vfio")) {
        if (!net_function_open(a->net, port_id, &f, err)) {
            return false;
        }
        tap.pci = arena_strdup(arena, f.address);
        tap.group = f.group;
    } else if (!net_tap_open(a->net, port_id, &tap.fd, err)) {
        return false;
    }
    *out = tap;
    return true;
}

static bool
host_blob_open(void *ctx, const char *blob_id, int *out_fd, struct err *err)
{
    return blob_file_open(((struct agent *)ctx)->blobs, blob_id, out_fd, err);
}

static int64_t
host_pool_free(void *ctx)
{
    return disks_free_bytes(((struct agent *)ctx)->disks);
}

static bool
host_lease_lives(void *ctx)
{
    return lease_lives(ctx);
}

static bool
host_lease_enter(void *ctx, int *out_fd, struct err *err)
{
    return lease_enter(ctx, out_fd, err);
}

struct machine_host
agent_machine_host(struct agent *a)
{
    return (struct machine_host){
        .disk_ready = host_disk_ready,
        .port_ready = host_port_ready,
        .blob_ready = host_blob_ready,
        .disk_open = host_disk_open,
        .port_open = host_port_open,
        .blob_open = host_blob_open,
        .lease_lives = host_lease_lives,
        .lease_enter = host_lease_enter,
        .pool_free_bytes = host_pool_free,
        .changed = agent_wake,
        .event = agent_event,
        .ctx = a,
    };
}

/* ---- disks ----------------------------------------------------------------------------- */

static const char *
host_blob_format(void *ctx, const char *blob_id)
{
    return blob_format(((struct agent *)ctx)->blobs, blob_id);
}

static int64_t
host_blob_virtual(void *ctx, const char *blob_id)
{
    return blob_virtual_bytes(((struct agent *)ctx)->blobs, blob_id);
}

static bool
host_disk_in_use(void *ctx, const char *disk_id)
{
    const struct agent *a = ctx;
    return machines_use_disk(a->machines, disk_id) || jobs_use_disk(a->jobs, disk_id);
}

struct disk_host
agent_disk_host(struct agent *a)
{
    return (struct disk_host){
        .blob_ready = host_blob_ready,
        .blob_format = host_blob_format,
        .blob_virtual_bytes = host_blob_virtual,
        .in_use = host_disk_in_use,
        .changed = agent_wake,
        .event = agent_event,
        .ctx = a,
    };
}

/* ---- blobs and jobs -------------------------------------------------------------------- */

/* One file on its way over the link. */
struct transfer {
    uint64_t limit_bytes; /* blob_get: all that must come; 0 for blob_put. */
    transfer_done_fn *done;
    void *ctx;
};

static void
on_channel(void *ctx, struct link_channel *channel UNUSED,
           enum link_channel_state state, uint64_t received, const char *why)
{
    struct transfer *t = ctx;
    if (state != LINK_CHANNEL_DONE) {
        return;
    }
    if (!why && received < t->limit_bytes) {
        why = "it ended too early";
    }
    t->done(t->ctx, why);
    free(t);
}

static bool
transfer(struct agent *a, const struct link_channel_open *open,
         struct link_channel_bind *bind, uint64_t expect, transfer_done_fn *done,
         void *done_ctx, struct err *err)
{
    if (!a->link || !link_client_is_up(a->link)) {
        close(bind->fd);
        return err_set(err, ERR_GONE, "the control plane is away");
    }
    struct transfer *t = xcalloc(1, sizeof *t);
    *t = (struct transfer){.limit_bytes = expect, .done = done, .ctx = done_ctx};
    bind->fn = on_channel;
    bind->ctx = t;
    if (!link_client_open_channel(a->link, open, bind)) {
        free(t);
        return err_set(err, ERR_BUSY, "too much is on its way already");
    }
    return true;
}

static bool
host_get(void *ctx, const char *id, int fd, int64_t offset, int64_t limit_bytes,
         transfer_done_fn *done, void *done_ctx, struct err *err)
{
    struct link_channel_open open = {
        .what = "blob_get", .object = id, .offset = offset};
    struct link_channel_bind bind = {.fd = fd,
                                     .offset = offset,
                                     .limit_bytes = (uint64_t)MAX(limit_bytes, 0),
                                     .no_read = true};
    return transfer(ctx, &open, &bind, (uint64_t)MAX(limit_bytes, 0), done, done_ctx,
                    err);
}

static bool
host_put(void *ctx, const char *id, int fd, int64_t size_bytes, transfer_done_fn *done,
         void *done_ctx, struct err *err)
{
    struct link_channel_open open = {
        .what = "blob_put", .object = id, .size = size_bytes};
    struct link_channel_bind bind = {.fd = fd, .no_write = true};
    return transfer(ctx, &open, &bind, 0, done, done_ctx, err);
}

static bool
host_blob_in_use(void *ctx, const char *id)
{
    const struct agent *a = ctx;
    return disks_stand_on(a->disks, id) || machines_use_blob(a->machines, id) ||
           jobs_use_blob(a->jobs, id);
}

struct blob_host
agent_blob_host(struct agent *a)
{
    return (struct blob_host){
        .get = host_get, .in_use = host_blob_in_use, .changed = agent_wake, .ctx = a};
}

struct job_host
agent_job_host(struct agent *a)
{
    return (struct job_host){
        .get = host_get, .put = host_put, .changed = agent_wake, .ctx = a};
}
