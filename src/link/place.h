/* place.h - where control processes are: "HOST:PORT", or several, with commas between.
 *
 * Place:    link/, for both ends and for the command lines.
 * Threads:  any; plain data. */
#pragma once
#include "base/base.h"

#define PLACES_MAX 16u

struct place {
    char host[256]; /* A name or an address, without brackets. */
    int port;
};

/* At most PLACES_MAX, the same one once. ERR_INVALID names the one that is wrong. */
MUST_CHECK bool places_read(const char *text, struct place out[PLACES_MAX],
                            size_t *out_count, struct err *err);
/* Adds "HOST:PORT" to a text of them, unless it is there already, or there are
 * PLACES_MAX. */
struct buf;
void places_add(struct buf *text, const char *place);
