/* net_kernel_guest.h - a guest with Linux's own stack: a namespace whose eth0 is a tap,
 * and a thread that carries frames between it and the port's tap, as QEMU and a guest's
 * kernel would. */
#pragma once
#include "net_lab.h"
#include <pthread.h>

struct kernel_guest {
    char name[64];
    int ns_fd, inner_fd, outer_fd, stop[2];
    pthread_t pump;
};

void kernel_guest_start(struct kernel_guest *g, struct lab *lab, const char *port_id);
void kernel_guest_stop(struct kernel_guest *g);
/* A TCP connection from inside, blocking, with a timeout of 2 s; -1: refused or none.
 */
int kernel_guest_connect(struct kernel_guest *g, const char *ip, int port);
/* A TCP socket that listens inside, or a UDP socket. */
int kernel_guest_socket(struct kernel_guest *g, int type, int listen_port);
/* Sends a request and returns the whole answer; free it. NULL: no answer. */
char *kernel_guest_http(struct kernel_guest *g, const char *request);
