#include "link/place.h"
#include "node/agent_impl.h"

#include <errno.h>
#include <sys/socket.h>

#define TUNNEL_CONNECT_NS ((uint64_t)(10 * NS_PER_S))

/* ---- the stream ------------------------------------------------------------------------ */

/* The control plane says where its processes are; those that were named to us stay, after
 * them. */
static void
learn_places(struct agent *a, const struct link_welcome *welcome)
{
    struct identity *id = &a->identity;
    struct place known[PLACES_MAX];
    size_t count = 0;
    struct err err = {0};
    AUTO(buf) struct buf text = {.limit = sizeof id->control - 1};
    if (!id->control[0] || welcome->control.count == 0) {
        return;
    }
    for (size_t i = 0; i < welcome->control.count; i++) {
        places_add(&text, welcome->control.items[i]);
    }
    const char *told = a->config.join ? a->config.join : id->control;
    if (!places_read(told, known, &count, &err)) {
        log_warn("where we joined: %s", err.msg);
    }
    for (size_t i = 0; i < count; i++) {
        AUTO(buf) struct buf place = {0};
        buf_printf(&place, strchr(known[i].host, ':') ? "[%s]:%d" : "%s:%d",
                   known[i].host, known[i].port);
        places_add(&text, buf_str(&place));
    }
    if (text.full || str_eq(buf_str(&text), id->control)) {
        return;
    }
    snprintf(id->control, sizeof id->control, "%s", buf_str(&text));
    if (!link_client_set_places(a->link, id->control, &err) ||
        !identity_save(a, &err)) {
        log_error("cannot keep where the control plane is: %s", err.msg);
    }
}

static void
on_welcome(void *ctx, const struct link_welcome *welcome)
{
    struct agent *a = ctx;
    struct identity *id = &a->identity;
    struct err err = {0};
    if (id->cloud_id[0] && !str_eq(id->cloud_id, welcome->cloud_id)) {
        log_error("this node belongs to cloud %s, and was welcomed by %s: ignored",
                  id->cloud_id, welcome->cloud_id ? welcome->cloud_id : "?");
        return;
    }
    if (!id->cloud_id[0] || !str_eq(id->node_id, welcome->node_id)) {
        snprintf(id->cloud_id, sizeof id->cloud_id, "%s",
                 welcome->cloud_id ? welcome->cloud_id : "");
        snprintf(id->node_id, sizeof id->node_id, "%s",
                 welcome->node_id ? welcome->node_id : "");
        if (!identity_save(a, &err)) {
            log_error("cannot keep who we are: %s", err.msg);
        }
    }
    learn_places(a, welcome);
    log_info("connected to the control plane as %s%s", id->node_id,
             welcome->snapshot ? "; a snapshot follows" : "");
    if (!agent_open_modules(a, &err)) {
        log_error("cannot work: %s", err.msg);
        uv_stop(a->config.loop);
        return;
    }
    a->snapshot = welcome->snapshot;
    if (a->snapshot) {
        wants_snapshot_begin(a->wants);
    }
    blobs_retry_now(a->blobs);
    agent_report_node(a);
    agent_wake(a);
}

static void
on_want(void *ctx, enum link_kind kind, const char *id, int64_t revision, bool deleted,
        const void *record, struct blob body UNUSED)
{
    struct agent *a = ctx;
    const struct want *want = wants_put(a->wants, kind, id, revision, deleted, record);
    if (!want) {
        log_error("%s: a wanted record of kind %d that this agent cannot take",
                  id ? id : "?", (int)kind);
        return;
    }
    agent_apply(a, want);
    agent_wake(a);
}

static void
on_gone(void *ctx, const struct want *want)
{
    log_warn("%s is not wanted any more, though nobody deleted it", want->id);
    agent_forget(ctx, want);
}

static void
on_snapshot_end(void *ctx, int64_t revision, int64_t count)
{
    struct agent *a = ctx;
    if (a->snapshot) {
        log_info("snapshot: %" PRId64 " records, revision %" PRId64, count, revision);
        a->snapshot = false;
        wants_snapshot_end(a->wants, revision, on_gone, a);
    }
    agent_completed(a);
    lease_connected(a);
    agent_wake(a);
}

static void
on_down(void *ctx, const char *code, const char *why)
{
    struct agent *a = ctx;
    /* A snapshot cut short says nothing about what it did not bring; the next begins anew.
     * Guests go on meanwhile. */
    log_warn("the control plane is away: %s%s%s", why ? why : "", code ? ", " : "",
             code ? code : "");
    a->snapshot = false;
    agent_wake(a);
}

/* ---- live questions and channels ------------------------------------------------------- */

static void
on_call(void *ctx, int64_t call_id, const char *what, const char *object)
{
    struct agent *a = ctx;
    struct err err = {0};
    AUTO(buf) struct buf bytes = {0};
    if (!a->modules_open || !str_eq(what, "console")) {
        link_client_reply(a->link, call_id, false, (struct blob){0}, "not known here");
    } else if (!machines_console_read(a->machines, object, &bytes, &err)) {
        link_client_reply(a->link, call_id, false, (struct blob){0}, err.msg);
    } else {
        struct blob body = {(const uint8_t *)buf_str(&bytes), bytes.len};
        link_client_reply(a->link, call_id, true, body, NULL);
    }
}

static void
on_bound(void *ctx UNUSED, struct link_channel *channel UNUSED,
         enum link_channel_state state UNUSED, uint64_t received UNUSED,
         const char *why UNUSED)
{
    /* The channel closes its descriptor, which tells the other side. */
}

static void
open_console(struct agent *a, struct link_channel *channel, const char *object)
{
    int ends[2];
    struct err err = {0};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0) {
        link_channel_refuse(channel, strerror(errno));
        return;
    }
    if (!machines_console_attach(a->machines, object, ends[0], &err)) {
        close(ends[1]);
        link_channel_refuse(channel, err.msg);
        return;
    }
    struct link_channel_bind bind = {.fd = ends[1], .fn = on_bound};
    link_channel_accept(channel, &bind);
}

static void
on_tunnel(void *ctx, int fd, const struct err *err)
{
    struct link_channel *channel = ctx;
    if (fd < 0) {
        link_channel_refuse(channel, err->msg);
        return;
    }
    struct link_channel_bind bind = {.fd = fd, .fn = on_bound};
    link_channel_accept(channel, &bind);
}

static void
open_tunnel(struct agent *a, struct link_channel *channel,
            const struct link_channel_open *open)
{
    struct err err = {0};
    if (open->port < 1 || open->port > 65535 || str_empty(open->port_id)) {
        link_channel_refuse(channel, "a tunnel needs a port of an interface");
    } else if (!net_connect(a->net, open->port_id,
                            str_empty(open->address) ? NULL : open->address,
                            (int)open->port, TUNNEL_CONNECT_NS, on_tunnel, channel,
                            &err)) {
        link_channel_refuse(channel, err.msg);
    }
}

static void
on_channel(void *ctx, struct link_channel *channel,
           const struct link_channel_open *open)
{
    struct agent *a = ctx;
    if (!a->modules_open) {
        link_channel_refuse(channel, "not ready");
    } else if (str_eq(open->what, "console")) {
        open_console(a, channel, open->object);
    } else if (str_eq(open->what, "tunnel")) {
        open_tunnel(a, channel, open);
    } else {
        link_channel_refuse(channel, "not known here");
    }
}

struct link_channel *
agent_open_channel(void *agent, const struct link_channel_open *open,
                   const struct link_channel_bind *bind)
{
    struct agent *a = agent;
    if (!a->link || a->closing || !link_client_is_up(a->link)) {
        close(bind->fd);
        return NULL;
    }
    return link_client_open_channel(a->link, open, bind);
}

/* ---- joining --------------------------------------------------------------------------- */

static bool
on_key_made(void *ctx, const char *key_pem, struct err *err)
{
    return identity_write_pem(ctx, "key.pem", key_pem, err);
}

static bool
on_enrolled(void *ctx, const struct link_enrolled *enrolled, struct err *err)
{
    struct agent *a = ctx;
    struct identity *id = &a->identity;
    snprintf(id->node_id, sizeof id->node_id, "%s",
             enrolled->node_id ? enrolled->node_id : "");
    if (!str_empty(enrolled->cloud_id)) {
        snprintf(id->cloud_id, sizeof id->cloud_id, "%s", enrolled->cloud_id);
    }
    log_info("joined the cloud as %s", id->node_id);
    return (str_empty(enrolled->ca_pem) ||
            identity_write_pem(a, "ca.pem", enrolled->ca_pem, err)) &&
           identity_write_pem(a, "cert.pem", enrolled->cert_pem, err) &&
           identity_save(a, err);
}

static int64_t
on_have_revision(void *ctx)
{
    return wants_revision(((struct agent *)ctx)->wants);
}

static const char *
or_null(const char *s)
{
    return str_empty(s) ? NULL : s;
}

/* Where to go: as told now, else where it joined before, else the socket beside us. */
static void
choose_place(struct agent *a)
{
    if (a->config.join) {
        snprintf(a->identity.control, sizeof a->identity.control, "%s", a->config.join);
    }
}

bool
agent_connect(struct agent *a, struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    AUTO(free) char *unix_path = xasprintf("%s/link.sock", a->state_dir);
    struct link_client_config config = {
        .loop = a->config.loop,
        .clock = a->config.clock,
        .rng = a->config.rng,
        .ops = {.welcome = on_welcome,
                .want = on_want,
                .snapshot_end = on_snapshot_end,
                .call = on_call,
                .channel = on_channel,
                .down = on_down,
                .key_made = on_key_made,
                .enrolled = on_enrolled,
                .have_revision = on_have_revision,
                .lease = lease_answer},
        .ctx = a,
        .node_id = or_null(a->identity.node_id),
        .cloud_id = or_null(a->identity.cloud_id),
        .boot_id = a->boot_id,
        .hostname = a->hostname,
        .agent_version = a->config.version,
        .token = a->config.token,
    };
    choose_place(a);
    if (a->identity.control[0]) {
        config.places = a->identity.control;
        if (!identity_read_pem(a, "ca.pem", arena, &config.ca_pem, err) ||
            !identity_read_pem(a, "cert.pem", arena, &config.cert_pem, err) ||
            !identity_read_pem(a, "key.pem", arena, &config.key_pem, err)) {
            return false;
        }
    } else {
        config.unix_path = unix_path;
    }
    a->link = link_client_create(&config, err);
    return a->link != NULL;
}
