/* ksm.c - see ksm.h. */
#include "node/ksm.h"

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define RUN "/sys/kernel/mm/ksm/run"

struct ksm {
    struct ksm_config config;
    char *root, *note;
    bool on; /* As we left it. */
    bool wanted, failed;
    bool working, turn_on; /* What the worker is at. */
    struct err err;        /* How that went. */
    uv_work_t work;
};

/* ---- the kernel's switch ----------------------------------------------------------- */

static bool
write_run(const char *root, const char *value, struct err *err)
{
    AUTO(free) char *path = xasprintf("%s" RUN, root);
    AUTO(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
    int rc = fd < 0 ? -errno : fd_write_all(fd, value, 1);
    return rc == 0 || err_sys(err, -rc, "write %s to %s", value, path);
}

/* The note first: merging that nobody knows of would never end. */
static bool
turn_on(const char *root, const char *note, struct err *err)
{
    AUTO(free) char *path = xasprintf("%s" RUN, root);
    AUTO(free) char *now = NULL;
    if (!file_read(path, 64, &now, NULL, err)) {
        return false;
    }
    if (now[0] == '1' && !file_exists(note)) {
        return err_set(err, ERR_BUSY, "%s is 1 already, by somebody else: left alone",
                       path);
    }
    if (!file_write(note, "1\n", 2, 0600, err)) {
        return false;
    }
    if (!write_run(root, "1", err)) {
        (void)unlink(note);
        return false;
    }
    return true;
}

/* 2 takes apart every page that was merged, and returns when that is done. */
static bool
turn_off(const char *root, const char *note, struct err *err)
{
    return !file_exists(note) ||
           (write_run(root, "2", err) && write_run(root, "0", err) &&
            (unlink(note) == 0 || err_sys(err, errno, "remove %s", note)));
}

void
ksm_end(const char *root, const char *note)
{
    struct err err = {0};
    if (!turn_off(root, note, &err)) {
        log_error("same-page merging goes on: %s", err.msg);
    }
}

/* ---- the worker -------------------------------------------------------------------- */

static void
work(uv_work_t *w)
{
    struct ksm *ksm = CONTAINER_OF(w, struct ksm, work);
    bool ok = ksm->turn_on ? turn_on(ksm->root, ksm->note, &ksm->err)
                           : turn_off(ksm->root, ksm->note, &ksm->err);
    if (ok) {
        err_clear(&ksm->err);
    }
}

static void
tell(struct ksm *ksm)
{
    char text[600];
    bool failed = ksm->err.code != ERR_NONE;
    snprintf(text, sizeof text, "same-page merging %s%s%s",
             failed ? "cannot be turned " : "is ",
             ksm->turn_on ? "on" : "off, and what was merged is taken apart",
             !failed && ksm->turn_on ? ": all guests here are one account's" : "");
    if (failed) {
        snprintf(text + strlen(text), sizeof text - strlen(text), ": %s", ksm->err.msg);
    }
    ksm->config.event(ksm->config.ctx, "ksm", "", failed ? "warn" : "info", text);
}

static void
after_work(uv_work_t *w, int status UNUSED)
{
    struct ksm *ksm = CONTAINER_OF(w, struct ksm, work);
    ksm->working = false;
    ksm->failed = ksm->err.code != ERR_NONE;
    ksm->on = ksm->failed ? ksm->on : ksm->turn_on;
    tell(ksm);
    ksm_want(ksm, ksm->wanted);
}

void
ksm_want(struct ksm *ksm, bool on)
{
    ksm->failed = ksm->failed && on == ksm->wanted; /* Another wish, another try. */
    ksm->wanted = on;
    if (ksm->working || ksm->failed || ksm->on == on) {
        return;
    }
    ksm->working = true;
    ksm->turn_on = on;
    if (uv_queue_work(ksm->config.loop, &ksm->work, work, after_work) < 0) {
        ksm->working = false; /* Asked for again by the next pass. */
    }
}

/* ---- life -------------------------------------------------------------------------- */

struct ksm *
ksm_open(const struct ksm_config *config)
{
    struct ksm *ksm = xcalloc(1, sizeof *ksm);
    ksm->config = *config;
    ksm->root = xstrdup(config->root);
    ksm->note = xstrdup(config->note);
    ksm->on = ksm->wanted = file_exists(config->note);
    return ksm;
}

void
ksm_close(struct ksm *ksm)
{
    if (!ksm) {
        return;
    }
    ksm->wanted = ksm->working ? ksm->turn_on : ksm->on; /* And no further. */
    while (ksm->working) {
        (void)uv_run(ksm->config.loop, UV_RUN_ONCE);
    }
    free(ksm->root);
    free(ksm->note);
    free(ksm);
}
