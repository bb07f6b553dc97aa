/* child.h - what the agent and the metadata child say to each other.
 *
 * Channel:  SOCK_SEQPACKET, one message a packet, agent to child only; a descriptor may
 *           ride along. Both ends are the same program, so the struct itself is the
 *           format. The child trusts the agent, never the other way round.
 * Order:    HELLO first. The child drops its privileges on it. */
#pragma once
#include "base/base.h"
#include "node/metadata/token.h"
#include <sys/types.h>

#define CHILD_FD 3
#define CHILD_ID_LEN 72
#define CHILD_ADDRESSES 50

enum child_what {
    CHILD_HELLO = 1,   /* uid, gid, key. */
    CHILD_LISTEN,      /* network; descriptor: a TCP socket that listens. */
    CHILD_LISTEN_TIME, /* network; descriptor: a UDP socket. */
    CHILD_UNLISTEN,    /* network: both sockets. */
    CHILD_PORT,        /* network, port, addresses; descriptor: link_metadata in TLV. */
    CHILD_UNPORT,      /* port. */
};

struct child_message {
    uint32_t what;
    uint32_t uid, gid;
    uint8_t key[TOKEN_KEY_LEN];
    char network[CHILD_ID_LEN], port[CHILD_ID_LEN];
    uint32_t address_count;
    uint32_t addresses[CHILD_ADDRESSES]; /* IPv4, host order. */
};

/* 0 or -errno; EAGAIN: full, or nothing there. 'fd' -1: none. */
int child_send(int sock, const struct child_message *message, int fd);
/* 1: got one; 0: the other end is gone. '*out_fd' becomes the caller's, or -1. */
int child_receive(int sock, struct child_message *out, int *out_fd);
