#include "node/wants.h"
#include "base/crypto.h"
#include "base/file.h"
#include "base/log.h"
#include "base/map.h"
#include "base/tlv.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define FILE_MAX (256u << 20)
#define ENTRY_MAX (LINK_FRAME_MAX + 4096u)
#define COMPACT_ABOVE (1u << 20)
#define MARK_KIND 0 /* An entry that only carries a revision. */
#define AAD "moln wants 1"

/* One batch for the worker: bytes to append, or the whole file anew. */
struct batch {
    uv_work_t work;
    struct wants *wants;
    struct buf bytes;
    bool whole;
    int64_t revision;
    bool ok;
    struct err err;
};

struct wants {
    struct wants_config config;
    char *path;
    uint8_t key[SEAL_KEY_LEN];
    struct map *maps[LINK_KINDS]; /* By id. */
    struct buf pending;           /* Sealed entries, to append. */
    int64_t revision, disk_revision;
    bool rewrite;  /* Next time write it whole. */
    bool snapshot; /* One is under way: nothing is written until its end. */
    bool writing;
    size_t file_bytes, live_bytes;
};

static void flush(struct wants *w);

/* ---- entries --------------------------------------------------------------------------- */

static bool
good_id(const char *id)
{
    size_t len = id ? strlen(id) : 0;
    return len > 0 && len < sizeof((struct want *)0)->id &&
           strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == len;
}

static void
want_free(void *value)
{
    struct want *want = value;
    arena_destroy(want->arena);
    free(want);
}

static void
seal_entry(struct wants *w, const struct link_wanted *entry, struct buf *out)
{
    AUTO(buf) struct buf plain = {0};
    tlv_encode(&link_wanted_desc, entry, &plain);
    uint32_t len = (uint32_t)(plain.len + SEAL_OVERHEAD);
    uint8_t head[4] = {(uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8),
                       (uint8_t)len};
    buf_put(out, head, sizeof head);
    char *room = buf_room(out, len);
    if (room) {
        seal(w->key, w->config.rng, AAD, plain.data, plain.len, (uint8_t *)room);
        out->len += len;
    }
}

static void
write_want(struct wants *w, const struct want *want, struct buf *out)
{
    AUTO(buf) struct buf body = {0};
    if (want->record) {
        tlv_encode(link_want_desc(want->kind), want->record, &body);
    }
    struct link_wanted entry = {
        .kind = want->kind,
        .id = want->id,
        .revision = want->revision,
        .deleted = want->deleted,
        .body = {(const uint8_t *)body.data, body.len},
    };
    seal_entry(w, &entry, out);
}

static void
write_mark(struct wants *w, struct buf *out)
{
    struct link_wanted mark = {.kind = MARK_KIND, .id = "-", .revision = w->revision};
    seal_entry(w, &mark, out);
}

static struct want *
put(struct wants *w, enum link_kind kind, const char *id, int64_t revision,
    bool deleted, const void *record)
{
    const struct desc *desc = link_want_desc(kind);
    if (!desc || !good_id(id)) {
        return NULL;
    }
    struct want *want = xcalloc(1, sizeof *want);
    want->kind = kind;
    snprintf(want->id, sizeof want->id, "%s", id);
    want->revision = revision;
    want->deleted = deleted;
    want->arena = arena_create();
    want->record = record ? desc_copy(desc, record, want->arena) : NULL;
    map_put(w->maps[kind], id, want);
    return want;
}

/* ---- reading --------------------------------------------------------------------------- */

static bool
read_entry(struct wants *w, const uint8_t *sealed, size_t len, struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    uint8_t *plain = arena_alloc(arena, len);
    struct link_wanted entry;
    if (!unseal(w->key, AAD, sealed, len, plain, err) ||
        !tlv_decode(&link_wanted_desc, plain, len - SEAL_OVERHEAD, arena, &entry,
                    err)) {
        return false;
    }
    w->revision = MAX(w->revision, entry.revision);
    const struct desc *desc =
        entry.kind == MARK_KIND ? NULL : link_want_desc((enum link_kind)entry.kind);
    if (!desc) {
        return true;
    }
    void *record = NULL;
    if (entry.body.len > 0) {
        record = arena_alloc(arena, desc->size);
        if (!tlv_decode(desc, entry.body.data, entry.body.len, arena, record, err)) {
            return false;
        }
    }
    (void)put(w, (enum link_kind)entry.kind, entry.id, entry.revision, entry.deleted,
              record);
    return true;
}

/* Returns how many bytes were good. */
static size_t
read_entries(struct wants *w, const uint8_t *p, size_t len)
{
    size_t at = 0;
    while (len - at >= 4) {
        size_t part = (size_t)p[at] << 24 | (size_t)p[at + 1] << 16 |
                      (size_t)p[at + 2] << 8 | p[at + 3];
        struct err err = {0};
        if (part < SEAL_OVERHEAD || part > ENTRY_MAX || part > len - at - 4) {
            break;
        }
        if (!read_entry(w, p + at + 4, part, &err)) {
            log_warn("wanted state: an entry cannot be read: %s", err.msg);
            break;
        }
        at += 4 + part;
    }
    return at;
}

static bool
load_key(struct wants *w, struct err *err)
{
    AUTO(free) char *path = xasprintf("%s/wants.key", w->config.dir);
    AUTO(free) char *data = NULL;
    size_t len;
    if (file_exists(path)) {
        if (!file_read(path, 64, &data, &len, err)) {
            return false;
        }
        if (len == SEAL_KEY_LEN) {
            memcpy(w->key, data, len);
            return true;
        }
        log_warn("wanted state: the key is damaged; a new one is made");
    }
    w->config.rng->fill(w->config.rng->ctx, w->key, sizeof w->key);
    return file_write(path, w->key, sizeof w->key, 0600, err);
}

static bool
load(struct wants *w, struct err *err)
{
    AUTO(free) char *data = NULL;
    size_t len;
    if (!load_key(w, err)) {
        return false;
    }
    if (!file_exists(w->path)) {
        return true;
    }
    if (!file_read(w->path, FILE_MAX, &data, &len, err)) {
        return false;
    }
    size_t good = read_entries(w, (const uint8_t *)data, len);
    w->disk_revision = w->revision;
    w->file_bytes = good;
    if (good == 0 && len > 0) {
        AUTO(free) char *aside = xasprintf("%s.damaged", w->path);
        (void)rename(w->path, aside);
        log_error("wanted state: damaged; set aside as %s", aside);
    } else if (good < len && truncate(w->path, (off_t)good) < 0) {
        return err_sys(err, errno, "cut %s", w->path);
    }
    return true;
}

struct wants *
wants_open(const struct wants_config *config, struct err *err)
{
    struct wants *w = xcalloc(1, sizeof *w);
    w->config = *config;
    w->path = xasprintf("%s/wants", config->dir);
    for (size_t i = 0; i < LINK_KINDS; i++) {
        w->maps[i] = map_create(want_free);
    }
    if (!load(w, err)) {
        wants_close(w);
        return NULL;
    }
    return w;
}

void
wants_close(struct wants *w)
{
    if (!w) {
        return;
    }
    while (w->writing) {
        (void)uv_run(w->config.loop, UV_RUN_ONCE);
    }
    for (size_t i = 0; i < LINK_KINDS; i++) {
        map_destroy(w->maps[i]);
    }
    buf_fini(&w->pending);
    free(w->path);
    free(w);
}

/* ---- writing --------------------------------------------------------------------------- */

static bool
append(const char *path, const struct buf *bytes, struct err *err)
{
    AUTO(fd) int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        return err_sys(err, errno, "open %s", path);
    }
    int rc = fd_write_all(fd, bytes->data, bytes->len);
    if (rc == 0 && fdatasync(fd) < 0) {
        rc = -errno;
    }
    if (rc < 0) { /* Half an entry would hide what is appended after it. */
        (void)!ftruncate(fd, st.st_size);
        return err_sys(err, -rc, "append to %s", path);
    }
    return true;
}

static void
write_work(uv_work_t *work)
{
    struct batch *b = CONTAINER_OF(work, struct batch, work);
    const char *path = b->wants->path;
    b->ok = b->whole ? file_write(path, b->bytes.data, b->bytes.len, 0600, &b->err)
                     : append(path, &b->bytes, &b->err);
}

static void
write_done(uv_work_t *work, int status UNUSED)
{
    struct batch *b = CONTAINER_OF(work, struct batch, work);
    struct wants *w = b->wants;
    w->writing = false;
    if (b->ok) {
        w->disk_revision = b->revision;
        w->file_bytes = b->whole ? b->bytes.len : w->file_bytes + b->bytes.len;
        w->live_bytes = b->whole ? b->bytes.len : w->live_bytes;
        w->config.durable(w->config.ctx, b->revision);
    } else {
        log_error("wanted state: %s", b->err.msg);
        w->rewrite =
            true; /* With the next change or retry; until then it is not acknowledged. */
    }
    buf_fini(&b->bytes);
    bool again = b->ok;
    free(b);
    if (again) {
        flush(w);
    }
}

static void
write_all(struct wants *w, struct buf *out)
{
    for (size_t kind = 0; kind < LINK_KINDS; kind++) {
        const char *key;
        void *value;
        for (size_t it = 0; map_next(w->maps[kind], &it, &key, &value);) {
            write_want(w, value, out);
        }
    }
    write_mark(w, out);
}

static void
flush(struct wants *w)
{
    bool due = w->pending.len > 0 || w->rewrite;
    if (w->writing || w->snapshot || !due) {
        return;
    }
    struct batch *b = xcalloc(1, sizeof *b);
    b->wants = w;
    b->revision = w->revision;
    b->whole = w->rewrite ||
               (w->file_bytes > COMPACT_ABOVE && w->file_bytes > 4 * w->live_bytes);
    if (b->whole) {
        write_all(w, &b->bytes);
        buf_fini(&w->pending);
    } else {
        b->bytes = w->pending;
    }
    w->pending = (struct buf){0};
    w->rewrite = false;
    w->writing = true;
    int rc = uv_queue_work(w->config.loop, &b->work, write_work, write_done);
    if (rc < 0) {
        err_sys(&b->err, -rc, "queue work");
        write_done(&b->work, 0);
    }
}

/* ---- what is wanted -------------------------------------------------------------------- */

int64_t
wants_revision(const struct wants *w)
{
    return w->snapshot ? 0 : w->disk_revision; /* Half a snapshot is none. */
}

void
wants_retry(struct wants *w)
{
    flush(w);
}

bool
wants_is_kept(const struct wants *w, const struct want *want)
{
    return want->revision <= w->disk_revision;
}

const struct want *
wants_put(struct wants *w, enum link_kind kind, const char *id, int64_t revision,
          bool deleted, const void *record)
{
    struct want *want = put(w, kind, id, revision, deleted, record);
    if (!want) {
        return NULL;
    }
    w->revision = MAX(w->revision, revision);
    if (!w->snapshot) {
        write_want(w, want, &w->pending);
        flush(w);
    }
    return want;
}

void
wants_snapshot_begin(struct wants *w)
{
    w->snapshot = true;
    for (size_t kind = 0; kind < LINK_KINDS; kind++) {
        const char *key;
        void *value;
        for (size_t it = 0; map_next(w->maps[kind], &it, &key, &value);) {
            ((struct want *)value)->stale = true;
        }
    }
}

void
wants_snapshot_end(struct wants *w, int64_t revision, want_fn *gone, void *ctx)
{
    if (!w->snapshot) {
        return;
    }
    for (size_t kind = 0; kind < LINK_KINDS; kind++) {
        const char *key;
        void *value;
        for (size_t it = 0; map_next(w->maps[kind], &it, &key, &value);) {
            struct want *want = value;
            if (want->stale) {
                gone(ctx, want);
                map_del(w->maps[kind], want->id);
            }
        }
    }
    w->snapshot = false;
    w->revision = revision;
    w->rewrite = true;
    flush(w);
}

void
wants_drop(struct wants *w, enum link_kind kind, const char *id)
{
    map_del(w->maps[kind], id);
}

const struct want *
wants_get(const struct wants *w, enum link_kind kind, const char *id)
{
    return (unsigned)kind < LINK_KINDS && id ? map_get(w->maps[kind], id) : NULL;
}

void
wants_each(const struct wants *w, enum link_kind kind, want_fn *fn, void *ctx)
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(w->maps[kind], &it, &key, &value);) {
        fn(ctx, value);
    }
}
