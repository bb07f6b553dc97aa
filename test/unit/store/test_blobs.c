/* test_blobs.c - files that appear whole or not at all. */
#include "base/file.h"
#include "store/blobs.h"
#include "test.h"
#include <fcntl.h>

struct fixture {
    char dir[64];
    struct blob_store *store;
};

static void
setup(struct fixture *f)
{
    struct err err;
    *f = (struct fixture){.dir = "/tmp/moln-blobs-XXXXXX"};
    CHECK(mkdtemp(f->dir) != NULL);
    f->store = blob_store_open(f->dir, &err);
    CHECK(f->store != NULL);
}

static void
teardown(struct fixture *f)
{
    struct err err;
    blob_store_close(f->store);
    CHECK_OK(dir_remove(f->dir, &err), &err);
}

static void
count_one(void *ctx, const char *id, uint64_t size)
{
    ++*(size_t *)ctx;
}

static size_t
count(struct fixture *f)
{
    struct err err;
    size_t n = 0;
    CHECK_OK(blob_list(f->store, count_one, &n, &err), &err);
    return n;
}

TEST(blob_is_readable_after_commit_with_its_digest)
{
    struct fixture f;
    struct err err;
    char sha[SHA256_HEX_LEN], bytes[8];
    uint64_t size;
    int fd;
    setup(&f);
    struct blob_writer *w = blob_write_begin(f.store, "blob-1", 100, &err);
    CHECK(w != NULL);
    CHECK_OK(blob_write(w, "a", 1, &err), &err);
    CHECK_OK(blob_write(w, "bc", 2, &err), &err);
    CHECK(!blob_open(f.store, "blob-1", &fd, &size, &err));
    CHECK_EQ(err.code, ERR_NOT_FOUND);
    CHECK_EQ(count(&f), 0);
    CHECK_OK(blob_write_commit(w, &size, sha, &err), &err);
    CHECK_EQ(size, 3);
    CHECK_STR(sha, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK_OK(blob_open(f.store, "blob-1", &fd, &size, &err), &err);
    CHECK_OK(blob_delete(f.store, "blob-1", &err), &err);
    CHECK_OK(blob_delete(f.store, "blob-1", &err), &err);
    CHECK_EQ(read(fd, bytes, sizeof bytes), 3);
    close(fd);
    CHECK_EQ(count(&f), 0);
    teardown(&f);
}

TEST(blob_of_two_writers_is_the_first_to_commit)
{
    struct fixture f;
    struct err err;
    char sha[SHA256_HEX_LEN];
    uint64_t size;
    setup(&f);
    struct blob_writer *a = blob_write_begin(f.store, "b", 9, &err);
    struct blob_writer *b = blob_write_begin(f.store, "b", 9, &err);
    CHECK(a && b);
    CHECK_OK(blob_write_commit(a, &size, sha, &err), &err);
    CHECK(!blob_write_commit(b, &size, sha, &err));
    CHECK_EQ(err.code, ERR_EXISTS);
    CHECK_NULL(blob_write_begin(f.store, "b", 9, &err));
    CHECK_EQ(err.code, ERR_EXISTS);
    CHECK_EQ(count(&f), 1);
    teardown(&f);
}

TEST(blob_past_its_limit_is_refused)
{
    struct fixture f;
    struct err err;
    setup(&f);
    struct blob_writer *w = blob_write_begin(f.store, "b", 3, &err);
    CHECK_OK(blob_write(w, "abc", 3, &err), &err);
    CHECK(!blob_write(w, "d", 1, &err));
    CHECK_EQ(err.code, ERR_TOO_LARGE);
    blob_write_abort(w);
    CHECK_EQ(count(&f), 0);
    teardown(&f);
}

TEST(blob_ids_that_are_paths_are_refused)
{
    struct fixture f;
    struct err err;
    int fd;
    uint64_t size;
    static const char *const bad[] = {"",  ".",       "..",  "../x", "a/b",
                                      "A", ".hidden", "a b", "a\n"};
    setup(&f);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK_NULL(blob_write_begin(f.store, bad[i], 1, &err));
        CHECK_EQ(err.code, ERR_INVALID);
        CHECK(!blob_open(f.store, bad[i], &fd, &size, &err));
        CHECK_EQ(err.code, ERR_INVALID);
        CHECK(!blob_delete(f.store, bad[i], &err));
        CHECK_EQ(err.code, ERR_INVALID);
    }
    teardown(&f);
}

TEST(blob_store_sweeps_unfinished_files_when_opened)
{
    struct fixture f;
    struct err err;
    char path[96];
    setup(&f);
    (void)snprintf(path, sizeof path, "%s/.blob-1.0", f.dir);
    CHECK_OK(file_write(path, "x", 1, 0600, &err), &err);
    blob_store_close(f.store);
    f.store = blob_store_open(f.dir, &err);
    CHECK(f.store && !file_exists(path));
    teardown(&f);
}

/* Another process on the same folder starts while this one writes. */
TEST(blob_store_leaves_the_files_of_living_writers_alone)
{
    struct fixture f;
    struct err err;
    uint64_t size;
    char sha[SHA256_HEX_LEN];
    setup(&f);
    struct blob_writer *w = blob_write_begin(f.store, "blob-1", 10, &err);
    CHECK_OK(w != NULL, &err);
    struct blob_store *other = blob_store_open(f.dir, &err);
    CHECK_OK(other != NULL, &err);
    struct blob_writer *same = blob_write_begin(other, "blob-1", 10, &err);
    CHECK_OK(same && blob_write(same, "theirs", 6, &err), &err);
    CHECK_OK(blob_write(w, "ours", 4, &err), &err);
    CHECK_OK(blob_write_commit(w, &size, sha, &err), &err);
    CHECK(!blob_write_commit(same, &size, sha, &err));
    CHECK_EQ(err.code, ERR_EXISTS);
    blob_store_close(other);
    teardown(&f);
}

/* Rows lie on the same disk: images may not take the last of it. */
TEST(blob_writers_leave_what_is_to_stay_free)
{
    struct fixture f;
    struct err err;
    setup(&f);
    blob_store_keep_free(f.store, 1);
    CHECK_OK(blob_store_has_room(f.store, 1, &err), &err);
    CHECK(!blob_store_has_room(f.store, UINT64_MAX, &err));
    CHECK_EQ(err.code, ERR_NO_SPACE);
    struct blob_writer *w = blob_write_begin(f.store, "blob-1", UINT64_MAX, &err);
    CHECK(w != NULL);
    CHECK_OK(blob_write(w, "a", 1, &err), &err);
    blob_write_abort(w);
    teardown(&f);
}
