/* test_metadata_live.c - guests with real TCP ask the real child, in real namespaces.
 * Needs root; nothing leaves the namespaces that the test makes. */
#include "net_guest.h"
#include "net_kernel_guest.h"
#include "node/metadata/metadata.h"
#include <arpa/inet.h>
#include <signal.h>

/* This program is its own child. */
__attribute__((constructor)) static void
be_child(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--metadata-child") == 0) {
        metadata_child_main();
    }
}

static const char *const self[] = {"/proc/self/exe", "--metadata-child", NULL};

static struct metadata *
open_metadata(struct lab *lab)
{
    struct metadata_config config = {.loop = &lab->loop,
                                     .net = lab->net,
                                     .child_argv = self,
                                     .clock = &clock_system,
                                     .rng = &rng_system};
    struct metadata *md = metadata_open(&config, &lab->err);
    CHECK_OK(md != NULL, &lab->err);
    return md;
}

static void
want_documents(struct lab *lab, struct metadata *md, const char *port, const char *id,
               bool token_required)
{
    struct link_metadata_leaf leaves[] = {
        {.path = "latest/meta-data/instance-id",
         .value = {(const uint8_t *)id, strlen(id)}},
    };
    const char *versions[] = {"2021-03-23"};
    struct link_metadata want = {.id = port,
                                 .enabled = true,
                                 .token_required = token_required,
                                 .hop_limit = 1,
                                 .leaves = {leaves, 1},
                                 .versions = {versions, 1}};
    CHECK_OK(metadata_want(md, &want, &lab->err), &lab->err);
}

#define GET_ID \
    "GET /2021-03-23/meta-data/instance-id HTTP/1.1\r\nHost: x\r\nConnection: " \
    "close\r\n"
#define PUT_TOKEN \
    "PUT /latest/api/token HTTP/1.1\r\nConnection: close\r\n" \
    "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n"

/* Asks until the child is there. */
static char *
ask(struct lab *lab, struct kernel_guest *g, const char *request)
{
    for (int i = 0; i < 200; i++) {
        loop_turn(&lab->loop, 50);
        char *answer = kernel_guest_http(g, request);
        if (answer && !strstr(answer, " 404 ")) {
            return answer;
        }
        free(answer);
    }
    fail_msg("no answer from the metadata service");
    return NULL;
}

static const char *
body_of(const char *answer)
{
    const char *at = strstr(answer, "\r\n\r\n");
    CHECK(at != NULL);
    return at + 4;
}

TEST(metadata_tells_each_port_of_two_equal_networks_its_own)
{
    if (!lab_can_run()) {
        return;
    }
    struct lab lab;
    lab_init(&lab);
    struct metadata *md = open_metadata(&lab);
    lab_network(&lab, "vpc-1", "subnet-1", "10.0.0.0/24");
    lab_network(&lab, "vpc-2", "subnet-2", "10.0.0.0/24");
    lab_port(&lab, "eni-1", "subnet-1", "02:00:00:00:00:05", "10.0.0.5");
    lab_port(&lab, "eni-2", "subnet-2", "02:00:00:00:00:05", "10.0.0.5");
    want_documents(&lab, md, "eni-1", "i-one", false);
    want_documents(&lab, md, "eni-2", "i-two", true);
    struct kernel_guest a, b;
    kernel_guest_start(&a, &lab, "eni-1");
    kernel_guest_start(&b, &lab, "eni-2");

    AUTO(free) char *one = ask(&lab, &a, GET_ID "\r\n");
    CHECK_STR(body_of(one), "i-one");
    AUTO(free) char *refused = ask(&lab, &b, GET_ID "\r\n");
    CHECK(strstr(refused, "HTTP/1.1 401 ") == refused);
    AUTO(free) char *issued = ask(&lab, &b, PUT_TOKEN);
    AUTO(free)
    char *with =
        xasprintf(GET_ID "X-aws-ec2-metadata-token: %s\r\n\r\n", body_of(issued));
    AUTO(free) char *two = ask(&lab, &b, with);
    CHECK_STR(body_of(two), "i-two");
    AUTO(free) char *stolen = ask(&lab, &a, with); /* Another port's token. */
    CHECK(strstr(stolen, "HTTP/1.1 401 ") == stolen);

    kernel_guest_stop(&a);
    kernel_guest_stop(&b);
    metadata_close(md);
    lab_fini(&lab);
}

TEST(metadata_serves_time)
{
    if (!lab_can_run()) {
        return;
    }
    struct lab lab;
    lab_init(&lab);
    struct metadata *md = open_metadata(&lab);
    lab_network(&lab, "vpc-1", "subnet-1", "10.0.0.0/24");
    lab_port(&lab, "eni-1", "subnet-1", "02:00:00:00:00:05", "10.0.0.5");
    want_documents(&lab, md, "eni-1", "i-one", false);
    struct kernel_guest g;
    kernel_guest_start(&g, &lab, "eni-1");
    AUTO(free) char *one = ask(&lab, &g, GET_ID "\r\n"); /* The child is up. */
    AUTO(fd) int fd = kernel_guest_socket(&g, SOCK_DGRAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(123)};
    CHECK_EQ(inet_pton(AF_INET, "169.254.169.123", &to.sin_addr), 1);
    uint8_t question[48] = {0x23}, answer[64];
    int64_t before = clock_real(&clock_system) / NS_PER_S;
    CHECK_EQ(
        sendto(fd, question, sizeof question, 0, (struct sockaddr *)&to, sizeof to),
        48);
    CHECK_EQ(recv(fd, answer, sizeof answer, 0), 48);
    int64_t after = clock_real(&clock_system) / NS_PER_S;
    int64_t told = (int64_t)((uint32_t)answer[40] << 24 | (uint32_t)answer[41] << 16 |
                             (uint32_t)answer[42] << 8 | answer[43]) -
                   INT64_C(2208988800);
    CHECK(told >= before - 1 && told <= after + 1);
    kernel_guest_stop(&g);
    metadata_close(md);
    lab_fini(&lab);
}

/* The child's pid: the one process whose parent is this one and that runs it. */
static pid_t
child_pid(void)
{
    char path[64], line[256];
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *f = fopen(path, "re");
    pid_t found = 0;
    int pid;
    while (f && fscanf(f, "%d", &pid) == 1) {
        (void)snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
        FILE *c = fopen(path, "re");
        size_t n = c ? fread(line, 1, sizeof line, c) : 0;
        if (c) {
            (void)fclose(c);
        }
        if (memmem(line, n, "--metadata-child", 16)) {
            found = pid;
        }
    }
    if (f) {
        (void)fclose(f);
    }
    return found;
}

TEST(metadata_starts_its_child_again_and_the_child_has_no_privileges)
{
    if (!lab_can_run()) {
        return;
    }
    struct lab lab;
    lab_init(&lab);
    lab_network(&lab, "vpc-1", "subnet-1", "10.0.0.0/24");
    lab_port(&lab, "eni-1", "subnet-1", "02:00:00:00:00:05", "10.0.0.5");
    struct metadata *md = open_metadata(&lab);
    want_documents(&lab, md, "eni-1", "i-one", false);
    struct kernel_guest g;
    kernel_guest_start(&g, &lab, "eni-1");
    AUTO(free) char *one = ask(&lab, &g, GET_ID "\r\n");
    pid_t first = child_pid();
    CHECK(first > 0);
    char path[64], text[4096] = {0};
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)first);
    FILE *f = fopen(path, "re");
    CHECK(f && fread(text, 1, sizeof text - 1, f) > 0);
    (void)fclose(f);
    CHECK(strstr(text, "CapEff:\t0000000000000000"));
    CHECK(strstr(text, "CapBnd:\t0000000000000000"));
    CHECK(strstr(text, "NoNewPrivs:\t1"));
    CHECK(strstr(text, "Uid:\t65534\t65534\t65534\t65534"));
    CHECK_EQ(kill(first, SIGKILL), 0);
    while (child_pid() == first || child_pid() == 0) {
        loop_turn(&lab.loop, 20);
    }
    AUTO(free) char *again = ask(&lab, &g, GET_ID "\r\n");
    CHECK_STR(body_of(again), "i-one");
    metadata_drop(md, "eni-1");
    for (bool gone = false; !gone;) { /* The child hears of it in a moment. */
        loop_turn(&lab.loop, 20);
        AUTO(free) char *answer = kernel_guest_http(&g, GET_ID "\r\n");
        gone = answer && strstr(answer, " 404 ");
    }
    kernel_guest_stop(&g);
    metadata_close(md);
    lab_fini(&lab);
}

static void
on_connect(void *ctx, int fd, const struct err *err)
{
    *(int *)ctx = fd >= 0 ? fd : -2;
}

/* A descriptor, or -2: refused. */
static int
connect_to(struct lab *lab, const char *ip, int port)
{
    int result = -1;
    CHECK_OK(net_connect(lab->net, "eni-1", ip, port, 30 * NS_PER_S, on_connect,
                         &result, &lab->err),
             &lab->err);
    while (result == -1) {
        loop_turn(&lab->loop, 10);
    }
    return result;
}

TEST(net_connects_to_a_ports_own_address_only)
{
    if (!lab_can_run()) {
        return;
    }
    struct lab lab;
    lab_init(&lab);
    lab_network(&lab, "vpc-1", "subnet-1", "10.0.0.0/24");
    lab_port(&lab, "eni-1", "subnet-1", "02:00:00:00:00:05", "10.0.0.5");
    struct kernel_guest g;
    kernel_guest_start(&g, &lab, "eni-1");
    AUTO(fd) int server = kernel_guest_socket(&g, SOCK_STREAM, 22);
    int result = connect_to(&lab, NULL, 22);
    CHECK(result >= 0);
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    AUTO(fd) int accepted = accept(server, (struct sockaddr *)&from, &len);
    CHECK(accepted >= 0);
    CHECK_EQ(ntohl(from.sin_addr.s_addr), IP4(10, 0, 0, 1));
    close(result);
    CHECK_EQ(connect_to(&lab, "10.0.0.5", 23), -2); /* Nobody listens there. */
    CHECK(!net_connect(lab.net, "eni-1", "10.0.0.6", 22, NS_PER_S, on_connect, &result,
                       &lab.err));
    CHECK_EQ(lab.err.code, ERR_INVALID);
    kernel_guest_stop(&g);
    lab_fini(&lab);
}
