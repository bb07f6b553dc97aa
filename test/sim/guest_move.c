/* guest_move.c - what a simulated emulator does of a live migration.
 *
 * Purpose:  the commands that node/migrate/ gives over QMP, as QEMU takes them: a mirror
 *           becomes ready, memory is copied until the guest stands still, and on
 *           migrate-continue it is gone: sent, and perhaps not received, when the way is
 *           cut at that moment; a copy that failed goes on by itself where it was; an
 *           emulator whose incoming memory breaks off ends. A guest runs, for the history,
 *           only while its processors do. One in post-copy writes its memory faster than it
 *           is copied, mostly, and is handed over when told so (guest_follow.c).
 * Place:    beside guest.c, which asks here for what it does not know. */
#include "guest_move.h"
#include "courier_sim.h"
#include "guest_disk.h"
#include "guest_follow.h"
#include "node/migrate/courier.h"

#define LOOK_NS (300 * NS_PER_MS)
#define PATIENCE_LOOKS 20
#define BUSY_PERCENT 80 /* Of those that may move by post-copy. */

/* ---- its processors -------------------------------------------------------------- */

void
guest_stand(struct guest *g)
{
    if (!g->standing) {
        g->standing = true;
        trace("%s: guest %s stands still", g->host->name, g->id);
        HISTORY(MOMENT_GUEST_END, .host = g->host->number, .id = g->id);
    }
}

void
guest_go_on(struct guest *g)
{
    if (g->standing && g->alive) {
        g->standing = g->gave = false;
        if (g->twin) { /* What the other has is of the past from now on. */
            g->twin->gave = true;
            g->twin->twin = NULL;
            g->twin = NULL;
        }
        trace("%s: guest %s goes on", g->host->name, g->id);
        HISTORY(MOMENT_GUEST_START, .host = g->host->number, .id = g->id,
                .vcpus = g->vcpus, .memory_bytes = g->memory_bytes);
    }
}

const char *
guest_run_state(const struct guest *g)
{
    static const char *const words[] = {"running", "running", "shutdown",
                                        "guest-panicked"};
    if (!g->standing) {
        return words[g->state];
    }
    if (g->incoming) {
        return "inmigrate";
    }
    return str_eq(g->move, "completed") ? "postmigrate"
           : str_eq(g->move, "pre-switchover") || str_eq(g->move, "device") ||
                   (!g->behind && g->move && str_starts(g->move, "postcopy-"))
               ? "finish-migrate"
               : "paused";
}

void
guest_set_move(struct guest *g, const char *status)
{
    g->move = status;
    guest_tell(g, "MIGRATION", json_pack("{s:s}", "status", status));
}

/* ---- the giver's memory ---------------------------------------------------------- */

struct courier *
guest_memory_courier(const struct guest *g)
{
    return courier_of(g->host, g->id, COURIER_MEMORY);
}

static void
on_copied(void *ctx)
{
    struct guest *g = ctx;
    if (!g->alive || !str_eq(g->move, "active")) {
        return;
    }
    if (!courier_reaches(guest_memory_courier(g))) {
        guest_set_move(g, "failed");
        return;
    }
    if (g->busy && !g->hurried) {
        g->passes++;
        (void)world_after(NULL, world_between(CHANCE_ORDER, NS_PER_MS, NS_PER_S),
                          on_copied, g);
        return;
    }
    guest_stand(g);
    guest_set_move(g, "pre-switchover");
}

/* Both have all of it, until one goes on. */
static void
on_received(void *ctx)
{
    struct guest *g = ctx;
    struct guest *from = g->sender;
    if (g->alive && g->incoming) {
        g->incoming = false;
        g->state = GUEST_RUNNING;
        g->twin = from->alive && from->standing ? from : NULL;
        if (g->twin) {
            from->twin = g;
        }
        guest_set_move(g, "completed");
    }
}

/* What was sent and has not arrived. */
struct last {
    struct guest *far;
    struct courier *courier;
};

void
guest_arrives(const struct guest *from, const struct guest *to)
{
    if (!str_eq(to->build, from->build)) {
        HISTORY(MOMENT_UNLIKE, .host = to->host->number, .id = from->id,
                .state = from->build, .other = to->build);
    }
}

/* While a host is cut off it waits on its way, as in TCP; it is lost with the courier only,
 * and then the receiver's emulator hears of that. */
static void
on_last(void *ctx)
{
    struct last *l = ctx;
    if (courier_reaches(l->courier) && l->far->move) {
        courier_finish(l->courier);
        on_received(l->far);
    } else if (courier_holds(l->courier) && l->far->alive) {
        (void)world_after(NULL, LOOK_NS, on_last, l);
        return;
    }
    free(l);
}

/* The last of it leaves. Nobody knows, when the way breaks now, whether it arrives. */
static void
on_sent(void *ctx)
{
    struct guest *g = ctx;
    if (!g->alive || !str_eq(g->move, "device")) {
        return;
    }
    struct courier *c = guest_memory_courier(g);
    const struct host *there = courier_holds(c);
    struct guest *far = there ? host_guest(there, g->id) : NULL;
    bool waits = far && far->incoming;
    bool arrives = waits && far->move && courier_reaches(c);
    if (!arrives && world_percent(CHANCE_FAULTS, 50)) {
        guest_set_move(g, "failed");
        guest_go_on(g);
        return;
    }
    guest_set_move(g, "completed");
    if (waits) {
        far->sender = g;
        guest_arrives(g, far);
    }
    if (arrives) {
        (void)world_after(NULL, world_between(CHANCE_ORDER, 1, 20 * NS_PER_MS),
                          on_received, far);
        courier_finish(c);
    } else if (waits) {
        struct last *l = xcalloc(1, sizeof *l);
        *l = (struct last){far, c};
        (void)world_after(NULL, LOOK_NS, on_last, l);
    }
}

/* ---- the receiver's -------------------------------------------------------------- */

/* An emulator that has ended closed its end; by post-copy a cut way is not at its end. */
static bool
is_sent(const struct guest *g, const struct courier *c)
{
    const struct host *there = courier_holds(c);
    const struct guest *sender = there ? host_guest(there, g->id) : NULL;
    return sender && (courier_reaches(c) || g->post_copy);
}

static void
on_incoming_look(void *ctx)
{
    struct guest *g = ctx;
    if (!g->alive || !g->incoming) {
        return;
    }
    const struct courier *c = guest_memory_courier(g);
    bool comes = is_sent(g, c);
    g->silent = comes ? 0 : g->silent + 1;
    if (g->silent >= PATIENCE_LOOKS) {
        guest_end(g, "its memory broke off on the way");
        return;
    }
    (void)world_after(NULL, LOOK_NS, on_incoming_look, g);
}

/* ---- disks ----------------------------------------------------------------------- */

static struct guest_job *
job_of(struct guest *g, const char *id)
{
    for (size_t i = 0; i < ARRAY_LEN(g->jobs); i++) {
        if (id && str_eq(g->jobs[i].id, id)) {
            return &g->jobs[i];
        }
    }
    return NULL;
}

static void
set_job(struct guest *g, struct guest_job *job, const char *status)
{
    job->status = status;
    guest_tell(g, "JOB_STATUS_CHANGE",
               json_pack("{s:s, s:s}", "id", job->id, "status", status));
}

static void
on_mirrored(void *ctx)
{
    struct guest *g = ctx;
    for (size_t i = 0; g->alive && i < ARRAY_LEN(g->jobs); i++) {
        struct guest_job *job = &g->jobs[i];
        if (str_eq(job->status, "running")) {
            const struct host *there =
                courier_reaches(courier_of(g->host, g->id, COURIER_WORDS));
            if (there) {
                guest_disk_mirror(g, host_guest(there, g->id));
            }
            job->error = there ? NULL : "Broken pipe";
            set_job(g, job, there ? "ready" : "concluded");
        }
    }
}

static void
on_cancelled(void *ctx)
{
    struct guest *g = ctx;
    for (size_t i = 0; g->alive && i < ARRAY_LEN(g->jobs); i++) {
        if (str_eq(g->jobs[i].status, "aborting")) {
            set_job(g, &g->jobs[i], "concluded");
        }
    }
}

static json_t *
list_jobs(const struct guest *g)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ARRAY_LEN(g->jobs); i++) {
        const struct guest_job *job = &g->jobs[i];
        if (job->id[0]) {
            json_t *one =
                json_pack("{s:s, s:s, s:i, s:i}", "id", job->id, "status", job->status,
                          "total-progress", 100, "current-progress", 100);
            if (job->error) {
                (void)json_object_set_new(one, "error", json_string(job->error));
            }
            (void)json_array_append_new(list, one);
        }
    }
    return list;
}

/* ---- commands -------------------------------------------------------------------- */

typedef json_t *command_fn(struct guest *g, const struct guest_order *o,
                           struct err *err);

static const char *
text(const struct guest_order *o, const char *key)
{
    return json_string_value(json_object_get(o->args, key));
}

static json_t *
refuse(struct err *err, const char *why)
{
    err_set(err, ERR_INVALID, "QMP: %s", why);
    return NULL;
}

static json_t *
do_nothing(struct guest *g UNUSED, const struct guest_order *o UNUSED,
           struct err *err UNUSED)
{
    return json_object();
}

static json_t *
do_mirror(struct guest *g, const struct guest_order *o, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(g->jobs); i++) {
        struct guest_job *job = &g->jobs[i];
        if (!job->id[0]) {
            snprintf(job->id, sizeof job->id, "%s", text(o, "job-id"));
            job->status = "running";
            job->error = NULL;
            (void)world_after(NULL,
                              world_between(CHANCE_ORDER, NS_PER_MS, 2 * NS_PER_S),
                              on_mirrored, g);
            return json_object();
        }
    }
    return refuse(err, "too many jobs");
}

static json_t *
do_cancel_job(struct guest *g, const struct guest_order *o, struct err *err)
{
    struct guest_job *job = job_of(g, text(o, "device"));
    if (!job || str_eq(job->status, "concluded")) {
        return refuse(err, "no such job");
    }
    job->status = "aborting";
    (void)world_after(NULL, world_between(CHANCE_ORDER, 1, 20 * NS_PER_MS),
                      on_cancelled, g);
    return json_object();
}

static json_t *
do_dismiss(struct guest *g, const struct guest_order *o, struct err *err)
{
    struct guest_job *job = job_of(g, text(o, "id"));
    if (!job || !str_eq(job->status, "concluded")) {
        return refuse(err, "no such job");
    }
    *job = (struct guest_job){{0}};
    return json_object();
}

static json_t *
do_list_jobs(struct guest *g, const struct guest_order *o UNUSED,
             struct err *err UNUSED)
{
    return list_jobs(g);
}

/* "fd:NAME", of what it was given before. */
static bool
takes_end(struct guest *g, const struct guest_order *o)
{
    const char *uri = text(o, "uri");
    return uri && str_starts(uri, "fd:") && guest_drop_fd(g, uri + 3);
}

static json_t *
do_migrate(struct guest *g, const struct guest_order *o, struct err *err)
{
    bool resume = json_is_true(json_object_get(o->args, "resume"));
    if (!takes_end(g, o)) {
        return refuse(err, "there is no such descriptor");
    }
    if (resume) {
        return follow_resumes(g) ? json_object()
                                 : refuse(err, "only what is paused is resumed");
    }
    if (g->standing || str_eq(g->move, "active")) {
        return refuse(err, "it does not run, or moves already");
    }
    g->hurried = false;
    g->passes = 1;
    g->busy = g->post_copy && world_percent(CHANCE_ORDER, BUSY_PERCENT);
    guest_set_move(g, "active");
    (void)world_after(NULL, world_between(CHANCE_ORDER, 20 * NS_PER_MS, 4 * NS_PER_S),
                      on_copied, g);
    return json_object();
}

static json_t *
do_continue(struct guest *g, const struct guest_order *o UNUSED, struct err *err)
{
    if (!str_eq(g->move, "pre-switchover")) {
        return refuse(err, "migration not in expected state");
    }
    if (g->hurried) {
        follow_hand_over(g);
        return json_object();
    }
    guest_set_move(g, "device");
    (void)world_after(NULL, world_between(CHANCE_ORDER, NS_PER_MS, 200 * NS_PER_MS),
                      on_sent, g);
    return json_object();
}

static json_t *
do_hurry(struct guest *g, const struct guest_order *o UNUSED, struct err *err)
{
    if (!g->post_copy) {
        return refuse(err, "enable postcopy with migrate_set_capability before");
    }
    g->hurried = str_eq(g->move, "active");
    return g->hurried ? json_object() : refuse(err, "nothing is being copied");
}

static json_t *
do_recover(struct guest *g, const struct guest_order *o, struct err *err)
{
    if (!takes_end(g, o)) {
        return refuse(err, "there is no such descriptor");
    }
    return follow_expects(g, o->who)
               ? json_object()
               : refuse(err, "migrate recover can only be run when postcopy is paused");
}

static json_t *
do_capabilities(struct guest *g, const struct guest_order *o, struct err *err UNUSED)
{
    size_t i;
    const json_t *one;
    json_array_foreach(json_object_get(o->args, "capabilities"), i, one)
    {
        if (str_eq(json_string_value(json_object_get(one, "capability")),
                   "postcopy-ram")) {
            g->post_copy = json_is_true(json_object_get(one, "state"));
        }
    }
    return json_object();
}

static json_t *
do_getfd(struct guest *g, const struct guest_order *o, struct err *err)
{
    if (*o->fd < 0) {
        return refuse(err, "no file descriptor supplied via SCM_RIGHTS");
    }
    guest_keep_fd(g, text(o, "fdname"), take_fd(o->fd));
    return json_object();
}

static json_t *
do_closefd(struct guest *g, const struct guest_order *o, struct err *err)
{
    return guest_drop_fd(g, text(o, "fdname")) ? json_object()
                                               : refuse(err, "no such descriptor");
}

/* Of what leaves; what comes in does not heed it. */
static json_t *
do_cancel(struct guest *g, const struct guest_order *o UNUSED, struct err *err UNUSED)
{
    bool under_way = str_eq(g->move, "active") || str_eq(g->move, "pre-switchover") ||
                     str_eq(g->move, "device");
    if (under_way && !g->incoming) {
        guest_set_move(g, "cancelled");
        guest_go_on(g);
    }
    return json_object();
}

static json_t *
do_incoming(struct guest *g, const struct guest_order *o, struct err *err)
{
    if (!g->incoming || g->move || !takes_end(g, o)) {
        return refuse(err, "it does not wait for memory");
    }
    g->move = "active";
    (void)world_after(NULL, LOOK_NS, on_incoming_look, g);
    return json_object();
}

static json_t *
do_cont(struct guest *g, const struct guest_order *o UNUSED, struct err *err)
{
    if (g->incoming) {
        return refuse(err, "its memory is not here");
    }
    if (!g->behind && g->move && str_starts(g->move, "postcopy-")) {
        return refuse(err, "migration is not finalized yet");
    }
    guest_go_on(g);
    return json_object();
}

static json_t *
do_query(struct guest *g, const struct guest_order *o UNUSED, struct err *err UNUSED)
{
    return g->move ? json_pack("{s:s, s:{s:i, s:i, s:I}}", "status", g->move, "ram",
                               "total", 1 << 30, "remaining", 1 << 20,
                               "dirty-sync-count", (json_int_t)g->passes)
                   : json_object();
}

static const struct {
    const char *name;
    command_fn *fn;
} commands[] = {
    {"announce-self", do_nothing},
    {"block-export-add", do_nothing},
    {"block-job-cancel", do_cancel_job},
    {"blockdev-add", do_nothing},
    {"blockdev-del", do_nothing},
    {"blockdev-mirror", do_mirror},
    {"cont", do_cont},
    {"closefd", do_closefd},
    {"getfd", do_getfd},
    {"job-dismiss", do_dismiss},
    {"migrate", do_migrate},
    {"migrate-continue", do_continue},
    {"migrate-incoming", do_incoming},
    {"migrate-recover", do_recover},
    {"migrate-set-capabilities", do_capabilities},
    {"migrate-set-parameters", do_nothing},
    {"migrate-start-postcopy", do_hurry},
    {"migrate_cancel", do_cancel},
    {"nbd-server-start", do_nothing},
    {"nbd-server-stop", do_nothing},
    {"query-jobs", do_list_jobs},
    {"query-migrate", do_query},
};

json_t *
guest_move_obey(struct guest *g, const struct guest_order *order, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (str_eq(commands[i].name, order->name)) {
            return commands[i].fn(g, order, err);
        }
    }
    err_set(err, ERR_UNSUPPORTED, "QMP: %s is not simulated", order->name);
    return NULL;
}
