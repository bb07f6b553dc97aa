#include "node/disk/job_impl.h"

#include <errno.h>
#include <fcntl.h>

#define COMMAND_NS ((uint64_t)(30 * NS_PER_S))

/* Block jobs' and nodes' names hold 31 bytes: the end of a long id tells it apart. */
static void
node_name(const struct job *j, char out[32])
{
    size_t len = strlen(j->id);
    snprintf(out, 32, "cap-%.24s", len > 24 ? j->id + len - 24 : j->id);
}

/* ---- a running guest: QEMU copies a point in time while the guest goes on -------------- */

static bool
say(struct job *j, const char *cmd, json_t *args, int fd, qmp_reply_fn *done)
{
    struct err err = {0};
    if (!qmp_send(j->qmp, cmd, args, fd, COMMAND_NS, done, j, &err)) {
        j->qmp = NULL;
        job_retry(j, err.msg);
        return false;
    }
    return true;
}

static void
on_ignored(void *ctx, json_t *result, const struct err *err)
{
    (void)ctx;
    (void)result;
    (void)err;
}

/* Takes the copy's node and descriptor out of QEMU again. */
static void
release(struct job *j)
{
    char node[32];
    struct err err = {0};
    node_name(j, node);
    if (j->qmp) {
        (void)!qmp_send(j->qmp, "blockdev-del", json_pack("{s:s}", "node-name", node),
                        -1, COMMAND_NS, on_ignored, NULL, &err);
        (void)!qmp_send(j->qmp, "remove-fd",
                        json_pack("{s:I}", "fdset-id", (json_int_t)j->fdset), -1,
                        COMMAND_NS, on_ignored, NULL, &err);
    }
    j->qmp = NULL;
}

static bool
reply_failed(struct job *j, const struct err *err)
{
    if (!err) {
        return false;
    }
    if (j->stage == JOB_COPY_LIVE) {
        if (err->code == ERR_GONE) {
            j->qmp = NULL;
        }
        release(j);
        job_retry(j, err->msg);
    }
    return true;
}

/* How the block job ended; QEMU keeps it until it is dismissed. */
static void
on_jobs(void *ctx, json_t *result, const struct err *err)
{
    struct job *j = ctx;
    char node[32], why[200] = "";
    if (reply_failed(j, err)) {
        return;
    }
    node_name(j, node);
    size_t i;
    json_t *item;
    json_array_foreach(result, i, item)
    {
        const char *error = json_string_value(json_object_get(item, "error"));
        if (str_eq(json_string_value(json_object_get(item, "id")), node) && error) {
            snprintf(why, sizeof why, "copying failed: %.150s", error);
        }
    }
    if (!say(j, "job-dismiss", json_pack("{s:s}", "id", node), -1, on_ignored)) {
        return;
    }
    release(j);
    j->waiting = false;
    if (why[0]) {
        job_retry(j, why);
    } else {
        job_hash(j);
    }
}

void
job_capture_event(void *ctx, const char *job_id, const char *status)
{
    struct jobs *set = ctx;
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        struct job *j = value;
        char node[32];
        node_name(j, node);
        if (j->stage == JOB_COPY_LIVE && str_eq(node, job_id) &&
            str_eq(status, "concluded")) {
            (void)say(j, "query-jobs", NULL, -1, on_jobs);
        }
    }
}

static void
on_backup(void *ctx, json_t *result, const struct err *err)
{
    (void)result;
    (void)reply_failed(ctx, err); /* Else its end is told by an event. */
}

static void
on_added(void *ctx, json_t *result, const struct err *err)
{
    struct job *j = ctx;
    char node[32], source[16];
    struct qmp *qmp;
    (void)result;
    if (reply_failed(j, err)) {
        return;
    }
    node_name(j, node);
    if (!machines_disk_node(j->set->config.machines, j->want->source_disk, &qmp,
                            source)) {
        job_retry(j, "the guest went away");
        return;
    }
    (void)say(j, "blockdev-backup",
              json_pack("{s:s, s:s, s:s, s:s, s:b}", "job-id", node, "device", source,
                        "target", node, "sync", "full", "auto-dismiss", 0),
              -1, on_backup);
}

static void
on_fd(void *ctx, json_t *result, const struct err *err)
{
    struct job *j = ctx;
    char node[32], file[48];
    if (reply_failed(j, err)) {
        return;
    }
    j->fdset = json_integer_value(json_object_get(result, "fdset-id"));
    node_name(j, node);
    snprintf(file, sizeof file, "/dev/fdset/%" PRId64, j->fdset);
    (void)say(j, "blockdev-add",
              json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:s}}", "driver", "qcow2",
                        "node-name", node, "discard", "unmap", "file", "driver", "file",
                        "filename", file, "discard", "unmap"),
              -1, on_added);
}

static void
copy_live(struct job *j)
{
    char path[512];
    struct err err = {0};
    const char *disk_path, *base;
    int64_t size;
    job_path(j, "out.qcow2", path);
    (void)unlink(path);
    if (!disk_find(j->set->config.disks, j->want->source_disk, &disk_path, &base,
                   &err) ||
        !qcow2_size(disk_path, &size, &err) ||
        !qcow2_make(path, size, NULL, NULL, &err)) {
        job_retry(j, err.msg);
        return;
    }
    AUTO(fd) int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        job_retry(j, strerror(errno));
        return;
    }
    j->stage = JOB_COPY_LIVE;
    j->waiting = true;
    (void)say(j, "add-fd", NULL, fd, on_fd);
}

void
job_capture_lost(struct job *j)
{
    struct qmp *qmp;
    char node[16];
    if (!machines_disk_node(j->set->config.machines, j->want->source_disk, &qmp,
                            node) ||
        qmp != j->qmp) {
        j->qmp = NULL;
        job_retry(j, "the guest stopped while its disk was copied");
    }
}

/* ---- a guest at rest: qemu-img copies -------------------------------------------------- */

static void
on_copied(void *ctx, const struct tool_result *r)
{
    struct job *j = ctx;
    j->tool = NULL;
    j->waiting = false;
    if (j->deleted) {
        job_changed(j);
    } else if (r->ok) {
        job_hash(j);
    } else if (strstr(r->complaint, "No space left")) {
        job_fail(j, IMAGE_NO_SPACE, "the node's disk pool is full");
    } else {
        job_retry(j, r->complaint[0] ? r->complaint : "the copy failed");
    }
}

/* The disk's own bytes name its base as ../blobs/BASE; a guest that broke out could have
 * written something else there: in the jail only that base is to be found. */
static void
copy_file(struct job *j, const char *disk_path, const char *base)
{
    char in[128], base_in[128], out[512];
    struct err err = {0};
    int64_t size;
    if (!qcow2_size(disk_path, &size, &err) || !job_make_out(j, "out.qcow2", &err)) {
        job_retry(j, err.msg);
        return;
    }
    job_path(j, "out.qcow2", out);
    snprintf(in, sizeof in, "/pool%s", strrchr(disk_path, '/'));
    struct tool_spec spec = {
        .words = {"convert", "-f", "qcow2", "-O", "qcow2", "-o", "cluster_size=65536",
                  in, "/out"},
        .binds = {{disk_path, in, false}, {out, "/out", true}},
        .bind_count = 2,
    };
    if (base) {
        const char *path = blob_path(j->set->config.blobs, base);
        if (!path) {
            job_retry(j, "the disk's base is not here yet");
            return;
        }
        snprintf(base_in, sizeof base_in, "/blobs/%s", base);
        spec.binds[spec.bind_count++] = (struct jail_bind){path, base_in, false};
    }
    job_limits(j, &spec, size);
    j->stage = JOB_COPY_FILE;
    j->waiting = job_run(j, &spec, on_copied);
    job_changed(j);
}

void
job_capture(struct job *j)
{
    const struct jobs_config *c = &j->set->config;
    const char *path, *base;
    char node[16];
    struct err err = {0};
    snprintf(j->format, sizeof j->format, "qcow2");
    if (machines_disk_node(c->machines, j->want->source_disk, &j->qmp, node)) {
        copy_live(j);
    } else if (machines_use_disk(c->machines, j->want->source_disk)) {
        j->retry_at_ns =
            clock_mono(c->clock) + NS_PER_S; /* It comes up, or goes down. */
        job_retry(j, "the machine is between states");
    } else if (disk_find(c->disks, j->want->source_disk, &path, &base, &err)) {
        copy_file(j, path, base);
    } else {
        job_retry(j, err.msg);
    }
}
