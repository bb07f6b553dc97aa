/* elems.c - set elements over libnftnl and libmnl: see elems.h. */
#include "node/net/elems.h"
#include "base/map.h"
#include "node/net/rules.h"
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/object.h>
#include <libnftnl/set.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <net/if.h>

#define BATCH_ELEMS 4096  /* In one transaction. */
#define MESSAGE_ELEMS 200 /* Of one set, in one message: its attribute has 64 KiB. */
#define ELEM_BYTES 288    /* What one takes of a message, at most. */
#define SOCKET_BYTES (8 * MIB)

static const char *const tap_sets[] = {"macs", "from4",  "to4",      "bind6",
                                       "nd6",  "borrow", "port_src", "port_dst"};

struct elems {
    struct mnl_socket *sock;
    uint32_t seq;
    bool held;
    VEC(struct elem) waiting;
};

AUTO_DEFINE(nlset, struct nftnl_set *, nftnl_set_free)

/* ---- one element ----------------------------------------------------------------------
 */

struct elem
elem_in(uint8_t family, const char *set)
{
    struct elem e = {.family = family};
    (void)snprintf(e.set, sizeof e.set, "%s", set);
    return e;
}

/* Each part of a key is padded to a multiple of four bytes. */
static void
key_part(struct elem *e, const void *bytes, size_t len, size_t room)
{
    if (e->key_len + room <= sizeof e->key) {
        memcpy(e->key + e->key_len, bytes, len);
        e->key_len = (uint8_t)(e->key_len + room);
    }
}

void
elem_key_link(struct elem *e, const char *name)
{
    key_part(e, name, strnlen(name, IFNAMSIZ - 1), IFNAMSIZ);
}

void
elem_key_mac(struct elem *e, const uint8_t mac[6])
{
    key_part(e, mac, 6, 8);
}

void
elem_key_ipv4(struct elem *e, uint32_t ipv4)
{
    uint32_t be = htonl(ipv4);
    key_part(e, &be, sizeof be, sizeof be);
}

void
elem_key_ipv6(struct elem *e, const struct in6_addr *ipv6)
{
    key_part(e, ipv6, sizeof *ipv6, sizeof *ipv6);
}

void
elem_key_mark(struct elem *e, uint32_t mark)
{
    key_part(e, &mark, sizeof mark, sizeof mark);
}

void
elem_to_mark(struct elem *e, uint32_t mark)
{
    memcpy(e->data, &mark, sizeof mark);
    e->data_len = sizeof mark;
}

void
elem_to_ipv4(struct elem *e, uint32_t ipv4)
{
    elem_to_mark(e, htonl(ipv4));
}

void
elem_to_chain(struct elem *e, const char *chain, bool jump)
{
    (void)snprintf(e->chain, sizeof e->chain, "%s", chain);
    e->jump = jump;
}

bool
elem_same_key(const struct elem *a, const struct elem *b)
{
    return a->family == b->family && a->key_len == b->key_len &&
           str_eq(a->set, b->set) && memcmp(a->key, b->key, a->key_len) == 0;
}

bool
elem_equal(const struct elem *a, const struct elem *b)
{
    return elem_same_key(a, b) && a->data_len == b->data_len &&
           memcmp(a->data, b->data, a->data_len) == 0 && str_eq(a->chain, b->chain) &&
           a->jump == b->jump;
}

bool
elem_is_of(const struct elem *elem, const char *tap)
{
    return elem->key_len >= IFNAMSIZ &&
           strncmp((const char *)elem->key, tap, IFNAMSIZ) == 0;
}

struct elems *
elems_open(struct err *err)
{
    struct mnl_socket *sock = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
    if (!sock) {
        (void)err_sys(err, errno, "open netfilter's netlink");
        return NULL;
    }
    if (mnl_socket_bind(sock, 0, MNL_SOCKET_AUTOPID) < 0) {
        (void)err_sys(err, errno, "bind netfilter's netlink");
        (void)mnl_socket_close(sock);
        return NULL;
    }
    int bytes = SOCKET_BYTES; /* A whole transaction is one message. */
    int fd = mnl_socket_get_fd(sock);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
    struct elems *elems = xcalloc(1, sizeof *elems);
    elems->sock = sock;
    elems->seq = 1;
    return elems;
}

void
elems_close(struct elems *elems)
{
    if (elems) {
        (void)mnl_socket_close(elems->sock);
        VEC_FREE(&elems->waiting);
        free(elems);
    }
}

/* Takes answers until nothing waits in the socket: the kernel has worked the whole
 * batch off when sendto returns. The first error is returned, or 0. */
static int
take_answers(struct elems *elems)
{
    int first = 0;
    char in[16 * KIB];
    for (;;) {
        ssize_t n = recv(mnl_socket_get_fd(elems->sock), in, sizeof in, MSG_DONTWAIT);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno == EAGAIN ? first : -errno;
        }
        int len = (int)n;
        for (struct nlmsghdr *h = (struct nlmsghdr *)in; mnl_nlmsg_ok(h, len);
             h = mnl_nlmsg_next(h, &len)) {
            if (h->nlmsg_type == NLMSG_ERROR && first == 0) {
                first = ((struct nlmsgerr *)mnl_nlmsg_get_payload(h))->error;
            }
        }
    }
}

static struct nftnl_set_elem *
item_of(const struct elem *e, bool with_value)
{
    struct nftnl_set_elem *item = nftnl_set_elem_alloc();
    if (!item) {
        return NULL;
    }
    nftnl_set_elem_set(item, NFTNL_SET_ELEM_KEY, e->key, e->key_len);
    if (e->chain[0] != '\0' && with_value) {
        nftnl_set_elem_set_u32(item, NFTNL_SET_ELEM_VERDICT,
                               (uint32_t)(e->jump ? NFT_JUMP : NFT_GOTO));
        nftnl_set_elem_set_str(item, NFTNL_SET_ELEM_CHAIN, e->chain);
    } else if (e->data_len > 0 && with_value) {
        nftnl_set_elem_set(item, NFTNL_SET_ELEM_DATA, e->data, e->data_len);
    }
    return item;
}

/* Elements of one set. */
static struct nftnl_set *
set_of(const struct elem *const *list, size_t count, bool with_value)
{
    AUTO(nlset) struct nftnl_set *set = nftnl_set_alloc();
    if (!set) {
        return NULL;
    }
    nftnl_set_set_str(set, NFTNL_SET_TABLE, RULES_TABLE);
    nftnl_set_set_str(set, NFTNL_SET_NAME, list[0]->set);
    for (size_t i = 0; i < count; i++) {
        struct nftnl_set_elem *item = item_of(list[i], with_value);
        if (!item) {
            return NULL;
        }
        nftnl_set_elem_add(set, item);
    }
    return take_nlset(&set);
}

/* Appends one message to a transaction; 0 or -errno. */
static int
put_change(struct elems *elems, struct mnl_nlmsg_batch *batch, int type,
           const struct elem *const *list, size_t count)
{
    AUTO(nlset) struct nftnl_set *set = set_of(list, count, type == NFT_MSG_NEWSETELEM);
    if (!set) {
        return -ENOMEM;
    }
    struct nlmsghdr *h = nftnl_nlmsg_build_hdr(
        mnl_nlmsg_batch_current(batch), (uint16_t)type, list[0]->family,
        type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0, elems->seq++);
    nftnl_set_elems_nlmsg_build_payload(h, set);
    (void)mnl_nlmsg_batch_next(batch);
    return 0;
}

static bool
same_set(const struct elem *a, const struct elem *b)
{
    return a->family == b->family && str_eq(a->set, b->set);
}

/* By set; within a set in the order they were given, which is that of their addresses. */
static int
by_set(const void *a, const void *b)
{
    const struct elem *x = *(const struct elem *const *)a;
    const struct elem *y = *(const struct elem *const *)b;
    int order = x->family - y->family;
    order = order ? order : strcmp(x->set, y->set);
    return order ? order : (x > y) - (x < y);
}

static int
put_changes(struct elems *elems, struct mnl_nlmsg_batch *batch, int type,
            const struct elem *const *list, size_t count)
{
    int rc = 0;
    for (size_t i = 0, n; i < count && rc == 0; i += n) {
        n = 1;
        while (i + n < count && n < MESSAGE_ELEMS && same_set(list[i], list[i + n])) {
            n++;
        }
        rc = put_change(elems, batch, type, &list[i], n);
    }
    return rc;
}

/* One transaction: removes 'list' where 'del', adds it where 'add'; 0 or -errno of the
 * first element that failed. */
static int
commit(struct elems *elems, bool del, bool add, const struct elem *list, size_t count)
{
    size_t room = (2 * count + 4) * ELEM_BYTES;
    AUTO(free) char *data = xmalloc(room + MNL_SOCKET_BUFFER_SIZE);
    AUTO(free) const struct elem **sorted = xcalloc(count + 1, sizeof *sorted);
    struct mnl_nlmsg_batch *batch = mnl_nlmsg_batch_start(data, room);
    if (!batch) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        sorted[i] = &list[i];
    }
    qsort(sorted, count, sizeof *sorted, by_set);
    nftnl_batch_begin(mnl_nlmsg_batch_current(batch), elems->seq++);
    (void)mnl_nlmsg_batch_next(batch);
    int rc = del ? put_changes(elems, batch, NFT_MSG_DELSETELEM, sorted, count) : 0;
    if (add && rc == 0) {
        rc = put_changes(elems, batch, NFT_MSG_NEWSETELEM, sorted, count);
    }
    nftnl_batch_end(mnl_nlmsg_batch_current(batch), elems->seq++);
    (void)mnl_nlmsg_batch_next(batch);
    if (rc == 0 && mnl_socket_sendto(elems->sock, mnl_nlmsg_batch_head(batch),
                                     mnl_nlmsg_batch_size(batch)) < 0) {
        rc = -errno;
    }
    mnl_nlmsg_batch_stop(batch);
    return rc == 0 ? take_answers(elems) : rc;
}

/* A map may hold another value for a key: those are replaced one by one, each in a
 * transaction of its own; then the rest, which is all that is left to add. */
static int
add_replacing(struct elems *elems, const struct elem *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int rc = commit(elems, false, true, &list[i], 1);
        if (rc == -EBUSY || rc == -EEXIST) {
            rc = commit(elems, true, true, &list[i], 1);
        }
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static bool
add_now(struct elems *elems, const struct elem *list, size_t count, struct err *err)
{
    for (size_t at = 0; at < count; at += BATCH_ELEMS) {
        size_t n = MIN(count - at, (size_t)BATCH_ELEMS);
        int rc = commit(elems, false, true, list + at, n);
        if (rc == -EBUSY || rc == -EEXIST) {
            rc = add_replacing(elems, list + at, n);
        }
        if (rc < 0) {
            return err_sys(err, -rc, "add to packet rules");
        }
    }
    return true;
}

bool
elems_add(struct elems *elems, const struct elem *list, size_t count, struct err *err)
{
    if (!elems->held) {
        return add_now(elems, list, count, err);
    }
    for (size_t i = 0; i < count; i++) {
        VEC_PUSH(&elems->waiting, list[i]);
    }
    return true;
}

void
elems_hold(struct elems *elems)
{
    elems->held = true;
}

bool
elems_flush(struct elems *elems, struct err *err)
{
    if (!add_now(elems, elems->waiting.items, elems->waiting.count, err)) {
        return false;
    }
    elems->held = false;
    VEC_FREE(&elems->waiting);
    return true;
}

bool
elems_del(struct elems *elems, const struct elem *list, size_t count, struct err *err)
{
    if (count == 0 ||
        (count <= BATCH_ELEMS && commit(elems, true, false, list, count) == 0)) {
        return true;
    }
    /* One by one: an element that is not there undoes the others' transaction. */
    for (size_t i = 0; i < count; i++) {
        int rc = commit(elems, true, false, &list[i], 1);
        if (rc < 0 && rc != -ENOENT) {
            return err_sys(err, -rc, "remove from packet rules");
        }
    }
    return true;
}

struct listing {
    struct elem like;        /* Family and set of what is read. */
    elems_pick_fn *unwanted; /* NULL: all of it is. */
    elems_count_fn *counted; /* Or NULL: told first. */
    void *ctx;
    VEC(struct elem) found;
};

static int
read_counter(struct nftnl_expr *expr, void *ctx)
{
    struct elem_count *out = ctx;
    if (str_eq(nftnl_expr_get_str(expr, NFTNL_EXPR_NAME), "counter")) {
        out->packets = nftnl_expr_get_u64(expr, NFTNL_EXPR_CTR_PACKETS);
        out->bytes = nftnl_expr_get_u64(expr, NFTNL_EXPR_CTR_BYTES);
    }
    return 0;
}

static int
list_item(struct nftnl_set_elem *item, void *ctx)
{
    struct listing *l = ctx;
    uint32_t len = 0;
    const void *key = nftnl_set_elem_get(item, NFTNL_SET_ELEM_KEY, &len);
    struct elem e = l->like;
    if (!key || len > sizeof e.key) {
        return 0;
    }
    memcpy(e.key, key, len);
    e.key_len = (uint8_t)len;
    const char *chain = nftnl_set_elem_get_str(item, NFTNL_SET_ELEM_CHAIN);
    const void *data = nftnl_set_elem_get(item, NFTNL_SET_ELEM_DATA, &len);
    if (chain) {
        elem_to_chain(&e, chain,
                      (int)nftnl_set_elem_get_u32(item, NFTNL_SET_ELEM_VERDICT) ==
                          NFT_JUMP);
    } else if (data && len == sizeof e.data) {
        memcpy(e.data, data, len);
        e.data_len = (uint8_t)len;
    }
    if (l->counted) {
        struct elem_count count = {0};
        (void)nftnl_set_elem_expr_foreach(item, read_counter, &count);
        count.left_ms = nftnl_set_elem_is_set(item, NFTNL_SET_ELEM_EXPIRATION)
                            ? nftnl_set_elem_get_u64(item, NFTNL_SET_ELEM_EXPIRATION)
                            : 0;
        l->counted(l->ctx, &e, &count);
        return 0;
    }
    if (!l->unwanted || l->unwanted(l->ctx, &e)) {
        VEC_PUSH(&l->found, e);
    }
    return 0;
}

static int
list_message(const struct nlmsghdr *h, void *ctx)
{
    AUTO(nlset) struct nftnl_set *set = nftnl_set_alloc();
    if (!set || nftnl_set_elems_nlmsg_parse(h, set) < 0) {
        return MNL_CB_ERROR;
    }
    (void)nftnl_set_elem_foreach(set, list_item, ctx);
    return MNL_CB_OK;
}

/* Asks, and gives each message of the answer to 'fn'; 0 or -errno. */
static int
ask(struct elems *elems, struct nlmsghdr *h, uint32_t seq, mnl_cb_t fn, void *ctx)
{
    if (mnl_socket_sendto(elems->sock, h, h->nlmsg_len) < 0) {
        return -errno;
    }
    AUTO(free) char *in = xmalloc(64 * KIB);
    for (int rc = MNL_CB_OK; rc > MNL_CB_STOP;) {
        ssize_t n = mnl_socket_recvfrom(elems->sock, in, 64 * KIB);
        if (n < 0) {
            return -errno;
        }
        rc =
            mnl_cb_run(in, (size_t)n, seq, mnl_socket_get_portid(elems->sock), fn, ctx);
        if (rc < 0) {
            return -errno;
        }
    }
    return 0;
}

/* Asks for a set's elements and collects the unwanted; 0 or -errno. */
static int
list_set(struct elems *elems, struct listing *l)
{
    char data[4 * KIB];
    AUTO(nlset) struct nftnl_set *set = nftnl_set_alloc();
    if (!set) {
        return -ENOMEM;
    }
    uint32_t seq = elems->seq++;
    struct nlmsghdr *h = nftnl_nlmsg_build_hdr(data, NFT_MSG_GETSETELEM, l->like.family,
                                               NLM_F_DUMP, seq);
    nftnl_set_set_str(set, NFTNL_SET_TABLE, RULES_TABLE);
    nftnl_set_set_str(set, NFTNL_SET_NAME, l->like.set);
    nftnl_set_elems_nlmsg_build_payload(h, set);
    return ask(elems, h, seq, list_message, l);
}

struct each {
    elems_fn *fn;
    void *ctx;
};

/* Collects nothing: a set may be large. */
static bool
each_item(void *ctx, const struct elem *e)
{
    const struct each *each = ctx;
    each->fn(each->ctx, e);
    return false;
}

bool
elems_each(struct elems *elems, const struct elem *like, elems_fn *fn, void *ctx,
           struct err *err)
{
    struct each each = {fn, ctx};
    struct listing l = {.like = *like, .unwanted = each_item, .ctx = &each};
    int rc = list_set(elems, &l);
    return rc == 0 || err_sys(err, -rc, "list packet rules' set %s", like->set);
}

bool
elems_counted(struct elems *elems, const struct elem *like, elems_count_fn *fn,
              void *ctx, struct err *err)
{
    struct listing l = {.like = *like, .counted = fn, .ctx = ctx};
    int rc = list_set(elems, &l);
    return rc == 0 || err_sys(err, -rc, "list packet rules' set %s", like->set);
}

static int
read_object(const struct nlmsghdr *h, void *ctx)
{
    struct nftnl_obj *obj = nftnl_obj_alloc();
    uint64_t *out = ctx;
    if (obj && nftnl_obj_nlmsg_parse(h, obj) == 0) {
        *out = nftnl_obj_get_u64(obj, NFTNL_OBJ_CTR_PKTS);
    }
    nftnl_obj_free(obj);
    return MNL_CB_OK;
}

bool
elems_counter(struct elems *elems, const char *name, uint64_t *out_packets,
              struct err *err)
{
    char data[4 * KIB];
    struct nftnl_obj *obj = nftnl_obj_alloc();
    if (!obj) {
        return err_set(err, ERR_SYSTEM, "counter: out of memory");
    }
    uint32_t seq = elems->seq++;
    struct nlmsghdr *h =
        nftnl_nlmsg_build_hdr(data, NFT_MSG_GETOBJ, NFPROTO_INET, NLM_F_ACK, seq);
    nftnl_obj_set_str(obj, NFTNL_OBJ_TABLE, RULES_TABLE);
    nftnl_obj_set_str(obj, NFTNL_OBJ_NAME, name);
    nftnl_obj_set_u32(obj, NFTNL_OBJ_TYPE, NFT_OBJECT_COUNTER);
    nftnl_obj_nlmsg_build_payload(h, obj);
    nftnl_obj_free(obj);
    int rc = ask(elems, h, seq, read_object, out_packets);
    return rc == 0 || err_sys(err, -rc, "read counter %s", name);
}

bool
elems_del_where(struct elems *elems, elems_pick_fn *unwanted, void *ctx,
                struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(tap_sets); i++) {
        struct listing l = {.like = elem_in(NFPROTO_BRIDGE, tap_sets[i]),
                            .unwanted = unwanted,
                            .ctx = ctx};
        int rc = list_set(elems, &l);
        bool ok = rc == 0 ? elems_del(elems, l.found.items, l.found.count, err)
                          : err_sys(err, -rc, "list packet rules' set %s", tap_sets[i]);
        VEC_FREE(&l.found);
        if (!ok) {
            return false;
        }
    }
    return true;
}

/* ---- what is there, made what is wanted --------------------------------------------- */

static int
compare(const void *a, const void *b)
{
    const struct elem *x = a, *y = b;
    int order = x->family - y->family;
    order = order ? order : strcmp(x->set, y->set);
    order = order ? order : x->key_len - y->key_len;
    return order ? order : memcmp(x->key, y->key, x->key_len);
}

struct sync {
    struct elem *want;
    size_t count;
    bool *seen;
};

/* Whether what was read is not wanted so; marks what is. */
static bool
is_drift(void *ctx, const struct elem *e)
{
    struct sync *s = ctx;
    struct elem *w =
        s->count == 0 ? NULL : bsearch(e, s->want, s->count, sizeof *s->want, compare);
    if (w && elem_equal(w, e)) {
        s->seen[w - s->want] = true;
        return false;
    }
    return !w; /* Another value: replaced by the addition, below. */
}

bool
elems_sync(struct elems *elems, const struct elem *sets, size_t set_count,
           struct elem *want, size_t count, size_t *out_drift, struct err *err)
{
    if (count > 0) {
        qsort(want, count, sizeof *want, compare);
    }
    AUTO(free) bool *seen = xcalloc(count + 1, sizeof *seen);
    struct sync s = {.want = want, .count = count, .seen = seen};
    size_t drift = 0;
    for (size_t i = 0; i < set_count; i++) {
        struct listing l = {.like = sets[i], .unwanted = is_drift, .ctx = &s};
        int rc = list_set(elems, &l);
        bool ok = rc == 0 ? elems_del(elems, l.found.items, l.found.count, err)
                          : err_sys(err, -rc, "list packet rules' set %s", sets[i].set);
        drift += l.found.count;
        VEC_FREE(&l.found);
        if (!ok) {
            return false;
        }
    }
    VEC(struct elem) missing = {0};
    for (size_t i = 0; i < count; i++) {
        bool twice = i > 0 && compare(&want[i], &want[i - 1]) == 0;
        if (!seen[i] && !twice) {
            VEC_PUSH(&missing, want[i]);
        }
    }
    drift += missing.count;
    bool ok = add_now(elems, missing.items, missing.count, err);
    VEC_FREE(&missing);
    *out_drift += drift;
    return ok;
}
