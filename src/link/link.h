/* link.h - the stream between a node and the control plane.
 *
 * Purpose:  one framed, ordered stream, opened by the node, over STATE/link.sock or TCP
 *           with mutual TLS 1.3; it carries wanted records, reports, live calls and
 *           channels (tunnels, consoles, blobs).
 * Place:    above base/; knows records (link.schema), neither rows nor QEMU.
 * Frame:    u32 length of what follows (big-endian, at most LINK_FRAME_MAX), u8 type
 *           (enum link_frame), then a TLV record; CHANNEL_DATA has u32 channel and
 *           bytes.
 * Input:    everything received is a stranger's: bounded, and a frame that breaks the
 *           rules ends the stream.
 * Threads:  every object belongs to the thread that runs its loop.
 * Signals:  the program ignores SIGPIPE: libuv's writes, and those to pipes, would
 *           raise it. */
#pragma once
#include "base/desc.h"
#include "base/world.h"
#include "link/records.h" /* Generated: struct link_machine, link_machine_desc, ... */
#include <uv.h>

#define LINK_PROTOCOL 1
#define LINK_FRAME_MAX (4u << 20)
#define LINK_CLOCK_SKEW_NS (30 * NS_PER_S)

/* Kinds of records. Their numbers are on the wire and in rows: never reused. */
enum link_kind {
    LINK_MACHINE = 1,
    LINK_DISK = 2,
    LINK_BLOB = 3,
    LINK_BLOB_JOB = 4,
    LINK_NETWORK = 5,
    LINK_SUBNET = 6,
    LINK_PORT = 7,
    LINK_METADATA = 8,
    LINK_GROUP = 9,
    LINK_GROUP_MEMBER = 10,
    LINK_PREFIX_LIST = 11,
    LINK_ROUTE_TABLE = 12,
    LINK_ACL = 13,
    LINK_PEERING = 14,
    LINK_NAT_GATEWAY = 15,
    LINK_DHCP_OPTIONS = 16,
    LINK_FLOW_LOG = 17,
    LINK_UPLINK = 18,
    LINK_UNDERLAY = 19,
    LINK_NEIGHBOUR = 20,
    LINK_MIGRATION = 21,
    LINK_NAME = 22,
    LINK_ENDPOINT = 23,
    LINK_PUBLIC = 24,
    LINK_NODE = 32, /* Seen only. */
    LINK_EVENT = 33,
    LINK_FLOWS = 34,
    LINK_METER = 35,
    LINK_KINDS = 36,
};

enum link_frame {
    FRAME_HELLO = 1,
    FRAME_WELCOME,
    FRAME_REFUSE,
    FRAME_WANT,
    FRAME_SNAPSHOT_END,
    FRAME_REPORT,
    FRAME_ACK,
    FRAME_PING,
    FRAME_PONG,
    FRAME_CALL,
    FRAME_REPLY,
    FRAME_CHANNEL_OPEN,
    FRAME_CHANNEL_STATUS,
    FRAME_CHANNEL_DATA,
    FRAME_ENROLL,
    FRAME_ENROLLED,
    FRAME_RENEW,
    FRAME_LEASE_ASK,
    FRAME_LEASE,
};

/* Descriptor of a kind's wanted or seen record; NULL when it has none. */
const struct desc *link_want_desc(enum link_kind kind);
const struct desc *link_seen_desc(enum link_kind kind);
