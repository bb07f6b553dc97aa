/* ini.h - the one form of AWS's shared credentials file: [section], key = value.
 *
 * Threads:  any; no state.
 * Failure:  what is not there is NULL. */
#pragma once
#include "base/arena.h"

/* The value of 'key' in [section] of 'text', in 'arena'; the last one wins. */
const char *ini_get(struct arena *arena, const char *text, const char *section,
                    const char *key);
