/* test_ksm.c - same-page merging is switched on and off by us, and somebody else's is not. */
#include "base/file.h"
#include "node/ksm.h"
#include "test.h"

struct stage {
    char dir[64], run[96], note[96], told[700];
    int events;
    uv_loop_t loop;
    struct ksm *ksm;
};

static void
on_event(void *ctx, const char *kind, const char *object UNUSED,
         const char *level UNUSED, const char *message)
{
    struct stage *s = ctx;
    CHECK_STR(kind, "ksm");
    s->events++;
    snprintf(s->told, sizeof s->told, "%s", message);
}

static void
kernel_says(const struct stage *s, const char *value)
{
    struct err err = {0};
    CHECK_OK(file_write(s->run, value, 1, 0600, &err), &err);
}

/* The last value that was written. */
static char
run_of(const struct stage *s)
{
    struct err err = {0};
    AUTO(free) char *text = NULL;
    CHECK_OK(file_read(s->run, 16, &text, NULL, &err), &err);
    return text[0];
}

static void
open_ksm(struct stage *s)
{
    s->ksm = ksm_open(&(struct ksm_config){.loop = &s->loop,
                                           .root = s->dir,
                                           .note = s->note,
                                           .event = on_event,
                                           .ctx = s});
}

static void
setup(struct stage *s)
{
    struct err err = {0};
    *s = (struct stage){.dir = "/tmp/moln-unit-XXXXXX"};
    CHECK(mkdtemp(s->dir) != NULL);
    AUTO(free) char *folder = xasprintf("%s/sys/kernel/mm/ksm", s->dir);
    CHECK_OK(dir_make(folder, 0700, &err), &err);
    snprintf(s->run, sizeof s->run, "%s/sys/kernel/mm/ksm/run", s->dir);
    snprintf(s->note, sizeof s->note, "%s/note", s->dir);
    CHECK_EQ(uv_loop_init(&s->loop), 0);
    kernel_says(s, "0");
    open_ksm(s);
}

static void
teardown(struct stage *s)
{
    struct err err = {0};
    ksm_close(s->ksm);
    CHECK_EQ(uv_loop_close(&s->loop), 0);
    CHECK_OK(dir_remove(s->dir, &err), &err);
}

static void
want(struct stage *s, bool on)
{
    ksm_want(s->ksm, on);
    (void)uv_run(&s->loop, UV_RUN_DEFAULT);
}

TEST(ksm_goes_on_and_off_once_and_tells)
{
    struct stage s;
    setup(&s);
    want(&s, false);
    CHECK_EQ(s.events, 0);
    want(&s, true);
    want(&s, true);
    CHECK_EQ(run_of(&s), '1');
    CHECK_EQ(s.events, 1);
    want(&s, false);
    CHECK_EQ(run_of(&s), '0');
    CHECK_EQ(s.events, 2);
    CHECK(!file_exists(s.note));
    teardown(&s);
}

/* A next agent, and the end of the host's work, know that it was us. */
TEST(ksm_is_ended_by_who_comes_after)
{
    struct stage s;
    setup(&s);
    want(&s, true);
    ksm_close(s.ksm);
    CHECK_EQ(run_of(&s), '1');
    open_ksm(&s);
    want(&s, false);
    CHECK_EQ(run_of(&s), '0');
    want(&s, true);
    ksm_end(s.dir, s.note);
    CHECK_EQ(run_of(&s), '0');
    CHECK(!file_exists(s.note));
    teardown(&s);
}

TEST(ksm_leaves_alone_what_somebody_else_turned_on)
{
    struct stage s;
    setup(&s);
    kernel_says(&s, "1");
    want(&s, true);
    CHECK(strstr(s.told, "left alone") != NULL);
    want(&s, true); /* Told once. */
    CHECK_EQ(s.events, 1);
    want(&s, false);
    ksm_end(s.dir, s.note);
    CHECK_EQ(run_of(&s), '1');
    teardown(&s);
}

TEST(ksm_says_where_it_cannot_be_had)
{
    struct stage s;
    setup(&s);
    CHECK_EQ(unlink(s.run), 0);
    want(&s, true);
    CHECK_EQ(s.events, 1);
    CHECK(strstr(s.told, "cannot be turned on") && strstr(s.told, s.run));
    CHECK(!file_exists(s.note));
    kernel_says(&s, "0"); /* It is tried again with the next wish. */
    want(&s, false);
    want(&s, true);
    CHECK_EQ(run_of(&s), '1');
    teardown(&s);
}
