/* id.h - resource ids of the AWS form: "i-0123456789abcdef0".
 *
 * Purpose:  make ids, and tell a malformed one from one that merely does not exist.
 * Place:    core/; pure.
 * Threads:  any. */
#pragma once
#include "base/world.h"

#define ID_LEN 48 /* Room for the longest prefix, 17 digits and the NUL. */

/* "PREFIX-" and 17 lower-case hex digits; 'prefix' without its hyphen. */
void id_make(const struct rng *rng, const char *prefix, char out[ID_LEN]);
/* The same in 'arena'. */
struct arena;
const char *id_new(struct arena *arena, const struct rng *rng, const char *prefix);
/* Whether 's' has the form "PREFIX-" and 17 (or AWS's older 8) hex digits. */
bool id_valid(const char *prefix, const char *s);
/* A 12-digit account id that does not begin with 0. */
void id_make_account(const struct rng *rng, char out[13]);
/* "02:xx:xx:xx:xx:xx", locally administered, derived from an id: the same each time. */
#define MAC_TEXT_LEN 18
void mac_from_id(const char *id, char out[MAC_TEXT_LEN]);
/* SMBIOS uuid of an instance: "ec2xxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx", lower case. */
#define UUID_TEXT_LEN 37
void uuid_from_id(const char *id, char out[UUID_TEXT_LEN]);
