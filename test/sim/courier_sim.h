/* courier_sim.h - what a simulated emulator must know of the streams that its memory and
 * disks go by (courier_sim.c). */
#pragma once
#include "host.h"
#include "node/migrate/courier.h"

/* The open courier of a stream of the machine's migration, at this end; NULL: none. */
struct courier *courier_of(const struct host *host, const char *machine_id,
                           const char *stream);
/* The host at its other end; NULL: what is sent now does not arrive. */
const struct host *courier_reaches(const struct courier *courier);
/* The same, though a host may be cut off: what is sent now waits, and arrives after that
 * unless the courier ends meanwhile. */
const struct host *courier_holds(const struct courier *courier);
/* All has been carried: both ends close, cleanly. NULL is a no-op. */
void courier_finish(struct courier *courier);
