/* token.h - IMDSv2's session tokens: stateless, good for one port until they end.
 *
 * Form:     base64url of version, nonce, end (boot-time seconds) and HMAC-SHA-256 over
 *           these and the port's name. Nobody keeps them; the key decides.
 * Threads:  pure. */
#pragma once
#include "base/world.h"

#define TOKEN_KEY_LEN 32
#define TOKEN_TEXT_LEN 68 /* With the NUL. */
#define TOKEN_TTL_MAX_S 21600

void session_make(const uint8_t key[TOKEN_KEY_LEN], const char *port, int64_t end_s,
                const struct rng *rng, char out[TOKEN_TEXT_LEN]);
/* Seconds that it has left; 0: not ours, not this port's, or ended. */
int64_t session_check(const uint8_t key[TOKEN_KEY_LEN], const char *port,
                    const char *text, int64_t now_s);
