/* migration_cold.c - a stopped machine's way: both sides of it. See migration.h.
 *
 * There is no guest to be let go of: the giver sends the files of the disks, the receiver keeps
 * them, and says so once they are durable. Whatever breaks on the way ends the migration here;
 * what the receiver has by then goes. The control plane begins it anew, or not. */
#include "base/log.h"
#include "node/machine/sock.h"
#include "node/migrate/migration_impl.h"

static void
give_up(struct migration *m, const char *why)
{
    migration_note(m, "%s", why);
    m->over = true;
    cold_hang_up(m);
    migration_changed(m);
}

void
cold_hang_up(struct migration *m)
{
    const struct migration_host *host = &m->set->config.host;
    for (size_t i = 0; i < m->file_count; i++) {
        file_stream_close(m->files[i]);
        m->files[i] = NULL;
    }
    m->file_count = 0;
    if (m->opened && !m->files_done) {
        for (size_t i = 0; i < m->want->copy_disks.count; i++) {
            host->disk_arrived(host->ctx, m->want->copy_disks.items[i], false);
        }
    }
    m->opened = false;
    migration_hang_up(m);
}

static struct file_stream_config
stream_config(struct migration *m, void (*ended)(void *ctx, const char *why))
{
    return (struct file_stream_config){.loop = m->set->config.loop,
                                       .clock = m->set->config.clock,
                                       .bps = m->want->bandwidth_bps,
                                       .ended = ended,
                                       .ctx = m};
}

static void
look(struct migration *m)
{
    m->progress.disk_bytes = m->file_count ? 0 : m->progress.disk_bytes;
    m->progress.disk_done_bytes = m->file_count ? 0 : m->progress.disk_done_bytes;
    for (size_t i = 0; i < m->file_count; i++) {
        int64_t bytes, done_bytes;
        file_stream_progress(m->files[i], &bytes, &done_bytes);
        m->progress.disk_bytes += bytes;
        m->progress.disk_done_bytes += done_bytes;
    }
}

/* ---- the giver ------------------------------------------------------------------------ */

static void
on_sent(void *ctx, const char *why)
{
    struct migration *m = ctx;
    if (why && !m->over) {
        give_up(m, why); /* Else the couriers carry the rest. */
    }
}

static void
on_give_up(void *ctx UNUSED, struct courier *courier UNUSED, const char *stream UNUSED)
{
}

static void
on_give_ended(void *ctx, struct courier *courier, const char *why)
{
    struct migration *m = ctx;
    if (m->over) {
        return;
    }
    migration_let_go(m, courier);
    if (why) {
        give_up(m, why);
    } else if (m->courier_count == 0) {
        m->ended_ns = migration_now(m);
        migration_changed(m);
    }
}

static bool
send_disk(struct migration *m, const char *disk_id, struct err *err)
{
    const struct migration_host *host = &m->set->config.host;
    const struct file_stream_config config = stream_config(m, on_sent);
    const struct courier_ops ops = {on_give_up, on_give_ended, m};
    int file, local;
    if (!host->disk_give(host->ctx, disk_id, &file, err)) {
        return false;
    }
    struct file_stream *s = file_stream_send(&config, disk_id, file, &local, err);
    if (!s) {
        return false;
    }
    m->files[m->file_count++] = s;
    struct courier *c =
        courier_send(&m->self, m->want->peer_address, (int)m->want->peer_port,
                     m->want->peer_node_id, m->id, disk_id, local, &ops, err);
    if (c) {
        m->couriers[m->courier_count++] = (struct migration_courier){.courier = c};
    }
    return c != NULL;
}

static void
give_begin(struct migration *m)
{
    struct err err = {0};
    m->begun = true;
    m->door_port = m->want->peer_port;
    m->began_ns = migration_now(m);
    bool ok = migration_load_self(m, &err);
    for (size_t i = 0; ok && i < m->want->copy_disks.count; i++) {
        ok = send_disk(m, m->want->copy_disks.items[i], &err);
    }
    if (!ok) {
        give_up(m, err.msg);
    }
    migration_changed(m);
}

static void
cold_give(struct migration *m)
{
    if (m->over) {
        return;
    }
    if (m->deleted || str_eq(m->want->order, "stay")) {
        m->over = true;
        cold_hang_up(m);
        migration_changed(m);
    } else if (str_eq(m->want->order, "copy") && !m->begun) {
        give_begin(m);
    } else if (m->begun && m->want->peer_port != m->door_port) {
        /* It may have had all of it, and not on its disk yet: it is never sent twice. */
        give_up(m, "the receiver was started anew, and waits for it again");
    }
    look(m);
}

/* ---- the receiver ---------------------------------------------------------------------- */

/* Where the stream that keeps the disks waits for them. */
static char *
stream_path(const struct migration *m)
{
    size_t len = strlen(m->id);
    return xasprintf("%s/move-%s.sock", m->set->config.dir,
                     m->id + (len > 17 ? len - 17 : 0));
}

static void
on_take_up(void *ctx, struct courier *courier, const char *stream)
{
    struct migration *m = ctx;
    struct err err = {0};
    int fd;
    AUTO(free) char *path = stream_path(m);
    if (m->courier_count == ARRAY_LEN(m->couriers) || !sock_connect(path, &fd, &err)) {
        log_warn("migration %s: %s: %s", m->id, stream, err.msg);
        courier_close(courier);
        return;
    }
    m->couriers[m->courier_count++] =
        (struct migration_courier){.courier = courier, .up = true, .joined = true};
    courier_join(courier, fd, false);
    m->began_ns = m->began_ns ? m->began_ns : migration_now(m);
}

/* What it brought is whole or not by its own words: see file_stream.h. */
static void
on_take_ended(void *ctx, struct courier *courier, const char *why)
{
    struct migration *m = ctx;
    migration_let_go(m, courier);
    if (why && !m->over && !m->files_done) {
        give_up(m, why);
    }
}

static void
on_taken(void *ctx, const char *why)
{
    struct migration *m = ctx;
    const struct migration_host *host = &m->set->config.host;
    if (m->over) {
        return;
    }
    if (why) {
        give_up(m, why);
        return;
    }
    m->files_done = true;
    m->ended_ns = migration_now(m);
    look(m);
    for (size_t i = 0; i < m->want->copy_disks.count; i++) {
        host->disk_arrived(host->ctx, m->want->copy_disks.items[i], true);
    }
    migration_changed(m);
}

/* The state that all of its disks have reached, at least. */
static enum disk_arrival
arrival(const struct migration *m)
{
    const struct migration_host *host = &m->set->config.host;
    enum disk_arrival least = DISK_IS_HERE;
    for (size_t i = 0; i < m->want->copy_disks.count; i++) {
        enum disk_arrival one =
            host->disk_arrival(host->ctx, m->want->copy_disks.items[i]);
        if (one == DISK_HAS_FAILED) {
            return one;
        }
        least = MIN(least, one);
    }
    return least;
}

static bool
open_places(struct migration *m, struct file_place *out, size_t *out_count,
            struct err *err)
{
    const struct migration_host *host = &m->set->config.host;
    for (size_t i = 0; i < m->want->copy_disks.count; i++) {
        const char *id = m->want->copy_disks.items[i];
        struct file_place *place = &out[*out_count];
        snprintf(place->disk_id, sizeof place->disk_id, "%s", id);
        if (!host->disk_arrive(host->ctx, id, &place->fd, err)) {
            return false;
        }
        ++*out_count;
    }
    return true;
}

static bool
open_door(struct migration *m, struct err *err)
{
    const struct migration_host *host = &m->set->config.host;
    const struct file_stream_config config = stream_config(m, on_taken);
    const struct courier_ops ops = {on_take_up, on_take_ended, m};
    const char *address = host->address(host->ctx);
    struct file_place places[MIGRATION_DISKS_MAX];
    size_t count = 0;
    AUTO(free) char *path = stream_path(m);
    if (!address) {
        return err_set(
            err, ERR_UNSUPPORTED,
            "other nodes do not reach this one: start its agent with --underlay");
    }
    if (!migration_load_self(m, err)) {
        return false;
    }
    m->opened = true;
    if (!open_places(m, places, &count, err)) {
        for (size_t i = 0; i < count; i++) {
            auto_fd(&places[i].fd);
        }
        return false;
    }
    struct file_stream *s = file_stream_take(&config, path, places, count, err);
    if (!s) {
        return false;
    }
    m->files[m->file_count++] = s;
    m->door =
        courier_door_open(&m->self, address, m->want->peer_node_id, m->id, &ops, err);
    return m->door != NULL;
}

static void
cold_take(struct migration *m)
{
    struct err err = {0};
    if (m->over) {
        return;
    }
    if (m->deleted) {
        m->over = true;
        cold_hang_up(m);
        return;
    }
    enum disk_arrival now = arrival(m);
    if (!m->set_up && now == DISK_IS_HERE && m->want->copy_disks.count > 0) {
        /* Of an agent before this one, or of another time: nobody knows which. */
        give_up(m, "its disk was here before it came");
    } else if (!m->set_up && now >= DISK_AWAITED) {
        m->set_up = true;
        m->files_done = m->want->copy_disks.count == 0;
        if (!m->files_done && !open_door(m, &err)) {
            give_up(m, err.msg);
        }
        migration_changed(m);
    } else if (now == DISK_HAS_FAILED && m->files_done) {
        give_up(m, "its disk could not be kept");
    }
}

/* ---- for migration.c --------------------------------------------------------------------- */

void
cold_step(struct migration *m)
{
    (m->want->incoming ? cold_take : cold_give)(m);
}

const char *
cold_state(const struct migration *m)
{
    if (!m->want->incoming) {
        return m->over ? "kept" : m->begun ? "copying" : "waiting";
    }
    return m->over                                       ? "failed"
           : m->files_done && arrival(m) == DISK_IS_HERE ? "here"
           : m->door                                     ? "listening"
                                                         : "preparing";
}
