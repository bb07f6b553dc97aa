/* guest.h - the terms on which a guest runs on a node: its share of processors, its CPU
 * credits, its processor and machine type.
 *
 * Rule:     between the switch and the receiver's word that the guest runs, nobody may end or
 *           restart an emulator: a stop or a reboot that is asked for then waits that long.
 * Place:    control/, inside the caller's transaction; instance_loop.c puts the record.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"
#include "link/link.h"

struct guest {
    const struct pass *pass;
    const struct row_instance *instance;
    const struct row_machine_seen *seen;   /* NULL: nothing reported yet. */
    const struct row_migration *migration; /* NULL: it is not being moved. */
    const char *node_id;                   /* The record is for this node. */
};

/* Adds them to its record, and takes from it what must wait. */
MUST_CHECK bool guest_terms(const struct guest *guest, struct link_machine *record,
                            struct err *err);
