#include "cli/backup.h"
#include "base/file.h"
#include "cli/tar.h"
#include "store/master_key.h"
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>

#define MARK "moln-backup"
#define MARK_TEXT "moln backup, format 1\n"
#define DB_MAX (UINT64_C(1) << 36)

/* ---- save ------------------------------------------------------------------------ */

static bool
put_bytes(int fd, const char *name, const void *data, size_t len, struct err *err)
{
    int r;
    if (!tar_put_header(fd, name, len, err)) {
        return false;
    }
    r = fd_write_all(fd, data, len);
    return r == 0 ? tar_pad(fd, len, err) : err_sys(err, -r, "write the archive");
}

/* Copies 'size' bytes from one descriptor to another. */
static bool
copy_bytes(int from, int to, uint64_t size, struct err *err)
{
    char part[65536];
    while (size > 0) {
        ssize_t n = read(from, part, (size_t)MIN(size, sizeof part));
        if (n <= 0) {
            return err_set(err, ERR_CORRUPT, "a file of the backup is cut short");
        }
        int r = fd_write_all(to, part, (size_t)n);
        if (r != 0) {
            return err_sys(err, -r, "write a file of the backup");
        }
        size -= (uint64_t)n;
    }
    return true;
}

static bool
put_file(int fd, const char *name, const char *path, struct err *err)
{
    struct stat st;
    AUTO(fd) int from = open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0 || fstat(from, &st) != 0) {
        return err_sys(err, errno, "open %s", path);
    }
    uint64_t size = (uint64_t)st.st_size;
    return tar_put_header(fd, name, size, err) && copy_bytes(from, fd, size, err) &&
           tar_pad(fd, size, err);
}

static bool
write_archive(struct cli *cli, int fd, const char *rows, struct err *err)
{
    if (!put_bytes(fd, MARK, MARK_TEXT, strlen(MARK_TEXT), err) ||
        !put_file(fd, "moln.db", rows, err) ||
        !put_file(fd, "master.key", cli_path(cli, "control/master.key"), err) ||
        !tar_end(fd, err)) {
        return false;
    }
    return fsync(fd) == 0 || err_sys(err, errno, "write the archive");
}

bool
backup_save(struct cli *cli, const char *file, struct err *err)
{
    if (!file_exists(cli_path(cli, "control/moln.db"))) {
        return err_set(err, ERR_UNSUPPORTED,
                       "there is no %s: rows on PostgreSQL are saved with pg_dump, "
                       "beside a copy of the master key (docs/operating.md)",
                       cli_path(cli, "control/moln.db"));
    }
    AUTO(fd) int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return err_sys(err, errno, "make %s", file);
    }
    const char *rows = arena_printf(cli->arena, "%s.rows.%d", file, (int)getpid());
    AUTO(fd) int key = -1;
    bool ok = master_key_hold(cli_path(cli, "control/master.key"), &key, err) &&
              store_copy(cli_path(cli, "control/moln.db"), rows, err) &&
              write_archive(cli, fd, rows, err);
    (void)unlink(rows);
    if (!ok) {
        (void)unlink(file);
    }
    return ok;
}

/* ---- restore --------------------------------------------------------------------- */

/* Whether the program whose number is in STATE/control/molnd.pid lives. */
static bool
control_plane_runs(struct cli *cli)
{
    AUTO(free) char *text = NULL;
    struct err ignored = {0};
    if (!file_read(cli_path(cli, "control/molnd.pid"), 64, &text, NULL, &ignored)) {
        return false;
    }
    long pid = strtol(text, NULL, 10);
    return pid > 0 && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

/* Writes the archive's current file to 'path', for the owner of STATE/control. */
static bool
take_file(int fd, uint64_t size, const char *path, unsigned mode,
          const struct stat *owner, struct err *err)
{
    AUTO(fd)
    int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (to < 0) {
        return err_sys(err, errno, "make %s", path);
    }
    if (!copy_bytes(fd, to, size, err)) {
        return false;
    }
    if (fchown(to, owner->st_uid, owner->st_gid) != 0 || fchmod(to, mode) != 0 ||
        fsync(to) != 0) {
        return err_sys(err, errno, "finish %s", path);
    }
    return true;
}

static bool
take_all(int fd, const char *rows, const char *key, const struct stat *owner,
         struct err *err)
{
    bool marked = false, have_rows = false, have_key = false;
    char name[101];
    for (;;) {
        uint64_t size = 0;
        if (!tar_next(fd, name, &size, err)) {
            return false;
        }
        if (!*name) {
            break;
        }
        if (size > DB_MAX) {
            return err_set(err, ERR_TOO_LARGE, "'%s' in the backup is too large", name);
        }
        bool ok;
        if (str_eq(name, "moln.db") && marked) {
            ok = have_rows = take_file(fd, size, rows, 0600, owner, err);
        } else if (str_eq(name, "master.key") && marked) {
            ok = have_key = take_file(fd, size, key, 0400, owner, err);
        } else {
            char mark[64];
            ok = marked = str_eq(name, MARK) && size == strlen(MARK_TEXT) &&
                          read(fd, mark, size) == (ssize_t)size &&
                          memcmp(mark, MARK_TEXT, size) == 0;
            if (!ok) {
                err_set(err, ERR_CORRUPT, "this is no archive of 'moln backup'");
            }
        }
        if (!ok || !tar_skip_pad(fd, size, err)) {
            return false;
        }
    }
    return (have_rows && have_key) ||
           err_set(err, ERR_CORRUPT, "the backup lacks rows or master key");
}

/* Both files are whole on the disk before either takes its place. */
static bool
put_in_place(struct cli *cli, const char *rows, const char *key, struct err *err)
{
    const char *db = cli_path(cli, "control/moln.db");
    (void)unlink(arena_printf(cli->arena, "%s-wal", db));
    (void)unlink(arena_printf(cli->arena, "%s-shm", db));
    (void)unlink(cli_path(cli, "control/master.key.next")); /* Of a change cut short. */
    if (rename(key, cli_path(cli, "control/master.key")) != 0 ||
        rename(rows, db) != 0) {
        return err_sys(err, errno, "put the rows in place");
    }
    return true;
}

/* STATE/control, made for molnd's user where it is not there. */
static bool
make_control(const char *control, struct err *err)
{
    if (file_exists(control)) {
        return true;
    }
    const struct passwd *user = geteuid() == 0 ? getpwnam("moln") : NULL;
    if (!dir_make(control, 0700, err)) {
        return false;
    }
    return !user || chown(control, user->pw_uid, user->pw_gid) == 0 ||
           err_sys(err, errno, "give %s to the user moln", control);
}

bool
backup_restore(struct cli *cli, const char *file, bool force, struct err *err)
{
    struct stat owner;
    const char *control = cli_path(cli, "control");
    if (control_plane_runs(cli)) {
        return err_set(err, ERR_BUSY, "molnd runs; stop it first with 'make down'");
    }
    if (file_exists(cli_path(cli, "control/moln.db")) && !force) {
        return err_set(err, ERR_EXISTS, "%s holds rows; --force replaces them",
                       control);
    }
    if (!make_control(control, err)) {
        return false;
    }
    AUTO(fd) int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || stat(control, &owner) != 0) {
        return err_sys(err, errno, "open %s", fd < 0 ? file : control);
    }
    const char *rows = cli_path(cli, "control/restore.db");
    const char *key = cli_path(cli, "control/restore.key");
    bool ok = take_all(fd, rows, key, &owner, err) && put_in_place(cli, rows, key, err);
    (void)unlink(rows);
    (void)unlink(key);
    return ok;
}
