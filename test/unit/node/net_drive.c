/* net_drive.c - src/node/net under the hand of another program: one JSON object a line in,
 * one out. For tests that know nothing of the code they test (test/e2e/test_matrix.py).
 *
 * Usage: net_drive CLOUDID, as root. Lines:
 *   {"op":"want","kind":"group","record":{...}}   a record of link.schema, by its names
 *   {"op":"drop","kind":"group","id":"sg-1"}
 *   {"op":"hold"} {"op":"release"}
 *   {"op":"veth","id":"eni-1","namespace":"/run/netns/x","name":"eth0"}
 *   {"op":"tap","id":"eni-1"}   its tap, kept open here: {"ok":true,"fd":9}
 *   {"op":"export","id":"eni-1"}   its connections: {"ok":true,"bytes":HEX,"moved":1,"left":0};
 *                                  with "known":HEX, those that are new since
 *   {"op":"import","id":"eni-1","bytes":HEX}
 *   {"op":"flows","at":SECONDS}   as if it were that real time: {"ok":true,"batches":[...]}
 *   {"op":"lease","ms":MS}   this node has its lease for so long from now; 0: no more
 *   {"op":"check"}   compares the kernel with what is wanted: {"ok":true,"drift":0,"events":[]}
 *   {"op":"sweep"}
 * Answers: {"ok":true} or {"ok":false,"message":"..."}. At its end it sweeps. */
#include "base/crypto.h"
#include "base/file.h"
#include "base/jsonio.h"
#include "link/link.h"
#include "node/net/conntrack.h"
#include "node/net/net.h"
#include <fcntl.h>
#include <poll.h>

static const struct {
    const char *name;
    enum link_kind kind;
} kinds[] = {
    {"network", LINK_NETWORK},
    {"subnet", LINK_SUBNET},
    {"port", LINK_PORT},
    {"group", LINK_GROUP},
    {"group_member", LINK_GROUP_MEMBER},
    {"prefix_list", LINK_PREFIX_LIST},
    {"route_table", LINK_ROUTE_TABLE},
    {"acl", LINK_ACL},
    {"peering", LINK_PEERING},
    {"nat_gateway", LINK_NAT_GATEWAY},
    {"dhcp_options", LINK_DHCP_OPTIONS},
    {"flow_log", LINK_FLOW_LOG},
    {"uplink", LINK_UPLINK},
    {"underlay", LINK_UNDERLAY},
    {"neighbour", LINK_NEIGHBOUR},
    {"name", LINK_NAME},
    {"endpoint", LINK_ENDPOINT},
    {"public", LINK_PUBLIC},
};

static const char *
text_of(const json_t *in, const char *name)
{
    const char *text = json_string_value(json_object_get(in, name));
    return text ? text : "";
}

static int
kind_of(const json_t *in)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (str_eq(kinds[i].name, text_of(in, "kind"))) {
            return (int)kinds[i].kind;
        }
    }
    return -1;
}

static bool
want(struct net *net, const json_t *in, struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    int kind = kind_of(in);
    const struct desc *desc = kind < 0 ? NULL : link_want_desc((enum link_kind)kind);
    if (!desc) {
        return err_set(err, ERR_INVALID, "no such kind");
    }
    void *record = arena_alloc(arena, desc->size);
    memset(record, 0, desc->size);
    if (!json_read(desc, json_object_get(in, "record"), JSONIO_STRICT, arena, record,
                   err)) {
        return false;
    }
    switch (kind) {
    case LINK_NETWORK:
        return net_want_network(net, record, err);
    case LINK_SUBNET:
        return net_want_subnet(net, record, err);
    case LINK_PORT:
        return net_want_port(net, record, err);
    default:
        return net_want(net, kind, record, err);
    }
}

static bool
drop(struct net *net, const json_t *in, struct err *err)
{
    const char *id = text_of(in, "id");
    int kind = kind_of(in);
    switch (kind) {
    case LINK_NETWORK:
        return net_drop_network(net, id, err);
    case LINK_SUBNET:
        return net_drop_subnet(net, id, err);
    case LINK_PORT:
        return net_drop_port(net, id, err);
    default:
        return net_drop(net, kind, id, err);
    }
}

static bool
veth(struct net *net, const json_t *in, struct err *err)
{
    AUTO(fd) int fd = open(text_of(in, "namespace"), O_RDONLY | O_CLOEXEC);
    return (fd >= 0 || err_sys(err, errno, "open the guest's namespace")) &&
           net_veth_open(net, text_of(in, "id"), fd, text_of(in, "name"), err);
}

/* It is closed with this program: whoever wants it takes a copy (pidfd_getfd). */
static bool
tap(struct net *net, const json_t *in, struct buf *answer, struct err *err)
{
    int fd;
    if (!net_tap_open(net, text_of(in, "id"), &fd, err)) {
        return false;
    }
    buf_printf(answer, ",\"fd\":%d", fd);
    return true;
}

/* A member's hex; 'out' is malloc'ed. */
static bool
bytes_of(const json_t *in, const char *name, uint8_t **out, size_t *out_len,
         struct err *err)
{
    const char *hex = text_of(in, name);
    size_t len = hex ? strlen(hex) : 0;
    *out = xmalloc(len / 2 + 1);
    *out_len = len / 2;
    return len == 0 || hex_decode(hex, len, *out) ||
           err_set(err, ERR_INVALID, "not hex");
}

/* 'answer' takes further members. */
static bool
export_flows(struct net *net, const json_t *in, struct buf *answer, struct err *err)
{
    AUTO(buf) struct buf bytes = {0};
    AUTO(free) uint8_t *known = NULL;
    struct conntrack_count count;
    size_t len;
    if (!bytes_of(in, "known", &known, &len, err) ||
        !conntrack_export(net, text_of(in, "id"), (struct blob){known, len}, &bytes,
                          &count, err)) {
        return false;
    }
    AUTO(free) char *hex = xmalloc(2 * bytes.len + 1);
    hex_encode(bytes.data, bytes.len, hex);
    buf_printf(answer, ",\"moved\":%zu,\"left\":%zu,\"bytes\":\"%s\"", count.moved,
               count.left, hex);
    return true;
}

static bool
import_flows(struct net *net, const json_t *in, struct buf *answer, struct err *err)
{
    AUTO(free) uint8_t *bytes = NULL;
    size_t len;
    struct conntrack_count count;
    if (!bytes_of(in, "bytes", &bytes, &len, err) ||
        !conntrack_import(net, text_of(in, "id"), bytes, len, &count, err)) {
        return false;
    }
    buf_printf(answer, ",\"moved\":%zu,\"left\":%zu", count.moved, count.left);
    return true;
}

/* What was worth telling since the last check. */
static struct buf events;

static void
on_event(void *ctx, const char *kind, const char *object, const char *level,
         const char *message)
{
    buf_puts(&events, events.len > 0 ? "," : "");
    json_put_string(&events, message, strlen(message));
}

static void
put_batch(void *ctx, const struct link_flow_batch *batch)
{
    struct buf *out = ctx;
    char last = out->data[out->len - 1];
    buf_puts(out, last == '[' ? "" : ",");
    json_write(&link_flow_batch_desc, batch, 0, out);
}

static bool
obey(struct net *net, const json_t *in, struct buf *answer, struct err *err)
{
    const char *op = text_of(in, "op");
    if (str_eq(op, "want")) {
        return want(net, in, err) && net_settle(net, err);
    }
    if (str_eq(op, "drop")) {
        return drop(net, in, err) && net_settle(net, err);
    }
    if (str_eq(op, "veth")) {
        return veth(net, in, err);
    }
    if (str_eq(op, "tap")) {
        return tap(net, in, answer, err);
    }
    if (str_eq(op, "hold")) {
        net_hold(net);
        return true;
    }
    if (str_eq(op, "release")) {
        return net_release(net, err);
    }
    if (str_eq(op, "check")) {
        size_t drift = 0;
        bool ok = net_check(net, &drift, err);
        buf_printf(answer, ",\"drift\":%zu,\"events\":[%s]", drift, buf_str(&events));
        buf_clear(&events);
        return ok;
    }
    if (str_eq(op, "flows")) {
        int64_t at_s = json_integer_value(json_object_get(in, "at"));
        buf_puts(answer, ",\"batches\":[");
        (void)net_flows(net, at_s * NS_PER_S, put_batch, answer);
        buf_puts(answer, "]");
        return true;
    }
    if (str_eq(op, "lease")) {
        int64_t ms = json_integer_value(json_object_get(in, "ms"));
        return net_lease(net, ms ? clock_mono(&clock_system) + ms * NS_PER_MS : 0, err);
    }
    if (str_eq(op, "export")) {
        return export_flows(net, in, answer, err);
    }
    if (str_eq(op, "import")) {
        return import_flows(net, in, answer, err);
    }
    return str_eq(op, "sweep") ? net_sweep(net, err)
                               : err_set(err, ERR_INVALID, "what is '%s'?", op);
}

/* The next line, malloc'ed; NULL: there is no more. Until it comes, what the network does by
 * itself goes on. */
static char *
next_line(uv_loop_t *loop, struct buf *in)
{
    char data[16 * KIB];
    for (;;) {
        char *end = in->len ? memchr(in->data, '\n', in->len) : NULL;
        if (end) {
            size_t len = (size_t)(end - (char *)in->data);
            char *line = xasprintf("%.*s", (int)len, (char *)in->data);
            buf_drop_front(in, len + 1);
            return line;
        }
        struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
        if (poll(&p, 1, 5) == 0) {
            (void)uv_run(loop, UV_RUN_NOWAIT);
            continue;
        }
        ssize_t n = read(STDIN_FILENO, data, sizeof data);
        if (n <= 0) {
            return NULL;
        }
        buf_put(in, data, (size_t)n);
    }
}

static void
serve(struct net *net, uv_loop_t *loop)
{
    AUTO(buf) struct buf input = {0};
    for (;;) {
        AUTO(free) char *line = next_line(loop, &input);
        if (!line) {
            return;
        }
        AUTO(json) json_t *in = json_loads(line, 0, NULL);
        struct err err = {0};
        AUTO(buf) struct buf out = {0}, answer = {0};
        if (in && obey(net, in, &answer, &err)) {
            buf_printf(&out, "{\"ok\":true%s}", buf_str(&answer));
        } else {
            buf_puts(&out, "{\"ok\":false,\"message\":");
            const char *why = in ? err.msg : "not JSON";
            json_put_string(&out, why, strlen(why));
            buf_puts(&out, "}");
        }
        (void)puts(buf_str(&out));
        (void)fflush(stdout);
    }
}

int
main(int argc, char **argv)
{
    uv_loop_t loop;
    struct err err = {0};
    if (argc != 2 || uv_loop_init(&loop) != 0) {
        return 2;
    }
    struct net_config config = {.loop = &loop,
                                .cloud_id = argv[1],
                                .clock = &clock_system,
                                .rng = &rng_system,
                                .event = on_event};
    struct net *net = net_open(&config, &err);
    if (!net) {
        (void)fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    serve(net, &loop);
    bool ok = net_sweep(net, &err);
    buf_fini(&events);
    net_close(net);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&loop);
    return ok ? 0 : 1;
}
