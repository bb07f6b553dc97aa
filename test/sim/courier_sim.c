/* courier_sim.c - streams between agents: node/migrate/courier.h, and the words that
 * migrations say over them (migration_impl.h), without sockets and TLS.
 *
 * Purpose:  a pair of couriers is two ends that know each other; what is said arrives in
 *           order, unless an end is closed, its agent dies, or a host is cut off meanwhile.
 *           Memory and disks are not carried: guest_move.c asks whether they could be.
 * Place:    linked in place of courier.c and words.c. */
#include "courier_sim.h"
#include "base/log.h"
#include "node/migrate/migration_impl.h"
#include "node/net/netns.h"
#include "uv_sim.h"

#define LOOK_NS (300 * NS_PER_MS)
#define PATIENCE_LOOKS 15 /* So long an end does not hear of the other one's silence. */

struct courier {
    struct courier *next, *peer; /* peer NULL: on its way, or refused. */
    struct process *process;
    struct courier_ops ops;
    char stream[48], migration_id[48], address[24];
    int port;
    bool open, told;
    bool persists; /* Silence does not end it. */
    unsigned silent;
    int64_t last_at_ns;
};

struct courier_door {
    struct courier_door *next;
    struct process *process;
    struct courier_ops ops;
    char migration_id[48];
    int port;
    bool open;
};

static struct courier *couriers;
static struct courier_door *doors;
static int last_port = 20000;

static bool
lives(const struct process *p)
{
    return !p->dead && !host_is_cut(p->host);
}

/* ---- ends ------------------------------------------------------------------------ */

struct ending {
    struct courier *courier;
    const char *why;
};

static void
on_end(void *ctx)
{
    struct ending *e = ctx;
    struct courier *c = e->courier;
    if (c->open) {
        c->ops.ended(c->ops.ctx, c, e->why);
    }
    free(e);
}

static void
tell_end(struct courier *c, const char *why)
{
    if (c && c->open && !c->told && !c->process->dead) {
        struct ending *e = xcalloc(1, sizeof *e);
        *e = (struct ending){c, why};
        c->told = true;
        (void)world_after(c->process,
                          world_between(CHANCE_ORDER, 1, uv_sim_speed.wire_ns), on_end,
                          e);
    }
}

/* An end whose other one is dead, or out of reach for long, hears of it. */
static void
on_look(void *ctx)
{
    struct courier *c = ctx;
    if (!c->open || c->told || c->process->dead) {
        return;
    }
    bool gone = c->peer->process->dead && lives(c->process);
    c->silent = lives(c->peer->process) && lives(c->process) ? 0 : c->silent + 1;
    if (gone || (c->silent >= PATIENCE_LOOKS && !c->persists)) {
        tell_end(c, gone ? "the other end is gone" : "the other end is silent");
        return;
    }
    (void)world_after(NULL, LOOK_NS, on_look, c);
}

void
courier_close(struct courier *c)
{
    if (c && c->open) {
        c->open = false;
        tell_end(c->peer, "closed by the other end");
    }
}

/* ---- meeting --------------------------------------------------------------------- */

static struct courier *
courier_new(struct process *process, const struct courier_ops *ops, const char *stream,
            const char *migration_id)
{
    struct courier *c = xcalloc(1, sizeof *c);
    c->process = process;
    c->ops = *ops;
    c->open = true;
    snprintf(c->stream, sizeof c->stream, "%s", stream);
    snprintf(c->migration_id, sizeof c->migration_id, "%s", migration_id);
    c->next = couriers;
    couriers = c;
    return c;
}

static void
on_let_in(void *ctx)
{
    struct courier *c = ctx;
    if (c->open) {
        c->ops.up(c->ops.ctx, c, c->stream);
    }
}

static struct courier_door *
door_at(const struct courier *c)
{
    for (struct courier_door *d = doors; d; d = d->next) {
        if (d->open && d->port == c->port && lives(d->process) &&
            str_eq(d->migration_id, c->migration_id) &&
            str_eq(host_address(d->process->host), c->address)) {
            return d;
        }
    }
    return NULL;
}

static void
on_reach(void *ctx)
{
    struct courier *c = ctx;
    if (!c->open) {
        return;
    }
    struct courier_door *d = lives(c->process) ? door_at(c) : NULL;
    if (!d) {
        tell_end(c, "nobody lets it in");
        return;
    }
    struct courier *far = courier_new(d->process, &d->ops, c->stream, c->migration_id);
    far->peer = c;
    c->peer = far;
    (void)world_after(d->process, 0, on_let_in, far);
    (void)world_after(NULL, LOOK_NS, on_look, c);
    (void)world_after(NULL, LOOK_NS, on_look, far);
}

void
courier_join(struct courier *far, int fd, bool kept UNUSED)
{
    close(fd);
    (void)world_after(far->peer->process,
                      world_between(CHANCE_ORDER, 1, uv_sim_speed.wire_ns), on_let_in,
                      far->peer);
}

void
courier_persist(struct courier *c)
{
    if (c) {
        c->persists = true;
    }
}

int64_t
courier_silent_ns(const struct courier *c)
{
    return c->silent * LOOK_NS;
}

struct courier *
courier_send(const struct courier_self *self, const char *address, int port,
             const char *peer_node_id UNUSED, const char *migration_id,
             const char *stream, int local_fd, const struct courier_ops *ops,
             struct err *err UNUSED)
{
    struct courier *c = courier_new(process_of(self->loop), ops, stream, migration_id);
    close(local_fd);
    snprintf(c->address, sizeof c->address, "%s", address ? address : "");
    c->port = port;
    (void)world_after(c->process, world_between(CHANCE_ORDER, 1, uv_sim_speed.wire_ns),
                      on_reach, c);
    return c;
}

struct courier_door *
courier_door_open(const struct courier_self *self, const char *address UNUSED,
                  const char *peer_node_id UNUSED, const char *migration_id,
                  const struct courier_ops *ops, struct err *err UNUSED)
{
    struct courier_door *d = xcalloc(1, sizeof *d);
    d->process = process_of(self->loop);
    d->ops = *ops;
    snprintf(d->migration_id, sizeof d->migration_id, "%s", migration_id);
    d->port = ++last_port;
    d->open = true;
    d->next = doors;
    doors = d;
    return d;
}

int
courier_door_port(const struct courier_door *door)
{
    return door->port;
}

void
courier_door_close(struct courier_door *door)
{
    if (door) {
        door->open = false;
    }
}

/* Carries nothing: couriers do. */
bool
courier_pair(int out_ends[2], struct err *err)
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out_ends) == 0 ||
           err_sys(err, errno, "make a pair of sockets");
}

/* ---- words ----------------------------------------------------------------------- */

struct saying {
    struct courier *to;
    struct arena *arena;
    struct link_courier_word word;
};

static void say(struct saying *s, int64_t not_before_ns);

/* It waits on its way while a host is cut off, as in TCP, and so do those behind it. */
static void
on_word(void *ctx)
{
    struct saying *s = ctx;
    struct courier *to = s->to;
    if (courier_holds(to) && !courier_reaches(to)) {
        say(s, MAX(host_cut_until(to->process->host),
                   host_cut_until(to->peer->process->host)));
        return;
    }
    if (to->open && !to->told && lives(to->process) && lives(to->peer->process)) {
        struct migration *m = to->ops.ctx;
        (m->want->incoming ? take_hear : give_hear)(m, &s->word);
        migration_step(m);
    }
    arena_destroy(s->arena);
}

static void
say(struct saying *s, int64_t not_before_ns)
{
    struct courier *from = s->to->peer;
    from->last_at_ns = MAX(from->last_at_ns + 1, not_before_ns);
    (void)world_after(s->to->process, from->last_at_ns - world_now(), on_word, s);
}

void
words_open(struct migration *m, int fd)
{
    words_close(m);
    m->words_fd = fd;
}

void
words_close(struct migration *m)
{
    auto_fd(&m->words_fd);
    m->words_fd = -1;
}

void
words_say(struct migration *m, const char *kind, const char *object, struct blob body)
{
    struct courier *c = NULL;
    process_calls();
    for (size_t i = 0; i < m->courier_count; i++) {
        struct courier *one = m->couriers[i].courier;
        c = one && str_eq(one->stream, COURIER_WORDS) ? one : c;
    }
    if (m->words_fd < 0 || !c || !c->open || !c->peer) {
        return;
    }
    struct arena *arena = arena_create();
    struct saying *s = ARENA_NEW(arena, struct saying);
    const struct link_courier_word word = {
        .kind = kind, .object = object, .body = body};
    *s = (struct saying){.to = c->peer, .arena = arena};
    s->word = *(const struct link_courier_word *)desc_copy(&link_courier_word_desc,
                                                           &word, arena);
    say(s, world_now() + world_between(CHANCE_ORDER, 1, uv_sim_speed.wire_ns));
}

/* ---- for guest_move.c ------------------------------------------------------------ */

struct courier *
courier_of(const struct host *host, const char *machine_id, const char *stream)
{
    for (struct courier *c = couriers; c; c = c->next) {
        const struct migration *m = c->open ? c->ops.ctx : NULL;
        if (m && c->process->host == host && !c->process->dead && c->peer && m->want &&
            str_eq(m->want->machine_id, machine_id) && str_eq(c->stream, stream)) {
            return c;
        }
    }
    return NULL;
}

const struct host *
courier_holds(const struct courier *c)
{
    return c && c->open && !c->told && c->peer && c->peer->open && !c->process->dead &&
                   !c->peer->process->dead
               ? c->peer->process->host
               : NULL;
}

const struct host *
courier_reaches(const struct courier *c)
{
    const struct host *there = courier_holds(c);
    return there && lives(c->process) && lives(c->peer->process) ? there : NULL;
}

void
courier_finish(struct courier *c)
{
    if (c) {
        tell_end(c->peer, NULL);
        tell_end(c, NULL);
    }
}

/* QEMU's own network is none here. */
bool
netns_run(int ns_fd UNUSED, netns_fn *fn UNUSED, void *ctx, struct err *err UNUSED)
{
    struct {
        const char *name;
        int fd;
    } *in = ctx; /* Of migration_give.c: where the emulator calls. */
    in->fd = uv_sim_fd_open(host_now());
    return true;
}
