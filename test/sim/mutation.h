/* mutation.h - bugs that are put in on purpose, to see whether the checker finds them.
 *
 * Purpose:  a checker that never fails proves nothing: 'sim --break NAME' swaps one
 *           function of the code under test for a wrong one, and 'make test' expects that
 *           some of the first seeds are broken then.
 * Threads:  one. */
#pragma once
#include "base/base.h"

/* False: there is no such one. */
bool mutation_choose(const char *name);
bool mutation_is(const char *name); /* The one chosen. */
