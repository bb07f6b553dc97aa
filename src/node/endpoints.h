/* endpoints.h - doors in guests' networks that lead to the control plane.
 *
 * Purpose:  listens at each wanted endpoint's address, ports 80 and 443, inside its network, and
 *           carries the bytes of whoever connects over the link, as channels "endpoint". They
 *           are read by nobody on this host: what speaks HTTP, or TLS, is at the far end.
 * Place:    part of the agent, over net.h (which lets in only whom the endpoint's groups let)
 *           and the link's client.
 * Bounds:   16 connections of one caller, 64 of one endpoint, 128 of the node; each has at most a
 *           channel's window under way each way. Beyond that a caller is hung up on, and at the
 *           node's bound nobody is taken until somebody goes.
 * Owner:    the agent holds one; listening sockets end with it.
 * Threads:  the loop's. */
#pragma once
#include "link/client.h"

struct net;
struct link_endpoint;
struct endpoints;

#define ENDPOINT_CALLER_MAX 16
#define ENDPOINT_CONNECTIONS_MAX 64
#define ENDPOINTS_CONNECTIONS_MAX 128

struct endpoints_config {
    uv_loop_t *loop;
    struct net *net; /* Borrowed, as what follows. */
    /* Takes bind->fd, also on failure; NULL: the control plane is away. */
    struct link_channel *(*open)(void *ctx, const struct link_channel_open *open,
                                 const struct link_channel_bind *bind);
    void *ctx;
};

struct endpoints *endpoints_create(const struct endpoints_config *config);
/* Hangs up on all. NULL is a no-op. The loop must run once more afterwards. */
void endpoints_destroy(struct endpoints *all);
/* Listens. After net_want of the same record; again is the same as once. */
MUST_CHECK bool endpoints_want(struct endpoints *all, const struct link_endpoint *want,
                               struct err *err);
/* Before net_drop: hangs up on who is connected. */
void endpoints_drop(struct endpoints *all, const char *id);
