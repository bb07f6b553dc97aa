/* guest_qmp.h - what a simulated emulator hears and says (guest_qmp.c). */
#pragma once
#include "host.h"
#include <jansson.h>

struct guest_order {
    const char *name;
    const json_t *args;  /* NULL: none. */
    int *fd;             /* What came along; -1: nothing. To be taken, or left. */
    struct process *who; /* The agent that said it. */
};

/* guest.c: NULL with 'err' set when it refuses. */
json_t *guest_obey(struct guest *guest, const struct guest_order *order,
                   struct err *err);
/* An event for who speaks with it; takes 'data'. */
void guest_tell(struct guest *guest, const char *name, json_t *data);
/* Who speaks with it hears that it is gone. */
void guest_hang_up(struct guest *guest);
