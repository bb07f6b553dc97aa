/* guest_follow.h - memory that goes on behind its guest, from one simulated emulator to another
 * (guest_follow.c), for guest_move.c and guest.c. */
#pragma once
#include "host.h"

/* The giver's emulator was told to go on, and hands its guest over. */
void follow_hand_over(struct guest *from);
/* On the giver's side: the way is there again. False: nothing was cut. */
bool follow_resumes(struct guest *from);
/* On the receiver's: what comes next is expected at a descriptor whose other end 'by' has. False:
 * nothing was cut. */
bool follow_expects(struct guest *to, struct process *by);
/* The emulator ends: the other one has lost what it had. */
void follow_ends(struct guest *guest);
/* Of the two that share a guest's memory, the other; NULL: it has no other half. */
const struct guest *follow_other(const struct guest *guest);

/* guest_move.c: its status as query-migrate says it, and the event. */
void guest_set_move(struct guest *guest, const char *status);
void guest_go_on(struct guest *guest); /* Its processors run. */
/* Writes down whether what arrives is what it was, as QEMU does not look. */
void guest_arrives(const struct guest *from, const struct guest *to);
struct courier *guest_memory_courier(const struct guest *guest);
