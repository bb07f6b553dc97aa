/* client_state.h - what the two halves of a node's client know of each other.
 *
 * Purpose:  client.c connects and connects again; client_talk.c speaks: hello, wants,
 *           reports, calls. Internal to link/; the public part is in client.h.
 * Threads:  the loop's. */
#pragma once
#include "link/channels.h"
#include "link/client.h"
#include "link/pki.h"
#include "link/place.h"
#include "link/reports.h"

enum client_phase {
    CLIENT_WAITING,  /* For the pause to end. */
    CLIENT_REACHING, /* Name, connection and TLS. */
    CLIENT_ASKING,   /* hello or enroll is sent. */
    CLIENT_UP,
};

/* What libuv holds until its callback; outlives a client that gave up. */
struct attempt {
    struct link_client *client; /* NULL: abandoned. */
    uv_getaddrinfo_t resolve;
    uv_connect_t connect;
};

struct link_client {
    uv_loop_t *loop;
    const struct clock *clock;
    const struct rng *rng;
    struct link_client_ops ops;
    void *ctx;
    char *unix_path;
    struct place places[PLACES_MAX];
    size_t place_count;
    char *node_id, *cloud_id, *boot_id, *hostname, *agent_version;
    char *ca_pem, *cert_pem, *key_pem;
    struct join_token token;
    bool has_token;

    enum client_phase phase;
    bool destroyed;
    struct stream *stream;
    struct attempt *attempt;
    struct tls_context *tls;
    struct pki_verifier *verifier;
    struct buf ticket; /* Of the last session; resumes it. */
    uv_timer_t timer;  /* The end of the pause, or of patience. */
    uv_timer_t renew_timer;
    int handles_open;
    unsigned tries; /* Since the last welcome. */
    int64_t cert_from_ns, cert_until_ns, renew_asked_ns;
    uint32_t epoch; /* Of the stream: calls of an older one are not answered. */
    struct channels channels;
    struct reports *reports;
    struct arena *arena; /* Of the frame being read. */
    char *scratch, *own_scratch; /* STREAM_SCRATCH bytes; the second may be NULL. */
};

/* Of the client's stream (client_talk.c). */
extern const struct stream_ops client_stream_ops;
/* Asks for a fresh certificate when it is time; runs each minute and at a welcome. */
void client_look_at_renewal(uv_timer_t *timer);

/* The stream failed, or what came on it: lets go of it, tells the owner, tries again
 * after a pause. 'code' is the control plane's, or NULL. */
void client_fail(struct link_client *client, const char *code, const char *why);
/* Lets go of the stream and of what is under way towards one. */
void client_drop_stream(struct link_client *client, const char *why);
/* Begins to connect; the timer's callback at the end of a pause. */
void client_try(uv_timer_t *timer);
/* Takes 'cert_pem' (NULL: none yet) into use for the next stream. */
MUST_CHECK bool client_use_cert(struct link_client *client, const char *cert_pem,
                                struct err *err);
MUST_CHECK bool client_use_ca(struct link_client *client, const char *ca_pem,
                              struct err *err);
/* Puts a copy of 's' in place of '*at'; NULL leaves it. */
void client_replace(char **at, const char *s);
