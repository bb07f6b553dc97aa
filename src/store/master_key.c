/* master_key.c - see master_key.h. */
#include "store/master_key.h"
#include "base/file.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#define DIGITS ((size_t)(2 * SEAL_KEY_LEN))
#define FILE_MAX 4096 /* Bytes; what follows the digits does not count. */

bool
master_key_read(const char *path, uint8_t out[SEAL_KEY_LEN], struct err *err)
{
    AUTO(free) char *text = NULL;
    size_t len;
    if (!file_read(path, FILE_MAX, &text, &len, err)) {
        return false;
    }
    bool ok = (len >= DIGITS && hex_decode(text, DIGITS, out)) ||
              err_set(err, ERR_CORRUPT, "%s is not a master key (64 hex digits)", path);
    explicit_bzero(text, len);
    return ok;
}

static bool
make_key(const char *path, const struct rng *rng, uint8_t out[SEAL_KEY_LEN],
         struct err *err)
{
    char text[DIGITS + 2];
    uint8_t key[SEAL_KEY_LEN];
    rng->fill(rng->ctx, key, sizeof key);
    hex_encode(key, sizeof key, text);
    text[DIGITS] = '\n';
    bool ok = file_write(path, text, DIGITS + 1, 0400, err);
    if (ok) {
        memcpy(out, key, sizeof key);
    }
    explicit_bzero(key, sizeof key);
    explicit_bzero(text, sizeof text);
    return ok;
}

bool
master_key_load(const char *path, const struct rng *rng, uint8_t out[SEAL_KEY_LEN],
                struct err *err)
{
    return file_exists(path) ? master_key_read(path, out, err)
                             : make_key(path, rng, out, err);
}

/* Beside the file itself, where 'path' is a link to it. */
static char *
next_of(const char *path)
{
    AUTO(free) char *real = realpath(path, NULL);
    return xasprintf("%s.next", real ? real : path);
}

bool
master_key_unsettled(const char *path)
{
    AUTO(free) char *next = next_of(path);
    return file_exists(next);
}

/* A file that was replaced between the two looks was somebody else's change. */
static bool
lock(const char *path, int how, int *out_fd, struct err *err)
{
    struct stat held, named;
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return err_sys(err, errno, "open %s", path);
    }
    bool ok = flock(fd, how | LOCK_NB) == 0;
    if (!ok && errno != EWOULDBLOCK) {
        return err_sys(err, errno, "lock %s", path);
    }
    if (!ok || fstat(fd, &held) != 0 || stat(path, &named) != 0 ||
        held.st_ino != named.st_ino) {
        return err_set(err, ERR_BUSY,
                       "%s is in use: try again when a backup or a "
                       "change of the key has ended",
                       path);
    }
    *out_fd = take_fd(&fd);
    return true;
}

bool
master_key_hold(const char *path, int *out_fd, struct err *err)
{
    AUTO(fd) int fd = -1;
    if (!lock(path, LOCK_SH, &fd, err)) {
        return false;
    }
    if (master_key_unsettled(path)) {
        return err_set(err, ERR_BUSY, "a change of %s was cut short: end it first",
                       path);
    }
    *out_fd = take_fd(&fd);
    return true;
}

struct change {
    const char *path, *next;
    struct store_config config;
    bool begun; /* By an earlier call: 'next' is there. */
    uint8_t now[SEAL_KEY_LEN], fresh[SEAL_KEY_LEN];
    master_key_may_fn *may;
    void *ctx;
};

static bool
read_keys(struct change *c, struct err *err)
{
    c->begun = file_exists(c->next);
    return master_key_read(c->path, c->now, err) &&
           (!c->begun || master_key_read(c->next, c->fresh, err));
}

static struct store *
open_under(struct change *c, const uint8_t *key, struct err *err)
{
    c->config.master_key = key;
    return store_open(&c->config, err);
}

/* Whether an earlier call came so far that the database is the new key's. */
static bool
is_sealed(struct change *c)
{
    struct err ignored = {0};
    struct store *store = open_under(c, c->fresh, &ignored);
    store_close(store);
    return store != NULL;
}

static bool
seal_anew(struct change *c, struct err *err)
{
    struct err why = {0};
    AUTO(store) struct store *store = open_under(c, c->now, &why);
    if (!store) {
        bool sealed = c->begun && why.code == ERR_DENIED && is_sealed(c);
        *err = sealed ? *err : why;
        return sealed;
    }
    return (!c->may || c->may(c->ctx, store, err)) &&
           (c->begun || make_key(c->next, c->config.rng, c->fresh, err)) &&
           store_rekey(store, c->fresh, err);
}

bool
master_key_change(const char *path, const struct store_config *config,
                  master_key_may_fn *may, void *ctx, struct err *err)
{
    AUTO(free) char *real = realpath(path, NULL);
    if (!real) {
        return err_sys(err, errno, "find %s", path);
    }
    AUTO(free) char *next = next_of(real);
    AUTO(fd) int held = -1;
    struct change c = {
        .path = real, .next = next, .config = *config, .may = may, .ctx = ctx};
    bool ok = lock(real, LOCK_EX, &held, err) && read_keys(&c, err) &&
              seal_anew(&c, err) && file_move(next, real, err);
    explicit_bzero(&c, sizeof c);
    return ok;
}
