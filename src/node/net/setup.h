/* setup.h - what a namespace needs before anything is connected to it: kernel settings,
 * packet rules, and the sockets through which it is driven from outside. */
#pragma once
#include "node/net/elems.h"
#include "node/net/links.h"

/* Enters the namespace for a moment. Idempotent; never opens a gap in the rules. The
 * service addresses (169.254.169.254, .253, .123) are on lo afterwards. */
MUST_CHECK bool setup_namespace(int ns_fd, struct links **out_links,
                                struct elems **out_elems, struct err *err);
/* IPv6 on one link: it is off on all others. */
MUST_CHECK bool setup_ipv6(int ns_fd, const char *link, struct err *err);
/* Reads the settings back; puts right and counts what differs. False: one cannot be set. */
MUST_CHECK bool setup_check(int ns_fd, size_t *drift, struct err *err);
/* A namespace that routes, and nothing else. */
MUST_CHECK bool setup_router(int ns_fd, struct err *err);
/* One setting, by its path under /proc/sys/net; in the agent's own namespace where 'ns_fd' is
 * -1. */
MUST_CHECK bool setup_put(int ns_fd, const char *value, struct err *err,
                          const char *path, ...) PRINTF_LIKE(4, 5);
