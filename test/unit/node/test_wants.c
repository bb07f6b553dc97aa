#include "base/file.h"
#include "node/wants.h"
#include "test.h"

#include <sys/stat.h>

static char dir[32];
static uv_loop_t loop;
static int64_t durable;

static void
on_durable(void *ctx UNUSED, int64_t revision)
{
    durable = revision;
}

static struct wants *
open_wants(void)
{
    struct err err = {0};
    struct wants_config config = {
        .loop = &loop, .dir = dir, .rng = &rng_system, .durable = on_durable};
    struct wants *w = wants_open(&config, &err);
    if (!w) {
        fail_msg("%s", err.msg);
    }
    return w;
}

static void
begin(void)
{
    snprintf(dir, sizeof dir, "/tmp/moln-wants-XXXXXX");
    CHECK(mkdtemp(dir));
    CHECK_EQ(uv_loop_init(&loop), 0);
    durable = 0;
}

static void
end(struct wants *w)
{
    struct err err = {0};
    wants_close(w);
    CHECK_OK(dir_remove(dir, &err), &err);
    CHECK_EQ(uv_loop_close(&loop), 0);
}

static void
put_disk(struct wants *w, const char *id, int64_t revision, int64_t size)
{
    struct link_disk disk = {.id = id, .size_bytes = size};
    CHECK(wants_put(w, LINK_DISK, id, revision, false, &disk));
}

static int64_t
size_of(const struct wants *w, const char *id)
{
    const struct want *want = wants_get(w, LINK_DISK, id);
    return want ? ((const struct link_disk *)want->record)->size_bytes : 0;
}

TEST(wants_are_there_again_after_the_agent_was_killed)
{
    begin();
    struct wants *w = open_wants();
    put_disk(w, "vol-1", 5, 100);
    put_disk(w, "vol-2", 6, 200);
    put_disk(w, "vol-1", 7, 300);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_EQ(durable, 7);
    wants_close(w);

    w = open_wants();
    CHECK_EQ(wants_revision(w), 7);
    CHECK_EQ(size_of(w, "vol-1"), 300);
    CHECK_EQ(size_of(w, "vol-2"), 200);
    end(w);
}

/* A deletion that the control plane forgot, and the node too, would never come again. */
TEST(wants_are_kept_only_once_they_are_on_disk)
{
    begin();
    struct wants *w = open_wants();
    put_disk(w, "vol-1", 5, 100);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(wants_is_kept(w, wants_get(w, LINK_DISK, "vol-1")));
    CHECK(wants_put(w, LINK_DISK, "vol-1", 6, true, NULL));
    CHECK(!wants_is_kept(w, wants_get(w, LINK_DISK, "vol-1")));
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(wants_is_kept(w, wants_get(w, LINK_DISK, "vol-1")));
    end(w);
}

/* Nobody but root may read it, and nothing in it is readable without the key. */
TEST(wants_are_sealed)
{
    begin();
    struct wants *w = open_wants();
    struct err err = {0};
    struct stat st;
    AUTO(free) char *path = xasprintf("%s/wants", dir);
    AUTO(free) char *key = xasprintf("%s/wants.key", dir);
    AUTO(free) char *data = NULL;
    size_t len;
    put_disk(w, "vol-secret", 1, 1);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_OK(file_read(path, 65536, &data, &len, &err), &err);
    CHECK_NULL(memmem(data, len, "secret", 6));
    CHECK_EQ(stat(path, &st), 0);
    CHECK_EQ(st.st_mode & 0777, 0600);
    CHECK_EQ(stat(key, &st), 0);
    CHECK_EQ(st.st_mode & 0777, 0600);
    end(w);
}

/* Cut anywhere, the file gives back a prefix of what was put, and can be added to. */
TEST(wants_survive_a_torn_end)
{
    begin();
    struct err err = {0};
    AUTO(free) char *path = xasprintf("%s/wants", dir);
    AUTO(free) char *data = NULL;
    size_t len;
    struct wants *w = open_wants();
    put_disk(w, "vol-1", 1, 100);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    put_disk(w, "vol-2", 2, 200);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    wants_close(w);
    CHECK_OK(file_read(path, 65536, &data, &len, &err), &err);
    for (size_t cut = 0; cut < len; cut++) {
        CHECK_OK(file_write(path, data, cut, 0600, &err), &err);
        w = open_wants();
        CHECK(wants_revision(w) < 2);
        CHECK_EQ(size_of(w, "vol-2"), 0);
        put_disk(w, "vol-3", 3, 300);
        (void)uv_run(&loop, UV_RUN_DEFAULT);
        wants_close(w);
        w = open_wants();
        CHECK_EQ(size_of(w, "vol-3"), 300);
        wants_close(w);
        AUTO(free) char *damaged = xasprintf("%s.damaged", path);
        (void)unlink(damaged);
    }
    end(NULL);
}

static void
note_gone(void *ctx, const struct want *want)
{
    snprintf(ctx, WANT_ID_MAX, "%s", want->id);
}

TEST(wants_snapshot_drops_what_it_does_not_name)
{
    begin();
    char gone[WANT_ID_MAX] = "";
    struct wants *w = open_wants();
    put_disk(w, "vol-old", 1, 100);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    wants_snapshot_begin(w);
    CHECK_EQ(wants_revision(w), 0); /* Half a snapshot is none. */
    put_disk(w, "vol-new", 9, 900);
    wants_snapshot_end(w, 9, note_gone, gone);
    CHECK_STR(gone, "vol-old");
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_EQ(durable, 9);
    wants_close(w);
    w = open_wants();
    CHECK_EQ(wants_revision(w), 9);
    CHECK_NULL(wants_get(w, LINK_DISK, "vol-old"));
    CHECK_EQ(size_of(w, "vol-new"), 900);
    end(w);
}

/* Killed in the middle of a snapshot, the node still has the whole set from before. */
TEST(wants_keep_the_old_set_until_a_snapshot_is_whole)
{
    begin();
    struct wants *w = open_wants();
    put_disk(w, "vol-old", 1, 100);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    wants_snapshot_begin(w);
    put_disk(w, "vol-new", 9, 900);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    wants_close(w);
    w = open_wants();
    CHECK_EQ(wants_revision(w), 1);
    CHECK_EQ(size_of(w, "vol-old"), 100);
    CHECK_EQ(size_of(w, "vol-new"), 0);
    end(w);
}

TEST(wants_refuses_ids_that_are_none)
{
    begin();
    struct wants *w = open_wants();
    struct link_disk disk = {.id = "x"};
    CHECK_NULL(wants_put(w, LINK_DISK, "../../etc", 1, false, &disk));
    CHECK_NULL(wants_put(w, LINK_DISK, "", 1, false, &disk));
    CHECK_NULL(wants_put(w, LINK_EVENT, "vol-1", 1, false, &disk));
    end(w);
}
