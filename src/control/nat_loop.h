/* nat_loop.h - NAT gateways: they come to life and end here and nowhere else.
 *
 * Place:    control/, inside the caller's transaction; network_loop.h tells nodes of them.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"

/* Gateways that are pending or deleting, of every account. */
MUST_CHECK bool nats_pass(const struct pass *pass, const char *account, const char *id,
                          struct err *err);
