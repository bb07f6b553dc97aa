#include "node/disk/job_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

/* How 'qemu-img check' ends. */
#define CHECK_CORRUPT 2
#define CHECK_LEAKS 3

/* What a run that did not end well means for the job. */
static void
fail_by_tool(struct job *j, const struct tool_result *r)
{
    if (strstr(r->complaint, "No space left")) {
        job_fail(j, IMAGE_NO_SPACE, "the node's disk pool is full");
    } else if (r->limited) {
        job_fail(j, IMAGE_LIMIT,
                 "the image takes too much time, memory or room to read");
    } else {
        char why[200];
        snprintf(why, sizeof why, "the image cannot be read: %.150s", r->complaint);
        job_fail(j, IMAGE_BAD_FORMAT, why);
    }
}

/* True when the job goes on; else it has ended, or waits to be removed. */
static bool
tool_ended(struct job *j, const struct tool_result *r)
{
    j->tool = NULL;
    j->waiting = false;
    if (j->deleted) {
        job_changed(j);
        return false;
    }
    if (!r->ok) {
        fail_by_tool(j, r);
        return false;
    }
    return true;
}

static void
on_head(void *ctx, const struct tool_result *r)
{
    struct job *j = ctx;
    char path[512];
    struct err err = {0};
    AUTO(free) char *head = NULL;
    size_t len = 0;
    if (!tool_ended(j, r)) {
        return;
    }
    job_path(j, "head", path);
    if (!file_read(path, DISK_HEAD_BYTES + 65536, &head, &len, &err)) {
        job_retry(j, err.msg);
        return;
    }
    snprintf(j->firmware, sizeof j->firmware, "%s",
             disk_firmware((const uint8_t *)head, len));
    job_hash(j);
}

static void
on_converted(void *ctx, const struct tool_result *r)
{
    struct job *j = ctx;
    char from[512], to[512];
    struct err err = {0};
    if (!tool_ended(j, r)) {
        return;
    }
    if (!job_make_out(j, "head", &err)) {
        job_retry(j, err.msg);
        return;
    }
    job_path(j, "out.qcow2", from);
    job_path(j, "head", to);
    struct tool_spec spec = {
        .words = {"dd", "-f", "qcow2", "-O", "raw", "bs=512", "count=34", "if=/in",
                  "of=/out"},
        .binds = {{from, "/in", false}, {to, "/out", true}},
        .bind_count = 2,
    };
    job_limits(j, &spec, (int64_t)MIB);
    j->stage = JOB_HEAD;
    j->waiting = job_run(j, &spec, on_head);
}

static void
convert(struct job *j)
{
    char from[512], to[512];
    struct err err = {0};
    if (!job_make_out(j, "out.qcow2", &err)) {
        job_retry(j, err.msg);
        return;
    }
    job_path(j, "source", from);
    job_path(j, "out.qcow2", to);
    struct tool_spec spec = {
        .words = {"convert", "-f", j->format, "-O", "qcow2", "-o", "cluster_size=65536",
                  "/in", "/out"},
        .binds = {{from, "/in", false}, {to, "/out", true}},
        .bind_count = 2,
    };
    job_limits(j, &spec, j->verdict.virtual_bytes);
    /* An image that swells must not take the room that guests write to. */
    spec.max_file_bytes =
        MIN(spec.max_file_bytes, disks_free_bytes(j->set->config.disks) / 8 * 7);
    j->stage = JOB_CONVERT;
    j->waiting = job_run(j, &spec, on_converted);
    job_changed(j);
}

/* qemu-img reads what lies past a file's end as zeros: a disk that was cut off would pass.
 * Clusters that nothing uses are no harm. */
static void
on_checked(void *ctx, const struct tool_result *r)
{
    struct job *j = ctx;
    struct tool_result judged = *r;
    judged.ok = r->ok || r->exit_code == CHECK_LEAKS;
    bool damaged = r->exit_code == CHECK_CORRUPT || str_starts(r->complaint, "ERROR:");
    if (damaged && !j->deleted) {
        j->tool = NULL;
        job_fail(j, IMAGE_BAD_FORMAT, "the image is damaged or cut off");
    } else if (tool_ended(j, &judged)) {
        convert(j);
    }
}

static void
check(struct job *j)
{
    char path[512];
    job_path(j, "source", path);
    struct tool_spec spec = {
        .words = {"check", "-q", "-f", j->format, "/in"},
        .binds = {{path, "/in", false}},
        .bind_count = 1,
    };
    job_limits(j, &spec, j->verdict.virtual_bytes);
    j->stage = JOB_CHECK;
    j->waiting = job_run(j, &spec, on_checked);
    job_changed(j);
}

static void
on_info(void *ctx, const struct tool_result *r)
{
    struct job *j = ctx;
    if (!tool_ended(j, r)) {
        return;
    }
    image_judge_info(r->out, r->out_len, j->format, j->want->max_virtual_bytes,
                     &j->verdict);
    if (j->verdict.trouble != IMAGE_GOOD) {
        job_fail(j, j->verdict.trouble, j->verdict.why);
        return;
    }
    check(j);
}

static void
inspect(struct job *j)
{
    char path[512];
    uint8_t head[IMAGE_HEAD_BYTES];
    struct stat st;
    job_path(j, "source", path);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, head, sizeof head, 0);
    if (n < 0 || fstat(fd, &st) < 0) {
        job_retry(j, strerror(errno));
        return;
    }
    image_judge(head, (size_t)n, st.st_size, j->want->declared_format,
                j->want->max_virtual_bytes, &j->verdict);
    snprintf(j->format, sizeof j->format, "%s", j->verdict.format);
    if (j->verdict.trouble != IMAGE_GOOD) {
        job_fail(j, j->verdict.trouble, j->verdict.why);
        return;
    }
    if (str_eq(j->format, "raw")) { /* Nothing in it could mislead. */
        convert(j);
        return;
    }
    struct tool_spec spec = {
        .words = {"info", "--output=json", "-f", j->format, "/in"},
        .binds = {{path, "/in", false}},
        .bind_count = 1,
    };
    job_limits(j, &spec, (int64_t)MIB);
    j->stage = JOB_INSPECT;
    j->waiting = job_run(j, &spec, on_info);
    job_changed(j);
}

static void
on_fetched(void *ctx, const char *why)
{
    struct job *j = ctx;
    j->waiting = false;
    if (j->deleted) {
        job_changed(j);
    } else if (why) {
        job_retry(j, why);
    } else {
        inspect(j);
    }
}

void
job_import(struct job *j)
{
    const struct job_host *host = &j->set->config.host;
    char path[512];
    struct stat st;
    struct err err = {0};
    job_path(j, "source", path);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || fstat(fd, &st) < 0) {
        job_retry(j, strerror(errno));
        return;
    }
    if (st.st_size == j->want->source_bytes) {
        close(fd);
        inspect(j);
        return;
    }
    if (st.st_size > j->want->source_bytes) {
        (void)!ftruncate(fd, 0);
        st.st_size = 0;
    }
    j->stage = JOB_FETCH;
    j->waiting = true;
    if (!host->get(host->ctx, j->want->source_blob, fd, st.st_size,
                   j->want->source_bytes - st.st_size, on_fetched, j, &err)) {
        job_retry(j, err.msg);
    }
}
