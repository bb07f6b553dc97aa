/* guest_move.h - an emulator's part of a live migration (guest_move.c), for guest.c. */
#pragma once
#include "guest_qmp.h"

/* NULL with 'err' set: it refuses, or does not know the command. */
json_t *guest_move_obey(struct guest *guest, const struct guest_order *order,
                        struct err *err);
const char *guest_run_state(const struct guest *guest); /* As query-status says it. */
void guest_stand(struct guest *guest);                  /* Its processors stop. */
/* guest.c: a descriptor that it was given by name; 'fd' is taken. */
void guest_keep_fd(struct guest *guest, const char *name, int fd);
bool guest_drop_fd(struct guest *guest, const char *name); /* False: there is none. */
