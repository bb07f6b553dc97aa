/* link.c - how many nodes can come back in a second, to one control plane.
 *
 * What:     a server on one thread; clients on another open TCP, resume TLS 1.3 by
 *           ticket with a client certificate behind it, say hello, are welcomed, and
 *           close; a number of them at once. The server thread's own processor time
 *           tells reconnects a second of one core, whatever else the machine does.
 * Peers:    the same without resumption (whole handshakes), and the unix socket without
 *           TLS.
 * Run:      build/bench/bench-link [connections]; prints a table. */
#include <pthread.h>
#include <sys/resource.h>
#include <time.h>

#include "base/tlv.h"
#include "link/pki.h"
#include "link/server.h"
#include "link/stream.h"

#define AT_ONCE 64
#define GOAL 1000 /* Reconnects a second on one core. */

/* ---- the control plane, on its own thread ---------------------------------------- */

struct control {
    uv_loop_t loop;
    uv_async_t stop;
    struct link_server *server;
    pthread_t thread;
    int port;
    int hellos, resumed;
    double cpu_s;
};

static void
on_hello(void *ctx, struct link_peer *peer, const struct link_identity *who,
         const struct link_hello *hello)
{
    struct control *c = ctx;
    struct link_welcome welcome = {.node_id = "node-1", .cloud_id = "bench"};
    c->hellos++;
    c->resumed += link_peer_resumed(peer);
    link_peer_welcome(peer, &welcome);
}

static void
on_lost(void *ctx, struct link_peer *peer, const char *why)
{
}

static void
control_stop(uv_async_t *async)
{
    struct control *c = async->data;
    link_server_destroy(c->server);
    uv_close((uv_handle_t *)async, NULL);
}

static void *
control_run(void *ctx)
{
    struct control *c = ctx;
    struct timespec cpu;
    (void)uv_run(&c->loop, UV_RUN_DEFAULT);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    c->cpu_s = (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9;
    return NULL;
}

static void
die(const struct err *err)
{
    fprintf(stderr, "bench-link: %s\n", err->msg);
    exit(1);
}

static void
control_start(struct control *c, const struct pki_pair *ca,
              const struct pki_pair *server, const char *unix_path)
{
    struct err err = {0};
    struct link_server_config config = {
        .loop = &c->loop,
        .clock = &clock_system,
        .rng = &rng_system,
        .ctx = c,
        .ops = {.hello = on_hello, .lost = on_lost},
        .unix_path = unix_path,
        .tcp_host = unix_path ? NULL : "127.0.0.1",
        .ca_pem = ca->cert_pem,
        .cert_pem = server->cert_pem,
        .key_pem = server->key_pem,
    };
    *c = (struct control){0};
    (void)uv_loop_init(&c->loop);
    (void)uv_async_init(&c->loop, &c->stop, control_stop);
    c->stop.data = c;
    c->server = link_server_create(&config, &err);
    if (!c->server) {
        die(&err);
    }
    c->port = link_server_port(c->server);
    (void)pthread_create(&c->thread, NULL, control_run, c);
}

static void
control_end(struct control *c)
{
    (void)uv_async_send(&c->stop);
    (void)pthread_join(c->thread, NULL);
    (void)uv_loop_close(&c->loop);
}

/* ---- the nodes ------------------------------------------------------------------- */

struct nodes {
    uv_loop_t loop;
    const char *unix_path;
    struct sockaddr_in at;
    struct tls_context *tls;
    bool resume;
    struct buf ticket;
    int left, failed;
    char why[200];
    char scratch[STREAM_SCRATCH];
};

struct node {
    struct nodes *all;
    struct stream *stream;
    uv_connect_t connect;
    bool welcome;
};

static void node_next(struct nodes *all);

static void
node_up(void *ctx)
{
    struct node *node = ctx;
    struct link_hello hello = {.protocol = LINK_PROTOCOL,
                               .clock_ns = clock_real(&clock_system)};
    stream_send_record(node->stream, FRAME_HELLO, &link_hello_desc, &hello);
}

static bool
node_frame(void *ctx, const struct frame *frame)
{
    struct node *node = ctx;
    node->welcome = frame->type == FRAME_WELCOME;
    if (node->all->resume && !node->all->ticket.len) {
        (void)tls_ticket(stream_tls(node->stream), &node->all->ticket);
    }
    stream_close(node->stream, "done", false);
    return false;
}

static void
node_drained(void *ctx)
{
}

static void
node_closed(void *ctx, const char *why)
{
    struct node *node = ctx;
    struct nodes *all = node->all;
    if (!node->welcome) {
        all->failed++;
        snprintf(all->why, sizeof all->why, "%s", why);
    }
    free(node);
    node_next(all);
}

static const struct stream_ops node_ops = {
    .up = node_up, .frame = node_frame, .drained = node_drained, .closed = node_closed};

static void
node_connected(uv_connect_t *req, int status)
{
    struct node *node = req->data;
    if (status < 0) {
        stream_close(node->stream, uv_strerror(status), false);
    } else {
        stream_start(node->stream);
    }
}

static void
node_next(struct nodes *all)
{
    struct err err = {0};
    if (!all->left) {
        return;
    }
    all->left--;
    struct node *node = xcalloc(1, sizeof *node);
    struct stream_config config = {
        .loop = &all->loop, .ops = &node_ops, .ctx = node, .scratch = all->scratch};
    if (!all->unix_path) {
        struct blob ticket = {(uint8_t *)all->ticket.data, all->ticket.len};
        config.tls = tls_create(all->tls, ticket, &err);
        if (!config.tls) {
            die(&err);
        }
    }
    node->all = all;
    node->connect.data = node;
    node->stream = stream_create(&config, all->unix_path != NULL);
    uv_handle_t *handle = stream_handle(node->stream);
    if (all->unix_path) {
        uv_pipe_connect(&node->connect, (uv_pipe_t *)handle, all->unix_path,
                        node_connected);
    } else if (uv_tcp_connect(&node->connect, (uv_tcp_t *)handle,
                              (struct sockaddr *)&all->at, node_connected) < 0) {
        stream_close(node->stream, "connect", false);
    }
}

static void
nodes_run(struct nodes *all, int count, int at_once)
{
    all->left = count;
    for (int i = 0; i < at_once; i++) {
        node_next(all);
    }
    (void)uv_run(&all->loop, UV_RUN_DEFAULT);
}

/* ---- one line of the table ------------------------------------------------------- */

struct office {
    struct pki_pair ca, server;
    const char *cert_pem, *key_pem;
};

static void
measure(const struct office *o, const char *what, const char *unix_path, bool resume,
        int count)
{
    static struct nodes all;
    static struct control control;
    struct err err = {0};
    control_start(&control, &o->ca, &o->server, unix_path);
    all = (struct nodes){.unix_path = unix_path, .resume = resume};
    (void)uv_loop_init(&all.loop);
    (void)uv_ip4_addr("127.0.0.1", control.port, &all.at);
    all.tls = tls_context_create(false, o->cert_pem, o->key_pem, &err);
    if (!all.tls) {
        die(&err);
    }
    nodes_run(&all, 1, 1); /* For the ticket. */
    uint64_t begin = uv_hrtime();
    nodes_run(&all, count, AT_ONCE);
    double wall_s = (double)(uv_hrtime() - begin) / 1e9;
    control_end(&control);
    printf("%-34s %8d %8d %10.0f %10.0f\n", what, control.hellos, control.resumed,
           count / wall_s, count / control.cpu_s);
    if (all.failed) {
        printf("  %d failed: %s\n", all.failed, all.why);
    }
    if (resume) {
        printf("goal %d a second on one core: %s\n", GOAL,
               count / control.cpu_s >= GOAL && !all.failed ? "met" : "MISSED");
    }
    (void)uv_loop_close(&all.loop);
    tls_context_destroy(all.tls);
    buf_fini(&all.ticket);
}

int
main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 5000;
    struct err err = {0};
    struct office o;
    struct pki_cert cert;
    const char *csr;
    int64_t now = clock_real(&clock_system);
    char path[64];
    AUTO(arena) struct arena *arena = arena_create();
    AUTO(pki_ca) struct pki_ca *ca = NULL;
    if (!pki_ca_make(arena, &rng_system, now, "bench", &o.ca, &err) ||
        !(ca = pki_ca_load(o.ca.cert_pem, o.ca.key_pem, &err)) ||
        !pki_server_make(ca, arena, &rng_system, now, &o.server, &err) ||
        !pki_key_make(arena, &o.key_pem, &err) ||
        !pki_csr_make(arena, o.key_pem, "bench", &csr, &err) ||
        !pki_sign_node(ca, arena, &rng_system, now, csr, "node-1", &o.cert_pem, &cert,
                       &err)) {
        die(&err);
    }
    snprintf(path, sizeof path, "/tmp/moln-bench-link-%d.sock", (int)getpid());
    printf("%-34s %8s %8s %10s %10s\n", "reconnects", "welcomed", "resumed", "per s",
           "per core s");
    measure(&o, "TLS 1.3, ticket, certificate", NULL, true, count);
    measure(&o, "TLS 1.3, whole handshake", NULL, false, count / 4);
    measure(&o, "unix socket, no TLS", path, false, count);
    return 0;
}
