/* program.c - see program.h. */
#include "base/program.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>

static void
put_attributes(posix_spawnattr_t *attr)
{
    sigset_t none, all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    (void)posix_spawnattr_setsigmask(attr, &none);
    (void)posix_spawnattr_setsigdefault(attr, &all);
    (void)posix_spawnattr_setflags(
        attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
}

static void
put_files(const struct program *p, posix_spawn_file_actions_t *files)
{
    (void)posix_spawn_file_actions_addopen(files, 0, "/dev/null", O_RDONLY, 0);
    if (p->silent) {
        (void)posix_spawn_file_actions_addopen(files, 1, "/dev/null", O_WRONLY, 0);
    }
    if (p->errors) {
        (void)posix_spawn_file_actions_addopen(files, 2, p->errors,
                                               O_WRONLY | O_CREAT | O_TRUNC, 0644);
    }
    if (p->as_fd > 0) {
        (void)posix_spawn_file_actions_adddup2(files, p->fd, p->as_fd);
    }
}

bool
program_start(const struct program *p, pid_t *out_pid, struct err *err)
{
    posix_spawnattr_t attr;
    posix_spawn_file_actions_t files;
    pid_t pid;
    (void)posix_spawnattr_init(&attr);
    (void)posix_spawn_file_actions_init(&files);
    put_attributes(&attr);
    put_files(p, &files);
    int rc =
        posix_spawn(&pid, p->path, &files, &attr, (char *const *)(uintptr_t)p->argv,
                    p->env ? (char *const *)(uintptr_t)p->env : environ);
    (void)posix_spawn_file_actions_destroy(&files);
    (void)posix_spawnattr_destroy(&attr);
    if (rc != 0) {
        return err_sys(err, rc, "start %s", p->path);
    }
    *out_pid = pid;
    return true;
}
