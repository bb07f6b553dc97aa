/* conntrack.h - the connections of one port, to take along when it moves to another host.
 *
 * Purpose:  without them, what was open before the move would be judged as new: answers and
 *           inbound connections through a group that lets nobody in would stop. An export
 *           is read on the old host and given to an import on the new one.
 * Place:    part of net.h, for whoever moves machines.
 * Bytes:    link.schema's records 'flow', each behind its length in two bytes, the high one
 *           first; they go through strangers' hands. They may be cut where a record ends,
 *           and the parts imported one after another.
 * Which:    ICMP, TCP, UDP and SCTP between one of the port's private addresses and anybody
 *           but the router and its services; translations of its public addresses and of the
 *           network's NAT gateways among them. The kernel tells how a TCP connection stands,
 *           but not how far its windows go: those of a moved connection are not checked.
 * Order:    import after net_want_port, before the guest runs. Importing twice is the same
 *           as once. The old host's entries stay: they are needed where the other end lives.
 * Threads:  as net.h. A call waits for the kernel: 40 ms of processor time for
 *           10,000 connections, on the machine of docs/networking.md's other figures. */
#pragma once
#include "base/desc.h"
#include "node/net/net.h"

/* More are left behind, and counted. */
#define CONNTRACK_FLOWS_MAX 65536

struct conntrack_count {
    size_t moved;
    size_t left; /* Beyond the limit, not the port's here, or refused by the kernel. */
};

/* Appends to 'out', which should be empty. Connections that stand as 'known', an earlier export
 * of the port's, has them are left out; all but how long they may stay idle counts.
 *
 * Errors:   ERR_NOT_FOUND without such a port; ERR_TOO_LARGE where out->limit is too small.
 * Result:   '*out_count', on success. */
MUST_CHECK bool conntrack_export(struct net *net, const char *port_id,
                                 struct blob known, struct buf *out,
                                 struct conntrack_count *out_count, struct err *err);

/* What the port may not have is left out and counted: connections of addresses that are not
 * its own here, and those with another port of this host, whose groups judge for
 * themselves. One entry that cannot be at all refuses the whole.
 *
 * Errors:   ERR_NOT_FOUND without such a port; ERR_CORRUPT or ERR_INVALID for what no export
 *           writes: nothing has been changed then.
 * Result:   '*out_count', on success. */
MUST_CHECK bool conntrack_import(struct net *net, const char *port_id, const void *data,
                                 size_t len, struct conntrack_count *out_count,
                                 struct err *err);
