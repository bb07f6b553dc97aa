/* buf.c - see buf.h. */
#include "base/buf.h"

#define DEFAULT_LIMIT_BYTES ((size_t)GIB)

void
buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){.limit = b->limit};
}

void
buf_clear(struct buf *b)
{
    b->len = 0;
    b->full = false;
    if (b->data) {
        b->data[0] = '\0';
    }
}

char *
buf_room(struct buf *b, size_t len)
{
    size_t limit = b->limit ? b->limit : DEFAULT_LIMIT_BYTES;
    if (b->full || b->len > limit || len > limit - b->len) {
        b->full = true;
        return NULL;
    }
    size_t need = b->len + len + 1;
    if (need > b->cap) {
        size_t cap = MAX(b->cap * 2, 64);
        cap = MAX(MIN(cap, limit + 1), need);
        b->data = xrealloc(b->data, cap);
        b->cap = cap;
    }
    b->data[b->len + len] = '\0';
    return b->data + b->len;
}

void
buf_put(struct buf *b, const void *p, size_t len)
{
    char *room = buf_room(b, len);
    if (room && len) {
        memcpy(room, p, len);
        b->len += len;
    }
}

void
buf_puts(struct buf *b, const char *s)
{
    buf_put(b, s, strlen(s));
}

void
buf_putc(struct buf *b, char c)
{
    buf_put(b, &c, 1);
}

void
buf_vprintf(struct buf *b, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    size_t space = b->cap - b->len;
    int n =
        vsnprintf(b->data ? b->data + b->len : NULL, b->data ? space : 0, fmt, args);
    size_t len = (size_t)(n < 0 ? 0 : n);
    bool fits = b->data && !b->full && len < space;
    char *room = buf_room(b, len);
    if (room) {
        if (!fits) {
            (void)vsnprintf(room, len + 1, fmt, again);
        }
        b->len += len;
    } else if (b->data) {
        b->data[b->len] = '\0';
    }
    va_end(again);
}

void
buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    buf_vprintf(b, fmt, args);
    va_end(args);
}

void
buf_drop_front(struct buf *b, size_t len)
{
    if (!b->data) {
        return;
    }
    len = MIN(len, b->len);
    b->len -= len;
    memmove(b->data, b->data + len, b->len);
    b->data[b->len] = '\0';
}

const char *
buf_str(const struct buf *b)
{
    if (!b->data) {
        return "";
    }
    b->data[b->len] = '\0'; /* After buf_room the writer may have used less. */
    return b->data;
}

char *
buf_take(struct buf *b)
{
    char *out = b->data ? b->data : xcalloc(1, 1);
    out[b->len] = '\0';
    b->data = NULL;
    buf_fini(b);
    return out;
}
