/* test_qmp.c - a conversation with an emulator that does not answer. */
#include "base/jsonio.h"
#include "node/machine/qmp.h"
#include "test.h"

#include <sys/socket.h>
#include <unistd.h>

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\r\n"

struct talk {
    uv_loop_t loop;
    int far;
    struct qmp *qmp;
    unsigned late, answered;
};

static void
on_event(void *ctx UNUSED, const char *name UNUSED, json_t *data UNUSED)
{
}

static void
on_lost(void *ctx UNUSED, const struct err *why UNUSED)
{
}

static void
on_reply(void *ctx, json_t *result, const struct err *err)
{
    struct talk *t = ctx;
    t->answered += result != NULL;
    t->late += err && err->code == ERR_TIMEOUT;
}

static void
say(struct talk *t, const char *text)
{
    CHECK_EQ(write(t->far, text, strlen(text)), (ssize_t)strlen(text));
}

static void
talk_open(struct talk *t)
{
    static const struct qmp_ops ops = {.event = on_event, .lost = on_lost};
    struct err err = {0};
    int ends[2];
    *t = (struct talk){0};
    CHECK_EQ(uv_loop_init(&t->loop), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    t->far = ends[1];
    t->qmp = qmp_open(&t->loop, ends[0], &ops, t, &err);
    CHECK_OK(t->qmp != NULL, &err);
    say(t, GREETING);
}

static void
talk_close(struct talk *t)
{
    qmp_close(t->qmp);
    (void)uv_run(&t->loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&t->loop), 0);
    close(t->far);
}

static bool
ask(struct talk *t, bool oob, uint64_t timeout_ns)
{
    struct err err = {0};
    bool sent =
        oob ? qmp_send_oob(t->qmp, "migrate-recover", NULL, timeout_ns, on_reply, t,
                           &err)
            : qmp_send(t->qmp, "query-status", NULL, -1, timeout_ns, on_reply, t, &err);
    CHECK(sent || err.code == ERR_BUSY);
    return sent;
}

/* QEMU hears nothing at all once eight commands wait for its main loop: those of which nobody
 * hopes for an answer any more must leave room for what is said out of band. */
TEST(qmp_keeps_an_emulator_that_does_not_answer_able_to_hear)
{
    struct talk t;
    talk_open(&t);
    for (int i = 0; i < QMP_LATE_MAX; i++) {
        CHECK(ask(&t, false, 1));
    }
    while (t.late < QMP_LATE_MAX) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    CHECK(!ask(&t, false, (uint64_t)NS_PER_S));
    CHECK(ask(&t, true, (uint64_t)(60 * NS_PER_S)));
    say(&t, "{\"return\": {}, \"id\": 1}\r\n"); /* At last. */
    say(&t, "{\"return\": {}, \"id\": 5}\r\n");
    while (t.answered == 0) {
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    }
    CHECK_EQ(t.answered, 1); /* Nobody waited for the first. */
    CHECK(ask(&t, false, (uint64_t)(60 * NS_PER_S)));
    talk_close(&t);
}

/* Commands wait for the loop to be sent; a descriptor goes with its own, at once. */
TEST(qmp_sends_a_descriptor_behind_what_waits)
{
    struct talk t;
    struct err err = {0};
    char said[1024] = "";
    talk_open(&t);
    CHECK(ask(&t, false, (uint64_t)(60 * NS_PER_S)));
    (void)uv_run(&t.loop, UV_RUN_ONCE); /* It greets. */
    CHECK(ask(&t, false, (uint64_t)(60 * NS_PER_S)));
    CHECK_OK(qmp_send(t.qmp, "getfd", json_pack("{s:s}", "fdname", "memory"), t.far,
                      (uint64_t)(60 * NS_PER_S), on_reply, &t, &err),
             &err);
    for (size_t len = 0; !strstr(said, "getfd");) {
        ssize_t n = read(t.far, said + len, sizeof said - 1 - len);
        CHECK(n > 0);
        len += (size_t)n;
    }
    CHECK(strstr(said, "query-status") < strstr(said, "getfd"));
    talk_close(&t);
}
