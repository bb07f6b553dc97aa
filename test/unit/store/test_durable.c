/* test_durable.c - what was acknowledged is there after kill -9, and nothing by halves.
 */
#include "fixture.h"
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define WRITERS 4
#define PAIR_GAP 1000000

struct lane {
    struct fixture *f;
    int number, fd;
};

/* Writes a row to each table, the same number in both: they come and go together. */
static bool
put_pair(struct txn *txn, void *ctx, struct err *err)
{
    const int64_t *n = ctx;
    char id[32];
    (void)snprintf(id, sizeof id, "%" PRId64, *n);
    struct test_thing t = {.account = "a", .id = id, .size = *n, .secret = "s"};
    struct test_entry e = {.day = "d", .id = *n};
    return row_insert(txn, &test_thing_type, &t, err) &&
           row_insert(txn, &test_entry_type, &e, err);
}

static void *
lane_main(void *ctx)
{
    struct lane *lane = ctx;
    for (int64_t i = 0;; i++) {
        AUTO(arena) struct arena *arena = arena_create();
        struct err err;
        int64_t n = lane->number * PAIR_GAP + i;
        if (!store_write(lane->f->store, arena, put_pair, &n, &err) ||
            fd_write_all(lane->fd, &n, sizeof n) != 0) {
            _exit(1);
        }
    }
    return NULL;
}

/* The child: writes on several threads until it is killed, and tells each acknowledged
 * number through 'fd'. */
static void
child_main(struct fixture *f, int fd)
{
    struct err err;
    pthread_t threads[WRITERS];
    struct lane lanes[WRITERS];
    if (!fixture_open(f, &err)) {
        _exit(2);
    }
    for (int i = 0; i < WRITERS; i++) {
        lanes[i] = (struct lane){f, i, fd};
        if (pthread_create(&threads[i], NULL, lane_main, &lanes[i]) != 0) {
            _exit(3);
        }
    }
    for (;;) {
        pause();
    }
}

static void
check_acknowledged(struct fixture *f, int fd)
{
    int64_t n;
    size_t count = 0;
    while (read(fd, &n, sizeof n) == sizeof n) {
        char id[32];
        (void)snprintf(id, sizeof id, "%" PRId64, n);
        CHECK(fixture_get(f, &test_thing_type,
                          &(struct test_thing){.account = "a", .id = id}) != NULL);
        CHECK(fixture_get(f, &test_entry_type,
                          &(struct test_entry){.day = "d", .id = n}) != NULL);
        count++;
    }
    CHECK(count > 0);
    struct row_query all = {0};
    struct row_list things = fixture_list(f, &test_thing_type, &all);
    struct row_list entries = fixture_list(f, &test_entry_type, &all);
    CHECK_EQ(things.count, entries.count);
    CHECK(things.count >= count);
}

TEST(store_keeps_what_it_acknowledged_through_kill_9)
{
    uint64_t seed = (uint64_t)clock_real(&clock_system);
    print_message("seed %" PRIu64 "\n", seed);
    struct rng rng = rng_seeded(&seed);
    for (int round = 0; round < 5; round++) {
        struct fixture f;
        struct err err;
        int fds[2];
        fixture_init(&f);
        store_close(f.store);
        f.store = NULL;
        CHECK_EQ(pipe(fds), 0);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            child_main(&f, fds[1]);
        }
        close(fds[1]);
        struct pollfd first = {.fd = fds[0], .events = POLLIN};
        CHECK_EQ(poll(&first, 1, 60000), 1); /* A busy host is slow to begin. */
        usleep((useconds_t)rng_below(&rng, 200000));
        CHECK_EQ(kill(pid, SIGKILL), 0);
        CHECK_EQ(waitpid(pid, NULL, 0), pid);
        fixture_await_alone(&f);
        CHECK_OK(fixture_open(&f, &err), &err);
        check_acknowledged(&f, fds[0]);
        close(fds[0]);
        fixture_fini(&f);
    }
}

static void
limit_files(rlim_t bytes)
{
    struct rlimit limit;
    CHECK_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = MIN(bytes, limit.rlim_max);
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Writes until the disk takes no more. Returns how many were acknowledged. */
static int64_t
write_until_full(struct fixture *f, int64_t first)
{
    for (int64_t n = first;; n++) {
        struct err err;
        CHECK(n - first < 100000);
        if (!store_write(f->store, f->arena, put_pair, &n, &err)) {
            CHECK(err.code == ERR_SYSTEM || err.code == ERR_NO_SPACE);
            return n - first;
        }
    }
}

TEST(store_shows_nothing_of_what_a_full_disk_refused)
{
    struct fixture f;
    struct row_query all = {0};
    (void)signal(SIGXFSZ, SIG_IGN);
    if (postgres_url()) {
        return; /* The limit is this process's, and the files are the server's. */
    }
    fixture_init(&f);
    int64_t total = 0;
    for (rlim_t size = 150000; size < 600000; size += 70001) {
        limit_files(size);
        total += write_until_full(&f, (int64_t)size * 1000);
        total += write_until_full(&f, (int64_t)size * 1000 + 100000);
        CHECK_EQ(fixture_list(&f, &test_thing_type, &all).count, total);
        CHECK_EQ(fixture_list(&f, &test_entry_type, &all).count, total);
    }
    CHECK(total > 0);
    limit_files(RLIM_INFINITY);
    int64_t n = 1;
    struct err err;
    CHECK_OK(store_write(f.store, f.arena, put_pair, &n, &err), &err);
    fixture_reopen(&f);
    CHECK_EQ(fixture_list(&f, &test_thing_type, &all).count, total + 1);
    CHECK_EQ(fixture_list(&f, &test_entry_type, &all).count, total + 1);
    fixture_fini(&f);
}
