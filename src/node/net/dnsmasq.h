/* dnsmasq.h - the DHCP and DNS server of one VPC: a dnsmasq of its own.
 *
 * Purpose:  answers DHCP, DHCPv6 and router solicitations of known MACs only, and private
 *           names both ways; forwards nothing.
 * Files:    in a folder that dnsmasq's user can read: dnsmasq.conf, hosts, in which each
 *           port has its lines, and names. A change of ports or names rewrites these once for
 *           all that came within a moment, and a signal has them read. The configuration on disk is always
 *           that of the process that runs: it is written only while none does.
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

#define DNSMASQ_NAME_ADDRESSES_MAX 32

/* A name besides those that are made of addresses. */
struct dnsmasq_name {
    char name[192];
    uint32_t ipv4[DNSMASQ_NAME_ADDRESSES_MAX];
    struct in6_addr ipv6[DNSMASQ_NAME_ADDRESSES_MAX];
    size_t ipv4_count, ipv6_count;
    bool reverse; /* Its addresses are called so; IPv6 ones are in any case. */
    bool public;  /* Left out where the plan has no public domain. */
};

#define DNSMASQ_SERVERS_MAX 4

/* Servers that DHCP names; text that addr_parse_ipv4 or addr_parse_ipv6 reads, or, of name
 * servers, DNSMASQ_OWN. Count 0: the network's own. */
#define DNSMASQ_OWN "AmazonProvidedDNS"
struct dnsmasq_servers {
    char items[DNSMASQ_SERVERS_MAX][ADDR_BLOCK_LEN];
    size_t count;
};

/* What DHCP says besides addresses: a set of DHCP options. All zero: the network's own. */
struct dnsmasq_options {
    char domain[192]; /* Of guests; several between spaces; empty: none. */
    struct dnsmasq_servers names, time, netbios;
    int netbios_node_type; /* 0: unsaid. */
};

#define DNSMASQ_BLOCKS_MAX 32
#define DNSMASQ_DOMAINS_MAX 8

/* All that it serves but the hosts. */
struct dnsmasq_plan {
    char domain[192]; /* Of private names: ip-10-0-0-5.DOMAIN; empty: there are none. */
    struct cidr4 blocks[DNSMASQ_BLOCKS_MAX]; /* Whose addresses have such names. */
    size_t block_count;
    /* ec2-203-0-113-5.PUBLIC_DOMAIN is that address, where no name says otherwise; empty:
     * there are no such names. */
    char public_domain[192];
    /* What is not known in these does not exist, and what is known has no more than what is
     * known; in others questions are refused, so that another server is asked. */
    char own_domains[DNSMASQ_DOMAINS_MAX][192];
    size_t own_domain_count;
    struct dnsmasq_options options;
    bool dns_off; /* Resolves nothing for anybody. */
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
/* Forgets; the process goes on: it ends with its namespace (net.h). The loop must run once
 * more. */
void dnsmasq_close(struct dnsmasq *d);

/* What it serves, from now on; the process follows within some milliseconds. 'plan' and
 * 'subnets' are copied. No subnets: it is not started. */
void dnsmasq_serve(struct dnsmasq *d, const struct dnsmasq_plan *plan,
                   const struct dnsmasq_subnet *subnets, size_t count);
/* Likewise within some milliseconds; what could not be written is tried again. */
void dnsmasq_put_host(struct dnsmasq *d, const struct dnsmasq_host *host);
void dnsmasq_drop_host(struct dnsmasq *d, const char *port_id);
/* Likewise; 'name' is copied. */
void dnsmasq_put_name(struct dnsmasq *d, const char *id,
                      const struct dnsmasq_name *name);
void dnsmasq_drop_name(struct dnsmasq *d, const char *id);
/* The port is another machine's now, or its machine's anew: what it leased under another
 * identity is forgotten, since DHCPv6 keeps an address for the identity that asked first. */
void dnsmasq_plugged(struct dnsmasq *d, const char *port_id);

/* Pure, for golden tests. */
struct dnsmasq_text {
    const char *dir, *user;
    const struct dnsmasq_plan *plan;
    const struct dnsmasq_subnet *subnets;
    size_t subnet_count;
    const int *mtus; /* Other than 1 500, that some host has. */
    size_t mtu_count;
};
void dnsmasq_config_text(const struct dnsmasq_text *text, struct buf *out);
void dnsmasq_host_text(const struct dnsmasq_host *host, struct buf *out);
void dnsmasq_names_text(const struct dnsmasq_name *const *names, size_t count,
                        const struct dnsmasq_plan *plan, struct buf *out);
/* Whether the servers can stand in the file. */
bool dnsmasq_servers_ok(const struct dnsmasq_servers *servers, bool of_names);

/* Every dnsmasq on this host by network namespace, in one walk of /proc. */
struct dnsmasq_found {
    ino_t ns;
    pid_t pid;
};
size_t dnsmasq_scan(struct dnsmasq_found **out_found); /* malloc'ed. */
void dnsmasq_kill(pid_t pid); /* And waits until it is gone, half a second at most. */
void dnsmasq_kill_in(int ns_fd); /* All of a namespace. */
