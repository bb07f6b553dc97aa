/* test_hostile.c - a peer that breaks the rules loses its stream, nobody else does. */
#include "loopback.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "link/frame.h"

struct stranger {
    struct loopback lo;
    struct buf out;
    int fd;
};

static int sink[2] = {-1, -1};

static void
take_channel(struct loopback *lo, struct link_channel *channel,
             const struct link_channel_open *open)
{
    CHECK_EQ(pipe2(sink, O_CLOEXEC), 0);
    struct link_channel_bind bind = {.fd = sink[1], .no_read = true};
    link_channel_accept(channel, &bind);
}

static void
stranger_start(struct stranger *s)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    loopback_init(&s->lo, false);
    s->lo.on_peer_channel = take_channel;
    s->out = (struct buf){0};
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(at.sun_path, sizeof at.sun_path, "%s", s->lo.unix_path);
    CHECK_EQ(connect(s->fd, (struct sockaddr *)&at, sizeof at), 0);
}

static void
stranger_hello(struct stranger *s)
{
    struct link_hello hello = {.protocol = 1, .clock_ns = s->lo.control_ns};
    CHECK(frame_put_record(&s->out, FRAME_HELLO, &link_hello_desc, &hello));
}

static void
stranger_report(struct stranger *s, int64_t sequence)
{
    struct link_reported r = {.kind = LINK_NODE, .sequence = sequence};
    CHECK(frame_put_record(&s->out, FRAME_REPORT, &link_reported_desc, &r));
}

static void
stranger_opens(struct stranger *s, uint32_t channel)
{
    struct link_channel_open open = {.channel = channel, .what = "blob_put"};
    CHECK(
        frame_put_record(&s->out, FRAME_CHANNEL_OPEN, &link_channel_open_desc, &open));
}

static bool
stranger_is_cut_off(const struct stranger *s)
{
    char said[256];
    ssize_t n = recv(s->fd, said, sizeof said, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

/* Sends what is in 'out', and wants the stream closed with 'why' after 'hellos' hellos;
 * NULL: still open, and a report that was the last of it taken. */
static void
stranger_ends(struct stranger *s, int hellos, const char *why)
{
    for (size_t at = 0; at < s->out.len;) {
        ssize_t n =
            send(s->fd, s->out.data + at, s->out.len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && s->lo.losts) {
            break;
        }
        at += n > 0 ? (size_t)n : 0;
        loopback_run_ms(&s->lo, 1);
    }
    if (why) {
        LOOPBACK_UNTIL(&s->lo, stranger_is_cut_off(s));
        LOOPBACK_UNTIL(&s->lo, link_server_peer_count(s->lo.server) == 0);
    } else {
        LOOPBACK_UNTIL(&s->lo, s->lo.reports == 1);
        CHECK_EQ(link_server_peer_count(s->lo.server), 1);
    }
    CHECK_EQ(s->lo.hellos, hellos);
    if (why && hellos && !strstr(s->lo.lost_why, why)) {
        fail_msg("lost for '%s', not for '%s'", s->lo.lost_why, why);
    }
    close(s->fd);
    if (sink[0] >= 0) {
        close(take_fd(&sink[0]));
    }
    buf_fini(&s->out);
    loopback_fini(&s->lo);
}

TEST(hostile_garbage_never_reaches_hello)
{
    struct stranger s;
    stranger_start(&s);
    buf_puts(&s.out, "GET / HTTP/1.1\r\nHost: moln\r\n\r\n");
    stranger_ends(&s, 0, "frame");
}

TEST(hostile_frames_before_hello_and_a_second_hello_end_the_stream)
{
    struct stranger s;
    stranger_start(&s);
    stranger_report(&s, 1);
    stranger_ends(&s, 0, "turn");

    stranger_start(&s);
    stranger_opens(&s, 2);
    stranger_ends(&s, 0, "welcome");

    stranger_start(&s);
    stranger_hello(&s);
    stranger_hello(&s);
    stranger_ends(&s, 1, "out of turn");
}

TEST(hostile_broken_records_end_the_stream)
{
    struct stranger s;
    stranger_start(&s);
    stranger_hello(&s);
    frame_put(&s.out, FRAME_ACK, "\xff\xff\xff\xff\xff", 5);
    stranger_ends(&s, 1, "");
}

TEST(hostile_reports_out_of_order_or_without_end_end_the_stream)
{
    struct stranger s;
    stranger_start(&s);
    stranger_hello(&s);
    stranger_report(&s, 5);
    stranger_report(&s, 5);
    stranger_ends(&s, 1, "out of order");

    stranger_start(&s);
    s.lo.hold_acks = true;
    stranger_hello(&s);
    for (int i = 1; i < 2000; i++) {
        stranger_report(&s, i);
    }
    stranger_ends(&s, 1, "too many reports");
}

TEST(hostile_channels_are_numbered_by_the_rules)
{
    struct stranger s;
    stranger_start(&s);
    stranger_hello(&s);
    stranger_opens(&s, 1); /* Odd is the control plane's. */
    stranger_ends(&s, 1, "cannot be opened");

    stranger_start(&s);
    stranger_hello(&s);
    stranger_opens(&s, 2);
    stranger_opens(&s, 2);
    stranger_ends(&s, 1, "cannot be opened");
}

TEST(hostile_data_beyond_its_credit_ends_the_stream)
{
    static const char chunk[1 << 16];
    struct stranger s;
    stranger_start(&s);
    stranger_hello(&s);
    stranger_opens(&s, 2);
    for (int i = 0; i < 16; i++) { /* Nobody reads the sink: no credit comes back. */
        frame_put_channel_data(&s.out, 2, chunk, sizeof chunk);
    }
    stranger_ends(&s, 1, "without leave");
}

TEST(hostile_words_for_no_channel_are_dropped_and_unknown_frames_skipped)
{
    struct stranger s;
    struct link_channel_status status = {.channel = 77, .credit = 1 << 20};
    stranger_start(&s);
    stranger_hello(&s);
    frame_put_channel_data(&s.out, 88, "x", 1);
    frame_put(&s.out, 200, "from the future", 15);
    CHECK(frame_put_record(&s.out, FRAME_CHANNEL_STATUS, &link_channel_status_desc,
                           &status));
    stranger_report(&s, 1);
    stranger_ends(&s, 1, NULL);
}
