/* text.h - text of strangers: whether it can be carried, and carrying it in XML.
 *
 * Threads:  any. */
#pragma once
#include "base/buf.h"

/* Whether [s, s + len) is UTF-8 without characters that XML 1.0 forbids. */
bool text_is_clean(const char *s, size_t len);
/* Code points of clean text. */
size_t text_length(const char *s);
/* Escaped for an element's content; what XML cannot carry becomes U+FFFD. */
void text_put_xml(struct buf *out, const char *s);
/* "2026-01-31T23:59:59.123Z" */
void text_put_time(struct buf *out, int64_t ns);
