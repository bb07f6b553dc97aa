/* mem.c - allocation that succeeds or ends the program. */
#include "base/base.h"

static void *
need(void *p)
{
    if (!p) {
        static const char text[] = "out of memory\n";
        ssize_t n = write(2, text, sizeof text - 1);
        (void)n;
        abort();
    }
    return p;
}

void *
xmalloc(size_t size)
{
    return need(malloc(size ? size : 1));
}

void *
xcalloc(size_t count, size_t size)
{
    return need(count && size ? calloc(count, size) : calloc(1, 1));
}

void *
xrealloc(void *p, size_t size)
{
    return need(realloc(p, size ? size : 1));
}

char *
xstrdup(const char *s)
{
    return need(strdup(s));
}

char *
xasprintf(const char *fmt, ...)
{
    char *out = NULL;
    va_list args;
    va_start(args, fmt);
    int n = vasprintf(&out, fmt, args);
    va_end(args);
    return need(n < 0 ? NULL : out);
}
