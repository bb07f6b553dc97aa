/* sntp.h - the time server's answer (RFC 4330, RFC 5905: a server without extensions).
 * Threads: pure. */
#pragma once
#include "base/base.h"

#define SNTP_LEN 48

/* What the host knows of its own clock. */
struct sntp_host {
    bool synchronized; /* By the host's own time daemon. */
    int leap;          /* 0; 1: a second more today; 2: one less. */
    int64_t error_us;  /* At most this far off. */
};

/* False: no question of a client; say nothing. Times are real, in nanoseconds. */
bool sntp_answer(const uint8_t *question, size_t len, const struct sntp_host *host,
                 int64_t received_ns, int64_t now_ns, uint8_t out[SNTP_LEN]);
