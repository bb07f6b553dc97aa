/* test_fence.c - the supervisor of leased guests, with real namespaces and processes. */
#include "test.h"

#include "node/fence/fence.h"
#include "node/machine/jail.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define LONG_NS (600 * NS_PER_S)

struct stage {
    pid_t fence;
    int sock;
    struct sockaddr_un addr;
    socklen_t addr_len;
    char root[32];
};

static int
dial(const struct stage *s)
{
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(connect(sock, (const struct sockaddr *)&s->addr, s->addr_len), 0);
    return sock;
}

static void
setup(struct stage *s)
{
    if (geteuid() != 0) {
        print_message("skipped: needs root\n");
        skip();
    }
    s->addr_len = sizeof s->addr;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strcpy(s->root, "/tmp/moln-unit-XXXXXX");
    CHECK(mkdtemp(s->root) != NULL);
    s->addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    /* No name: the kernel gives one that is no file. */
    CHECK_EQ(bind(listener, (struct sockaddr *)&s->addr, sizeof(sa_family_t)), 0);
    CHECK_EQ(getsockname(listener, (struct sockaddr *)&s->addr, &s->addr_len), 0);
    CHECK_EQ(listen(listener, 4), 0);
    s->fence = fork();
    CHECK(s->fence >= 0);
    if (s->fence == 0) {
        struct err err = {0};
        const struct fence_config config = {
            .listen_fd = listener, .clock = &clock_system, .harden = true};
        _exit(fence_serve(&config, &err) ? 0 : 1);
    }
    close(listener);
    s->sock = dial(s);
}

/* The fence has ended, by the signal 'how' or, 0, by itself. */
static void
end(struct stage *s, int how)
{
    int status;
    close(s->sock);
    CHECK_EQ(waitpid(s->fence, &status, 0), s->fence);
    CHECK(how ? WIFSIGNALED(status) && WTERMSIG(status) == how
              : WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_EQ(rmdir(s->root), 0);
}

static struct fence_answer
ask_by(int sock, enum fence_what what, int64_t until_ns, int *out_ns)
{
    struct fence_ask ask = {FENCE_MAGIC, what, until_ns};
    struct fence_answer a = {0};
    struct iovec part = {&a, sizeof a};
    char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof control};
    CHECK_EQ(send(sock, &ask, sizeof ask, MSG_NOSIGNAL), sizeof ask);
    CHECK_EQ(recvmsg(sock, &msg, MSG_CMSG_CLOEXEC), sizeof a);
    CHECK_EQ(a.magic, FENCE_MAGIC);
    int fd = -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c) {
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    }
    CHECK_EQ(fd >= 0, (a.state & 0xff) == FENCE_OPEN);
    if (out_ns) {
        *out_ns = fd;
    } else if (fd >= 0) {
        close(fd);
    }
    return a;
}

static struct fence_answer
ask(const struct stage *s, enum fence_what what, int64_t until_ns, int *out_ns)
{
    return ask_by(s->sock, what, until_ns, out_ns);
}

/* Asks the fence to take on a guest that runs already. */
static uint32_t
adopt(const struct stage *s, const struct jail_process *p)
{
    struct fence_ask ask = {FENCE_MAGIC, FENCE_ADOPT, p->pid};
    struct fence_answer a = {0};
    struct iovec part = {&ask, sizeof ask};
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.head = {.cmsg_level = SOL_SOCKET,
                          .cmsg_type = SCM_RIGHTS,
                          .cmsg_len = CMSG_LEN(sizeof(int))}};
    memcpy(CMSG_DATA(&control.head), &p->pidfd, sizeof(int));
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof control};
    CHECK_EQ(sendmsg(s->sock, &msg, MSG_NOSIGNAL), sizeof ask);
    CHECK_EQ(recv(s->sock, &a, sizeof a, 0), sizeof a);
    return a.state;
}

static int64_t
now(void)
{
    return clock_mono(&clock_system);
}

/* A guest that would sleep for ever. */
static bool
start(const struct stage *s, int ns_fd, struct jail_process *out)
{
    static const char *const argv[] = {"/usr/bin/sleep", "infinity", NULL};
    struct err err = {0};
    AUTO(fd) int log = open("/dev/null", O_WRONLY | O_CLOEXEC);
    const struct jail_spec spec = {.argv = argv,
                                   .uid = 0x7fff0001,
                                   .gid = 0x7fff0001,
                                   .log_fd = log,
                                   .out_fd = -1,
                                   .root = s->root,
                                   .pid_ns_fd = ns_fd};
    return jail_start(&spec, out, &err);
}

static void
wait_killed(struct jail_process *p)
{
    CHECK_EQ(jail_reap(p->pidfd), SIGKILL);
    close(p->pidfd);
}

static bool
has_ended(const struct jail_process *p)
{
    struct pollfd look = {.fd = p->pidfd, .events = POLLIN};
    return poll(&look, 1, 0) == 1;
}

static void
wait_empty(const struct stage *s)
{
    while (ask(s, FENCE_LOOK, 0, NULL).state != FENCE_EMPTY) {
        (void)usleep(1000);
    }
}

/* A lease of 'lease_ns' from now, and a guest in it. False: the lease was over before the
 * guest had started, since the host is busy; all is as it was before. */
static bool
start_in_lease(const struct stage *s, int64_t lease_ns, int64_t *out_until_ns,
               int *out_ns, struct jail_process *out)
{
    *out_until_ns = now() + lease_ns;
    if (ask(s, FENCE_RENEW, *out_until_ns, out_ns).state == FENCE_OPEN) {
        if (start(s, *out_ns, out)) {
            return true;
        }
        close(*out_ns);
    }
    wait_empty(s);
    return false;
}

TEST(fence_lets_nothing_in_before_a_lease)
{
    struct stage s;
    setup(&s);
    CHECK_EQ(ask(&s, FENCE_LOOK, 0, NULL).state, FENCE_EMPTY);
    CHECK_EQ(ask(&s, FENCE_RENEW, now() - 1, NULL).state, FENCE_EMPTY);
    CHECK_EQ(ask(&s, FENCE_QUIT, 0, NULL).state, FENCE_EMPTY);
    end(&s, 0);
}

TEST(fence_ends_guests_when_the_lease_is_over_and_only_those)
{
    struct stage s;
    struct jail_process leased, plain;
    int64_t lease_ns = 300 * NS_PER_MS, until;
    int ns;
    setup(&s);
    CHECK(start(&s, -1, &plain));
    while (!start_in_lease(&s, lease_ns, &until, &ns, &leased)) {
        lease_ns *= 2;
    }
    wait_killed(&leased);
    CHECK(now() >= until); /* Not before its time. */
    CHECK(!has_ended(&plain));
    wait_empty(&s);
    /* And what the agent was about to start cannot be started any more. */
    CHECK(!start(&s, ns, &leased));
    close(ns);
    CHECK_EQ(kill(plain.pid, SIGKILL), 0);
    wait_killed(&plain);
    CHECK_EQ(ask(&s, FENCE_QUIT, 0, NULL).state, FENCE_EMPTY);
    end(&s, 0);
}

TEST(fence_keeps_guests_while_the_lease_is_renewed)
{
    struct stage s;
    struct jail_process leased;
    struct fence_answer renewed = {0};
    int64_t first = 0, until = 0;
    int ns;
    setup(&s);
    for (int64_t lease_ns = 200 * NS_PER_MS; renewed.state != FENCE_OPEN;
         lease_ns *= 2) {
        if (!start_in_lease(&s, lease_ns, &first, &ns, &leased)) {
            continue;
        }
        close(ns);
        until = now() + LONG_NS;
        renewed = ask(&s, FENCE_RENEW, until, NULL);
        if (renewed.state != FENCE_OPEN) { /* Too late. */
            wait_killed(&leased);
            wait_empty(&s);
        }
    }
    CHECK_EQ(renewed.until_ns, until);
    /* Never sooner than was promised once: an answer may come late. */
    CHECK_EQ(ask(&s, FENCE_RENEW, until - 1, NULL).until_ns, until);
    while (now() < first + 50 * NS_PER_MS) {
        (void)usleep(10000);
    }
    CHECK(!has_ended(&leased));
    CHECK_EQ(ask(&s, FENCE_LOOK, 0, NULL).turn, renewed.turn);
    CHECK_EQ(ask(&s, FENCE_QUIT, 0, NULL).state, FENCE_ENDING);
    wait_killed(&leased);
    end(&s, 0);
}

TEST(fence_takes_guests_along_when_it_is_killed)
{
    struct stage s;
    struct jail_process leased, plain;
    int ns;
    setup(&s);
    CHECK_EQ(ask(&s, FENCE_RENEW, now() + LONG_NS, &ns).state, FENCE_OPEN);
    CHECK(start(&s, ns, &leased) && start(&s, -1, &plain));
    CHECK_EQ(kill(s.fence, SIGKILL), 0);
    wait_killed(&leased);
    CHECK(!has_ended(&plain));
    close(ns);
    CHECK_EQ(kill(plain.pid, SIGKILL), 0);
    wait_killed(&plain);
    end(&s, SIGKILL);
}

/* A guest that runs, and then a lease of 'lease_ns' that takes it in, twice: by a next
 * agent. False: the lease was over before that; all is as it was before. */
static bool
adopt_in_lease(const struct stage *s, int64_t lease_ns, int64_t *out_until_ns,
               struct jail_process *out)
{
    CHECK(start(s, -1, out));
    CHECK_EQ(adopt(s, out), FENCE_EMPTY | FENCE_DECLINED); /* There is no lease. */
    *out_until_ns = now() + lease_ns;
    if (ask(s, FENCE_RENEW, *out_until_ns, NULL).state == FENCE_OPEN &&
        adopt(s, out) == (FENCE_OPEN | FENCE_ADOPTED) &&
        adopt(s, out) == (FENCE_OPEN | FENCE_ADOPTED)) {
        return true;
    }
    CHECK_EQ(kill(out->pid, SIGKILL), 0);
    wait_killed(out);
    wait_empty(s);
    return false;
}

TEST(fence_adopts_a_guest_that_runs_and_ends_it_with_the_lease)
{
    struct stage s;
    struct jail_process old, plain;
    int64_t lease_ns = 300 * NS_PER_MS, until;
    setup(&s);
    CHECK(start(&s, -1, &plain));
    while (!adopt_in_lease(&s, lease_ns, &until, &old)) {
        lease_ns *= 2;
    }
    /* What stops others stops it, and it goes on as others do. */
    CHECK_EQ(kill(old.pid, SIGSTOP), 0);
    CHECK_EQ(kill(old.pid, SIGCONT), 0);
    wait_killed(&old);
    CHECK(now() >= until);
    CHECK(!has_ended(&plain));
    wait_empty(&s);
    CHECK_EQ(ask(&s, FENCE_RENEW, now() + LONG_NS, NULL).state, FENCE_OPEN);
    CHECK_EQ(ask(&s, FENCE_END, 0, NULL).state, FENCE_ENDING);
    wait_empty(&s);
    CHECK_EQ(adopt(&s, &plain), FENCE_EMPTY | FENCE_DECLINED);
    CHECK_EQ(kill(plain.pid, SIGKILL), 0);
    wait_killed(&plain);
    CHECK_EQ(ask(&s, FENCE_QUIT, 0, NULL).state, FENCE_EMPTY);
    end(&s, 0);
}

TEST(fence_takes_adopted_guests_along_when_it_is_killed)
{
    struct stage s;
    struct jail_process old, plain;
    setup(&s);
    CHECK(start(&s, -1, &old) && start(&s, -1, &plain));
    CHECK_EQ(ask(&s, FENCE_RENEW, now() + LONG_NS, NULL).state, FENCE_OPEN);
    CHECK_EQ(adopt(&s, &old), FENCE_OPEN | FENCE_ADOPTED);
    CHECK_EQ(kill(s.fence, SIGKILL), 0);
    wait_killed(&old);
    CHECK(!has_ended(&plain));
    CHECK_EQ(kill(plain.pid, SIGKILL), 0);
    wait_killed(&plain);
    end(&s, SIGKILL);
}

TEST(fence_forgets_adopted_guests_that_end_by_themselves)
{
    struct stage s;
    struct jail_process old;
    setup(&s);
    CHECK(start(&s, -1, &old));
    CHECK_EQ(ask(&s, FENCE_RENEW, now() + LONG_NS, NULL).state, FENCE_OPEN);
    CHECK_EQ(adopt(&s, &old), FENCE_OPEN | FENCE_ADOPTED);
    CHECK_EQ(kill(old.pid, SIGKILL), 0);
    wait_killed(&old);
    struct jail_process gone = {.pid = old.pid,
                                .pidfd = s.sock}; /* No process at all. */
    CHECK_EQ(adopt(&s, &gone), FENCE_OPEN | FENCE_DECLINED);
    CHECK_EQ(ask(&s, FENCE_QUIT, 0, NULL).state, FENCE_ENDING);
    end(&s, 0);
}

TEST(fence_opens_anew_only_when_all_are_gone)
{
    struct stage s;
    struct jail_process leased;
    int ns;
    setup(&s);
    struct fence_answer first = ask(&s, FENCE_RENEW, now() + LONG_NS, &ns);
    CHECK(start(&s, ns, &leased));
    close(ns);
    CHECK_EQ(ask(&s, FENCE_END, 0, NULL).state, FENCE_ENDING);
    /* Nobody has reaped the guest: for the fence it is still there. */
    while (!has_ended(&leased)) {
        (void)usleep(1000);
    }
    CHECK_EQ(ask(&s, FENCE_RENEW, now() + LONG_NS, NULL).state, FENCE_ENDING);
    wait_killed(&leased);
    wait_empty(&s);
    struct fence_answer second = ask(&s, FENCE_RENEW, now() + LONG_NS, &ns);
    CHECK_EQ(second.state, FENCE_OPEN);
    CHECK(second.turn > first.turn);
    CHECK(start(&s, ns, &leased));
    close(ns);
    CHECK_EQ(ask(&s, FENCE_QUIT, 0, NULL).state, FENCE_ENDING);
    wait_killed(&leased);
    end(&s, 0);
}

TEST(fence_outlives_its_agents_and_hangs_up_on_nonsense)
{
    struct stage s;
    char rubbish[sizeof(struct fence_ask)] = {1};
    struct fence_ask unknown = {FENCE_MAGIC, 99, 0};
    setup(&s);
    int64_t until = now() + LONG_NS;
    CHECK_EQ(ask(&s, FENCE_RENEW, until, NULL).state, FENCE_OPEN);
    for (int round = 0; round < 3; round++) {
        int sock = dial(&s);
        const void *what = round == 0 ? (void *)rubbish : (void *)&unknown;
        size_t len = round == 2 ? 3 : sizeof unknown;
        char byte;
        CHECK_EQ(send(sock, what, len, 0), len);
        CHECK_EQ(recv(sock, &byte, 1, 0), 0);
        close(sock);
    }
    int agents[6]; /* More than it serves at once: the oldest give way. */
    for (size_t i = 0; i < ARRAY_LEN(agents); i++) {
        agents[i] = dial(&s);
        CHECK_EQ(ask_by(agents[i], FENCE_LOOK, 0, NULL).until_ns, until);
    }
    CHECK_EQ(ask_by(agents[5], FENCE_QUIT, 0, NULL).state, FENCE_ENDING);
    for (size_t i = 0; i < ARRAY_LEN(agents); i++) {
        close(agents[i]);
    }
    end(&s, 0);
}
