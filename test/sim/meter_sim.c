/* meter_sim.c - hosts of the simulation are not measured: nothing in it is fast or slow, and
 * what /proc says is of the real one. */
#include "node/meter/meter.h"

struct meter *
meter_open(const struct meter_config *config UNUSED)
{
    return NULL;
}

void
meter_close(struct meter *meter UNUSED)
{
}
