/* metadata.c - the agent's side: keeps the child alive and told. See metadata.h. */
#include "node/metadata/metadata.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/map.h"
#include "base/program.h"
#include "base/tlv.h"
#include "link/records.h"
#include "node/metadata/child.h"
#include "node/metadata/tree.h"
#include "node/net/addr.h"
#include "node/net/net.h"
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define SERVICE_IP "169.254.169.254"
#define SERVICE_PORT 80
#define TIME_IP "169.254.169.123"
#define TIME_PORT 123
#define RESTART_MS 1000
#define FIRST_RESTART_MS 20
#define QUEUE_MAX 65536

struct pending {
    struct child_message message;
    int fd;
};

/* One life of the child; freed when its handle is closed. */
struct life {
    uv_poll_t poll;
    int sock;
    pid_t pid;
    struct metadata *owner; /* NULL: given up. */
    VEC(struct pending *) queue;
    size_t sent; /* Of the queue, from its front. */
    int64_t since_ns;
};

struct metadata {
    struct metadata_config config;
    uid_t uid;
    gid_t gid;
    uint8_t key[TOKEN_KEY_LEN];
    struct map *records;  /* By port: struct buf, the record in TLV. */
    struct map *networks; /* That are up; values are not used. */
    uv_timer_t timer;
    struct life *life; /* NULL: waits to be started. */
    bool closed;
};

static void child_start(struct metadata *md);
static void on_event(uv_poll_t *poll, int status, int events);

/* ---- messages ----------------------------------------------------------------------
 */

static void
pending_free(struct pending *p)
{
    if (p->fd >= 0) {
        close(p->fd);
    }
    free(p);
}

static void
on_life_closed(uv_handle_t *handle)
{
    struct life *life = CONTAINER_OF(handle, struct life, poll);
    close(life->sock);
    for (size_t i = life->sent; i < life->queue.count; i++) {
        pending_free(life->queue.items[i]);
    }
    VEC_FREE(&life->queue);
    free(life);
}

static void
on_restart(uv_timer_t *timer)
{
    child_start(CONTAINER_OF(timer, struct metadata, timer));
}

/* Gives the child up: its socket closes, which ends it; another follows. */
static void
life_end(struct metadata *md)
{
    struct life *life = md->life;
    if (!life) {
        return;
    }
    md->life = NULL;
    life->owner = NULL;
    (void)kill(life->pid, SIGKILL);
    (void)waitpid(life->pid, NULL, 0); /* Killed: gone in a moment. */
    bool lived = clock_mono(md->config.clock) - life->since_ns > 10 * NS_PER_S;
    uv_close((uv_handle_t *)&life->poll, on_life_closed);
    if (!md->closed) {
        (void)uv_timer_start(&md->timer, on_restart,
                             lived ? FIRST_RESTART_MS : RESTART_MS, 0);
    }
}

/* Sends what the socket takes. */
static void
drain(struct metadata *md)
{
    struct life *life = md->life;
    while (life->sent < life->queue.count) {
        struct pending *p = life->queue.items[life->sent];
        int rc = child_send(life->sock, &p->message, p->fd);
        if (rc == -EAGAIN || rc == -ENOBUFS) {
            (void)uv_poll_start(&life->poll, UV_READABLE | UV_WRITABLE, on_event);
            return;
        }
        if (rc < 0) {
            log_warn("metadata child %d: %s", (int)life->pid, strerror(-rc));
            life_end(md);
            return;
        }
        pending_free(p);
        life->sent++;
    }
    life->queue.count = life->sent = 0;
    (void)uv_poll_start(&life->poll, UV_READABLE, on_event);
}

/* 'fd' is moved in. */
static void
tell(struct metadata *md, const struct child_message *message, int fd)
{
    struct life *life = md->life;
    if (!life || life->queue.count - life->sent >= QUEUE_MAX) {
        if (fd >= 0) {
            close(fd);
        }
        if (life) {
            log_warn("metadata child %d does not listen", (int)life->pid);
            life_end(md);
        }
        return;
    }
    struct pending *p = xcalloc(1, sizeof *p);
    p->message = *message;
    p->fd = fd;
    VEC_PUSH(&life->queue, p);
    if (life->queue.count - life->sent == 1) {
        drain(md);
    }
}

static void
put_id(char out[CHILD_ID_LEN], const char *id)
{
    (void)snprintf(out, CHILD_ID_LEN, "%s", id);
}

static void
tell_socket(struct metadata *md, const char *network_id, uint32_t what, const char *ip,
            int port, int type)
{
    struct child_message m = {.what = what};
    struct err err = {0};
    int fd;
    put_id(m.network, network_id);
    if (!net_listen(md->config.net, network_id, ip, port, type, &fd, &err)) {
        log_error("metadata: %s", err.msg);
        return;
    }
    tell(md, &m, fd);
}

static void
tell_network(struct metadata *md, const char *network_id)
{
    if (md->life) {
        tell_socket(md, network_id, CHILD_LISTEN, SERVICE_IP, SERVICE_PORT,
                    SOCK_STREAM);
        tell_socket(md, network_id, CHILD_LISTEN_TIME, TIME_IP, TIME_PORT, SOCK_DGRAM);
    }
}

/* The record in a file of memory; -1: could not. */
static int
memory_of(const struct buf *record)
{
    AUTO(fd) int fd = memfd_create("metadata", MFD_CLOEXEC);
    if (fd < 0 || fd_write_all(fd, record->data, record->len) < 0) {
        log_error("metadata: memory for documents: %s", strerror(errno));
        return -1;
    }
    return take_fd(&fd);
}

static void
tell_port(struct metadata *md, const char *port_id)
{
    const struct net_port_info *info = net_port_get(md->config.net, port_id);
    const struct buf *record = map_get(md->records, port_id);
    if (!md->life || !info || !record) {
        return;
    }
    struct child_message m = {.what = CHILD_PORT, .address_count = 1};
    put_id(m.network, info->network_id);
    put_id(m.port, port_id);
    if (!addr_parse_ipv4(info->ipv4, &m.addresses[0])) {
        return;
    }
    for (size_t i = 0; info->more[i] && m.address_count < CHILD_ADDRESSES; i++) {
        m.address_count +=
            addr_parse_ipv4(info->more[i], &m.addresses[m.address_count]);
    }
    int fd = memory_of(record);
    if (fd >= 0) {
        tell(md, &m, fd);
    }
}

static void
tell_all(struct metadata *md)
{
    struct child_message hello = {.what = CHILD_HELLO, .uid = md->uid, .gid = md->gid};
    memcpy(hello.key, md->key, sizeof hello.key);
    tell(md, &hello, -1);
    const char *id;
    void *value;
    for (size_t it = 0; map_next(md->networks, &it, &id, &value);) {
        tell_network(md, id);
    }
    for (size_t it = 0; map_next(md->records, &it, &id, &value);) {
        tell_port(md, id);
    }
}

/* ---- the child ---------------------------------------------------------------------
 */

static void
on_event(uv_poll_t *poll, int status, int events)
{
    struct life *life = CONTAINER_OF(poll, struct life, poll);
    struct metadata *md = life->owner;
    if (!md) {
        return;
    }
    if (status < 0 || (events & UV_READABLE)) { /* It never speaks: this is its end. */
        log_warn("metadata child %d ended", (int)life->pid);
        life_end(md);
    } else if (events & UV_WRITABLE) {
        drain(md);
    }
}

static bool
start_child(const struct metadata *md, int sock, pid_t *out_pid, struct err *err)
{
    static const char *const env[] = {"PATH=/usr/bin:/bin", NULL};
    const struct program child = {.path = md->config.child_argv[0],
                                  .argv = md->config.child_argv,
                                  .env = env,
                                  .silent = true,
                                  .fd = sock,
                                  .as_fd = CHILD_FD};
    return program_start(&child, out_pid, err);
}

static bool
life_begin(struct metadata *md, struct err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return err_sys(err, errno, "socketpair");
    }
    AUTO(fd) int ours = pair[0];
    AUTO(fd) int theirs = pair[1];
    struct life *life = xcalloc(1, sizeof *life);
    if (!start_child(md, theirs, &life->pid, err)) {
        free(life);
        return false;
    }
    int rc = uv_poll_init(md->config.loop, &life->poll, ours);
    if (rc < 0) {
        (void)kill(life->pid, SIGKILL);
        (void)waitpid(life->pid, NULL, 0);
        free(life);
        return err_sys(err, -rc, "watch the metadata child");
    }
    life->sock = take_fd(&ours);
    life->owner = md;
    life->since_ns = clock_mono(md->config.clock);
    md->life = life;
    return true;
}

static void
child_start(struct metadata *md)
{
    struct err err = {0};
    if (!life_begin(md, &err)) {
        log_error("metadata: %s", err.msg);
        (void)uv_timer_start(&md->timer, on_restart, RESTART_MS, 0);
        return;
    }
    tell_all(md);
}

/* ---- the network's news ------------------------------------------------------------
 */

static void
network_up(void *ctx, const char *network_id)
{
    struct metadata *md = ctx;
    map_put(md->networks, network_id, md);
    tell_network(md, network_id);
}

static void
network_down(void *ctx, const char *network_id)
{
    struct metadata *md = ctx;
    struct child_message m = {.what = CHILD_UNLISTEN};
    put_id(m.network, network_id);
    map_del(md->networks, network_id);
    tell(md, &m, -1);
}

static void
port_up(void *ctx, const struct net_port_info *port)
{
    tell_port(ctx, port->id);
}

static void
port_down(void *ctx, const char *port_id)
{
    struct child_message m = {.what = CHILD_UNPORT};
    put_id(m.port, port_id);
    tell(ctx, &m, -1);
}

/* ---- the object --------------------------------------------------------------------
 */

static bool
load_key(struct metadata *md, struct err *err)
{
    AUTO(free) char *old = NULL;
    size_t len = 0;
    const char *path = md->config.key_path;
    struct err ignored = {0};
    md->config.key_path = NULL; /* Borrowed for the opening only. */
    if (path && file_read(path, sizeof md->key, &old, &len, &ignored) &&
        len == sizeof md->key) {
        memcpy(md->key, old, sizeof md->key);
        return true;
    }
    md->config.rng->fill(md->config.rng->ctx, md->key, sizeof md->key);
    return !path || file_write(path, md->key, sizeof md->key, 0600, err);
}

static void
record_free(void *value)
{
    buf_fini(value);
    free(value);
}

struct metadata *
metadata_open(const struct metadata_config *config, struct err *err)
{
    struct metadata *md = xcalloc(1, sizeof *md);
    const struct passwd *nobody = getpwnam("nobody");
    md->config = *config;
    md->uid = config->child_uid ? config->child_uid : nobody ? nobody->pw_uid : 65534;
    md->gid = config->child_gid ? config->child_gid : nobody ? nobody->pw_gid : 65534;
    if (!load_key(md, err)) {
        free(md);
        return NULL;
    }
    md->records = map_create(record_free);
    md->networks = map_create(NULL);
    (void)uv_timer_init(config->loop, &md->timer);
    child_start(md);
    struct net_watcher watcher = {network_up, network_down, port_up, port_down, md};
    net_watch(config->net, &watcher);
    return md;
}

static void
on_closed(uv_handle_t *handle)
{
    struct metadata *md = CONTAINER_OF(handle, struct metadata, timer);
    map_destroy(md->records);
    map_destroy(md->networks);
    free(md);
}

void
metadata_close(struct metadata *md)
{
    if (!md) {
        return;
    }
    md->closed = true;
    net_watch(md->config.net, NULL);
    life_end(md);
    uv_close((uv_handle_t *)&md->timer, on_closed);
}

bool
metadata_want(struct metadata *md, const struct link_metadata *want, struct err *err)
{
    if (!addr_id_ok(want->id)) {
        return err_set(err, ERR_INVALID, "metadata: not an id");
    }
    AUTO(arena) struct arena *arena = arena_create();
    if (!tree_create(arena, want, err)) {
        return err_wrap(err, "port %s", want->id);
    }
    AUTO(buf) struct buf text = {0};
    tlv_encode(&link_metadata_desc, want, &text);
    const struct buf *old = map_get(md->records, want->id);
    if (old && old->len == text.len && memcmp(old->data, text.data, text.len) == 0) {
        return true;
    }
    struct buf *record = xcalloc(1, sizeof *record);
    *record = text;
    text = (struct buf){0};
    map_put(md->records, want->id, record);
    tell_port(md, want->id);
    return true;
}

void
metadata_drop(struct metadata *md, const char *port_id)
{
    if (map_get(md->records, port_id)) {
        map_del(md->records, port_id);
        port_down(md, port_id);
    }
}
