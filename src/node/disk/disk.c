#include "base/file.h"
#include "base/log.h"
#include "node/disk/disk_impl.h"
#include "node/disk/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define MEASURE_NS (60 * NS_PER_S)

static bool
good_id(const char *id)
{
    return str_is_plain(id, 3, 39);
}

/* "ID.qcow2" or "ID+BASE.qcow2" into its parts. */
static bool
parse_name(const char *name, char id[48], char base[48])
{
    const char *end = strstr(name, ".qcow2");
    if (!end || strcmp(end, ".qcow2") != 0) {
        return false;
    }
    const char *plus = memchr(name, '+', (size_t)(end - name));
    size_t id_len = (size_t)((plus ? plus : end) - name);
    size_t base_len = plus ? (size_t)(end - plus - 1) : 0;
    if (id_len >= 48 || base_len >= 48) {
        return false;
    }
    snprintf(id, 48, "%.*s", (int)id_len, name);
    snprintf(base, 48, "%.*s", (int)base_len, plus ? plus + 1 : "");
    return good_id(id) && (base_len == 0 || good_id(base));
}

void
disk_measure(struct disk *d)
{
    struct stat st;
    struct err err = {0};
    if (d->path && stat(d->path, &st) == 0) {
        d->used_bytes = (int64_t)st.st_blocks * 512;
        if (!qcow2_size(d->path, &d->size_bytes, &err)) {
            log_warn("disk %s: %s", d->id, err.msg);
        }
    }
    d->measure_at_ns = clock_mono(d->set->config.clock) + MEASURE_NS;
}

static struct disk *
disk_of(struct disks *set, const char *id)
{
    struct disk *d = map_get(set->map, id);
    if (!d) {
        d = xcalloc(1, sizeof *d);
        d->set = set;
        snprintf(d->id, sizeof d->id, "%s", id);
        map_put(set->map, id, d);
    }
    return d;
}

static void
disk_free(void *value)
{
    struct disk *d = value;
    arena_destroy(d->want_arena);
    free(d->path);
    free(d);
}

static void
find_file(void *ctx, const char *name)
{
    struct disks *set = ctx;
    char id[48], base[48];
    if (parse_name(name, id, base)) {
        struct disk *d = disk_of(set, id);
        free(d->path);
        d->path = xasprintf("%s/%s", set->dir, name);
        snprintf(d->base, sizeof d->base, "%s", base);
        disk_measure(d);
    } else if (strstr(name, ".part")) { /* Left by an agent that was killed. */
        AUTO(free) char *path = xasprintf("%s/%s", set->dir, name);
        (void)unlink(path);
    }
}

static void
note_orphan_base(void *ctx, const char *name)
{
    struct disks *set = ctx;
    char id[48], base[48];
    if (parse_name(name, id, base) && base[0]) {
        map_put(set->orphan_bases, base, set);
    }
}

/* The pool's id, made by the first node that comes. */
static bool
open_shared(struct disks *set, const char *dir, struct err *err)
{
    AUTO(free) char *path = xasprintf("%s/" POOL_ID_FILE, dir);
    AUTO(free) char *text = NULL;
    size_t len;
    if (!file_exists(path)) {
        char id[32];
        int id_len =
            snprintf(id, sizeof id, "pool-%016" PRIx64, rng_u64(set->config.rng));
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 && errno != EEXIST) {
            return err_sys(err, errno, "mark the shared pool %s", dir);
        }
        int rc = fd >= 0 ? fd_write_all(fd, id, (size_t)id_len) : 0;
        if (fd >= 0) {
            close(fd);
        }
        if (rc < 0) {
            return err_sys(err, -rc, "mark the shared pool %s", dir);
        }
    }
    if (!file_read(path, sizeof set->shared_id - 1, &text, &len, err)) {
        return false;
    }
    if (!good_id(text) || !str_starts(text, "pool-")) {
        return err_set(err, ERR_CORRUPT, "%s holds no pool's id", path);
    }
    snprintf(set->shared_id, sizeof set->shared_id, "%s", text);
    set->shared_dir = xstrdup(dir);
    return true;
}

struct disks *
disks_open(const struct disks_config *config, struct err *err)
{
    AUTO(free) char *orphans = xasprintf("%s/orphans", config->dir);
    if (!dir_make(orphans, 0700, err)) {
        return NULL;
    }
    struct disks *set = xcalloc(1, sizeof *set);
    set->config = *config;
    set->dir = xstrdup(config->dir);
    set->orphans = take_ptr(&orphans);
    set->map = map_create(disk_free);
    set->orphan_bases = map_create(NULL);
    dir_each(set->dir, find_file, set);
    dir_each(set->orphans, note_orphan_base, set);
    if (config->shared_dir && !open_shared(set, config->shared_dir, err)) {
        disks_close(set);
        return NULL;
    }
    return set;
}

void
disks_close(struct disks *set)
{
    if (!set) {
        return;
    }
    const char *key;
    void *value;
    set->closing = true;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        while (((struct disk *)value)->making) {
            (void)uv_run(set->config.loop, UV_RUN_ONCE);
        }
    }
    map_destroy(set->map);
    map_destroy(set->orphan_bases);
    free(set->dir);
    free(set->orphans);
    free(set->shared_dir);
    free(set);
}

/* ---- what is wanted -------------------------------------------------------------------- */

static bool
is_shared(const struct disk *d)
{
    return d->want && !str_empty(d->want->tier);
}

char *
disk_path_for(const struct disk *d, const char *base)
{
    const char *dir = is_shared(d) ? d->set->shared_dir : d->set->dir;
    return base ? xasprintf("%s/%s+%s.qcow2", dir, d->id, base)
                : xasprintf("%s/%s.qcow2", dir, d->id);
}

char *
disk_part_for(const struct disk *d)
{
    const struct disks *set = d->set;
    return is_shared(d) ? xasprintf("%s/%s.%s.part", set->shared_dir, d->id,
                                    set->config.node_id ? set->config.node_id : "")
                        : xasprintf("%s/%s.part", set->dir, d->id);
}

/* A disk in the shared pool may be there since it was another node's. */
static void
find_shared(struct disk *d)
{
    if (!is_shared(d) || d->path || d->making) {
        return;
    }
    if (!str_eq(d->want->tier, d->set->shared_id)) {
        snprintf(d->message, sizeof d->message, "this node has no pool %.60s",
                 d->want->tier);
        return;
    }
    const char *base = str_empty(d->want->base_blob) ? NULL : d->want->base_blob;
    AUTO(free) char *path = disk_path_for(d, base);
    if (file_exists(path)) {
        AUTO(free) char *part = disk_part_for(d);
        (void)unlink(part); /* Of an agent that was killed. */
        d->path = take_ptr(&path);
        snprintf(d->base, sizeof d->base, "%s", base ? base : "");
        d->message[0] = '\0';
        disk_measure(d);
    } else if (d->want->made) {
        snprintf(d->message, sizeof d->message,
                 "its file is not in the shared pool: is that mounted?");
    }
}

void
disks_want(struct disks *set, const struct link_disk *want, bool deleted)
{
    if (str_empty(want->id) || !good_id(want->id) ||
        (!str_empty(want->base_blob) && !good_id(want->base_blob))) {
        return;
    }
    struct disk *d = disk_of(set, want->id);
    struct arena *arena = arena_create();
    d->want = desc_copy(&link_disk_desc, want, arena);
    arena_destroy(d->want_arena);
    d->want_arena = arena;
    d->deleted = deleted;
    d->retry_at_ns = 0;
    find_shared(d);
}

void
disks_delete(struct disks *set, const char *id)
{
    if (good_id(id)) {
        disk_of(set, id)->deleted = true;
    }
}

void
disks_forget(struct disks *set, const char *id)
{
    struct disk *d = map_get(set->map, id);
    if (d) {
        arena_destroy(d->want_arena);
        d->want_arena = NULL;
        d->want = NULL;
    }
}

void
disks_complete(struct disks *set)
{
    set->complete = true;
}

/* ---- steps ----------------------------------------------------------------------------- */

/* In a shared pool another node may have made it since, and run a guest on it: whoever comes
 * first has made it, and nothing is put in its place. */
static bool
name_shared(const struct disk_work *k, struct err *err)
{
    bool ok = link(k->part, k->path) == 0 || errno == EEXIST ||
              err_sys(err, errno, "name %s", k->path);
    (void)unlink(k->part);
    return ok && file_sync_name(k->path, err);
}

static bool
make_file(const struct disk_work *k, struct err *err)
{
    (void)unlink(k->part);
    return qcow2_make(k->part, k->size_bytes, k->base_name, k->base_format, err) &&
           (k->shared ? name_shared(k, err) : file_move(k->part, k->path, err));
}

static void
make_ended(struct disk *d, const struct disk_work *k)
{
    if (k->ok) {
        d->message[0] = '\0';
    } else {
        d->retry_at_ns = clock_mono(d->set->config.clock) + DISK_RETRY_NS;
    }
}

static void
on_work(uv_work_t *w)
{
    struct disk_work *k = CONTAINER_OF(w, struct disk_work, work);
    k->ok = k->run(k, &k->err);
}

static void
on_work_done(uv_work_t *w, int status UNUSED)
{
    struct disk_work *k = CONTAINER_OF(w, struct disk_work, work);
    struct disk *d = k->disk;
    d->making = false;
    if (k->ok) {
        d->path = take_ptr(&k->path);
        disk_measure(d);
    } else {
        snprintf(d->message, sizeof d->message, "%.199s", k->err.msg);
        log_warn("disk %s: %s", d->id, k->err.msg);
    }
    k->ended(d, k);
    if (!d->set->closing) {
        d->set->config.host.changed(d->set->config.host.ctx);
    }
    free(k->path);
    free(k->part);
    free(k->base_name);
    free(k);
}

struct disk_work *
disk_work_new(struct disk *d, const char *base)
{
    struct disk_work *k = xcalloc(1, sizeof *k);
    k->disk = d;
    k->size_bytes = d->want->size_bytes;
    k->path = disk_path_for(d, base);
    k->part = disk_part_for(d);
    snprintf(d->base, sizeof d->base, "%s", base ? base : "");
    return k;
}

void
disk_work_start(struct disk_work *k)
{
    struct disk *d = k->disk;
    d->making = true;
    int rc = uv_queue_work(d->set->config.loop, &k->work, on_work, on_work_done);
    if (rc < 0) {
        err_sys(&k->err, -rc, "queue work");
        on_work_done(&k->work, 0);
    }
}

/* The folder of bases as the pool's files name it. */
static char *
base_name_of(const struct disks *set, const char *blob_id)
{
    const char *last = strrchr(set->config.blobs_dir, '/');
    return xasprintf("../%s/%s", last ? last + 1 : set->config.blobs_dir, blob_id);
}

static void
start_making(struct disk *d)
{
    struct disks *set = d->set;
    const struct disk_host *host = &set->config.host;
    const char *base = str_empty(d->want->base_blob) ? NULL : d->want->base_blob;
    struct disk_work *k = disk_work_new(d, base);
    k->run = make_file;
    k->ended = make_ended;
    k->shared = is_shared(d);
    if (base) {
        k->base_name = base_name_of(set, base);
        k->base_format = host->blob_format(host->ctx, base);
        k->size_bytes = MAX(k->size_bytes, host->blob_virtual_bytes(host->ctx, base));
    }
    disk_work_start(k);
}

static void
delete_file(struct disk *d)
{
    if (unlink(d->path) < 0 && errno != ENOENT) {
        snprintf(d->message, sizeof d->message, "cannot delete: %s", strerror(errno));
        return;
    }
    log_info("disk %s: deleted", d->id);
    free(d->path);
    d->path = NULL;
    d->base[0] = '\0';
    d->set->config.host.changed(d->set->config.host.ctx);
}

/* This node's part in it ends; the file is as it was. */
static void
let_go(struct disk *d)
{
    log_info("disk %s: left in the shared pool", d->id);
    free(d->path);
    d->path = NULL;
    d->base[0] = '\0';
    d->set->config.host.changed(d->set->config.host.ctx);
}

/* Not in the snapshot, yet not deleted: kept aside for people to judge. */
static void
quarantine(struct disk *d)
{
    const struct disk_host *host = &d->set->config.host;
    AUTO(free) char *to = xasprintf("%s%s", d->set->orphans, strrchr(d->path, '/'));
    if (rename(d->path, to) < 0) {
        log_error("disk %s: cannot move it to %s: %s", d->id, to, strerror(errno));
        d->retry_at_ns = clock_mono(d->set->config.clock) + DISK_RETRY_NS;
        return;
    }
    if (d->base[0]) {
        map_put(d->set->orphan_bases, d->base, d->set);
    }
    log_warn("disk %s: nobody wants it; moved to %s", d->id, to);
    host->event(host->ctx, "quarantine", d->id, "warn",
                "a disk that no record names was moved aside, not deleted");
    free(d->path);
    d->path = NULL;
}

static void
disk_step(struct disk *d, int64_t now, int64_t *wake)
{
    const struct disk_host *host = &d->set->config.host;
    if (d->making) {
        return;
    }
    if (now < d->retry_at_ns) {
        *wake = MIN(*wake, d->retry_at_ns);
        return;
    }
    if (d->arriving && (d->deleted || !d->want)) {
        disk_arrival_drop(d);
    }
    if (d->deleted || (!d->want && d->set->complete)) {
        if (d->path && !host->in_use(host->ctx, d->id)) {
            bool ours = d->set->shared_dir == NULL ||
                        !str_starts(d->path, d->set->shared_dir) ||
                        (d->deleted && d->want && d->want->erase);
            (!ours ? let_go : d->deleted ? delete_file : quarantine)(d);
        }
        return;
    }
    if (is_shared(d) && !d->path) {
        find_shared(d);
        if (d->want->made || !str_eq(d->want->tier, d->set->shared_id)) {
            if (!d->path) {
                d->retry_at_ns = now + DISK_RETRY_NS;
                *wake = MIN(*wake, d->retry_at_ns);
            }
            return;
        }
    }
    if (d->want && !d->path && !str_empty(d->want->incoming)) {
        return; /* It is brought. */
    }
    if (d->want && !d->path && d->want->made) {
        snprintf(d->message, sizeof d->message, "its file is not in the pool any more");
        return; /* An empty one in its place would pass for it. */
    }
    if (d->want && !d->path &&
        (str_empty(d->want->base_blob) ||
         host->blob_ready(host->ctx, d->want->base_blob))) {
        start_making(d);
    } else if (d->path && now >= d->measure_at_ns) {
        disk_measure(d);
    }
}

void
disks_pass(struct disks *set, int64_t *out_wake_ns)
{
    int64_t now = clock_mono(set->config.clock), wake = INT64_MAX;
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        disk_step(value, now, &wake);
    }
    *out_wake_ns = wake;
}

/* ---- what is seen ---------------------------------------------------------------------- */

void
disks_seen(struct disks *set, struct arena *arena, disk_seen_fn *fn, void *ctx)
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        const struct disk *d = value;
        bool gone = d->deleted || !d->want;
        struct link_disk_seen seen = {
            .id = d->id,
            .generation = d->want ? d->want->generation : 0,
            .state = d->path              ? "ready"
                     : gone && !d->making ? "absent"
                     : d->message[0]      ? "error"
                                          : "preparing",
            .used_bytes = d->path ? d->used_bytes : 0,
            .size_bytes = d->path ? d->size_bytes : 0,
            .message = arena_strdup(arena, d->message),
        };
        fn(ctx, &seen);
    }
}

void
disks_drop_absent(struct disks *set, const char *id)
{
    struct disk *d = map_get(set->map, id);
    if (d && !d->path && !d->making) {
        map_del(set->map, id);
    }
}

struct disk *
disk_get(const struct disks *set, const char *id)
{
    return id ? map_get(set->map, id) : NULL;
}

bool
disk_ready(const struct disks *set, const char *id)
{
    const struct disk *d = disk_get(set, id);
    return d && d->path && !d->deleted && d->want;
}

bool
disk_find(const struct disks *set, const char *id, const char **out_path,
          const char **out_base, struct err *err)
{
    const struct disk *d = id ? map_get(set->map, id) : NULL;
    if (!d || !d->path || d->deleted) {
        return err_set(err, ERR_NOT_FOUND, "disk %s is not there", id ? id : "");
    }
    *out_path = d->path;
    *out_base = d->base[0] ? d->base : NULL;
    return true;
}

bool
disk_open(const struct disks *set, const char *id, bool *out_read_only, int *out_fd,
          struct err *err)
{
    const char *path, *base;
    if (!disk_find(set, id, &path, &base, err)) {
        return false;
    }
    const struct disk *d = map_get(set->map, id);
    bool read_only = d->want && d->want->read_only;
    int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (fd < 0) {
        return err_sys(err, errno, "open %s", path);
    }
    *out_read_only = read_only;
    *out_fd = fd;
    return true;
}

bool
disks_stand_on(const struct disks *set, const char *blob_id)
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        const struct disk *d = value;
        if (str_eq(d->base, blob_id) ||
            (d->want && !d->deleted && str_eq(d->want->base_blob, blob_id))) {
            return true;
        }
    }
    return map_get(set->orphan_bases, blob_id) != NULL;
}

const char *
disks_shared_pool(const struct disks *set)
{
    return set->shared_id;
}

int64_t
disks_free_bytes(const struct disks *set)
{
    struct statvfs st;
    return statvfs(set->dir, &st) == 0 ? (int64_t)(st.f_bavail * st.f_frsize) : 0;
}

int64_t
disks_total_bytes(const struct disks *set)
{
    struct statvfs st;
    return statvfs(set->dir, &st) == 0 ? (int64_t)(st.f_blocks * st.f_frsize) : 0;
}
