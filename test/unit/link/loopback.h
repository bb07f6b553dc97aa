/* loopback.h - a control plane and a node in one process, for tests: a server and a
 * client on one loop, with everything that they say written down. */
#pragma once
#include "test.h"

#include "base/tlv.h"
#include "link/client.h"
#include "link/pki.h"
#include "link/server.h"

#define SEEN_MAX 64

struct loopback {
    uv_loop_t loop;
    int64_t control_ns, node_ns; /* What their clocks show. */
    struct clock control_clock, node_clock;
    uint64_t seed;
    struct rng rng;
    struct arena *arena;
    char dir[64], unix_path[96];
    char place[32];

    /* The control plane. */
    struct pki_pair ca_pair, server_pair;
    struct pki_ca *ca;
    struct link_server *server;
    struct link_peer *peer;
    const char *refuse_code; /* NULL: hello is answered with a welcome. */
    bool hold;               /* Not answered at all. */
    bool hold_acks;
    int hellos, losts, enrolls, renews, reports, resumed;
    int64_t have_revision, acked;
    char serial[40], lost_why[200], last_report[64];
    int64_t last_revision; /* That the last report answered. */
    void (*on_peer_channel)(struct loopback *lo, struct link_channel *channel,
                            const struct link_channel_open *open);

    /* The node. */
    struct link_client *client;
    struct link_client_config config;
    int welcomes, downs, wants, calls, snapshots;
    int64_t revision;
    bool snapshot;
    char down_code[32], down_why[200], last_want[64];
    uint64_t next_try_ms; /* How soon after the last 'down'. */
    char *key_pem, *cert_pem, *ca_pem;
    void (*on_node_channel)(struct loopback *lo, struct link_channel *channel,
                            const struct link_channel_open *open);
};

void loopback_init(struct loopback *lo, bool tls); /* The server listens. */
void loopback_fini(struct loopback *lo);
/* A certificate for node-1, signed by 'ca' (NULL: the control CA) as of 'now_ns'. */
void loopback_certify(struct loopback *lo, const struct pki_ca *ca, int64_t now_ns);
void loopback_connect(struct loopback *lo); /* Makes the client from lo->config. */
/* Runs the loop until '*count' reaches 'at_least', at most some seconds; fails then. */
void loopback_until(struct loopback *lo, const int *count, int at_least);
void loopback_run_ms(struct loopback *lo, unsigned ms);
/* The same with a fact in place of a count. The limit is in turns of the loop, so that a
 * busy machine has as many as an idle one. */
#define LOOPBACK_UNTIL(lo, fact) \
    do { \
        for (int turn = 0; !(fact); turn++) { \
            if (turn == 10000) { \
                fail_msg("after %d turns not: %s", turn, #fact); \
            } \
            loopback_run_ms((lo), 1); \
        } \
    } while (0)
