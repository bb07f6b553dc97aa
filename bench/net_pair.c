/* net_pair.c - see net_pair.h. */
#include "net_pair.h"
#include "base/world.h"
#include "node/net/links.h"
#include "node/net/netns.h"
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#define TURNS 60
#define STREAM_TURNS 8
#define STREAM_NS (200 * NS_PER_MS)

static int64_t
now(void)
{
    return clock_mono(&clock_system);
}

void
must(bool ok, const struct err *err)
{
    if (!ok) {
        (void)fprintf(stderr, "%s\n", err->msg);
        exit(1);
    }
}

/* ---- ends -----------------------------------------------------------------------------
 */

static void
side_make(struct side *s, const char *name, int n, struct err *err)
{
    (void)snprintf(s->name, sizeof s->name, "molnbench-%s%d-%d", name, n,
                   (int)getpid());
    s->ip = 0x0a000100u + 10 + (uint32_t)n;
    s->ns_fd = -1;
    must(netns_make(s->name, &s->ns_fd, err), err);
}

void
pair_make(struct pair *p, const char *what, const char *name, struct err *err)
{
    p->what = what;
    side_make(&p->a, name, 0, err);
    side_make(&p->b, name, 1, err);
}

void
pair_remove(struct pair *p, struct err *err)
{
    must(netns_remove(p->a.name, err) && netns_remove(p->b.name, err), err);
    VEC_FREE(&p->trips);
    VEC_FREE(&p->turns_us);
    VEC_FREE(&p->mbits);
}

static bool
address_here(void *ctx, struct err *err)
{
    struct side *s = ctx;
    int index;
    AUTO(links) struct links *links = links_open(err);
    return links && links_find(links, "eth0", &index, err) &&
           links_up(links, index, err) && links_address(links, index, s->ip, 24, err);
}

void
side_up(struct side *s, struct err *err)
{
    must(netns_run(s->ns_fd, address_here, s, err), err);
}

static bool
socket_here(void *ctx, struct err *err)
{
    struct side *s = ctx;
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(s->type == SOCK_DGRAM ? 7 : 9),
                             .sin_addr.s_addr = htonl(s->ip)};
    s->fd = socket(AF_INET, s->type | SOCK_CLOEXEC, 0);
    if (s->fd < 0 ||
        (s->listens && bind(s->fd, (struct sockaddr *)&at, sizeof at) < 0) ||
        (s->listens && s->type == SOCK_STREAM && listen(s->fd, 1) < 0)) {
        return err_sys(err, errno, "make a socket");
    }
    return true;
}

static void
reach(struct pair *p, int type, struct err *err)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(type == SOCK_DGRAM ? 7 : 9),
                             .sin_addr.s_addr = htonl(p->b.ip)};
    p->a.type = p->b.type = type;
    p->b.listens = true;
    must(netns_run(p->b.ns_fd, socket_here, &p->b, err) &&
             netns_run(p->a.ns_fd, socket_here, &p->a, err),
         err);
    for (int i = 0; connect(p->a.fd, (struct sockaddr *)&to, sizeof to) < 0; i++) {
        must(i < 20, &(struct err){.msg = "cannot connect"});
        (void)usleep(100000);
    }
}

/* ---- one turn -------------------------------------------------------------------------
 */

static void *
echo(void *ctx)
{
    int fd = *(int *)ctx;
    char in[64];
    struct sockaddr_in from;
    for (;;) {
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(fd, in, sizeof in, 0, (struct sockaddr *)&from, &len);
        if (n <= 0) {
            return NULL; /* An empty datagram ends it. */
        }
        (void)!sendto(fd, in, (size_t)n, 0, (struct sockaddr *)&from, len);
    }
}

static void
trips(struct pair *p, int count)
{
    char data[32] = "round";
    for (int i = 0; i < count; i++) {
        int64_t start = now();
        if (send(p->a.fd, data, sizeof data, 0) > 0 &&
            recv(p->a.fd, data, sizeof data, 0) > 0) {
            int64_t took = now() - start;
            VEC_PUSH(&p->trips, took);
        }
    }
}

static void *
drain(void *ctx)
{
    int fd = accept(*(int *)ctx, NULL, NULL);
    AUTO(free) char *in = xmalloc(256 * KIB);
    while (read(fd, in, 256 * KIB) > 0) {
    }
    close(fd);
    return NULL;
}

static int
by_size(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static double
median(const double *items, size_t count)
{
    AUTO(free) double *sorted = xcalloc(count + 1, sizeof *sorted);
    memcpy(sorted, items, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_size);
    return count ? sorted[count / 2] : 0;
}

static void
echo_turn(struct pair *p, int count)
{
    p->trips.count = 0;
    trips(p, count);
    AUTO(free) double *us = xcalloc(p->trips.count + 1, sizeof *us);
    for (size_t i = 0; i < p->trips.count; i++) {
        us[i] = (double)p->trips.items[i] / 1e3;
    }
    double middle = median(us, p->trips.count);
    VEC_PUSH(&p->turns_us, middle);
}

static void
stream_turn(struct pair *p, struct err *err)
{
    pthread_t thread;
    AUTO(free) char *out = xcalloc(1, 128 * KIB);
    reach(p, SOCK_STREAM, err);
    (void)pthread_create(&thread, NULL, drain, &p->b.fd);
    int64_t start = now(), bytes = 0;
    while (now() - start < STREAM_NS) {
        bytes += MAX(write(p->a.fd, out, 128 * KIB), 0);
    }
    close(p->a.fd);
    (void)pthread_join(thread, NULL);
    close(p->b.fd);
    double mbit = (double)bytes * 8e3 / (double)(now() - start);
    VEC_PUSH(&p->mbits, mbit);
}

/* Keeps this thread, and those that it makes, on the processor where it is. On another one an
 * echo waits until that is woken from idleness: some 40 us beside a trip's 13, or none, as the
 * scheduler happens to place the threads. */
static void
stay_here(void)
{
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    (void)sched_setaffinity(0, sizeof here, &here);
}

void
pairs_measure(struct pair *pairs, size_t count, int rounds, struct err *err)
{
    AUTO(free) pthread_t *threads = xcalloc(count, sizeof *threads);
    cpu_set_t all;
    (void)sched_getaffinity(0, sizeof all, &all);
    stay_here();
    for (size_t i = 0; i < count; i++) {
        reach(&pairs[i], SOCK_DGRAM, err);
        (void)pthread_create(&threads[i], NULL, echo, &pairs[i].b.fd);
        trips(&pairs[i], 200);
    }
    for (size_t turn = 0; turn < TURNS * count; turn++) {
        echo_turn(&pairs[turn % count], rounds / TURNS);
    }
    for (size_t i = 0; i < count; i++) {
        (void)send(pairs[i].a.fd, "", 0, 0);
        (void)pthread_join(threads[i], NULL);
        close(pairs[i].a.fd);
        close(pairs[i].b.fd);
    }
    (void)sched_setaffinity(0, sizeof all, &all);
    for (size_t turn = 0; turn < STREAM_TURNS * count; turn++) {
        stream_turn(&pairs[turn % count], err);
    }
}

/* ---- what came of it ------------------------------------------------------------------
 */

double
pair_echo_us(const struct pair *p)
{
    return median(p->turns_us.items, p->turns_us.count);
}

double
pair_mbit(const struct pair *p)
{
    return median(p->mbits.items, p->mbits.count);
}

static double
ratio(const double *ours, const double *bare, size_t count)
{
    AUTO(free) double *each = xcalloc(count + 1, sizeof *each);
    for (size_t i = 0; i < count; i++) {
        each[i] = ours[i] / bare[i];
    }
    return median(each, count);
}

double
pair_latency_ratio(const struct pair *p, const struct pair *bare)
{
    return ratio(p->turns_us.items, bare->turns_us.items,
                 MIN(p->turns_us.count, bare->turns_us.count));
}

double
pair_throughput_ratio(const struct pair *p, const struct pair *bare)
{
    return ratio(p->mbits.items, bare->mbits.items,
                 MIN(p->mbits.count, bare->mbits.count));
}
