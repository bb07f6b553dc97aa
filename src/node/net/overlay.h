/* overlay.h - a subnet across hosts: VXLAN with entries set by the agent.
 *
 * Purpose:  the host's side of it: a VXLAN device a subnet, made in the namespace of the
 *           underlay and moved into the VPC's, so that its packets leave there and its
 *           frames arrive here; forwarding entries by MAC; and the rule that takes VXLAN
 *           from enrolled nodes only.
 * Closed:   the device learns nothing and floods nowhere: what has no entry goes nowhere.
 * Threads:  those of 'struct links'. Each call is idempotent. */
#pragma once
#include "node/net/links.h"

struct overlay {
    uint32_t local; /* This node's underlay address. */
    int udp_port;
    int mtu;
};

struct overlay_link {
    const char *name;
    uint32_t vni;
    const uint8_t *mac; /* NULL: any. */
};

/* Made through 'underlay' (a socket in the underlay's namespace) straight into the VPC's. */
MUST_CHECK bool overlay_device(struct links *underlay, int vpc_ns_fd,
                               const struct overlay_link *device,
                               const struct overlay *overlay, struct err *err);
/* Removes the device in the VPC's namespace if it is there from before and was made for
 * another MAC, address, port or number. */
MUST_CHECK bool overlay_drop_stale(struct links *links,
                                   const struct overlay_link *device,
                                   const struct overlay *overlay, struct err *err);
/* Frames to 'mac' go to the node at 'node'. 'index' is of the device, in 'links'. */
MUST_CHECK bool overlay_forward(struct links *links, int index, const uint8_t mac[6],
                                uint32_t node, struct err *err);
MUST_CHECK bool overlay_drop_forward(struct links *links, int index,
                                     const uint8_t mac[6], struct err *err);
/* In the underlay's namespace: VXLAN's port is open to these addresses alone. */
MUST_CHECK bool overlay_guard(const uint32_t *peers, size_t count,
                              const struct overlay *overlay, const char *cloud_id,
                              struct err *err);
MUST_CHECK bool overlay_unguard(const char *cloud_id, struct err *err);
