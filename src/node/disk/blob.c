#include "node/disk/blob.h"
#include "base/crypto.h"
#include "base/file.h"
#include "base/log.h"
#include "base/map.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define RETRY_MIN_NS (NS_PER_S / 2)
#define RETRY_MAX_NS (30 * NS_PER_S)

enum blob_state { BLOB_NONE, BLOB_FETCHING, BLOB_CHECKING, BLOB_READY };

struct blob_entry {
    struct blobs *set;
    char id[48];
    char *path;
    struct arena *want_arena;
    struct link_blob *want;
    bool deleted;
    bool made_here; /* Kept without a record: it will soon be wanted. */
    enum blob_state state;
    int64_t retry_at_ns, pause_ns;
    char message[200];
};

struct blobs {
    struct blobs_config config;
    char *dir;
    struct map *map;
    bool complete, closing;
};

struct checking {
    uv_work_t work;
    struct blob_entry *blob;
    char *part, *path, sha256[65];
    int64_t size_bytes;
    bool ok;
    struct err err;
};

static bool
good_id(const char *id)
{
    return str_is_plain(id, 3, 39);
}

static struct blob_entry *
blob_of(struct blobs *set, const char *id)
{
    struct blob_entry *b = map_get(set->map, id);
    if (!b) {
        b = xcalloc(1, sizeof *b);
        b->set = set;
        snprintf(b->id, sizeof b->id, "%s", id);
        b->path = xasprintf("%s/%s", set->dir, id);
        b->state = file_exists(b->path) ? BLOB_READY : BLOB_NONE;
        map_put(set->map, id, b);
    }
    return b;
}

static void
blob_free(void *value)
{
    struct blob_entry *b = value;
    arena_destroy(b->want_arena);
    free(b->path);
    free(b);
}

static void
find_blob(void *ctx, const char *name)
{
    if (good_id(name)) {
        (void)blob_of(ctx, name);
    }
}

struct blobs *
blobs_open(const struct blobs_config *config, struct err *err)
{
    if (!dir_make(config->dir, 0700, err)) {
        return NULL;
    }
    struct blobs *set = xcalloc(1, sizeof *set);
    set->config = *config;
    set->dir = xstrdup(config->dir);
    set->map = map_create(blob_free);
    dir_each(set->dir, find_blob, set);
    return set;
}

void
blobs_close(struct blobs *set)
{
    if (!set) {
        return;
    }
    const char *key;
    void *value;
    set->closing = true;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        while (((struct blob_entry *)value)->state == BLOB_CHECKING) {
            (void)uv_run(set->config.loop, UV_RUN_ONCE);
        }
    }
    map_destroy(set->map);
    free(set->dir);
    free(set);
}

void
blobs_want(struct blobs *set, const struct link_blob *want, bool deleted)
{
    if (!good_id(want->id)) {
        return;
    }
    struct blob_entry *b = blob_of(set, want->id);
    struct arena *arena = arena_create();
    b->want = desc_copy(&link_blob_desc, want, arena);
    arena_destroy(b->want_arena);
    b->want_arena = arena;
    b->deleted = deleted;
}

void
blobs_forget(struct blobs *set, const char *id)
{
    struct blob_entry *b = map_get(set->map, id);
    if (b) {
        arena_destroy(b->want_arena);
        b->want_arena = NULL;
        b->want = NULL;
    }
}

/* What an agent that was killed had fetched of a blob that nobody wants any more. */
static void
drop_part(void *ctx, const char *name)
{
    const struct blobs *set = ctx;
    const char *dot = strstr(name, ".part");
    AUTO(free) char *id = dot ? xasprintf("%.*s", (int)(dot - name), name) : NULL;
    const struct blob_entry *b = id ? map_get(set->map, id) : NULL;
    if (id && !(b && b->want)) {
        AUTO(free) char *path = xasprintf("%s/%s", set->dir, name);
        (void)unlink(path);
    }
}

void
blobs_complete(struct blobs *set)
{
    if (!set->complete) {
        set->complete = true;
        dir_each(set->dir, drop_part, set);
    }
}

void
blobs_retry_now(struct blobs *set)
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        ((struct blob_entry *)value)->retry_at_ns = 0;
    }
}

/* ---- fetching -------------------------------------------------------------------------- */

bool
file_sha256(const char *path, char out_hex[65], int64_t *out_bytes, struct err *err)
{
    struct stat st;
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        return err_sys(err, errno, "open %s", path);
    }
    size_t len = (size_t)st.st_size;
    void *data = len ? mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0) : NULL;
    if (data == MAP_FAILED) {
        return err_sys(err, errno, "read %s", path);
    }
    (void)posix_madvise(data, len, POSIX_MADV_SEQUENTIAL);
    sha256_hex(data ? data : "", len, out_hex);
    if (data) {
        (void)munmap(data, len);
    }
    *out_bytes = st.st_size;
    return true;
}

static void
fail_fetch(struct blob_entry *b, const char *why)
{
    b->state = BLOB_NONE;
    b->pause_ns = MIN(MAX(b->pause_ns * 2, RETRY_MIN_NS), RETRY_MAX_NS);
    b->retry_at_ns = clock_mono(b->set->config.clock) + b->pause_ns;
    snprintf(b->message, sizeof b->message, "%.199s", why);
    log_warn("blob %s: %s", b->id, why);
    if (b->deleted) {
        AUTO(free) char *part = xasprintf("%s.part", b->path);
        (void)unlink(part);
    }
}

static bool
check_file(struct checking *c, struct err *err)
{
    char hex[65];
    int64_t bytes;
    AUTO(fd) int fd = open(c->part, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || !file_sha256(c->part, hex, &bytes, err)) {
        return fd < 0 ? err_sys(err, errno, "open %s", c->part) : false;
    }
    if (!str_empty(c->sha256) && strcmp(hex, c->sha256) != 0) {
        (void)unlink(c->part); /* Not worth continuing. */
        return err_set(err, ERR_CORRUPT, "what came has another SHA-256");
    }
    if (fsync(fd) < 0 || rename(c->part, c->path) < 0) {
        return err_sys(err, errno, "keep %s", c->path);
    }
    return true;
}

static void
check_work(uv_work_t *w)
{
    struct checking *c = CONTAINER_OF(w, struct checking, work);
    c->ok = check_file(c, &c->err);
}

static void
check_done(uv_work_t *w, int status UNUSED)
{
    struct checking *c = CONTAINER_OF(w, struct checking, work);
    struct blob_entry *b = c->blob;
    if (c->ok) {
        b->state = BLOB_READY;
        b->message[0] = '\0';
        log_info("blob %s: fetched and checked", b->id);
    } else {
        fail_fetch(b, c->err.msg);
    }
    if (!b->set->closing) {
        b->set->config.host.changed(b->set->config.host.ctx);
    }
    free(c->part);
    free(c->path);
    free(c);
}

static void
start_check(struct blob_entry *b)
{
    struct checking *c = xcalloc(1, sizeof *c);
    c->blob = b;
    c->part = xasprintf("%s.part", b->path);
    c->path = xstrdup(b->path);
    snprintf(c->sha256, sizeof c->sha256, "%s",
             b->want && b->want->sha256 ? b->want->sha256 : "");
    b->state = BLOB_CHECKING;
    int rc = uv_queue_work(b->set->config.loop, &c->work, check_work, check_done);
    if (rc < 0) {
        err_sys(&c->err, -rc, "queue work");
        check_done(&c->work, 0);
    }
}

static void
on_fetched(void *ctx, const char *why)
{
    struct blob_entry *b = ctx;
    if (why) {
        fail_fetch(b, why);
        b->set->config.host.changed(b->set->config.host.ctx);
    } else {
        start_check(b);
    }
}

static void
start_fetch(struct blob_entry *b)
{
    const struct blob_host *host = &b->set->config.host;
    struct err err = {0};
    struct stat st;
    AUTO(free) char *part = xasprintf("%s.part", b->path);
    /* Readable by every guest's uid: kernels are opened again by QEMU, in its jail. */
    int fd = open(part, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || fstat(fd, &st) < 0) {
        fail_fetch(b, strerror(errno));
        return;
    }
    int64_t have = st.st_size, whole = b->want->size_bytes;
    if (have > whole) {
        have = 0;
        (void)!ftruncate(fd, 0);
    }
    if (have == whole && whole > 0) {
        close(fd);
        start_check(b);
        return;
    }
    b->state = BLOB_FETCHING;
    if (!host->get(host->ctx, b->id, fd, have, whole - have, on_fetched, b, &err)) {
        fail_fetch(b, err.msg);
    }
}

static bool
is_coming(const struct blob_entry *b)
{
    return b->state == BLOB_FETCHING || b->state == BLOB_CHECKING;
}

static void
blob_step(struct blob_entry *b, int64_t now, int64_t *wake)
{
    const struct blob_host *host = &b->set->config.host;
    bool gone = b->deleted || (!b->want && b->set->complete && !b->made_here);
    if (is_coming(b)) {
        return;
    }
    if (gone) {
        if (b->state == BLOB_READY && !host->in_use(host->ctx, b->id)) {
            (void)unlink(b->path);
            b->state = BLOB_NONE;
            log_info("blob %s: removed from the cache", b->id);
            host->changed(host->ctx);
        }
        return;
    }
    if (b->state == BLOB_NONE && b->want) {
        if (now >= b->retry_at_ns) {
            start_fetch(b);
        }
        if (b->state == BLOB_NONE) {
            *wake = MIN(*wake, b->retry_at_ns);
        }
    }
}

void
blobs_pass(struct blobs *set, int64_t *out_wake_ns)
{
    int64_t now = clock_mono(set->config.clock), wake = INT64_MAX;
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        blob_step(value, now, &wake);
    }
    *out_wake_ns = wake;
}

/* ---- what is seen, and used ------------------------------------------------------------ */

void
blobs_seen(struct blobs *set, struct arena *arena, blob_seen_fn *fn, void *ctx)
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        const struct blob_entry *b = value;
        struct link_blob_seen seen = {
            .id = b->id,
            .state = b->state == BLOB_READY   ? "ready"
                     : is_coming(b)           ? "fetching"
                     : b->deleted || !b->want ? "absent"
                     : b->message[0]          ? "error"
                                              : "fetching",
            .message = arena_strdup(arena, b->message),
        };
        fn(ctx, &seen);
    }
}

void
blobs_drop_absent(struct blobs *set, const char *id)
{
    struct blob_entry *b = map_get(set->map, id);
    if (b && b->state == BLOB_NONE) {
        map_del(set->map, id);
    }
}

static const struct blob_entry *
ready(const struct blobs *set, const char *id)
{
    const struct blob_entry *b = id ? map_get(set->map, id) : NULL;
    return b && b->state == BLOB_READY ? b : NULL;
}

bool
blob_ready(const struct blobs *set, const char *id)
{
    return ready(set, id) != NULL;
}

const char *
blob_format(const struct blobs *set, const char *id)
{
    const struct blob_entry *b = id ? map_get(set->map, id) : NULL;
    return b && b->want && str_eq(b->want->format, "raw") ? "raw" : "qcow2";
}

int64_t
blob_virtual_bytes(const struct blobs *set, const char *id)
{
    const struct blob_entry *b = id ? map_get(set->map, id) : NULL;
    return b && b->want ? b->want->virtual_bytes : 0;
}

const char *
blob_path(const struct blobs *set, const char *id)
{
    const struct blob_entry *b = ready(set, id);
    return b ? b->path : NULL;
}

bool
blob_file_open(const struct blobs *set, const char *id, int *out_fd, struct err *err)
{
    const char *path = blob_path(set, id);
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) {
        return err_set(err, ERR_NOT_FOUND, "blob %s is not here", id ? id : "");
    }
    *out_fd = fd;
    return true;
}

bool
blobs_adopt(struct blobs *set, const char *id, const char *path, struct err *err)
{
    struct blob_entry *b = blob_of(set, id);
    if (b->state != BLOB_READY) {
        if (chmod(path, 0644) < 0 || chown(path, 0, 0) < 0 ||
            rename(path, b->path) < 0) {
            return err_sys(err, errno, "keep blob %s", id);
        }
        b->state = BLOB_READY;
        b->made_here = true;
    }
    return true;
}
