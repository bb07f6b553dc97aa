/* metadata.h - the metadata service (169.254.169.254) and the time server
 * (169.254.169.123), for all guests of this host.
 *
 * Purpose:  tells each guest its own documents over HTTP, with IMDSv2's tokens, and the
 *           host's time over SNTP. Documents are leaves, path to bytes; folders follow
 *           from the paths. Nothing here knows what they mean.
 * Place:    part of the node; above net/, which makes its sockets inside the namespaces
 *           and knows who owns an address.
 * Process:  one child without privileges (own uid, no capabilities, no_new_privs, limits,
 *           few system calls) parses what guests send. It gets sockets and documents over
 *           a socketpair on descriptor 3, dies with the agent, and is started again when
 *           it dies: the sockets that listen are made anew, and guests see a connection
 *           refused for a moment at most.
 * Caller:   known by the listening socket (which VPC) and the source address (which port;
 *           anti-spoofing makes it true).
 * Threads:  every call on the thread that runs 'loop'.
 * Failure:  metadata_want fails only for a record that breaks the bounds below; a child
 *           that cannot be started is logged and tried again each second. */
#pragma once
#include "base/base.h"
#include "base/world.h"
#include <sys/types.h>
#include <uv.h>

struct net;
struct metadata;
struct link_metadata;

#define METADATA_LEAVES_MAX 512
#define METADATA_TREE_BYTES_MAX (256 * KIB) /* All paths and values of one port. */

struct metadata_config {
    uv_loop_t *loop;
    struct net *net; /* Borrowed; its watcher is taken. Outlives the metadata. */
    /* What to run as the child; must end in metadata_child_main(). NULL-terminated, for
     * the agent: {"/proc/self/exe", "--metadata-child", NULL}. */
    const char *const *child_argv;
    uid_t child_uid; /* 0: of user nobody. */
    gid_t child_gid; /* 0: of user nobody. */
    /* Where the key of tokens is kept (0600), so that they outlive the agent; NULL:
     * guests must fetch new ones after a restart. */
    const char *key_path;
    const struct clock *clock;
    const struct rng *rng;
};

MUST_CHECK struct metadata *metadata_open(const struct metadata_config *config,
                                          struct err *err);
/* Ends the child. NULL is a no-op. The loop must run once more afterwards. */
void metadata_close(struct metadata *metadata);

/* What to say to the port 'want->id', from now on. In any order with net_want_port;
 * until both are known the guest gets 404. Idempotent. */
MUST_CHECK bool metadata_want(struct metadata *metadata,
                              const struct link_metadata *want, struct err *err);
void metadata_drop(struct metadata *metadata, const char *port_id);

/* The child's whole life, on descriptor 3. moln-node calls it for '--metadata-child'
 * before anything else. */
NORETURN void metadata_child_main(void);
