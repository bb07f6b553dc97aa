/* passthrough.h - ports that are cards of a network outside: on no bridge of ours.
 *
 * Purpose:  the operator lends an interface of the host (an uplink of mode passthrough). A port
 *           that names it is a macvtap on that interface: what the guest sends is on the
 *           provider's network, without a router of ours between. Or a virtual function of
 *           the interface itself, handed to the guest by VFIO (passthrough_vfio.c).
 *           The macvtaps stand in a namespace of their own, moln-CLOUDID-passthrough, which
 *           routes nothing and has no address; so a frame that no guest takes ends there.
 * Closed:   a macvtap has a table of the netdev family, before it is up: at its egress hook
 *           what the guest says, at its ingress hook what it hears. Connection tracking is
 *           not to be had there, so the table keeps the flows that groups let through in
 *           sets of its own, and lets their answers pass. An uplink that is 'unfiltered' has
 *           its ports bound to their MAC alone.
 * Place:    part of net.h; over policy.h, links.h, rules.h.
 * Threads:  as net.h. Each call is idempotent. */
#pragma once
#include "base/buf.h"
#include "base/vfio.h"
#include "node/net/uplink.h"

/* Whether the port is one of these. */
bool passthrough_is(const struct port *port);
/* The port's card, new: as net_tap_open says. Its rules stand before it is up. */
MUST_CHECK bool passthrough_open(struct net *net, struct port *port, int *out_fd,
                                 struct err *err);
/* The port's virtual function, of an uplink with those. */
MUST_CHECK bool passthrough_function_open(struct net *net, const struct port *port,
                                          struct vfio_function *out, struct err *err);
/* The port's rules as groups and addresses are now, where it has a card. */
MUST_CHECK bool passthrough_refresh(struct net *net, struct port *port,
                                    struct err *err);
MUST_CHECK bool passthrough_refresh_all(struct net *net, const struct network *network,
                                        struct err *err);
/* The card goes, even where a guest holds it; then its rules. None: success. */
MUST_CHECK bool passthrough_drop(struct net *net, const struct port *port,
                                 struct err *err);
/* Every card on this uplink. */
MUST_CHECK bool passthrough_drop_uplink(struct net *net, const char *uplink_id,
                                        struct err *err);
/* Writes all rules anew and counts what was changed; a card whose rules cannot be written is
 * set down. */
MUST_CHECK bool passthrough_check(struct net *net, size_t *drift, struct err *err);
/* Removes cards and rules that no port of 'net' has. */
MUST_CHECK bool passthrough_prune(struct net *net, struct err *err);
/* Removes the namespace with all that is in it. */
MUST_CHECK bool passthrough_sweep(struct net *net, struct err *err);
void passthrough_close(struct net *net); /* Touches nothing in the kernel. */

/* The port's uplink; NULL: it is not here, or leads elsewhere. */
const struct uplink *passthrough_uplink(const struct net *net, const struct port *port);
/* passthrough_vfio.c: the function is nobody's again. */
MUST_CHECK bool passthrough_function_drop(struct net *net, const struct port *port,
                                          struct err *err);

/* passthrough_text.c: pure. The table of a port's card, without and with its groups. */
#define PASSTHROUGH_TABLE_LEN 32
void passthrough_table(const struct port *port, char out[PASSTHROUGH_TABLE_LEN]);
void passthrough_text(const struct port *port, bool filtered, struct buf *out);
