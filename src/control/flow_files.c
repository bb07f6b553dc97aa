/* flow_files.c - see flow_files.h. */
#include "control/flow_files.h"

#include "base/file.h"
#include "base/log.h"
#include "base/timefmt.h"
#include "control/wants.h"
#include "core/flow_format.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define FILE_MAX (16 * MIB)
#define FREE_MIN (1 * GIB)
#define KEEP_NS (7 * 86400 * NS_PER_S)

/* ---- lines ---------------------------------------------------------------------------- */

#define GET(pass, name, out, err, ...) \
    row_get((pass)->txn, &row_##name##_type, &(const struct row_##name){__VA_ARGS__}, \
            (const void **)(out), (err))

static bool
is_interface(const char *id)
{
    return id && str_starts(id, "eni-") && strlen(id) < 32 &&
           strspn(id + 4, "0123456789abcdef") == strlen(id + 4);
}

static void
address_text(const struct blob *ip, char out[INET6_ADDRSTRLEN])
{
    int family = ip->len == 16 ? AF_INET6 : AF_INET;
    out[0] = '\0';
    if (ip->len == 4 || ip->len == 16) {
        (void)inet_ntop(family, ip->data, out, INET6_ADDRSTRLEN);
    }
}

static const char *
status_of(const char *status)
{
    return str_empty(status) ? "OK" : str_eq(status, "nodata") ? "NODATA" : "SKIPDATA";
}

static const char *
zone_id_of(const struct pass *pass, const char *name)
{
    const struct zone_config *zone = name ? config_zone(pass->config, name) : NULL;
    return zone ? zone->id : NULL;
}

static bool
put_line(const struct pass *pass, const struct row_flow_log *log,
         const struct link_flow_seen *f, struct buf *out, struct err *err)
{
    char from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];
    const struct row_eni *eni;
    const struct row_subnet *subnet = NULL;
    if (!is_interface(f->port_id)) {
        return true; /* A stranger's word: no line is made of it. */
    }
    if (!GET(pass, eni, &eni, err, .account = log->account, .id = f->port_id) ||
        (eni && !GET(pass, subnet, &subnet, err, .account = log->account,
                     .id = eni->subnet_id))) {
        return false;
    }
    address_text(&f->from, from);
    address_text(&f->to, to);
    const struct flow_values v = {
        .account = log->account,
        .interface = f->port_id,
        .vpc = log->vpc_id,
        .subnet = eni ? eni->subnet_id : NULL,
        .instance = eni ? eni->instance_id : NULL,
        .region = log->region,
        .zone_id = subnet ? zone_id_of(pass, subnet->zone) : NULL,
        .status = status_of(f->status),
        .from = from,
        .to = to,
        .from_port = f->from_port,
        .to_port = f->to_port,
        .protocol = f->protocol,
        .packets = f->packets,
        .bytes = f->bytes,
        .egress = f->egress,
        .refused = f->refused,
        .is6 = f->from.len == 16,
        .start_s = f->start / NS_PER_S,
        .end_s = f->end / NS_PER_S,
    };
    flow_format_line(str_empty(log->format) ? FLOW_FORMAT_DEFAULT : log->format, &v,
                     out);
    buf_putc(out, '\n');
    return true;
}

/* The log, if it is one of the account that the node's want names. */
static bool
log_of(const struct pass *pass, const char *node_id, const char *log_id,
       const struct row_flow_log **out, struct err *err)
{
    const struct row_node_want *want;
    *out = NULL;
    return want_get(pass->txn, node_id, LINK_FLOW_LOG, log_id ? log_id : "", &want,
                    err) &&
           (!want ||
            GET(pass, flow_log, out, err, .account = want->account, .id = log_id));
}

bool
flow_text(const struct pass *pass, const char *node_id,
          const struct link_flow_batch *batch, struct arena *arena,
          const struct flow_lines **out, struct err *err)
{
    AUTO(buf) struct buf text = {0}, names = {0};
    const struct row_flow_log *log;
    *out = NULL;
    if (!log_of(pass, node_id, batch->log_id, &log, err)) {
        return false;
    }
    for (size_t i = 0; log && i < batch->flows.count; i++) {
        if (!put_line(pass, log, &batch->flows.items[i], &text, err)) {
            return false;
        }
    }
    if (!log) {
        return true;
    }
    flow_format_names(str_empty(log->format) ? FLOW_FORMAT_DEFAULT : log->format,
                      &names);
    struct flow_lines *lines = ARENA_NEW(arena, struct flow_lines);
    *lines = (struct flow_lines){
        .account = arena_strdup(arena, log->account),
        .log_id = arena_strdup(arena, log->id),
        .names = arena_strdup(arena, buf_str(&names)),
        .text = arena_memdup(arena, buf_str(&text), text.len),
        .len = text.len,
        .count = batch->flows.count,
        .at_ns = pass->now_ns,
    };
    *out = lines;
    return true;
}

/* ---- files ---------------------------------------------------------------------------- */

/* "2026-11-26T13Z.log" */
static void
hour_name(int64_t at_ns, char out[32])
{
    char text[TIME_TEXT_LEN];
    time_iso(at_ns, text);
    (void)snprintf(out, 32, "%.13sZ.log", text);
}

static bool
has_room(const char *dir)
{
    struct statvfs fs;
    return statvfs(dir, &fs) < 0 || (uint64_t)fs.f_bavail * fs.f_frsize >= FREE_MIN;
}

bool
flow_files_append(const char *dir, const struct flow_lines *lines, struct err *err)
{
    char hour[32];
    struct stat st;
    hour_name(lines->at_ns, hour);
    AUTO(free) char *folder = xasprintf("%s/%s/%s", dir, lines->account, lines->log_id);
    AUTO(free) char *path = xasprintf("%s/%s", folder, hour);
    if (!dir_make(folder, 0700, err)) {
        return false;
    }
    if (!has_room(folder)) {
        return err_set(err, ERR_NO_SPACE,
                       "%s: less than 1 GiB is free: %zu records lost", folder,
                       lines->count);
    }
    AUTO(fd) int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || fstat(fd, &st) < 0) {
        return err_sys(err, errno, "open %s", path);
    }
    if ((uint64_t)st.st_size + lines->len > FILE_MAX) {
        return err_set(err, ERR_NO_SPACE, "%s is full: %zu records lost", path,
                       lines->count);
    }
    AUTO(buf) struct buf out = {0};
    if (st.st_size == 0) {
        buf_printf(&out, "%s\n", lines->names);
    }
    buf_put(&out, lines->text, lines->len);
    int rc = fd_write_all(fd, out.data, out.len);
    return rc == 0 || err_sys(err, -rc, "write %s", path);
}

/* Calls 'fn' with the path of each thing in a folder, and its name. */
static void
each(const char *dir, int64_t now_ns,
     void (*fn)(const char *path, const char *name, int64_t now_ns))
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] != '.') {
            AUTO(free) char *path = xasprintf("%s/%s", dir, e->d_name);
            fn(path, e->d_name, now_ns);
        }
    }
    if (d) {
        (void)closedir(d);
    }
}

static void
prune_file(const char *path, const char *name, int64_t now_ns)
{
    char oldest[32];
    hour_name(now_ns - KEEP_NS, oldest);
    if (strlen(name) == strlen(oldest) && strcmp(name, oldest) < 0) {
        (void)unlink(path);
    }
}

/* Empty, it goes too; else rmdir refuses. */
static void
prune_log(const char *path, const char *name UNUSED, int64_t now_ns)
{
    each(path, now_ns, prune_file);
    (void)rmdir(path);
}

static void
prune_account(const char *path, const char *name UNUSED, int64_t now_ns)
{
    each(path, now_ns, prune_log);
    (void)rmdir(path);
}

void
flow_files_prune(const char *dir, int64_t now_ns)
{
    each(dir, now_ns, prune_account);
}
