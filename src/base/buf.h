/* buf.h - a growing, bounded run of bytes.
 *
 * Owner:    the caller; 'struct buf b = {0}' is an empty one, buf_fini frees it.
 * Threads:  one at a time.
 * Failure:  growth past 'limit' (0: 1 GiB) sets 'full' and drops what comes after; check
 *           'full' once at the end instead of every call. */
#pragma once
#include "base/base.h"

struct buf {
    char *data; /* Always followed by a NUL when not NULL. */
    size_t len, cap;
    size_t limit; /* Bytes; 0 means 1 GiB. */
    bool full;
};

void buf_fini(struct buf *b);
void buf_clear(struct buf *b); /* Keeps the memory. */
void buf_put(struct buf *b, const void *p, size_t len);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_vprintf(struct buf *b, const char *fmt, va_list args)
    __attribute__((format(printf, 2, 0)));
/* Makes room for 'len' more bytes and returns where they go; add to b->len after writing.
 * NULL when that would pass the limit. */
char *buf_room(struct buf *b, size_t len);
void buf_drop_front(struct buf *b, size_t len);
const char *buf_str(const struct buf *b); /* "" when empty. */
/* Moves the bytes out (malloc'ed, NUL-terminated); the buf is empty afterwards. */
MUST_CHECK char *buf_take(struct buf *b);

static inline void
auto_buf(struct buf *b)
{
    buf_fini(b);
}
