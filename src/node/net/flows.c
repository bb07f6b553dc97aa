/* flows.c - tracked connections over libnetfilter_conntrack and libmnl: see flows.h. */
#include "node/net/flows.h"
#include "base/crypto.h"
#include "node/net/netns.h"
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_sctp.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#define BATCH_BYTES (32 * KIB) /* Sent at once... */
#define BATCH_FLOWS 64   /* ...and answered at once, within the socket's buffer. */
#define MESSAGE_MAX 1024 /* What one takes. */
#define SOCKET_BYTES (4 * MIB)

_Static_assert(FLOWS_TCP_STATES == TCP_CONNTRACK_MAX, "as the kernel counts them");
_Static_assert(FLOWS_SCTP_STATES <= SCTP_CONNTRACK_MAX, "as the kernel counts them");

AUTO_DEFINE(nfct, struct nf_conntrack *, nfct_destroy)

struct in6_addr
flow_ipv4(uint32_t ipv4)
{
    struct in6_addr ip = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    uint32_t be = htonl(ipv4);
    memcpy(&ip.s6_addr[12], &be, sizeof be);
    return ip;
}

bool
flow_is_ipv4(const struct in6_addr *ip, uint32_t *out_ipv4)
{
    uint32_t be;
    memcpy(&be, &ip->s6_addr[12], sizeof be);
    *out_ipv4 = ntohl(be);
    return IN6_IS_ADDR_V4MAPPED(ip);
}

bool
flow_protocol_ok(uint8_t protocol, bool is6)
{
    return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP ||
           protocol == IPPROTO_SCTP ||
           protocol == (is6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

static bool
is_icmp(const struct flow *f)
{
    return f->protocol == IPPROTO_ICMP || f->protocol == IPPROTO_ICMPV6;
}

static bool
same_end(const struct flow_end *a, const struct flow_end *b)
{
    return memcmp(&a->ip, &b->ip, sizeof a->ip) == 0 && a->port == b->port;
}

bool
flow_source_changed(const struct flow *flow)
{
    return !same_end(&flow->from, &flow->back_to);
}

bool
flow_target_changed(const struct flow *flow)
{
    return !same_end(&flow->to, &flow->back_from);
}

void
flow_ip_put(struct map *map, const struct in6_addr *ip, void *value)
{
    char key[2 * sizeof *ip + 1];
    hex_encode(ip, sizeof *ip, key);
    map_put(map, key, value);
}

void *
flow_ip_get(const struct map *map, const struct in6_addr *ip)
{
    char key[2 * sizeof *ip + 1];
    hex_encode(ip, sizeof *ip, key);
    return map_get(map, key);
}

/* ---- the kernel's words ---------------------------------------------------------------
 */

/* Where each end lies in the library's object. */
static const struct {
    size_t at;
    enum nf_conntrack_attr ipv4, ipv6, port;
} ends[] = {
    {offsetof(struct flow, from), ATTR_ORIG_IPV4_SRC, ATTR_ORIG_IPV6_SRC,
     ATTR_ORIG_PORT_SRC},
    {offsetof(struct flow, to), ATTR_ORIG_IPV4_DST, ATTR_ORIG_IPV6_DST,
     ATTR_ORIG_PORT_DST},
    {offsetof(struct flow, back_from), ATTR_REPL_IPV4_SRC, ATTR_REPL_IPV6_SRC,
     ATTR_REPL_PORT_SRC},
    {offsetof(struct flow, back_to), ATTR_REPL_IPV4_DST, ATTR_REPL_IPV6_DST,
     ATTR_REPL_PORT_DST},
};

/* False: of no family that is known. */
static bool
read_ends(const struct nf_conntrack *ct, struct flow *f)
{
    uint8_t family = nfct_get_attr_u8(ct, ATTR_ORIG_L3PROTO);
    f->is6 = family == AF_INET6;
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        struct flow_end *e = (struct flow_end *)(void *)((char *)f + ends[i].at);
        const void *ip6 = f->is6 ? nfct_get_attr(ct, ends[i].ipv6) : NULL;
        if (ip6) {
            memcpy(&e->ip, ip6, sizeof e->ip);
        } else if (family == AF_INET && nfct_attr_is_set(ct, ends[i].ipv4) > 0) {
            e->ip = flow_ipv4(ntohl(nfct_get_attr_u32(ct, ends[i].ipv4)));
        } else {
            return false;
        }
        e->port = is_icmp(f) ? 0 : ntohs(nfct_get_attr_u16(ct, ends[i].port));
    }
    return true;
}

/* False: none of ours. */
static bool
read_flow(const struct nf_conntrack *ct, struct flow *f)
{
    *f = (struct flow){.protocol = nfct_get_attr_u8(ct, ATTR_ORIG_L4PROTO)};
    if (!read_ends(ct, f) || nfct_get_attr_u16(ct, ATTR_ZONE) != 0) {
        return false;
    }
    uint32_t status = nfct_get_attr_u32(ct, ATTR_STATUS);
    f->id = htonl(nfct_get_attr_u32(ct, ATTR_ID)); /* The library turned it. */
    f->timeout_s = nfct_get_attr_u32(ct, ATTR_TIMEOUT);
    f->answered = status & IPS_SEEN_REPLY;
    f->assured = status & IPS_ASSURED;
    f->icmp_id = ntohs(nfct_get_attr_u16(ct, ATTR_ICMP_ID));
    f->icmp_type = nfct_get_attr_u8(ct, ATTR_ICMP_TYPE);
    f->icmp_code = nfct_get_attr_u8(ct, ATTR_ICMP_CODE);
    f->state = nfct_get_attr_u8(ct, f->protocol == IPPROTO_SCTP ? ATTR_SCTP_STATE
                                                                : ATTR_TCP_STATE);
    for (int i = 0; i < 2; i++) {
        f->tcp_flags[i] =
            nfct_get_attr_u8(ct, i ? ATTR_TCP_FLAGS_REPL : ATTR_TCP_FLAGS_ORIG);
        f->tcp_scales[i] =
            nfct_get_attr_u8(ct, i ? ATTR_TCP_WSCALE_REPL : ATTR_TCP_WSCALE_ORIG);
        f->sctp_tags[i] =
            nfct_get_attr_u32(ct, i ? ATTR_SCTP_VTAG_REPL : ATTR_SCTP_VTAG_ORIG);
    }
    return true;
}

static void
write_origin(struct nf_conntrack *ct, const struct flow *f)
{
    nfct_set_attr_u8(ct, ATTR_ORIG_L3PROTO, f->is6 ? AF_INET6 : AF_INET);
    nfct_set_attr_u8(ct, ATTR_ORIG_L4PROTO, f->protocol);
    for (size_t i = 0; i < 2; i++) { /* The other two follow. */
        const struct flow_end *e =
            (const struct flow_end *)(const void *)((const char *)f + ends[i].at);
        uint32_t ipv4;
        if (flow_is_ipv4(&e->ip, &ipv4)) {
            nfct_set_attr_u32(ct, ends[i].ipv4, htonl(ipv4));
        } else {
            nfct_set_attr(ct, ends[i].ipv6, &e->ip);
        }
        if (!is_icmp(f)) {
            nfct_set_attr_u16(ct, ends[i].port, htons(e->port));
        }
    }
    if (is_icmp(f)) {
        nfct_set_attr_u8(ct, ATTR_ICMP_TYPE, f->icmp_type);
        nfct_set_attr_u8(ct, ATTR_ICMP_CODE, f->icmp_code);
        nfct_set_attr_u16(ct, ATTR_ICMP_ID, htons(f->icmp_id));
    }
    nfct_setobjopt(ct, NFCT_SOPT_SETUP_REPLY);
}

static void
write_nat(struct nf_conntrack *ct, const struct flow *f)
{
    uint32_t ipv4;
    if (flow_source_changed(f) && flow_is_ipv4(&f->back_to.ip, &ipv4)) {
        nfct_set_attr_u32(ct, ATTR_SNAT_IPV4, htonl(ipv4));
        if (!is_icmp(f)) {
            nfct_set_attr_u16(ct, ATTR_SNAT_PORT, htons(f->back_to.port));
        }
    }
    if (flow_target_changed(f) && flow_is_ipv4(&f->back_from.ip, &ipv4)) {
        nfct_set_attr_u32(ct, ATTR_DNAT_IPV4, htonl(ipv4));
        if (!is_icmp(f)) {
            nfct_set_attr_u16(ct, ATTR_DNAT_PORT, htons(f->back_from.port));
        }
    }
}

/* The kernel does not tell how far each side's window goes, so what comes next may lie
 * outside of what it sees first: windows of a moved connection are its ends' affair. */
static void
write_tcp(struct nf_conntrack *ct, const struct flow *f)
{
    static const uint8_t kept = IP_CT_TCP_FLAG_WINDOW_SCALE | IP_CT_TCP_FLAG_SACK_PERM |
                                IP_CT_TCP_FLAG_CLOSE_INIT;
    nfct_set_attr_u8(ct, ATTR_TCP_STATE, f->state);
    for (int i = 0; i < 2; i++) {
        uint8_t flags = (f->tcp_flags[i] & kept) | IP_CT_TCP_FLAG_BE_LIBERAL;
        nfct_set_attr_u8(ct, i ? ATTR_TCP_FLAGS_REPL : ATTR_TCP_FLAGS_ORIG, flags);
        nfct_set_attr_u8(ct, i ? ATTR_TCP_MASK_REPL : ATTR_TCP_MASK_ORIG,
                         kept | IP_CT_TCP_FLAG_BE_LIBERAL);
        nfct_set_attr_u8(ct, i ? ATTR_TCP_WSCALE_REPL : ATTR_TCP_WSCALE_ORIG,
                         f->tcp_scales[i]);
    }
}

static void
write_state(struct nf_conntrack *ct, const struct flow *f)
{
    uint32_t status = IPS_CONFIRMED | (f->answered ? IPS_SEEN_REPLY : 0) |
                      (f->assured ? IPS_ASSURED : 0);
    nfct_set_attr_u32(ct, ATTR_STATUS, status);
    nfct_set_attr_u32(ct, ATTR_TIMEOUT, f->timeout_s);
    write_nat(ct, f);
    if (f->protocol == IPPROTO_TCP) {
        write_tcp(ct, f);
    } else if (f->protocol == IPPROTO_SCTP) {
        nfct_set_attr_u8(ct, ATTR_SCTP_STATE, f->state);
        nfct_set_attr_u32(ct, ATTR_SCTP_VTAG_ORIG, f->sctp_tags[0]);
        nfct_set_attr_u32(ct, ATTR_SCTP_VTAG_REPL, f->sctp_tags[1]);
    }
}

/* ---- asking ---------------------------------------------------------------------------
 */

static bool
open_here(void *ctx, struct err *err)
{
    struct mnl_socket **out = ctx;
    struct mnl_socket *sock = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
    if (!sock) {
        return err_sys(err, errno, "open netfilter's netlink");
    }
    if (mnl_socket_bind(sock, 0, MNL_SOCKET_AUTOPID) < 0) {
        int sys = errno;
        (void)mnl_socket_close(sock);
        return err_sys(err, sys, "bind netfilter's netlink");
    }
    int bytes = SOCKET_BYTES;
    (void)setsockopt(mnl_socket_get_fd(sock), SOL_SOCKET, SO_RCVBUFFORCE, &bytes,
                     sizeof bytes);
    *out = sock;
    return true;
}

static struct nlmsghdr *
put_header(void *at, int type, uint16_t flags, uint8_t family, uint32_t seq)
{
    struct nlmsghdr *h = mnl_nlmsg_put_header(at);
    h->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type);
    h->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    h->nlmsg_seq = seq;
    struct nfgenmsg *g = mnl_nlmsg_put_extra_header(h, sizeof *g);
    g->nfgen_family = family;
    g->version = NFNETLINK_V0;
    return h;
}

struct each {
    flows_fn *fn;
    void *ctx;
    bool any; /* Of protocols that cannot be put, too. */
};

static int
each_message(const struct nlmsghdr *h, void *ctx)
{
    const struct each *each = ctx;
    struct flow flow;
    AUTO(nfct) struct nf_conntrack *ct = nfct_new();
    if (!ct) {
        errno = ENOMEM;
        return MNL_CB_ERROR;
    }
    if (nfct_nlmsg_parse(h, ct) == 0 && read_flow(ct, &flow) &&
        (each->any || flow_protocol_ok(flow.protocol, flow.is6))) {
        each->fn(each->ctx, &flow);
    }
    return MNL_CB_OK;
}

static bool
ask_all(struct mnl_socket *sock, struct each *each, struct err *err)
{
    AUTO(free) char *in = xmalloc(64 * KIB);
    struct nlmsghdr *h = put_header(in, IPCTNL_MSG_CT_GET, NLM_F_DUMP, AF_UNSPEC, 1);
    if (mnl_socket_sendto(sock, h, h->nlmsg_len) < 0) {
        return err_sys(err, errno, "ask for tracked connections");
    }
    for (int rc = MNL_CB_OK; rc > MNL_CB_STOP;) {
        ssize_t n = mnl_socket_recvfrom(sock, in, 64 * KIB);
        rc = n < 0 ? -1
                   : mnl_cb_run(in, (size_t)n, 1, mnl_socket_get_portid(sock),
                                each_message, each);
        if (rc < 0) {
            return err_sys(err, errno, "read tracked connections");
        }
    }
    return true;
}

bool
flows_each(int ns_fd, flows_fn *fn, void *ctx, struct err *err)
{
    struct mnl_socket *sock;
    struct each each = {fn, ctx, false};
    if (!netns_run(ns_fd, open_here, &sock, err)) {
        return false;
    }
    bool ok = ask_all(sock, &each, err);
    (void)mnl_socket_close(sock);
    return ok;
}

/* ---- putting --------------------------------------------------------------------------
 */

/* Appends one message; false: out of memory, or it cannot be written down. */
static bool
put_flow(struct mnl_nlmsg_batch *batch, int type, const struct flow *f, uint32_t seq)
{
    AUTO(nfct) struct nf_conntrack *ct = nfct_new();
    if (!ct) {
        return false;
    }
    write_origin(ct, f);
    if (type == IPCTNL_MSG_CT_NEW) {
        write_state(ct, f);
    }
    struct nlmsghdr *h =
        put_header(mnl_nlmsg_batch_current(batch), type,
                   type == IPCTNL_MSG_CT_NEW ? NLM_F_CREATE | NLM_F_EXCL : 0,
                   f->is6 ? AF_INET6 : AF_INET, seq);
    if (nfct_nlmsg_build(h, ct) < 0) {
        return false;
    }
    (void)mnl_nlmsg_batch_next(batch);
    return true;
}

/* The kernel has worked all off when sendto returns, and answers only what failed. */
static bool
take_failures(struct mnl_socket *sock, int *results, size_t count, struct err *err)
{
    char in[16 * KIB];
    for (;;) {
        ssize_t n = recv(mnl_socket_get_fd(sock), in, sizeof in, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno == EAGAIN || err_sys(err, errno, "track connections");
        }
        int len = (int)n;
        for (struct nlmsghdr *h = (struct nlmsghdr *)in; mnl_nlmsg_ok(h, len);
             h = mnl_nlmsg_next(h, &len)) {
            if (h->nlmsg_type == NLMSG_ERROR && h->nlmsg_seq < count) {
                results[h->nlmsg_seq] =
                    ((struct nlmsgerr *)mnl_nlmsg_get_payload(h))->error;
            }
        }
    }
}

/* At most BATCH_FLOWS, each with its own result: 0 or -errno. */
static bool
change(struct mnl_socket *sock, int type, const struct flow *list, size_t count,
       int *results, struct err *err)
{
    AUTO(free) char *out = xmalloc(BATCH_BYTES + BATCH_FLOWS * MESSAGE_MAX);
    struct mnl_nlmsg_batch *batch =
        mnl_nlmsg_batch_start(out, BATCH_BYTES + (BATCH_FLOWS - 1) * MESSAGE_MAX);
    if (!batch) {
        return err_sys(err, ENOMEM, "track connections");
    }
    for (size_t i = 0; i < count; i++) {
        results[i] = put_flow(batch, type, &list[i], (uint32_t)i) ? 0 : -EINVAL;
    }
    ssize_t n = mnl_nlmsg_batch_is_empty(batch)
                    ? 0
                    : mnl_socket_sendto(sock, mnl_nlmsg_batch_head(batch),
                                        mnl_nlmsg_batch_size(batch));
    int sys = errno;
    mnl_nlmsg_batch_stop(batch);
    return n < 0 ? err_sys(err, sys, "track connections")
                 : take_failures(sock, results, count, err);
}

/* What stands in the way with the same ends is of an earlier stay: it is replaced. */
static bool
put_batch(struct mnl_socket *sock, const struct flow *list, size_t count, size_t *left,
          struct err *err)
{
    int results[BATCH_FLOWS], again[BATCH_FLOWS];
    struct flow old[BATCH_FLOWS];
    size_t olds = 0;
    if (!change(sock, IPCTNL_MSG_CT_NEW, list, count, results, err)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (results[i] == -EEXIST) {
            old[olds++] = list[i];
        }
        *left += results[i] < 0 && results[i] != -EEXIST;
    }
    if (olds > 0 && (!change(sock, IPCTNL_MSG_CT_DELETE, old, olds, again, err) ||
                     !change(sock, IPCTNL_MSG_CT_NEW, old, olds, again, err))) {
        return false;
    }
    for (size_t i = 0; i < olds; i++) {
        *left += again[i] < 0;
    }
    return true;
}

bool
flows_put(int ns_fd, const struct flow *list, size_t count, size_t *out_left,
          struct err *err)
{
    struct mnl_socket *sock;
    if (!netns_run(ns_fd, open_here, &sock, err)) {
        return false;
    }
    size_t left = 0;
    bool ok = true;
    for (size_t at = 0; ok && at < count; at += BATCH_FLOWS) {
        ok = put_batch(sock, list + at, MIN(count - at, (size_t)BATCH_FLOWS), &left,
                       err);
    }
    (void)mnl_socket_close(sock);
    if (ok) {
        *out_left = left;
    }
    return ok;
}

/* ---- counting -------------------------------------------------------------------------
 */

static int
take_count(const struct nlattr *attr, void *ctx)
{
    uint32_t *count = ctx;
    if (mnl_attr_get_type(attr) == CTA_STATS_GLOBAL_ENTRIES &&
        mnl_attr_validate(attr, MNL_TYPE_U32) == 0) {
        *count = ntohl(mnl_attr_get_u32(attr));
    }
    return MNL_CB_OK;
}

static int
count_message(const struct nlmsghdr *h, void *ctx)
{
    return mnl_attr_parse(h, sizeof(struct nfgenmsg), take_count, ctx);
}

/* How many the namespace tracks, of any protocol. */
static bool
count_here(struct mnl_socket *sock, uint32_t *out, struct err *err)
{
    char in[1024];
    struct nlmsghdr *h =
        put_header(in, IPCTNL_MSG_CT_GET_STATS, NLM_F_ACK, AF_UNSPEC, 1);
    if (mnl_socket_sendto(sock, h, h->nlmsg_len) < 0) {
        return err_sys(err, errno, "count tracked connections");
    }
    for (int rc = MNL_CB_OK; rc > MNL_CB_STOP;) {
        ssize_t n = mnl_socket_recvfrom(sock, in, sizeof in);
        rc = n < 0 ? -1
                   : mnl_cb_run(in, (size_t)n, 1, mnl_socket_get_portid(sock),
                                count_message, out);
        if (rc < 0) {
            return err_sys(err, errno, "count tracked connections");
        }
    }
    return true;
}

/* ---- forgetting -----------------------------------------------------------------------
 */

struct picked {
    flows_pick_fn *pick;
    void *ctx;
    VEC(struct flow) list;
};

static void
take_picked(void *ctx, const struct flow *flow)
{
    struct picked *p = ctx;
    if (p->pick(p->ctx, flow)) {
        VEC_PUSH(&p->list, *flow);
    }
}

static bool
forget_all(struct mnl_socket *sock, const struct flow *list, size_t count,
           struct err *err)
{
    int results[BATCH_FLOWS];
    for (size_t at = 0; at < count; at += BATCH_FLOWS) {
        size_t n = MIN(count - at, (size_t)BATCH_FLOWS);
        if (!change(sock, IPCTNL_MSG_CT_DELETE, list + at, n, results, err)) {
            return false;
        }
        for (size_t i = 0; i < n; i++) {
            if (results[i] < 0 && results[i] != -ENOENT) {
                return err_sys(err, -results[i], "forget a tracked connection");
            }
        }
    }
    return true;
}

bool
flows_forget(int ns_fd, flows_pick_fn *pick, void *ctx, struct err *err)
{
    struct mnl_socket *sock;
    struct picked picked = {.pick = pick, .ctx = ctx};
    struct each each = {take_picked, &picked, true};
    if (!netns_run(ns_fd, open_here, &sock, err)) {
        return false;
    }
    uint32_t count = 0;
    bool ok = count_here(sock, &count, err) &&
              (count == 0 || ask_all(sock, &each, err)) &&
              forget_all(sock, picked.list.items, picked.list.count, err);
    (void)mnl_socket_close(sock);
    VEC_FREE(&picked.list);
    return ok;
}
