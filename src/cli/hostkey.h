/* hostkey.h - a guest's SSH host keys, read off its serial console.
 *
 * cloud-init and the micro image print them there at each boot, between the lines
 * "-----BEGIN SSH HOST KEY KEYS-----" and "-----END ...": a way to know the host that
 * does not go through the network.
 *
 * Threads:  any; pure.
 * Input:    the console is a stranger's: lines that are no keys are left out. */
#pragma once
#include "base/arena.h"

/* The keys of the last complete block of 'console' as the lines of a known_hosts file
 * for host name 'alias', or NULL when there is none. */
const char *hostkey_known_hosts(struct arena *arena, const char *console,
                                const char *alias);
