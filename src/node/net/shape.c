/* shape.c - see shape.h. */
#include "node/net/shape.h"
#include "node/net/links_impl.h"
#include <linux/if_ether.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>
#include <netlink/route/act/mirred.h>
#include <netlink/route/action.h>
#include <netlink/route/classifier.h>
#include <netlink/route/cls/u32.h>
#include <netlink/route/qdisc.h>
#include <netlink/route/qdisc/tbf.h>

#define BURST_MIN 65536  /* A whole segment that the guest offloads. */
#define BURST_MS 5       /* Of the rate: what the timer's grain needs. */
#define LATENCY_US 50000 /* What waits longer is dropped. */

AUTO_DEFINE(rtqdisc, struct rtnl_qdisc *, rtnl_qdisc_put)

static void
place(struct rtnl_qdisc *q, int index, uint32_t parent)
{
    rtnl_tc_set_ifindex(TC_CAST(q), index);
    rtnl_tc_set_parent(TC_CAST(q), parent);
}

static bool
drop_qdisc(struct links *links, int index, uint32_t parent, struct err *err)
{
    AUTO(rtqdisc) struct rtnl_qdisc *q = rtnl_qdisc_alloc();
    if (!q) {
        return err_set(err, ERR_SYSTEM, "shaping: out of memory");
    }
    place(q, index, parent);
    (void)rtnl_qdisc_delete(links->sock, q); /* Often there is none. */
    return true;
}

static bool
bucket(struct links *links, int index, uint64_t bps, struct err *err)
{
    AUTO(rtqdisc) struct rtnl_qdisc *q = rtnl_qdisc_alloc();
    uint64_t bytes = MIN(bps / 8, (uint64_t)INT32_MAX);
    int burst = (int)MIN(MAX(bytes * BURST_MS / 1000, (uint64_t)BURST_MIN),
                         (uint64_t)INT32_MAX / 4);
    if (bps == 0) {
        return drop_qdisc(links, index, TC_H_ROOT, err);
    }
    if (!q) {
        return err_set(err, ERR_SYSTEM, "shaping: out of memory");
    }
    place(q, index, TC_H_ROOT);
    rtnl_tc_set_handle(TC_CAST(q), TC_HANDLE(1, 0));
    int rc = rtnl_tc_set_kind(TC_CAST(q), "tbf");
    if (rc == 0) {
        rtnl_qdisc_tbf_set_rate(q, (int)bytes, burst, 0);
        rc = rtnl_qdisc_tbf_set_limit_by_latency(q, LATENCY_US);
    }
    if (rc == 0) {
        rc = rtnl_qdisc_add(links->sock, q, NLM_F_CREATE | NLM_F_REPLACE);
    }
    return rc < 0 ? links_fail(err, rc, "shape a link") : true;
}

static bool
ifb_make(struct links *links, const char *name, int *out_index, struct err *err)
{
    AUTO(rtlink) struct rtnl_link *link = rtnl_link_alloc();
    if (!link || rtnl_link_set_type(link, "ifb") < 0) {
        return err_set(err, ERR_SYSTEM, "ifb %s: out of memory", name);
    }
    rtnl_link_set_name(link, name);
    int rc = rtnl_link_add(links->sock, link, NLM_F_CREATE | NLM_F_EXCL);
    if (rc < 0 && rc != -NLE_EXIST) {
        return links_fail(err, rc, name);
    }
    return links_find(links, name, out_index, err) && links_up(links, *out_index, err);
}

/* Everything that comes in by the link goes on by way of the ifb. */
static bool
divert(struct links *links, int index, int ifb, struct err *err)
{
    AUTO(rtqdisc) struct rtnl_qdisc *q = rtnl_qdisc_alloc();
    struct rtnl_cls *cls = rtnl_cls_alloc();
    struct rtnl_act *act = rtnl_act_alloc();
    int rc = q && cls && act ? 0 : -NLE_NOMEM;
    if (rc == 0) {
        place(q, index, TC_H_INGRESS);
        rtnl_tc_set_handle(TC_CAST(q), TC_HANDLE(0xffffu, 0));
        rc = rtnl_tc_set_kind(TC_CAST(q), "ingress");
    }
    if (rc == 0) {
        rc = rtnl_qdisc_add(links->sock, q, NLM_F_CREATE | NLM_F_EXCL);
        if (rc == -NLE_EXIST) { /* Stands already, with its filter. */
            rtnl_act_put(act);
            rtnl_cls_put(cls);
            return true;
        }
    }
    if (rc == 0) {
        rtnl_tc_set_ifindex(TC_CAST(cls), index);
        rtnl_tc_set_parent(TC_CAST(cls), TC_HANDLE(0xffffu, 0));
        rtnl_cls_set_prio(cls, 1);
        rtnl_cls_set_protocol(cls, ETH_P_ALL);
        rc = rtnl_tc_set_kind(TC_CAST(cls), "u32");
    }
    if (rc == 0) {
        rc = rtnl_tc_set_kind(TC_CAST(act), "mirred");
    }
    if (rc == 0) {
        (void)rtnl_mirred_set_action(act, TCA_EGRESS_REDIR);
        (void)rtnl_mirred_set_policy(act, TC_ACT_STOLEN);
        (void)rtnl_mirred_set_ifindex(act, (uint32_t)ifb);
        (void)rtnl_u32_add_key_uint32(cls, 0, 0, 0, 0); /* Matches anything. */
        (void)rtnl_u32_set_cls_terminal(cls);
        rc = rtnl_u32_add_action(cls, act);
    }
    if (rc == 0) {
        rc = rtnl_cls_add(links->sock, cls, NLM_F_CREATE);
    }
    rtnl_act_put(act);
    rtnl_cls_put(cls);
    return rc < 0 ? links_fail(err, rc, "divert a link") : true;
}

bool
shape_port(struct links *links, int index, const char *ifb, uint64_t to_guest_bps,
           uint64_t from_guest_bps, struct err *err)
{
    int ifb_index;
    if (!bucket(links, index, to_guest_bps, err)) {
        return false;
    }
    if (from_guest_bps == 0) {
        return drop_qdisc(links, index, TC_H_INGRESS, err) &&
               links_drop(links, ifb, err);
    }
    return ifb_make(links, ifb, &ifb_index, err) &&
           bucket(links, ifb_index, from_guest_bps, err) &&
           divert(links, index, ifb_index, err);
}
