/* guest_disk.h - what a simulated guest has written on its disk, and finds there later. */
#pragma once
#include "host.h"
#include "node/machine/jail.h"

/* An emulator was started with its disk open. */
void guest_disk_open(struct guest *guest, const struct jail_spec *spec);
void guest_disk_close(struct guest *guest);
/* Its guest boots: what it finds is written down for who judges the run, and it leaves a mark
 * that nothing left before. */
void guest_disk_boot(struct guest *guest);
/* A mirror of it is whole. */
void guest_disk_mirror(const struct guest *from, const struct guest *to);
