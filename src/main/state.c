/* state.c - see state.h. */
#include "main/state.h"

#include "base/crypto.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/stat.h>

char *
state_path(const struct state *state, const char *name)
{
    return xasprintf("%s/%s", state->dir, name);
}

/* Who gets the credentials: the person behind sudo, else who started us. */
static void
starter(uid_t *out_uid, gid_t *out_gid)
{
    const char *uid = getenv("SUDO_UID"), *gid = getenv("SUDO_GID");
    bool sudo = geteuid() == 0 && uid && gid;
    *out_uid = sudo ? (uid_t)strtoul(uid, NULL, 10) : getuid();
    *out_gid = sudo ? (gid_t)strtoul(gid, NULL, 10) : getgid();
}

static bool
open_private(const struct state *state, const char *name, int *out_fd, struct err *err)
{
    uid_t uid;
    gid_t gid;
    starter(&uid, &gid);
    char *path = state_path(state, name);
    AUTO(fd) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int sys = errno;
    struct stat st;
    bool ok = fd >= 0 && fstat(fd, &st) == 0;
    /* A file that is there keeps its owner; a new one gets the starter's. */
    if (ok && st.st_size == 0 && geteuid() == 0) {
        ok = fchown(fd, uid, gid) == 0 && fchmod(fd, 0600) == 0;
        sys = errno;
    }
    if (!ok) {
        err_sys(err, sys, "open %s", path);
    }
    free(path);
    if (!ok) {
        return false;
    }
    *out_fd = take_fd(&fd);
    return true;
}

static bool
become(const struct passwd *pw, struct err *err)
{
    if (setgroups(0, NULL) < 0 || setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) < 0 ||
        setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) < 0) {
        return err_sys(err, errno, "become user %s", pw->pw_name);
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        return err_sys(err, errno, "give up privileges for good");
    }
    /* Secrets lie in memory: no core files, no ptrace by the same user. */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    return true;
}

static bool
make_folders(const struct state *state, const struct passwd *pw, struct err *err)
{
    if (!dir_make(state->dir, 0755, err) || !dir_make(state->control, 0700, err)) {
        return false;
    }
    if (!pw) {
        return true;
    }
    char *node = state_path(state, "node");
    bool ok = dir_make(node, 0700, err);
    free(node);
    if (!ok) {
        return false;
    }
    if (chown(state->dir, 0, pw->pw_gid) < 0 || chmod(state->dir, 01775) < 0 ||
        chown(state->control, pw->pw_uid, pw->pw_gid) < 0 ||
        chmod(state->control, 0700) < 0) {
        return err_sys(err, errno, "set owners in %s", state->dir);
    }
    return true;
}

bool
state_open(struct state *state, const char *dir, const char *user, struct err *err)
{
    *state = (struct state){.credentials_fd = -1, .operator_fd = -1};
    state->dir = xstrdup(dir);
    state->control = state_path(state, "control");
    const struct passwd *pw = NULL;
    if (geteuid() == 0) {
        pw = getpwnam(user);
        if (!pw) {
            return err_set(
                err, ERR_NOT_FOUND,
                "there is no user '%s' to run as: make it with 'useradd --system "
                "--no-create-home %s', or name another with --user",
                user, user);
        }
        if (pw->pw_uid == 0) {
            return err_set(err, ERR_INVALID,
                           "molnd does not run as root; name a user "
                           "without privileges with --user");
        }
    }
    if (!make_folders(state, pw, err) ||
        !open_private(state, "credentials", &state->credentials_fd, err) ||
        !open_private(state, "operator", &state->operator_fd, err)) {
        return false;
    }
    return !pw || become(pw, err);
}

void
state_close(struct state *state)
{
    free(state->dir);
    free(state->control);
    auto_fd(&state->credentials_fd);
    auto_fd(&state->operator_fd);
    *state = (struct state){.credentials_fd = -1, .operator_fd = -1};
}

bool
state_fill(int fd, const char *text, struct err *err)
{
    if (ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0) {
        return err_sys(err, errno, "empty a credentials file");
    }
    int rc = fd_write_all(fd, text, strlen(text));
    if (rc < 0 || fsync(fd) < 0) {
        return err_sys(err, rc < 0 ? -rc : errno, "write a credentials file");
    }
    return true;
}

bool
state_control_id(const struct state *state, const struct rng *rng, char *out,
                 struct err *err)
{
    AUTO(free) char *path = xasprintf("%s/id", state->control);
    AUTO(free) char *text = NULL;
    uint8_t random[8];
    char fresh[33];
    if (file_exists(path)) {
        if (!file_read(path, 64, &text, NULL, err)) {
            return false;
        }
        size_t len = strcspn(text, "\n");
        if (len != 24 || strspn(text, "control-0123456789abcdef") != len) {
            return err_set(err, ERR_CORRUPT, "%s is not the id of a control process",
                           path);
        }
        (void)snprintf(out, 33, "%.*s", (int)len, text);
        return true;
    }
    rng->fill(rng->ctx, random, sizeof random);
    (void)snprintf(fresh, sizeof fresh, "control-");
    hex_encode(random, sizeof random, fresh + strlen(fresh));
    (void)snprintf(out, 33, "%s", fresh);
    strcat(fresh, "\n");
    return file_write(path, fresh, strlen(fresh), 0600, err);
}
