/* match.h - EC2's filter patterns: '*' any run, '?' any one character, '\' takes the
 * next character literally. Case matters.
 * Place:    core/; pure.
 * Threads:  any. */
#pragma once
#include "base/base.h"

bool match_wildcard(const char *pattern, const char *text);
