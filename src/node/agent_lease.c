/* agent_lease.c - the node's lease: asked for over the link, passed on to the fence, and to
 * the network.
 *
 * Only while machines are wanted here that may not outlive it, or NAT gateways are at home. A lease counts from the
 * moment at which it was asked for, by this host's clock since boot: however long the
 * answer was on its way, it is over here before it is over there. */
#include "node/agent_impl.h"

#include <limits.h>

#define LOOK_MS 1000
#define ASK_AGAIN_NS (5 * NS_PER_S) /* No answer, or none that gives one. */
#define DURATION_MAX_MS INT64_C(3600000)

static bool
is_wanted(const struct agent *a)
{
    return a->modules_open &&
           (machines_leased(a->machines) > 0 || net_leased(a->net) > 0);
}

/* The supervisor's program lies beside this one, also when both were just replaced. */
static char *
fence_program(void)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[MAX(n, 0)] = '\0';
    char *slash = strrchr(self, '/');
    int len = slash ? (int)(slash - self) + 1 : 0;
    return xasprintf("%.*s" FENCE_PROGRAM, len, self);
}

static void
ask(struct agent *a, int64_t now)
{
    struct lease *l = &a->lease;
    enum fence_state state = fence_client_state(l->fence);
    if (state != FENCE_EMPTY && state != FENCE_OPEN) {
        return; /* Neither guarded nor free of leased guests: soon one of them. */
    }
    const struct link_lease_ask record = {.serial = l->serial + 1,
                                          .empty = state == FENCE_EMPTY};
    if (link_client_ask_lease(a->link, &record)) {
        l->serial++;
        l->asked_ns = now;
        l->ask_at_ns = now + ASK_AGAIN_NS;
    }
}

void
lease_tell_net(struct agent *a)
{
    struct err err = {0};
    if (a->lease.until_ns > 0 && lease_lives(a) &&
        !net_lease(a->net, a->lease.until_ns, &err)) {
        log_error("network: %s", err.msg);
    }
}

static void
note_state(struct agent *a)
{
    struct lease *l = &a->lease;
    enum fence_state state = fence_client_state(l->fence);
    if (l->state == FENCE_OPEN && state != FENCE_OPEN && !l->given_up &&
        machines_leased(a->machines) > 0) {
        agent_event(a, "lease", a->identity.node_id, "error",
                    "leased machines were ended: the lease was not renewed in time");
    }
    l->state = state;
    l->given_up = l->given_up && state != FENCE_EMPTY;
}

/* What runs already, and is to end with the lease from now on; one after the other. */
static void
adopt(struct agent *a)
{
    pid_t pid;
    int pidfd;
    if (a->modules_open && fence_client_state(a->lease.fence) == FENCE_OPEN &&
        machines_unleased(a->machines, &pid, &pidfd)) {
        (void)fence_client_adopt(a->lease.fence, pid, pidfd);
    }
}

static void
on_adopted(void *ctx, pid_t pid, bool done)
{
    struct agent *a = ctx;
    if (!a->closing) {
        machines_adopted(a->machines, pid, done);
        adopt(a);
    }
}

void
lease_look(struct agent *a)
{
    struct lease *l = &a->lease;
    int64_t now = clock_mono(a->config.clock);
    if (a->closing || (!l->fence && !is_wanted(a))) {
        return;
    }
    if (!l->fence) {
        AUTO(free) char *path = lease_socket(a);
        AUTO(free) char *program = fence_program();
        l->fence =
            fence_client_open(&(struct fence_client_config){.loop = a->config.loop,
                                                            .path = path,
                                                            .program = program,
                                                            .clock = a->config.clock,
                                                            .changed = lease_changed,
                                                            .adopted = on_adopted,
                                                            .ctx = a});
    }
    note_state(a);
    adopt(a);
    if (is_wanted(a) && link_client_is_up(a->link) && a->complete &&
        now >= l->ask_at_ns) {
        ask(a, now);
    }
}

void
lease_changed(void *ctx)
{
    struct agent *a = ctx;
    if (!a->closing) {
        lease_look(a);
        agent_wake(a);
    }
}

void
lease_connected(struct agent *a)
{
    a->lease.ask_at_ns = 0;
    lease_look(a);
}

void
lease_answer(void *ctx, const struct link_lease *answer)
{
    struct agent *a = ctx;
    struct lease *l = &a->lease;
    if (!l->fence || answer->serial != l->serial) {
        return; /* To an ask that a later one has overtaken. */
    }
    int64_t duration_ms = MIN(answer->duration_ms, DURATION_MAX_MS);
    if (duration_ms > 0) {
        int64_t renew_ms = MAX(500, MIN(answer->renew_ms, duration_ms / 2));
        l->ask_at_ns = l->asked_ns + renew_ms * NS_PER_MS;
        l->until_ns = l->asked_ns + duration_ms * NS_PER_MS;
        fence_client_renew(l->fence, l->until_ns);
        agent_wake(a); /* The network is told behind what is wanted of it. */
        return;
    }
    log_warn("no lease: %s", answer->message ? answer->message : "refused");
    if (str_eq(answer->code, "lost")) {
        l->given_up = true;
        l->ask_at_ns = 0; /* As soon as nothing leased runs. */
        fence_client_end(l->fence);
    }
}

bool
lease_lives(const struct agent *a)
{
    return a->lease.fence && fence_client_state(a->lease.fence) == FENCE_OPEN;
}

bool
lease_enter(const struct agent *a, int *out_fd, struct err *err)
{
    if (!a->lease.fence) {
        return err_set(err, ERR_BUSY, "this node has no lease");
    }
    return fence_client_enter(a->lease.fence, out_fd, err);
}

char *
lease_socket(const struct agent *a)
{
    return xasprintf("%s/fence.sock", a->dir);
}

static void
on_timer(uv_timer_t *timer)
{
    lease_look(timer->data);
}

void
lease_open(struct agent *a)
{
    (void)uv_timer_init(a->config.loop, &a->lease.timer);
    a->lease.timer.data = a;
    (void)uv_timer_start(&a->lease.timer, on_timer, LOOK_MS, LOOK_MS);
}

void
lease_close(struct agent *a, uv_close_cb closed)
{
    fence_client_close(a->lease.fence);
    a->lease.fence = NULL;
    uv_close((uv_handle_t *)&a->lease.timer, closed);
}
