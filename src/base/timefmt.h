/* timefmt.h - times as people and AWS write them. All UTC. Threads: any. */
#pragma once
#include "base/base.h"

#define TIME_TEXT_LEN 32
/* "2026-01-31T23:59:59.123Z", AWS's form with milliseconds. */
void time_iso(int64_t ns, char out[TIME_TEXT_LEN]);
/* "20260131T235959Z", SigV4's form. */
void time_basic(int64_t ns, char out[TIME_TEXT_LEN]);
/* Reads ISO 8601 with 'Z' or an offset, extended or basic, with or without fraction. */
MUST_CHECK bool time_parse(const char *s, int64_t *out_ns);
/* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, IMF-fixdate). */
void time_http(int64_t ns, char out[TIME_TEXT_LEN]);
MUST_CHECK bool time_parse_http(const char *s, int64_t *out_ns);
