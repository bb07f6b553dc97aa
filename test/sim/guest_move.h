/* guest_move.h - an emulator's part of a live migration (guest_move.c), for guest.c. */
#pragma once
#include "host.h"
#include <jansson.h>

/* NULL with 'err' set: it refuses, or does not know the command. */
json_t *guest_move_obey(struct guest *guest, const char *name, const json_t *args,
                        struct err *err);
const char *guest_run_state(const struct guest *guest); /* As query-status says it. */
void guest_stand(struct guest *guest);                  /* Its processors stop. */
/* guest.c: an event for who speaks with it; takes 'data'. */
void guest_tell(struct guest *guest, const char *name, json_t *data);
