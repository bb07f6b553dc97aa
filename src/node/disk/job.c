#include "base/jsonio.h"
#include "node/disk/job_impl.h"

#include <errno.h>
#include <fcntl.h>

#define STATE_MAX 4096

static const char *const import_files[] = {"source", "out.qcow2", "head"};

static bool
good_id(const char *id)
{
    return str_is_plain(id, 3, 59);
}

void
job_path(const struct job *j, const char *name, char out[512])
{
    snprintf(out, 512, "%s/%s", j->dir, name);
}

void
job_changed(struct job *j)
{
    if (!j->set->closing) {
        j->set->config.host.changed(j->set->config.host.ctx);
    }
}

/* ---- results that last ----------------------------------------------------------------- */

static void
copy_text(const json_t *json, const char *key, char *out, size_t size)
{
    const char *v = json_string_value(json_object_get(json, key));
    snprintf(out, size, "%s", v ? v : "");
}

static void
load_result(struct job *j)
{
    char path[512];
    struct err err = {0};
    AUTO(free) char *data = NULL;
    size_t len;
    job_path(j, "result.json", path);
    if (!file_read(path, STATE_MAX, &data, &len, &err)) {
        return;
    }
    AUTO(json) json_t *json = json_loadb(data, len, 0, NULL);
    copy_text(json, "message", j->message, sizeof j->message);
    copy_text(json, "error_code", j->error_code, sizeof j->error_code);
    copy_text(json, "format", j->format, sizeof j->format);
    copy_text(json, "firmware", j->firmware, sizeof j->firmware);
    copy_text(json, "sha256", j->sha256, sizeof j->sha256);
    j->size_bytes = json_integer_value(json_object_get(json, "size_bytes"));
    j->virtual_bytes = json_integer_value(json_object_get(json, "virtual_bytes"));
    j->stage = json_is_true(json_object_get(json, "done")) ? JOB_DONE : JOB_FAILED;
}

static void
save_result(struct job *j)
{
    char path[512];
    struct err err = {0};
    AUTO(json)
    json_t *json = json_pack(
        "{s:b, s:s, s:s, s:s, s:s, s:s, s:I, s:I}", "done", j->stage == JOB_DONE,
        "message", j->message, "error_code", j->error_code, "format", j->format,
        "firmware", j->firmware, "sha256", j->sha256, "size_bytes",
        (json_int_t)j->size_bytes, "virtual_bytes", (json_int_t)j->virtual_bytes);
    AUTO(free) char *data = json ? json_dumps(json, JSON_COMPACT) : NULL;
    job_path(j, "result.json", path);
    if (!data || !file_write(path, data, strlen(data), 0600, &err)) {
        log_error("job %s: cannot keep its result: %s", j->id, err.msg);
    }
}

static void
remove_files(struct job *j)
{
    for (size_t i = 0; i < ARRAY_LEN(import_files); i++) {
        char path[512];
        job_path(j, import_files[i], path);
        (void)unlink(path);
    }
}

static void
finish(struct job *j, enum job_stage stage)
{
    j->stage = stage;
    j->waiting = false;
    save_result(j);
    remove_files(j);
    job_changed(j);
}

void
job_fail(struct job *j, enum image_trouble trouble, const char *why)
{
    snprintf(j->message, sizeof j->message, "%.199s", why);
    snprintf(j->error_code, sizeof j->error_code, "%s", image_trouble_word(trouble));
    log_warn("job %s: failed: %s", j->id, why);
    finish(j, JOB_FAILED);
}

void
job_retry(struct job *j, const char *why)
{
    j->failures++;
    j->waiting = false;
    j->stage = JOB_IDLE;
    j->retry_at_ns = clock_mono(j->set->config.clock) + machine_backoff_ns(j->failures);
    snprintf(j->message, sizeof j->message, "%.199s", why);
    log_warn("job %s: %s; tried again", j->id, why);
    job_changed(j);
}

/* ---- what both kinds do ---------------------------------------------------------------- */

bool
job_make_out(struct job *j, const char *name, struct err *err)
{
    char path[512];
    uint32_t uid = machines_job_uid(j->set->config.machines, j->uid_index);
    job_path(j, name, path);
    (void)unlink(path);
    AUTO(fd) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || fchown(fd, uid, uid) < 0) {
        return err_sys(err, errno, "make %s", path);
    }
    return true;
}

void
job_limits(const struct job *j, struct tool_spec *spec, int64_t bytes)
{
    spec->uid = machines_job_uid(j->set->config.machines, j->uid_index);
    spec->jail_dir = j->set->jail_dir;
    spec->max_memory_bytes = 2 * (int64_t)GIB;
    spec->max_cpu_s = 60 + bytes / (int64_t)(20 * MIB);
    spec->max_file_bytes = bytes + bytes / 8 + 64 * (int64_t)MIB;
    spec->limit_ns = spec->max_cpu_s * 2 * NS_PER_S;
}

bool
job_run(struct job *j, const struct tool_spec *spec, tool_done_fn *done)
{
    struct err err = {0};
    j->tool = tool_start(j->set->config.loop, spec, done, j, &err);
    if (!j->tool) {
        job_retry(j, err.msg);
        return false;
    }
    return true;
}

struct hashing {
    uv_work_t work;
    struct job *job;
    char path[512];
    char sha256[65];
    int64_t size_bytes, virtual_bytes;
    bool ok;
    struct err err;
};

static void
hash_work(uv_work_t *w)
{
    struct hashing *h = CONTAINER_OF(w, struct hashing, work);
    AUTO(fd) int fd = open(h->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0) {
        h->ok = err_sys(&h->err, errno, "sync %s", h->path);
        return;
    }
    h->ok = file_sha256(h->path, h->sha256, &h->size_bytes, &h->err) &&
            qcow2_size(h->path, &h->virtual_bytes, &h->err);
}

static void
on_sent(void *ctx, const char *why)
{
    struct job *j = ctx;
    char path[512];
    struct err err = {0};
    j->waiting = false;
    if (why) {
        job_retry(j, why);
        return;
    }
    job_path(j, "out.qcow2", path);
    if (!j->deleted && !j->orphan &&
        !blobs_adopt(j->set->config.blobs, j->want->target_blob, path, &err)) {
        log_warn("job %s: %s", j->id, err.msg); /* It will be fetched when needed. */
    }
    log_info("job %s: done", j->id);
    j->message[0] = '\0';
    finish(j, JOB_DONE);
}

static void
hash_done(uv_work_t *w, int status UNUSED)
{
    struct hashing *h = CONTAINER_OF(w, struct hashing, work);
    struct job *j = h->job;
    const struct job_host *host = &j->set->config.host;
    struct err err = h->err;
    bool ok = h->ok;
    if (ok) {
        j->size_bytes = h->size_bytes;
        j->virtual_bytes = h->virtual_bytes;
        snprintf(j->sha256, sizeof j->sha256, "%s", h->sha256);
        int fd = open(h->path, O_RDONLY | O_CLOEXEC);
        ok = fd >= 0 ? host->put(host->ctx, j->want->target_blob, fd, j->size_bytes,
                                 on_sent, j, &err)
                     : err_sys(&err, errno, "open %s", h->path);
    }
    free(h);
    if (!ok) {
        job_retry(j, err.msg);
        return;
    }
    j->stage = JOB_PUT;
    job_changed(j);
}

void
job_hash(struct job *j)
{
    struct hashing *h = xcalloc(1, sizeof *h);
    h->job = j;
    job_path(j, "out.qcow2", h->path);
    j->stage = JOB_HASH;
    j->waiting = true;
    int rc = uv_queue_work(j->set->config.loop, &h->work, hash_work, hash_done);
    if (rc < 0) {
        free(h);
        job_retry(j, "cannot queue work");
        return;
    }
    job_changed(j);
}

/* ---- the set --------------------------------------------------------------------------- */

static struct job *
job_of(struct jobs *set, const char *id)
{
    struct job *j = map_get(set->map, id);
    if (!j) {
        j = xcalloc(1, sizeof *j);
        j->set = set;
        snprintf(j->id, sizeof j->id, "%s", id);
        j->dir = xasprintf("%s/%s", set->dir, id);
        j->uid_index = set->next_uid++ % 4000;
        j->orphan = true;
        load_result(j);
        map_put(set->map, id, j);
    }
    return j;
}

static void
job_free(void *value)
{
    struct job *j = value;
    tool_cancel(j->tool);
    arena_destroy(j->want_arena);
    free(j->dir);
    free(j);
}

static void
find_job(void *ctx, const char *name)
{
    if (good_id(name)) {
        (void)job_of(ctx, name);
    }
}

struct jobs *
jobs_open(const struct jobs_config *config, struct err *err)
{
    if (!dir_make(config->dir, 0700, err)) {
        return NULL;
    }
    struct jobs *set = xcalloc(1, sizeof *set);
    set->config = *config;
    set->dir = xstrdup(config->dir);
    set->jail_dir = xstrdup(config->jail_dir);
    set->map = map_create(job_free);
    machines_watch_jobs(config->machines, job_capture_event, set);
    dir_each(set->dir, find_job, set);
    return set;
}

void
jobs_close(struct jobs *set)
{
    if (!set) {
        return;
    }
    const char *key;
    void *value;
    set->closing = true;
    machines_watch_jobs(set->config.machines, NULL, NULL);
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        struct job *j = value;
        while (j->stage == JOB_HASH && j->waiting) {
            (void)uv_run(set->config.loop, UV_RUN_ONCE);
        }
    }
    map_destroy(set->map);
    free(set->dir);
    free(set->jail_dir);
    free(set);
}

void
jobs_want(struct jobs *set, const struct link_blob_job *want, bool deleted)
{
    if (!good_id(want->id) || !good_id(want->target_blob)) {
        return;
    }
    struct job *j = job_of(set, want->id);
    if (j->want && j->waiting) { /* A job's record does not change but to go. */
        j->deleted = deleted;
        return;
    }
    struct arena *arena = arena_create();
    j->want = desc_copy(&link_blob_job_desc, want, arena);
    arena_destroy(j->want_arena);
    j->want_arena = arena;
    j->deleted = deleted;
    j->orphan = false;
}

void
jobs_forget(struct jobs *set, const char *id)
{
    struct job *j = map_get(set->map, id);
    if (j) {
        j->deleted = true;
    }
}

static void
remove_job(struct job *j)
{
    struct err err = {0};
    if (j->waiting) {
        return; /* What it waits for ends by itself; then this is called again. */
    }
    if (file_exists(j->dir) && !dir_remove(j->dir, &err)) {
        log_warn("job %s: %s", j->id, err.msg);
    }
}

static void
begin(struct job *j)
{
    struct err err = {0};
    if (!dir_make(j->dir, 0700, &err)) {
        job_retry(j, err.msg);
    } else if (str_eq(j->want->kind, "import")) {
        job_import(j);
    } else if (str_eq(j->want->kind, "capture")) {
        job_capture(j);
    } else {
        job_fail(j, IMAGE_BAD_FORMAT, "this node does not know such work");
    }
}

void
jobs_pass(struct jobs *set, int64_t *out_wake_ns)
{
    int64_t now = clock_mono(set->config.clock), wake = INT64_MAX;
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        struct job *j = value;
        if (j->deleted || (j->orphan && !j->want)) {
            if (j->deleted) {
                remove_job(j);
            }
            continue;
        }
        if (j->stage == JOB_COPY_LIVE) {
            job_capture_lost(j);
        }
        if (j->stage == JOB_IDLE && now >= j->retry_at_ns) {
            begin(j);
        } else if (j->stage == JOB_IDLE) {
            wake = MIN(wake, j->retry_at_ns);
        }
    }
    *out_wake_ns = wake;
}

void
jobs_seen(struct jobs *set, struct arena *arena, job_seen_fn *fn, void *ctx)
{
    static const int percent[] = {
        [JOB_IDLE] = 0,     [JOB_FETCH] = 5, [JOB_INSPECT] = 30,   [JOB_CHECK] = 35,
        [JOB_CONVERT] = 40, [JOB_HEAD] = 75, [JOB_COPY_LIVE] = 20, [JOB_COPY_FILE] = 20,
        [JOB_HASH] = 80,    [JOB_PUT] = 85,  [JOB_DONE] = 100,     [JOB_FAILED] = 100,
    };
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        const struct job *j = value;
        bool gone = j->deleted && !j->waiting;
        struct link_blob_job_seen seen = {
            .id = j->id,
            .state = gone                     ? "absent"
                     : j->stage == JOB_DONE   ? "done"
                     : j->stage == JOB_FAILED ? "failed"
                                              : "running",
            .percent = gone ? 0 : percent[j->stage],
            .message = arena_strdup(arena, gone ? "" : j->message),
            .error_code = j->error_code,
            .format = j->format,
            .size_bytes = j->size_bytes,
            .virtual_bytes = j->virtual_bytes,
            .sha256 = j->sha256,
            .firmware = j->firmware,
        };
        fn(ctx, &seen);
    }
}

void
jobs_drop_absent(struct jobs *set, const char *id)
{
    struct job *j = map_get(set->map, id);
    if (j && j->deleted && !j->waiting) {
        map_del(set->map, id);
    }
}

bool
jobs_use_disk(const struct jobs *set, const char *disk_id)
{
    const char *key;
    void *value;
    for (size_t it = 0; set && map_next(set->map, &it, &key, &value);) {
        const struct job *j = value;
        if (j->stage == JOB_COPY_FILE && str_eq(j->want->source_disk, disk_id)) {
            return true;
        }
    }
    return false;
}

bool
jobs_use_blob(const struct jobs *set, const char *blob_id)
{
    const char *key;
    void *value;
    for (size_t it = 0; set && map_next(set->map, &it, &key, &value);) {
        const struct job *j = value;
        if (j->want && !j->deleted && str_eq(j->want->target_blob, blob_id)) {
            return true;
        }
    }
    return false;
}
