/* test_master_key.c - file and database change their key together, wherever that is cut. */
#include "fixture.h"
#include "store/master_key.h"
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

struct keyed {
    struct fixture f;
    char path[96], next[96];
};

static void
put_key(const char *path, const uint8_t key[SEAL_KEY_LEN])
{
    struct err err;
    char hex[2 * SEAL_KEY_LEN + 1];
    hex_encode(key, SEAL_KEY_LEN, hex);
    CHECK_OK(file_write(path, hex, strlen(hex), 0400, &err), &err);
}

/* A database with a secret, closed, and its key in a file. */
static void
setup(struct keyed *k)
{
    fixture_init(&k->f);
    (void)snprintf(k->path, sizeof k->path, "%s/master.key", k->f.dir);
    (void)snprintf(k->next, sizeof k->next, "%s/master.key.next", k->f.dir);
    put_key(k->path, k->f.key);
    fixture_put(&k->f, &test_thing_type,
                &(struct test_thing){.account = "a", .id = "x", .secret = "s"});
    store_close(k->f.store);
    k->f.store = NULL;
}

static bool
change(struct keyed *k, master_key_may_fn *may, struct err *err)
{
    struct store_config config = {.url = k->f.url,
                                  .types = test_types,
                                  .type_count = TEST_TYPES,
                                  .rng = &rng_system,
                                  .clock = &clock_system};
    return master_key_change(k->path, &config, may, k, err);
}

/* The file's key opens the rows, the one before does not, and nothing else is left. */
static void
check_changed(struct keyed *k)
{
    struct err err;
    uint8_t fresh[SEAL_KEY_LEN];
    CHECK(!master_key_unsettled(k->path));
    CHECK_OK(master_key_read(k->path, fresh, &err), &err);
    CHECK(memcmp(fresh, k->f.key, sizeof fresh) != 0);
    CHECK(!fixture_open(&k->f, &err));
    CHECK_EQ(err.code, ERR_DENIED);
    memcpy(k->f.key, fresh, sizeof fresh);
    CHECK_OK(fixture_open(&k->f, &err), &err);
    const struct test_thing *t = fixture_get(
        &k->f, &test_thing_type, &(struct test_thing){.account = "a", .id = "x"});
    CHECK(t && str_eq(t->secret, "s"));
}

TEST(master_key_change_gives_file_and_rows_a_new_key)
{
    struct keyed k;
    struct err err;
    setup(&k);
    CHECK_OK(change(&k, NULL, &err), &err);
    check_changed(&k);
    fixture_fini(&k.f);
}

/* The file changes, and the link to it stays one. */
TEST(master_key_change_follows_a_link)
{
    struct keyed k;
    struct err err;
    struct stat st;
    char file[96];
    setup(&k);
    (void)snprintf(file, sizeof file, "%s/elsewhere.key", k.f.dir);
    CHECK_OK(file_move(k.path, file, &err), &err);
    CHECK_EQ(symlink("elsewhere.key", k.path), 0);
    CHECK_OK(change(&k, NULL, &err), &err);
    CHECK_EQ(lstat(k.path, &st), 0);
    CHECK(S_ISLNK(st.st_mode));
    check_changed(&k);
    store_close(k.f.store);
    k.f.store = NULL;
    CHECK_OK(file_write(strcat(file, ".next"), "", 0, 0400, &err), &err);
    CHECK(master_key_unsettled(k.path));
    fixture_fini(&k.f);
}

TEST(master_key_change_is_ended_by_the_next_wherever_it_is_killed)
{
    struct keyed k;
    setup(&k);
    int status = -1;
    for (unsigned us = 0; status != 0; us += 300 + us / 8) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            struct err err;
            _exit(change(&k, NULL, &err) ? 0 : 1);
        }
        (void)usleep(us);
        (void)kill(pid, SIGKILL);
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
        fixture_await_alone(&k.f);
    }
    check_changed(&k);
    fixture_fini(&k.f);
}

/* Killed between the database's part and the file's. */
TEST(master_key_change_knows_that_the_rows_are_sealed_already)
{
    struct keyed k;
    struct err err;
    uint8_t fresh[SEAL_KEY_LEN], now[SEAL_KEY_LEN];
    int fd;
    setup(&k);
    CHECK_OK(change(&k, NULL, &err), &err);
    CHECK_OK(master_key_read(k.path, fresh, &err), &err);
    CHECK_OK(file_move(k.path, k.next, &err), &err);
    put_key(k.path, k.f.key);
    CHECK(master_key_unsettled(k.path));
    CHECK(!master_key_hold(k.path, &fd, &err)); /* No backup of what does not fit. */
    CHECK_EQ(err.code, ERR_BUSY);
    CHECK_OK(change(&k, NULL, &err), &err);
    CHECK_OK(master_key_read(k.path, now, &err), &err);
    CHECK(memcmp(now, fresh, sizeof now) == 0);
    check_changed(&k);
    fixture_fini(&k.f);
}

static bool
never(void *ctx, struct store *store, struct err *err)
{
    CHECK(ctx != NULL && store != NULL);
    return err_set(err, ERR_BUSY, "somebody serves it");
}

TEST(master_key_change_that_is_refused_changes_nothing)
{
    struct keyed k;
    struct err err;
    int fd = -1;
    setup(&k);
    CHECK(!change(&k, never, &err));
    CHECK_EQ(err.code, ERR_BUSY);
    CHECK(!master_key_unsettled(k.path));

    CHECK_OK(master_key_hold(k.path, &fd, &err), &err);
    CHECK(!change(&k, NULL, &err));
    CHECK_EQ(err.code, ERR_BUSY);
    CHECK(!master_key_unsettled(k.path));
    close(fd);

    uint8_t other[SEAL_KEY_LEN] = {1};
    put_key(k.path, other);
    CHECK(!change(&k, NULL, &err));
    CHECK_EQ(err.code, ERR_DENIED);
    CHECK(!master_key_unsettled(k.path));

    put_key(k.next, other); /* Nor does that open it. */
    CHECK(!change(&k, NULL, &err));
    CHECK_EQ(err.code, ERR_DENIED);
    CHECK_OK(file_write(k.path, "no key", 6, 0400, &err), &err);
    CHECK(!change(&k, NULL, &err));
    CHECK_EQ(err.code, ERR_CORRUPT);

    CHECK_OK(fixture_open(&k.f, &err), &err);
    CHECK(fixture_get(&k.f, &test_thing_type,
                      &(struct test_thing){.account = "a", .id = "x"}) != NULL);
    fixture_fini(&k.f);
}
