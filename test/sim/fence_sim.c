/* fence_sim.c - moln-fence as a thing of the simulated host: node/fence/fence_client.h.
 *
 * Purpose:  the supervisor that ends leased guests, by the rules of fence.h: it outlives
 *           the agent, counts on its host's clock since boot, never shortens a lease, lets
 *           nothing be started in a room that was ended, and takes its guests along when it
 *           is killed. Guests take a moment to go, and only then is the room empty.
 * Place:    linked in place of fence_client.c and the program; the agent's part of a lease
 *           (agent_lease.c) and the control plane's (leases.c, recovery.c) run as they are. */
#include "host.h"
#include "node/fence/fence_client.h"
#include "uv_sim.h"

#define STOP_NS (500 * NS_PER_MS) /* Until a guest that is killed is gone. */
#define TALK_NS (20 * NS_PER_MS)

struct fence_client {
    struct fence_client_config config;
    struct host *host;
    uv_timer_t timer;
    unsigned life; /* Of the fence that it speaks to; 0: none. */
    enum fence_state state;
    int64_t until_ns;
    uint64_t turn;
    pid_t adopting;
};

struct ask {
    struct fence_client *client;
    enum fence_what what;
    int64_t until_ns;
    unsigned life;
    bool adopted;
};

/* ---- the supervisor -------------------------------------------------------------- */

static bool
leased_left(const struct host *h)
{
    for (size_t i = 0; i < h->guests.count; i++) {
        if (h->guests.items[i]->alive && h->guests.items[i]->leased) {
            return true;
        }
    }
    return false;
}

static enum fence_state
fence_state(const struct host *h)
{
    return h->fence.until_ns ? FENCE_OPEN : leased_left(h) ? FENCE_ENDING : FENCE_EMPTY;
}

static void
on_gone(void *ctx)
{
    guest_end(ctx, "its lease is over");
}

static void
end_room(struct host *h, const char *why, int64_t stop_ns)
{
    if (!h->fence.until_ns) {
        return;
    }
    trace("%s: the fence ends leased guests: %s", h->name, why);
    h->fence.until_ns = 0;
    h->fence.turn++;
    for (size_t i = 0; i < h->guests.count; i++) {
        struct guest *g = h->guests.items[i];
        if (g->alive && g->leased) {
            (void)world_after(NULL, world_between(CHANCE_ORDER, 1, MAX(stop_ns, 1)),
                              on_gone, g);
        }
    }
}

void
host_kill_fence(struct host *h)
{
    if (h->fence.life) {
        end_room(h, "it was killed", NS_PER_MS);
        h->fence.life = 0;
    }
}

/* Looks at the clock when the lease that was told last would be over. */
static void
on_time(void *ctx)
{
    struct host *h = ctx;
    h->fence.timer = NULL;
    if (!h->fence.until_ns) {
        return;
    }
    int64_t left = h->fence.until_ns - host_mono(h);
    if (left <= 0) {
        end_room(h, "the lease could not be renewed", STOP_NS);
    } else {
        h->fence.timer = world_after(NULL, left, on_time, h);
    }
}

static void
renew(struct host *h, int64_t until_ns)
{
    if (until_ns <= host_mono(h) || until_ns <= h->fence.until_ns ||
        fence_state(h) == FENCE_ENDING) {
        return;
    }
    h->fence.until_ns = until_ns;
    if (!h->fence.timer) {
        h->fence.timer = world_after(NULL, until_ns - host_mono(h), on_time, h);
    }
}

/* A guest that ran before: from now on it goes with the others. */
static bool
adopt(struct host *h, pid_t pid)
{
    for (size_t i = 0; h->fence.until_ns && i < h->guests.count; i++) {
        struct guest *g = h->guests.items[i];
        if (g->alive && g->pid == pid) {
            trace("%s: the fence adopts guest %s", h->name, g->id);
            g->leased = true;
            return true;
        }
    }
    return false;
}

/* ---- the agent's end ------------------------------------------------------------- */

static void
on_answer(void *ctx)
{
    struct ask *a = ctx;
    struct fence_client *c = a->client;
    const struct host *h = c->host;
    bool there = h->fence.life && h->fence.life == a->life;
    enum fence_state state = there ? fence_state(h) : 0;
    bool news = state != c->state || h->fence.turn != c->turn;
    c->life = there ? a->life : 0;
    c->state = state;
    c->until_ns = h->fence.until_ns;
    c->turn = h->fence.turn;
    if (a->what == FENCE_ADOPT) {
        pid_t pid = c->adopting;
        c->adopting = 0;
        c->config.adopted(c->config.ctx, pid, there && a->adopted);
    }
    free(a);
    if (news) {
        c->config.changed(c->config.ctx);
    }
}

/* The fence hears it, whatever has become of the agent since. */
static void
on_ask(void *ctx)
{
    struct ask *a = ctx;
    struct host *h = a->client->host;
    if (h->fence.life && h->fence.life == a->life) {
        if (a->what == FENCE_RENEW) {
            renew(h, a->until_ns);
        } else if (a->what == FENCE_END) {
            end_room(h, "the agent asks for it", STOP_NS);
        } else if (a->what == FENCE_ADOPT) {
            a->adopted = adopt(h, (pid_t)a->until_ns);
        }
    }
    (void)world_after(h->process, world_between(CHANCE_ORDER, 1, TALK_NS), on_answer,
                      a);
}

static void
ask(struct fence_client *c, enum fence_what what, int64_t until_ns)
{
    struct ask *a = xcalloc(1, sizeof *a);
    process_calls();
    *a = (struct ask){
        .client = c, .what = what, .until_ns = until_ns, .life = c->host->fence.life};
    (void)world_after(NULL, world_between(CHANCE_ORDER, 1, TALK_NS), on_ask, a);
}

static void
on_timer(uv_timer_t *timer)
{
    struct fence_client *c = timer->data;
    struct host *h = c->host;
    if (!h->fence.life) {
        h->fence.life = ++h->fence.lives;
        trace("starts a fence");
    }
    ask(c, FENCE_LOOK, 0);
}

struct fence_client *
fence_client_open(const struct fence_client_config *config)
{
    struct fence_client *c = xcalloc(1, sizeof *c);
    c->config = *config;
    c->host = process_of(config->loop)->host;
    (void)uv_timer_init(config->loop, &c->timer);
    c->timer.data = c;
    (void)uv_timer_start(&c->timer, on_timer, 0, 1000);
    return c;
}

void
fence_client_close(struct fence_client *c UNUSED)
{
    sim_abort("agents are killed, never closed");
}

enum fence_state
fence_client_state(const struct fence_client *c)
{
    bool over = c->state == FENCE_OPEN && clock_mono(c->config.clock) >= c->until_ns;
    return over ? FENCE_ENDING : c->state;
}

void
fence_client_renew(struct fence_client *c, int64_t until_ns)
{
    ask(c, FENCE_RENEW, until_ns);
}

void
fence_client_end(struct fence_client *c)
{
    ask(c, FENCE_END, 0);
}

bool
fence_client_adopt(struct fence_client *c, pid_t pid, int pidfd UNUSED)
{
    if (fence_client_state(c) != FENCE_OPEN || c->adopting) {
        return false;
    }
    c->adopting = pid;
    ask(c, FENCE_ADOPT, pid);
    return true;
}

bool
fence_client_enter(const struct fence_client *c, int *out_fd, struct err *err)
{
    if (fence_client_state(c) != FENCE_OPEN) {
        return err_set(err, ERR_BUSY, "this node has no lease");
    }
    struct fence_room *room = xcalloc(1, sizeof *room);
    *room = (struct fence_room){.host = c->host, .turn = c->turn};
    *out_fd = uv_sim_fd_open(room);
    return true;
}
