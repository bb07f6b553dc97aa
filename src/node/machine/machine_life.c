#include "base/file.h"
#include "base/log.h"
#include "node/machine/fill.h"
#include "node/machine/machine_impl.h"
#include "node/machine/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>

#define COMMAND_NS ((uint64_t)(10 * NS_PER_S))
#define STATUS_NS (4 * COMMAND_NS)
#define RESUMED_NS ((uint64_t)(5 * NS_PER_S))
#define SPEAK_AGAIN_NS (2 * NS_PER_S)
#define RESUME_EVERY_NS (5 * NS_PER_S)
#define RESUME_FREE_BYTES (64 * (int64_t)MIB)
#define STABLE_NS (600 * NS_PER_S) /* Up so long, earlier crashes are forgiven. */

/* ---- what QEMU tells ------------------------------------------------------------- */

static void
note_reason(struct machine *m, const char *reason, const char *message)
{
    snprintf(m->record.reason, sizeof m->record.reason, "%s", reason);
    snprintf(m->record.message, sizeof m->record.message, "%.199s", message);
}

static bool
is_stopping(const struct machine *m)
{
    return m->stop_began_ns != 0 || m->quit_ns != 0 || m->deleted ||
           machine_is_given(m);
}

/* It stopped by itself, for good or until the pause is over. */
static void
note_fall(struct machine *m, const char *reason, const char *message)
{
    bool again = m->want && m->want->restart;
    m->record.crashes++;
    m->failures++;
    m->retry_at_ns = machine_now(m) + machine_backoff_ns(m->failures);
    m->record.halted_generation = again || !m->want ? -1 : m->want->generation;
    note_reason(m, reason, message);
    machine_save(m);
    machine_event(m, "crash", "error", "%s: %s%s", reason, message,
                  again ? "; it will be started again" : "");
}

static void
on_halted(struct machine *m)
{
    if (m->process != PROCESS_UP) {
        return;
    }
    m->process = PROCESS_HALTED;
    if (!is_stopping(m)) {
        log_info("machine %s: the guest shut down", m->id);
        m->record.halted_generation = m->want ? m->want->generation : -1;
        note_reason(m, "guest_shutdown", "the guest shut itself down");
        machine_save(m);
    }
    machine_changed(m);
}

static void
on_panicked(struct machine *m)
{
    if (m->process != PROCESS_UP) {
        return;
    }
    m->process = PROCESS_PANICKED;
    note_fall(m, "guest_panic", "the guest's kernel panicked");
    machine_changed(m);
}

static void
on_io_error(struct machine *m, json_t *data)
{
    const char *action = json_string_value(json_object_get(data, "action"));
    if (!str_eq(action, "stop")) {
        return;
    }
    if (!m->host_fault) {
        machine_event(m, "io_pause", "error",
                      "paused: the disk pool is full; it goes on when there is room");
    }
    m->host_fault = true;
    m->resume_at_ns = machine_now(m) + RESUME_EVERY_NS;
    machine_changed(m);
}

static void
on_event(void *ctx, const char *name, json_t *data)
{
    struct machine *m = ctx;
    if (m->set->event_fn) {
        m->set->event_fn(m->set->event_ctx, m->id, name, data);
    }
    if (str_eq(name, "SHUTDOWN")) {
        const char *reason = json_string_value(json_object_get(data, "reason"));
        if (str_eq(reason, "guest-shutdown")) {
            on_halted(m);
        }
    } else if (str_eq(name, "RESET")) {
        if (json_is_true(json_object_get(data, "guest")) && m->qmp_up) {
            m->record.guest_reboots++;
            machine_save(m);
            machine_changed(m);
        }
    } else if (str_eq(name, "DEVICE_DELETED")) {
        machine_cards_event(m, json_string_value(json_object_get(data, "device")));
    } else if (str_eq(name, "GUEST_PANICKED")) {
        on_panicked(m);
    } else if (str_eq(name, "BLOCK_IO_ERROR")) {
        on_io_error(m, data);
    } else if (str_eq(name, "JOB_STATUS_CHANGE") && m->set->job_fn) {
        const char *id = json_string_value(json_object_get(data, "id"));
        const char *status = json_string_value(json_object_get(data, "status"));
        if (id && status) {
            m->set->job_fn(m->set->job_ctx, id, status);
        }
    }
}

static void
on_status(void *ctx, json_t *result, const struct err *err)
{
    struct machine *m = ctx;
    if (err) {
        if (err->code != ERR_GONE) {
            log_warn("machine %s: %s", m->id, err->msg);
        }
        return;
    }
    const char *status = json_string_value(json_object_get(result, "status"));
    if (!m->qmp_up) {
        log_info("machine %s: up, %s", m->id, status ? status : "?");
    }
    m->qmp_up = true;
    m->was_up = !machine_is_arriving(m);
    if (str_eq(status, "shutdown")) {
        on_halted(m);
    } else if (str_eq(status, "guest-panicked")) {
        on_panicked(m);
    } else if (str_eq(status, "io-error")) {
        m->host_fault = true;
    }
    machine_changed(m);
}

static void
on_lost(void *ctx, const struct err *why)
{
    struct machine *m = ctx;
    if (m->process != PROCESS_NONE && !is_stopping(m)) {
        log_warn("machine %s: %s", m->id, why->msg);
    }
    qmp_close(m->qmp);
    m->qmp = NULL;
    m->qmp_up = false;
    m->speak_at_ns = machine_now(m) + SPEAK_AGAIN_NS;
    machine_changed(m);
}

/* ---- the process ----------------------------------------------------------------- */

/* The last line that QEMU wrote to its log. */
static void
last_words(const struct machine *m, char *out, size_t size)
{
    char path[512];
    struct err err = {0};
    AUTO(free) char *data = NULL;
    size_t len;
    out[0] = '\0';
    snprintf(path, sizeof path, "%s/qemu.log", m->dir);
    if (!file_read(path, 256 * KIB, &data, &len, &err)) {
        return;
    }
    while (len > 0 && (data[len - 1] == '\n' || data[len - 1] == '\r')) {
        data[--len] = '\0';
    }
    const char *line = strrchr(data, '\n');
    line = line ? line + 1 : data;
    for (size_t i = 0; line[i] && i + 1 < size; i++) {
        out[i] = line[i] >= ' ' && line[i] < 127 ? line[i] : '?';
        out[i + 1] = '\0';
    }
}

static void
forget_process(struct machine *m)
{
    machine_unwatch(m);
    m->process = PROCESS_NONE;
    m->qmp_up = m->was_up = m->lease_late = false;
    m->host_fault = false;
    m->stop_began_ns = m->asked_ns = m->quit_ns = 0;
    machine_cards_reset(m);
    console_hang_up(m->console);
    struct err err = {0};
    if (!cgroup_remove(&m->set->cgroups, m->id, &err)) {
        log_warn("machine %s: %s", m->id,
                 err.msg); /* Tried again at removal or start. */
    }
}

static void
explain_end(const struct machine *m, int status, char *out, size_t size)
{
    char words[120];
    last_words(m, words, sizeof words);
    if (status == -1) {
        snprintf(out, size, "the emulator ended while the agent was away; %s", words);
    } else if ((status & 0x7f) != 0) {
        snprintf(out, size, "the emulator was killed by signal %d; %s", status & 0x7f,
                 words);
    } else {
        snprintf(out, size, "the emulator ended with status %d; %s", status >> 8,
                 words);
    }
}

/* The fence ended it; it starts again when the node has a lease again. */
static bool
note_lease_end(struct machine *m)
{
    const struct machine_host *host = &m->set->config.host;
    if (!m->record.leased || host->lease_lives(host->ctx)) {
        return false;
    }
    log_warn("machine %s: ended with this node's lease", m->id);
    note_reason(m, "lease", "ended with this node's lease");
    machine_save(m);
    return true;
}

static void
on_exit_seen(uv_poll_t *poll, int poll_status UNUSED, int events UNUSED)
{
    struct machine *m = poll->data;
    if (!jail_has_ended(m->pidfd)) {
        return; /* The fence, which traced it, is to see it first. */
    }
    int status = jail_reap(m->pidfd);
    enum machine_process was = m->process;
    bool stopping = is_stopping(m), was_up = m->was_up;
    char message[200];
    explain_end(m, status, message, sizeof message);
    bool stable = m->up_since_ns != 0 && machine_now(m) - m->up_since_ns > STABLE_NS;
    if (stable) {
        m->failures = 0;
    }
    forget_process(m);
    if (was == PROCESS_HALTED || was == PROCESS_PANICKED || stopping) {
        log_info("machine %s: ended", m->id);
        if (was == PROCESS_UP && m->record.reason[0] == '\0') {
            note_reason(m, "stopped", "");
        }
    } else if (note_lease_end(m)) {
        /* No fault of the guest's, nor of the emulator's. */
    } else if (was_up) {
        note_fall(m, "emulator_crash", message);
    } else {
        struct err err = {0};
        err_set(&err, ERR_SYSTEM, "%s", message);
        machine_start_failed(m, &err);
    }
    machine_changed(m);
}

void
machine_start_failed(struct machine *m, const struct err *err)
{
    m->failures++;
    m->retry_at_ns = machine_now(m) + machine_backoff_ns(m->failures);
    log_warn("machine %s: cannot start: %s", m->id, err->msg);
    note_reason(m, "error", err->msg);
}

static void
closed_poll(uv_handle_t *handle)
{
    free(handle);
}

void
machine_unwatch(struct machine *m)
{
    machine_fill_end(m);
    if (m->qmp) {
        struct qmp *q = m->qmp;
        m->qmp = NULL;
        qmp_close(q);
    }
    if (m->pid_poll) {
        uv_poll_stop(m->pid_poll);
        uv_close((uv_handle_t *)m->pid_poll, closed_poll);
        m->pid_poll = NULL;
    }
    if (m->pidfd >= 0) {
        close(m->pidfd);
        m->pidfd = -1;
    }
    m->pid = 0;
}

void
machine_speak(struct machine *m)
{
    static const struct qmp_ops ops = {.event = on_event, .lost = on_lost};
    char path[512];
    int fd;
    struct err err = {0};
    struct qmp *old = m->qmp;
    m->qmp = NULL;
    qmp_close(old);
    m->speak_at_ns = machine_now(m) + (int64_t)STATUS_NS + SPEAK_AGAIN_NS;
    snprintf(path, sizeof path, "%s/qmp.sock", m->dir);
    m->resumed = machine_line_take(m, &fd);
    if ((!m->resumed && !sock_connect(path, &fd, &err)) ||
        !(m->qmp = (m->resumed ? qmp_resume : qmp_open)(m->set->config.loop, fd, &ops,
                                                        m, &err)) ||
        !qmp_send(m->qmp, "query-status", NULL, -1, m->resumed ? RESUMED_NS : STATUS_NS,
                  on_status, m, &err)) {
        log_warn("machine %s: cannot speak to its emulator: %s", m->id, err.msg);
        m->speak_at_ns = machine_now(m) + SPEAK_AGAIN_NS;
    }
    m->qmp_up = m->qmp_up || (m->qmp && m->resumed); /* It greeted the earlier agent. */
}

void
machine_up(struct machine *m, pid_t pid, int pidfd)
{
    m->process = PROCESS_UP;
    m->pid = pid;
    m->pidfd = pidfd;
    m->traces = true;
    m->up_since_ns = machine_now(m);
    m->dirty_bps = 0;
    m->pid_poll = xcalloc(1, sizeof *m->pid_poll);
    m->pid_poll->data = m;
    int rc = uv_poll_init(m->set->config.loop, m->pid_poll, pidfd);
    if (rc < 0 || uv_poll_start(m->pid_poll, UV_READABLE, on_exit_seen) < 0) {
        log_error("machine %s: cannot watch its process: %s", m->id, uv_strerror(rc));
    }
    machine_speak(m);
}

/* Of the processes in the machine's cgroup the emulator; 0: there is none. */
static pid_t
find_emulator(const struct machine *m)
{
    pid_t pids[4];
    size_t count = cgroup_pids(&m->set->cgroups, m->id, pids, ARRAY_LEN(pids));
    for (size_t i = 0; i < count; i++) {
        char path[48];
        struct err err = {0};
        AUTO(free) char *name = NULL;
        snprintf(path, sizeof path, "/proc/%d/comm", (int)pids[i]);
        if (file_read(path, 64, &name, NULL, &err) &&
            !str_starts(name, FILL_NAME)) { /* That one is about to end. */
            return pids[i];
        }
    }
    return 0;
}

void
machine_adopt(struct machine *m)
{
    pid_t pid = find_emulator(m);
    int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (pidfd < 0) {
        return; /* Or it ended this moment. */
    }
    log_info("machine %s: adopted, pid %d", m->id, (int)pid);
    machine_up(m, pid, pidfd);
    m->was_up = true;
}

/* ---- steps ----------------------------------------------------------------------- */

static void
on_done(void *ctx, json_t *result UNUSED, const struct err *err)
{
    struct machine *m = ctx;
    if (err && err->code != ERR_GONE) {
        log_warn("machine %s: %s", m->id, err->msg);
    }
}

static void
command(struct machine *m, const char *cmd)
{
    struct err err = {0};
    if (m->qmp && !qmp_send(m->qmp, cmd, NULL, -1, COMMAND_NS, on_done, m, &err)) {
        log_warn("machine %s: %s: %s", m->id, cmd, err.msg);
    }
}

void
machine_ask(struct machine *m)
{
    int64_t now = machine_now(m);
    if (m->stop_began_ns == 0) {
        log_info("machine %s: asking the guest to shut down", m->id);
        m->stop_began_ns = now;
    }
    if (m->qmp_up) {
        m->asked_ns = now;
        command(m, "system_powerdown");
    }
    if (m->host_fault) { /* A paused guest hears nothing. */
        command(m, "cont");
    }
}

void
machine_quit(struct machine *m)
{
    if (m->process == PROCESS_UP) {
        log_info("machine %s: powering it off", m->id);
    }
    m->quit_ns = machine_now(m);
    command(m, "quit");
}

void
machine_kill(struct machine *m)
{
    if (m->quit_ns == 0) {
        m->quit_ns = machine_now(m);
    }
    if (m->pidfd >= 0) {
        (void)syscall(SYS_pidfd_send_signal, m->pidfd, SIGKILL, NULL, 0);
    }
}

void
machines_balloon(struct machines *set, const char *id, int64_t bytes)
{
    struct machine *m = map_get(set->map, id);
    struct err err = {0};
    if (!m || !m->qmp_up || !m->want) {
        return;
    }
    int64_t most = m->want->memory_bytes;
    json_t *args =
        json_pack("{s:I}", "value", (json_int_t)MAX(most / 2, MIN(bytes, most)));
    if (!qmp_send(m->qmp, "balloon", args, -1, COMMAND_NS, on_done, m, &err)) {
        log_warn("machine %s: %s", m->id, err.msg);
    }
}

static void
on_resumed(void *ctx, json_t *result UNUSED, const struct err *err)
{
    struct machine *m = ctx;
    if (!err) {
        m->host_fault = false;
        machine_event(m, "io_resume", "info", "goes on: the disk pool has room again");
        machine_changed(m);
    }
}

/* A guest paused by a full pool goes on when there is room; should it still fail, QEMU
 * pauses it again and tells. */
void
machine_try_resume(struct machine *m)
{
    const struct machine_host *host = &m->set->config.host;
    int64_t now = machine_now(m);
    struct err err = {0};
    if (!m->host_fault || !m->qmp_up || now < m->resume_at_ns) {
        return;
    }
    m->resume_at_ns = now + RESUME_EVERY_NS;
    if (host->pool_free_bytes(host->ctx) < RESUME_FREE_BYTES) {
        return;
    }
    if (!qmp_send(m->qmp, "cont", NULL, -1, COMMAND_NS, on_resumed, m, &err)) {
        log_warn("machine %s: %s", m->id, err.msg);
    }
}
