/* udp.c - for a guest whose busybox has nothing that speaks UDP: linked statically by the tests,
 * and sent there.
 *
 *   udp echo PORT                  sends back whatever comes, by either family
 *   udp ask ADDRESS PORT SIZE MS   sends SIZE bytes; 0 when the same come back in that time */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static char sent[65536], came[65536];

/* An IPv4 address is one of IPv6 here; NULL: any. */
static struct sockaddr_in6
place(const char *address, const char *port)
{
    struct sockaddr_in6 at = {.sin6_family = AF_INET6,
                              .sin6_port = htons((unsigned short)atoi(port))};
    char text[80];
    if (address) {
        snprintf(text, sizeof text, "%s%s", strchr(address, ':') ? "" : "::ffff:", address);
        if (inet_pton(AF_INET6, text, &at.sin6_addr) != 1) {
            exit(2);
        }
    }
    return at;
}

static int
echo(int fd, const char *port)
{
    struct sockaddr_in6 at = place(NULL, port);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0) {
        return 2;
    }
    for (;;) {
        socklen_t len = sizeof at;
        ssize_t n = recvfrom(fd, came, sizeof came, 0, (struct sockaddr *)&at, &len);
        if (n >= 0) {
            (void)!sendto(fd, came, (size_t)n, 0, (struct sockaddr *)&at, len);
        }
    }
}

static int
ask(int fd, const char *address, const char *port, size_t size, int wait_ms)
{
    struct sockaddr_in6 at = place(address, port);
    struct pollfd answer = {.fd = fd, .events = POLLIN};
    if (size > sizeof sent) {
        return 2;
    }
    for (size_t i = 0; i < size; i++) {
        sent[i] = (char)rand();
    }
    if (connect(fd, (struct sockaddr *)&at, sizeof at) < 0 ||
        send(fd, sent, size, 0) != (ssize_t)size || poll(&answer, 1, wait_ms) != 1) {
        return 1;
    }
    return recv(fd, came, sizeof came, 0) == (ssize_t)size && memcmp(sent, came, size) == 0
               ? 0
               : 1;
}

int
main(int argc, char **argv)
{
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    if (fd >= 0 && argc == 3 && strcmp(argv[1], "echo") == 0) {
        return echo(fd, argv[2]);
    }
    if (fd >= 0 && argc == 6 && strcmp(argv[1], "ask") == 0) {
        return ask(fd, argv[2], argv[3], (size_t)atoi(argv[4]), atoi(argv[5]));
    }
    return 2;
}
