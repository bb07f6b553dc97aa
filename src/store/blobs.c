/* blobs.c - see blobs.h.
 *
 * A writer's file is ".ID.N", and locked, until it is whole; only then does it get the
 * blob's name, by a link that fails when the name is taken. A file of the kind that nobody
 * holds locked was left by a process that ended; the folder may be several processes'. */
#include "store/blobs.h"
#include "base/file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define ID_MAX 64
#define TEMP_TRIES 1000
#define LOOK_EVERY (16 * MIB) /* At what is free, while a blob is written. */

struct blob_store {
    int dir_fd;
    uint64_t keep_free;  /* Bytes. */
    atomic_uint writers; /* Begun so far: tells their files apart. */
};

struct blob_writer {
    struct blob_store *store;
    int fd;
    uint64_t size, limit;
    struct sha256_ctx sha;
    char id[ID_MAX + 1];
    char temp[ID_MAX + 16];
};

static bool
check_id(const char *id, struct err *err)
{
    return str_is_plain(id, 1, ID_MAX) || err_set(err, ERR_INVALID, "not a blob's id");
}

/* Calls 'fn' with every name in the folder. 0 or -errno. */
static int
each_name(struct blob_store *store,
          void (*fn)(struct blob_store *, const char *, void *), void *ctx)
{
    int fd = openat(store->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int rc = -errno;
        auto_fd(&fd);
        return rc;
    }
    struct dirent *e;
    while ((errno = 0, e = readdir(dir)) != NULL) {
        fn(store, e->d_name, ctx);
    }
    int rc = -errno;
    closedir(dir);
    return rc;
}

static void
sweep(struct blob_store *store, const char *name, void *ctx)
{
    if (name[0] != '.' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        return;
    }
    AUTO(fd)
    int fd = openat(store->dir_fd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0) {
        (void)unlinkat(store->dir_fd, name, 0);
    }
}

struct blob_store *
blob_store_open(const char *dir, struct err *err)
{
    if (!dir_make(dir, 0700, err)) {
        return NULL;
    }
    struct blob_store *store = xcalloc(1, sizeof *store);
    store->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = store->dir_fd < 0 ? -errno : each_name(store, sweep, NULL);
    if (rc != 0) {
        err_sys(err, rc, "opening blobs in %s", dir);
        blob_store_close(store);
        return NULL;
    }
    return store;
}

void
blob_store_close(struct blob_store *store)
{
    if (store) {
        auto_fd(&store->dir_fd);
        free(store);
    }
}

/* ---- room ------------------------------------------------------------------------ */

void
blob_store_keep_free(struct blob_store *store, uint64_t bytes)
{
    store->keep_free = bytes;
}

bool
blob_store_has_room(struct blob_store *store, uint64_t more_bytes, struct err *err)
{
    struct statvfs fs;
    if (store->keep_free == 0) {
        return true;
    }
    if (fstatvfs(store->dir_fd, &fs) != 0) {
        return err_sys(err, errno, "asking for free space of blobs");
    }
    uint64_t bytes_free = (uint64_t)fs.f_bavail * fs.f_frsize;
    uint64_t keep = MIN(store->keep_free, (uint64_t)fs.f_blocks * fs.f_frsize / 20);
    return (bytes_free >= keep && bytes_free - keep >= more_bytes) ||
           err_set(err, ERR_NO_SPACE,
                   "no room for %" PRIu64 " bytes more of images: %" PRIu64
                   " of the disk must stay free, and %" PRIu64 " are",
                   more_bytes, keep, bytes_free);
}

/* ---- writing --------------------------------------------------------------------- */

/* A new file that is locked before anybody can sweep it: one that was swept between is
 * made anew. -1 with errno set on failure. */
static int
make_temp(struct blob_writer *w)
{
    for (unsigned tries = 0; tries < TEMP_TRIES; tries++) {
        (void)snprintf(w->temp, sizeof w->temp, ".%s.%u", w->id,
                       atomic_fetch_add(&w->store->writers, 1));
        AUTO(fd)
        int fd = openat(w->store->dir_fd, w->temp,
                        O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        struct stat st;
        if (fd < 0 && errno == EEXIST) {
            continue; /* Another process's. */
        }
        if (fd < 0 || flock(fd, LOCK_EX) != 0 || fstat(fd, &st) != 0) {
            return -1;
        }
        if (st.st_nlink > 0) {
            return take_fd(&fd);
        }
    }
    return -1;
}

struct blob_writer *
blob_write_begin(struct blob_store *store, const char *id, uint64_t limit,
                 struct err *err)
{
    if (!check_id(id, err)) {
        return NULL;
    }
    if (faccessat(store->dir_fd, id, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        err_set(err, ERR_EXISTS, "blob %s is there already", id);
        return NULL;
    }
    struct blob_writer *w = xcalloc(1, sizeof *w);
    w->store = store;
    w->limit = limit;
    sha256_init(&w->sha);
    (void)snprintf(w->id, sizeof w->id, "%s", id);
    w->fd = make_temp(w);
    if (w->fd < 0) {
        err_sys(err, errno, "beginning blob %s", id);
        free(w);
        return NULL;
    }
    return w;
}

bool
blob_write(struct blob_writer *w, const void *data, size_t len, struct err *err)
{
    if (len > w->limit - w->size) {
        return err_set(err, ERR_TOO_LARGE, "blob %s is larger than %" PRIu64 " bytes",
                       w->id, w->limit);
    }
    bool due = w->size == 0 || w->size / LOOK_EVERY != (w->size + len) / LOOK_EVERY;
    if (due && !blob_store_has_room(w->store, len, err)) {
        return false;
    }
    int rc = fd_write_all(w->fd, data, len);
    if (rc != 0) {
        return err_sys(err, rc, "writing blob %s", w->id);
    }
    sha256_update(&w->sha, len, data);
    w->size += len;
    return true;
}

bool
blob_write_fd(struct blob_writer *w, int *out_fd, struct err *err)
{
    int fd = fcntl(w->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        return err_sys(err, errno, "writing blob %s", w->id);
    }
    *out_fd = fd;
    return true;
}

bool
blob_write_adopt(struct blob_writer *w, struct err *err)
{
    uint8_t chunk[65536];
    sha256_init(&w->sha);
    w->size = 0;
    for (;;) {
        ssize_t n = pread(w->fd, chunk, sizeof chunk, (off_t)w->size);
        if (n < 0) {
            return err_sys(err, errno, "reading blob %s back", w->id);
        }
        if (n == 0) {
            return true;
        }
        sha256_update(&w->sha, (size_t)n, chunk);
        w->size += (uint64_t)n;
    }
}

uint64_t
blob_write_size(const struct blob_writer *w)
{
    return w->size;
}

void
blob_write_abort(struct blob_writer *w)
{
    if (w) {
        (void)unlinkat(w->store->dir_fd, w->temp, 0);
        auto_fd(&w->fd);
        free(w);
    }
}

bool
blob_write_commit(struct blob_writer *writer, uint64_t *out_size,
                  char out_sha256[SHA256_HEX_LEN], struct err *err)
{
    AUTO(blob_writer) struct blob_writer *w = writer; /* The temporary name goes. */
    int dir = w->store->dir_fd;
    if (fsync(w->fd) != 0 || linkat(dir, w->temp, dir, w->id, 0) != 0 ||
        fsync(dir) != 0) {
        return err_sys(err, errno, "finishing blob %s", w->id);
    }
    uint8_t digest[SHA256_LEN];
    sha256_digest(&w->sha, sizeof digest, digest);
    hex_encode(digest, sizeof digest, out_sha256);
    *out_size = w->size;
    return true;
}

/* ---- the rest -------------------------------------------------------------------- */

bool
blob_open(struct blob_store *store, const char *id, int *out_fd, uint64_t *out_size,
          struct err *err)
{
    if (!check_id(id, err)) {
        return false;
    }
    AUTO(fd) int fd = openat(store->dir_fd, id, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        return err_sys(err, errno, "opening blob %s", id);
    }
    *out_size = (uint64_t)st.st_size;
    *out_fd = take_fd(&fd);
    return true;
}

bool
blob_delete(struct blob_store *store, const char *id, struct err *err)
{
    if (!check_id(id, err)) {
        return false;
    }
    if (unlinkat(store->dir_fd, id, 0) != 0 && errno != ENOENT) {
        return err_sys(err, errno, "deleting blob %s", id);
    }
    return true;
}

struct listing {
    blob_list_fn *fn;
    void *ctx;
};

static void
list_one(struct blob_store *store, const char *name, void *ctx)
{
    const struct listing *listing = ctx;
    struct err ignored;
    struct stat st;
    if (check_id(name, &ignored) && fstatat(store->dir_fd, name, &st, 0) == 0) {
        listing->fn(listing->ctx, name, (uint64_t)st.st_size);
    }
}

bool
blob_list(struct blob_store *store, blob_list_fn *fn, void *ctx, struct err *err)
{
    struct listing listing = {fn, ctx};
    int rc = each_name(store, list_one, &listing);
    return rc == 0 || err_sys(err, rc, "listing blobs");
}
