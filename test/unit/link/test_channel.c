/* test_channel.c - byte streams inside a link: tunnels between sockets, blobs between
 * files. */
#include "loopback.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>

#define BIG (10u << 20)

/* What the two ends of a channel were told. */
struct told {
    int open, done;
    uint64_t received;
    char why[128];
};

static void
on_channel(void *ctx, struct link_channel *channel, enum link_channel_state state,
           uint64_t received, const char *why)
{
    struct told *told = ctx;
    if (state == LINK_CHANNEL_OPEN) {
        told->open++;
        return;
    }
    told->done++;
    told->received = received;
    snprintf(told->why, sizeof told->why, "%s", why ? why : "");
}

/* Set before a channel is opened: what the accepting side does. */
static struct link_channel_bind accept_bind;
static struct link_channel *accepted;
static const char *accept_refusal;
static int offers;

static void
on_offer(struct loopback *lo, struct link_channel *channel,
         const struct link_channel_open *open)
{
    offers++;
    accepted = channel;
    if (accept_refusal) {
        link_channel_refuse(channel, accept_refusal);
    } else if (accept_bind.fd >= 0) {
        link_channel_accept(channel, &accept_bind);
    }
}

static void
start(struct loopback *lo, bool tls)
{
    loopback_init(lo, tls);
    lo->on_node_channel = lo->on_peer_channel = on_offer;
    accept_refusal = NULL;
    accepted = NULL;
    offers = 0;
    if (tls) {
        loopback_certify(lo, NULL, lo->control_ns);
    }
    loopback_connect(lo);
    loopback_until(lo, &lo->welcomes, 1);
}

/* ---- tenants at both ends of a tunnel -------------------------------------------- */

static uint8_t
pattern(uint8_t seed, size_t i)
{
    return (uint8_t)(seed + i * 7 + i / 251 + i / 65537);
}

struct tenant {
    int fd;
    uint8_t writes, reads; /* Seeds of the patterns. */
    unsigned nap_us;       /* Now and then while it reads. */
    size_t got;
    bool wrong;
    pthread_t writer, reader;
};

static void *
tenant_write(void *ctx)
{
    struct tenant *t = ctx;
    uint8_t chunk[8192];
    for (size_t at = 0; at < BIG; at += sizeof chunk) {
        for (size_t i = 0; i < sizeof chunk; i++) {
            chunk[i] = pattern(t->writes, at + i);
        }
        if (fd_write_all(t->fd, chunk, sizeof chunk) < 0) {
            break;
        }
    }
    (void)shutdown(t->fd, SHUT_WR);
    return NULL;
}

static void *
tenant_read(void *ctx)
{
    struct tenant *t = ctx;
    uint8_t chunk[8192];
    ssize_t n;
    while ((n = read(t->fd, chunk, sizeof chunk)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            t->wrong |= chunk[i] != pattern(t->reads, t->got + (size_t)i);
        }
        t->got += (size_t)n;
        if (t->nap_us && t->got / 65536 != (t->got - (size_t)n) / 65536) {
            usleep(t->nap_us);
        }
    }
    return NULL;
}

static void
tenant_start(struct tenant *t)
{
    CHECK_EQ(pthread_create(&t->writer, NULL, tenant_write, t), 0);
    CHECK_EQ(pthread_create(&t->reader, NULL, tenant_read, t), 0);
}

static void
tenant_check(struct tenant *t)
{
    CHECK_EQ(pthread_join(t->writer, NULL), 0);
    CHECK_EQ(pthread_join(t->reader, NULL), 0);
    CHECK_EQ(t->got, BIG);
    CHECK(!t->wrong);
    close(t->fd);
}

static int
pair(int *out_other)
{
    int fds[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    *out_other = fds[1];
    return fds[0];
}

static struct link_channel *
open_tunnel(struct loopback *lo, int fd, struct told *told)
{
    struct link_channel_open open = {.what = "tunnel", .object = "i-1", .port = 22};
    struct link_channel_bind bind = {.fd = fd, .fn = on_channel, .ctx = told};
    return link_peer_open_channel(lo->peer, &open, &bind);
}

static void
tunnel_both_ways(bool tls)
{
    struct loopback lo;
    struct told here = {0}, there = {0};
    struct tenant a = {.writes = 1, .reads = 2, .nap_us = 1000};
    struct tenant b = {.writes = 2, .reads = 1};
    start(&lo, tls);
    accept_bind =
        (struct link_channel_bind){.fd = pair(&b.fd), .fn = on_channel, .ctx = &there};
    CHECK(open_tunnel(&lo, pair(&a.fd), &here));
    tenant_start(&a);
    tenant_start(&b);
    loopback_until(&lo, &here.done, 1);
    loopback_until(&lo, &there.done, 1);
    tenant_check(&a);
    tenant_check(&b);
    CHECK_EQ(here.open, 1);
    CHECK_EQ(here.received, BIG);
    CHECK_STR(here.why, "");
    CHECK_EQ(there.received, BIG);
    CHECK_STR(there.why, "");
    loopback_fini(&lo);
}

TEST(channel_carries_10_mb_both_ways_past_a_slow_reader)
{
    tunnel_both_ways(false);
}

TEST(channel_carries_10_mb_both_ways_inside_tls)
{
    tunnel_both_ways(true);
}

TEST(channel_whose_reader_sleeps_stops_only_itself)
{
    struct loopback lo;
    struct told stuck = {0}, stuck_there = {0}, here = {0}, there = {0};
    struct tenant a = {.writes = 1, .reads = 2}, b = {.writes = 2, .reads = 1};
    int sleeper, feeder;
    start(&lo, false);
    accept_bind = (struct link_channel_bind){
        .fd = pair(&sleeper), .fn = on_channel, .ctx = &stuck_there};
    CHECK(open_tunnel(&lo, pair(&feeder), &stuck));
    loopback_until(&lo, &stuck.open, 1);
    CHECK_EQ(fcntl(feeder, F_SETFL, O_NONBLOCK), 0);
    size_t fed = 0;
    char chunk[4096] = {0};
    for (int idle = 0; idle < 5;) {
        ssize_t n = write(feeder, chunk, sizeof chunk);
        fed += n > 0 ? (size_t)n : 0;
        idle = n > 0 ? 0 : idle + 1;
        loopback_run_ms(&lo, n > 0 ? 1 : 10);
        CHECK(fed <
              4 * LINK_CHANNEL_WINDOW); /* The window, and the kernel's own buffers. */
    }

    accept_bind =
        (struct link_channel_bind){.fd = pair(&b.fd), .fn = on_channel, .ctx = &there};
    CHECK(open_tunnel(&lo, pair(&a.fd), &here));
    tenant_start(&a);
    tenant_start(&b);
    loopback_until(&lo, &here.done, 1);
    loopback_until(&lo, &there.done, 1);
    tenant_check(&a);
    tenant_check(&b);
    CHECK_EQ(stuck.done, 0);

    link_peer_close(lo.peer, "test");
    loopback_until(&lo, &stuck.done, 1);
    loopback_until(&lo, &stuck_there.done, 1);
    CHECK_STR(stuck.why, "test");
    close(sleeper);
    close(feeder);
    loopback_fini(&lo);
}

TEST(channel_passes_on_a_half_close)
{
    struct loopback lo;
    struct told here = {0}, there = {0};
    int a, b;
    char text[16] = {0};
    start(&lo, false);
    accept_bind =
        (struct link_channel_bind){.fd = pair(&b), .fn = on_channel, .ctx = &there};
    CHECK(open_tunnel(&lo, pair(&a), &here));
    CHECK_EQ(write(a, "question", 8), 8);
    CHECK_EQ(shutdown(a, SHUT_WR), 0);
    LOOPBACK_UNTIL(&lo, recv(b, text, sizeof text, MSG_DONTWAIT) == 8);
    /* The end comes through, and the way back is still open. */
    LOOPBACK_UNTIL(&lo, recv(b, text, sizeof text, MSG_DONTWAIT) == 0);
    CHECK_EQ(here.done + there.done, 0);
    CHECK_EQ(write(b, "answer", 6), 6);
    close(b);
    loopback_until(&lo, &here.done, 1);
    loopback_until(&lo, &there.done, 1);
    CHECK_EQ(read(a, text, sizeof text), 6);
    CHECK_STR(here.why, "");
    close(a);
    loopback_fini(&lo);
}

/* ---- blobs ----------------------------------------------------------------------- */

static int
file_make(size_t len)
{
    FILE *f = tmpfile();
    CHECK(f);
    for (size_t i = 0; i < len; i++) {
        CHECK(fputc(pattern(9, i), f) != EOF);
    }
    CHECK_EQ(fflush(f), 0);
    int fd = dup(fileno(f));
    CHECK(fd >= 0);
    (void)fclose(f);
    return fd;
}

static void
file_check(int fd, size_t from, size_t to)
{
    for (size_t at = from; at < to;) {
        uint8_t chunk[65536];
        ssize_t n = pread(fd, chunk, MIN(sizeof chunk, to - at), (off_t)at);
        CHECK(n > 0);
        for (ssize_t i = 0; i < n; i++) {
            CHECK(chunk[i] == pattern(9, at + (size_t)i));
        }
        at += (size_t)n;
    }
    CHECK_EQ(lseek(fd, 0, SEEK_END), (off_t)to);
}

static struct link_channel *
open_blob(struct loopback *lo, const char *what, const struct link_channel_bind *bind)
{
    struct link_channel_open open = {.what = what, .object = "blob-1"};
    return link_client_open_channel(lo->client, &open, bind);
}

TEST(channel_fetches_the_rest_of_a_blob_from_an_offset)
{
    struct loopback lo;
    struct told here = {0}, there = {0};
    size_t from = 3u << 20;
    int copy = file_make(from);
    start(&lo, true);
    accept_bind = (struct link_channel_bind){.fd = file_make(BIG),
                                             .offset = (int64_t)from,
                                             .no_write = true,
                                             .fn = on_channel,
                                             .ctx = &there};
    struct link_channel_bind bind = {.fd = dup(copy),
                                     .offset = (int64_t)from,
                                     .no_read = true,
                                     .fn = on_channel,
                                     .ctx = &here};
    CHECK(open_blob(&lo, "blob_get", &bind));
    loopback_until(&lo, &here.done, 1);
    loopback_until(&lo, &there.done, 1);
    CHECK_STR(here.why, "");
    CHECK_STR(there.why, "");
    CHECK_EQ(here.received, BIG - from);
    file_check(copy, 0, BIG);
    close(copy);
    loopback_fini(&lo);
}

TEST(channel_takes_a_blob_but_no_byte_more_than_agreed)
{
    struct loopback lo;
    struct told here = {0}, there = {0};
    int sink = file_make(0);
    start(&lo, false);
    struct link_channel_bind source = {
        .fd = file_make(BIG), .no_write = true, .fn = on_channel, .ctx = &here};
    accept_bind = (struct link_channel_bind){.fd = dup(sink),
                                             .no_read = true,
                                             .limit_bytes = BIG,
                                             .fn = on_channel,
                                             .ctx = &there};
    CHECK(open_blob(&lo, "blob_put", &source));
    loopback_until(&lo, &there.done, 1);
    loopback_until(&lo, &here.done, 1);
    CHECK_STR(there.why, "");
    CHECK_EQ(there.received, BIG);
    file_check(sink, 0, BIG);

    source.fd = file_make(BIG);
    accept_bind.fd = dup(sink);
    accept_bind.limit_bytes = BIG - 1;
    CHECK(open_blob(&lo, "blob_put", &source));
    loopback_until(&lo, &there.done, 2);
    loopback_until(&lo, &here.done, 2);
    CHECK_STR(there.why, "more bytes than were agreed on");
    CHECK_STR(here.why, there.why);
    close(sink);
    loopback_fini(&lo);
}

/* ---- refusals and losses --------------------------------------------------------- */

TEST(channel_refusal_reaches_who_opened_it)
{
    struct loopback lo;
    struct told here = {0};
    int a;
    char byte;
    start(&lo, false);
    accept_refusal = "no such instance";
    CHECK(open_tunnel(&lo, pair(&a), &here));
    loopback_until(&lo, &here.done, 1);
    CHECK_EQ(here.open, 0);
    CHECK_STR(here.why, "no such instance");
    CHECK_EQ(read(a, &byte, 1), 0); /* Its descriptor is closed. */
    close(a);
    loopback_fini(&lo);
}

TEST(channel_accepted_after_the_link_was_lost_ends_at_once)
{
    struct loopback lo;
    struct told here = {0}, there = {0};
    int a, b;
    start(&lo, false);
    accept_bind.fd = -1; /* The offer is kept, not answered. */
    CHECK(open_tunnel(&lo, pair(&a), &here));
    loopback_until(&lo, &offers, 1);
    link_peer_close(lo.peer, "test");
    loopback_until(&lo, &here.done, 1);
    loopback_until(&lo, &lo.downs, 1);

    struct link_channel_bind bind = {.fd = pair(&b), .fn = on_channel, .ctx = &there};
    link_channel_accept(accepted, &bind);
    CHECK_EQ(there.done, 1);
    CHECK_STR(there.why, "the link was lost");
    close(a);
    close(b);
    loopback_fini(&lo);
}

TEST(channel_is_not_opened_while_the_link_is_down)
{
    struct loopback lo;
    int a;
    char byte;
    start(&lo, false);
    link_peer_close(lo.peer, "test");
    loopback_until(&lo, &lo.downs, 1);
    struct link_channel_bind bind = {.fd = pair(&a), .fn = on_channel};
    CHECK_NULL(open_blob(&lo, "blob_get", &bind));
    CHECK_EQ(read(a, &byte, 1), 0);
    close(a);
    loopback_fini(&lo);
}
