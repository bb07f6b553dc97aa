/* dnsmasq.h - the DHCP and DNS server of one VPC: a dnsmasq of its own.
 *
 * Purpose:  answers DHCP of known MACs only, and private names both ways; forwards nothing.
 * Files:    in a folder that dnsmasq's user can read: dnsmasq.conf, and one file a port in
 *           dhcp/ and in dns/, which dnsmasq takes up by itself when they appear; a
 *           deletion needs a signal. The configuration on disk is always that of the
 *           process that runs: it is written only while none does.
 * Process:  started when the configuration is known and again when it changes or dies; it
 *           outlives the agent and is adopted, found by its namespace.
 * Threads:  every call on the thread that runs 'loop'. */
#pragma once
#include "base/buf.h"
#include "node/net/addr.h"
#include <sys/types.h>
#include <uv.h>

struct dnsmasq;

struct dnsmasq_subnet {
    char bridge[IFNAMSIZ];
    struct cidr4 cidr;
    struct addr_block cidr6; /* Prefix 0: none. */
};

struct dnsmasq_host {
    const char *port_id, *mac, *hostname;
    uint32_t ipv4;
    const struct in6_addr *ipv6; /* NULL: none. */
    int mtu;                     /* 1 500 goes unsaid. */
};

struct dnsmasq_config {
    uv_loop_t *loop;
    const char *path, *user; /* Borrowed for the object's life. */
    const char *dir;
    int ns_fd;   /* Borrowed likewise. */
    pid_t found; /* One that already runs in the namespace; 0: none. */
};

/* The first address of a subnet is the router's, the second the name server's. */
uint32_t dnsmasq_router(const struct cidr4 *subnet);
uint32_t dnsmasq_resolver(const struct cidr4 *subnet);

/* A folder that dnsmasq's user can read, whatever the umask. */
MUST_CHECK bool dnsmasq_make_dir(const char *path, struct err *err);
MUST_CHECK struct dnsmasq *dnsmasq_open(const struct dnsmasq_config *config,
                                        struct err *err);
/* Forgets; the process goes on. The loop must run once more. */
void dnsmasq_close(struct dnsmasq *d);
/* Ends the process, removes its files, and forgets. */
void dnsmasq_destroy(struct dnsmasq *d);

/* What it serves, from now on; the process follows within some milliseconds. 'subnets'
 * is copied. None: it is not started. */
void dnsmasq_serve(struct dnsmasq *d, const char *domain,
                   const struct dnsmasq_subnet *subnets, size_t count);
MUST_CHECK bool dnsmasq_put_host(struct dnsmasq *d, const struct dnsmasq_host *host,
                                 struct err *err);
void dnsmasq_drop_host(struct dnsmasq *d, const char *port_id);
/* Drops each host whose port id is not picked. */
typedef bool dnsmasq_pick_fn(void *ctx, const char *port_id);
void dnsmasq_keep_hosts(struct dnsmasq *d, dnsmasq_pick_fn *keep, void *ctx);

/* Pure, for golden tests. */
void dnsmasq_config_text(const char *dir, const char *user, const char *domain,
                         const struct dnsmasq_subnet *subnets, size_t count,
                         const int *mtus, size_t mtu_count, struct buf *out);
void dnsmasq_host_text(const struct dnsmasq_host *host, const char *domain,
                       struct buf *out_dhcp, struct buf *out_dns);

/* Every dnsmasq on this host by network namespace, in one walk of /proc. */
struct dnsmasq_found {
    ino_t ns;
    pid_t pid;
};
size_t dnsmasq_scan(struct dnsmasq_found **out_found); /* malloc'ed. */
void dnsmasq_kill(pid_t pid); /* And waits until it is gone, half a second at most. */
void dnsmasq_kill_in(int ns_fd); /* All of a namespace. */
