/* test_courier.c - streams between two agents, over loopback and real TLS. */
#include "link/pki.h"
#include "node/migrate/courier.h"
#include "test.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define GIVER "node-00000000000000001"
#define TAKER "node-00000000000000002"
#define MOVE "migration-0123456789abcdef0"

struct pair {
    uv_loop_t loop;
    struct arena *arena;
    struct courier_self giver, taker;
    struct courier_door *door;
    struct courier *sent, *received;
    unsigned sent_up, received_up, sent_ended, received_ended;
};

static void
on_sent_up(void *ctx, struct courier *courier UNUSED, const char *stream UNUSED)
{
    ((struct pair *)ctx)->sent_up++;
}

static void
on_sent_ended(void *ctx, struct courier *courier UNUSED, const char *why UNUSED)
{
    ((struct pair *)ctx)->sent_ended++;
}

static void
on_received_up(void *ctx, struct courier *courier, const char *stream)
{
    struct pair *p = ctx;
    CHECK_STR(stream, COURIER_MEMORY);
    p->received = courier;
    p->received_up++;
}

static void
on_received_ended(void *ctx, struct courier *courier UNUSED, const char *why UNUSED)
{
    ((struct pair *)ctx)->received_ended++;
}

/* A node's own view: certified by 'ca'. */
static struct courier_self
self_of(struct pair *p, const struct pki_ca *ca, const char *node_id)
{
    struct courier_self self = {.loop = &p->loop, .clock = &clock_system};
    const char *csr;
    struct pki_cert cert;
    struct err err = {0};
    int64_t now = clock_real(&clock_system);
    CHECK_OK(pki_key_make(p->arena, &self.key_pem, &err), &err);
    CHECK_OK(pki_csr_make(p->arena, self.key_pem, "host", &csr, &err), &err);
    CHECK_OK(pki_sign_node(ca, p->arena, &rng_system, now, csr, node_id, &self.cert_pem,
                           &cert, &err),
             &err);
    self.ca_pem = arena_strdup(p->arena, pki_ca_pem(ca));
    return self;
}

static void
pair_open(struct pair *p)
{
    static const struct courier_ops none = {on_received_up, on_received_ended, NULL};
    struct courier_ops ops = none;
    struct pki_pair files;
    struct err err = {0};
    *p = (struct pair){.arena = arena_create()};
    ops.ctx = p;
    CHECK_EQ(uv_loop_init(&p->loop), 0);
    CHECK_OK(pki_ca_make(p->arena, &rng_system, clock_real(&clock_system), "c1000000",
                         &files, &err),
             &err);
    AUTO(pki_ca) struct pki_ca *ca = pki_ca_load(files.cert_pem, files.key_pem, &err);
    CHECK_OK(ca != NULL, &err);
    p->giver = self_of(p, ca, GIVER);
    p->taker = self_of(p, ca, TAKER);
    p->door = courier_door_open(&p->taker, "127.0.0.1", GIVER, MOVE, &ops, &err);
    CHECK_OK(p->door != NULL, &err);
}

static void
pair_close(struct pair *p)
{
    courier_close(p->sent);
    courier_close(p->received);
    courier_door_close(p->door);
    (void)uv_run(&p->loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&p->loop), 0);
    arena_destroy(p->arena);
}

static void
until(struct pair *p, const unsigned *count, unsigned least)
{
    while (*count < least) {
        (void)uv_run(&p->loop, UV_RUN_ONCE);
    }
}

/* Its local end is 'fd'. */
static void
send_memory(struct pair *p, int fd)
{
    struct courier_ops ops = {on_sent_up, on_sent_ended, p};
    struct err err = {0};
    p->sent = courier_send(&p->giver, "127.0.0.1", courier_door_port(p->door), TAKER,
                           MOVE, COURIER_MEMORY, fd, &ops, &err);
    CHECK_OK(p->sent != NULL, &err);
}

static void
pair_of_ends(int ends[2])
{
    struct err err = {0};
    CHECK_OK(courier_pair(ends, &err), &err);
}

/* Whether something, the end of the stream also, waits there to be read. */
static bool
has_news(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    return poll(&ready, 1, 0) == 1;
}

/* An emulator that waits for memory to come again falls when its stream ends before that is
 * agreed on: a giver that hangs up too early must not end it. */
TEST(courier_that_ends_before_a_byte_leaves_the_emulators_end_to_the_next)
{
    struct pair p;
    int memory[2], again[2], emulator[2];
    char heard[6] = "";
    pair_open(&p);
    pair_of_ends(memory);
    pair_of_ends(emulator);
    send_memory(&p, memory[0]);
    until(&p, &p.received_up, 1);
    CHECK_EQ(p.sent_up, 0); /* Not let in before its end is there. */
    courier_join(p.received, fcntl(emulator[0], F_DUPFD_CLOEXEC, 0), true);
    until(&p, &p.sent_up, 1);
    courier_persist(p.sent);
    CHECK(courier_silent_ns(p.sent) >= 0);
    courier_close(p.sent);
    p.sent = NULL;
    until(&p, &p.received_ended, 1);
    courier_close(p.received);
    p.received = NULL;
    (void)uv_run(&p.loop, UV_RUN_NOWAIT);
    CHECK(!has_news(emulator[1]));

    pair_of_ends(again);
    send_memory(&p, again[0]);
    until(&p, &p.received_up, 2);
    courier_join(p.received, fcntl(emulator[0], F_DUPFD_CLOEXEC, 0), true);
    CHECK_EQ(write(again[1], "hello", 5), 5);
    CHECK_EQ(read(emulator[1], heard, 5), 5);
    CHECK_STR(heard, "hello");
    close(emulator[0]); /* It has gone on: from now on its end is its end. */
    close(again[1]);
    until(&p, &p.sent_up, 2);
    CHECK_EQ(read(emulator[1], heard, 5), 0);
    close(emulator[1]);
    close(memory[1]);
    pair_close(&p);
}
